//! Laws of the networks and the optimiser.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use asyndgan_models::{
    Adam, AdamConfig, Conditioning, Discriminator, DiscriminatorConfig, Error, Generator, GeneratorConfig, Noise, NoiseInjection, Norm,
    Parameters, ResNetConfig, Segmenter, SegmenterConfig, Upsample,
    loss::{self, GanLoss},
    read_metadata, read_tensors, write_tensors, write_with_metadata,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tch::{
    Device, Kind, Tensor,
    nn::{self, OptimizerConfig as _},
};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn resnet(channels: i64, width: i64, blocks: usize, norm: Norm, upsample: Upsample, noise: NoiseInjection) -> GeneratorConfig {
    let conditioning = Conditioning::Input;
    GeneratorConfig::ResNet(ResNetConfig::new(channels, channels).with(|network| {
        network.width = width;
        network.blocks = blocks;
        network.norm = norm;
        network.upsample = upsample;
        network.noise = noise;
        network.conditioning = conditioning;
    }))
}

fn small(norm: Norm) -> GeneratorConfig {
    resnet(1, 4, 1, norm, Upsample::Transposed, NoiseInjection::Dropout)
}

fn varied() -> GeneratorConfig {
    resnet(1, 4, 1, Norm::Instance, Upsample::Nearest, NoiseInjection::MultiScale { code: 3 })
}

fn patch(channels: i64, width: i64, norm: Norm, spectral: bool) -> DiscriminatorConfig {
    DiscriminatorConfig::Patch { channels, width, norm, spectral }
}

#[test]
fn parameter_counts_are_those_of_the_paper() {
    let generator = resnet(3, 64, 9, Norm::Batch, Upsample::Transposed, NoiseInjection::Dropout);
    assert_eq!(Generator::new(&generator, Device::Cpu, &mut rng(0)).parameters.count(), 11_383_427);
    let discriminator = patch(6, 64, Norm::Batch, false);
    assert_eq!(Discriminator::new(&discriminator, Device::Cpu, &mut rng(0)).parameters.count(), 2_768_705);
}

#[test]
fn joining_batches_changes_nothing_under_instance_norm() {
    let generator = Generator::new(&varied(), Device::Cpu, &mut rng(0));
    let conditions: Vec<Tensor> =
        (0..3).map(|k| (Tensor::arange(256 * 2, (Kind::Float, Device::Cpu)) * (0.1 + f64::from(k))).sin().view([2, 1, 16, 16])).collect();
    let apart: Vec<Tensor> =
        (0..).zip(&conditions).map(|(k, c)| generator.forward(c, &mut Noise::new(vec![(2, rng(k))]).of_sites(vec![k as u32; 2]))).collect();
    let noise = Noise::new((0..3).map(|k| (2, rng(k))).collect());
    let joined = generator.forward(&Tensor::cat(&conditions, 0), &mut noise.of_sites(vec![0, 0, 1, 1, 2, 2]));
    // A pass draws noise by layer: joined, each part's own stream goes on from layer to layer as it does alone.
    assert!((Tensor::cat(&apart, 0) - joined).abs().max().double_value(&[]) < 1e-5);

    let discriminator = Discriminator::new(&patch(2, 4, Norm::Instance, true), Device::Cpu, &mut rng(1));
    let side = |k: usize| conditions[k].repeat([1, 1, 2, 2]);
    let both = discriminator.forward(&Tensor::cat(&[side(0), side(0)], 0), &Tensor::cat(&[side(1), side(2)], 0));
    let apart = [side(1), side(2)].map(|image| discriminator.forward(&side(0), &image));
    assert!((Tensor::cat(&apart, 0) - both).abs().max().double_value(&[]) < 1e-5);
}

