//! Weights travel to and from PyTorch: the same networks give the same output.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use std::{collections::BTreeMap, path::Path, process::Command};

use asyndgan_models::{
    Conditioning, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise, NoiseInjection, Norm, Parameters, ResNetConfig,
    Segmenter, SegmenterConfig, Upsample, loss, read_tensors, write_tensors,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tch::{Device, Kind, Tensor};

type Tensors = BTreeMap<String, Tensor>;

fn configs() -> [(&'static str, GeneratorConfig, DiscriminatorConfig); 2] {
    [("instance", Norm::Instance, 2, 1, 2), ("batch", Norm::Batch, 3, 3, 1)].map(
        |(name, norm, condition_channels, image_channels, blocks)| {
            (
                name,
                GeneratorConfig::ResNet(ResNetConfig::new(condition_channels, image_channels).with(|network| {
                    network.width = 4;
                    network.blocks = blocks;
                    network.norm = norm;
                })),
                DiscriminatorConfig::Patch { channels: condition_channels + image_channels, width: 4, norm, spectral: false },
            )
        },
    )
}

fn part(tensors: &Tensors, prefix: &str) -> Tensors {
    tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.shallow_clone()))).collect()
}

/// The discriminator takes condition and image by themselves; PyTorch's takes them joined.
fn discriminate(d: &Discriminator, joined: &Tensor) -> Tensor {
    let channels = joined.size()[1];
    d.forward(&joined.narrow(1, 0, 1), &joined.narrow(1, 1, channels - 1))
}

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(5)
}

#[test]
fn golden_outputs_of_pytorch_are_met() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks.safetensors");
    let golden = read_tensors(&path).expect("golden file");
    let difference = |output: Tensor, name: &str| (output - &golden[&format!("{name}.output")]).abs().max().double_value(&[]);
    for (name, generator, discriminator) in configs() {
        let mut g = Generator::new(&generator, Device::Cpu, &mut rng());
        let at = format!("{name}.generator");
        // PyTorch has run once when its state was kept: running statistics play no part in its output or ours.
        g.parameters.load(&part(&golden, &format!("{at}."))).expect("generator weights");
        assert!(difference(g.forward(&golden[&format!("{at}.input")], &mut Noise::off()), &at) < 1e-5);
        let mut d = Discriminator::new(&discriminator, Device::Cpu, &mut rng());
        let at = format!("{name}.discriminator");
        d.parameters.load(&part(&golden, &format!("{at}."))).expect("discriminator weights");
        assert!(difference(discriminate(&d, &golden[&format!("{at}.input")]), &at) < 1e-5);
    }
}

fn golden_layers() -> Tensors {
    read_tensors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/layers.safetensors")).expect("golden file")
}

fn largest_difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    (found - expected).abs().max().double_value(&[])
}

#[test]
fn a_generator_with_spade_conditioning_gives_the_same_as_in_pytorch() {
    let golden = golden_layers();
    let config = ResNetConfig::new(2, 1).with(|network| {
        (network.width, network.blocks, network.upsample) = (4, 1, Upsample::Nearest);
        (network.noise, network.conditioning) = (NoiseInjection::MultiScale { code: 3 }, Conditioning::Spade);
    });
    let mut generator = Generator::new(&GeneratorConfig::ResNet(config), Device::Cpu, &mut rng());
    generator.parameters.load(&part(&golden, "spade.")).expect("weights");
    let output = generator.forward(&golden["spade.input"], &mut Noise::off());
    assert!(largest_difference(&output, &golden["spade.output"]) < 1e-5);
}

#[test]
fn a_segmenter_gives_the_same_as_in_pytorch() {
    let golden = golden_layers();
    let config = SegmenterConfig::new(1, 3).with(|network| (network.width, network.depth) = (4, 2));
    let mut segmenter = Segmenter::new(&config, Device::Cpu, &mut rng());
    segmenter.parameters.load(&part(&golden, "unet.")).expect("weights");
    let input = &golden["unet.input"];
    let train = segmenter.forward_train(input, &mut Noise::off());
    assert!(largest_difference(&train, &golden["unet.train"]) < 1e-5);
    // The pass before has updated the running statistics.
    assert!(largest_difference(&segmenter.forward_eval(input), &golden["unet.evaluate"]) < 1e-5);
}

