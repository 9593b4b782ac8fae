//! All instance metrics and the Dice coefficient of a tile of 1000 x 1000 with 1,800 nuclei, beside Python's way of
//! computing them (`reference.py`, with `PYTHON_WITH_METRICS=/path/to/python`).
#![allow(missing_docs, reason = "benchmark")]

mod python;

use asyndgan_metrics::{Confusion, Convention, ConventionName, score_instances};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;

/// 45 x 40 discs on a grid, each moved and grown a little; `reference.py` makes the same.
fn nuclei(shift: usize, grown: usize) -> Array2<u32> {
    let mut labels = Array2::zeros((1000, 1000));
    for k in 0..1800_usize {
        let (row, column) = (12 + 22 * (k / 40) + k * 7 % 5 + shift, 12 + 24 * (k % 40) + k * 11 % 7 + shift * (k % 3));
        let square = (30 + k * 13 % 50 + grown) as i64;
        for r in row.saturating_sub(10)..(row + 11).min(1000) {
            for c in column.saturating_sub(10)..(column + 11).min(1000) {
                let (dy, dx) = (r as i64 - row as i64, c as i64 - column as i64);
                if dy * dy + dx * dx <= square {
                    labels[[r, c]] = k as u32 + 1;
                }
            }
        }
    }
    labels
}

fn instances(criterion: &mut Criterion) {
    let (truth, prediction) = (nuclei(0, 0), nuclei(2, 9));
    let mut group = criterion.benchmark_group("1,800 nuclei");
    group.sample_size(10);
    // Both maps are read once: the rate is to be held against the copy's.
    group.throughput(Throughput::Bytes(8 * truth.len() as u64));
    group.bench_function("this crate", |b| {
        b.iter(|| {
            let masks = (truth.mapv(|l| l > 0), prediction.mapv(|l| l > 0));
            let dice = Confusion::new(masks.0.view(), masks.1.view()).dice();
            (dice, score_instances(truth.view(), prediction.view(), &Convention::new(ConventionName::Standard, "tile")))
        });
    });
    group.bench_function("memcpy of both maps", |b| b.iter(|| (truth.clone(), prediction.clone())));
    python::bench(&mut group, "python", &["instances", "python", "tile"]);
    group.finish();
}

criterion_group!(benches, instances);
criterion_main!(benches);
