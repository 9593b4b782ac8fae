use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    time::Duration,
};

use asyndgan_protocol::{RunDescription, SiteId};
use tokio::{
    runtime::{Handle, Runtime},
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    chunks::{CHUNK_BYTES_MAX, chunks},
    clock::now,
    connections::Connections,
    ended::EndedRuns,
    listener::{Notice, accept},
    outbox::Outbox,
    service::{Arrival, ArrivalKind, Service},
    slots::{Absences, SiteSlots},
    wire::{Chunk, carrier_server::CarrierServer},
};
use crate::{Error, Frame, Identity, Incoming, ServerLink, keys::Tls};

/// How long to wait until sites have the reason why the server stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often to look whether they have it.
const FAREWELL_EVERY: Duration = Duration::from_millis(10);
/// How often the certificates of connected sites are checked against the list of revoked certificates.
const REVOKED_EVERY: Duration = Duration::from_secs(2);

/// The server's address, and the sites that it accepts.
#[derive(Debug)]
#[non_exhaustive]
pub struct GrpcServer {
    /// The address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The server's key and certificate.
    pub identity: Identity,
    /// The list of revoked certificates.
    pub revoked: PathBuf,
    /// The names of the run's sites, in order.
    pub sites: Vec<String>,
    /// The description of the run, for sites that only ask for it; or the reason why there is no run now, which sites
    /// get until they give up or there is one.
    pub run: Result<RunDescription, String>,
    /// Runs of this server that have ended, for sites that were away. Default: none.
    pub ended: EndedRuns,
    /// The interval of keep-alive pings, and the time to wait for their answer before a connection is considered lost.
    pub keep_alive: Duration,
    /// The tokio runtime on which the server runs, with I/O and time enabled. By default it starts its own, with two
    /// threads.
    ///
    /// [`ServerLink::receive`] blocks its thread: call it, or [`crate::ServerRun::serve`], with `spawn_blocking` or on
    /// a thread of its own.
    pub runtime: Option<Handle>,
}

/// The server's end of the network transport. Memory for incoming data: per site one incomplete and two complete frames
/// of at most [`super::FRAME_BYTES_MAX`] bytes each, and in addition 256 handshakes.
pub struct GrpcServerLink {
    inbox: blocking::Receiver<Arrival>,
    sessions: Vec<Option<Session>>,
    address: SocketAddr,
    tls: Arc<Mutex<Tls>>,
    slots: Arc<SiteSlots>,
    /// Ends with the link.
    _background: Background,
}

/// Where the connections are served.
struct Background {
    /// The server's own runtime; none if it runs on the caller's.
    own: Option<Runtime>,
    tasks: Vec<AbortHandle>,
    connections: Arc<Connections>,
}

impl Drop for Background {
    /// Ends all connections.
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.connections.close_all();
        // Dropping a runtime waits for its threads, which is not allowed in async code.
        if let (Ok(_), Some(own)) = (Handle::try_current(), self.own.take()) {
            own.shutdown_background();
        }
    }
}

/// Whether a server can read its list of revoked certificates. While it cannot, no site may join.
#[derive(Debug, Clone)]
pub struct RevocationStatus {
    tls: Arc<Mutex<Tls>>,
}

impl RevocationStatus {
    /// Why the list cannot be read, if so.
    pub fn unreadable(&self) -> Option<String> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).unreadable().map(str::to_owned)
    }
}

impl std::fmt::Debug for GrpcServerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcServerLink").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A connection of one site.
struct Session {
    number: u64,
    certificate: Arc<Vec<u8>>,
    outbox: Outbox<Result<Chunk, Status>>,
}

impl GrpcServer {
    /// A server with keep-alive pings every 30 s. `sites` are the names of the sites in their certificates, in the
    /// order of the run; `revoked` is the authority's list of revoked certificates.
    pub fn new(listen: SocketAddr, identity: Identity, revoked: impl Into<PathBuf>, sites: Vec<String>, run: RunDescription) -> Self {
        let keep_alive = Duration::from_secs(30);
        Self { listen, identity, revoked: revoked.into(), sites, run: Ok(run), ended: EndedRuns::default(), keep_alive, runtime: None }
    }