#[test]
fn dropout_is_random_by_stream_and_off_when_off() {
    let generator = Generator::new(&small(Norm::Instance), Device::Cpu, &mut rng(0));
    let condition = Tensor::ones([1, 1, 16, 16], (Kind::Float, Device::Cpu)).cumsum(2, Kind::Float);
    let with = |seed| generator.forward(&condition, &mut Noise::new(vec![(1, rng(seed))]));
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
    assert_eq!(generator.forward(&condition, &mut Noise::off()), generator.forward(&condition, &mut Noise::off()));
}

#[test]
fn noise_at_every_scale_varies_colour_and_detail_and_is_off_when_off() {
    let generator = Generator::new(&varied(), Device::Cpu, &mut rng(0));
    let condition = Tensor::ones([1, 1, 16, 16], (Kind::Float, Device::Cpu)).cumsum(2, Kind::Float);
    let off = generator.forward(&condition, &mut Noise::off());
    assert_eq!(off, generator.forward(&condition, &mut Noise::off()));
    // With weights of nothing the code changes nothing.
    let mean = |weight: f64| {
        let tensors = generator.parameters.named().into_iter().map(|(name, t)| {
            let of_code = name.contains(".scale") || name.contains(".shift");
            let t = if of_code { t.full_like(weight) } else { t };
            (name, t)
        });
        let mut generator = Generator::new(&varied(), Device::Cpu, &mut rng(0));
        generator.parameters.load(&tensors.collect()).expect("the same network");
        let spread = |seed| generator.forward(&condition, &mut Noise::new(vec![(1, rng(seed))])).mean(Kind::Float).double_value(&[]);
        (spread(1) - spread(2)).abs()
    };
    assert!(mean(4.0) > 3.0 * mean(0.0), "{} {}", mean(4.0), mean(0.0));
}

#[test]
fn an_image_shows_its_site_where_the_generator_is_told() {
    let generator = Generator::new(&varied(), Device::Cpu, &mut rng(0));
    let condition = Tensor::ones([1, 1, 16, 16], (Kind::Float, Device::Cpu)).cumsum(2, Kind::Float);
    let of = |sites: Vec<u32>| generator.forward(&condition, &mut Noise::new(vec![(1, rng(1))]).of_sites(sites));
    assert_eq!(of(vec![2]), of(vec![2]));
    let all: Vec<Tensor> = [vec![], vec![0], vec![1], vec![2], vec![3]].map(of).into();
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| one != other), "{i}");
    }
}

#[test]
fn guidance_of_no_weight_is_none() {
    let build = |conditioning| {
        let GeneratorConfig::ResNet(config) = varied() else { unreachable!("a network for images") };
        Generator::new(&GeneratorConfig::ResNet(config.with(|network| network.conditioning = conditioning)), Device::Cpu, &mut rng(0))
    };
    let (mut guided, mut plain) = (build(Conditioning::Spade), build(Conditioning::Input));
    let condition = Tensor::eye(16, (Kind::Float, Device::Cpu)).view([1, 1, 16, 16]) * 2.0 - 1.0;
    let made = |generator: &Generator| generator.forward(&condition, &mut Noise::new(vec![(1, rng(3))]));
    // A guide stands between a norm and what follows: names behind it move on by one.
    let is_guide = |t: &Tensor| t.size().ends_with(&[5, 5]);
    let mut tensors = guided.parameters.named();
    let of_plain = plain.parameters.named().into_keys().collect::<Vec<_>>();
    let place = |name: &String| name.split('.').nth(1).and_then(|n| n.parse::<usize>().ok()).expect("a layer's place");
    let guides: Vec<usize> = tensors.iter().filter(|(_, t)| is_guide(t)).map(|(name, _)| place(name)).collect();
    assert_eq!(guides.len(), 2);
    let moved = |name: &String| {
        let old = place(name) - guides.iter().filter(|&&g| g < place(name)).count();
        name.replacen(&format!(".{}.", place(name)), &format!(".{old}."), 1)
    };
    let weights = tensors.iter().filter(|(_, t)| !is_guide(t)).map(|(name, t)| (moved(name), t.shallow_clone()));
    plain.parameters.load(&weights.collect()).expect("the same layers");
    assert_eq!(plain.parameters.named().into_keys().collect::<Vec<_>>(), of_plain);
    assert_ne!(made(&guided), made(&plain));
    for tensor in tensors.values_mut().filter(|t| is_guide(t)) {
        *tensor = tensor.zeros_like();
    }
    guided.parameters.load(&tensors).expect("the same network");
    assert_eq!(made(&guided), made(&plain));
}

