use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as blocking},
    time::{Duration, Instant},
};

use asyndgan_protocol::SiteId;
use tokio::{
    runtime::Runtime,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::{
    super::clock::now,
    super::outbox::OVERFULL,
    super::wire::{
        ExchangeReply, ExchangeRequest,
        relay_server::{Relay, RelayServer as RelayService},
    },
    EXCHANGE_BYTES_MAX, FRAMES_WAITING, RelayToken, SILENCE_MAX,
    window::{Incoming as Window, Outgoing},
};
use crate::{Error, Frame, Incoming, ServerLink};

/// Upper limit of the waiting time that a request may ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Simultaneous requests of the relay: two for each of 64 sites, and as many that it has lost.
const STREAMS_MAX: u32 = 256;
/// How long the end of the link waits for the last frames to be taken.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often the end of the link looks whether they are.
const FAREWELL_EVERY: Duration = Duration::from_millis(20);
/// How often silent sites are looked for.
const SILENCE_EVERY: Duration = Duration::from_secs(1);

/// A server behind a relay on the same machine.
#[derive(Debug)]
#[non_exhaustive]
pub struct RelayServer {
    /// The address to listen on, on this machine; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The relay's token.
    pub token: RelayToken,
    /// The names of the run's sites, in order.
    pub sites: Vec<String>,
    /// A site without any request for so long is lost.
    pub silence_max: Duration,
}

/// The server's end of a transport through a relay.
#[derive(Debug)]
pub struct RelayServerLink {
    inbox: blocking::Receiver<Arrival>,
    /// The connection of each site that [`ServerLink::receive`] has reported, 0 for none.
    current: Vec<u64>,
    places: Arc<Places>,
    address: SocketAddr,
    /// Ends with the link.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Arrival {
    site: SiteId,
    session: u64,
    kind: ArrivalKind,
}

#[derive(Debug)]
enum ArrivalKind {
    Connected,
    Frame(Frame, OwnedSemaphorePermit),
    Lost(String),
}

#[derive(Debug)]
struct Places {
    of_sites: Vec<Mutex<Place>>,
    /// Wakes the waiting requests of a site.
    news: Vec<Notify>,
    inbox: blocking::Sender<Arrival>,
}

/// One site's connection.
#[derive(Debug)]
struct Place {
    /// The number of the latest connection, 0 before the first.
    session: u64,
    is_open: bool,
    /// Whether the driver knows of this connection. Until then, no other one replaces it.
    is_reported: bool,
    /// Counts the requests that wait for parts: only the latest one gets them.
    waiter: u64,
    /// The server ends the connection once all is sent.
    is_closing: bool,
    last_request: Instant,
    incoming: Window,
    outgoing: Outgoing,
    /// Whole frames that wait for the server, over all connections of the site.
    waiting: Arc<Semaphore>,
}

impl Place {
    fn new(session: u64, waiting: Arc<Semaphore>) -> Self {
        Self {
            session,
            is_open: session > 0,
            is_reported: session == 0,
            waiter: 0,
            is_closing: false,
            last_request: now(),
            incoming: Window::default(),
            outgoing: Outgoing::default(),
            waiting,
        }
    }

    /// What a request learns of its connection, without parts.
    fn reply(&self, session: u64) -> ExchangeReply {
        let is_gone = session != self.session || !self.is_open || (self.is_closing && self.outgoing.is_empty());
        ExchangeReply { session: self.session, closed: is_gone, taken: self.incoming.taken(), first: 0, parts: Vec::new() }
    }
}

impl Places {
    fn lock(&self, site: usize) -> MutexGuard<'_, Place> {
        self.of_sites[site].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, site: usize, session: u64, kind: ArrivalKind) {
        // The receiver goes with the link; then nobody listens any more.
        let _ = self.inbox.send(Arrival { site: SiteId(site as u32), session, kind });
    }

    /// Ends a connection.
    fn lost(&self, site: usize, place: &mut Place, reason: &str) {
        place.is_open = false;
        self.arrived(site, place.session, ArrivalKind::Lost(reason.to_owned()));
        self.news[site].notify_waiters();
    }

    /// Handles a request, apart from waiting. Returns whether it may wait for parts.
    fn take(&self, site: usize, request: ExchangeRequest) -> bool {
        let mut place = self.lock(site);
        let session = request.session;
        if request.opens && session > place.session && place.is_reported {
            *place = Place::new(session, Arc::clone(&place.waiting));
            self.arrived(site, session, ArrivalKind::Connected);
            self.news[site].notify_waiters();
        }
        if session != place.session || !place.is_open {
            return false;
        }
        place.last_request = now();
        place.outgoing.acknowledge(request.taken);
        let waiting = Arc::clone(&place.waiting);
        let permit = || Arc::clone(&waiting).try_acquire_owned().ok();
        let taken = place.incoming.take(request.first, request.parts, permit, |frame, permit| {
            self.arrived(site, session, ArrivalKind::Frame(frame, permit));
        });
        if let Err(fact) = taken {
            self.lost(site, &mut place, &fact);
        } else if request.leaves {
            self.lost(site, &mut place, "it left");
        }
        place.is_open
    }

    /// Waits until there are parts for a site, or its connection ends.
    async fn wait_for_parts(&self, site: usize, session: u64, until: Instant) -> ExchangeReply {
        let waiter = {
            let mut place = self.lock(site);
            place.waiter += 1;
            place.waiter
        };
        // An earlier request that still waits was lost by the relay.
        self.news[site].notify_waiters();
        loop {
            let news = self.news[site].notified();
            tokio::pin!(news);
            // Before the look, so that nothing between it and the wait is missed.
            news.as_mut().enable();
            {
                let mut place = self.lock(site);
                let mut reply = place.reply(session);
                let left = until.saturating_duration_since(now());
                if session == place.session && place.waiter == waiter {
                    place.last_request = now();
                    (reply.first, reply.parts) = place.outgoing.batch();
                }
                if place.waiter != waiter || reply.closed || !reply.parts.is_empty() || left.is_zero() {
                    return reply;
                }
            }
            // In both cases, look again.
            let _ = tokio::time::timeout(until.saturating_duration_since(now()), news).await;
        }
    }

    /// Ends connections without requests.
    fn end_silent(&self, silence_max: Duration) {
        for site in 0..self.of_sites.len() {
            let mut place = self.lock(site);
            let silence = place.last_request.elapsed();
            if place.is_open && silence > silence_max {
                self.lost(site, &mut place, &format!("no request through the relay for {} s", silence.as_secs()));
            }
        }
    }
}

