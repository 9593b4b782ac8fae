//! Who holds which patients: real folders by the published lists, phantoms by site.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, ensure};
use asyndgan_medio::{Error, PublishedSplit, partition_by_size};

/// One site's name and its items (indices into whatever was found).
pub(crate) type SharedOut = (Vec<(String, Vec<usize>)>, Vec<usize>);

/// Shares named, sized items out to at most `sites` sites and a held-out set.
///
/// Names that a published list knows go where it says. The others go to sites that would stay empty, then to the smallest; when the
/// lists know no training case, all go by size. When nothing is held out, every fifth by size is.
pub(crate) fn share_out(split: &PublishedSplit, names: &[String], sizes: &[f64], sites: usize, folder: PathBuf) -> Result<SharedOut> {
    let place: BTreeMap<&str, usize> =
        split.sites.iter().enumerate().flat_map(|(i, (_, names))| names.iter().map(move |n| (n.as_str(), i))).collect();
    let mut test: Vec<usize> = (0..names.len()).filter(|&i| split.test.contains(&names[i])).collect();
    let mut shared: Vec<(String, Vec<usize>)> = split.sites.iter().take(sites).map(|(name, _)| (name.clone(), Vec::new())).collect();
    let mut rest = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match place.get(name.as_str()) {
            Some(&site) if site < shared.len() => shared[site].1.push(i),
            _ if test.contains(&i) => {}
            _ => rest.push(i),
        }
    }
    if test.is_empty() {
        let mut all: Vec<usize> = (0..names.len()).collect();
        all.sort_by(|&a, &b| sizes[a].total_cmp(&sizes[b]).then(a.cmp(&b)));
        test = all.into_iter().skip(2).step_by(5).collect();
        rest.retain(|i| !test.contains(i));
        for site in &mut shared {
            site.1.retain(|i| !test.contains(i));
        }
    }
    if shared.iter().all(|s| s.1.is_empty()) {
        let parts = partition_by_size(&rest.iter().map(|&i| sizes[i]).collect::<Vec<_>>(), sites);
        shared =
            parts.into_iter().enumerate().map(|(k, part)| (format!("by_size_{k}"), part.into_iter().map(|j| rest[j]).collect())).collect();
    } else {
        rest.sort_by(|&a, &b| sizes[a].total_cmp(&sizes[b]).then(a.cmp(&b)));
        for i in rest {
            let smallest = (0..shared.len()).min_by_key(|&k| shared[k].1.len()).expect("there are sites");
            shared[smallest].1.push(i);
        }
        shared.retain(|s| !s.1.is_empty());
    }
    let found = names.len();
    ensure!(!test.is_empty() && !shared.is_empty(), Error::TooFew { path: folder, expected: 3, found });
    Ok((shared, test))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> PublishedSplit {
        asyndgan_medio::published_split(text).expect("valid")
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn listed_cases_go_where_the_list_says_and_others_fill_up() {
        let lists = split("a = [\"p\", \"q\"]\nb = [\"r\"]\ntest = [\"t\"]");
        let (sites, test) = share_out(&lists, &names(&["p", "q", "t", "x"]), &[1.0, 2.0, 3.0, 4.0], 2, PathBuf::new()).expect("enough");
        assert_eq!((sites, test), (vec![("a".into(), vec![0, 1]), ("b".into(), vec![3])], vec![2]));
    }

    #[test]
    fn unknown_names_go_by_size_with_every_fifth_held_out() {
        let lists = split("a = [\"p\"]\nb = [\"q\"]\ntest = [\"t\"]");
        let (sites, test) =
            share_out(&lists, &names(&["u", "v", "w", "x", "y"]), &[5.0, 4.0, 3.0, 2.0, 1.0], 2, PathBuf::new()).expect("enough");
        assert_eq!(test, [2]);
        assert_eq!(sites, [("by_size_0".into(), vec![4, 3]), ("by_size_1".into(), vec![1, 0])]);
    }

    #[test]
    fn too_few_are_named() {
        let lists = split("a = [\"p\"]\ntest = [\"t\"]");
        assert!(share_out(&lists, &names(&["u"]), &[5.0], 2, PathBuf::from("data/x")).is_err_and(|e| e.to_string().contains("data/x")));
    }
}
