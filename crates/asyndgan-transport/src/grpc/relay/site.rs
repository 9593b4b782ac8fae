use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as blocking},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::RngExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::{
    super::clock::now,
    super::wire::{ExchangeReply, ExchangeRequest, relay_client::RelayClient},
    EXCHANGE_BYTES_MAX, FRAMES_WAITING, POLL_WAIT, RelayToken,
    window::{Incoming as Window, Outgoing},
};
use crate::{Error, Frame, Incoming, SiteLink, memory::received};

/// How long a request may take beyond what it waits: a relay may have a long way.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// The delay after a failed request: the first and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// The delay while one end does not take parts, or answers before its time.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long the end of the link waits for the last parts to be taken.
const FAREWELL: Duration = Duration::from_secs(2);

/// A site behind a relay on the same machine.
#[derive(Debug)]
#[non_exhaustive]
pub struct RelaySite {
    /// Where the relay listens.
    pub relay: SocketAddr,
    /// The relay's token.
    pub token: RelayToken,
    /// How long to wait for a relay or server that does not answer.
    pub reconnect_timeout: Duration,
}

/// A site's end of a transport through a relay.
#[derive(Debug)]
pub struct RelaySiteLink {
    inbox: blocking::Receiver<Arrival>,
    /// The connection that [`SiteLink::receive`] has reported last, 0 for none.
    current: u64,
    shared: Arc<Shared>,
    /// Closed once the thread that sends requests has ended.
    ended: blocking::Receiver<()>,
}

#[derive(Debug)]
enum Arrival {
    /// With the number of the connection.
    Connected(u64),
    Frame(Frame, OwnedSemaphorePermit),
    Lost(String),
    Ended(Error),
}

#[derive(Debug)]
struct Shared {
    connection: Mutex<Connection>,
    /// Wakes the loop that sends.
    news: Notify,
    /// Whole frames that wait for the program.
    waiting: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Connection {
    session: u64,
    incoming: Window,
    outgoing: Outgoing,
    /// The link has ended: leave once all is sent.
    is_leaving: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RelaySite {
    /// A site that waits for ten minutes for a relay that does not answer.
    pub fn new(relay: SocketAddr, token: RelayToken) -> Self {
        Self { relay, token, reconnect_timeout: Duration::from_mins(10) }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Starts to connect in the background. The link reports the result.
    ///
    /// # Errors
    /// [`Error::NotLocal`] for a relay on another machine, [`Error::Keys`], [`Error::Thread`].
    pub fn start(self) -> Result<RelaySiteLink, Error> {
        if !self.relay.ip().is_loopback() {
            return Err(Error::NotLocal { address: self.relay });
        }
        let keys = |error: tonic::transport::Error| Error::Keys { fact: format!("{}: {error}", self.relay) };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.relay)).map_err(keys)?.connect_timeout(REQUEST_MAX);
        let (inbox_of, inbox) = blocking::channel();
        let (ends, ended) = blocking::sync_channel(0);
        let shared =
            Arc::new(Shared { connection: Mutex::default(), news: Notify::new(), waiting: Arc::new(Semaphore::new(FRAMES_WAITING)) });
        let runtime = super::super::site::runtime()?;
        let of_thread = Arc::clone(&shared);
        let spawned = thread::Builder::new().name("relay".into()).spawn(move || {
            let _ends: blocking::SyncSender<()> = ends;
            let outcome = runtime.block_on(async {
                let caller = Caller { site: self, channel: endpoint.connect_lazy(), shared: of_thread, inbox: inbox_of.clone() };
                caller.connect().await
            });
            if let Err(error) = outcome {
                // The link may be gone.
                let _ = inbox_of.send(Arrival::Ended(error));
            }
        });
        spawned.map_err(|source| Error::Thread { source })?;
        Ok(RelaySiteLink { inbox, current: 0, shared, ended })
    }
}

impl SiteLink for RelaySiteLink {
    fn send(&mut self, frame: Frame) {
        let mut connection = self.shared.lock();
        // A frame of an earlier connection has another number in this one.
        if connection.session == self.current {
            if !connection.outgoing.is_overfull() {
                connection.outgoing.push(frame);
            }
            self.shared.news.notify_one();
        }
    }

