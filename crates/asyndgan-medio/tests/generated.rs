//! Files with generated headers, against what nibabel, pydicom, tifffile and `SimpleITK` read of them: a golden set,
//! and with `PYTHON_WITH_IMAGING=/path/to/python` a fresh one (`GENERATED_SEED` and `GENERATED_COUNT` choose which, and
//! how many of each format).
#![allow(missing_docs, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use asyndgan_medio::{Volume, dicom::parse_slice, is_volume, read_instances, read_labels, read_rgb, read_volume};
use serde::Deserialize;

#[derive(Deserialize)]
struct Generated {
    kind: String,
    /// Hexadecimal digits by name; the first name in the alphabet that is no companion is read.
    files: BTreeMap<String, String>,
    shape: Vec<usize>,
    values: Vec<f64>,
    affine: Option<Vec<Vec<f64>>>,
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    (0..hexadecimal.len() / 2).map(|k| u8::from_str_radix(&hexadecimal[2 * k..2 * k + 2], 16).expect("two digits")).collect()
}

/// The values that a reader found, in 32 bits as images are kept.
type Found = (Vec<usize>, Vec<f32>, Option<[[f64; 4]; 3]>);

fn read(kind: &str, path: &Path) -> Result<Found, asyndgan_medio::Error> {
    let volume = |v: Volume| (v.voxels.shape().to_vec(), v.voxels.into_raw_vec_and_offset().0, Some(v.affine.0));
    Ok(match kind {
        "nifti" | "itk" => volume(read_volume(path)?),
        "dicom" => {
            let pixels = parse_slice(path, &fs::read(path).expect("there"))?;
            (pixels.shape().to_vec(), pixels.into_raw_vec_and_offset().0, None)
        }
        "rgb_tiff" => {
            let rgb = read_rgb(path)?;
            (rgb.shape().to_vec(), rgb.iter().copied().collect(), None)
        }
        _ if is_volume(path)? => {
            let labels = read_labels(path)?.voxels;
            (labels.shape().to_vec(), labels.iter().map(|&l| l as f32).collect(), None)
        }
        _ => {
            let labels = read_instances(path)?;
            (labels.shape().to_vec(), labels.iter().map(|&l| l as f32).collect(), None)
        }
    })
}

/// Compares every line; returns how many there were of each format.
fn compare(lines: &str) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for (number, line) in lines.lines().enumerate() {
        let Generated { kind, files, shape, values, affine } = serde_json::from_str(line).expect("JSON");
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in &files {
            fs::write(folder.path().join(name), bytes(content)).expect("written");
        }
        let is_header = |name: &&String| files.len() == 1 || [".hdr", ".nhdr", ".mhd"].iter().any(|ending| name.ends_with(ending));
        let name = files.keys().find(is_header).expect("a header");
        let at = format!("line {} ({kind}, {name})", number + 1);
        let (found_shape, found, found_affine) = read(&kind, &folder.path().join(name)).unwrap_or_else(|e| panic!("{at}: {e}"));
        assert_eq!(found_shape, shape, "{at}");
        // Adding 0 makes -0 and 0 one.
        let odd = found.iter().zip(&values).find(|(a, b)| (**a + 0.0).to_bits() != (**b as f32 + 0.0).to_bits());
        assert_eq!(odd, None, "{at}");
        if let (Some(found), Some(expected)) = (found_affine, affine) {
            let apart = found.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-4, "{at}: {found:?} {expected:?}");
        }
        *seen.entry(kind).or_insert(0) += 1;
    }
    seen
}

#[test]
fn files_with_generated_headers_are_what_the_references_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/medio/generated.jsonl");
    let seen = compare(&fs::read_to_string(path).expect("the golden files"));
    assert_eq!(seen.len(), 6);
    assert!(seen.values().all(|&n| n == 16), "{seen:?}");
}

#[test]
#[ignore = "needs a Python with nibabel, pydicom, tifffile, imagecodecs and SimpleITK, named by PYTHON_WITH_IMAGING"]
fn fresh_files_with_generated_headers_are_what_the_references_read() {
    let python = std::env::var("PYTHON_WITH_IMAGING").expect("PYTHON_WITH_IMAGING names a Python");
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generated.py");
    let mut command = Command::new(python);
    command.arg(script).arg(setting("GENERATED_SEED", "2")).arg(setting("GENERATED_COUNT", "100"));
    let output = command.stderr(Stdio::inherit()).output().expect("Python starts");
    assert!(output.status.success(), "the script failed");
    eprintln!("compared {:?}", compare(&String::from_utf8(output.stdout).expect("JSON lines")));
}
