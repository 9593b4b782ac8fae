#![no_main]
use asyndgan_medio::DataSet;
use std::sync::LazyLock;

/// An nnU-Net folder and a folder of pairs, each with one case.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["n/imagesTr/a_0000.png", "n/labelsTr/a.png", "p/images/a.png", "p/masks/a.png"] {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, "").expect("written");
    }
    folder
});
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for (place, file) in [("n", "dataset.json"), ("p", "pairs.toml")] {
        let place = FOLDER.path().join(place);
        std::fs::write(place.join(file), bytes).expect("written");
        if let Ok(set) = DataSet::find(&place) {
            set.cases.iter().for_each(|case| drop(set.read(case, &[0])));
        }
    }
});
