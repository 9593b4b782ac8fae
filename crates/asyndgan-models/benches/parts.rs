//! The parts of a round at the desk profile's sizes: losses, networks forwards and back, the optimiser's step. Two
//! threads an operation.
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use asyndgan_models::{
    Adam, AdamConfig, Conditioning, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise, NoiseInjection, Norm,
    ResNetConfig, Upsample,
    loss::{self, GanLoss},
    set_threads,
};
use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tch::{Device, Kind, Tensor};

fn waves(size: &[i64]) -> Tensor {
    (Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 0.1).sin().view(size)
}

fn losses(c: &mut Criterion) {
    set_threads(2);
    let (real, synthetic, image) = (waves(&[4, 1, 6, 6]), waves(&[4, 1, 6, 6]), waves(&[4, 3, 64, 64]));
    for game in [GanLoss::CrossEntropy, GanLoss::Hinge, GanLoss::LeastSquares] {
        c.bench_function(&format!("losses of both, {game:?}, batch 4"), |b| {
            b.iter(|| black_box((game.discriminator(&real, &synthetic), game.generator(&synthetic, &image, &image, 0.0))));
        });
    }
    let (logits, target) = (waves(&[8, 3, 64, 64]), waves(&[8, 64, 64]).gt(0.0).to_kind(Kind::Int64));
    c.bench_function("loss of a segmenter, batch 8, 3 classes, 64x64", |b| {
        b.iter(|| black_box(loss::segmentation(&logits, &target, None)));
    });
}

fn networks(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (norm, upsample, noise) = (Norm::Instance, Upsample::Nearest, NoiseInjection::MultiScale { code: 8 });
    let (condition_channels, image_channels, width, blocks, conditioning) = (1, 1, 16, 6, Conditioning::Spade);
    let config = ResNetConfig::new(condition_channels, image_channels).with(|network| {
        network.width = width;
        network.blocks = blocks;
        network.norm = norm;
        network.upsample = upsample;
        network.noise = noise;
        network.conditioning = conditioning;
    });
    let config = GeneratorConfig::ResNet(config);
    let generator = Generator::new(&config, Device::Cpu, &mut rng);
    let config = DiscriminatorConfig::Patch { channels: 2, width: 16, norm, spectral: true };
    let discriminator = Discriminator::new(&config, Device::Cpu, &mut rng);
    let image = waves(&[4, 1, 64, 64]);
    c.bench_function("generator forwards and back, batch 4, 64x64, width 16", |b| {
        b.iter(|| {
            let made = generator.forward(&image, &mut Noise::new(vec![(4, rng.clone())]));
            black_box(generator.parameters.gradient(&made.sum(Kind::Float)))
        });
    });
    c.bench_function("discriminator forwards and back, batch 4, 64x64, width 16", |b| {
        b.iter(|| black_box(discriminator.parameters.gradient(&discriminator.forward(&image, &image).sum(Kind::Float))));
    });
    let (weight, deep) = (waves(&[64, 64, 3, 3]).set_requires_grad(true), waves(&[4, 64, 16, 16]).set_requires_grad(true));
    c.bench_function("a residual block's convolution forwards and back, batch 4, 64 channels, 16x16", |b| {
        b.iter(|| {
            let sum = deep.conv2d::<&Tensor>(&weight, None, [1; 2], [1; 2], [1; 2], 1).sum(Kind::Float);
            black_box(Tensor::run_backward(&[&sum], &[&weight, &deep], false, false))
        });
    });
    let mut adam = Adam::new(AdamConfig { learning_rate: 2e-4, beta_1: 0.5, beta_2: 0.999 }, &generator.parameters);
    let gradient = generator.parameters.flat().full_like(1e-3);
    c.bench_function(&format!("a step of Adam, {} weights", generator.parameters.count()), |b| {
        b.iter(|| adam.step(&generator.parameters, &gradient, 1.0));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = losses, networks
}
criterion_main!(benches);
