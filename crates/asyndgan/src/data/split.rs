//! Assigns patients to sites.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Result, ensure};
use asyndgan_data::{Error, partition_by_size, partition_dirichlet};
use asyndgan_protocol::{Role, stream};
use asyndgan_task::SiteLists;

/// The facts about a case that the split needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) case: String,
    pub(crate) patient: String,
    /// How much is labelled.
    pub(crate) size: f64,
    /// Whether the data set or the user's own lists hold it out.
    pub(crate) held_out: bool,
    /// Whether it has all channels and classes of the task, as far as its site declares.
    pub(crate) is_complete: bool,
    /// Indices of the classes that its mask shows.
    pub(crate) classes: BTreeSet<usize>,
}

/// How patients are split across sites.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// By published lists; unlisted cases go to sites that would otherwise be empty, then to the smallest site.
    Lists,
    /// By the user's own lists; unlisted cases are not used.
    OwnLists,
    /// Each site holds a range of sizes.
    Size,
    /// Each site holds its own mixture of the size quartiles.
    Dirichlet { alpha: f64, seed: u64 },
}

/// Sites' names with the indices of their items, and those of the held-out ones.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SharedOut {
    pub(crate) sites: Vec<(String, Vec<usize>)>,
    pub(crate) test: Vec<usize>,
}

/// A patient's items, which stay together.
struct Patient {
    items: Vec<usize>,
    size: f64,
    site: Option<usize>,
}

/// Splits items across at most `sites` sites and a held-out set, patient by patient.
///
/// If the lists name no training case, all cases are split by size. If nothing is held out, every fifth patient by size
/// is held out, of those with all channels and classes.
pub(crate) fn share_out(lists: &SiteLists, items: &[Item], sites: usize, rule: Rule, folder: &Path) -> Result<SharedOut> {
    let (mut patients, mut test) = grouped(lists, items, sites)?;
    patients.sort_by(|a, b| a.size.total_cmp(&b.size).then(a.items.cmp(&b.items)));
    if rule == Rule::OwnLists {
        let unlisted: Vec<&str> =
            patients.iter().filter(|p| p.site.is_none()).flat_map(|p| &p.items).map(|&i| items[i].case.as_str()).collect();
        if !unlisted.is_empty() {
            tracing::info!("cases that no list names are not used: {}", unlisted.join(", "));
        }
        patients.retain(|p| p.site.is_some());
    }
    if test.is_empty() {
        // What a site does not have cannot be scored.
        let is_complete = |patient: &Patient| patient.items.iter().all(|&i| items[i].is_complete);
        let (complete, others): (Vec<_>, Vec<_>) = patients.into_iter().partition(is_complete);
        patients = others;
        for (k, patient) in complete.into_iter().enumerate() {
            if k % 5 == 2 { test.extend(patient.items) } else { patients.push(patient) }
        }
        patients.sort_by(|a, b| a.size.total_cmp(&b.size).then(a.items.cmp(&b.items)));
    }
    let parts = match rule {
        Rule::OwnLists => by_lists(lists, patients, sites),
        Rule::Lists if patients.iter().any(|p| p.site.is_some()) => by_lists(lists, patients, sites),
        Rule::Lists | Rule::Size => {
            let parts = partition_by_size(&patients.iter().map(|p| p.size).collect::<Vec<_>>(), sites);
            named("by_size", parts, &patients)
        }
        Rule::Dirichlet { alpha, seed } => {
            let quarter: Vec<String> = (0..patients.len()).map(|k| (4 * k / patients.len()).to_string()).collect();
            let own: Vec<String> = (0..patients.len()).map(|k| k.to_string()).collect();
            named("dirichlet", partition_dirichlet(&quarter, &own, sites, alpha, &mut stream(seed, Role::Partition, 0, 0)), &patients)
        }
    };
    let shared: Vec<_> = parts.into_iter().filter(|s| !s.1.is_empty()).collect();
    ensure!(test.len() < items.len(), "{}: all {} cases are held out; keep some for training", folder.display(), items.len());
    let complete = items.iter().filter(|item| item.is_complete).count();
    ensure!(
        !test.is_empty() || complete == items.len(),
        "{}: {complete} of {} cases have all channels and classes, and at least 3 patients with such cases are needed to hold one out; \
         name the held-out cases in the list test",
        folder.display(),
        items.len()
    );
    ensure!(!test.is_empty() && !shared.is_empty(), Error::TooFew { path: folder.into(), expected: 3, found: items.len() });
    test.sort_unstable();
    Ok(SharedOut { sites: shared, test })
}

/// Training patients, with their listed site if they have one, and the held-out items.
fn grouped(lists: &SiteLists, items: &[Item], sites: usize) -> Result<(Vec<Patient>, Vec<usize>)> {
    let place: BTreeMap<&str, usize> =
        lists.sites.iter().enumerate().flat_map(|(i, site)| site.cases.iter().map(move |n| (n.as_str(), i))).collect();
    let mut of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        of.entry(&item.patient).or_default().push(i);
    }
    let (mut patients, mut test) = (Vec::new(), Vec::new());
    for (name, of) in of {
        let held_out = of.iter().filter(|&&i| items[i].held_out || lists.test.contains(&items[i].case)).count();
        let mut listed: Vec<usize> = of.iter().filter_map(|&i| place.get(items[i].case.as_str()).copied()).collect();
        listed.dedup();
        if listed.len() > 1 || held_out > 0 && held_out < of.len() {
            let mut places: Vec<String> = listed.iter().map(|&site| lists.sites[site].name.clone()).collect();
            places.extend((held_out > 0).then(|| "the held-out set".to_owned()));
            places.extend((places.len() < 2).then(|| "the unlisted cases".to_owned()));
            return Err(Error::Twice { name: format!("patient {name}"), places }.into());
        }
        if held_out > 0 {
            test.extend(of);
        } else {
            let size = of.iter().map(|&i| items[i].size).sum();
            patients.push(Patient { items: of, size, site: listed.first().copied().filter(|&site| site < sites) });
        }
    }
    Ok((patients, test))
}

