//! The masks that may leave a site: as they are, deformed, recombined from several patients, or sampled.

use anyhow::{Result, ensure};
use asyndgan_data::{deform_condition, recombine};
use asyndgan_protocol::{ConditionPolicy, Stream};
use asyndgan_task::Task;
use asyndgan_training::{Pairs, SampledMasks};
use ndarray::Array2;
use tch::Tensor;

use crate::tensors::planes;

/// The label maps that leave a site under a policy; `None` for those of the pairs. The stream must be secret.
///
/// # Errors
/// If masks are to be recombined or sampled, and the patient of a case is unknown; if there is only one patient whose
/// masks are to be recombined; or if the budget does not allow sampled masks.
pub(crate) fn shared_masks(
    policy: ConditionPolicy,
    task: &Task,
    pairs: &Pairs,
    sampled: &SampledMasks,
    rng: &mut Stream,
) -> Result<Option<Tensor>> {
    if policy == ConditionPolicy::All {
        return Ok(None);
    }
    ensure!(
        policy == ConditionPolicy::Deformed || pairs.unknown_patients() == 0,
        "the data do not name the patient of every case, so its masks cannot be {}: name patients and run asyndgan data prepare again, or \
         set conditions = \"deformed\"",
        if policy == ConditionPolicy::Sampled { "sampled" } else { "recombined" }
    );
    let codes = pairs.label_maps();
    let masks = release_masks(policy, task, &planes(codes), &pairs.patients(), sampled, rng)?;
    let flat: Vec<u8> = masks.into_iter().flatten().collect();
    Ok(Some(Tensor::from_slice(&flat).view(&codes.size()[..])))
}

/// Masks as they leave a site under a policy. Recombined ones are deformed as well: else the outline, which is that of
/// one patient, would be enough to recognise the patient.
pub(crate) fn release_masks(
    policy: ConditionPolicy,
    task: &Task,
    own: &[Array2<u8>],
    patients: &[u32],
    sampled: &SampledMasks,
    rng: &mut Stream,
) -> Result<Vec<Array2<u8>>> {
    let masks = match policy {
        ConditionPolicy::All => return Ok(own.to_vec()),
        ConditionPolicy::Sampled => return Ok(sampled.sample(task, own, patients, rng)?),
        ConditionPolicy::Deformed => own.to_vec(),
        ConditionPolicy::Recombined => recombine(task, own, patients, 1, rng)?.concat(),
    };
    Ok(masks.iter().map(|mask| deform_condition(task, mask.view(), rng)).collect())
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::{PrivacyBudget, Role, SiteSecret, stream};

    use super::*;

    #[test]
    fn one_patient_alone_is_refused() {
        let own = vec![Array2::from_elem((8, 8), 1); 2];
        let mut rng = stream(0, Role::Transplant, 0, 0);
        let sampled = SampledMasks::new(PrivacyBudget { epsilon: 2.0, delta: 1e-5 }, SiteSecret::new([0; 32]));
        let mut of =
            |policy| release_masks(policy, asyndgan_paper::Experiment::Table2.task().expect("a task"), &own, &[4, 4], &sampled, &mut rng);
        assert!(of(ConditionPolicy::Recombined).is_err());
        assert_eq!(of(ConditionPolicy::All).expect("as they are"), own);
        let refused = of(ConditionPolicy::Sampled).expect_err("many small objects").to_string();
        assert!(refused.contains("many small objects"), "{refused}");
    }
}
