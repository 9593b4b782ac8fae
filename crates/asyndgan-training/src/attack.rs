//! Attacks on a site's feedback, which measure the effect of a policy or a defence.
//!
//! A malicious server tries to reconstruct images. It knows the masks. It keeps a guess for the image of each mask,
//! sends it whenever the mask is drawn, and changes it by the feedback. A curious server trains honestly, and asks
//! whose images the discriminator has learnt from.

mod inversion;

pub use inversion::invert_update;

use asyndgan_protocol::{Augmentation, Contribution, RunDescription, ServerWork as _, SiteId, SitePolicy, SiteWork as _};
use tch::{Device, Kind, Tensor};

use crate::{
    Error, ServerTrainer, SiteTrainer,
    tensors::{augmented, to_payload_as, to_tensor},
};

/// How a server changes its guesses by feedback.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reconstruction {
    /// The gradient of an L1 term is the sign of the difference to the real image: halve the step each time, against
    /// the sign.
    Signs,
    /// Follow the smoothed gradient with momentum, in steps that become smaller: the image that the discriminator takes
    /// for the real one.
    Follow,
    /// Send the first guess every time, and add up the feedback.
    Sum,
}

/// Lets a malicious server play a whole run with a site. The site takes its steps as in any run, and its policy is
/// checked first. Returns the server's last guess for the image of each mask.
///
/// # Shapes
/// First guesses and results `[cases, channels, rows, columns]`, in [-1, 1].
///
/// # Errors
/// [`Error::Protocol`] if the policy refuses the run, or an error of the site's trainer, such as a budget that is
/// spent.
pub fn reconstruct(
    site: &mut SiteTrainer,
    run: &RunDescription,
    policy: &SitePolicy,
    first: &Tensor,
    attack: Reconstruction,
    mut progress: impl FnMut(u64),
) -> Result<Tensor, Error> {
    let id = SiteId(0);
    let (summary, patients, randomness) = (site.summary(), site.patients(), site.randomness());
    let training = site.inspect(id, run)?;
    policy.check(run, &training, &summary, &patients)?;
    site.begin(id, run, 0)?;
    let (cases, size) = (first.size()[0], first.size()[2]);
    let mut guesses: Vec<Tensor> = (0..cases).map(|case| first.get(case).copy()).collect();
    let mut memory: Vec<Tensor> = guesses.iter().map(Tensor::zeros_like).collect();
    let mut halvings = vec![1.0_f64; cases as usize];
    let (mut answers, all) = (0.0, (run.rounds * u64::from(run.batch)) as f64);
    for round in 0..run.rounds {
        let mut draw = run.round_draw(id, round, &summary, &randomness, &patients, policy.patients_per_batch_min);
        if training.privacy.is_some() {
            (draw.real.cases, draw.real.augmentations) = (Vec::new(), Vec::new());
        }
        let asked: Vec<(usize, Augmentation)> =
            draw.conditions.cases.iter().map(|&case| case as usize).zip(draw.conditions.augmentations.iter().copied()).collect();
        let sent: Vec<Tensor> = asked.iter().map(|(case, a)| augmented(&guesses[*case], a, run.crop)).collect();
        let (feedback, _) = site.step(round, &draw, &to_payload_as(&Tensor::stack(&sent, 0), run.synthetic_dtype))?;
        let feedback = to_tensor(&feedback, Device::Cpu)?;
        for (k, (case, a)) in (0..).zip(&asked) {
            let gradient = in_place(&feedback.get(k), a, size);
            answers += 1.0;
            match attack {
                Reconstruction::Signs => {
                    halvings[*case] /= 2.0;
                    guesses[*case] = &guesses[*case] - gradient.sign() * halvings[*case];
                }
                Reconstruction::Follow => {
                    let smooth = |x: Tensor| x.unsqueeze(0).avg_pool2d([3, 3], [1, 1], [1, 1], false, true, None::<i64>).squeeze_dim(0);
                    let gradient = smooth(smooth(gradient));
                    let norm = gradient.square().mean(Kind::Float).sqrt().double_value(&[]).max(1e-12);
                    memory[*case] = &memory[*case] * 0.5 + gradient / norm;
                    guesses[*case] = (&guesses[*case] - &memory[*case] * (0.01 * (1.0 - answers / all))).clamp(-1.0, 1.0);
                }
                Reconstruction::Sum => memory[*case] -= gradient,
            }
        }
        progress(round + 1);
    }
    Ok(Tensor::stack(if attack == Reconstruction::Sum { &memory } else { &guesses }, 0))
}

/// A gradient back in its place within the stored image.
fn in_place(gradient: &Tensor, a: &Augmentation, size: i64) -> Tensor {
    let axes: Vec<i64> = [(a.flip_rows, 1), (a.flip_columns, 2)].into_iter().filter(|f| f.0).map(|f| f.1).collect();
    let window = if axes.is_empty() { gradient.shallow_clone() } else { gradient.flip(axes) };
    let window = if a.transpose { window.transpose(1, 2) } else { window };
    let (top, left, rest) = (i64::from(a.top), i64::from(a.left), size - gradient.size()[1]);
    window.constant_pad_nd([left, rest - left, top, rest - top])
}

/// How close the guesses of an attack come to the images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recovery {
    /// Mean correlation of each guess with its own image, of what cannot be known blindly: without the mean, the mask,
    /// and the mean of all other images.
    pub own: f64,
    /// The same with the images of other cases: what a guess says about the site in general.
    pub other: f64,
    /// The 95 % interval of the difference of both, over cases. Slices of one patient are similar, so it is rather too
    /// narrow.
    pub interval: [f64; 2],
}

