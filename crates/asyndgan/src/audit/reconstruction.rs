//! Can a server reconstruct a site's images from its feedback, or tell whose images its discriminator has seen?

use std::path::Path;

use anyhow::{Context, Result, ensure};
use asyndgan_data::{Case, CaseSet};
use asyndgan_metrics::psnr;
use asyndgan_models::{DiscriminatorConfig, Norm, loss::GanLoss};
use asyndgan_paper::{Arm, ReconstructionRecord, Run};
use asyndgan_privacy::MembershipTest;
use asyndgan_protocol::{RunDescription, SitePolicy, SiteRandomness, SiteSecret};
use asyndgan_training::{
    DpSgd, GanConfig, Pairs, ServerTrainer, SiteOptions, SiteTrainer,
    attack::{Reconstruction, Recovery, invert_update, pull_of_feedback, reconstruct},
};
use ndarray::Array3;
use tch::{Device, Kind, Tensor};

use super::copies::mean_ssim;
use crate::{configure, progress::Progress, tensors::image};

/// Cases of the attacked site.
const CASES_MAX: usize = 36;

/// The cases of one site that attacks are tried on.
pub(crate) struct Attacked<'a> {
    run: &'a Run,
    images: Tensor,
    masks: Tensor,
    /// The patient of each case, as a number.
    patients: Vec<usize>,
    rounds: u64,
}

/// What a malicious server does.
#[derive(Clone, Copy, PartialEq)]
enum Attack {
    /// Plays the run, and changes its guesses by the feedback.
    Play(Reconstruction),
    /// Restores the first weights before each answer, and looks for the image that explains the feedback.
    Invert {
        /// Whether the site's weights and draws follow from the run's seed, which the server knows.
        is_known: bool,
    },
}

/// A recipe with the defences of a policy.
struct Setting {
    name: &'static str,
    networks: GanConfig,
    policy: SitePolicy,
    /// Cases of the site; few cases are an attack's best chance.
    cases: i64,
    batch: u32,
    l1_weight: f64,
    attacks: Vec<(&'static str, Attack)>,
    /// The first of the cases that are attacked.
    first: i64,
    /// The site has the images and masks of other patients, and sends the masks of those who are attacked: what the
    /// attack then finds comes from masks.
    is_control: bool,
}

impl<'a> Attacked<'a> {
    /// Reads the cases of a folder of prepared cases.
    pub(crate) fn open(run: &'a Run, data: &Path, rounds: u64) -> Result<Self> {
        let set = CaseSet::open(&[data.into()]).with_context(|| data.display().to_string())?;
        ensure!(set.len() >= 4, "{} has {} cases; an attack needs at least 4", data.display(), set.len());
        let count = set.len().min(CASES_MAX);
        let mut numbers: Vec<usize> = (0..count).map(|k| k * set.len() / count).collect();
        // The cases of a patient follow each other.
        numbers.sort_by_key(|&number| set.patient(number).unwrap_or_else(|| set.id(number)).to_owned());
        let cases: Vec<Case> = numbers.iter().map(|&k| set.read(k)).collect::<Result<_, _>>()?;
        let mut names: Vec<&str> = Vec::new();
        let mut patients = Vec::new();
        for &number in &numbers {
            let name = set.patient(number).unwrap_or_else(|| set.id(number));
            let known = names.iter().position(|other| *other == name);
            patients.push(known.unwrap_or(names.len()));
            if known.is_none() {
                names.push(name);
            }
        }
        let tensor = |case: &Case| {
            let (channels, rows, columns) = case.image.dim();
            let flat: Vec<f32> = case.image.iter().copied().collect();
            Tensor::from_slice(&flat).view([channels as i64, rows as i64, columns as i64])
        };
        let mask = |case: &Case| {
            let (rows, columns) = case.condition.dim();
            let flat: Vec<u8> = case.condition.iter().copied().collect();
            Tensor::from_slice(&flat).view([1, rows as i64, columns as i64])
        };
        let stack = |tensors: Vec<Tensor>| Tensor::stack(&tensors, 0);
        let (images, masks) = (stack(cases.iter().map(tensor).collect()), stack(cases.iter().map(mask).collect()));
        Ok(Self { run, images, masks, patients, rounds })
    }

    /// Cases of the site with their patients.
    fn pairs(&self, first: i64, count: i64) -> Pairs {
        let [images, masks] = [&self.images, &self.masks].map(|all| all.narrow(0, first, count).copy());
        let patients = self.patients[first as usize..(first + count) as usize].iter().map(|&patient| patient as u32);
        Pairs::new(images, masks).with_patients(patients.collect())
    }

