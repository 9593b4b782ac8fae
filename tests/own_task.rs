//! A task of one's own, from a folder of images to masks: plan, experiment, synthesize, train-segmenter, segment.
#![allow(missing_docs, reason = "tests")]

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use e2e::program;
use image::{GrayImage, Luma};

const SIDE: u32 = 48;

fn run(arguments: &[&str], at: &Path) -> Output {
    program().args(arguments).current_dir(at).output().expect("the program starts")
}

fn succeed(arguments: &[&str], at: &Path) -> String {
    let output = run(arguments, at);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A data set in nnU-Net's layout: pictures of two channels, discs of class 1 beside squares of class 2, and a border
/// of pixels that were not annotated.
fn write_data_set(folder: &Path) {
    let [images, labels] = ["imagesTr", "labelsTr"].map(|name| folder.join(name));
    for place in [&images, &labels] {
        fs::create_dir_all(place).expect("made");
    }
    let cases = 10;
    for case in 0..cases {
        let (centre, radius) = (14 + 2 * (case % 3), 8 + case % 3);
        let label = |x: u32, y: u32| match () {
            () if x < 3 => 9,
            () if (x.abs_diff(centre)).pow(2) + (y.abs_diff(20)).pow(2) < radius * radius => 1,
            () if (30..42).contains(&x) && (28..28 + radius).contains(&y) => 2,
            () => 0,
        };
        let noise = |x: u32, y: u32| ((x * 7 + y * 13 + case * 5) % 11) as u8;
        let channel = |values: [u8; 3]| {
            GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([values.get(label(x, y) as usize).copied().unwrap_or(40) + noise(x, y)]))
        };
        let save = |picture: GrayImage, path: std::path::PathBuf| picture.save(path).expect("written");
        save(channel([40, 150, 90]), images.join(format!("case_{case:02}_0000.png")));
        // The cases of the second site have no second channel.
        if !(3..6).contains(&case) {
            save(channel([60, 80, 200]), images.join(format!("case_{case:02}_0001.png")));
        }
        save(GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([label(x, y) as u8])), labels.join(format!("case_{case:02}.png")));
    }
    let description = serde_json::json!({
        "channel_names": { "0": "red light", "1": "infrared" },
        "labels": { "background": 0, "disc": 1, "square": 2, "ignore": 9 },
        "numTraining": cases,
        "file_ending": ".png",
    });
    fs::write(folder.join("dataset.json"), description.to_string()).expect("written");
}

const SITES: &str = r#"
test = ["case_06", "case_07"]
north = ["case_00", "case_01", "case_02"]

[south]
cases = ["case_03", "case_04", "case_05"]
without_channels = ["infrared"]
without_classes = ["square"]
"#;