    fn receive(&mut self, wait: Option<Duration>) -> Result<Option<Incoming>, Error> {
        let arrival = received(&self.inbox, wait).map_err(|()| Error::Disconnected { peer: "server".into() })?;
        Ok(match arrival {
            None => None,
            Some(Arrival::Connected(session)) => {
                self.current = session;
                Some(Incoming::Connected)
            }
            Some(Arrival::Frame(frame, _permit)) => Some(Incoming::Frame(frame)),
            Some(Arrival::Lost(reason)) => Some(Incoming::Lost(reason)),
            Some(Arrival::Ended(error)) => return Err(error),
        })
    }
}

impl Drop for RelaySiteLink {
    /// Waits up to two seconds for the last frames to be sent.
    fn drop(&mut self) {
        self.shared.lock().is_leaving = true;
        self.shared.news.notify_one();
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

/// Why a connection ended.
enum End {
    /// The site connects again.
    Lost(String),
    /// The link is gone.
    Left,
    Failed(Error),
}

struct Caller {
    site: RelaySite,
    channel: Channel,
    shared: Arc<Shared>,
    inbox: blocking::Sender<Arrival>,
}

impl Caller {
    /// Connects repeatedly, until the link is gone.
    async fn connect(&self) -> Result<(), Error> {
        let mut newest = 0_u64;
        loop {
            // Larger than those of earlier processes, unless the clock was set back: then the server names its number.
            let session = unix_ns().max(newest.saturating_add(1));
            {
                let mut connection = self.shared.lock();
                if connection.is_leaving {
                    return Ok(());
                }
                *connection = Connection { session, ..Connection::default() };
            }
            let opened = self.insist(ExchangeRequest { session, opens: true, ..ExchangeRequest::default() }).await;
            newest = session;
            let end = match opened {
                // Or it has not noticed the connection before yet.
                Ok(reply) if reply.session != session => {
                    newest = newest.max(reply.session);
                    End::Lost("the server does not accept the connection yet".into())
                }
                Ok(_) => {
                    if self.inbox.send(Arrival::Connected(session)).is_err() {
                        return Ok(());
                    }
                    tokio::select! {
                        end = self.poll(session) => end,
                        end = self.push(session) => end,
                    }
                }
                Err(end) => end,
            };
            match end {
                End::Left => return Ok(()),
                End::Failed(error) => return Err(error),
                End::Lost(reason) => {
                    if self.inbox.send(Arrival::Lost(reason)).is_err() {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(PAUSES[0]).await;
        }
    }

    /// Takes the server's parts until the connection ends.
    async fn poll(&self, session: u64) -> End {
        loop {
            let taken = self.shared.lock().incoming.taken();
            let wait_ms = POLL_WAIT.as_millis() as u32;
            let asked = now();
            let reply = match self.insist(ExchangeRequest { session, taken, wait_ms, ..ExchangeRequest::default() }).await {
                Ok(reply) => reply,
                Err(end) => return end,
            };
            let is_early = reply.parts.is_empty() && asked.elapsed() < POLL_WAIT / 2;
            let has_parts = !reply.parts.is_empty();
            let (has_taken_none, outcome) = {
                let mut connection = self.shared.lock();
                if reply.session != session || connection.session != session {
                    return End::Lost("the server has ended the connection".into());
                }
                let permit = || Arc::clone(&self.shared.waiting).try_acquire_owned().ok();
                let outcome = connection.incoming.take(reply.first, reply.parts, permit, |frame, permit| {
                    // Nobody listens once the link is gone.
                    let _ = self.inbox.send(Arrival::Frame(frame, permit));
                });
                (connection.incoming.taken() == taken, outcome)
            };
            if let Err(fact) = outcome {
                return End::Lost(fact);
            }
            if reply.closed {
                return End::Lost("the server has ended the connection".into());
            }
            if is_early || has_parts && has_taken_none {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        }
    }

    /// Sends this site's parts until the connection ends.
    async fn push(&self, session: u64) -> End {
        loop {
            let (taken, (first, parts), leaves) = {
                let connection = self.shared.lock();
                if connection.outgoing.is_overfull() {
                    return End::Lost("the server does not take what is sent".into());
                }
                let leaves = connection.is_leaving && connection.outgoing.is_empty();
                (connection.incoming.taken(), connection.outgoing.batch(), leaves)
            };
            if parts.is_empty() && !leaves {
                self.shared.news.notified().await;
                continue;
            }
            let reply = match self.insist(ExchangeRequest { session, taken, first, parts, leaves, ..ExchangeRequest::default() }).await {
                Ok(_) if leaves => return End::Left,
                Ok(reply) => reply,
                Err(end) => return end,
            };
            if reply.session != session || reply.closed {
                return End::Lost("the server has ended the connection".into());
            }
            self.shared.lock().outgoing.acknowledge(reply.taken);
            if reply.taken <= first {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        }
    }

    /// Makes a request as often as needed: repeating one does no harm.
    async fn insist(&self, request: ExchangeRequest) -> Result<ExchangeReply, End> {
        let (began, mut pause) = (now(), PAUSES[0]);
        loop {
            let status = match self.call(request.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(status) => status,
            };
            let fact: String = status.message().chars().filter(|c| !c.is_control()).take(500).collect();
            let server = format!("the relay at {}", self.site.relay);
            match status.code() {
                Code::PermissionDenied | Code::Unauthenticated => return Err(End::Failed(Error::Rejected { server, fact })),
                Code::Unimplemented => {
                    let fact = "it has another version; install the same release on both ends".into();
                    return Err(End::Failed(Error::Rejected { server, fact }));
                }
                _ => {}
            }
            let waited = began.elapsed();
            if waited > self.site.reconnect_timeout {
                return Err(End::Failed(Error::Unreachable { server, waited_s: waited.as_secs(), fact }));
            }
            if self.shared.lock().is_leaving && waited > FAREWELL {
                return Err(End::Left);
            }
            tracing::debug!(code = %status.code(), fact, "a request through the relay failed; repeating it");
            let jitter: f64 = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (2 * pause).min(PAUSES[1]);
        }
    }

    async fn call(&self, request: ExchangeRequest) -> Result<ExchangeReply, Status> {
        let mut client = RelayClient::new(self.channel.clone()).max_decoding_message_size(EXCHANGE_BYTES_MAX);
        let wait = Duration::from_millis(request.wait_ms.into());
        let mut request = Request::new(request);
        let token = self.site.token.header().parse().map_err(|_| Status::unauthenticated("the token is not valid in a header"))?;
        request.metadata_mut().insert("authorization", token);
        request.set_timeout(wait + REQUEST_MAX);
        client.exchange(request).await.map(tonic::Response::into_inner)
    }
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