#[test]
fn spectral_norm_holds_every_layer_at_one() {
    let discriminator = Discriminator::new(&patch(2, 4, Norm::Instance, true), Device::Cpu, &mut rng(1));
    for _ in 0..1000 {
        discriminator.update_spectral_norm();
    }
    let tensors = discriminator.parameters.named();
    assert_eq!(tensors.keys().filter(|name| name.ends_with("weight_u")).count(), 5);
    for (name, direction) in tensors.iter().filter(|(name, _)| name.ends_with("weight_u")) {
        let weight = tensors[name.trim_end_matches("_u")].flatten(1, -1);
        // The direction is that of the largest singular value: no other makes the weight longer.
        let by_direction = weight.tr().mv(direction).norm().double_value(&[]);
        let largest = weight.matmul(&weight.tr()).linalg_eigvalsh("L").max().sqrt().double_value(&[]);
        assert!((by_direction - largest).abs() < 1e-3 * largest, "{name}: {by_direction} of {largest}");
    }
    // What a pass sees does not change before the next step, and weights ten times as large make no difference.
    let x = Tensor::ones([1, 1, 32, 32], (Kind::Float, Device::Cpu)).cumsum(2, Kind::Float);
    let before = discriminator.forward(&x, &x);
    assert_eq!(before, discriminator.forward(&x, &x));
    tch::no_grad(|| {
        for (_, mut weight) in tensors.into_iter().filter(|(name, _)| name.ends_with(".weight")) {
            let _ = weight.g_mul_scalar_(10.0);
        }
    });
    assert!((before - discriminator.forward(&x, &x)).abs().max().double_value(&[]) < 1e-4);
}

fn unet() -> Discriminator {
    let config = DiscriminatorConfig::UNet { condition_channels: 2, image_channels: 1, width: 4, spectral: false };
    Discriminator::new(&config, Device::Cpu, &mut rng(0))
}

/// Two images' conditions in planes: half background, a band of the first code, and one pixel of the second in the
/// first image alone.
fn bands() -> Tensor {
    let planes = Tensor::full([2, 2, 16, 16], -1.0, (Kind::Float, Device::Cpu));
    let _ = planes.narrow(1, 0, 1).narrow(2, 8, 8).fill_(1.0);
    let _ = planes.get(0).get(1).get(0).get(5).fill_(1.0);
    planes
}

#[test]
fn to_a_discriminator_that_segments_every_class_is_worth_the_same() {
    let mut discriminator = unet();
    let none = discriminator.parameters.named().into_iter().map(|(name, t)| (name, t.zeros_like()));
    discriminator.parameters.load(&none.collect()).expect("the same network");
    let (planes, image) = (bands(), Tensor::ones([2, 1, 16, 16], (Kind::Float, Device::Cpu)));
    let says = discriminator.forward(&planes, &image);
    assert_eq!(says.size(), [2, 2, 16, 16]);
    // A network of nothing takes all six answers (background and two codes, real and synthetic) for as likely.
    let chance = -(6.0_f64.ln());
    let codes = planes.gt(0.0);
    let (first, second) = (codes.select(1, 0), codes.select(1, 1));
    let background = first.logical_or(&second).logical_not();
    for said in [says.select(1, 0), says.select(1, 1)] {
        let sum = |of: &Tensor| (&said * of.to_kind(Kind::Float)).sum(Kind::Float).double_value(&[]);
        for class in [&first, &second, &background] {
            assert!((sum(class) - chance * 512.0 / 3.0).abs() < 1e-2, "{} of {}", sum(class), chance * 512.0 / 3.0);
        }
    }
    // A class that no image shows takes nothing from the others.
    let alone = discriminator.forward(&planes.get(1).unsqueeze(0), &image.narrow(0, 0, 1));
    assert!((alone.select(1, 0).mean(Kind::Float).double_value(&[]) - chance).abs() < 1e-5);
}

