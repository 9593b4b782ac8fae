//! A platform that carries requests and replies between a site and a server, as NVIDIA FLARE does, with faults.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, body::Body, codegen::http, server::NamedService, transport::Channel};
use tower::{Service, ServiceExt as _};

/// When late requests arrive.
const LATE: Duration = Duration::from_millis(300);

/// What happens to requests, as probabilities.
#[derive(Clone, Default)]
pub struct Faults {
    pub seed: u64,
    pub lost: f64,
    pub lost_replies: f64,
    pub repeated: f64,
    /// Requests that arrive a second time, after a while.
    pub late: f64,
    /// After so many requests, all are lost for so long.
    pub stops_after: Option<(usize, Duration)>,
}

#[derive(Clone)]
struct Platform {
    server: Channel,
    server_token: String,
    site_token: String,
    site: String,
    faults: Faults,
    requests: Arc<AtomicUsize>,
    stopped: Arc<std::sync::OnceLock<std::time::Instant>>,
}

impl NamedService for Platform {
    const NAME: &'static str = "asyndgan.carrier.v1.Relay";
}

impl Service<http::Request<Body>> for Platform {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let platform = self.clone();
        Box::pin(async move { Ok(platform.passed(request).await.unwrap_or_else(Status::into_http)) })
    }
}

impl Platform {
    async fn passed(self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let mut rng = ChaCha8Rng::seed_from_u64(self.faults.seed.wrapping_mul(1 << 20) + number as u64);
        let Faults { lost, lost_replies, repeated, late, .. } = self.faults;
        let [is_lost, is_reply_lost, is_repeated, is_late] =
            [lost, lost_replies, repeated, late].map(|probability| rng.random_bool(probability));
        let (mut head, body) = request.into_parts();
        if head.headers.get("authorization").and_then(|v| v.to_str().ok()) != Some(&format!("Bearer {}", self.site_token)) {
            return Err(Status::unauthenticated("not this relay's token"));
        }
        let body = body.collect().await.map_err(|error| Status::internal(error.to_string()))?.to_bytes();
        #[allow(clippy::disallowed_methods, reason = "tests may look at the clock")]
        let is_stopped = self
            .faults
            .stops_after
            .is_some_and(|(requests, pause)| number >= requests && self.stopped.get_or_init(std::time::Instant::now).elapsed() < pause);
        if is_lost || is_stopped {
            return Err(Status::unavailable("lost"));
        }
        for (name, value) in [("authorization", format!("Bearer {}", self.server_token)), ("asyndgan-site", self.site.clone())] {
            head.headers.insert(name, value.parse().expect("a header"));
        }
        let request = || {
            let mut request = http::Request::new(Body::new(Full::new(body.clone())));
            (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) =
                (head.method.clone(), head.uri.clone(), head.headers.clone());
            request
        };
        if is_late {
            let again = self.server.clone().oneshot(request());
            tokio::spawn(async move {
                tokio::time::sleep(LATE).await;
                let _ = again.await;
            });
        }
        let mut reply = None;
        for _ in 0..if is_repeated { 2 } else { 1 } {
            let sent = self.server.clone().oneshot(request()).await;
            reply = Some(sent.map_err(|error| Status::unavailable(error.to_string()))?);
        }
        if is_reply_lost { Err(Status::unavailable("the reply is lost")) } else { reply.ok_or_else(|| Status::internal("no reply")) }
    }
}

/// Starts a platform for one site, and returns where that site reaches it. Tokens are repeated eight times.
pub fn platform(server: SocketAddr, server_token: &str, site_token: &str, site: &str, faults: Faults) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("an option");
    let address = listener.local_addr().expect("an address");
    let [server_token, site_token] = [server_token, site_token].map(|token| token.repeat(8));
    let site = site.to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let server = Channel::from_shared(format!("http://{server}")).expect("an address").connect_lazy();
            let platform = Platform { server, server_token, site_token, site, faults, requests: Arc::default(), stopped: Arc::default() };
            let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).expect("a listener"));
            let _ = tonic::transport::Server::builder().add_service(platform).serve_with_incoming(incoming).await;
        });
    });
    address
}
