use std::{
    error::Error as StdError,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    thread,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig,
        pki_types::ServerName,
        time_provider::{DefaultTimeProvider, TimeProvider},
    },
};
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::{
    absence::Absence,
    chunks::{Assembly, CHUNK_BYTES_MAX, chunks},
    clock::now,
    outbox::{Outbox, outbox},
    proxy::{Proxy, Route, TunnelFailure},
    tls_error_tap::{LastTlsError, TlsErrorTap},
    wire::{Chunk, carrier_client::CarrierClient},
};
use crate::{Error, Frame, Identity, Incoming, SiteLink, keys::client_config, memory::received};

/// How long one attempt to connect may take.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// The delay after a failed attempt: the first and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// The address of a site's server, and how long to try to reach it.
#[derive(Debug)]
#[non_exhaustive]
pub struct GrpcSite {
    /// The server's host name and port.
    pub server: String,
    /// The site's key and certificate.
    pub identity: Identity,
    /// How long to wait for a server that is unreachable.
    pub reconnect_timeout: Duration,
    /// The interval of keep-alive pings, and the time to wait for their answer before a connection is considered lost.
    pub keep_alive: Duration,
    /// The HTTP proxy on the way to the server. Default: that of the environment.
    pub proxy: Proxy,
    /// Why the site does not join the run that the server described, for requests that do not join. Default: no report.
    pub absence: Option<Absence>,
    /// The clock for checking certificates. Default: the system clock.
    pub clock: Option<Arc<dyn TimeProvider>>,
}

/// A site's end of the network transport: it connects to the server, and reconnects when the connection is lost.
#[derive(Debug)]
pub struct GrpcSiteLink {
    /// There until the link ends.
    inbox: Option<blocking::Receiver<Arrival>>,
    outbox: Option<Outbox<Chunk>>,
    server_certificate: Option<Vec<u8>>,
    /// Closed once the thread that dials has ended.
    dialling: blocking::Receiver<()>,
}

impl Drop for GrpcSiteLink {
    /// Waits up to a second for the last frames to be sent.
    fn drop(&mut self) {
        (self.outbox, self.inbox) = (None, None);
        let _ = self.dialling.recv_timeout(Duration::from_secs(1));
    }
}

#[derive(Debug)]
enum Arrival {
    /// With the server's certificate.
    Connected(Outbox<Chunk>, Option<Vec<u8>>),
    Frame(Frame),
    Lost(String),
    NoRun(String),
    Ended(Error),
}

impl GrpcSite {
    /// A site that tries for a day to reach a server that is down, and sends keep-alive pings every 30 s.
    pub fn new(server: impl Into<String>, identity: Identity) -> Self {
        let (reconnect_timeout, keep_alive) = (Duration::from_hours(24), Duration::from_secs(30));
        Self { server: server.into(), identity, reconnect_timeout, keep_alive, proxy: Proxy::default(), absence: None, clock: None }
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
    /// [`Error::Keys`] for unusable keys or an invalid server name, [`Error::Thread`].
    pub fn start(self) -> Result<GrpcSiteLink, Error> {
        let dialler = Dialler::new(self)?;
        let (inbox_of, inbox) = blocking::sync_channel(4);
        let (ends, dialling) = blocking::sync_channel(0);
        let spawned = thread::Builder::new().name("dial".into()).spawn(move || {
            let _ends: blocking::SyncSender<()> = ends;
            let ended = match runtime() {
                Ok(runtime) => runtime.block_on(dialler.dial(&inbox_of)),
                Err(error) => error,
            };
            // The link may be gone.
            let _ = inbox_of.send(Arrival::Ended(ended));
        });
        spawned.map_err(|source| Error::Thread { source })?;
        Ok(GrpcSiteLink { inbox: Some(inbox), outbox: None, server_certificate: None, dialling })
    }

    /// The HTTP proxy through which the site connects, without user and password; `None` for a direct connection.
    ///
    /// # Errors
    /// [`Error::Proxy`] for a proxy that cannot be used, [`Error::Keys`] for an invalid server name.
    pub fn proxy_address(&self) -> Result<Option<String>, Error> {
        Ok(match self.proxy.route(&self.server)? {
            Route::Direct => None,
            Route::Through(tunnelled) => Some(tunnelled.proxy),
        })
    }
}

pub(super) fn limited(channel: Channel) -> CarrierClient<Channel> {
    CarrierClient::new(channel).max_decoding_message_size(CHUNK_BYTES_MAX + 1024)
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    built.map_err(|source| Error::Thread { source })
}

/// The message of a status, as one short line without control characters.
fn readable(status: &Status) -> String {
    status.message().chars().filter(|c| !c.is_control()).take(500).collect()
}

impl SiteLink for GrpcSiteLink {
    fn send(&mut self, frame: Frame) {
        let Some(outbox) = &self.outbox else { return };
        let sent = chunks(frame).try_for_each(|chunk| {
            let bytes = chunk.bytes.len();
            outbox.send(chunk, bytes)
        });
        if sent.is_err() {
            // The stream of requests ends, and so does the connection.
            self.outbox = None;
        }
    }

