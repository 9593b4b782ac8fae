//! `asyndgan score`: scores of real files, and errors that name the file before anything is scored.
#![allow(missing_docs, reason = "tests")]

use std::{fs, path::Path, process::Output};

use e2e::{program, root};
use serde_json::Value;

/// Two folders with the same two masks.
fn folders(place: &Path) {
    let golden = root().join("data/golden/medio");
    for part in ["truth", "prediction"] {
        fs::create_dir(place.join(part)).expect("made");
        fs::copy(golden.join("labels32.tif"), place.join(part).join("tile.tif")).expect("copied");
        fs::copy(golden.join("u1_little.nii.gz"), place.join(part).join("volume.nii.gz")).expect("copied");
        fs::write(place.join(part).join("dataset.json"), "{}").expect("written");
    }
}

fn score(place: &Path, more: &[&str]) -> Output {
    let [truth, prediction] = ["truth", "prediction"].map(|part| place.join(part).display().to_string());
    program().args(["score", "--truth", &truth, "--prediction", &prediction]).args(more).output().expect("the program starts")
}

#[test]
fn equal_masks_are_scored_and_everything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    folders(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    for (plot, out) in [("s.png", "s.json"), ("s.svg", "s.csv")] {
        let output = score(folder.path(), &["--instances", "--out", &file(out), "--plot", &file(plot), "--convention", "medpy"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("convention medpy"));
        assert!(fs::metadata(file(plot)).is_ok_and(|m| m.len() > 1000));
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(file("s.json")).expect("written")).expect("JSON");
    assert_eq!(report["cases"][0]["case"], "tile");
    assert_eq!(report["cases"][0]["metrics"]["aji"], 1.0);
    assert_eq!(report["convention"]["name"], "medpy");
    assert_eq!(report["summary"][0]["n"], 2);
    assert_eq!(fs::read_to_string(file("s.csv")).expect("written").lines().count(), 3);
}

#[test]
fn what_is_undefined_is_null_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    for (part, file) in [("truth", "square.png"), ("prediction", "nothing.png")] {
        fs::create_dir(folder.path().join(part)).expect("made");
        fs::copy(root().join("data/golden/score").join(file), folder.path().join(part).join("m.png")).expect("copied");
    }
    let out = folder.path().join("s.json").display().to_string();
    let output = score(folder.path(), &["--out", &out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&fs::read_to_string(out).expect("written")).expect("JSON");
    let case = &report["cases"][0];
    assert!(report["summary"].as_array().is_some_and(|s| s.iter().any(|row| row["metric"] == "dice" && row["pooled"] == 0.0)));
    assert!(case["metrics"]["hd95"].is_null() && case["metrics"]["dice"] == 0.0);
    assert_eq!(case["undefined"]["hd95"], "the prediction is empty");
}

#[test]
fn what_does_not_fit_is_named_before_anything_is_scored() {
    for (spoil, words) in [
        ("alone", ["no counterpart", "extra.png"]),
        ("shape", ["tile.nii has shape", "both must have the same grid"]),
        ("spacing", ["volume.nii lies up to", "correct its header"]),
        ("turned", ["volume.nii.gz lies up to", "SimpleITK.Resample"]),
        ("kind", ["extra.jpg", "convert it"]),
        ("broken", ["tile.tif is unreadable", "intact copy"]),
        ("ending", ["--out must end", ".csv"]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        folders(folder.path());
        let (golden, prediction) = (root().join("data/golden/medio"), folder.path().join("prediction"));
        let mut out = folder.path().join("s.json").display().to_string();
        match spoil {
            "alone" => drop(fs::copy(golden.join("labels16.png"), prediction.join("extra.png")).expect("copied")),
            "shape" => {
                fs::remove_file(prediction.join("tile.tif")).expect("removed");
                fs::copy(golden.join("both.nii"), prediction.join("tile.nii")).expect("copied");
            }
            "spacing" => {
                fs::remove_file(prediction.join("volume.nii.gz")).expect("removed");
                fs::copy(golden.join("neither.nii"), prediction.join("volume.nii")).expect("copied");
            }
            "turned" => drop(fs::copy(root().join("data/golden/score/turned.nii.gz"), prediction.join("volume.nii.gz")).expect("copied")),
            "kind" => fs::write(prediction.join("extra.jpg"), "").expect("written"),
            "broken" => fs::write(prediction.join("tile.tif"), b"II*\0").expect("written"),
            _ => out = "s.txt".into(),
        }
        let output = score(folder.path(), &["--instances", "--out", &out]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.iter().all(|w| said.contains(w)), "{spoil}: {said}");
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn labels_that_one_side_never_has_are_warned_of_and_a_label_can_be_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    for part in ["truth", "prediction"] {
        fs::create_dir(folder.path().join(part)).expect("made");
    }
    let write = |part: &str, labels: [u8; 4]| {
        let header = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 1\nencoding: raw\nspacings: 1 1 1\n\n";
        fs::write(folder.path().join(part).join("m.nrrd"), [&header[..], &labels].concat()).expect("written");
    };
    write("truth", [0, 1, 1, 3]);
    write("prediction", [0, 255, 255, 255]);
    let output = score(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("the truth has the labels 1, 3, predictions have 255"), "{said}");
    write("prediction", [0, 1, 1, 1]);
    let dice = |more: &[&str]| {
        let out = folder.path().join("s.json").display().to_string();
        let output = score(folder.path(), &[more, &["--out", &out]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_str(&fs::read_to_string(out).expect("written")).expect("JSON");
        report["cases"][0]["metrics"]["dice"].as_f64().expect("a number")
    };
    assert!((dice(&[]) - 0.8).abs() < 1e-12);
    assert!((dice(&["--ignore", "3"]) - 1.0).abs() < 1e-12);
}
