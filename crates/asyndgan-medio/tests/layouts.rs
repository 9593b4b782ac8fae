//! Data sets as people have them: names that differ, labels whose meaning changed, masks stored in another order, files
//! beside the cases.
#![allow(missing_docs, reason = "tests")]

use std::{fs, path::Path};

use asyndgan_medio::{Affine, DataSet, Layout, Orientation, SkippedFile, Subject, Volume, write_labels, write_rgb, write_volume};
use ndarray::Array3;

/// A volume of a bright block, with the axes' directions of [`Orientation::LPS`].
fn image() -> Volume {
    let voxels = Array3::from_shape_fn((3, 6, 5), |(_, r, c)| if (1..5).contains(&r) && (1..4).contains(&c) { 90.0 } else { 0.0 });
    Volume { voxels, affine: Affine([[-1.0, 0.0, 0.0, 9.0], [0.0, -1.0, 0.0, 8.0], [0.0, 0.0, 2.0, 7.0]]) }
}

/// Labels on the image's grid: a different one in every corner of the block.
fn labels(values: [u32; 4]) -> Volume<u32> {
    let mut voxels = Array3::zeros((3, 6, 5));
    for (at, value) in [(1, 1), (1, 3), (4, 1), (4, 3)].into_iter().zip(values) {
        voxels[[1, at.0, at.1]] = value;
    }
    Volume { voxels, affine: image().affine }
}

fn put(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, content).expect("written");
}

fn put_image(path: &Path) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    write_volume(path, &image()).expect("written");
}

fn put_labels(path: &Path, labels: &Volume<u32>) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    write_labels(path, labels).expect("written");
}

fn read_labels_of(set: &DataSet, case: usize, channel: usize) -> Result<Vec<u32>, String> {
    match set.read(&set.cases[case], &[channel]).map_err(|e| e.to_string())? {
        Subject::Volume { labels: Some(labels), .. } => {
            Ok([(1, 1), (1, 3), (4, 1), (4, 3)].map(|(r, c)| labels.voxels[[1, r, c]]).to_vec())
        }
        Subject::Picture { labels: Some(labels), .. } => Ok(labels.iter().copied().collect()),
        _ => Ok(Vec::new()),
    }
}

fn problems(set: &DataSet) -> Vec<String> {
    set.skipped.iter().filter(|p| p.is_problem).map(|SkippedFile { path, reason, .. }| format!("{}: {reason}", path.display())).collect()
}

#[test]
fn brats_cases_are_named_by_their_files_and_label_4_means_what_its_year_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    put_image(&at("P_1 (copy)/P_1_t2.nii.gz"));
    put_labels(&at("P_1 (copy)/P_1_seg.nii.gz"), &labels([1, 2, 4, 0]));
    put_image(&at("BraTS-GLI-00001-100/BraTS-GLI-00001-100-t2w.nii.gz"));
    put_labels(&at("BraTS-GLI-00001-100/BraTS-GLI-00001-100-seg.nii.gz"), &labels([1, 2, 4, 3]));
    put(&at("P_1 (copy)/P_1_t1.npy"), "");
    put_image(&at("P_1 (copy)/P_1_t2.nii"));
    put(&at("P_1 (copy)/atlas.nii"), "");
    put(&at("survival.csv"), "");
    let set = DataSet::find(folder.path()).expect("found");
    assert_eq!((set.layout, set.cases.len()), (Layout::Brats, 2));
    assert_eq!([&set.cases[0].id, &set.cases[1].id], ["BraTS-GLI-00001-100", "P_1"]);
    assert_eq!(set.cases[0].patient, "BraTS-GLI-00001");
    // A resection cavity stays one, and the enhancing tumour of earlier years becomes label 3.
    let relabelled = DataSet { labels: (1..=4).map(|l| (l, String::new())).collect(), ..set.clone() };
    assert_eq!(read_labels_of(&relabelled, 0, 0), Ok(vec![1, 2, 4, 3]));
    assert_eq!(read_labels_of(&relabelled, 1, 0), Ok(vec![1, 2, 3, 0]));
    // Also where only the case's name tells the year.
    let folder_2024 = tempfile::tempdir().expect("a folder");
    put_image(&folder_2024.path().join("c/BraTS-PED-00001-000_t2.nii.gz"));
    put_labels(&folder_2024.path().join("c/BraTS-PED-00001-000_seg.nii.gz"), &labels([1, 2, 4, 0]));
    assert_eq!(read_labels_of(&DataSet::find(folder_2024.path()).expect("found"), 0, 0), Ok(vec![1, 2, 4, 0]));
    put_labels(&at("P_1 (copy)/P_1_seg.nii.gz"), &labels([1, 3, 4, 0]));
    assert!(read_labels_of(&set, 1, 0).expect_err("both").contains("labels 3 and 4"));
    assert_eq!(set.skipped.len(), 4, "{:?}", set.skipped);
    let problems = problems(&set).join("\n");
    assert!(problems.contains("P_1_t1.npy: this image format is not supported"), "{problems}");
    assert!(
        problems.contains("P_1_t2.nii.gz is the same part of that case") || problems.contains("P_1_t2.nii is the same part of that case"),
        "{problems}"
    );
    assert!(!problems.contains("atlas.nii") && !problems.contains("survival.csv"), "{problems}");

    put(&at("Q_2/Q_2_seg.nii.gz"), "");
    let set = DataSet::find(folder.path()).expect("found");
    assert!(set.unusable().iter().any(|u| u.contains("Q_2_t2.nii.gz is missing")), "{:?}", set.unusable());
}

