//! Cost of the transport: rounds with sites that compute nothing, and one large batch each way compared with TLS alone.
#![allow(missing_docs, clippy::disallowed_methods, reason = "criterion's macros; benchmarks look at the clock")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use asyndgan_protocol::{
    Draw, Losses, Payload, Readiness, RequestedTraining, RoundDraw, RunDescription, ServerPolicy, ServerWork, SiteId, SitePolicy,
    SiteRandomness, SiteSummary, SiteWork, Waiting,
};
use asyndgan_transport::{Ledger, ServerRecords, ServerRun, ServerRunEvent, SiteRecords, SiteRun, in_memory};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use support::{PATIENT, keys, learning};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned, crypto::ring, version::TLS13,
};

/// Returns the same bytes every time.
struct Idle {
    batch: Payload,
    summary: SiteSummary,
}

impl SiteWork for Idle {
    type Error = std::convert::Infallible;

    fn summary(&mut self) -> SiteSummary {
        self.summary.clone()
    }
    fn conditions(&mut self) -> Payload {
        conditions(self.summary.image_dims[1])
    }
    fn patients(&mut self) -> Vec<u32> {
        (0..self.summary.cases).collect()
    }
    fn randomness(&self) -> SiteRandomness {
        SiteRandomness::Seed
    }
    fn inspect(&mut self, _: SiteId, _: &RunDescription) -> Result<RequestedTraining, Self::Error> {
        Ok(learning())
    }
    fn checkpoints(&mut self, _: SiteId, _: &RunDescription) -> Result<Vec<u64>, Self::Error> {
        Ok(Vec::new())
    }
    fn begin(&mut self, _: SiteId, _: &RunDescription, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }
    fn prepare(&mut self, _: u64, _: &RoundDraw) -> Result<Readiness, Self::Error> {
        Ok(Readiness::Ready)
    }
    fn step(&mut self, _: u64, _: &RoundDraw, _: &Payload) -> Result<(Payload, Losses), Self::Error> {
        Ok((self.batch.clone(), Losses { discriminator: 0.5, generator: 0.5 }))
    }
    fn checkpoint(&mut self, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl ServerWork for Idle {
    type Error = std::convert::Infallible;

    fn checkpoints(&mut self) -> Result<Vec<u64>, Self::Error> {
        Ok(Vec::new())
    }
    fn stored_conditions(&mut self) -> Result<Vec<(SiteId, SiteSummary)>, Self::Error> {
        Ok(Vec::new())
    }
    fn store_conditions(&mut self, _: SiteId, _: &SiteSummary, _: Payload) -> Result<Option<String>, Self::Error> {
        Ok(None)
    }
    fn begin(&mut self, _: u64) -> Result<Vec<Vec<f32>>, Self::Error> {
        Ok(Vec::new())
    }
    fn prepare(&mut self, _: u64, _: &[Draw]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn synthesize(&mut self, _: u64, draws: &[Draw]) -> Result<Vec<Payload>, Self::Error> {
        Ok(draws.iter().map(|_| self.batch.clone()).collect())
    }
    fn update(&mut self, _: u64, _: &[asyndgan_protocol::Contribution]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn checkpoint(&mut self, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn conditions(side: u32) -> Payload {
    Payload::new(vec![2, side, side], asyndgan_protocol::Dtype::U8, vec![1; (2 * side * side) as usize])
}

/// Images of a round: sites, batch, channels, rows.
#[derive(Clone, Copy)]
struct Shape {
    sites: u32,
    batch: u32,
    channels: u32,
    side: u32,
}

impl Shape {
    fn run(self, rounds: u64) -> RunDescription {
        support::run(rounds, Waiting::All).with(|run| {
            run.batch = self.batch;
            run.channels = self.channels;
            run.size = self.side;
            run.crop = self.side;
            run.checkpoint_every = 0;
        })
    }

    fn idle(self) -> Idle {
        let image_dims = vec![self.channels, self.side, self.side];
        let dims = self.run(1).batch_dims(&image_dims);
        let n: u32 = dims.iter().product();
        let bytes: Vec<u8> = (0..n).flat_map(|k| (k as f32 / n as f32).sin().to_le_bytes()).collect();
        let batch = Payload::new(dims, asyndgan_protocol::Dtype::F32, bytes);
        Idle { batch, summary: SiteSummary { cases: 2, image_dims, conditions_sha256: conditions(self.side).sha256() } }
    }

    /// Time for this many rounds, after one round that is not counted.
    fn rounds(self, rounds: u64, over_network: bool) -> Duration {
        let run = self.run(rounds + 1);
        let (mut first, mut last) = (None, None);
        let watch = |news: ServerRunEvent<'_>| {
            if let ServerRunEvent::Round { .. } = news {
                first.get_or_insert_with(Instant::now);
                last = Some(Instant::now());
            }
        };
        if over_network {
            self.over_network(&run, watch);
        } else {
            self.in_memory(&run, watch);
        }
        last.zip(first).map_or(Duration::ZERO, |(last, first)| last - first)
    }

    fn in_memory(self, run: &RunDescription, mut watch: impl FnMut(ServerRunEvent<'_>)) {
        let (mut link, sites) = in_memory(self.sites);
        thread::scope(|scope| {
            for mut link in sites {
                scope.spawn(move || {
                    SiteRun::new(SitePolicy::unrestricted()).take_part(
                        &mut link,
                        &mut self.idle(),
                        &mut SiteRecords::default(),
                        |_, _, _| {},
                    )
                });
            }
            let watch = |news: ServerRunEvent<'_>, _: &Idle, _: &Ledger| watch(news);
            ServerRun::new(run.clone(), self.sites, ServerPolicy::unrestricted(PATIENT))
                .serve(&mut link, &mut self.idle(), &mut ServerRecords::default(), watch)
                .expect("ends");
        });
    }

    fn over_network(self, run: &RunDescription, mut watch: impl FnMut(ServerRunEvent<'_>)) {
        let mut keys = keys();
        let names: Vec<String> = (0..self.sites).map(|i| format!("site-{i}")).collect();
        for name in &names {
            keys.authority.issue(name, 30).expect("issued");
        }
        let listed: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut link = keys.server(&listed, run, 0).start(|_| {}).expect("listens");
        let address = link.address();
        thread::scope(|scope| {
            for name in &names {
                let site = keys.site(name, address).with(|site| {
                    site.reconnect_timeout = Duration::from_mins(5);
                    site.keep_alive = Duration::from_mins(1);
                });
                scope.spawn(move || {
                    let mut link = site.start().expect("dials");
                    SiteRun::new(SitePolicy::unrestricted())
                        .take_part(&mut link, &mut self.idle(), &mut SiteRecords::default(), |_, _, _| {})
                        .expect("ends");
                });
            }
            let watch = |news: ServerRunEvent<'_>, _: &Idle, _: &Ledger| watch(news);
            ServerRun::new(run.clone(), self.sites, ServerPolicy::unrestricted(PATIENT))
                .serve(&mut link, &mut self.idle(), &mut ServerRecords::default(), watch)
                .expect("ends");
        });
    }
}

/// Time for this many round trips of this many bytes over TLS alone.
fn tls(bytes: usize, times: u64) -> Duration {
    let keys = keys();
    let read = |name: &str| std::fs::read(keys.folder.path().join(name)).expect("read");
    let (bundle, authority) = (read("server.pem"), read("ca.pem"));
    let provider = Arc::new(ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(&bundle).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(&bundle).expect("a key");
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13]).expect("tls");
    let server = server.with_no_client_auth().with_single_cert(chain, key).expect("tls");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority).expect("a certificate")).expect("added");
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).expect("tls");
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let echo = thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("a connection");
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(server)).expect("tls"), tcp);
        let mut buffer = vec![0; bytes];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer).and_then(|()| stream.flush()).expect("sent");
        }
    });
    let tcp = TcpStream::connect(address).expect("connects");
    tcp.set_nodelay(true).expect("set");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(client), name).expect("tls"), tcp);
    let mut buffer = vec![1; bytes];
    let mut once = || {
        stream.write_all(&buffer).and_then(|()| stream.flush()).expect("sent");
        stream.read_exact(&mut buffer).expect("received");
    };
    once();
    let began = Instant::now();
    (0..times).for_each(|_| once());
    let took = began.elapsed();
    drop(stream);
    echo.join().expect("no panic");
    took
}

