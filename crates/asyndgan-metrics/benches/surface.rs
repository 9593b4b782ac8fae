//! Surfaces of two volumes of 240 x 240 x 155, a tumour's and a brain's, beside a memcpy of the same bytes and beside
//! MONAI and medpy: `PYTHON_WITH_METRICS=/path/to/python` adds them in the same run (`reference.py`).
#![allow(missing_docs, reason = "benchmark")]

mod python;

use asyndgan_metrics::{SurfaceDistances, hd95};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array3;

const SHAPE: (usize, usize, usize) = (155, 240, 240);

/// An ellipsoid with a wavy surface; `reference.py` makes the same.
fn blob(centre: [f64; 3], radii: [f64; 3]) -> Array3<bool> {
    Array3::from_shape_fn(SHAPE, |(z, y, x)| {
        let [a, b, c] = [(z as f64 - centre[0]) / radii[0], (y as f64 - centre[1]) / radii[1], (x as f64 - centre[2]) / radii[2]];
        a * a + b * b + c * c < 1.0 + 0.15 * (9.0 * a).sin() * (11.0 * b).cos() * (7.0 * c).sin()
    })
}

fn surface(criterion: &mut Criterion) {
    for (name, radii) in [("tumour", [22.0, 30.0, 26.0]), ("brain", [62.0, 85.0, 70.0])] {
        let (truth, prediction) = (blob([80.0, 120.0, 118.0], radii), blob([82.0, 117.0, 120.0], radii.map(|r| r * 0.96)));
        let mut group = criterion.benchmark_group(format!("hd95 of a {name}"));
        group.sample_size(10);
        // Both masks are read once: the rate is to be held against the copy's.
        group.throughput(Throughput::Bytes(2 * truth.len() as u64));
        group.bench_function("this crate", |b| b.iter(|| hd95(truth.view(), prediction.view(), &[1.0; 3])));
        group.bench_function("all surface metrics", |b| {
            b.iter(|| {
                let found = SurfaceDistances::new(truth.view(), prediction.view(), &[1.0; 3]).expect("both mark something");
                (found.hausdorff(), found.average(), found.surface_dice(1.0))
            });
        });
        group.bench_function("memcpy of both masks", |b| b.iter(|| (truth.clone(), prediction.clone())));
        for reference in ["monai", "medpy"] {
            python::bench(&mut group, reference, &["surface", reference, name]);
        }
        group.finish();
    }
}

criterion_group!(benches, surface);
criterion_main!(benches);