#[test]
fn a_discriminator_that_segments_learns_the_classes_and_tells_the_generator() {
    let discriminator = unet();
    let condition = bands();
    let real = condition.narrow(1, 0, 1) * 0.7 - condition.narrow(1, 1, 1) * 0.3;
    let synthetic = -&real;
    let mut adam = Adam::new(AdamConfig { learning_rate: 1e-2, beta_1: 0.5, beta_2: 0.999 }, &discriminator.parameters);
    let gan_loss = GanLoss::Segmentation;
    let lost = || gan_loss.discriminator(&discriminator.forward(&condition, &real), &discriminator.forward(&condition, &synthetic));
    for _ in 0..100 {
        adam.step(&discriminator.parameters, &discriminator.parameters.gradient(&lost()), 1.0);
    }
    // Of chance, ln 6.
    assert!(lost().double_value(&[]) < 0.2, "{}", lost().double_value(&[]));
    // The generator's loss is below zero on what is real, and its gradient leads from the synthetic image towards that.
    let cost = |image: &Tensor| gan_loss.generator(&discriminator.forward(&condition, image), image, image, 0.0);
    assert!(cost(&real).double_value(&[]) < 0.0 && cost(&synthetic).double_value(&[]) > 0.0);
    let image = synthetic.set_requires_grad(true);
    let feedback = Tensor::run_backward(&[cost(&image)], &[&image], false, false).swap_remove(0);
    assert!((feedback * (real - image.detach())).sum(Kind::Float).double_value(&[]) < 0.0);
}

#[test]
fn a_generator_gains_nothing_by_classes_that_show_more_clearly() {
    let mut discriminator = unet();
    // Sure of classes, but real and synthetic ones look the same to it.
    let named = discriminator.parameters.named().into_iter().map(|(name, tensor)| {
        let rows = tensor.narrow(0, 0, tensor.size()[0] / 2);
        let tensor = if name.starts_with("head") { Tensor::cat(&[&rows, &rows], 0) * 10.0 } else { tensor.copy() };
        (name, tensor)
    });
    let twins = named.collect();
    discriminator.parameters.load(&twins).expect("the same network");
    let condition = bands();
    let image = (Tensor::arange(512, (Kind::Float, Device::Cpu)) * 0.7).sin().view([2, 1, 16, 16]).set_requires_grad(true);
    let says = discriminator.forward(&condition, &image);
    // That a class shows more clearly would pay if it were asked for alone.
    let alone = Tensor::run_backward(&[-says.select(1, 0).mean(Kind::Float)], &[&image], true, false).swap_remove(0);
    assert!(alone.abs().max().double_value(&[]) > 1e-4, "{alone:?}");
    let loss = GanLoss::Segmentation.generator(&says, &image, &image, 0.0);
    let feedback = Tensor::run_backward(&[&loss], &[&image], false, false).swap_remove(0);
    assert!(loss.double_value(&[]).abs() < 1e-6 && feedback.abs().max().double_value(&[]) < 1e-6, "{loss:?} {feedback:?}");
}

