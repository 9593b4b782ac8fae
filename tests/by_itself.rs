//! Standalone generators and segmenters, for masks and images outside a run.
#![allow(missing_docs, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use asyndgan_paper::{Experiment, Step};
use e2e::{describe, done, program, root, smoke};

fn run(arguments: &[&str], paths: &[(&str, &Path)]) -> Output {
    let paths = paths.iter().flat_map(|(name, path)| [(*name).to_owned(), path.display().to_string()]);
    program().args(arguments).args(paths).output().expect("the program starts")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn prepared(experiment: Experiment) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), &smoke(experiment, None));
    done(folder.path(), &["prepare"]);
    folder
}

fn golden(name: &str) -> PathBuf {
    root().join("data/golden/medio").join(name)
}

#[test]
fn a_segmenter_of_a_hospitals_own_cases_gives_masks_in_the_images_own_geometry() {
    let folder = prepared(Experiment::Table1);
    let [cases, segmenter, found, truth] = ["prepared/site-1", "segmenter.safetensors", "found", "truth"].map(|n| folder.path().join(n));
    let trained = run(&["train-segmenter", "--task", "brain", "--profile", "smoke"], &[("--cases", &cases), ("--out", &segmenter)]);
    assert!(trained.status.success(), "{}", words(&trained));
    assert!(fs::read_to_string(folder.path().join("segmenter.csv")).is_ok_and(|csv| csv.starts_with("step,segmenter/loss\n0,")));
    // One lies straight, one turned in the patient; both have labels of their own, which score holds against the grid
    // of the masks.
    fs::create_dir(&truth).expect("made");
    for name in ["u1_little.nii.gz", "qform.nii"] {
        fs::copy(golden(name), truth.join(name)).expect("copied");
        let image = golden(name).display().to_string();
        let output = run(&["segment", &image], &[("--segmenter", &segmenter), ("--out", &found)]);
        assert!(output.status.success(), "{}", words(&output));
    }
    let scored = run(&["score", "--instances"], &[("--truth", &truth), ("--prediction", &found)]);
    assert!(scored.status.success(), "{}", words(&scored));

    let picture = golden("rgb.png").display().to_string();
    let refused = run(&["segment", &picture], &[("--segmenter", &segmenter), ("--out", &found)]);
    assert!(!refused.status.success() && words(&refused).contains("rgb.png is a picture"), "{}", words(&refused));
}

#[test]
fn a_generator_makes_images_of_anyones_masks() {
    let folder = prepared(Experiment::Table2);
    done(folder.path(), &["train", "--arm", "AsynDgan", "--seed", "0"]);
    let generator = Step::folder(folder.path(), asyndgan_paper::Arm::AsynDgan, 0).join("generator.safetensors");
    let [masks, out] = ["masks", "synthetic"].map(|n| folder.path().join(n));
    fs::create_dir(&masks).expect("made");
    fs::copy(golden("labels32.tif"), masks.join("tile.tif")).expect("copied");
    let make = |out: &Path| run(&["synthesize", "--count", "2"], &[("--generator", &generator), ("--conditions", &masks), ("--out", out)]);
    let made = make(&out);
    assert!(made.status.success() && words(&made).contains("too few to train a segmenter"), "{}", words(&made));
    let [first, second] = ["images/tile-1.png", "images/tile-2.png"].map(|n| fs::read(out.join(n)).expect("an image"));
    assert!(first != second, "the noise makes no difference");
    // The same again is the same to the byte, and nothing is overwritten.
    let again = folder.path().join("again");
    assert!(make(&again).status.success());
    assert!(fs::read(again.join("images/tile-2.png")).is_ok_and(|bytes| bytes == second));
    assert!(words(&make(&out)).contains("exists"));

    // The tile is smaller than what a segmenter looks at: said before anything is trained.
    let [cases, segmenter] = [out.join("cases"), folder.path().join("segmenter.safetensors")];
    let refused = run(&["train-segmenter", "--task", "tissue", "--downsampling", "2"], &[("--cases", &cases), ("--out", &segmenter)]);
    assert!(!refused.status.success() && words(&refused).contains("at least 64 per side"), "{}", words(&refused));
    let refused = run(&["train-segmenter", "--task", "brain"], &[("--cases", &cases), ("--out", &segmenter)]);
    assert!(words(&refused).contains("the cases are not those of --task"), "{}", words(&refused));
    // A file that says nothing of itself, and masks of the wrong kind.
    let silent = root().join("data/golden/networks.safetensors");
    let refused = run(&["synthesize"], &[("--generator", &silent), ("--conditions", &masks), ("--out", &segmenter)]);
    assert!(words(&refused).contains("does not describe its network"), "{}", words(&refused));
    fs::copy(golden("u1_little.nii.gz"), masks.join("volume.nii.gz")).expect("copied");
    let refused = make(&folder.path().join("third"));
    assert!(words(&refused).contains("volume.nii.gz is a volume") && !folder.path().join("third").exists(), "{}", words(&refused));
}