#[test]
fn a_mask_in_another_order_of_its_axes_is_brought_to_its_image_and_one_elsewhere_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    put(&folder.path().join("pairs.toml"), "images = \"i\"\nmasks = \"m\"\nchannels = [\"T2\"]\n[labels]\na = 1\nb = 2\nc = 3\nd = 4\n");
    let orders = [['L', 'P', 'S'], ['R', 'A', 'I'], ['S', 'L', 'P'], ['A', 'I', 'R'], ['I', 'P', 'R']];
    for (n, order) in orders.into_iter().enumerate() {
        put_image(&folder.path().join(format!("i/{n}.nii.gz")));
        put_labels(&folder.path().join(format!("m/{n}.nii.gz")), &labels([1, 2, 3, 4]).oriented(Orientation(order)));
    }
    let set = DataSet::complete(folder.path()).expect("found");
    for (case, order) in orders.iter().enumerate() {
        assert_eq!(read_labels_of(&set, case, 0), Ok(vec![1, 2, 3, 4]), "{order:?}");
    }
    let mut moved = labels([1, 2, 3, 4]);
    moved.affine.0[0][3] += 0.04;
    put_labels(&folder.path().join("m/0.nii.gz"), &moved);
    assert_eq!(read_labels_of(&set, 0, 0), Ok(vec![1, 2, 3, 4]), "less than 5 % of a voxel");
    moved.affine.0[0][3] += 0.04;
    put_labels(&folder.path().join("m/0.nii.gz"), &moved);
    let said = read_labels_of(&set, 0, 0).expect_err("8 % of a voxel");
    assert!(said.contains("m/0.nii.gz lies up to 0.080 mm (0.08 voxels) away from") && said.contains("i/0.nii.gz"), "{said}");
}

#[test]
fn the_channel_on_another_grid_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    put(
        &at("dataset.json"),
        "\u{feff}{\"channel_names\": {\"0\": \"a\", \"1\": \"b\"}, \"labels\": {\"x\": 1, \"ignore\": 7}, \"numTraining\": \"1\", \"file_ending\": \".nii.gz\"}",
    );
    for name in ["imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz"] {
        put_image(&at(name));
    }
    put_labels(&at("labelsTr/c.nii.gz"), &labels([1, 0, 0, 7]));
    let set = DataSet::complete(folder.path()).expect("found");
    assert_eq!(set.ignore, Some(7));
    assert_eq!(read_labels_of(&set, 0, 1), Ok(vec![1, 0, 0, 7]));
    // The labels agree with the second, so the first is the odd one.
    let mut moved = image();
    moved.affine.0[2][3] += 20.0;
    write_volume(&at("imagesTr/c_0000.nii.gz"), &moved).expect("written");
    for channel in [0, 1] {
        let said = read_labels_of(&set, 0, channel).expect_err("another grid");
        assert!(said.contains("imagesTr/c_0000.nii.gz lies up to 20.000 mm"), "{said}");
    }
}