    fn settings(&self) -> Vec<Setting> {
        let own = configure::gan(self.run, Arm::AsynDgan).with(|config| config.privacy = None);
        let all = self.images.size()[0];
        let beside_control = attacked_beside_control(&self.patients);
        let (first, count) = beside_control.unwrap_or((0, all));
        let mut numbers = self.patients[first as usize..(first + count) as usize].to_vec();
        numbers.dedup();
        let patients = numbers.len() as u32;
        let policy = SitePolicy::default().with(|policy| {
            policy.cases_min = policy.cases_min.min(count as u32);
            policy.patients_per_batch_min = policy.patients_per_batch_min.min(patients);
            policy.crop_min = 0;
            policy.crop_margin_min = 0;
            policy.require_symmetry = false;
            policy.rounds_max = u64::MAX;
            policy.case_rounds_max = u64::MAX;
        });
        let guarded = own.clone().with(|config| config.augmentation = config.augmentation.max(0.25));
        let published = own.clone().with(|config| {
            let (classes, channels) = (i64::from(config.condition_classes), self.images.size()[1]);
            config.discriminator =
                DiscriminatorConfig::Patch { channels: classes + channels, width: 16, norm: Norm::Instance, spectral: false };
            config.gan_loss = GanLoss::CrossEntropy;
            config.augmentation = 0.0;
        });
        let open = SitePolicy::unrestricted();
        let follow = ("follows the feedback", Attack::Play(Reconstruction::Follow));
        let sum = ("adds up the feedback for one image", Attack::Play(Reconstruction::Sum));
        let signs = ("reads the signs of the L1 term", Attack::Play(Reconstruction::Signs));
        let invert = |is_known| ("inverts the discriminator's first update", Attack::Invert { is_known });
        let setting = |name, networks: &GanConfig, policy: &SitePolicy, cases, batch, l1_weight, attacks: &[_]| Setting {
            name,
            networks: networks.clone(),
            policy: policy.clone(),
            cases,
            batch,
            l1_weight,
            attacks: attacks.to_vec(),
            first: 0,
            is_control: false,
        };
        let mut all_settings = vec![
            setting("the paper's loss (L1 weight 100), which the default policy refuses", &published, &open, all, 1, 100.0, &[signs]),
            setting(
                "the paper's discriminator without L1, one image per round, 4 cases, no policy",
                &published,
                &open,
                4,
                1,
                0.0,
                &[follow],
            ),
            setting("this run's networks, one image per round, 4 cases, no policy", &own, &open, 4, 1, 0.0, &[follow]),
            setting(
                "the paper's discriminator, sites of one image, no policy, first weights known (not between hospitals)",
                &published,
                &open,
                3,
                1,
                0.0,
                &[invert(true)],
            ),
            setting(
                "the paper's discriminator, sites of one image, no policy, first weights from the site's secret",
                &published,
                &open,
                3,
                1,
                0.0,
                &[invert(false)],
            ),
        ];
        if guarded.gan_loss == GanLoss::Segmentation {
            let batch = 8.min(count as u32);
            let from = |setting: Setting| Setting { first, ..setting };
            all_settings.push(from(setting(
                "this run's networks with the default policy's augmentation, batch and norm limits",
                &guarded,
                &policy,
                count,
                batch,
                0.0,
                &[follow, sum],
            )));
            if beside_control.is_some() {
                let name = "control: the same, but the site has other patients";
                all_settings.push(Setting { is_control: true, ..from(setting(name, &guarded, &policy, count, batch, 0.0, &[follow])) });
            }
            let private = guarded.with(|config| config.privacy = Some(DpSgd::new(8.0, 1e-5)));
            let name = "this run's networks with differential privacy (epsilon 8)";
            let limited = policy.with(|policy| policy.epsilon_max = 8.0);
            all_settings.push(from(setting(name, &private, &limited, count, batch, 0.0, &[follow])));
        }
        all_settings
    }

    /// Tries all attacks. An attack on a recipe that the images do not fit is added to `left_out`.
    pub(crate) fn reconstructions(&self, left_out: &mut Vec<String>) -> Vec<ReconstructionRecord> {
        if configure::gan(self.run, Arm::AsynDgan).gan_loss != GanLoss::Segmentation {
            left_out.push("attacks under the default policy, which requires a U-Net discriminator".to_owned());
        } else if attacked_beside_control(&self.patients).is_none() {
            left_out.push("the control of the attacks under the default policy: the attacked site has one patient".to_owned());
        }
        let mut records = Vec::new();
        for setting in self.settings() {
            for &(attack, way) in &setting.attacks {
                match self.reconstruction(&setting, attack, way) {
                    Ok(record) => records.push(record),
                    Err(error) => left_out.push(format!("{}: {error:#}", setting.name)),
                }
            }
        }
        records
    }

