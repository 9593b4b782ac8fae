//! Real tiles; no other test needs them.
#![allow(missing_docs, reason = "tests")]

use std::{fs, path::PathBuf};

use asyndgan_paper::{Experiment, Prepared, Step};
use e2e::{describe, done, smoke};

#[test]
#[ignore = "needs the 30 tiles of Kumar et al., in a folder named by MONUSEG"]
fn the_tiles_of_kumar_et_al_are_split_by_organ() {
    let data = PathBuf::from(std::env::var_os("MONUSEG").expect("MONUSEG names a folder"));
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), &smoke(Experiment::Table2, Some(data)));
    done(folder.path(), &["prepare"]);
    let text = fs::read_to_string(Step::Prepare.proof(folder.path(), Experiment::Table2)).expect("prepared");
    let prepared: Prepared = serde_json::from_str(&text).expect("a record");
    let sites: Vec<_> = prepared.sites.iter().map(|s| (s.name.as_str(), s.patients.len(), s.cases)).collect();
    // A tile of 1000, halved, is covered by 4 x 4 patches of 143.
    assert_eq!(sites, ["breast", "liver", "kidney", "prostate"].map(|organ| (organ, 4, 4 * 16)));
    assert_eq!(prepared.test.len(), 14);
}
