//! Access control of the dashboard: clients need the token, and must use one of the server's own host names.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Access as Mode, write};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rand::RngExt as _;
use sha2::{Digest, Sha256};

use super::listen::Admitted;

/// The token of a run's dashboard. It is the same after a restart, so that a scraper can store it.
pub(super) fn token(folder: &Path) -> Result<String> {
    let path = token_path(folder);
    match fs::read_to_string(&path) {
        Ok(token) => {
            let token = token.trim();
            let is_token = token.len() == 32 && token.bytes().all(|b| b.is_ascii_hexdigit());
            ensure!(is_token, "{} does not contain a token of 32 hexadecimal digits: delete it, and a new one is created", path.display());
            return Ok(token.to_owned());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let token = format!("{:032x}", rand::rng().random::<u128>());
    write(&path, Mode::Private, token.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token)
}

/// The file with the token.
pub(super) fn token_path(folder: &Path) -> PathBuf {
    folder.join("dashboard.token")
}

/// What a request must provide.
#[derive(Debug, Clone)]
pub(super) struct Access {
    token: String,
    /// The name contains the port, because cookies are shared by all ports of a host.
    cookie: String,
    /// Suffix of the cookie: `Secure` if it may only be sent over HTTPS.
    secure: &'static str,
    hosts: Vec<String>,
}

impl Access {
    pub(super) fn new(token: String, address: SocketAddr, certificate_hosts: &[String], encrypted: bool) -> Self {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let bound = match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        let (cookie, secure) = (format!("asyndgan-{}", address.port()), if encrypted { "; Secure" } else { "" });
        Self { token, cookie, secure, hosts: own.into_iter().chain([bound]).chain(certificate_hosts.iter().cloned()).collect() }
    }

    /// Protects against DNS rebinding: a page whose host name was pointed at this server is rejected.
    fn names_this_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Compares digests, so that the timing reveals nothing about the token.
    fn is_token(&self, given: &str) -> bool {
        Sha256::digest(given) == Sha256::digest(&self.token)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|h: &HeaderValue| h.to_str().ok()).unwrap_or_default();
        let bearer = text(header::AUTHORIZATION).strip_prefix("Bearer ").is_some_and(|given| self.is_token(given.trim()));
        let cookies = text(header::COOKIE).split(';').filter_map(|cookie| cookie.trim().split_once('='));
        bearer || cookies.into_iter().any(|(name, value)| name == self.cookie && self.is_token(value))
    }
}

/// Lets a request through, or answers with the reason. The token comes once in the URL, and is then kept as a cookie.
pub(super) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let given = query.split('&').find_map(|part| part.strip_prefix("token="));
    let mut response = if !access.names_this_host(request.headers()) {
        (StatusCode::MISDIRECTED_REQUEST, "this dashboard is not served under that host name\n").into_response()
    } else if given.is_some_and(|given| access.is_token(given)) {
        let cookie = format!("{}={}; HttpOnly; SameSite=Strict; Path=/{}", access.cookie, access.token, access.secure);
        // Away from the address bar and the history.
        (StatusCode::SEE_OTHER, [(header::LOCATION, request.uri().path().to_owned()), (header::SET_COOKIE, cookie)]).into_response()
    } else if access.has_token(request.headers()) {
        if let Some(admitted) = request.extensions().get::<Admitted>() {
            admitted.admit();
        }
        next.run(request).await
    } else {
        let fact = "an access token is required: open the address that the program printed at startup; a scraper sends the token \
                    in dashboard.token of its folder as `Authorization: Bearer TOKEN`\n";
        (StatusCode::UNAUTHORIZED, fact).into_response()
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