#[test]
fn a_folder_of_images_becomes_a_table_and_then_masks() {
    let place = tempfile::tempdir().expect("a folder");
    let at = place.path();
    write_data_set(&at.join("Dataset007_Shapes"));
    fs::write(at.join("sites.toml"), SITES).expect("written");

    let output = succeed(&["plan", "Dataset007_Shapes", "--out", "task.toml"], at);
    assert!(output.contains("asyndgan experiment --task task.toml --data Dataset007_Shapes"), "{output}");
    let task = fs::read_to_string(at.join("task.toml")).expect("a task");
    assert!(task.contains("name = \"Shapes\"") && task.contains("ignore = 9") && task.contains("name = \"infrared\""), "{task}");
    let again = run(&["plan", "Dataset007_Shapes", "--out", "task.toml"], at);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("already exists"));

    let experiment =
        ["experiment", "--task", "task.toml", "--data", "Dataset007_Shapes", "--sites", "sites.toml", "--profile", "smoke", "--out", "run"];
    let table = succeed(&experiment, at);
    assert!(table.contains("Site south lacks infrared, square."), "{table}");
    assert!(table.contains("# Shapes: segmentation") && table.contains("disc Dice") && table.contains("square Dice"), "{table}");
    for arm in
        ["RealAll", "RealSubset-1 (north)", "RealSubset-2 (south)", "SynAll", "AsynDgan", "OwnPlusSyn-1 (north)", "OwnPlusSyn-2 (south)"]
    {
        assert!(table.contains(&format!("\n|{arm}|")), "no {arm}: {table}");
    }
    assert!(at.join("run/report.html").is_file());
    let text = fs::read_to_string(at.join("run/prepared/prepared.json")).expect("prepared");
    assert!(text.contains("north") && text.contains("case_06") && !text.contains("case_08"), "cases of no list are used: {text}");
    // The same command again has nothing to do but the table.
    assert_eq!(succeed(&experiment, at), table);

    let generator = "run/seed-0/AsynDgan/generator.safetensors";
    succeed(&["synthesize", "--generator", generator, "--conditions", "Dataset007_Shapes/labelsTr", "--out", "synthetic"], at);
    succeed(
        &["train-segmenter", "--cases", "synthetic/cases", "--profile", "smoke", "--set", "data.crop=32", "--out", "segmenter.safetensors"],
        at,
    );
    for vary in ["deformed", "recombined"] {
        let make = |out: &str| {
            let from = ["--conditions", "Dataset007_Shapes/labelsTr", "--vary", vary, "--count", "2", "--out", out];
            succeed(&[&["synthesize", "--generator", generator][..], &from].concat(), at);
            let mask =
                |n: u32| fs::read(at.join(out).join(format!("labelsTr/synthetic-{n:06}.png"))).expect("a mask without the name of a case");
            (0..20).map(mask).collect::<Vec<_>>()
        };
        let (one, again) = (make(vary), make(&format!("{vary}-again")));
        // Recombination is secret, so that no one can take it apart.
        assert_eq!(one == again, vary == "deformed", "{vary}");
        // Small masks whose quarters are empty are often equal.
        let distinct = one.iter().collect::<BTreeSet<_>>().len();
        assert!(distinct > 5, "{vary}: {distinct} different masks of 20");
    }
    succeed(&["synthesize", "--generator", generator, "--conditions", "run/prepared/site-1", "--out", "of-prepared"], at);
    let export =
        ["data", "export", "--run", "run", "--arm", "AsynDgan", "--seed", "0", "--layout", "nnunet", "--out", "Dataset008_Synthetic"];
    succeed(&export, at);
    let card = fs::read_to_string(at.join("Dataset008_Synthetic/README.md")).expect("a card");
    assert!(card.contains("south") && !card.contains("case_"), "case names are published: {card}");
    let refused = run(&["train-segmenter", "--cases", "synthetic/cases", "--task", "brain", "--out", "other.safetensors"], at);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("the cases are not those of --task"));
    succeed(&["segment", "Dataset007_Shapes/imagesTr/case_08_0000.png", "--segmenter", "segmenter.safetensors", "--out", "masks"], at);
    let mask = image::open(at.join("masks/case_08.png")).expect("a mask").into_luma16();
    assert_eq!(mask.dimensions(), (SIDE, SIDE));
}

#[test]
fn a_site_list_that_does_not_fit_the_task_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let at = place.path();
    write_data_set(&at.join("shapes"));
    succeed(&["plan", "shapes", "--out", "task.toml"], at);
    for (lists, fact) in [
        ("[north]\ncases = [\"case_00\"]\nwithout_classes = [\"disc\"]", "every site lacks a class"),
        ("[north]\ncases = [\"case_00\"]\nwithout_channels = [\"sound\"]", "sound is not a channel"),
        ("north = [\"case_99\"]", "case_99, which is not a case"),
        ("north = [\"case_00\"]\nsouth = [\"case_00\"]", "case_00 appears in north and in south"),
    ] {
        fs::write(at.join("sites.toml"), lists).expect("written");
        let output = run(
            &["experiment", "--task", "task.toml", "--data", "shapes", "--sites", "sites.toml", "--profile", "smoke", "--out", "run"],
            at,
        );
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(fact), "{message}");
        let _ = fs::remove_dir_all(at.join("run"));
    }
}