#[test]
fn whatever_nnu_net_would_not_use_is_a_problem_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let description = "{\"channel_names\": {\"0\": \"a\"}, \"labels\": {\"x\": 1}, \"numTraining\": 1, \"file_ending\": \".nii.gz\"}";
    put(&at("dataset.json"), description);
    put_image(&at("imagesTr/c_0000.nii.gz"));
    put_labels(&at("labelsTr/c.nii.gz"), &labels([1, 0, 0, 0]));
    for name in ["imagesTr/d.nii.gz", "imagesTr/e_0000.nii", "imagesTr/f_0003.nii.gz", "imagesTr/g_0000.jpg", "labelsTr/h.nii.gz"] {
        put(&at(name), "");
    }
    put(&at("README.md"), "");
    let set = DataSet::find(folder.path()).expect("found");
    let all = problems(&set).join("\n");
    for fact in [
        "d.nii.gz: its name has no channel number; rename it to d_0000.nii.gz",
        "e_0000.nii: its name does not end in .nii.gz",
        "f_0003.nii.gz: channel 0003 is not one of the 1 channels",
        "g_0000.jpg: this image format is not supported",
        "h.nii.gz: there is no image with the same name",
    ] {
        assert!(all.contains(fact), "{fact} is not in {all}");
    }
    assert_eq!((problems(&set).len(), set.skipped.len()), (5, 6));
    assert!(DataSet::complete(folder.path()).expect_err("problems").to_string().contains("is not used"));

    fs::remove_file(at("imagesTr/c_0000.nii.gz")).expect("removed");
    let said = DataSet::find(folder.path()).expect_err("no case").to_string();
    assert!(said.contains("rename it to d_0000.nii.gz") && said.contains("contains no case"), "{said}");
    put(&at("dataset.json"), "{\"modality\": {\"0\": \"MR\"}}");
    assert!(DataSet::find(folder.path()).expect_err("version 1").to_string().contains("nnUNetv2_convert_old_nnUNet_dataset"));
}

#[test]
fn pictures_and_annotations_are_found_in_one_folder_and_under_any_case() {
    let region =
        |x: u32| format!("<Region><Vertex X=\"{x}\" Y=\"2\"/><Vertex X=\"{}\" Y=\"2\"/><Vertex X=\"{x}\" Y=\"9\"/></Region>", x + 4);
    let layer =
        |name: &str, id: u32, x: u32| format!("<Annotation Id=\"{id}\" Name=\"{name}\"><Regions>{}</Regions></Annotation>", region(x));
    let picture = Array3::from_shape_fn((3, 20, 20), |(k, r, c)| (200 - 20 * k + r + c) as u8);
    for (image, annotation) in [("a.tif", "a.xml"), ("tissue images/a.png", "ANNOTATIONS/a.xml")] {
        let folder = tempfile::tempdir().expect("a folder");
        put(&folder.path().join(annotation), format!("<Annotations>{}</Annotations>", layer("", 1, 3)));
        fs::create_dir_all(folder.path().join(image).parent().expect("a folder")).expect("made");
        if image.ends_with("png") {
            write_rgb(&folder.path().join(image), picture.view()).expect("written");
        } else {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/medio/lzw.tif"), folder.path().join(image))
                .expect("copied");
        }
        put(&folder.path().join(annotation).with_file_name("b.xml"), "<Annotations/>");
        let mut set = DataSet::find(folder.path()).expect("found");
        assert_eq!((set.layout, set.cases.len(), problems(&set).len()), (Layout::Monuseg, 1, 1), "{:?}", set.skipped);
        assert!(read_labels_of(&set, 0, 0).expect("readable").contains(&1));
        // Several layers are never merged.
        let two = format!("<Annotations>{}{}</Annotations>", layer("nuclei", 1, 3), layer("region", 2, 10));
        put(&folder.path().join(annotation), two);
        let said = read_labels_of(&set, 0, 0).expect_err("two layers");
        assert!(said.contains("\"nuclei\" (Id \"1\", 1 regions), \"region\" (Id \"2\", 1 regions)") && said.contains("--layer"), "{said}");
        for (layer, inside) in [("nuclei", 20 * 3 + 3), ("2", 20 * 3 + 10)] {
            set.layer = Some(layer.into());
            let columns = if image.ends_with("png") { 20 } else { 24 };
            let at = inside / 20 * columns + inside % 20;
            assert_eq!(read_labels_of(&set, 0, 0).expect("chosen")[at], 1, "{layer}");
        }
        set.layer = Some("absent".into());
        assert!(read_labels_of(&set, 0, 0).expect_err("absent").contains("no layer \"absent\""));
    }
}

