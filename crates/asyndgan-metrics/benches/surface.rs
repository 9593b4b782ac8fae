//! HD95 of two overlapping balls in a volume.
#![allow(missing_docs, reason = "criterion's macros")]

use asyndgan_metrics::hd95;
use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::Array3;

fn surface(c: &mut Criterion) {
    let ball = |centre: f64| {
        Array3::from_shape_fn((60, 120, 120), |(z, y, x)| [z, y, x].iter().map(|&v| (v as f64 - centre).powi(2)).sum::<f64>() < 400.0)
    };
    let (truth, prediction) = (ball(30.0), ball(33.0));
    c.bench_function("hd95 60x120x120", |b| b.iter(|| hd95(truth.view(), prediction.view(), &[1.0; 3])));
}

criterion_group!(benches, surface);
criterion_main!(benches);
