//! What users of the library rely on.

use std::{fs, io};

use asyndgan::{
    consortium::server,
    data::{PrepareOptions, prepare_folder},
    network_file::GeneratorFile,
    run::RunFolder,
    score::{ScoreOptions, score_folders},
    task_file::{TaskFile, read_site_lists},
};
use asyndgan_data::{Case, Study, TestCase};
use asyndgan_medio::{Subject, Volume};
use asyndgan_training::Pairs;
use asyndgan_transport::Control;
use static_assertions::assert_not_impl_any;
use tch::Device;

// What shows patients cannot be written into a message, a record or a log by accident.
assert_not_impl_any!(Volume<f32>: serde::Serialize);
assert_not_impl_any!(Volume<u32>: serde::Serialize);
assert_not_impl_any!(Subject: serde::Serialize);
assert_not_impl_any!(Study: serde::Serialize);
assert_not_impl_any!(Case: serde::Serialize);
assert_not_impl_any!(TestCase: serde::Serialize);
assert_not_impl_any!(Pairs: serde::Serialize);

fn io_kind(error: &asyndgan::Error) -> Option<io::ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

#[test]
fn the_chain_of_an_error_ends_at_that_of_the_operating_system() {
    let place = tempfile::tempdir().expect("a folder");
    let missing = place.path().join("missing");
    let shown = missing.display().to_string();
    let errors = [
        GeneratorFile::open(&missing, Device::Cpu).expect_err("no generator"),
        server(&missing, &Control::default()).expect_err("no configuration"),
        TaskFile::read(&shown).expect_err("no task"),
    ];
    for error in errors {
        assert_eq!(io_kind(&error), Some(io::ErrorKind::NotFound), "{error:?}");
        assert!(format!("{error:#}").contains(&shown), "{error:#}");
        // Each cause appears once.
        assert_eq!(format!("{error:#}").matches("os error 2").count(), 1, "{error:#}");
    }
}

#[test]
fn an_image_that_cannot_be_read_is_named() {
    let (place, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let out = elsewhere.path().join("out");
    let at = |name: &str| place.path().join(name);
    for folder in ["images", "masks"] {
        fs::create_dir(at(folder)).expect("created");
        for name in ["a", "b", "c"] {
            let picture = ndarray::Array2::from_shape_fn((40, 40), |(r, c)| u8::from(r > c));
            asyndgan_medio::write_grey(&at(&format!("{folder}/{name}.png")), picture.view()).expect("written");
        }
    }
    fs::write(at("images/b.png"), "not a picture").expect("written");
    let options = ScoreOptions::default();
    let error = score_folders(&at("masks"), &at("images"), &options).expect_err("a damaged picture");
    assert!(format!("{error:#}").contains("b.png"), "{error:#}");
    fs::write(at("pairs.toml"), "images = \"images\"\nmasks = \"masks\"\nchannels = [\"grey\"]\nlabels = { cell = 1 }").expect("written");
    let task = "name = \"cells\"\nimages = \"pictures\"\nclasses = [{ name = \"cell\", labels = [1] }]\n\
                channels = [{ name = \"grey\", normalisation = { window = { low = 0.0, high = 255.0 } } }]";
    let mut options = PrepareOptions::new(TaskFile::parse(task).expect("a task").task().expect("images").clone());
    options.size = 32;
    let error = prepare_folder(place.path(), &out, &options).expect_err("a damaged picture");
    assert!(format!("{error:#}").contains("b.png") && !out.exists(), "{error:#}");
    assert!(RunFolder::open(place.path()).is_err());
}

#[test]
fn a_fact_of_an_error_appears_once() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("task.toml");
    fs::write(&path, "name = \n").expect("written");
    for error in [TaskFile::read(&path.display().to_string()).expect_err("no task"), read_site_lists(&path).expect_err("no lists")] {
        assert_eq!(format!("{error:#}").matches("line 1").count(), 1, "{error:#}");
    }
}
