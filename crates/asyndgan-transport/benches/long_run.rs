//! One long run with stub workers, two sites and all records on disk: seconds per round, memory and records by the
//! number of rounds, as a Markdown table. `cargo bench --package asyndgan-transport --bench long_run -- 1000000` runs a
//! million rounds.
#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark looks at the clock and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{fs, path::Path, thread, time::Instant};

use asyndgan_protocol::{ServerPolicy, SitePolicy, Waiting};
use asyndgan_transport::{Journal, Ledger, ServerRecords, ServerRun, ServerRunEvent, SiteRecords, SiteRun, in_memory};
use support::{PATIENT, StubServer, run, stub_site};

/// Rounds without an argument.
const ROUNDS: u64 = 100_000;
const SITES: u32 = 2;

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |facts| facts.len())
}

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let folder = tempfile::tempdir().expect("a folder");
    let run = run(rounds, Waiting::All).with(|run| run.checkpoint_every = 1_000);
    let (mut link, sites) = in_memory(SITES);
    let ledger = |name: &str| Ledger::open(&folder.path().join(format!("{name}.csv"))).expect("a ledger");
    let journal = |site: u32| folder.path().join(format!("{site}.jsonl"));
    println!("|rounds|microseconds per round|resident memory, MB|journal, bytes per round|server's ledger, bytes per round|");
    println!("|---:|---:|---:|---:|---:|");
    thread::scope(|scope| {
        for (site, mut link) in (0..SITES).zip(sites) {
            let mut records = SiteRecords {
                ledger: ledger(&format!("site-{site}")),
                journal: Some(Journal::open(&journal(site)).expect("a journal")),
                ..SiteRecords::default()
            };
            scope.spawn(move || {
                let part = SiteRun::new(SitePolicy::unrestricted());
                part.take_part(&mut link, &mut stub_site(3 + site), &mut records, |_, _, _| {}).expect("ends");
            });
        }
        let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
        let mut records = ServerRecords { ledger: ledger("server"), receipts: None };
        // A row for each power of ten, measured over its last tenth.
        let (mut row, mut begun) = (1_000, Instant::now());
        let serving = ServerRun::new(run.clone(), SITES, ServerPolicy::unrestricted(PATIENT));
        let watch = |news: ServerRunEvent<'_>, _: &StubServer, _: &Ledger| {
            let ServerRunEvent::Round { rounds_done, .. } = news else { return };
            if rounds_done == row - row / 10 {
                begun = Instant::now();
            }
            if rounds_done == row {
                let micros = begun.elapsed().as_secs_f64() * 1e6 / (row / 10) as f64;
                let (memory, of_journal, of_ledger) =
                    (resident_bytes() as f64 / 1e6, length(&journal(0)), length(&folder.path().join("server.csv")));
                println!("|{row}|{micros:.0}|{memory:.0}|{}|{}|", of_journal / row, of_ledger / row);
                row *= 10;
            }
        };
        serving.serve(&mut link, &mut work, &mut records, watch).expect("ends");
    });
}
