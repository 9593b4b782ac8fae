//! One discriminator step and one generator step of the desk profile's networks.
#![allow(missing_docs, reason = "criterion's macros")]

use asyndgan_models::{
    Adam, AdamConfig, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise, Norm, Upsample, Variation, loss::Game,
};
use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tch::{Device, Kind, Tensor};

fn round(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (norm, upsample, variation) = (Norm::Instance, Upsample::Nearest, Variation::EveryScale { code: 8 });
    let config = GeneratorConfig::ResNet { condition_channels: 1, image_channels: 1, width: 16, blocks: 6, norm, upsample, variation };
    let generator = Generator::new(&config, Device::Cpu, &mut rng);
    let config = DiscriminatorConfig::Patch { channels: 2, width: 16, norm, spectral: true };
    let discriminator = Discriminator::new(&config, Device::Cpu, &mut rng);
    let settings = AdamConfig { learning_rate: 2e-4, beta_1: 0.5, beta_2: 0.999 };
    let mut adams = [Adam::new(settings, &generator.parameters), Adam::new(settings, &discriminator.parameters)];
    let condition = Tensor::ones([4, 1, 64, 64], (Kind::Float, Device::Cpu));
    let real = condition.cumsum(2, Kind::Float) / 64.0;
    c.bench_function("one site's round, batch 4, 64x64, width 16", |b| {
        b.iter(|| {
            let synthetic = generator.forward(&condition, &mut Noise::new(vec![(4, rng.clone())]));
            let on_real = discriminator.forward(&condition, &real);
            let on_synthetic = discriminator.forward(&condition, &synthetic.detach());
            let loss = Game::Hinge.discriminator(&on_real, &on_synthetic);
            adams[1].step(&discriminator.parameters, &discriminator.parameters.gradient(&loss), 1.0);
            discriminator.settle();
            let loss = Game::Hinge.generator(&discriminator.forward(&condition, &synthetic), &synthetic, &real, 0.0);
            adams[0].step(&generator.parameters, &generator.parameters.gradient(&loss), 1.0);
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = round
}
criterion_main!(benches);