impl Recovery {
    /// Compares guesses with the images.
    ///
    /// # Shapes
    /// Guesses and images `[cases, channels, rows, columns]`, masks `[cases, 1, rows, columns]`; at least two cases.
    pub fn of_guesses(guesses: &Tensor, images: &Tensor, masks: &Tensor) -> Self {
        let cases = images.size()[0];
        let sum = images.sum_dim_intlist([0_i64].as_slice(), false, Kind::Float);
        let (mut own, mut other, mut differences) = (0.0, 0.0, Vec::new());
        for k in 0..cases {
            let mask = masks.get(k).gt(0).to_kind(Kind::Float).expand_as(&images.get(k));
            let known = [images.get(k).ones_like(), mask, (&sum - images.get(k)) / (cases - 1) as f64];
            let guess = residual(&guesses.get(k), &known);
            let with = |j: i64| {
                let truth = residual(&images.get(j), &known);
                guess.dot(&truth).double_value(&[]) / (guess.norm().double_value(&[]) * truth.norm().double_value(&[])).max(1e-12)
            };
            let (same, others) = (with(k), (0..cases).filter(|&j| j != k).map(with).sum::<f64>() / (cases - 1) as f64);
            own += same / cases as f64;
            other += others / cases as f64;
            differences.push(same - others);
        }
        let mean = own - other;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (cases - 1).max(1) as f64;
        let half = student_975((cases - 1) as f64) * (variance / cases as f64).sqrt();
        Self { own, other, interval: [mean - half, mean + half] }
    }
}

/// The 97.5 % quantile of Student's t distribution, to 3 % for two or more degrees of freedom.
///
/// # Reference
/// Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
fn student_975(freedom: f64) -> f64 {
    let z: f64 = 1.959_963_984_540_054;
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * freedom)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * freedom.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * freedom.powi(3))
}

/// What is left of an image once known images are taken out of it.
fn residual(image: &Tensor, known: &[Tensor]) -> Tensor {
    let mut basis: Vec<Tensor> = Vec::new();
    let without = |x: &Tensor, basis: &[Tensor]| basis.iter().fold(x.reshape([-1]), |rest, b| &rest - b * rest.dot(b));
    for x in known {
        let rest = without(x, &basis);
        basis.push(&rest / rest.norm().double_value(&[]).max(1e-9));
    }
    without(image, &basis)
}

/// Lets an honest server and a site train together, and measures for each mask how much the feedback pulls the
/// synthetic image towards a candidate: the mean cosine of its negative gradient with the difference of candidate and
/// synthetic image, in the second half of the rounds. Candidates that the discriminator has learnt from pull more.
///
/// # Shapes
/// One candidate for each of the site's shared masks, `[cases, channels, rows, columns]`.
///
/// # Errors
/// An error of a trainer.
pub fn pull_of_feedback(
    site: &mut SiteTrainer,
    server: &mut ServerTrainer,
    run: &RunDescription,
    candidates: &Tensor,
    mut progress: impl FnMut(u64),
) -> Result<Vec<f64>, Error> {
    let id = SiteId(0);
    let (summary, patients, randomness) = (site.summary(), site.patients(), site.randomness());
    let is_private = site.inspect(id, run)?.privacy.is_some();
    server.store_conditions(id, &summary, site.conditions())?;
    server.begin(0)?;
    site.begin(id, run, 0)?;
    let mut pulls = vec![(0.0, 0_u32); candidates.size()[0] as usize];
    for round in 0..run.rounds {
        let mut draw = run.round_draw(id, round, &summary, &randomness, &patients, 1);
        if is_private {
            (draw.real.cases, draw.real.augmentations) = (Vec::new(), Vec::new());
        }
        let payload = server.synthesize(round, std::slice::from_ref(&draw.conditions))?.swap_remove(0);
        let (answer, _) = site.step(round, &draw, &payload)?;
        if 2 * round >= run.rounds {
            let (images, feedback) = (to_tensor(&payload, Device::Cpu)?, to_tensor(&answer, Device::Cpu)?);
            for (k, (&case, a)) in (0..).zip(draw.conditions.cases.iter().zip(&draw.conditions.augmentations)) {
                let towards = augmented(&candidates.get(case.into()), a, run.crop) - images.get(k);
                let gradient = feedback.get(k);
                let norms = towards.norm().double_value(&[]) * gradient.norm().double_value(&[]);
                let cosine = -(towards * gradient).sum(Kind::Float).double_value(&[]) / norms.max(1e-12);
                let pull = &mut pulls[case as usize];
                *pull = (pull.0 + cosine, pull.1 + 1);
            }
        }
        let (norm, weight, scale) = (answer.norm(), 1.0, 1.0);
        let contribution = Contribution { round, draw: draw.conditions, weight, feedback: answer, norm, scale, losses: None };
        server.update(round, &[contribution])?;
        progress(round + 1);
    }
    Ok(pulls.into_iter().map(|(sum, count)| sum / f64::from(count.max(1))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_that_of_the_tables() {
        for (freedom, expected) in [(2.0, 4.303), (3.0, 3.182), (5.0, 2.571), (35.0, 2.030)] {
            assert!((student_975(freedom) / expected - 1.0).abs() < 0.035, "{freedom}");
        }
    }
}
