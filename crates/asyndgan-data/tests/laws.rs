//! What must hold of prepared data: writing and reading is the identity, windows cover their picture, and an
//! export is a data set.
#![allow(missing_docs, reason = "tests")]

use asyndgan_data::{Case, CaseOrigin, CaseSet, Export, Placement, TestCase, TestSet, window_starts, write_cases, write_test_case};
use asyndgan_medio::{Affine, DataSet, Orientation, Subject, Volume};
use asyndgan_task::{ImageDescription, Task};
use ndarray::{Array2, Array3, Array4, Axis};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn windows_cover_a_picture_in_even_steps(
        (rows, columns) in (5..40_usize, 5..40_usize), size in 1..=5_usize, apart in 1..6_usize,
    ) {
        let apart = apart.min(size);
        let mut seen = Array2::<bool>::default((rows, columns));
        let starts = window_starts([rows, columns], size, apart);
        for &(top, left) in &starts {
            let mut band = seen.slice_axis_mut(Axis(0), (top..top + size).into());
            band.slice_axis_mut(Axis(1), (left..left + size).into()).fill(true);
        }
        prop_assert!(seen.iter().all(|&is_covered| is_covered));
        let lefts: Vec<usize> = starts.iter().filter(|start| start.0 == 0).map(|start| start.1).collect();
        let tops: Vec<usize> = starts.iter().filter(|start| start.1 == 0).map(|start| start.0).collect();
        prop_assert_eq!(starts.len(), tops.len() * lefts.len());
        for places in [tops, lefts] {
            let steps: Vec<usize> = places.windows(2).map(|w| w[1] - w[0]).collect();
            let (least, most) = (steps.iter().min().copied().unwrap_or(0), steps.iter().max().copied().unwrap_or(0));
            prop_assert!(most <= apart && most - least <= 1, "{places:?}");
        }
    }

    #[test]
    fn prepared_cases_are_read_as_they_were(count in 1..5_usize, side in 1..6_usize, seed: u32, padded: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let case = |n: usize| Case {
            id: format!("case#{n}"),
            image: Array3::from_shape_fn((1, side, side + 1), |(_, r, c)| (seed.wrapping_mul((n + 3 * r + c) as u32) as f32).sin()),
            condition: Array2::from_shape_fn((side, side + 1), |(r, c)| (seed as usize + n + r * c) as u8),
        };
        let cases: Vec<Case> = (0..2 * count).map(case).collect();
        write_cases(&folder.path().join("a.safetensors"), CaseOrigin::default().with(|origin| { origin.patient = Some("A. Patient"); origin.absent_classes = &[1]; }), &cases[..count]).expect("written");
        write_cases(&folder.path().join("b.safetensors"), CaseOrigin::default().with(|origin| origin.absent_channels = &[0]), &cases[count..]).expect("written");
        let set = CaseSet::open(&[folder.path().into()]).expect("opened");
        prop_assert_eq!(set.len(), 2 * count);
        for (n, case) in cases.iter().enumerate() {
            prop_assert_eq!(&set.read(n).expect("read"), case);
            prop_assert_eq!(set.patient(n), Some("A. Patient").filter(|_| n < count));
            prop_assert_eq!(set.absent_channels(n), if n < count { &[][..] } else { &[0] });
            prop_assert_eq!(set.absent_classes(n), if n < count { &[1][..] } else { &[] });
        }
        prop_assert!(set.channels_absent_everywhere().is_empty());
        let held_out = TestCase {
            id: "held out".into(),
            images: Array4::from_elem((count, 1, side, side), 0.5),
            content: if padded { Placement { top: 0, left: 0, rows: side, columns: 1 } } else { Placement::whole(side, side) },
            truth: Array3::from_elem((count, side + 1, side), seed),
            spacing_mm: [5.0, 1.0, 0.3],
        };
        let test = folder.path().join("test");
        std::fs::create_dir(&test).expect("made");
        write_test_case(&test.join("c.safetensors"), &held_out).expect("written");
        prop_assert_eq!(TestSet::open(&test).expect("opened").read(0).expect("read"), held_out);
    }
}

#[test]
fn an_exported_set_is_found_and_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for channels in [1, 3] {
        let case = |n: usize| Case {
            id: format!("synthetic-{n}"),
            image: Array3::from_shape_fn((channels, 9, 8), |(k, r, c)| ((k + n + r * c) as f32 / 40.0) - 1.0),
            condition: Array2::from_shape_fn((9, 8), |(r, c)| ((r + c) % 5) as u8),
        };
        let cases: Vec<Case> = (0..3).map(case).collect();
        let described = if channels == 1 {
            "images = 'volumes'\nchannels = [{ name = 'T2', normalisation = 'z_score' }]"
        } else {
            "images = 'pictures'\nchannels = [{ name = 'r', normalisation = 'rgb' }, { name = 'g', normalisation = 'rgb' }, \
             { name = 'b', normalisation = 'rgb' }]"
        };
        let classes = "classes = [{ name = 'core', labels = [1] }, { name = 'oedema', labels = [2] }, { name = 'rim', labels = [4] }]";
        let task = Task::parse(&format!("name = 'a'\n{described}\n{classes}")).expect("a task");
        let images = ImageDescription { task: task.clone(), downsampling: 1 };
        let file = folder.path().join(format!("{channels}.safetensors"));
        write_cases(&file, CaseOrigin::default().with(|origin| origin.images = Some(&images)), &cases).expect("written");
        let set = CaseSet::open(&[file]).expect("opened");
        assert_eq!(set.images(), Some(&images));
        let export = Export { task, card: "# made up".into() };
        let places = [folder.path().join(format!("Dataset00{channels}_A")), folder.path().join(format!("pairs-{channels}"))];
        export.write_nnunet(&places[0], &set, |_| ()).expect("written");
        export.write_pairs(&places[1], &set, |_| ()).expect("written");
        assert!(export.write_pairs(&places[1], &set, |_| ()).is_err_and(|e| e.to_string().contains("already exists")));
        for place in places {
            let found = DataSet::complete(&place).expect("found");
            assert_eq!((found.cases.len(), found.channels.len(), found.labels.len()), (3, channels, 3), "{}", place.display());
            let expected = cases[1].condition.mapv(|code| if code > 3 { 0 } else { u32::from(code) });
            match found.read(&found.cases[1], &[0]).expect("read") {
                Subject::Volume { channels, labels: Some(labels) } => {
                    // Written as right, front, up; read as left, back, up.
                    let turned = Volume { voxels: expected.insert_axis(Axis(0)), affine: Affine::scaling([1.0; 3]) };
                    assert_eq!(labels.voxels, turned.oriented(Orientation::LPS).voxels);
                    assert_eq!(channels[0].voxels.dim(), (1, 9, 8));
                }
                Subject::Picture { planes, labels: Some(labels) } => {
                    assert_eq!(labels, expected);
                    assert!(planes.iter().zip(&cases[1].image).all(|(a, b)| (a / 127.5 - 1.0 - b).abs() < 0.01));
                }
                other => panic!("no labels: {other:?}"),
            }
        }
    }
}