#[test]
fn adam_takes_its_textbook_first_steps() {
    let config = GeneratorConfig::Mlp { condition_channels: 1, image_channels: 1, width: 2, noise: 1 };
    let generator = Generator::new(&config, Device::Cpu, &mut rng(0));
    let before = generator.parameters.flat().copy();
    let settings = AdamConfig { learning_rate: 0.1, beta_1: 0.5, beta_2: 0.999 };
    let mut adam = Adam::new(settings, &generator.parameters);
    let gradient = before.ones_like() * 3.0;
    adam.step(&generator.parameters, &gradient, 1.0);
    // The first corrected moments are g and g squared: a step of the learning rate against the sign.
    assert!((&before - generator.parameters.flat() - 0.1).abs().max().double_value(&[]) < 1e-6);
    // Kept and taken back, it goes on the same.
    let kept = adam.state("adam");
    let mut other = Adam::new(settings, &generator.parameters);
    other.restore("adam", &kept.iter().map(|(k, t)| (k.clone(), t.copy())).collect()).expect("state fits");
    let at = generator.parameters.flat().copy();
    adam.step(&generator.parameters, &(&gradient * -1.0), 0.5);
    let straight = generator.parameters.flat().copy();
    tch::no_grad(|| generator.parameters.flat().shallow_clone().copy_(&at));
    other.step(&generator.parameters, &(&gradient * -1.0), 0.5);
    assert_eq!(straight, generator.parameters.flat().copy());
}

#[test]
fn adam_takes_the_steps_of_pytorch() {
    let config = GeneratorConfig::Mlp { condition_channels: 1, image_channels: 1, width: 2, noise: 1 };
    let generator = Generator::new(&config, Device::Cpu, &mut rng(0));
    let settings = AdamConfig { learning_rate: 0.05, beta_1: 0.5, beta_2: 0.9 };
    let mut adam = Adam::new(settings, &generator.parameters);
    // The same parameters under libtorch's own optimiser.
    let theirs = nn::VarStore::new(Device::Cpu);
    let flat = theirs.root().var_copy("flat", &generator.parameters.flat().copy());
    let mut optimiser = nn::Adam { beta1: 0.5, beta2: 0.9, wd: 0.0, eps: 1e-8, amsgrad: false }.build(&theirs, 0.05).expect("an optimiser");
    for step in 0..4 {
        // Gradients of changing sign and size: every step depends on both moments of those before.
        let gradient =
            ((Tensor::arange(flat.numel() as i64, (Kind::Float, Device::Cpu)) + f64::from(step)) * 1.7).sin() * f64::from(step + 1);
        adam.step(&generator.parameters, &gradient, 1.0);
        optimiser.zero_grad();
        (&flat * &gradient).sum(Kind::Float).backward();
        optimiser.step();
        let apart = (generator.parameters.flat() - &flat).abs().max().double_value(&[]);
        assert!(apart < 1e-6, "step {step}: {apart}");
    }
}

#[test]
fn weights_survive_a_file_and_refuse_another_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("generator.safetensors");
    let generator = Generator::new(&small(Norm::Batch), Device::Cpu, &mut rng(0));
    write_tensors(&path, &generator.parameters.named()).expect("written");
    let mut other = Generator::new(&small(Norm::Batch), Device::Cpu, &mut rng(1));
    other.parameters.load(&read_tensors(&path).expect("read")).expect("fits");
    assert_eq!(generator.parameters.flat(), other.parameters.flat());
    let wider = resnet(1, 8, 1, Norm::Batch, Upsample::Transposed, NoiseInjection::Dropout);
    let refused = Generator::new(&wider, Device::Cpu, &mut rng(1)).parameters.load(&read_tensors(&path).expect("read"));
    assert!(matches!(refused, Err(Error::Mismatch { .. })));
    std::fs::write(&path, &std::fs::read(&path).expect("bytes")[..100]).expect("truncated");
    assert!(matches!(read_tensors(&path), Err(Error::Unreadable { .. })));
}