struct Service {
    places: Arc<Places>,
    names: Vec<String>,
    token: RelayToken,
}

#[tonic::async_trait]
impl Relay for Service {
    async fn exchange(&self, request: Request<ExchangeRequest>) -> Result<Response<ExchangeReply>, Status> {
        let metadata = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !self.token.is_header(metadata("authorization")) {
            return Err(Status::unauthenticated("this is not the token of the server's relay"));
        }
        let name = metadata("asyndgan-site");
        let site = self.names.iter().position(|n| n == name);
        let site = site.ok_or_else(|| Status::permission_denied(format!("{name} is not a participant of this run")))?;
        let request = request.into_inner();
        let (session, wait) = (request.session, Duration::from_millis(request.wait_ms.into()).min(WAIT_MAX));
        let may_wait = self.places.take(site, request);
        let reply = if may_wait && !wait.is_zero() {
            self.places.wait_for_parts(site, session, now() + wait).await
        } else {
            self.places.lock(site).reply(session)
        };
        Ok(Response::new(reply))
    }
}

impl RelayServer {
    /// A server on a free port of this machine, for the sites with these names, in the order of the run.
    pub fn new(token: RelayToken, sites: Vec<String>) -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), token, sites, silence_max: SILENCE_MAX }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Starts listening.
    ///
    /// # Errors
    /// [`Error::NotLocal`] for an address that other machines reach, because the connection is not encrypted;
    /// [`Error::Listen`].
    pub fn start(self) -> Result<RelayServerLink, Error> {
        let listen = |source| Error::Listen { address: self.listen, source };
        if !self.listen.ip().is_loopback() {
            return Err(Error::NotLocal { address: self.listen });
        }
        let socket = TcpListener::bind(self.listen).map_err(listen)?;
        socket.set_nonblocking(true).map_err(listen)?;
        let address = socket.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(listen)?;
        let (inbox_of, inbox) = blocking::channel();
        let sites = self.sites.len();
        let places = Arc::new(Places {
            of_sites: (0..sites).map(|_| Mutex::new(Place::new(0, Arc::new(Semaphore::new(FRAMES_WAITING))))).collect(),
            news: (0..sites).map(|_| Notify::new()).collect(),
            inbox: inbox_of,
        });
        let service = Service { places: Arc::clone(&places), names: self.sites, token: self.token };
        runtime.spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
            let relay = RelayService::new(service).max_decoding_message_size(EXCHANGE_BYTES_MAX);
            // It ends with the link.
            let router = tonic::transport::Server::builder().max_concurrent_streams(STREAMS_MAX);
            let _ = { router }.add_service(relay).serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        runtime.spawn({
            let (places, silence_max) = (Arc::clone(&places), self.silence_max);
            async move {
                loop {
                    tokio::time::sleep(SILENCE_EVERY.min(silence_max)).await;
                    places.end_silent(silence_max);
                }
            }
        });
        Ok(RelayServerLink { inbox, current: vec![0; sites], places, address, runtime: Some(runtime) })
    }
}

