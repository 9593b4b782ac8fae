//! Inversion of a discriminator's update: which real image explains the feedback?

use asyndgan_models::Discriminator;
use asyndgan_protocol::{Draw, Role, RunDescription, SiteId, SiteRandomness, SiteWork as _};
use rand::RngExt as _;
use tch::{Device, Kind, Tensor};

use crate::{
    Error, GanConfig, SiteTrainer,
    tensors::{augmented, one_hot_condition, to_payload_as, to_tensor},
};

/// Steps of the server's search for the image, for each answer.
const STEPS_PER_ANSWER: u64 = 5;
/// Step size of the search; images are in [-1, 1].
const STEP_SIZE: f64 = 0.02;
/// Answers that one step of the search looks at.
const TOGETHER: usize = 2;
/// Adam's first step is the sign of the gradient. In the search it is smoothed at this share of the mean gradient.
const SMOOTHING: f64 = 0.05;
/// Weight of the differences between neighbouring pixels.
const ROUGHNESS: f64 = 0.2;

/// Lets a malicious server invert the first update of a site's discriminator. The site has one case. The server
/// restores the first weights before each answer, sends other synthetic images each time, and then looks for the image
/// for which its own simulation of the update gives the same feedback. It assumes the first weights and the draws that
/// follow from the run's seed. Returns the image.
///
/// A site with a secret has other first weights, so that the simulation is wrong.
///
/// # Shapes
/// The first guess and the result `[1, channels, rows, columns]`, in [-1, 1]; the mask `[1, 1, rows, columns]`.
///
/// # Errors
/// An error of the site's trainer.
///
/// # Panics
/// If there is more than one case, or no answer.
///
/// # Reference
/// Zhu et al., Deep Leakage from Gradients, `NeurIPS` 2019; here the server sees no gradient of the weights, but the
/// gradient of the images after an update of the weights.
pub fn invert_update(
    site: &mut SiteTrainer,
    run: &RunDescription,
    mask: &Tensor,
    first: &Tensor,
    answers: u64,
    mut progress: impl FnMut(u64),
) -> Result<Tensor, Error> {
    assert_eq!((first.size()[0], answers > 0), (1, true), "one case and at least one answer");
    let (id, config) = (SiteId(0), GanConfig::from_description(&run.networks)?);
    let (summary, patients, randomness) = (site.summary(), site.patients(), site.randomness());
    let draw = run.round_draw(id, 0, &summary, &randomness, &patients, 1);
    let mut noise = SiteRandomness::Seed.stream(run, Role::Synthesis, id, 0);
    let crop = |image: &Tensor, k: usize, of: &Draw| augmented(&image.get(0), &of.augmentations[k], run.crop);
    let mut seen = Vec::new();
    for k in 0..answers {
        site.begin(id, run, 0)?;
        let sent: Vec<Tensor> = (0..draw.conditions.cases.len())
            .map(|case| {
                let base = crop(first, case, &draw.conditions);
                let values: Vec<f32> = (0..base.numel()).map(|_| noise.random_range(-0.5..0.5_f32)).collect();
                (base.shallow_clone() + Tensor::from_slice(&values).view(&base.size()[..])).clamp(-1.0, 1.0)
            })
            .collect();
        let sent = Tensor::stack(&sent, 0);
        let (feedback, _) = site.step(0, &draw, &to_payload_as(&sent, run.synthetic_dtype))?;
        seen.push((sent, to_tensor(&feedback, Device::Cpu)?));
        progress(k + 1);
    }
    // What the server assumes.
    let assumed = run.round_draw(id, 0, &summary, &SiteRandomness::Seed, &patients, 1);
    let mut weights = SiteRandomness::Seed.stream(run, Role::DiscriminatorWeights, id, 0);
    let discriminator = Discriminator::new(&config.discriminator, Device::Cpu, &mut weights);
    let start = discriminator.parameters.flat().copy().set_requires_grad(true);
    let planes = |of: &Draw| {
        let crops: Vec<Tensor> = (0..of.cases.len()).map(|k| crop(mask, k, of)).collect();
        one_hot_condition(&Tensor::stack(&crops, 0), config.condition_classes)
    };
    let (real_planes, planes) = (planes(&assumed.real), planes(&assumed.conditions));
    let loss = config.gan_loss;
    let feedback_of = |weights: &Tensor, sent: &Tensor, twice: bool| {
        let sent = sent.detach().set_requires_grad(true);
        let judged = loss.generator(&discriminator.forward_with(weights, &planes, &sent), &sent, &sent, 0.0);
        Tensor::run_backward(&[&judged], &[&sent], twice, twice).swap_remove(0)
    };
    let before: Vec<Tensor> = seen.iter().map(|(sent, _)| feedback_of(&start, sent, false).detach()).collect();
    let mut guess = first.copy().set_requires_grad(true);
    let (mut momentum, mut scale) = (first.zeros_like(), first.zeros_like());
    let steps = STEPS_PER_ANSWER * answers;
    for step in 0..steps {
        let crops: Vec<Tensor> = (0..assumed.real.cases.len()).map(|k| crop(&guess, k, &assumed.real)).collect();
        let on_real = loss.on_real(&discriminator.forward_with(&start, &real_planes, &Tensor::stack(&crops, 0)));
        let mut differences = roughness(&guess) * ROUGHNESS;
        for k in 0..TOGETHER {
            let k = (step as usize * TOGETHER + k) % seen.len();
            let (sent, feedback) = &seen[k];
            let on_synthetic = loss.on_synthetic(&discriminator.forward_with(&start, &planes, sent));
            let gradient = Tensor::run_backward(&[(&on_real + on_synthetic) * 0.5], &[&start], true, true).swap_remove(0);
            let smoothing = gradient.abs().mean(Kind::Float).detach() * SMOOTHING;
            let updated = &start - &gradient / (gradient.abs() + smoothing) * config.discriminator_adam.learning_rate;
            let (found, expected) = (feedback_of(&updated, sent, true) - &before[k], feedback - &before[k]);
            let cosine = (&found * &expected).sum(Kind::Float) / (found.norm() * expected.norm()).clamp_min(1e-30);
            differences -= cosine;
        }
        let gradient = Tensor::run_backward(&[&differences], &[&guess], false, false).swap_remove(0);
        momentum = momentum * 0.9 + &gradient * 0.1;
        scale = scale * 0.99 + gradient.square() * 0.01;
        let rate = STEP_SIZE * (1.0 - step as f64 / steps as f64);
        let next = guess.detach() - &momentum / (scale.sqrt() + 1e-12) * rate;
        guess = next.clamp(-1.0, 1.0).detach().set_requires_grad(true);
        progress(answers + step + 1);
    }
    Ok(guess.detach())
}