    fn server_certificate(&self) -> Option<Vec<u8>> {
        self.server_certificate.clone()
    }

    fn receive(&mut self, wait: Option<Duration>) -> Result<Option<Incoming>, Error> {
        let gone = || Error::Disconnected { peer: "server".into() };
        let arrival = received(self.inbox.as_ref().ok_or_else(gone)?, wait).map_err(|()| gone())?;
        Ok(match arrival {
            None => None,
            Some(Arrival::Connected(outbox, certificate)) => {
                (self.outbox, self.server_certificate) = (Some(outbox), certificate);
                Some(Incoming::Connected)
            }
            Some(Arrival::Frame(frame)) => Some(Incoming::Frame(frame)),
            Some(Arrival::Lost(reason)) => {
                self.outbox = None;
                Some(Incoming::Lost(reason))
            }
            Some(Arrival::NoRun(reason)) => {
                self.outbox = None;
                Some(Incoming::NoRun(reason))
            }
            Some(Arrival::Ended(error)) => return Err(error),
        })
    }
}

/// Why an attempt or a connection failed.
pub(super) enum Failure {
    /// Temporary: a retry may succeed.
    Passing(String),
    /// The server answers, but has no run now.
    NoRun(Error),
    /// Another program has the site's place; perhaps it is our own former self, and the server has not noticed yet.
    Taken(Error),
    /// The TLS handshake failed. Permanent at the first connection: certificates and address do not fit.
    Handshake(Error),
    /// Permanent: a retry cannot succeed.
    Final(Error),
}

impl Failure {
    pub(super) fn error(self) -> Error {
        match self {
            Failure::Passing(fact) => Error::Transient { fact },
            Failure::NoRun(error) | Failure::Taken(error) | Failure::Handshake(error) | Failure::Final(error) => error,
        }
    }
}

pub(super) struct Dialler {
    pub(super) site: GrpcSite,
    host: String,
    config: Arc<ClientConfig>,
    route: Route,
    instance: String,
    /// The layers above do not report it.
    last_error: LastTlsError,
    /// The certificate of the latest connection's server.
    certificate: Mutex<Option<Vec<u8>>>,
}

impl Dialler {
    pub(super) fn new(site: GrpcSite) -> Result<Self, Error> {
        let host = site.server.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
        let host = host.ok_or_else(|| Error::Keys { fact: format!("{} is not a server address: use host:port", site.server) })?;
        let clock = site.clock.clone().unwrap_or_else(|| Arc::new(DefaultTimeProvider));
        let config = client_config(&site.identity, clock)?;
        let route = site.proxy.route(&site.server)?;
        let instance = format!("{:032x}", rand::rng().random::<u128>());
        Ok(Self { site, host, config, route, instance, last_error: LastTlsError::default(), certificate: Mutex::default() })
    }

    /// Connects repeatedly, and finally returns the reason for giving up.
    async fn dial(&self, inbox: &blocking::SyncSender<Arrival>) -> Error {
        let (mut pause, mut last_connected, mut taken_since, mut has_connected) = (PAUSES[0], now(), None, false);
        loop {
            let failure = match tokio::time::timeout(ATTEMPT_MAX, self.channel()).await {
                Ok(Ok(channel)) => {
                    has_connected = true;
                    let before = now();
                    let failure = self.connection(limited(channel), inbox).await;
                    if let Ok(()) = failure {
                        return Error::Disconnected { peer: "server".into() };
                    }
                    if before.elapsed() > PAUSES[1] {
                        (pause, last_connected) = (PAUSES[0], now());
                    }
                    failure.err().unwrap_or(Failure::Passing(String::new()))
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Passing(format!("no answer within {} s", ATTEMPT_MAX.as_secs())),
            };
            let (fact, arrival): (String, fn(String) -> Arrival) = match failure {
                // An attacker on the network can break a handshake, and the right server was there before.
                Failure::Handshake(error) if has_connected => (error.to_string(), Arrival::Lost),
                Failure::Handshake(error) | Failure::Final(error) => return error,
                Failure::Taken(error) => {
                    if taken_since.get_or_insert_with(now).elapsed() > 3 * self.site.keep_alive {
                        return error;
                    }
                    (error.to_string(), Arrival::Lost)
                }
                Failure::Passing(fact) => {
                    taken_since = None;
                    (fact, Arrival::Lost)
                }
                Failure::NoRun(error) => {
                    (taken_since, last_connected) = (None, now());
                    (error.to_string(), Arrival::NoRun)
                }
            };
            if last_connected.elapsed() > self.site.reconnect_timeout {
                let waited_s = last_connected.elapsed().as_secs();
                return Error::Unreachable { server: self.site.server.clone(), waited_s, fact };
            }
            if inbox.send(arrival(fact)).is_err() {
                return Error::Disconnected { peer: "server".into() };
            }
            // Not all sites at once when the server comes back.
            let jitter: f64 = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (2 * pause).min(PAUSES[1]);
        }
    }

    /// One connection, from its first frame to its end. No error: nobody wants frames any more.
    async fn connection(&self, mut client: CarrierClient<Channel>, inbox: &blocking::SyncSender<Arrival>) -> Result<(), Failure> {
        let (outbox, outgoing) = outbox();
        let mut request = Request::new(outgoing);
        let instance = self.instance.parse().map_err(|_| Failure::Passing("invalid metadata".into()))?;
        request.metadata_mut().insert("asyndgan-instance", instance);
        let mut stream = client.join(request).await.map_err(|status| self.failure(&status))?.into_inner();
        if inbox.send(Arrival::Connected(outbox, self.shown())).is_err() {
            return Ok(());
        }
        let mut assembly = Assembly::default();
        loop {
            let chunk = match stream.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(status)) => return Err(self.failure(&status)),
                None => return Err(Failure::Passing("the server closed the connection".into())),
            };
            if let Some(frame) = assembly.take(chunk).map_err(Failure::Passing)?
                && inbox.send(Arrival::Frame(frame)).is_err()
            {
                return Ok(());
            }
        }
    }