    fn description(&self, networks: &GanConfig, rounds: u64, batch: u32) -> RunDescription {
        configure::description(self.run, Arm::AsynDgan, 0, 1).with(|run| {
            run.name = "audit".into();
            (run.rounds, run.batch, run.l1_weight) = (rounds, batch, 0.0);
            run.site_threads = 1;
            run.networks = networks.description();
        })
    }

    fn reconstruction(&self, setting: &Setting, attack: &str, way: Attack) -> Result<ReconstructionRecord> {
        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        let cases = setting.cases.min(self.images.size()[0]);
        let (images, masks) = (self.images.narrow(0, setting.first, cases), self.masks.narrow(0, setting.first, cases));
        // As many answers about each case in every setting.
        let rounds = (self.rounds * cases as u64 / u64::from(setting.batch)).max(1);
        let run = self.description(&setting.networks, rounds, setting.batch).with(|run| run.l1_weight = setting.l1_weight);
        // The server begins with what it knows: the mean of images is public enough, and so are masks.
        let mean = self.images.mean(Kind::Float).double_value(&[]);
        let marked = masks.gt(0).to_kind(Kind::Float).expand_as(&images);
        let first = marked * 0.2 + (mean - 0.1);
        let guesses = match way {
            Attack::Play(way) => {
                // The cases after those that are attacked are of other patients.
                let first_held = setting.first + if setting.is_control { cases } else { 0 };
                let held = self.pairs(first_held, cases);
                let mut site = site(held, setting.is_control.then(|| masks.copy()), folder.path(), setting.policy.feedback_norm_max);
                let mut bar = Progress::new(&format!("attack: {}", setting.name), rounds);
                reconstruct(&mut site, &run, &setting.policy, &first, way, |done| bar.set(done))?
            }
            Attack::Invert { is_known } => {
                let mut bar = Progress::new(&format!("attack: {}", setting.name), cases as u64);
                let one = |case: i64| {
                    let [image, mask, first] = [&images, &masks, &first].map(|all| all.narrow(0, case, 1));
                    let options = SiteOptions::default().with(|options| {
                        if !is_known {
                            options.randomness = SiteRandomness::Secret(SiteSecret::new([1; 32]));
                        }
                    });
                    let place = folder.path().join(case.to_string());
                    let mut site = SiteTrainer::new(Pairs::new(image.copy(), mask.copy()), options, &place, Device::Cpu);
                    let guess = invert_update(&mut site, &run, &mask, &first, self.rounds, |_| ());
                    bar.set(case as u64 + 1);
                    guess
                };
                Tensor::cat(&(0..cases).map(one).collect::<Result<Vec<_>, _>>()?, 0)
            }
        };
        let Recovery { own, other, interval } = Recovery::of_guesses(&guesses, &images, &masks);
        let scaled = if way == Attack::Play(Reconstruction::Sum) { scaled(&guesses) } else { guesses };
        let (mut psnrs, mut ssims) = ([0.0; 2], [0.0; 2]);
        let sum = images.sum_dim_intlist([0_i64].as_slice(), false, Kind::Float);
        for k in 0..cases {
            let truth: Array3<f32> = image(&images.get(k));
            let blind: Array3<f32> = image(&((&sum - images.get(k)) / (cases - 1).max(1) as f64));
            for (i, guess) in [image(&scaled.get(k)), blind].iter().enumerate() {
                let (a, b) = (truth.mapv(f64::from), guess.mapv(f64::from));
                psnrs[i] += psnr(a.view(), b.view(), 2.0).unwrap_or(f64::NAN) / cases as f64;
                ssims[i] += mean_ssim(truth.view(), guess.view()).unwrap_or(f64::NAN) / cases as f64;
            }
        }
        // Each site answers one round, as often as there are answers.
        let rounds = if matches!(way, Attack::Invert { .. }) { self.rounds } else { rounds };
        let (setting, attack) = (setting.name.to_owned(), attack.to_owned());
        Ok(ReconstructionRecord { setting, attack, rounds, images: cases as usize, own, other, interval, psnr: psnrs, ssim: ssims })
    }

