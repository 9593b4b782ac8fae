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
use rand::Rng;
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
    /// exist. `rng` draws from the model; the model does not depend on it.
    ///
    /// # Shapes
    /// Masks `[rows, columns]` with the codes of the task, and the patient of each.
    ///
    /// # Errors
    /// [`Error::Masks`] if a model of shapes cannot draw the masks of the task, if there are too few patients, or if
    /// the total budget does not allow them; [`Error::Privacy`] if no noise meets the budget; the errors of
    /// [`PrivacyLedger`].
    ///
    /// # Panics
    /// If there is no mask, or not one patient for each.
    pub fn sample(&self, task: &Task, masks: &[Array2<u8>], patients: &[u32], rng: &mut impl Rng) -> Result<Vec<Array2<u8>>, Error> {
        if task.labels == LabelKind::Instances {
            let fact = "a model of shapes cannot draw many small objects: use recombined or deformed masks".to_owned();
            return Err(Error::Masks { fact });
        }
        let chosen = self.one_of_each(masks, patients);
        let noise_multiplier = asyndgan_privacy::noise_multiplier(Budget::new(self.budget.epsilon, self.budget.delta)?, 1.0, SUMS)?;
        let mechanism = SubsampledGaussian::new(1.0, noise_multiplier)?;
        let mut ledger = self.ledger.as_deref().map(PrivacyLedger::open).transpose()?;
        let mut number = 0;
        let model = ShapeModel::fit(task, &chosen, noise_multiplier, |sum, norm| {
            let key = self.key_of(&sum, number, mechanism);
            if let Some((ledger, path)) = ledger.as_mut().zip(self.ledger.as_deref()) {
                self.record(ledger, path, number, &hex(&Sha256::digest(key)), mechanism)?;
            }
            // Keyed by the sum itself, no two sums have the same noise.
            let mut noise = self.secret.stream(&key, Role::PrivateNoise, SiteId(0), number + 1);
            number += 1;
            let add = |value: f64| {
                let drawn: f64 = StandardNormal.sample(&mut noise);
                value + drawn * noise_multiplier * norm
            };
            Ok::<_, Error>(sum.into_iter().map(add).collect())
        })?;
        tracing::info!(patients = chosen.len(), modes = model.modes(), noise_multiplier, "masks from a model of their shapes");
        if model.modes() == 0 {
            tracing::warn!("the noise hides how shapes differ: all masks that leave have the mean shape");
        }
        let made: Vec<Array2<u8>> = masks.iter().map(|_| model.sample(rng)).collect();
        let is_marked = |mask: &Array2<u8>| mask.iter().any(|&code| task.is_class(code));
        if made.iter().filter(|mask| is_marked(mask)).count() * 2 < made.len() {
            let fact =
                format!("a model of {} patients draws masks without a class, and its epsilon is spent: use recombined masks", chosen.len());
            return Err(Error::Masks { fact });
        }
        Ok(made)
    }

    /// One mask of each patient. It depends on the masks of that patient and the secret alone, so that one patient
    /// changes one term of each sum.
    fn one_of_each<'a>(&self, masks: &'a [Array2<u8>], patients: &[u32]) -> Vec<ArrayView2<'a, u8>> {
        assert_eq!(masks.len(), patients.len(), "a patient for every mask");
        let mut first = BTreeMap::<u32, ([u8; 32], usize)>::new();
        for (number, (mask, &patient)) in masks.iter().zip(patients).enumerate() {
            let bytes: Vec<u8> = mask.iter().copied().collect();
            let drawn = (self.secret_of(b"choice", &bytes), number);
            first.entry(patient).and_modify(|least| *least = drawn.min(*least)).or_insert(drawn);
        }
        first.into_values().map(|(_, number)| masks[number].view()).collect()
    }

    /// The seed of the noise of a sum, which nobody can compute without the secret.
    fn key_of(&self, sum: &[f64], number: u64, mechanism: SubsampledGaussian) -> [u8; 32] {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend(sum.iter().chain(&[mechanism.noise_multiplier()]).flat_map(|value| value.to_le_bytes()));
        self.secret_of(b"noise", &bytes)
    }

    /// 32 bytes that follow from the secret and a value.
    fn secret_of(&self, purpose: &[u8], value: &[u8]) -> [u8; 32] {
        let digest: [u8; 32] = Sha256::new().chain_update(b"asyndgan masks v1").chain_update(purpose).chain_update(value).finalize().into();
        let mut bytes = [0; 32];
        self.secret.stream(&digest, Role::PrivateNoise, SiteId(0), 0).fill_bytes(&mut bytes);
        bytes
    }

    fn record(&self, ledger: &mut PrivacyLedger, path: &Path, number: u64, name: &str, mechanism: SubsampledGaussian) -> Result<(), Error> {
        let step = PrivateStep {
            run: MASKS.to_owned(),
            round: number,
            // Other masks are another release, not the same one with another result.
            state: name.to_owned(),
            key: name.to_owned(),
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
