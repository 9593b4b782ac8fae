//! Stub workers whose generators are hashes of all that they learnt, keys in a temporary folder, and runs over
//! loopback.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

#[cfg(feature = "grpc")]
pub mod platform;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use asyndgan_protocol::{
    Contribution, DiscriminatorFamily, Draw, Dtype, Losses, Payload, Readiness, RequestedTraining, RoundDraw, RunDescription, ServerPolicy,
    ServerWork, SiteId, SitePolicy, SiteRandomness, SiteSecret, SiteSummary, SiteWork, Symmetry, Timeouts, Waiting,
};
use asyndgan_transport::{
    Authority, Error, GrpcServer, GrpcServerLink, GrpcSite, GrpcSiteLink, Identity, Ledger, ServerRecords, ServerRun, SiteRecords, SiteRun,
    in_memory,
};
use tempfile::TempDir;

pub fn run(rounds: u64, waiting: Waiting) -> RunDescription {
    RunDescription::new("loopback", rounds).with(|run| {
        run.seed = 5;
        run.batch = 2;
        run.channels = 3;
        run.size = 10;
        run.crop = 8;
        run.symmetry = Symmetry::Turns;
        run.checkpoint_every = 4;
        run.waiting = waiting;
    })
}

pub const PATIENT: Timeouts = Timeouts { answer: Duration::from_mins(1), absence: Duration::from_mins(1) };
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

fn mix(h: u64, p: u64) -> u64 {
    (h ^ p).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

fn read(payload: &Payload) -> u64 {
    payload.bytes.iter().fold(1, |h, &b| mix(h, b.into()))
}

fn tensor(dims: &[u32], mut seed: u64) -> Payload {
    let n: u32 = dims.iter().product();
    let values = (0..n).map(|_| {
        seed = mix(seed, 77);
        f32::from(seed as u16) / 65536.0
    });
    Payload::new(dims.into(), Dtype::F32, values.flat_map(f32::to_le_bytes).collect::<Vec<_>>())
}

/// Disks that outlive the processes that use them.
pub type Disk = Arc<Mutex<BTreeMap<u64, u64>>>;

#[derive(Default)]
pub struct StubServer {
    pub run: Option<RunDescription>,
    pub generator: u64,
    pub disk: Disk,
    pub known: BTreeMap<SiteId, SiteSummary>,
}

impl ServerWork for StubServer {
    type Error = Infallible;

    fn checkpoints(&mut self) -> Result<Vec<u64>, Infallible> {
        Ok(self.disk.lock().expect("disk").keys().copied().collect())
    }
    fn stored_conditions(&mut self) -> Result<Vec<(SiteId, SiteSummary)>, Infallible> {
        Ok(Vec::new())
    }
    fn store_conditions(&mut self, site: SiteId, summary: &SiteSummary, conditions: Payload) -> Result<Option<String>, Infallible> {
        if conditions.decompress_into(&mut std::io::sink()).ok().flatten() != Some(summary.conditions_sha256) {
            return Ok(Some("masks that are not those of its summary".into()));
        }
        self.known.insert(site, summary.clone());
        Ok(None)
    }
    fn begin(&mut self, rounds_done: u64) -> Result<Vec<Vec<f32>>, Infallible> {
        self.generator = if rounds_done == 0 { 1 } else { self.disk.lock().expect("disk")[&rounds_done] };
        Ok(Vec::new())
    }
    fn prepare(&mut self, _: u64, _: &[Draw]) -> Result<(), Infallible> {
        Ok(())
    }
    fn synthesize(&mut self, round: u64, draws: &[Draw]) -> Result<Vec<Payload>, Infallible> {
        let run = self.run.as_ref().expect("a run");
        let one = |d: &Draw| tensor(&run.batch_dims(&self.known[&d.site].image_dims), mix(self.generator, mix(round, d.site.0.into())));
        Ok(draws.iter().map(one).collect())
    }
    fn update(&mut self, _: u64, contributions: &[Contribution]) -> Result<(), Infallible> {
        for c in contributions {
            self.generator = mix(self.generator, mix(read(&c.feedback), c.weight.to_bits()));
        }
        Ok(())
    }
    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Infallible> {
        self.disk.lock().expect("disk").insert(rounds_done, self.generator);
        Ok(())
    }
}

pub fn learning() -> RequestedTraining {
    let (family, betas) = (DiscriminatorFamily::Patch, [0.5, 0.999]);
    RequestedTraining {
        family,
        width: 8,
        spectral_norm: false,
        learning_rate: 1e-3,
        betas,
        augmentation: 0.5,
        memory_bytes: 0,
        privacy: None,
    }
}

pub struct StubSite {
    pub cases: u32,
    pub side: u32,
    /// How long a step takes.
    pub pause: Duration,
    pub disk: Disk,
    /// In the round after so many, the privacy budget ends.
    pub rounds_max: Option<u64>,
    discriminator: u64,
}

#[derive(Debug)]
pub struct BudgetEnded;

impl std::fmt::Display for BudgetEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the budget ended within the round")
    }
}

