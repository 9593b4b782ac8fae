//! The way to the server: directly, or through an HTTP proxy.

use std::fmt;

use hyper::{Request, StatusCode, Uri, client::conn::http1, header};
use hyper_util::{
    client::proxy::matcher::{Intercept, Matcher},
    rt::TokioIo,
};
use tokio::net::TcpStream;

use crate::Error;

/// The HTTP proxy through which a site reaches its server. The connection through it stays encrypted between the site
/// and the server.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// The proxy of the environment variable `HTTPS_PROXY` or `ALL_PROXY`, unless `NO_PROXY` lists the server or the
    /// server is on this machine.
    #[default]
    Environment,
    /// No proxy.
    Direct,
    /// The proxy with this URL: `http://[USER:PASSWORD@]HOST:PORT`.
    Url(String),
}

impl fmt::Debug for Proxy {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::Direct => f.write_str("Direct"),
            Self::Url(url) => f.debug_tuple("Url").field(&without_password(url)).finish(),
        }
    }
}

fn without_password(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

/// Where connections to a server go.
#[derive(Debug)]
pub(super) enum Route {
    Direct,
    Through(Tunnelled),
}

#[derive(Debug)]
pub(super) struct Tunnelled {
    /// The proxy, without user and password.
    pub(super) proxy: String,
    intercept: Intercept,
}

/// Why a tunnel cannot be made.
pub(super) enum TunnelFailure {
    /// Temporary: a retry may succeed.
    Passing(String),
    /// Permanent: a retry cannot succeed.
    Final(Error),
}

impl Proxy {
    /// The way to a server, given as host and port.
    ///
    /// # Errors
    /// [`Error::Proxy`] for a URL that cannot be used.
    pub(super) fn route(&self, server: &str) -> Result<Route, Error> {
        let matcher = match self {
            Self::Direct => return Ok(Route::Direct),
            Self::Environment if is_this_machine(server) => return Ok(Route::Direct),
            Self::Environment => Matcher::from_env(),
            Self::Url(url) => Matcher::builder().all(url.clone()).build(),
        };
        let unusable = |proxy: &str| Error::Proxy { proxy: proxy.into(), fact: "use http://[USER:PASSWORD@]HOST:PORT".into() };
        let target = format!("https://{server}").parse::<Uri>();
        let target = target.map_err(|e| Error::Keys { fact: format!("{server} is not a server address: {e}") })?;
        match (matcher.intercept(&target), self) {
            (None, Self::Url(url)) => Err(unusable(without_password(url))),
            (None, _) => Ok(Route::Direct),
            (Some(intercept), _) => {
                let uri = intercept.uri();
                let proxy = format!("http://{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
                if uri.scheme_str() != Some("http") {
                    return Err(unusable(&proxy.replacen("http", uri.scheme_str().unwrap_or_default(), 1)));
                }
                Ok(Route::Through(Tunnelled { proxy, intercept }))
            }
        }
    }
}

/// Whether a server's address names this machine.
fn is_this_machine(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Tunnelled {
    /// Opens a tunnel (HTTP CONNECT) to a server.
    pub(super) async fn open(&self, server: &str) -> Result<TcpStream, TunnelFailure> {
        let proxy = &self.proxy;
        let passing = |what: &str, error: &dyn fmt::Display| TunnelFailure::Passing(format!("{what} the proxy {proxy}: {error}"));
        let uri = self.intercept.uri();
        let address = (uri.host().unwrap_or_default().trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
        let tcp = TcpStream::connect(address).await.map_err(|e| passing("cannot reach", &e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(|e| passing("no answer from", &e))?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::connect(server).header(header::HOST, server);
        if let Some(authorization) = self.intercept.basic_auth() {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(String::new()).map_err(|e| passing("cannot ask", &e))?;
        let response = sender.send_request(request).await.map_err(|e| passing("no answer from", &e))?;
        match response.status() {
            status if status.is_success() => {}
            // Repeated attempts with a wrong password can lock an account.
            // Some proxies answer a wrong password with 401.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
                let given = if self.intercept.basic_auth().is_some() { "rejects this" } else { "requires a" };
                let fact = format!("it {given} user name and password; set `proxy` in site.toml to http://USER:PASSWORD@HOST:PORT");
                return Err(TunnelFailure::Final(Error::Proxy { proxy: proxy.clone(), fact }));
            }
            StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => {
                let fact = format!("its rules do not allow a connection to {server}; ask its administrator to allow this host and port");
                return Err(TunnelFailure::Passing(format!("the proxy {proxy}: {fact}")));
            }
            status => return Err(TunnelFailure::Passing(format!("the proxy {proxy} cannot reach {server}: it answered {status}"))),
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|e| passing("no tunnel from", &e))?;
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            // In TLS, the client sends first.
            Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
            _ => Err(TunnelFailure::Passing(format!("the proxy {proxy} sent data before the connection began"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_of(route: Result<Route, Error>) -> Option<String> {
        match route.expect("a route") {
            Route::Direct => None,
            Route::Through(tunnelled) => Some(tunnelled.proxy),
        }
    }

    #[test]
    fn a_url_is_used_for_every_server_and_its_password_is_not_shown() {
        let proxy = Proxy::Url("http://user:secret@proxy.example:3128".into());
        assert_eq!(proxy_of(proxy.route("gan.example.org:7443")).as_deref(), Some("http://proxy.example:3128"));
        let Route::Through(tunnelled) = proxy.route("gan.example.org:7443").expect("a route") else { panic!("a proxy") };
        assert!(tunnelled.intercept.basic_auth().is_some());
        assert!(!format!("{proxy:?} {tunnelled:?}").contains("secret"));
        assert_eq!(proxy_of(Proxy::Direct.route("gan.example.org:7443")), None);
        assert_eq!(proxy_of(Proxy::Environment.route("localhost:7443")), None);
        assert_eq!(proxy_of(Proxy::Environment.route("[::1]:7443")), None);
    }

    #[test]
    fn proxies_of_other_kinds_are_refused() {
        for url in ["socks5://proxy:1080", "https://proxy:443", "", "http://"] {
            let error = Proxy::Url(url.into()).route("gan.example.org:7443").expect_err("refused");
            assert!(matches!(error, Error::Proxy { .. }), "{url}: {error}");
        }
    }
}
