//! Damaged files of prepared cases are errors: never a panic, never an allocation that the file does not warrant.
#![allow(missing_docs, reason = "tests")]

use std::fs;

use asyndgan_data::{Case, CaseOrigin, CaseSet, TestSet, write_cases};
use ndarray::{Array2, Array3};
use proptest::prelude::*;

#[test]
fn tensors_of_no_elements_reserve_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let shapes = r#""images":{"dtype":"F32","shape":[0,1099511627776,64,1,1],"data_offsets":[0,0]},"truth":{"dtype":"U32","shape":[0,1,1,1],"data_offsets":[0,0]}"#;
    let header = format!(r#"{{"__metadata__":{{"ids":"a"}},{shapes}}}"#);
    fs::write(folder.path().join("a.safetensors"), [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat())
        .expect("written");
    assert!(TestSet::open(folder.path()).expect("listed").read(0).is_err_and(|e| e.to_string().contains("contains 0 of images")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_damaged_set_of_cases_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        kept in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.safetensors");
        let case = Case { id: "c".into(), image: Array3::zeros((1, 4, 4)), condition: Array2::zeros((4, 4)) };
        write_cases(&path, CaseOrigin::default(), &[case.clone(), case]).expect("written");
        let mut bytes = fs::read(&path).expect("there");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(kept.index(bytes.len()));
        }
        fs::write(&path, &bytes).expect("written");
        if let Ok(set) = CaseSet::open(&[path]) {
            (0..set.len()).for_each(|n| drop(set.read(n)));
        }
        TestSet::open(folder.path()).expect("listed").read(0).expect_err("no held-out case");
    }
}