impl std::error::Error for BudgetEnded {}

pub fn stub_site(cases: u32) -> StubSite {
    StubSite { cases, side: 10, pause: Duration::ZERO, disk: Disk::default(), rounds_max: None, discriminator: 0 }
}

impl SiteWork for StubSite {
    type Error = BudgetEnded;

    fn summary(&mut self) -> SiteSummary {
        let conditions_sha256 = self.conditions().sha256();
        SiteSummary { cases: self.cases, image_dims: vec![3, self.side, self.side], conditions_sha256 }
    }
    fn conditions(&mut self) -> Payload {
        Payload::new(vec![self.cases, self.side, self.side], Dtype::U8, vec![1; (self.cases * self.side * self.side) as usize])
    }
    fn patients(&mut self) -> Vec<u32> {
        (0..self.cases).collect()
    }
    fn randomness(&self) -> SiteRandomness {
        SiteRandomness::Secret(SiteSecret::new([self.cases as u8; 32]))
    }
    fn inspect(&mut self, _: SiteId, _: &RunDescription) -> Result<RequestedTraining, BudgetEnded> {
        Ok(learning())
    }
    fn checkpoints(&mut self, _: SiteId, _: &RunDescription) -> Result<Vec<u64>, BudgetEnded> {
        Ok(self.disk.lock().expect("disk").keys().copied().collect())
    }
    fn begin(&mut self, site: SiteId, _: &RunDescription, rounds_done: u64) -> Result<(), BudgetEnded> {
        self.discriminator = if rounds_done == 0 { site.0.into() } else { self.disk.lock().expect("disk")[&rounds_done] };
        Ok(())
    }
    fn prepare(&mut self, _: u64, _: &RoundDraw) -> Result<Readiness, BudgetEnded> {
        Ok(Readiness::Ready)
    }
    fn step(&mut self, round: u64, _: &RoundDraw, synthetic: &Payload) -> Result<(Payload, Losses), BudgetEnded> {
        thread::sleep(self.pause);
        if self.rounds_max.is_some_and(|rounds| round >= rounds) {
            return Err(BudgetEnded);
        }
        self.discriminator = mix(self.discriminator, mix(round, read(synthetic)));
        Ok((tensor(&synthetic.dims, self.discriminator), Losses { discriminator: 0.5, generator: 0.5 }))
    }
    fn budget_spent(error: &BudgetEnded) -> Option<String> {
        Some(error.to_string())
    }
    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), BudgetEnded> {
        self.disk.lock().expect("disk").insert(rounds_done, self.discriminator);
        Ok(())
    }
}

/// The generator of the same run in one process.
pub fn in_process(run: &RunDescription, cases: &[u32]) -> u64 {
    let (mut link, sites) = in_memory(cases.len() as u32);
    let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
    thread::scope(|scope| {
        for (mut link, &cases) in sites.into_iter().zip(cases) {
            scope.spawn(move || {
                SiteRun::new(SitePolicy::unrestricted()).take_part(
                    &mut link,
                    &mut stub_site(cases),
                    &mut SiteRecords::default(),
                    |_, _, _| {},
                )
            });
        }
        let timeouts = Timeouts { absence: Duration::ZERO, ..PATIENT };
        ServerRun::new(run.clone(), cases.len() as u32, ServerPolicy::new(timeouts))
            .serve(&mut link, &mut work, &mut ServerRecords::default(), |_, _, _| {})
            .expect("ends");
    });
    work.generator
}

