use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use asyndgan_protocol::{Message, RunDescription, SiteId};
use bytes::Bytes;
use tokio::{
    runtime::Runtime,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, UnboundedReceiverStream},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    chunks::{Assembly, CHUNK_BYTES_MAX, chunks},
    connections::Connections,
    listener::{Notice, Peer, accept},
    wire::{
        Chunk, LookReply, LookRequest,
        carrier_server::{Carrier, CarrierServer},
    },
};
use crate::{Error, Frame, Identity, Incoming, ServerLink, error::with_causes, keys::Tls};

/// Complete frames of one site that may wait for the server. Further frames are held back by flow control.
const FRAMES_WAITING: usize = 2;
/// How often the certificates of connected sites are checked against the list of revoked certificates.
const REVOKED_EVERY: Duration = Duration::from_secs(2);

/// The server's address, and the sites that it accepts.
#[derive(Debug)]
pub struct GrpcServer {
    /// The address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The server's key and certificate.
    pub identity: Identity,
    /// The list of revoked certificates.
    pub revoked: PathBuf,
    /// The names of the run's sites, in order.
    pub sites: Vec<String>,
    /// The description of the run, for sites that only ask for it.
    pub run: RunDescription,
    /// The interval of keep-alive pings, and the time to wait for their answer before a connection is considered lost.
    pub keep_alive: Duration,
}

/// The server's end of the network transport. Memory for incoming data: per site one incomplete and two complete frames
/// of at most [`super::FRAME_BYTES_MAX`] bytes each, and in addition 256 handshakes.
pub struct GrpcServerLink {
    inbox: blocking::Receiver<Arrival>,
    sessions: Vec<Option<Session>>,
    address: SocketAddr,
    /// Dropping it ends all connections.
    _runtime: Runtime,
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
    outbox: mpsc::UnboundedSender<Result<Chunk, Status>>,
}

struct Arrival {
    site: SiteId,
    session: u64,
    what: What,
}

enum What {
    Connected(mpsc::UnboundedSender<Result<Chunk, Status>>, Arc<Vec<u8>>),
    Frame(Frame, OwnedSemaphorePermit),
    Lost(String),
}

impl GrpcServer {
    /// Starts listening. `notice` is called with messages about refused connections.
    ///
    /// # Errors
    /// [`Error::Listen`], or an error about the keys.
    pub fn start(self, notice: impl Fn(&str) + Send + Sync + 'static) -> Result<GrpcServerLink, Error> {
        let listen = |source| Error::Listen { address: self.listen, source };
        let socket = TcpListener::bind(self.listen).map_err(listen)?;
        socket.set_nonblocking(true).map_err(listen)?;
        let address = socket.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(listen)?;
        let tls = Arc::new(Mutex::new(Tls::new(self.identity, &self.revoked)?));
        let (inbox_of, inbox) = blocking::channel();
        let sessions = self.sites.iter().map(|_| None).collect();
        let places = Arc::new(Places { sites: self.sites.iter().map(|_| Mutex::new(Place::default())).collect() });
        let service = Service { names: self.sites, run: self.run, places: Arc::clone(&places), tls: Arc::clone(&tls), inbox: inbox_of };
        let notice: Notice = Arc::new(notice);
        let (peers_of, peers) = mpsc::channel(16);
        let connections = Connections::new(places.sites.len());
        let router = tonic::transport::Server::builder()
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(CHUNK_BYTES_MAX as u32)
            .max_concurrent_streams(4)
            .http2_keepalive_interval(Some(self.keep_alive))
            .http2_keepalive_timeout(Some(self.keep_alive));
        runtime.spawn({
            let (tls, notice) = (Arc::clone(&tls), Arc::clone(&notice));
            async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
                accept(listener, tls, connections, peers_of, notice).await;
            }
        });
        runtime.spawn(async move {
            let (reporter, health) = tonic_health::server::health_reporter();
            reporter.set_serving::<CarrierServer<Service>>().await;
            let carrier = CarrierServer::new(service).max_decoding_message_size(CHUNK_BYTES_MAX + 1024);
            let mut router = router;
            // It ends with the runtime.
            let _ = router.add_service(carrier).add_service(health).serve_with_incoming(ReceiverStream::new(peers)).await;
        });
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(REVOKED_EVERY).await;
                places.cut_revoked(&tls, &notice);
            }
        });
        Ok(GrpcServerLink { inbox, sessions, address, _runtime: runtime })
    }
}

