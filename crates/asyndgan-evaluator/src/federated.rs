use std::num::NonZeroU64;

use asyndgan_data::CaseSet;
use asyndgan_models::{Parameters, Segmenter};
use asyndgan_task::Task;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use crate::{Error, SegmenterTraining, train::Trainer};

/// A segmenter that was trained by federated averaging.
#[derive(Debug)]
pub struct FederatedSegmenter {
    /// The average of the segmenters of the sites.
    pub segmenter: Segmenter,
    /// How often weights were averaged.
    pub rounds: u64,
    /// Bytes of the weights that each site sends in a round, and receives.
    pub bytes: u64,
}

/// Trains a segmenter by federated averaging: each site takes `local_steps` steps on its own cases, then the weights
/// of all sites are averaged, weighted by their number of cases. All sites take part in every round.
///
/// Each site takes `training.steps` steps. The sites share `training.batch` equally, rounded up, with two images each
/// at least, because the segmenter normalises by the batch: together they see as many images as one segmenter on all
/// cases, or more. Every site keeps the moments of its optimiser. `progress` receives the number of steps done, and the
/// mean loss of the sites at every tenth step.
///
/// # Panics
/// If a case is smaller than a crop.
///
/// # Errors
/// As [`train_segmenter`](crate::train_segmenter).
///
/// # Reference
/// McMahan et al., AISTATS 2017, algorithm 1, with all clients in every round, a number of steps instead of epochs, and
/// Adam at the sites.
pub fn train_federated_segmenter(
    training: &SegmenterTraining,
    local_steps: NonZeroU64,
    task: &Task,
    sites: &[&CaseSet],
    device: Device,
    rng: &mut ChaCha8Rng,
    mut progress: impl FnMut(u64, Option<f64>),
) -> Result<FederatedSegmenter, Error> {
    if sites.is_empty() {
        return Err(Error::NoCases);
    }
    let mut segmenter = Segmenter::new(&training.network, device, rng);
    let local = training.clone().with(|training| training.batch = training.batch.div_ceil(sites.len()).max(2));
    let sets: Vec<[(&CaseSet, f64); 1]> = sites.iter().map(|cases| [(*cases, 1.0)]).collect();
    let mut trainers = Vec::new();
    for set in &sets {
        let mut rng = ChaCha8Rng::from_rng(rng);
        trainers.push((Trainer::new(&local, task, set, device, &mut rng)?, rng));
    }
    let all = sites.iter().map(|cases| cases.len()).sum::<usize>() as f64;
    let weights: Vec<f64> = sites.iter().map(|cases| cases.len() as f64 / all).collect();
    let (mut done, mut rounds) = (0, 0);
    while done < training.steps {
        let steps = local_steps.get().min(training.steps - done);
        let mut losses = vec![0.0; steps as usize];
        for ((trainer, rng), weight) in trainers.iter_mut().zip(&weights) {
            trainer.segmenter.parameters.load(&segmenter.parameters.named()).expect("the same network");
            for (step, loss) in (done..).zip(&mut losses) {
                *loss += weight * trainer.step(step, rng)?.unwrap_or(f64::NAN);
            }
        }
        let of_sites: Vec<_> = trainers.iter().map(|(trainer, _)| &trainer.segmenter.parameters).zip(weights.iter().copied()).collect();
        let sum = Parameters::weighted_sum(&of_sites).expect("the same network");
        segmenter.parameters.load(&sum).expect("the same network");
        (done, rounds) = (done + steps, rounds + 1);
        for (step, loss) in (done - steps..).zip(losses) {
            progress(step + 1, Some(loss).filter(|loss| loss.is_finite()));
        }
    }
    let bytes = segmenter.parameters.bytes();
    Ok(FederatedSegmenter { segmenter, rounds, bytes })
}

#[cfg(test)]
mod tests {
    use asyndgan_data::{Case, CaseOrigin, write_cases};
    use asyndgan_models::SegmenterConfig;
    use ndarray::{Array2, Array3};
    use tch::Tensor;

    use super::*;

    /// Cases with a bright square each, at another place in every case.
    fn cases(folder: &std::path::Path, count: usize) -> CaseSet {
        let case = |k: usize| {
            let inside = |(r, c): (usize, usize)| (k % 8..k % 8 + 6).contains(&r) && (4..10).contains(&c);
            Case {
                id: format!("case-{k}"),
                image: Array3::from_shape_fn((1, 16, 16), |(_, r, c)| if inside((r, c)) { 0.8 } else { -0.8 }),
                condition: Array2::from_shape_fn((16, 16), |at| u8::from(inside(at))),
            }
        };
        write_cases(&folder.join("cases.safetensors"), CaseOrigin::default(), &(0..count).map(case).collect::<Vec<_>>()).expect("written");
        CaseSet::open(&[folder.to_path_buf()]).expect("read")
    }