impl RelayServerLink {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection of a site, if it is the one that [`ServerLink::receive`] has reported last.
    fn place(&self, site: SiteId) -> Option<MutexGuard<'_, Place>> {
        let site = site.0 as usize;
        let session = *self.current.get(site)?;
        Some(self.places.lock(site)).filter(|place| place.session == session && place.is_open)
    }

    fn taken(&mut self, Arrival { site, session, kind }: Arrival) -> Option<(SiteId, Incoming)> {
        let current = self.current.get_mut(site.0 as usize)?;
        match kind {
            ArrivalKind::Connected => {
                *current = session;
                self.places.lock(site.0 as usize).is_reported = true;
                Some((site, Incoming::Connected))
            }
            // Of an earlier connection: nobody waits for it any more.
            _ if *current != session => None,
            ArrivalKind::Frame(frame, _permit) => Some((site, Incoming::Frame(frame))),
            ArrivalKind::Lost(reason) => {
                *current = 0;
                Some((site, Incoming::Lost(reason)))
            }
        }
    }
}

impl ServerLink for RelayServerLink {
    fn send(&mut self, site: SiteId, frame: Frame) {
        let of = site.0 as usize;
        if let Some(mut place) = self.place(site).filter(|place| !place.is_closing) {
            place.outgoing.push(frame);
            if place.outgoing.is_overfull() {
                self.places.lost(of, &mut place, OVERFULL);
            }
            self.places.news[of].notify_waiters();
        }
    }

    fn close(&mut self, site: SiteId) {
        if let Some(mut place) = self.place(site) {
            place.is_closing = true;
            self.places.news[site.0 as usize].notify_waiters();
        }
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

impl Drop for RelayServerLink {
    /// Waits up to two seconds for the last frames to be taken.
    fn drop(&mut self) {
        let until = now() + FAREWELL;
        let is_left = |site: usize| {
            let place = self.places.lock(site);
            place.is_open && place.is_reported && !place.outgoing.is_empty()
        };
        while (0..self.current.len()).any(is_left) && now() < until {
            std::thread::sleep(FAREWELL_EVERY);
        }
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime waits for its threads, which is not allowed in async code.
            runtime.shutdown_background();
        }
    }
}
