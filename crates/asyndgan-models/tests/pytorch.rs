//! Weights travel to and from PyTorch: the same networks give the same output.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use std::{collections::BTreeMap, path::Path, process::Command};

use asyndgan_models::{
    Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise, Norm, Parameters, ResNetConfig, read_tensors, write_tensors,
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

#[test]
fn pytorch_loads_our_weights_and_gives_the_same() {
    let python = std::env::var("PYTHON_WITH_TORCH").unwrap_or_else(|_| "python3".into());
    if !Command::new(&python).args(["-c", "import torch"]).output().is_ok_and(|o| o.status.success()) {
        eprintln!("SKIPPED: {python} cannot import torch (set PYTHON_WITH_TORCH to one that can); golden outputs were compared instead");
        return;
    }
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
