//! What must hold of any image: writing and reading is the identity, and orienting loses nothing.
#![allow(missing_docs, reason = "tests")]

use asyndgan_medio::{
    Affine, Orientation, Volume, parse_annotations, read_instances, read_labels, read_volume, write_instances, write_labels, write_volume,
};
use ndarray::{Array3, Axis};
use proptest::prelude::*;

fn affine() -> impl Strategy<Value = Affine> {
    let turn = (-3.0..3.0_f64, -3.0..3.0_f64, -3.0..3.0_f64, prop::bool::ANY);
    (turn, [0.3..4.0_f64, 0.3..4.0, 0.3..4.0], [-90.0..90.0_f64, -90.0..90.0, -90.0..90.0]).prop_map(|((a, b, c, flip), mm, origin)| {
        let ((sa, ca), (sb, cb), (sc, cc)) = (a.sin_cos(), b.sin_cos(), c.sin_cos());
        let rotation = [
            [cb * cc, sa * sb * cc - ca * sc, ca * sb * cc + sa * sc],
            [cb * sc, sa * sb * sc + ca * cc, ca * sb * sc - sa * cc],
            [-sb, sa * cb, ca * cb],
        ];
        let sign = [1.0, 1.0, if flip { -1.0 } else { 1.0 }];
        // As a file holds them: in single precision.
        let single = |v: f64| f64::from(v as f32);
        Affine(std::array::from_fn(|r| std::array::from_fn(|k| single(if k < 3 { rotation[r][k] * mm[k] * sign[k] } else { origin[r] }))))
    })
}

fn volume() -> impl Strategy<Value = Volume> {
    ((1..6_usize, 1..6_usize, 1..6_usize), affine()).prop_flat_map(|(dim, affine)| {
        let values = prop::collection::vec(-1e6..1e6_f32, dim.0 * dim.1 * dim.2);
        values.prop_map(move |v| Volume { voxels: Array3::from_shape_vec(dim, v).expect("as many"), affine })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_written_volume_is_read_as_it_was(volume in volume(), compressed: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(if compressed { "v.nii.gz" } else { "v.nii" });
        write_volume(&path, &volume).expect("written");
        prop_assert_eq!(read_volume(&path).expect("read"), volume);
        prop_assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn written_labels_are_read_as_they_were(volume in volume(), large: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("labels.nii.gz");
        let voxels = volume.voxels.mapv(|v| v.abs() as u32 % if large { u32::MAX } else { 60_000 });
        let labels = Volume { voxels, affine: volume.affine };
        write_labels(&path, &labels).expect("written");
        prop_assert_eq!(&read_labels(&path).expect("read"), &labels);
        let plane = labels.voxels.index_axis(Axis(0), 0);
        for name in ["l.png", "l.tif"] {
            let path = folder.path().join(name);
            let plane = if name == "l.png" { plane.mapv(|l| l % 65_536) } else { plane.to_owned() };
            write_instances(&path, plane.view()).expect("written");
            prop_assert_eq!(read_instances(&path).expect("read"), plane);
        }
    }

    #[test]
    fn orienting_moves_no_voxel_in_the_patient(volume in volume()) {
        let place = |v: &Volume| {
            let mut all: Vec<(f32, [i64; 3])> = v.voxels.indexed_iter().map(|((k, j, i), &value)| {
                (value, v.affine.apply([i as f64, j as f64, k as f64]).map(|mm| (mm * 1e3).round() as i64))
            }).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all
        };
        let near = |a: &[(f32, [i64; 3])], b: &[(f32, [i64; 3])]| a.iter().zip(b).all(|(a, b)| a.0.to_bits() == b.0.to_bits() && (0..3).all(|k| (a.1[k] - b.1[k]).abs() <= 1));
        for wanted in [Orientation::RAS, Orientation::LPS, Orientation(['S', 'P', 'R'])] {
            let turned = volume.clone().oriented(wanted);
            prop_assert_eq!(turned.affine.orientation(), wanted);
            prop_assert!(near(&place(&turned), &place(&volume)));
            let own = volume.affine.orientation();
            let back = turned.oriented(own);
            prop_assert_eq!(&back.voxels, &volume.voxels);
            prop_assert!(back.affine.agrees_with(&volume.affine, volume.voxels.dim()));
        }
    }

    #[test]
    fn a_polygon_covers_its_area(points in prop::collection::vec((2.0..58.0_f64, 2.0..58.0_f64), 3..4)) {
        let vertices = points.iter().map(|(x, y)| format!("<Vertex X=\"{x}\" Y=\"{y}\"/>")).collect::<Vec<_>>().concat();
        let xml = format!("<Annotations><Region><Vertices>{vertices}</Vertices></Region></Annotations>");
        let found = parse_annotations("a.xml".as_ref(), xml.as_bytes(), 60, 60, None).expect("valid");
        let next = |i: usize| points[(i + 1) % points.len()];
        let twice: f64 = points.iter().enumerate().map(|(i, (x, y))| x * next(i).1 - next(i).0 * y).sum();
        let round: f64 = points.iter().enumerate().map(|(i, (x, y))| (x - next(i).0).hypot(y - next(i).1)).sum();
        let covered = found.labels.iter().filter(|&&l| l == 1).count() as f64;
        // No more pixels are in doubt than its edge passes.
        prop_assert!((covered - twice.abs() / 2.0).abs() <= round + 4.0, "{covered} {twice} {round}");
        prop_assert_eq!(found.degenerate == 1, covered == 0.0);
    }
}