    /// A channel over one TLS connection that is made first, so that errors can be reported.
    pub(super) async fn channel(&self) -> Result<Channel, Failure> {
        let stream = TlsErrorTap { stream: self.connect().await?, last_error: Arc::clone(&self.last_error) };
        let stream = Arc::new(Mutex::new(Some(stream)));
        let connector = tower::service_fn(move |_| {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move { taken.map(TokioIo::new).ok_or_else(|| io::Error::other("the connection was already used")) }
        });
        let endpoint = Endpoint::from_shared(format!("http://{}", self.site.server)).map_err(|e| self.keys(&e))?;
        let endpoint = endpoint
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(CHUNK_BYTES_MAX as u32)
            .http2_keep_alive_interval(self.site.keep_alive)
            .keep_alive_timeout(self.site.keep_alive)
            .keep_alive_while_idle(true);
        endpoint.connect_with_connector(connector).await.map_err(|e| self.classified(None, &e.to_string()))
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let passing = |e: io::Error| Failure::Passing(format!("{}: {e}", self.site.server));
        let tcp = match &self.route {
            Route::Direct => TcpStream::connect(&self.site.server).await.map_err(passing)?,
            Route::Through(tunnelled) => tunnelled.open(&self.site.server).await.map_err(|failure| match failure {
                TunnelFailure::Passing(fact) => Failure::Passing(fact),
                TunnelFailure::Final(error) => Failure::Final(error),
            })?,
        };
        tcp.set_nodelay(true).map_err(passing)?;
        let name = ServerName::try_from(self.host.clone()).map_err(|e| self.keys(&e))?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name, tcp).await.map_err(|e| self.classified(Some(&e), &e.to_string()))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
        Ok(stream)
    }

    /// The certificate that the server showed.
    fn shown(&self) -> Option<Vec<u8>> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keys(&self, error: &dyn StdError) -> Failure {
        Failure::Final(Error::Keys { fact: format!("{}: {error}", self.site.server) })
    }

    pub(super) fn failure(&self, status: &Status) -> Failure {
        let refused = || Error::Rejected { server: self.site.server.clone(), fact: readable(status) };
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Failure::Final(refused()),
            Code::AlreadyExists => Failure::Taken(refused()),
            Code::FailedPrecondition => Failure::NoRun(Error::NoRun { server: self.site.server.clone(), reason: readable(status) }),
            Code::Unimplemented => Failure::Final(Error::Rejected {
                server: self.site.server.clone(),
                fact: "it has another version; install the same release on both ends".into(),
            }),
            _ => self.classified(None, status.message()),
        }
    }

    /// A TLS alert from the server or an invalid certificate is permanent. Other errors may be temporary.
    fn classified(&self, own: Option<&io::Error>, words: &str) -> Failure {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inner = own.and_then(io::Error::get_ref).and_then(|e| e.downcast_ref::<rustls::Error>());
        let (server, tls) = (self.site.server.clone(), last.as_ref().or(inner));
        let fact = tls.map_or_else(|| words.to_owned(), rustls::Error::to_string);
        match tls {
            // Before the handshake is done, an alert has no proof of its sender.
            Some(rustls::Error::AlertReceived(_)) if own.is_some() => Failure::Handshake(Error::Rejected { server, fact }),
            Some(rustls::Error::AlertReceived(_)) => Failure::Final(Error::Rejected { server, fact }),
            Some(rustls::Error::InvalidCertificate(_)) => Failure::Handshake(Error::Untrusted { server, fact }),
            _ => Failure::Passing(fact),
        }
    }
}