    /// A curious server that trains honestly asks, by the pull of the feedback, whose images the discriminator has
    /// learnt from: half of the patients, and the masks of all. `None` with fewer than eight patients.
    pub(crate) fn membership(&self) -> Result<Option<MembershipTest>> {
        let count = self.patients.iter().max().map_or(0, |most| most + 1);
        let of = |is_member: bool| -> Vec<i64> {
            (0..self.patients.len()).filter(|&case| self.patients[case].is_multiple_of(2) == is_member).map(|case| case as i64).collect()
        };
        let (members, others) = (of(true), of(false));
        let half = members.len().min(others.len());
        if count < 8 || half < 4 {
            return Ok(None);
        }
        let chosen = |all: &Tensor, cases: &[i64]| all.index_select(0, &Tensor::from_slice(&cases[..half]));
        let (real, own) = (chosen(&self.images, &members), chosen(&self.masks, &members));
        // The discriminator learns from members alone; the masks are those of both.
        let pairs = Pairs::new(Tensor::cat(&[&real, &real], 0), Tensor::cat(&[&own, &own], 0));
        let shared = Tensor::cat(&[own, chosen(&self.masks, &others)], 0);
        let candidates = Tensor::cat(&[real, chosen(&self.images, &others)], 0);
        let networks = configure::gan(self.run, Arm::AsynDgan).with(|config| config.site_code = false);
        let batch = self.run.settings.protocol.batch;
        let rounds = (2 * self.rounds * half as u64 / u64::from(batch)).max(2);
        let run = self.description(&networks, rounds, batch);
        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        let mut site = site(pairs, Some(shared), &folder.path().join("site"), 1.0);
        let mut server = ServerTrainer::new(networks, run.clone(), 1, 1, &folder.path().join("server"), Device::Cpu)?;
        let mut bar = Progress::new("attack: membership from feedback", rounds);
        let pulls = pull_of_feedback(&mut site, &mut server, &run, &candidates, |done| bar.set(done))?;
        let by_patient = |cases: &[i64], pulls: &[f64]| {
            let mut sums = std::collections::BTreeMap::<usize, (f64, f64)>::new();
            for (&case, &pull) in cases[..half].iter().zip(pulls) {
                let sum = sums.entry(self.patients[case as usize]).or_default();
                *sum = (sum.0 + pull, sum.1 + 1.0);
            }
            sums.into_values().map(|(sum, count)| sum / count).collect::<Vec<f64>>()
        };
        Ok(MembershipTest::of_scores(&by_patient(&members, &pulls[..half]), &by_patient(&others, &pulls[half..])))
    }
}

/// A site with a secret of its own.
fn site(pairs: Pairs, shared: Option<Tensor>, folder: &Path, norm_max: f32) -> SiteTrainer {
    let options = SiteOptions::default().with(|options| {
        options.shared = shared;
        options.feedback_norm_max = norm_max;
        options.randomness = SiteRandomness::Secret(SiteSecret::new([1; 32]));
    });
    SiteTrainer::new(pairs, options, folder, Device::Cpu)
}

/// Sums of gradients with the range of images.
fn scaled(sums: &Tensor) -> Tensor {
    let largest = sums.abs().amax([1, 2, 3].as_slice(), true).clamp_min(1e-12);
    sums / largest
}

/// The first of the cases that are attacked beside a control, and their number: as many cases of other patients follow
/// them. None for a single patient. The cases of a patient follow each other.
fn attacked_beside_control(patients: &[usize]) -> Option<(i64, i64)> {
    let (all, middle) = (patients.len(), patients.len() / 2);
    let boundary = (1..all).filter(|&at| patients[at - 1] != patients[at]).min_by_key(|at| at.abs_diff(middle))?;
    let count = boundary.min(all - boundary);
    Some(((boundary - count) as i64, count as i64))
}

#[cfg(test)]
mod tests {
    use super::attacked_beside_control;

    #[test]
    fn the_control_has_as_many_cases_and_no_patient_that_is_attacked() {
        for patients in [&[0, 1, 2, 3][..], &[0, 0, 0, 1], &[0, 1, 1, 1, 1], &[0, 0, 1, 1, 1, 2, 2, 2, 2]] {
            let (first, count) = attacked_beside_control(patients).expect("several patients");
            let (first, count) = (first as usize, count as usize);
            let (attacked, held) = (&patients[first..first + count], &patients[first + count..first + 2 * count]);
            assert!(count > 0 && attacked.iter().all(|patient| !held.contains(patient)), "{patients:?}");
        }
        assert_eq!(attacked_beside_control(&[0; 36]), None);
    }
}