/// A consortium's keys: an authority, and a bundle a site.
pub struct Keys {
    pub folder: TempDir,
    pub authority: Authority,
}

pub const SITES: [&str; 3] = ["north", "south", "east"];

pub fn keys() -> Keys {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut authority = Authority::init(folder.path(), &names, 30).expect("an authority");
    for site in SITES {
        authority.issue(site, 30).expect("issued");
    }
    Keys { folder, authority }
}

impl Keys {
    pub fn path(&self, site: &str) -> PathBuf {
        self.folder.path().join("sites").join(format!("{site}.pem"))
    }

    pub fn identity(&self, site: &str) -> Identity {
        Identity::read(&self.path(site)).expect("a bundle")
    }

    pub fn server(&self, sites: &[&str], run: &RunDescription, port: u16) -> GrpcServer {
        GrpcServer::new(
            SocketAddr::from(([127, 0, 0, 1], port)),
            Identity::read(&self.folder.path().join("server.pem")).expect("a bundle"),
            self.folder.path().join("revoked.pem"),
            sites.iter().map(|&s| s.to_owned()).collect(),
            run.clone(),
        )
        .with(|server| server.keep_alive = KEEP_ALIVE)
    }

    pub fn site(&self, site: &str, address: SocketAddr) -> GrpcSite {
        GrpcSite::new(address.to_string(), self.identity(site)).with(|site| {
            site.reconnect_timeout = Duration::from_secs(20);
            site.keep_alive = KEEP_ALIVE;
        })
    }
}

/// Plays the server's part over a link, and gives the generator.
pub fn serve(mut link: GrpcServerLink, run: RunDescription, sites: u32, timeouts: Timeouts) -> JoinHandle<Result<(u64, Ledger), Error>> {
    thread::spawn(move || {
        let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
        let mut records = ServerRecords::default();
        ServerRun::new(run.clone(), sites, ServerPolicy::new(timeouts)).serve(&mut link, &mut work, &mut records, |_, _, _| {})?;
        Ok((work.generator, records.ledger))
    })
}

/// Plays a site's part over a link.
pub fn take_part(site: GrpcSite, mut work: StubSite) -> JoinHandle<Result<SiteRecords, Error>> {
    thread::spawn(move || {
        let mut link: GrpcSiteLink = site.start()?;
        let mut records = SiteRecords::default();
        SiteRun::new(SitePolicy::unrestricted()).take_part(&mut link, &mut work, &mut records, |_, _, _| {})?;
        Ok(records)
    })
}

/// What a relay between a site and its server does to a connection.
#[derive(Clone, Copy)]
pub enum Weather {
    /// Passes everything on.
    Fair,
    /// Breaks the connection after so many bytes to the site.
    BreaksAfter(usize),
    /// Passes on no more than so many bytes a second.
    Slow(usize),
    /// After so many bytes takes everything, and passes nothing on.
    SwallowsAfter(usize),
}

/// A relay on a port of its own; the receiver of `weather` is asked for every connection.
pub fn relay(to: SocketAddr, weather: impl Fn(usize) -> Weather + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
            let weather = weather(number);
            let (back, forth) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
            thread::spawn(move || pass(client, forth, if let Weather::BreaksAfter(_) = weather { Weather::Fair } else { weather }));
            thread::spawn(move || pass(server, back, weather));
        }
    });
    address
}

pub fn pass(mut from: TcpStream, mut to: TcpStream, weather: Weather) {
    let mut buffer = vec![0; 16 << 10];
    let mut passed = 0;
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        passed += n;
        match weather {
            Weather::BreaksAfter(limit) if passed > limit => break,
            Weather::Slow(rate) => thread::sleep(Duration::from_secs_f64(n as f64 / rate as f64)),
            Weather::SwallowsAfter(limit) if passed > limit => continue,
            Weather::Fair | Weather::BreaksAfter(_) | Weather::SwallowsAfter(_) => {}
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

/// Calls of a closure that end up in a list.
pub fn notice_channel() -> (impl Fn(&str) + Send + Sync + 'static, mpsc::Receiver<String>) {
    let (notice, notices) = mpsc::channel();
    (move |fact: &str| drop(notice.send(fact.to_owned())), notices)
}
