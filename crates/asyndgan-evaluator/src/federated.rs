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
/// of all sites are averaged, weighted by their number of cases.
///
/// The sites share `training.batch` equally, with one image each at least, and take `training.steps` steps each: the
/// same work as one segmenter on all cases together. Every site keeps the moments of its optimiser. `progress` receives
/// the number of steps done, and the mean loss of the sites at every tenth step.
///
/// # Panics
/// If `local_steps` is 0, or a case is smaller than a crop.
///
/// # Errors
/// As [`train_segmenter`](crate::train_segmenter).
///
/// # Reference
/// McMahan et al., AISTATS 2017, algorithm 1, with Adam at the sites.
pub fn train_federated_segmenter(
    training: &SegmenterTraining,
    local_steps: u64,
    task: &Task,
    sites: &[&CaseSet],
    device: Device,
    rng: &mut ChaCha8Rng,
    mut progress: impl FnMut(u64, Option<f64>),
) -> Result<FederatedSegmenter, Error> {
    assert!(local_steps > 0, "a site takes a step at least before weights are averaged");
    let mut segmenter = Segmenter::new(&training.network, device, rng);
    let local = training.clone().with(|training| training.batch = (training.batch / sites.len().max(1)).max(1));
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
        let steps = local_steps.min(training.steps - done);
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

    use super::*;

    const TASK: &str = r#"
        name = "squares"
        images = "pictures"
        channels = [{ name = "grey", normalisation = "rgb" }]
        classes = [{ name = "square", labels = [1] }]
    "#;

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
        let origin = CaseOrigin::default();
        write_cases(&folder.join("cases.safetensors"), origin, &(0..count).map(case).collect::<Vec<_>>()).expect("written");
        CaseSet::open(&[folder.to_path_buf()]).expect("read")
    }

    fn trained(task: &Task, sites: &[&CaseSet], local_steps: u64) -> (FederatedSegmenter, Vec<Option<f64>>) {
        asyndgan_models::set_threads(1);
        let training = SegmenterTraining::new(SegmenterConfig::new(1, 2).with(|network| (network.width, network.depth) = (4, 1)), 31)
            .with(|training| (training.batch, training.crop) = (4, 16));
        let mut losses = Vec::new();
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let result = train_federated_segmenter(&training, local_steps, task, sites, Device::Cpu, rng, |_, loss| losses.push(loss));
        (result.expect("trained"), losses)
    }

    #[test]
    fn federated_averaging_learns_and_counts_what_it_sends() {
        let task = Task::parse(TASK).expect("a task");
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let sites = [cases(folders[0].path(), 12), cases(folders[1].path(), 4)];
        let (result, losses) = trained(&task, &[&sites[0], &sites[1]], 7);
        assert_eq!((result.rounds, losses.len()), (5, 31));
        let losses: Vec<f64> = losses.into_iter().flatten().collect();
        assert!(losses.len() == 4 && losses[3] < 0.8 * losses[0], "{losses:?}");
        assert!(result.bytes >= 4 * result.segmenter.parameters.count() as u64);
    }

    #[test]
    fn averages_change_nothing_for_a_single_site() {
        let task = Task::parse(TASK).expect("a task");
        let folder = tempfile::tempdir().expect("a folder");
        let site = cases(folder.path(), 6);
        let flat = |local_steps| trained(&task, &[&site], local_steps).0.segmenter.parameters.flat().copy();
        assert!(flat(1).equal(&flat(31)));
    }
}
