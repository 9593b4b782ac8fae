//! Four volumes of a patient and an annotation, from the disk to arrays, beside the parts that the time goes into and
//! beside Python.
//!
//! `BRATS_PATIENT=FOLDER` and `ANNOTATION=FILE.xml` take real files, otherwise artificial ones of their size are made;
//! `PYTHON_WITH_IMAGING=/path/to/python` adds nibabel, and lxml with scikit-image (`read.py`), in the same run.
#![allow(missing_docs, reason = "benchmark")]

use std::{
    fmt::Write as _,
    fs,
    hint::black_box,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use asyndgan_medio::{Affine, Volume, read_annotations, read_volume, write_labels};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use flate2::read::MultiGzDecoder;
use ndarray::Array3;

/// Lets Python do the same, if there is one.
fn python(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, kind: &str, files: &[PathBuf]) {
    let Ok(python) = std::env::var("PYTHON_WITH_IMAGING") else {
        eprintln!("SKIPPED {name}: PYTHON_WITH_IMAGING names no Python with nibabel, lxml and scikit-image");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/read.py");
    group.bench_function(name, |b| {
        b.iter_custom(|count| {
            let run = Command::new(&python).arg(&script).args([kind, &count.to_string()]).args(files).stderr(Stdio::inherit()).output();
            let said = String::from_utf8(run.expect("Python starts").stdout).expect("text");
            Duration::from_secs_f64(said.trim().parse().expect("seconds"))
        });
    });
}

/// Volumes of 240 x 240 x 155 with 16 bits a voxel and as little order as a scan has.
fn artificial_patient(folder: &Path) -> Vec<PathBuf> {
    let volume = |channel: usize| {
        let voxel = |(k, j, i): (usize, usize, usize)| {
            let (z, y, x) = (k as f64 / 155.0 - 0.5, j as f64 / 240.0 - 0.5, i as f64 / 240.0 - 0.5);
            let noise = (k * 7919 + j * 104_729 + i * 1_299_709 + channel * 15_485_863).wrapping_mul(2_654_435_761) >> 7 & 31;
            if z * z + y * y + x * x > 0.14 { 0 } else { (300.0 + 120.0 * (9.0 * x + 7.0 * y * z).sin()) as u32 + noise as u32 }
        };
        let path = folder.join(format!("{channel}.nii.gz"));
        write_labels(&path, &Volume { voxels: Array3::from_shape_fn((155, 240, 240), voxel), affine: Affine::scaling([1.0; 3]) })
            .expect("written");
        path
    };
    (0..4).map(volume).collect()
}

fn volumes(criterion: &mut Criterion) {
    let made = tempfile::tempdir().expect("a folder");
    let files = match std::env::var("BRATS_PATIENT") {
        Ok(folder) => {
            let list = fs::read_dir(folder).expect("the patient's folder").map(|e| e.expect("listed").path());
            let mut files: Vec<PathBuf> =
                list.filter(|p| p.to_string_lossy().ends_with(".nii.gz") && !p.to_string_lossy().contains("seg")).collect();
            files.sort();
            files
        }
        Err(_) => artificial_patient(made.path()),
    };
    assert_eq!(files.len(), 4, "four volumes of one patient");
    let compressed: Vec<Vec<u8>> = files.iter().map(|p| fs::read(p).expect("there")).collect();
    let mut content = vec![0; 352 + 2 * 240 * 240 * 155];
    let mut group = criterion.benchmark_group("four volumes");
    group.sample_size(20);
    group.bench_function("one thread", |b| b.iter(|| files.iter().map(|p| read_volume(p).expect("readable")).collect::<Vec<_>>()));
    for threads in [2, 4] {
        group.bench_function(format!("{threads} threads"), |b| {
            b.iter(|| {
                std::thread::scope(|scope| {
                    let part = |files: &[PathBuf]| files.iter().map(|p| read_volume(p).expect("readable")).collect::<Vec<_>>();
                    let threads: Vec<_> =
                        files.chunks(files.len().div_ceil(threads)).map(|files| scope.spawn(move || part(files))).collect();
                    threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect::<Vec<_>>()
                })
            });
        });
    }
    group.bench_function("inflate alone, libdeflate", |b| {
        b.iter(|| {
            for bytes in &compressed {
                libdeflater::Decompressor::new().gzip_decompress(bytes, &mut content).expect("whole");
            }
        });
    });
    group.bench_function("inflate alone, miniz_oxide through flate2", |b| {
        b.iter(|| compressed.iter().for_each(|bytes| MultiGzDecoder::new(&bytes[..]).read_exact(&mut content).expect("whole")));
    });
    group.bench_function("convert alone", |b| {
        b.iter(|| {
            for _ in &compressed {
                black_box(content[352..].chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]]))).collect::<Vec<_>>());
            }
        });
    });
    python(&mut group, "nibabel", "nifti", &files);
    group.finish();
}

/// 400 nuclei of 60 vertices each, as a tile of 1000 x 1000 has them.
fn artificial_annotation(folder: &Path) -> PathBuf {
    let mut text = String::from("<Annotations><Annotation><Regions>");
    for n in 0..400_u32 {
        let (x, y) = (f64::from(n % 20) * 50.0 + 25.0, f64::from(n / 20) * 50.0 + 25.0);
        text += "<Region><Vertices>";
        for k in 0..60 {
            let (sin, cos) = (f64::from(k) / 60.0 * std::f64::consts::TAU).sin_cos();
            write!(text, "<Vertex X=\"{:.6}\" Y=\"{:.6}\" Z=\"0\"/>", x + 13.3 * cos, y + 9.1 * sin).expect("text grows");
        }
        text += "</Vertices></Region>";
    }
    let path = folder.join("a.xml");
    fs::write(&path, text + "</Regions></Annotation></Annotations>").expect("written");
    path
}

fn annotations(criterion: &mut Criterion) {
    let made = tempfile::tempdir().expect("a folder");
    let file = std::env::var("ANNOTATION").map_or_else(|_| artificial_annotation(made.path()), PathBuf::from);
    let mut group = criterion.benchmark_group("annotation");
    group.sample_size(20);
    group.bench_function("to instance labels", |b| b.iter(|| read_annotations(&file, 1000, 1000, None).expect("readable")));
    group.bench_function("parse alone, quick-xml", |b| {
        let text = fs::read_to_string(&file).expect("there");
        b.iter(|| {
            let mut reader = quick_xml::Reader::from_str(&text);
            while !matches!(reader.read_event().expect("XML"), quick_xml::events::Event::Eof) {}
        });
    });
    python(&mut group, "lxml and scikit-image", "annotations", &[file]);
    group.finish();
}

criterion_group!(benches, volumes, annotations);
criterion_main!(benches);