#[test]
fn every_file_of_a_folder_of_pairs_is_a_part_of_a_case_or_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    put(&at("pairs.toml"), "images = \"i\"\nmasks = \"m\"\nchannels = [\"T2\"]\n[labels]\na = 1\n");
    put_image(&at("i/a.nii.gz"));
    put_labels(&at("m/a.nii.gz"), &labels([1, 0, 0, 0]));
    put_image(&at("i/b.nii.gz"));
    put_labels(&at("m/b_seg.nii.gz"), &labels([1, 0, 0, 0]));
    put(&at("i/c.jpg"), "");
    put(&at("i/notes.txt"), "");
    put(&at("i/a.json"), "{}");
    put(&at("i/1.img"), "");
    put_image(&at("i/11.hdr.nii"));
    put(&at("spare/d.nii.gz"), "");
    let set = DataSet::find(folder.path()).expect("found");
    let listed: Vec<_> = set.skipped.iter().map(|p| (p.path.strip_prefix(folder.path()).expect("inside"), p.is_problem)).collect();
    assert_eq!(
        listed,
        [
            (Path::new("i/1.img"), true),
            (Path::new("i/c.jpg"), true),
            (Path::new("i/notes.txt"), false),
            (Path::new("m/b_seg.nii.gz"), true),
            (Path::new("spare"), false)
        ]
    );
    assert_eq!(set.unusable().len(), 5, "{:?}", set.unusable());
    put(&at("pairs.toml"), "images = \"i\"\nmasks = \"m\"\nchannels = [\"T2\"]\n[patients]\na = \"x\\ty\"\n");
    assert!(DataSet::find(folder.path()).expect_err("a tab").to_string().contains("control characters"));
}

#[test]
fn patients_are_named_by_a_file_whose_lines_all_belong_to_a_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    put(
        &at("dataset.json"),
        r#"{"channel_names": {"0": "a"}, "labels": {"background": 0, "x": 1}, "numTraining": 3, "file_ending": ".nii.gz"}"#,
    );
    for case in ["p1_t0", "p1_t1", "p2_t0"] {
        put_image(&at(&format!("imagesTr/{case}_0000.nii.gz")));
        put_labels(&at(&format!("labelsTr/{case}.nii.gz")), &labels([1, 0, 0, 0]));
    }
    let patients =
        || DataSet::find(folder.path()).map(|set| (set.are_patients_known, set.cases.into_iter().map(|c| c.patient).collect::<Vec<_>>()));
    assert_eq!(patients().expect("found"), (false, vec!["p1_t0".to_owned(), "p1_t1".to_owned(), "p2_t0".to_owned()]));
    put(&at("patients.toml"), "p1_t0 = \"p1\"\np1_t1 = \"p1\"\n");
    assert_eq!(patients().expect("found"), (false, vec!["p1".to_owned(), "p1".to_owned(), "p2_t0".to_owned()]));
    put(&at("patients.toml"), "p1_t0 = \"p1\"\np1_t1 = \"p1\"\np2_t0 = \"p2_t0\"\n");
    assert!(patients().expect("found").0 && DataSet::find(folder.path()).expect("found").skipped.is_empty());
    put(&at("patients.toml"), "\"p1_t0.nii.gz\" = \"p1\"\n");
    assert!(patients().expect_err("no such case").to_string().contains("there is no such case"));
}

#[test]
fn a_turned_picture_with_labels_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    put(&at("pairs.toml"), "images = \"i\"\nmasks = \"m\"\nchannels = [\"red\", \"green\", \"blue\"]\n[labels]\na = 1\n");
    fs::create_dir_all(at("i")).expect("made");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/medio/jpeg.tif");
    let mut bytes = fs::read(golden).expect("there");
    fs::write(at("i/a.tif"), &bytes).expect("written");
    fs::create_dir_all(at("m")).expect("made");
    asyndgan_medio::write_instances(&at("m/a.png"), ndarray::Array2::ones((16, 24)).view()).expect("written");
    let read = || DataSet::find(folder.path()).and_then(|set| set.read(&set.cases[0], &[0, 1, 2]));
    read().expect("as stored");
    // Another tag becomes that of the orientation: upside down.
    let at_tag = bytes.windows(4).position(|w| w == [0x1c, 1, 3, 0]).expect("the planar configuration");
    bytes[at_tag..at_tag + 12].copy_from_slice(&[0x12, 1, 3, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
    fs::write(at("i/a.tif"), &bytes).expect("written");
    assert!(read().expect_err("turned").to_string().contains("orientation tag"));
}
