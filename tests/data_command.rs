//! `asyndgan data`: the program inspects, prepares and exports folders.
#![allow(missing_docs, reason = "tests")]

use std::{fs, path::Path, process::Output};

use asyndgan_paper::Experiment;
use e2e::{describe, done, program, root, smoke, step};

fn data(arguments: &[&str]) -> Output {
    program().arg("data").args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Five tiles of 20 x 24 pixels in the layout of `MoNuSeg`.
fn tiles(folder: &Path) {
    let golden = root().join("data/golden/medio");
    for part in ["Tissue Images", "Annotations"] {
        fs::create_dir_all(folder.join(part)).expect("made");
    }
    for k in 0..5 {
        fs::copy(golden.join("lzw.tif"), folder.join(format!("Tissue Images/tile-{k}.tif"))).expect("copied");
        let region =
            |x: usize| format!("<Region><Vertex X=\"{x}\" Y=\"2\"/><Vertex X=\"{}\" Y=\"3\"/><Vertex X=\"{x}\" Y=\"12\"/></Region>", x + 5);
        let xml = format!("<Annotations>{}{}{}</Annotations>", region(1), region(9), region(15));
        fs::write(folder.join(format!("Annotations/tile-{k}.xml")), xml).expect("written");
    }
}

#[test]
fn a_folder_is_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tiles");
    tiles(&place);
    let [place, picture] = [place, folder.path().join("sheet.png")].map(|p| p.display().to_string());
    let output = data(&["inspect", &place, "--picture", &picture]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for word in ["MoNuSeg", "5 cases", "tile-4: 20 x 24", "3 regions:", "no problems"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    assert!(fs::read(picture).expect("drawn").starts_with(b"\x89PNG"));
}

#[test]
fn every_problem_of_a_folder_is_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tiles");
    tiles(&place);
    fs::write(place.join("Tissue Images/tile-0.tif"), b"II*\0 not a picture").expect("written");
    fs::write(place.join("Annotations/tile-1.xml"), "<Annotations><Region>").expect("written");
    fs::remove_file(place.join("Annotations/tile-2.xml")).expect("removed");
    fs::copy(root().join("data/golden/medio/annotation.xml"), place.join("Annotations/tile-4.xml")).expect("copied");
    let output = data(&["inspect", &place.display().to_string(), "--picture", &folder.path().join("s.png").display().to_string()]);
    let said = text(&output.stdout);
    assert!(!output.status.success() && text(&output.stderr).contains("4 problems"), "{said}");
    for word in ["tile-0.tif is unreadable", "tile-1.xml is unreadable", "tile-2.xml is missing", "tile-3: 20 x 24", "another picture?"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

#[test]
fn what_cannot_be_used_ends_the_preparation_unless_it_is_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tiles");
    tiles(&place);
    fs::write(place.join("Annotations/tile-1.xml"), "<Annotations><Region>").expect("written");
    fs::remove_file(place.join("Annotations/tile-2.xml")).expect("removed");
    fs::write(place.join("Tissue Images/tile-9.jpg"), "").expect("written");
    let [place, out] = [place, folder.path().join("prepared")].map(|p| p.display().to_string());
    let arguments = ["prepare", &place, "--out", &out, "--size", "16", "--sites", "2", "--partition", "size"];
    let output = data(&arguments);
    let said = text(&output.stderr);
    assert!(!output.status.success() && !Path::new(&out).exists(), "{said}");
    for word in ["3 problems", "tile-1.xml is unreadable", "tile-2.xml is missing", "tile-9.jpg is not used", "--skip-unusable"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let output = data(&[&arguments[..], &["--skip-unusable"]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("skipped, because they cannot be used") && said.contains("tile-9.jpg"), "{said}");
    let prepared = fs::read_to_string(Path::new(&out).join("prepared.json")).expect("written");
    assert!(prepared.contains("tile-0") && prepared.contains("tile-4") && !prepared.contains("tile-2"), "{prepared}");
}

#[test]
fn another_layer_of_the_annotations_is_prepared_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tiles");
    tiles(&place);
    for k in 0..5 {
        let path = place.join(format!("Annotations/tile-{k}.xml"));
        let regions = fs::read_to_string(&path).expect("there").replace("<Annotations>", "").replace("</Annotations>", "");
        let layers = format!(
            "<Annotation Name=\"all\">{regions}</Annotation><Annotation Name=\"first\">{}</Annotation>",
            &regions[..regions.find("</Region>").expect("a region") + "</Region>".len()]
        );
        fs::write(&path, format!("<Annotations>{layers}</Annotations>")).expect("written");
    }
    let [place, out] = [place, folder.path().join("prepared")].map(|p| p.display().to_string());
    let prepare = |layer: &[&str]| {
        data(&[&["prepare", &place, "--out", &out, "--size", "16", "--sites", "2", "--partition", "size"], layer].concat())
    };
    let said = text(&prepare(&[]).stderr);
    assert!(said.contains("\"all\"") && said.contains("choose one with --layer"), "{said}");
    assert!(prepare(&["--layer", "all"]).status.success());
    let again = prepare(&["--layer", "first"]);
    let said = text(&again.stderr);
    assert!(again.status.success() && said.contains("files of an earlier preparation"), "{said}");
}

#[test]
fn preparing_spoilt_tiles_names_the_file() {
    for (spoilt, word) in [("Tissue Images/tile-0.tif", "tile-0.tif"), ("Annotations/tile-3.xml", "tile-3.xml")] {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("tiles");
        tiles(&place);
        let bytes = fs::read(place.join(spoilt)).expect("there");
        fs::write(place.join(spoilt), &bytes[..bytes.len() / 2]).expect("cut");
        describe(folder.path(), &smoke(Experiment::Table2, Some(place)));
        let output = step(folder.path(), &["prepare"]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(word) && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn prepared_files_are_kept_while_nothing_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tiles");
    tiles(&place);
    let out = folder.path().join("prepared");
    let prepare = |size: &str| {
        let arguments = [place.display().to_string(), out.display().to_string()];
        let rule = ["--partition", "dirichlet", "--alpha", "1"];
        let output = data(&[&["prepare", &arguments[0], "--out", &arguments[1], "--size", size, "--sites", "2"], &rule[..]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut files = Vec::new();
        for place in fs::read_dir(&out).expect("made").map(|e| e.expect("listed").path()).filter(|p| p.is_dir()) {
            for file in fs::read_dir(place).expect("made").map(|e| e.expect("listed")) {
                files.push((file.path(), file.metadata().expect("there").modified().expect("a time")));
            }
        }
        files.sort();
        (files, text(&output.stderr))
    };
    let (first, _) = prepare("16");
    assert_eq!(first.len(), 5);
    let (again, said) = prepare("16");
    assert!(again == first && !said.contains("removed"), "{said}");
    let unrelated = out.join("test/notes.txt");
    fs::write(&unrelated, "mine").expect("written");
    let (other, said) = prepare("12");
    assert!(said.contains("files of an earlier preparation"), "{said}");
    assert!(unrelated.exists());
    fs::remove_file(unrelated).expect("removed");
    let other: Vec<_> = other.into_iter().filter(|(path, _)| !path.ends_with("notes.txt")).collect();
    assert!(other.len() == 5 && other.iter().all(|(path, _)| first.iter().all(|(old, _)| old != path)), "{other:?}");
}

#[test]
fn own_lists_must_fit_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tiles");
    tiles(&place);
    let (out, lists) = (folder.path().join("prepared"), folder.path().join("lists.toml"));
    let prepare = |text: &str, sites: &str| {
        fs::write(&lists, text).expect("written");
        let [place, out, lists] = [&place, &out, &lists].map(|p| p.display().to_string());
        data(&["prepare", &place, "--out", &out, "--size", "16", "--sites", sites, "--lists", &lists])
    };
    let three = "a = [\"tile-0\"]\nb = [\"tile-1\"]\nc = [\"tile-2\", \"tile-3\"]\ntest = [\"tile-4\"]";
    assert!(prepare(three, "3").status.success());
    let two = "a = [\"tile-0\", \"tile-3\"]\nb = [\"tile-1\", \"tile-2\"]\ntest = [\"tile-4\"]";
    assert!(prepare(two, "3").status.success());
    assert_eq!(fs::read_dir(out.join("site-3")).expect("made").count(), 0, "nobody is left at a site that is no more");
    for (text, sites, word) in [
        (three, "2", "--sites 3"),
        ("a = [\"tile-0\", \"tile-9\"]", "2", "tile-9"),
        ("a = 3", "2", "lists.toml"),
        ("test = [\"tile-0\", \"tile-1\", \"tile-2\", \"tile-3\", \"tile-4\"]", "2", "held out"),
    ] {
        let output = prepare(text, sites);
        let said = self::text(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{word}: {said}");
    }
}

#[test]
fn synthetic_images_are_exported_and_real_ones_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), &smoke(Experiment::Table2, None));
    done(folder.path(), &["prepare"]);
    let arm = ["--arm", "AsynDgan", "--seed", "0"];
    done(folder.path(), &[&["train"], &arm[..]].concat());
    done(folder.path(), &[&["synthesize"], &arm[..]].concat());
    let out = folder.path().join("Dataset501_Nuclei");
    let place = out.display().to_string();
    done(folder.path(), &[&["data", "export"], &arm[..], &["--layout", "nnunet", "--out", &place]].concat());
    let output = data(&["inspect", &place, "--picture", &folder.path().join("s.png").display().to_string()]);
    assert!(output.status.success() && text(&output.stdout).contains("nnU-Net"), "{}", text(&output.stderr));
    assert!(fs::read_to_string(out.join("README.md")).expect("a card").contains("PHANTOM"));
    let again = step(folder.path(), &[&["data", "export"], &arm[..], &["--layout", "pairs", "--out", &place]].concat());
    assert!(!again.status.success() && text(&again.stderr).contains("already exists"));
    let real = step(folder.path(), &["data", "export", "--arm", "RealAll", "--seed", "0", "--layout", "pairs", "--out", "x"]);
    assert!(!real.status.success() && text(&real.stderr).contains("only synthetic ones"));
}