/// Mean absolute difference of neighbouring pixels.
fn roughness(image: &Tensor) -> Tensor {
    let along = |dim: i64| {
        let n = image.size()[dim as usize];
        (image.narrow(dim, 1, n - 1) - image.narrow(dim, 0, n - 1)).abs().mean(Kind::Float)
    };
    along(2) + along(3)
}

#[cfg(test)]
mod tests {
    use asyndgan_models::{DiscriminatorConfig, GeneratorConfig, Norm, ResNetConfig, loss::GanLoss};
    use asyndgan_protocol::SiteSecret;

    use super::*;
    use crate::{Pairs, SiteOptions};

    #[test]
    fn a_discriminator_with_known_weights_is_inverted() {
        asyndgan_models::set_threads(1);
        let side = 32;
        let image = |k: i64| {
            let xs = Tensor::arange(side, (Kind::Float, Device::Cpu)) / side as f64;
            let wave = |f: f64, p: f64| (&xs * f + p).sin();
            (wave(9.0 + k as f64, 0.3 * k as f64).unsqueeze(1) * wave(14.0 - k as f64, 1.0).unsqueeze(0) * 0.6).view([1, 1, side, side])
        };
        let mask = Tensor::zeros([1, 1, side, side], (Kind::Uint8, Device::Cpu));
        let _ = mask.narrow(2, 8, 12).narrow(3, 10, 12).fill_(1);
        let networks = GanConfig::new(
            GeneratorConfig::ResNet(ResNetConfig::new(1, 1).with(|c| (c.width, c.blocks) = (4, 1))),
            DiscriminatorConfig::Patch { channels: 2, width: 16, norm: Norm::Instance, spectral: false },
            1,
        )
        .with(|c| (c.gan_loss, c.augmentation) = (GanLoss::CrossEntropy, 0.0));
        let run = RunDescription::new("inversion", 10).with(|run| {
            run.batch = 1;
            (run.channels, run.size, run.crop) = (1, side as u32, side as u32);
            run.networks = networks.description();
        });
        // The correlation with the own image, and with one of another site.
        let found = |k: i64, randomness: SiteRandomness| {
            let folder = tempfile::tempdir().expect("a folder");
            let options = SiteOptions::default().with(|options| options.randomness = randomness);
            let mut site = SiteTrainer::new(Pairs::new(image(k), mask.copy()), options, folder.path(), Device::Cpu);
            let made = invert_update(&mut site, &run, &mask, &image(0).zeros_like(), 60, |_| ()).expect("inverted");
            let centred = |x: &Tensor| (x - x.mean(Kind::Float)).reshape([-1]);
            let correlation = |other: &Tensor| {
                let (a, b) = (centred(&made), centred(other));
                a.dot(&b).double_value(&[]) / (a.norm() * b.norm()).double_value(&[])
            };
            [correlation(&image(k)), correlation(&image(k + 3))]
        };
        let [own, other] = found(1, SiteRandomness::Seed);
        assert!(own > 0.5 && other.abs() < 0.4, "{own} and {other}");
        let [own, _] = found(1, SiteRandomness::Secret(SiteSecret::new([5; 32])));
        assert!(own < 0.3, "{own}");
    }
}