fn large(c: &mut Criterion) {
    let shape = Shape { sites: 1, batch: 8, channels: 3, side: 256 };
    let bytes = 8 * 3 * 256 * 256 * 4;
    let mut group = c.benchmark_group("round trip of a batch of 8 images of 3 x 256 x 256 in f32");
    group.throughput(Throughput::Bytes(2 * bytes as u64));
    group.bench_function("TLS alone", |b| b.iter_custom(|times| tls(bytes, times)));
    group.bench_function("one round", |b| b.iter_custom(|rounds| shape.rounds(rounds, true)));
    group.finish();
}

fn desk(c: &mut Criterion) {
    let mut group = c.benchmark_group("transport of one round with 10 sites of the desk profile");
    for (name, batch, channels) in [("brains, 1 x 1 x 64 x 64", 1, 1), ("tissue, 4 x 3 x 64 x 64", 4, 3)] {
        let shape = Shape { sites: 10, batch, channels, side: 64 };
        group.bench_function(format!("{name}, mutual TLS"), |b| b.iter_custom(|rounds| shape.rounds(rounds, true)));
        group.bench_function(format!("{name}, in memory"), |b| b.iter_custom(|rounds| shape.rounds(rounds, false)));
    }
    group.finish();
}

fn sites(c: &mut Criterion) {
    let mut group = c.benchmark_group("one round by number of sites, 1 x 1 x 64 x 64, mutual TLS");
    for sites in [1, 2, 4, 8, 16, 32, 64] {
        let shape = Shape { sites, batch: 1, channels: 1, side: 64 };
        group.bench_function(BenchmarkId::from_parameter(sites), |b| b.iter_custom(|rounds| shape.rounds(rounds, true)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(4));
    targets = large, desk, sites
}
criterion_main!(benches);
