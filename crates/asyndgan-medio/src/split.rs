use std::{collections::BTreeMap, path::Path};

use crate::Error;

/// The authors' case lists for BraTS 2018 (ten sites and a test set).
pub const BRATS_2018: &str = include_str!("../../../data/brats2018-split.toml");
/// The lists for the 30 tiles of Kumar et al. (four organs and two test sets).
pub const KUMAR: &str = include_str!("../../../data/monuseg-split.toml");

/// A published split: the sites in order, and the held-out case names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSplit {
    /// Each site's name and case names.
    pub sites: Vec<(String, Vec<String>)>,
    /// Held-out case names.
    pub test: Vec<String>,
}

/// Reads the text of a split; `path` is only used in error messages. Keys that begin with `test` are held out; the
/// others are sites in the order of the file.
///
/// # Errors
/// [`Error::Unsupported`] if the text is not a table of lists of names, or if a name is listed twice.
pub fn published_split(path: &Path, text: &str) -> Result<PublishedSplit, Error> {
    let wrong = |fact: String| Error::unsupported(path, format!("{fact}; correct it"));
    let lists: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
    let mut seen = BTreeMap::new();
    let mut split = PublishedSplit { sites: Vec::new(), test: Vec::new() };
    // The table is sorted by key; the order of the file is the order of the sites.
    let mut keys: Vec<_> = lists.keys().collect();
    keys.sort_by_key(|key| text.find(&format!("\n{key} =")));
    for key in keys {
        let names: Option<Vec<String>> = lists[key].as_array().and_then(|a| a.iter().map(|v| v.as_str().map(str::to_owned)).collect());
        let names = names.ok_or_else(|| wrong(format!("{key} is not a list of names")))?;
        for name in &names {
            if let Some(other) = seen.insert(name.clone(), key.clone()) {
                return Err(wrong(format!("{name} appears in {other} and in {key}")));
            }
        }
        if key.starts_with("test") { split.test.extend(names) } else { split.sites.push((key.clone(), names)) }
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_lists_are_whole() {
        let brats = published_split(Path::new(""), BRATS_2018).expect("valid");
        assert_eq!((brats.sites.len(), brats.sites.iter().map(|s| s.1.len()).sum::<usize>(), brats.test.len()), (10, 168, 42));
        let kumar = published_split(Path::new(""), KUMAR).expect("valid");
        let names: Vec<&str> = kumar.sites.iter().map(|s| s.0.as_str()).collect();
        assert_eq!((names, kumar.test.len()), (vec!["breast", "liver", "kidney", "prostate"], 14));
    }

    #[test]
    fn a_case_in_two_sites_is_refused() {
        assert!(published_split(Path::new(""), "a = [\"x\"]\ntest = [\"x\"]").is_err());
    }
}