fn by_lists(lists: &SiteLists, patients: Vec<Patient>, sites: usize) -> Vec<(String, Vec<usize>)> {
    let mut shared: Vec<(String, Vec<usize>)> = lists.sites.iter().take(sites).map(|site| (site.name.clone(), Vec::new())).collect();
    let (listed, rest): (Vec<_>, Vec<_>) = patients.into_iter().partition(|p| p.site.is_some());
    for patient in listed {
        shared[patient.site.expect("listed")].1.extend(patient.items);
    }
    for patient in rest {
        let smallest = (0..shared.len()).min_by_key(|&k| shared[k].1.len()).expect("there are sites");
        shared[smallest].1.extend(patient.items);
    }
    for site in &mut shared {
        site.1.sort_unstable();
    }
    shared
}

fn named(name: &str, parts: Vec<Vec<usize>>, patients: &[Patient]) -> Vec<(String, Vec<usize>)> {
    let items = |part: Vec<usize>| part.into_iter().flat_map(|p| patients[p].items.clone()).collect();
    parts.into_iter().enumerate().map(|(k, part)| (format!("{name}_{k}"), items(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> SiteLists {
        SiteLists::parse(text).expect("valid")
    }

    fn items(cases: &[(&str, f64)]) -> Vec<Item> {
        let item = |(name, size): &(&str, f64)| {
            let patient = name.split('/').next().unwrap_or(name).to_owned();
            Item { case: (*name).to_owned(), patient, size: *size, held_out: false, is_complete: true, classes: BTreeSet::new() }
        };
        cases.iter().map(item).collect()
    }

    #[test]
    fn listed_cases_go_where_the_list_says_and_others_fill_up() {
        let lists = split("a = [\"p\", \"q\"]\nb = [\"r\"]\ntest = [\"t\"]");
        let all = items(&[("p", 1.0), ("q", 2.0), ("t", 3.0), ("x", 4.0)]);
        let shared = share_out(&lists, &all, 2, Rule::Lists, Path::new("")).expect("enough");
        assert_eq!(shared, SharedOut { sites: vec![("a".into(), vec![0, 1]), ("b".into(), vec![3])], test: vec![2] });
    }

    #[test]
    fn unknown_names_go_by_size_with_every_fifth_held_out() {
        let lists = split("a = [\"p\"]\nb = [\"q\"]\ntest = [\"t\"]");
        let all = items(&[("u", 5.0), ("v", 4.0), ("w", 3.0), ("x", 2.0), ("y", 1.0)]);
        let shared = share_out(&lists, &all, 2, Rule::Lists, Path::new("")).expect("enough");
        assert_eq!(shared, SharedOut { sites: vec![("by_size_0".into(), vec![4, 3]), ("by_size_1".into(), vec![1, 0])], test: vec![2] });
    }

    #[test]
    fn own_lists_leave_other_cases_out() {
        let lists = split("a = [\"p\", \"q\"]\nb = [\"r\"]\ntest = [\"t\"]");
        let all = items(&[("p", 1.0), ("q", 2.0), ("r", 2.0), ("t", 3.0), ("x", 4.0)]);
        let shared = share_out(&lists, &all, 2, Rule::OwnLists, Path::new("")).expect("enough");
        assert_eq!(shared, SharedOut { sites: vec![("a".into(), vec![0, 1]), ("b".into(), vec![2])], test: vec![3] });
    }

    #[test]
    fn only_complete_cases_are_held_out() {
        let mut all = items(&[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0), ("f", 6.0)]);
        all[2].is_complete = false;
        let shared = share_out(&SiteLists::default(), &all, 2, Rule::Size, Path::new("")).expect("enough");
        assert_eq!(shared.test, [3]);
    }

    #[test]
    fn too_few_are_named() {
        let lists = split("a = [\"p\"]\ntest = [\"t\"]");
        let found = share_out(&lists, &items(&[("u", 5.0)]), 2, Rule::Lists, Path::new("data/x"));
        assert!(found.is_err_and(|e| e.to_string().contains("data/x")));
    }

    #[test]
    fn visits_of_one_patient_stay_together_and_lists_may_not_part_them() {
        let all = items(&[("p/1", 1.0), ("p/2", 9.0), ("q", 2.0), ("r", 3.0), ("s", 4.0), ("t", 5.0)]);
        for rule in [Rule::Size, Rule::Dirichlet { alpha: 0.3, seed: 4 }] {
            let shared = share_out(&split("a = []"), &all, 3, rule, Path::new("")).expect("enough");
            assert!(
                shared.sites.iter().map(|s| &s.1).chain([&shared.test]).any(|part| part.contains(&0) && part.contains(&1)),
                "{shared:?}"
            );
        }
        let parted = share_out(&split("a = [\"p/1\"]\nb = [\"p/2\"]"), &all, 3, Rule::Lists, Path::new(""));
        assert!(parted.is_err_and(|e| e.to_string().contains("patient p appears in a and in b")));
    }
}
