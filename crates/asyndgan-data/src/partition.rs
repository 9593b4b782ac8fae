//! Distribution of items to sites: by size, by group, or with a random skew. No patient appears in two places.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma};

use crate::Error;

/// Distributes items to sites by size: sorts them by size, then splits them into blocks whose lengths differ by at most
/// one.
///
/// Returns the indices of each site's items. Sites are never empty, so there are at most as many sites as items.
///
/// # Panics
/// If `sites` is 0.
///
/// # Reference
/// Section 4.1: ten sites by tumour volume.
///
/// # Example
/// ```
/// assert_eq!(asyndgan_data::partition_by_size(&[5.0, 1.0, 3.0], 2), [vec![1, 2], vec![0]]);
/// ```
pub fn partition_by_size(sizes: &[f64], sites: usize) -> Vec<Vec<usize>> {
    assert!(sites > 0, "no sites");
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| sizes[a].total_cmp(&sizes[b]).then(a.cmp(&b)));
    let sites = sites.min(sizes.len());
    let mut parts = Vec::with_capacity(sites);
    for site in 0..sites {
        let left = sites - site;
        let rest = order.split_off(order.len().div_ceil(left));
        parts.push(std::mem::replace(&mut order, rest));
    }
    parts
}

/// Distributes items by group (such as an organ or a centre): one site per group, in the order of the group names.
///
/// # Example
/// ```
/// let sites = asyndgan_data::partition_by_group(&["liver", "breast", "liver"]);
/// assert_eq!(sites, [("breast".to_owned(), vec![1]), ("liver".to_owned(), vec![0, 2])]);
/// ```
pub fn partition_by_group(groups: &[impl AsRef<str>]) -> Vec<(String, Vec<usize>)> {
    let mut sites: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, group) in groups.iter().enumerate() {
        sites.entry(group.as_ref().into()).or_default().push(i);
    }
    sites.into_iter().collect()
}

/// Distributes items so that the group proportions differ between sites: each group's items are distributed with
/// proportions from a symmetric Dirichlet distribution. A small `alpha` gives sites with few groups each, a large one
/// gives equal mixtures.
///
/// Items of one patient stay together and count as the patient's first group. Sites may be empty.
///
/// # Panics
/// If `sites` is 0, `alpha` is not positive and finite, or groups and patients differ in number.
///
/// # Reference
/// Yurochkin et al., "Bayesian nonparametric federated learning of neural networks", ICML 2019.
pub fn partition_dirichlet(
    groups: &[impl AsRef<str>],
    patients: &[impl AsRef<str>],
    sites: usize,
    alpha: f64,
    rng: &mut impl Rng,
) -> Vec<Vec<usize>> {
    assert!(sites > 0 && groups.len() == patients.len(), "no sites, or not a group and a patient for every item");
    let gamma = Gamma::new(alpha, 1.0).expect("alpha is positive and finite");
    let mut items: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, patient) in patients.iter().enumerate() {
        items.entry(patient.as_ref()).or_default().push(i);
    }
    let mut patients_of: BTreeMap<&str, Vec<Vec<usize>>> = BTreeMap::new();
    for items in items.into_values() {
        patients_of.entry(groups[items[0]].as_ref()).or_default().push(items);
    }
    let mut parts = vec![Vec::new(); sites];
    for patients in patients_of.into_values() {
        let draws: Vec<f64> = (0..sites).map(|_| gamma.sample(rng)).collect();
        let total: f64 = draws.iter().sum();
        for items in patients {
            // A tiny alpha can draw nothing but zeros: then chance decides alone.
            let mut at = rng.random_range(0.0..1.0) * total;
            let chosen = draws.iter().position(|d| {
                at -= d;
                at < 0.0
            });
            parts[chosen.unwrap_or_else(|| rng.random_range(0..sites))].extend(items);
        }
    }
    for part in &mut parts {
        part.sort_unstable();
    }
    parts
}

/// Checks that no patient appears in two places.
///
/// # Errors
/// [`Error::Twice`].
pub fn check_disjoint<'a>(places: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>) -> Result<(), Error> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (place, patients) in places {
        for patient in patients {
            let before = seen.insert(patient, place);
            if let Some(other) = before.filter(|&other| other != place) {
                return Err(Error::Twice { name: patient.into(), places: vec![other.into(), place.into()] });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn dirichlet_parts_hold_everything_once_and_keep_patients_together() {
        let groups: Vec<String> = (0..200).map(|i| format!("organ {}", i / 2 % 4)).collect();
        let patients: Vec<String> = (0..200).map(|i| format!("patient {}", i / 2)).collect();
        let skew = |alpha| {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
            let parts = partition_dirichlet(&groups, &patients, 4, alpha, &mut rng);
            let mut all: Vec<usize> = parts.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..200).collect::<Vec<_>>());
            let of = |part: &Vec<usize>| part.iter().map(|&i| patients[i].clone()).collect::<Vec<_>>();
            let named: Vec<Vec<String>> = parts.iter().map(of).collect();
            check_disjoint(["a", "b", "c", "d"].into_iter().zip(named.iter().map(|p| p.iter().map(String::as_str).collect())))
                .expect("together");
            // The largest share that one group has of a site, averaged.
            let share = |p: &Vec<usize>| {
                (0..4).map(|g| p.iter().filter(|&&i| i / 2 % 4 == g).count()).max().unwrap_or(0) as f64 / p.len().max(1) as f64
            };
            parts.iter().map(share).sum::<f64>() / 4.0
        };
        assert!(skew(0.05) > skew(100.0) + 0.15, "{} {}", skew(0.05), skew(100.0));
    }

    #[test]
    fn a_patient_in_two_places_is_named() {
        let error = check_disjoint([("site 1", vec!["p", "q"]), ("test", vec!["q"])]).expect_err("q twice");
        assert_eq!(error.to_string(), "q appears in site 1 and in test; keep it in only one");
    }
}
