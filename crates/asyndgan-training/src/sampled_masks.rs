//! Masks from a model of the shapes of a site's masks, with differential privacy.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use asyndgan_data::ShapeModel;
use asyndgan_privacy::{Budget, SubsampledGaussian};
use asyndgan_protocol::{PrivacyBudget, Role, SiteId, SiteSecret, hex};
use asyndgan_task::{LabelKind, Task};
use ndarray::{Array2, ArrayView2};
use rand::{Rng, seq::IndexedRandom as _};
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use crate::{Error, PrivacyLedger, PrivateStep};

/// The name under which the ledger lists the masks, in the place of a run.
pub const MASKS: &str = "masks";
/// Sums that a model of shapes needs.
const SUMS: u64 = 2;

/// What masks drawn from a model of shapes may cost, and where the cost is recorded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SampledMasks {
    /// The budget of the masks for each patient.
    pub budget: PrivacyBudget,
    /// The source of the noise. With the same secret and the same masks, the model is the same and costs nothing more.
    pub secret: SiteSecret,
    /// The ledger of all that is released about the patients; `None` if the masks do not leave.
    pub ledger: Option<PathBuf>,
    /// The budget of the patients for all that is in the ledger; `None` for no limit.
    pub total: Option<PrivacyBudget>,
}

impl SampledMasks {
    /// Masks within a budget, without a ledger.
    pub fn new(budget: PrivacyBudget, secret: SiteSecret) -> Self {
        Self { budget, secret, ledger: None, total: None }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// As many masks as given, from a model of one mask of each patient. The ledger has what they cost before they
    /// exist.
    ///
    /// # Shapes
    /// Masks `[rows, columns]` with the codes of the task, and the patient of each.
    ///
    /// # Errors
    /// [`Error::Masks`] if a model of shapes cannot draw the masks of the task, or the total budget does not allow
    /// them; [`Error::Privacy`] if no noise meets the budget; the errors of [`PrivacyLedger`].
    ///
    /// # Panics
    /// If there is no mask, or not one patient for each.
    pub fn sample(&self, task: &Task, masks: &[Array2<u8>], patients: &[u32], rng: &mut impl Rng) -> Result<Vec<Array2<u8>>, Error> {
        if task.labels == LabelKind::Instances {
            let fact = "a model of shapes cannot draw many small objects: use recombined or deformed masks".to_owned();
            return Err(Error::Masks { fact });
        }
        let chosen = one_of_each(masks, patients, rng);
        let noise_multiplier = asyndgan_privacy::noise_multiplier(Budget::new(self.budget.epsilon, self.budget.delta)?, 1.0, SUMS)?;
        let mechanism = SubsampledGaussian::new(1.0, noise_multiplier)?;
        let mut ledger = self.ledger.as_deref().map(PrivacyLedger::open).transpose()?;
        let mut number = 0;
        let model = ShapeModel::fit(task, &chosen, noise_multiplier, |sum, norm| {
            let key = key_of(&sum, number, mechanism);
            if let Some((ledger, path)) = ledger.as_mut().zip(self.ledger.as_deref()) {
                self.record(ledger, path, number, &key, mechanism)?;
            }
            // Keyed by the sum itself, no two sums have the same noise.
            let mut noise = self.secret.stream(&key, Role::PrivateNoise, SiteId(0), number);
            number += 1;
            let add = |value: f64| {
                let drawn: f64 = StandardNormal.sample(&mut noise);
                value + drawn * noise_multiplier * norm
            };
            Ok::<_, Error>(sum.into_iter().map(add).collect())
        })?;
        tracing::info!(patients = chosen.len(), modes = model.modes(), noise_multiplier, "masks from a model of their shapes");
        Ok(masks.iter().map(|_| model.sample(rng)).collect())
    }

    fn record(
        &self,
        ledger: &mut PrivacyLedger,
        path: &Path,
        number: u64,
        key: &[u8; 32],
        mechanism: SubsampledGaussian,
    ) -> Result<(), Error> {
        let step = PrivateStep {
            run: MASKS.to_owned(),
            round: number,
            // Other masks are another release, not the same one with another result.
            state: hex(key),
            key: hex(key),
            sampling_rate: mechanism.sampling_rate(),
            noise_multiplier: mechanism.noise_multiplier(),
        };
        if let Some(total) = self.total.filter(|_| !ledger.contains(&step)) {
            let left = ledger.spent().steps_left(Budget::new(total.epsilon, total.delta)?, mechanism, SUMS - number)?;
            if left < SUMS - number {
                let (epsilon, path) = (total.epsilon, path.display());
                let fact = format!("their epsilon and what {path} lists exceed epsilon_max ({epsilon})");
                return Err(Error::Masks { fact });
            }
        }
        ledger.record(step).map(|_| ())
    }
}

/// One mask of each patient, drawn at random.
fn one_of_each<'a>(masks: &'a [Array2<u8>], patients: &[u32], rng: &mut impl Rng) -> Vec<ArrayView2<'a, u8>> {
    assert_eq!(masks.len(), patients.len(), "a patient for every mask");
    let mut of_patients = BTreeMap::<u32, Vec<usize>>::new();
    for (mask, &patient) in patients.iter().enumerate() {
        of_patients.entry(patient).or_default().push(mask);
    }
    of_patients.values().filter_map(|own| own.choose(rng)).map(|&mask| masks[mask].view()).collect()
}

/// Identifies a sum and the noise that is added to it.
fn key_of(sum: &[f64], number: u64, mechanism: SubsampledGaussian) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(b"asyndgan masks v1").chain_update(number.to_le_bytes());
    for value in sum.iter().chain(&[mechanism.noise_multiplier()]) {
        hash.update(value.to_le_bytes());
    }
    hash.finalize().into()
}