#[test]
fn spectral_normalisation_follows_pytorch_from_step_to_step() {
    let golden = golden_layers();
    let load = |name: &str, config: DiscriminatorConfig| {
        let mut discriminator = Discriminator::new(&config, Device::Cpu, &mut rng());
        discriminator.parameters.load(&part(&golden, &format!("{name}."))).expect("weights");
        discriminator
    };
    let unet = load("discriminator", DiscriminatorConfig::UNet { condition_channels: 2, image_channels: 1, width: 4, spectral: true });
    let patch = load("patch", DiscriminatorConfig::Patch { channels: 2, width: 4, norm: Norm::Instance, spectral: true });
    let differences = |output: &str| {
        let of_unet = unet.forward(&golden["discriminator.condition"], &golden["discriminator.input"]);
        [("discriminator", of_unet), ("patch", discriminate(&patch, &golden["patch.input"]))].map(|(name, found)| {
            let expected = &golden[&format!("{name}.{output}")];
            largest_difference(&found, expected) / expected.abs().max().double_value(&[])
        })
    };
    assert!(differences("first").iter().all(|&d| d < 3e-6), "{:?}", differences("first"));
    unet.update_spectral_norm();
    patch.update_spectral_norm();
    assert!(differences("second").iter().all(|&d| d < 3e-6), "{:?}", differences("second"));
    assert!(differences("first").iter().all(|&d| d > 1e-4), "the second step differs from the first");
}

#[test]
fn the_loss_of_the_segmenter_is_the_dice_ce_loss_of_monai() {
    let golden = golden_layers();
    let logits = golden["dice_ce.logits"].set_requires_grad(true);
    let value = loss::segmentation(&logits, &golden["dice_ce.target"], None);
    assert!((value.double_value(&[]) - golden["dice_ce.value"].double_value(&[])).abs() < 1e-6);
    let gradient = Tensor::run_backward(&[&value], &[&logits], false, false).swap_remove(0);
    assert!(largest_difference(&gradient, &golden["dice_ce.gradient"]) < 1e-7);
}

#[test]
#[ignore = "needs a Python with torch, named by PYTHON_WITH_TORCH; the golden outputs are compared without"]
fn pytorch_loads_our_weights_and_gives_the_same() {
    let python = std::env::var("PYTHON_WITH_TORCH").expect("PYTHON_WITH_TORCH names a Python with torch");
    let mut tensors = Tensors::new();
    let mut keep = |name: String, parameters: &Parameters, input: Tensor, output: Tensor| {
        tensors.extend(parameters.named().into_iter().map(|(k, t)| (format!("{name}.{k}"), t.copy())));
        tensors.insert(format!("{name}.input"), input);
        tensors.insert(format!("{name}.output"), output.detach());
    };
    let ramp = |size: [i64; 4]| (Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 0.37).sin().view(size);
    for (name, generator, discriminator) in configs() {
        let (GeneratorConfig::ResNet(ResNetConfig { condition_channels, .. }), DiscriminatorConfig::Patch { channels, .. }) =
            (&generator, &discriminator)
        else {
            continue;
        };
        let input = ramp([2, *condition_channels, 16, 16]);
        let g = Generator::new(&generator, Device::Cpu, &mut rng());
        let output = g.forward(&input, &mut Noise::off());
        keep(format!("{name}.generator"), &g.parameters, input, output);
        let input = ramp([2, *channels, 32, 32]);
        let d = Discriminator::new(&discriminator, Device::Cpu, &mut rng());
        let output = discriminate(&d, &input);
        keep(format!("{name}.discriminator"), &d.parameters, input, output);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ours.safetensors");
    write_tensors(&path, &tensors).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch.py");
    let output = Command::new(python).arg(script).arg("check").arg(&path).output().expect("python runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