#[test]
fn a_segmenter_learns_one_image() {
    let segmenter = Segmenter::new(
        &SegmenterConfig::new(1, 2).with(|network| {
            network.width = 4;
            network.depth = 2;
        }),
        Device::Cpu,
        &mut rng(0),
    );
    let image = (Tensor::arange(256, (Kind::Float, Device::Cpu)) * 0.2).sin().view([1, 1, 16, 16]).repeat([4, 1, 1, 1]);
    let target = image.gt(0.3).squeeze_dim(1).to_kind(Kind::Int64);
    let mut adam = Adam::new(AdamConfig { learning_rate: 1e-2, beta_1: 0.9, beta_2: 0.999 }, &segmenter.parameters);
    for step in 0..60 {
        let loss = loss::segmentation(&segmenter.forward_train(&image, &mut Noise::new(vec![(4, rng(step))])), &target, None);
        adam.step(&segmenter.parameters, &segmenter.parameters.gradient(&loss), 1.0);
    }
    let right = segmenter.forward_eval(&image).argmax(1, false).eq_tensor(&target).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    assert!(right > 0.95, "{right}");
}

#[test]
fn a_described_file_says_what_it_is_and_is_the_same_every_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let tensors = [("a".to_owned(), Tensor::from_slice(&[1.0_f32])), ("b".to_owned(), Tensor::from_slice(&[2_i64]))].into();
    let bytes: Vec<Vec<u8>> = (0..8)
        .map(|k| {
            let path = folder.path().join(format!("{k}.safetensors"));
            write_with_metadata(&path, &tensors, Some("two numbers".into())).expect("written");
            assert_eq!(read_metadata(&path).expect("read").as_deref(), Some("two numbers"));
            std::fs::read(path).expect("read")
        })
        .collect();
    assert!(bytes.iter().all(|b| *b == bytes[0]));
    // Damage in the notes is no reason to trust the rest unseen.
    let damaged = folder.path().join("0.safetensors");
    let text = bytes[0].windows(6).position(|w| w == b"sha256").expect("a digest");
    let mut spoilt = bytes[0].clone();
    spoilt[text] = b'S';
    std::fs::write(&damaged, spoilt).expect("written");
    assert!(matches!(read_tensors(&damaged), Err(Error::Unreadable { .. })));
    let plain = folder.path().join("plain.safetensors");
    write_tensors(&plain, &tensors).expect("written");
    assert_eq!(read_metadata(&plain).expect("read"), None);
}

#[test]
fn a_weighted_sum_of_networks_includes_running_statistics() {
    let config = SegmenterConfig::new(1, 2).with(|network| (network.width, network.depth) = (4, 1));
    let new = |seed| Segmenter::new(&config, Device::Cpu, &mut ChaCha8Rng::seed_from_u64(seed)).parameters;
    let (mut sum, mut first, second) = (new(0), new(1), new(2));
    let (statistics, counter) = ("down.0.2.running_mean", "down.0.2.num_batches_tracked");
    let mut changed = first.named();
    changed.insert(statistics.into(), Tensor::from_slice(&[4.0_f32; 4]));
    changed.insert(counter.into(), Tensor::from(7_i64));
    first.load(&changed).expect("the same network");
    sum.load(&Parameters::weighted_sum(&[(&first, 0.75), (&second, 0.25)]).expect("the same network")).expect("the same network");
    let expected = first.flat() * 0.75 + second.flat() * 0.25;
    assert!(sum.flat().allclose(&expected, 1e-6, 1e-6, false));
    assert!(sum.named()[statistics].allclose(&Tensor::from_slice(&[3.0_f32; 4]), 1e-6, 1e-6, false));
    assert_eq!(sum.named()[counter].int64_value(&[]), 7);
    let (wider, deeper) = (config.clone().with(|network| network.width = 8), config.with(|network| network.depth = 2));
    for other in [wider, deeper] {
        let other = Segmenter::new(&other, Device::Cpu, &mut ChaCha8Rng::seed_from_u64(3)).parameters;
        for pair in [[(&first, 0.5), (&other, 0.5)], [(&other, 0.5), (&first, 0.5)]] {
            assert!(Parameters::weighted_sum(&pair).is_err());
        }
    }
}