impl GrpcServerLink {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn taken(&mut self, arrival: Arrival) -> Option<(SiteId, Incoming)> {
        let Arrival { site, session, what } = arrival;
        let place = self.sessions.get_mut(site.0 as usize)?;
        let current = place.as_ref().is_some_and(|s| s.number == session);
        match what {
            // A later one may have been quicker.
            What::Connected(..) if place.as_ref().is_some_and(|s| s.number > session) => None,
            What::Connected(outbox, certificate) => {
                *place = Some(Session { number: session, certificate, outbox });
                Some((site, Incoming::Connected))
            }
            // Of an earlier connection: nobody waits for it any more.
            _ if !current => None,
            What::Frame(frame, _permit) => Some((site, Incoming::Frame(frame))),
            What::Lost(reason) => {
                *place = None;
                Some((site, Incoming::Lost(reason)))
            }
        }
    }
}

impl ServerLink for GrpcServerLink {
    fn send(&mut self, site: SiteId, frame: Frame) {
        if let Some(Some(session)) = self.sessions.get(site.0 as usize) {
            for chunk in chunks(frame) {
                // A connection that is gone says so itself.
                let _ = session.outbox.send(Ok(chunk));
            }
        }
    }

    fn close(&mut self, site: SiteId) {
        if let Some(place) = self.sessions.get_mut(site.0 as usize) {
            // The stream ends once all that was sent is out.
            *place = None;
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

#[allow(clippy::disallowed_methods, reason = "the transport owns the clock")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Who is connected for each site: at most one process.
struct Places {
    sites: Vec<Mutex<Place>>,
}

struct Place {
    sessions: u64,
    /// Whole frames that wait for the server, over all connections of the site.
    waiting: Arc<Semaphore>,
    present: Option<Present>,
}

impl Default for Place {
    fn default() -> Self {
        Self { sessions: 0, waiting: Arc::new(Semaphore::new(FRAMES_WAITING)), present: None }
    }
}

struct Present {
    session: u64,
    instance: String,
    serial: String,
    cut: Arc<Notify>,
}

impl Places {
    fn of(&self, site: SiteId) -> std::sync::MutexGuard<'_, Place> {
        self.sites[site.0 as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection the site's place, unless another process holds it.
    fn enter(&self, site: SiteId, instance: &str, serial: &str) -> Result<(u64, Arc<Notify>, Arc<Semaphore>), Status> {
        let mut place = self.of(site);
        if let Some(present) = &place.present {
            if present.instance != instance {
                return Err(Status::already_exists("another process with this site's certificate is connected; stop one of the two"));
            }
            // The same process again: it knows better than we that the old connection is gone.
            present.cut.notify_one();
        }
        place.sessions += 1;
        let (session, cut) = (place.sessions, Arc::new(Notify::new()));
        place.present = Some(Present { session, instance: instance.into(), serial: serial.into(), cut: Arc::clone(&cut) });
        Ok((session, cut, Arc::clone(&place.waiting)))
    }

    fn leave(&self, site: SiteId, session: u64) {
        let mut place = self.of(site);
        if place.present.as_ref().is_some_and(|p| p.session == session) {
            place.present = None;
        }
    }

    fn cut_revoked(&self, tls: &Mutex<Tls>, notice: &Notice) {
        let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = tls.refresh() {
            notice(&format!("cannot read the list of revoked certificates; the previous one stays in force: {}", with_causes(&error)));
        }
        for place in &self.sites {
            let place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(present) = place.present.as_ref().filter(|p| tls.is_revoked(&p.serial)) {
                present.cut.notify_one();
            }
        }
    }
}

struct Service {
    names: Vec<String>,
    run: RunDescription,
    places: Arc<Places>,
    tls: Arc<Mutex<Tls>>,
    inbox: blocking::Sender<Arrival>,
}

impl Service {
    fn site<T>(&self, request: &Request<T>) -> Result<(SiteId, Peer), Status> {
        let peer = request.extensions().get::<Peer>().ok_or_else(|| Status::unauthenticated("no certificate"))?;
        if !peer.place.allows_request(now()) {
            return Err(Status::resource_exhausted("too many requests with this certificate; try again in a minute"));
        }
        // The connection may be older than what is known of its certificate by now.
        let revoked = {
            // Read again every two seconds.
            let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
            tls.is_revoked(&peer.facts.serial)
        };
        if revoked || peer.facts.not_after < (unix_ms() / 1000) as i64 {
            return Err(Status::unauthenticated("the site's certificate was revoked or has expired"));
        }
        let name = &peer.facts.name;
        let place = self.names.iter().position(|n| n == name);
        let place = place
            .ok_or_else(|| Status::permission_denied(format!("{name} is not a participant of this run; contact the server operator")))?;
        Ok((SiteId(place as u32), peer.clone()))
    }
}

#[tonic::async_trait]
impl Carrier for Service {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

    async fn join(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Self::JoinStream>, Status> {
        let (site, peer) = self.site(&request)?;
        let instance = request.metadata().get("asyndgan-instance").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let (session, cut, waiting) = self.places.enter(site, &instance, &peer.facts.serial)?;
        let (outbox, outgoing) = mpsc::unbounded_channel();
        // The receiver goes with the link; then nobody listens any more.
        let _ = self.inbox.send(Arrival { site, session, what: What::Connected(outbox, Arc::clone(&peer.certificate)) });
        peer.place.set_joined(true);
        let (inbox, places) = (self.inbox.clone(), Arc::clone(&self.places));
        tokio::spawn(async move {
            let reason = tokio::select! {
                reason = receive(request.into_inner(), site, session, waiting, &inbox) => reason,
                () = cut.notified() => "its certificate was revoked, or it reconnected".into(),
            };
            places.leave(site, session);
            peer.place.set_joined(false);
            let _ = inbox.send(Arrival { site, session, what: What::Lost(reason) });
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outgoing))))
    }

    async fn look(&self, request: Request<LookRequest>) -> Result<Response<LookReply>, Status> {
        let (site, _) = self.site(&request)?;
        let describe = Message::Describe { site, run: self.run.clone(), conditions_wanted: true }.encode();
        Ok(Response::new(LookReply { unix_ms: unix_ms(), describe, probe: Bytes::from(vec![0; request.get_ref().probe.len()]) }))
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64)
}

/// Receives a connection's frames until it ends, and returns the reason for its end.
async fn receive(
    mut stream: Streaming<Chunk>,
    site: SiteId,
    session: u64,
    waiting: Arc<Semaphore>,
    inbox: &blocking::Sender<Arrival>,
) -> String {
    let mut assembly = Assembly::default();
    loop {
        let chunk = match stream.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(status)) => return format!("the connection failed: {}", status.message()),
            None => return "it closed the connection".into(),
        };
        match assembly.take(chunk) {
            Ok(Some(frame)) => {
                let Ok(permit) = Arc::clone(&waiting).acquire_owned().await else { return "the server is shutting down".into() };
                let _ = inbox.send(Arrival { site, session, what: What::Frame(frame, permit) });
            }
            Ok(None) => {}
            Err(fact) => return fact,
        }
    }
}