    fn task() -> Task {
        let text = r#"
            name = "squares"
            images = "pictures"
            channels = [{ name = "grey", normalisation = "rgb" }]
            classes = [{ name = "square", labels = [1] }]
        "#;
        Task::parse(text).expect("a task")
    }

    fn training(steps: u64) -> SegmenterTraining {
        asyndgan_models::set_threads(1);
        SegmenterTraining::new(SegmenterConfig::new(1, 2).with(|network| (network.width, network.depth) = (4, 1)), steps)
            .with(|training| (training.batch, training.crop) = (5, 16))
    }

    fn trained(steps: u64, sites: &[&CaseSet], local_steps: u64) -> (FederatedSegmenter, Vec<Option<f64>>) {
        let mut losses = Vec::new();
        let (local_steps, rng) = (NonZeroU64::new(local_steps).expect("steps"), &mut ChaCha8Rng::seed_from_u64(1));
        let each = |_, loss| losses.push(loss);
        let result = train_federated_segmenter(&training(steps), local_steps, &task(), sites, Device::Cpu, rng, each);
        (result.expect("trained"), losses)
    }

    /// Rounds of federated averaging over sites with 12 and 4 cases, written out.
    fn by_hand(sites: [&CaseSet; 2], rounds: u64, local_steps: u64) -> Tensor {
        let (task, local) = (task(), training(rounds * local_steps).with(|training| training.batch = 3));
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let mut global = Segmenter::new(&local.network, Device::Cpu, rng).parameters.named();
        let mut rngs = [ChaCha8Rng::from_rng(rng), ChaCha8Rng::from_rng(rng)];
        let sets = sites.map(|cases| [(cases, 1.0)]);
        let [first, second] = &mut rngs;
        let mut trainers = [
            Trainer::new(&local, &task, &sets[0], Device::Cpu, first).expect("a trainer"),
            Trainer::new(&local, &task, &sets[1], Device::Cpu, second).expect("a trainer"),
        ];
        for round in 0..rounds {
            for (trainer, rng) in trainers.iter_mut().zip(&mut rngs) {
                trainer.segmenter.parameters.load(&global).expect("the same network");
                for step in 0..local_steps {
                    trainer.step(round * local_steps + step, rng).expect("a step");
                }
            }
            let [a, b] = [0, 1].map(|k| trainers[k].segmenter.parameters.named());
            global = a
                .iter()
                .map(|(name, a)| (name.clone(), if a.is_floating_point() { a * 0.75 + &b[name] * 0.25 } else { a.copy() }))
                .collect();
        }
        trainers[0].segmenter.parameters.load(&global).expect("the same network");
        trainers[0].segmenter.parameters.flat().copy()
    }

    #[test]
    fn weights_are_averaged_by_the_number_of_cases_and_go_back_to_the_sites() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let sites = [&cases(folders[0].path(), 12), &cases(folders[1].path(), 4)];
        for rounds in [1, 3] {
            let (result, losses) = trained(rounds * 4, &sites, 4);
            assert!(result.segmenter.parameters.flat().allclose(&by_hand(sites, rounds, 4), 1e-5, 1e-6, false), "{rounds} rounds");
            assert_eq!((result.rounds, losses.len() as u64), (rounds, rounds * 4));
        }
        // Values have 4 bytes, the counts of batches 8.
        let (result, losses) = trained(31, &sites, 7);
        let tensors = result.segmenter.parameters.named();
        let counters = tensors.keys().filter(|name| name.ends_with("num_batches_tracked")).count() as u64;
        let values: i64 = tensors.values().filter(|tensor| tensor.is_floating_point()).map(|tensor| tensor.numel() as i64).sum();
        assert_eq!((result.rounds, result.bytes), (5, 4 * values as u64 + 8 * counters));
        let losses: Vec<f64> = losses.into_iter().flatten().collect();
        assert!(losses.len() == 4 && losses[3] < 0.8 * losses[0], "{losses:?}");
    }

    #[test]
    fn averages_change_nothing_for_a_single_site() {
        let folder = tempfile::tempdir().expect("a folder");
        let site = cases(folder.path(), 6);
        let flat = |local_steps| trained(31, &[&site], local_steps).0.segmenter.parameters.flat().copy();
        assert!(flat(1).equal(&flat(31)));
    }

    #[test]
    fn without_sites_there_is_nothing_to_train_on() {
        let (rng, steps) = (&mut ChaCha8Rng::seed_from_u64(1), NonZeroU64::MIN);
        let result = train_federated_segmenter(&training(1), steps, &task(), &[], Device::Cpu, rng, |_, _| ());
        assert!(matches!(result, Err(Error::NoCases)));
    }
}
