//! Serves HTTP within limits: the dashboard must not take file descriptors or time from the run.

use std::{
    collections::VecDeque,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tower::ServiceExt as _;

/// Open connections. Above this limit, a new one closes the oldest without the access token, or else the oldest.
const CONNECTIONS_MAX: usize = 32;
/// How long a request's head may take, and a TLS handshake.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// How long a connection may last: a browser asks again.
const CONNECTION_MAX: Duration = Duration::from_mins(1);

/// Whether a connection has brought the access token; an extension of each of its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Admitted(Arc<AtomicBool>);

impl Admitted {
    pub(super) fn admit(&self) {
        self.0.store(true, Relaxed);
    }
}

/// Serves in its own thread until the program ends.
pub(super) fn serve(socket: TcpListener, routes: Router, tls: Option<Arc<ServerConfig>>) -> Result<()> {
    socket.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let acceptor = tls.map(TlsAcceptor::from);
    thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
            let mut open = VecDeque::<(oneshot::Sender<()>, Admitted)>::new();
            loop {
                let Ok((tcp, _)) = listener.accept().await else {
                    // Out of descriptors, most likely: they come back.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                open.retain(|(close, _)| !close.is_closed());
                if open.len() >= CONNECTIONS_MAX {
                    let stranger = open.iter().position(|(_, admitted)| !admitted.0.load(Relaxed));
                    open.remove(stranger.unwrap_or(0));
                }
                let (close, closed) = oneshot::channel();
                let admitted = Admitted::default();
                open.push_back((close, admitted.clone()));
                let (routes, acceptor) = (routes.clone(), acceptor.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(tcp, routes, acceptor, admitted) => {}
                        _ = closed => {}
                        () = tokio::time::sleep(CONNECTION_MAX) => {}
                    }
                });
            }
        });
    });
    Ok(())
}

async fn connection(tcp: TcpStream, routes: Router, acceptor: Option<TlsAcceptor>, admitted: Admitted) {
    match acceptor {
        None => requests(tcp, routes, admitted).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_MAX, acceptor.accept(tcp)).await {
                requests(stream, routes, admitted).await;
            }
        }
    }
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: Router, admitted: Admitted) {
    let routes = routes.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(admitted.clone());
        request.map(Body::new)
    });
    // The sender of a bad request gets the error.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await;
}
