//! Counting messages: in memory, and with one line on disk per message.
#![allow(missing_docs, reason = "criterion's macros")]

use asyndgan_protocol::{MessageKind, SiteId};
use asyndgan_transport::{Ledger, LedgerLine};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn ledger(c: &mut Criterion) {
    const ROUNDS: u64 = 100;
    let fill = |ledger: &mut Ledger| {
        for round in 0..ROUNDS {
            for site in (0..10).map(SiteId) {
                for kind in [MessageKind::Round, MessageKind::Feedback] {
                    ledger.count(LedgerLine { site, kind, round: Some(round), bytes: 16_400 }).expect("counted");
                }
            }
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = c.benchmark_group("ledger, 100 rounds of 10 sites");
    group.throughput(Throughput::Elements(ROUNDS * 20));
    group.bench_function("in memory", |b| b.iter(|| fill(&mut Ledger::default())));
    let mut kept = Ledger::open(&folder.path().join("ledger.csv")).expect("a ledger");
    group.bench_function("kept in a file", |b| b.iter(|| fill(&mut kept)));
    group.finish();
}

criterion_group!(benches, ledger);
criterion_main!(benches);
