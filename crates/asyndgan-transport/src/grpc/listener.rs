use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::keys::{CertificateFacts, Tls};

/// Connections that have not said who they are yet: more are closed at once.
const STRANGERS_MAX: usize = 256;
/// How long they may take to say so.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// After a refused connection the next ones are only counted for so long.
const NOTICE_EVERY: Duration = Duration::from_secs(5);

/// Hears of connections that were refused, for people.
pub(super) type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// A connection whose other end has shown a certificate of ours.
pub(super) struct PeerStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) facts: CertificateFacts,
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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

/// Says of refused connections as much as people can read.
struct Refusals {
    notice: Notice,
    unsaid: Mutex<(Option<Instant>, u64)>,
}

impl Refusals {
    fn tell(&self, fact: &str) {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        if unsaid.0.is_some_and(|at| at.elapsed() < NOTICE_EVERY) {
            unsaid.1 += 1;
            return;
        }
        let more = std::mem::take(&mut unsaid.1);
        unsaid.0 = Some(now());
        let more = if more > 0 { format!(" ({more} others before)") } else { String::new() };
        (self.notice)(&format!("refused a connection: {fact}{more}"));
    }
}

#[allow(clippy::disallowed_methods, reason = "the transport owns the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Takes connections for as long as somebody wants them, each through its handshake by itself.
pub(super) async fn accept(listener: TcpListener, tls: Arc<Mutex<Tls>>, peers: mpsc::Sender<io::Result<PeerStream>>, notice: Notice) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let refusals = Arc::new(Refusals { notice, unsaid: Mutex::new((None, 0)) });
    while !peers.is_closed() {
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: they come back.
                refusals.tell(&error.to_string());
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&strangers).try_acquire_owned() else {
            refusals.tell(&format!("{address}: {STRANGERS_MAX} others have not said who they are yet"));
            continue;
        };
        let config = tls.lock().unwrap_or_else(PoisonError::into_inner).config();
        let (peers, refusals) = (peers.clone(), Arc::clone(&refusals));
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_MAX, handshake(config, tcp)).await;
            drop(place);
            match shaken {
                Ok(Ok(stream)) => {
                    // The server may have ended.
                    let _ = peers.send(Ok(stream)).await;
                }
                Ok(Err(fact)) => refusals.tell(&format!("{address}: {fact}")),
                Err(_) => refusals.tell(&format!("{address}: it did not say who it is")),
            }
        });
    }
}

async fn handshake(config: Arc<tokio_rustls::rustls::ServerConfig>, tcp: TcpStream) -> Result<PeerStream, String> {
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let stream = TlsAcceptor::from(config).accept(tcp).await.map_err(|e| e.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).ok_or("no certificate")?;
    let peer = Peer { facts: CertificateFacts::of(certificate)? };
    Ok(PeerStream { stream, peer })
}