    /// A server without a run. It gives every site with a valid certificate the reason, and the sites wait.
    pub fn without_run(listen: SocketAddr, identity: Identity, revoked: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        let keep_alive = Duration::from_secs(30);
        Self {
            listen,
            identity,
            revoked: revoked.into(),
            sites: Vec::new(),
            run: Err(reason.into()),
            ended: EndedRuns::default(),
            keep_alive,
            runtime: None,
        }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Starts listening. `notice` is called with messages about refused connections.
    ///
    /// # Errors
    /// [`Error::Listen`], or an error about the keys.
    pub fn start(self, notice: impl Fn(&str) + Send + Sync + 'static) -> Result<GrpcServerLink, Error> {
        let listen = |source| Error::Listen { address: self.listen, source };
        // Before the runtime, which must not be dropped in async code.
        let tls = Arc::new(Mutex::new(Tls::new(self.identity, &self.revoked)?));
        let socket = TcpListener::bind(self.listen).map_err(listen)?;
        socket.set_nonblocking(true).map_err(listen)?;
        let address = socket.local_addr().map_err(listen)?;
        let (own, runtime) = if let Some(handle) = self.runtime {
            (None, handle)
        } else {
            let own = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(listen)?;
            let handle = own.handle().clone();
            (Some(own), handle)
        };
        let (inbox_of, inbox) = blocking::channel();
        let sessions = self.sites.iter().map(|_| None).collect();
        let slots = Arc::new(SiteSlots::new(self.sites.len()));
        let service = Service {
            names: self.sites,
            run: self.run,
            ended: self.ended,
            slots: Arc::clone(&slots),
            tls: Arc::clone(&tls),
            inbox: inbox_of,
        };
        let notice: Notice = Arc::new(notice);
        let (peers_of, peers) = mpsc::channel(16);
        let connections = Connections::new(service.names.len());
        let router = tonic::transport::Server::builder()
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(CHUNK_BYTES_MAX as u32)
            .max_concurrent_streams(4)
            .http2_keepalive_interval(Some(self.keep_alive))
            .http2_keepalive_timeout(Some(self.keep_alive));
        let accepting = runtime.spawn({
            let (tls, notice, connections) = (Arc::clone(&tls), Arc::clone(&notice), Arc::clone(&connections));
            async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
                accept(listener, tls, connections, peers_of, notice).await;
            }
        });
        let serving = runtime.spawn(async move {
            let (reporter, health) = tonic_health::server::health_reporter();
            reporter.set_serving::<CarrierServer<Service>>().await;
            let carrier = CarrierServer::new(service).max_decoding_message_size(CHUNK_BYTES_MAX + 1024);
            let mut router = router;
            // It ends with the link.
            let _ = router.add_service(carrier).add_service(health).serve_with_incoming(ReceiverStream::new(peers)).await;
        });
        let watching = runtime.spawn({
            let (tls, slots) = (Arc::clone(&tls), Arc::clone(&slots));
            async move {
                loop {
                    tokio::time::sleep(REVOKED_EVERY).await;
                    let (tls, notice, slots) = (Arc::clone(&tls), Arc::clone(&notice), Arc::clone(&slots));
                    // The list is on a disk.
                    if tokio::task::spawn_blocking(move || slots.close_revoked(&tls, &notice)).await.is_err() {
                        return;
                    }
                }
            }
        });
        let tasks = [accepting, serving, watching].iter().map(JoinHandle::abort_handle).collect();
        Ok(GrpcServerLink { inbox, sessions, address, tls, slots, _background: Background { own, tasks, connections } })
    }
}

impl GrpcServerLink {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to watch the list of revoked certificates from another thread.
    pub fn revocation_status(&self) -> RevocationStatus {
        RevocationStatus { tls: Arc::clone(&self.tls) }
    }

    /// A handle to read from another thread why sites do not join.
    pub fn absences(&self) -> Absences {
        Absences { slots: Arc::clone(&self.slots) }
    }

    fn taken(&mut self, arrival: Arrival) -> Option<(SiteId, Incoming)> {
        let Arrival { site, session, kind } = arrival;
        let slot = self.sessions.get_mut(site.0 as usize)?;
        let current = slot.as_ref().is_some_and(|s| s.number == session);
        match kind {
            // A later one may have been quicker.
            ArrivalKind::Connected(..) if slot.as_ref().is_some_and(|s| s.number > session) => None,
            ArrivalKind::Connected(outbox, certificate) => {
                *slot = Some(Session { number: session, certificate, outbox });
                Some((site, Incoming::Connected))
            }
            // Of an earlier connection: nobody waits for it any more.
            _ if !current => None,
            ArrivalKind::Frame(frame, _permit) => Some((site, Incoming::Frame(frame))),
            ArrivalKind::Lost(reason) => {
                *slot = None;
                Some((site, Incoming::Lost(reason)))
            }
        }
    }
}

impl ServerLink for GrpcServerLink {
    fn send(&mut self, site: SiteId, frame: Frame) {
        if let Some(Some(session)) = self.sessions.get(site.0 as usize) {
            let sent = chunks(frame).try_for_each(|chunk| {
                let bytes = chunk.bytes.len();
                session.outbox.send(Ok(chunk), bytes)
            });
            if let Err(reason) = sent {
                self.slots.close(site, session.number, reason);
            }
        }
    }

    fn close(&mut self, site: SiteId) {
        if let Some(slot) = self.sessions.get_mut(site.0 as usize) {
            // The stream ends once all that was sent is out.
            *slot = None;
        }
    }

    fn stop(&mut self, reason: &str) {
        for session in self.sessions.iter().flatten() {
            // As the answer of a server without a run: it is no fault of the network.
            let _ = session.outbox.send(Err(Status::failed_precondition(reason)), 0);
        }
        // Until the reason is on its way.
        let until = now() + FAREWELL;
        while self.sessions.iter().flatten().any(|session| !session.outbox.is_closed()) && now() < until {
            std::thread::sleep(FAREWELL_EVERY);
        }
    }

    fn site_certificate(&self, site: SiteId) -> Option<Vec<u8>> {
        self.sessions.get(site.0 as usize)?.as_ref().map(|session| session.certificate.to_vec())
    }

    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)> {
        let until = wait.map(|wait| now() + wait);
        loop {
            let arrival = match until {
                Some(until) => self.inbox.recv_timeout(until.saturating_duration_since(now())).ok()?,
                None => self.inbox.recv().ok()?,
            };
            if let Some(taken) = self.taken(arrival) {
                return Some(taken);
            }
        }
    }
}
