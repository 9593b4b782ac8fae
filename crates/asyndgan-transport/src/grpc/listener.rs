use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{
    clock::now,
    connections::{Connections, Place},
};
use crate::keys::{CertificateFacts, Tls};

/// How long a connection may take to present a certificate.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long a connection with a certificate may take to join.
const JOINING_MAX: Duration = Duration::from_secs(30);
/// Minimum time between two messages about refused connections; those in between are only counted.
const NOTICE_EVERY: Duration = Duration::from_secs(5);

/// Callback for messages about refused connections.
pub(super) type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// A connection whose other end has presented a certificate of the consortium's authority.
pub(super) struct PeerStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Ends when another connection takes its place; none afterwards.
    closed: Option<oneshot::Receiver<()>>,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) facts: CertificateFacts,
    /// Its certificate (DER).
    pub(super) certificate: Arc<Vec<u8>>,
    pub(super) place: Arc<Place>,
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.closed.as_mut().is_none_or(|closed| Pin::new(closed).poll(cx).is_ready()) {
            self.closed = None;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too many connections")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Reports refused connections, with a limited rate.
struct Refusals {
    notice: Notice,
    unreported: Mutex<(Option<Instant>, u64)>,
}

impl Refusals {
    fn report(&self, fact: &str) {
        let mut unreported = self.unreported.lock().unwrap_or_else(PoisonError::into_inner);
        if unreported.0.is_some_and(|at| at.elapsed() < NOTICE_EVERY) {
            unreported.1 += 1;
            return;
        }
        let more = std::mem::take(&mut unreported.1);
        unreported.0 = Some(now());
        let more = if more > 0 { format!(" (and {more} others since the last message)") } else { String::new() };
        (self.notice)(&format!("refused a connection: {fact}{more}"));
    }
}

/// Accepts connections until the receiver of `peers` is dropped; every handshake runs in its own task.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Arc<Mutex<Tls>>,
    connections: Arc<Connections>,
    peers: mpsc::Sender<io::Result<PeerStream>>,
    notice: Notice,
) {
    let refusals = Arc::new(Refusals { notice, unreported: Mutex::new((None, 0)) });
    while !peers.is_closed() {
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: they come back.
                refusals.report(&error.to_string());
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (place, mut closed) = connections.enter(address.ip());
        let config = tls.lock().unwrap_or_else(PoisonError::into_inner).current();
        let (peers, refusals) = (peers.clone(), Arc::clone(&refusals));
        tokio::spawn(async move {
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(HANDSHAKE_MAX, handshake(config, tcp)) => shaken,
                _ = &mut closed => return refusals.report(&format!("{address}: too many connections without a certificate")),
            };
            let (stream, facts, certificate) = match shaken {
                Ok(Ok(shaken)) => shaken,
                Ok(Err(fact)) => return refusals.report(&format!("{address}: {fact}")),
                Err(_) => return refusals.report(&format!("{address}: no certificate within the time limit")),
            };
            place.identify(&facts.name);
            let place = Arc::new(place);
            let peer = Peer { facts, certificate: Arc::new(certificate), place: Arc::clone(&place) };
            // The server may have ended.
            let _ = peers.send(Ok(PeerStream { stream, peer, closed: Some(closed) })).await;
            // The place is freed with the connection.
            let place = Arc::downgrade(&place);
            tokio::time::sleep(JOINING_MAX).await;
            if let Some(place) = place.upgrade() {
                place.close_unless_joined();
            }
        });
    }
}

async fn handshake(
    config: Arc<tokio_rustls::rustls::ServerConfig>,
    tcp: TcpStream,
) -> Result<(TlsStream<TcpStream>, CertificateFacts, Vec<u8>), String> {
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let stream = TlsAcceptor::from(config).accept(tcp).await.map_err(|e| e.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).ok_or("no certificate")?;
    let (facts, certificate) = (CertificateFacts::from_der(certificate)?, certificate.to_vec());
    Ok((stream, facts, certificate))
}
