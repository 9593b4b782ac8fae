//! Turns volumes and pictures into inputs for the networks, as a task describes.

mod pictures;
mod volumes;

use std::path::Path;

use asyndgan_task::{Absent, Channel, IGNORED, ImageDescription, ImageKind, Task, UNMARKED};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayView4, Axis, Slice};

use crate::{Case, Error, Placement, Study, TestCase, check_intensities, check_stain, mask};

/// How the images of a task become inputs of the networks.
///
/// Volumes are scaled as a whole, cut into slices along the task's axis, and resized to a square; a slice that is not
/// square is padded. Pictures are downsampled and cut into patches.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// The task.
    pub task: &'a Task,
    /// Rows and columns of a prepared slice or patch.
    pub size: usize,
    /// Factor by which pictures are downsampled first.
    pub downsampling: usize,
    /// The parts of the task that the data do not have.
    pub absent: &'a Absent,
}

impl Preparation<'_> {
    /// The task and scale of the images.
    pub fn description(&self) -> ImageDescription {
        let downsampling = if self.task.images == ImageKind::Pictures { self.downsampling } else { 1 };
        ImageDescription { task: self.task.clone(), downsampling }
    }

    /// Checks that a study can be prepared.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with `path` for another number of channels, intensities or colours that the normalisation
    /// would misinterpret, a number in the mask that the task does not describe, or a picture smaller than a patch.
    pub fn check(&self, path: &Path, study: &Study) -> Result<(), Error> {
        self.check_images(path, study.images.view())?;
        let (_, _, rows, columns) = study.images.dim();
        let (needed, side) = (self.size * self.downsampling, rows.min(columns));
        if self.task.images == ImageKind::Pictures && side < needed {
            let fact = format!(
                "it has {side} pixels on its shorter side, but {needed} are required; exclude it, or use smaller patches (size, downsampling)"
            );
            return Err(Error::unsupported(path, fact));
        }
        let unknown = study.labels.iter().find(|&&label| self.task.condition_code_of(label).is_none());
        unknown.map_or(Ok(()), |label| {
            let known: Vec<u32> = self.task.classes.iter().flat_map(|c| c.labels.clone()).collect();
            let fact = format!(
                "its mask has label {label}, but the task has labels {known:?}; add it to a class, or in a copy of the mask set it to 0"
            );
            Err(Error::unsupported(path, fact))
        })
    }

    /// Checks the images of a study without a mask.
    ///
    /// # Errors
    /// As [`Preparation::check`], without the mask.
    pub fn check_images(&self, path: &Path, images: ArrayView4<f32>) -> Result<(), Error> {
        let (channels, slices, ..) = images.dim();
        let expected = self.task.channels.len();
        if channels != expected {
            let fact = format!("it has {channels} channels, but the task has {expected}; correct the channels of the task");
            return Err(Error::unsupported(path, fact));
        }
        for (k, channel) in self.present_channels() {
            check_intensities(path, channel.normalisation, images.index_axis(Axis(0), k))?;
        }
        if self.task.outline && self.outline_channel().is_none() {
            let fact = "no channel that it has separates foreground from background, which the outline of the task needs; use a task without outline";
            return Err(Error::unsupported(path, fact));
        }
        if self.task.images == ImageKind::Volumes {
            return Ok(());
        }
        if slices != 1 {
            return Err(Error::unsupported(path, format!("it has {slices} slices, but the task is about pictures")));
        }
        if self.task.is_stained() {
            check_stain(path, images.index_axis(Axis(1), 0))?;
        }
        Ok(())
    }

    /// The channels of the task that the data have, with their indices.
    fn present_channels(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.task.channels.iter().enumerate().filter(|&(k, _)| !self.absent.is_channel_absent(self.task, k))
    }

    /// The first channel that the data have and that separates foreground from background.
    fn outline_channel(&self) -> Option<usize> {
        self.present_channels().find(|(_, channel)| channel.normalisation.has_foreground()).map(|(k, _)| k)
    }

    /// Indices of the channels that the data do not have.
    pub fn absent_channels(&self) -> Vec<usize> {
        (0..self.task.channels.len()).filter(|&k| self.absent.is_channel_absent(self.task, k)).collect()
    }

    /// Indices of the classes that the data do not mark.
    pub fn absent_classes(&self) -> Vec<usize> {
        let classes = self.task.classes.iter().enumerate();
        classes.filter(|(_, class)| self.absent.classes.contains(&class.name)).map(|(class, _)| class).collect()
    }

    /// The training cases of a study: its slices with enough marked pixels, or the patches that cover a picture.
    /// Channels that the data do not have are 0. Pixels with the ignore label have the code [`IGNORED`]. If the data
    /// lack classes, background has the code [`UNMARKED`].
    ///
    /// # Reference
    /// Section 4.1. The public code scales every slice separately, so that the same tissue differs between slices; 16
    /// patches of 286 from a tile of 1000 at full resolution.
    pub fn cases(&self, study: &Study) -> Vec<Case> {
        let mut cases = match self.task.images {
            ImageKind::Volumes => self.slices(study),
            ImageKind::Pictures => self.patches(study),
        };
        self.leave_out_absent(&mut cases);
        cases
    }

    /// Sets absent channels to 0. Background may show what the site does not mark.
    fn leave_out_absent(&self, cases: &mut Vec<Case>) {
        if self.absent.is_none() {
            return;
        }
        let absent_codes: Vec<u8> = self.absent_classes().into_iter().map(|class| class as u8 + 1).collect();
        for case in cases.iter_mut() {
            for channel in self.absent_channels() {
                case.image.index_axis_mut(Axis(0), channel).fill(0.0);
            }
            if !absent_codes.is_empty() {
                // Outside of the body there is no class.
                let body = foreground(self.task, case.condition.view());
                case.condition.zip_mut_with(&body, |code, &inside| {
                    if *code == 0 && inside || absent_codes.contains(code) {
                        *code = UNMARKED;
                    }
                });
            }
        }
        cases.retain(|case| absent_codes.is_empty() || self.shows_class(&case.condition));
    }

    /// A held-out case: images as the networks expect them, ground truth on the original grid. Of a volume, the slices
    /// from the first to the last with enough marked pixels.
    pub fn test_case(&self, study: &Study) -> TestCase {
        match self.task.images {
            ImageKind::Volumes => {
                // Slices between the first and the last stay in, so that neighbours in the array are neighbours in the
                // body.
                let chosen: Vec<usize> =
                    (0..study.labels.len_of(Axis(0))).filter(|&z| self.is_marked_enough(study.labels.index_axis(Axis(0), z))).collect();
                let range = chosen.first().zip(chosen.last()).map_or(0..0, |(&first, &last)| first..last + 1);
                let mut case = self.volume(&study.id, study.images.view(), study.spacing_mm, range.clone());
                case.truth = study.labels.slice_axis(Axis(0), Slice::from(range)).to_owned();
                case
            }
            ImageKind::Pictures => {
                let image = self.picture(study.images.index_axis(Axis(1), 0));
                let (_, rows, columns) = image.dim();
                TestCase {
                    id: study.id.clone(),
                    images: image.insert_axis(Axis(0)),
                    content: Placement::whole(rows, columns),
                    truth: study.labels.clone(),
                    spacing_mm: [1.0; 3],
                }
            }
        }
    }

    /// All of an image without a mask, as input for a segmenter; the ground truth is empty.
    ///
    /// # Shapes
    /// `[channels, slices, rows, columns]` to images `[slices, channels, rows, columns]`.
    ///
    /// # Units
    /// Millimetres along slices, rows and columns.
    pub fn unmarked(&self, id: &str, images: ArrayView4<f32>, spacing_mm: [f64; 3]) -> TestCase {
        match self.task.images {
            ImageKind::Volumes => self.volume(id, images, spacing_mm, 0..images.len_of(Axis(1))),
            ImageKind::Pictures => {
                let (_, _, rows, columns) = images.dim();
                let study = Study { id: id.into(), images: images.to_owned(), labels: Array3::zeros((1, rows, columns)), spacing_mm };
                self.test_case(&study)
            }
        }
    }

    /// The label maps of a mask for synthesis, with the number of the slice; a picture has one. Masks of volumes
    /// mark the outline of the foreground as [`Preparation::outline_label`]. Slices without a class are skipped.
    ///
    /// # Shapes
    /// `[slices, rows, columns]` of labels to `[size, size]`, or for pictures to the downsampled mask.
    pub fn conditions(&self, labels: ArrayView3<u32>, spacing_mm: [f64; 3]) -> Vec<(usize, Array2<u8>)> {
        if self.task.images == ImageKind::Pictures {
            return labels.outer_iter().take(1).map(|plane| (0, self.picture_condition(plane))).collect();
        }
        let slice = |(z, plane): (usize, ArrayView2<u32>)| {
            let outline = self.outline_label();
            let codes = plane.mapv(|label| if Some(label) == outline { 0 } else { self.task.condition_code_of(label).unwrap_or(0) });
            let inside = self.task.outline.then(|| mask::fill_holes(plane.mapv(|label| label > 0).view()));
            (z, self.slice_condition(codes.view(), inside.as_ref().map(|array| array.view()), spacing_mm))
        };
        labels.outer_iter().enumerate().map(slice).filter(|(_, codes)| self.shows_class(codes)).collect()
    }

    /// The number that marks the outline in a mask for synthesis: one above the highest label of the task.
    pub fn outline_label(&self) -> Option<u32> {
        let highest = self.task.classes.iter().flat_map(|c| &c.labels).copied().chain(self.task.ignore).max();
        self.task.outline.then(|| highest.unwrap_or(0) + 1)
    }

    fn is_marked_enough(&self, labels: ArrayView2<u32>) -> bool {
        let is_class = |label: &&u32| **label > 0 && self.task.condition_code_of(**label).is_some_and(|code| self.task.is_class(code));
        labels.iter().filter(is_class).count() >= self.task.marked_pixels_min
    }

    fn shows_class(&self, condition: &Array2<u8>) -> bool {
        condition.iter().any(|&code| self.task.is_class(code))
    }
}

/// The pixels inside the outline of a condition; all where the task has no outline.
pub(crate) fn foreground(task: &Task, condition: ArrayView2<u8>) -> Array2<bool> {
    if task.outline { mask::fill_holes(condition.mapv(|code| code > 0).view()) } else { Array2::from_elem(condition.dim(), true) }
}

/// The code of background inside the foreground of a condition: the most frequent of 0, [`UNMARKED`] and [`IGNORED`].
pub(crate) fn background_code(condition: ArrayView2<u8>, foreground: ArrayView2<bool>) -> u8 {
    let count = |wanted: u8| condition.iter().zip(foreground).filter(|&(&code, &inside)| inside && code == wanted).count();
    [IGNORED, UNMARKED, 0].into_iter().max_by_key(|&code| count(code)).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact values are expected")]
mod tests {
    use ndarray::Array4;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::phantom;

    const BRAIN: &str = r#"
        name = "brain"
        images = "volumes"
        outline = true
        ignore = 9
        channels = [{ name = "t2", normalisation = "foreground_percentile" }]
        classes = [{ name = "a", labels = [1] }, { name = "b", labels = [2] }, { name = "c", labels = [3] }]
    "#;

    fn brain() -> (Task, Study) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        (Task::parse(BRAIN).expect("a task"), phantom::brain("phantom", 0, &phantom::Scanner::of_site(3), &mut rng))
    }

    fn slice_number(case: &Case) -> usize {
        case.id.rsplit('#').next().and_then(|z| z.parse().ok()).expect("a slice's number")
    }

    #[test]
    fn a_mask_with_the_contour_gives_the_condition_that_its_image_gives() {
        let (task, brain) = brain();
        let mut labels = brain.labels.clone();
        for (z, mut plane) in labels.outer_iter_mut().enumerate() {
            let inside = mask::fill_holes(brain.images.index_axis(Axis(0), 0).index_axis(Axis(0), z).mapv(|v| v > 0.0).view());
            plane.zip_mut_with(&mask::contour(inside.view()), |label, &on| {
                if on && *label == 0 {
                    *label = 10;
                }
            });
        }
        // A third of the grid, where a line of one pixel would be torn.
        for size in [96, 72, 32] {
            let preparation = Preparation { task: &task, size, downsampling: 1, absent: Absent::none() };
            assert_eq!(preparation.outline_label(), Some(10));
            let cases = preparation.cases(&brain);
            let of_mask = preparation.conditions(labels.view(), brain.spacing_mm);
            let slices: Vec<usize> = cases.iter().map(slice_number).collect();
            let expected: Vec<Array2<u8>> = cases.into_iter().map(|case| case.condition).collect();
            let found: Vec<Array2<u8>> = of_mask.into_iter().filter(|(z, _)| slices.contains(z)).map(|(_, condition)| condition).collect();
            assert!(!found.is_empty() && found == expected, "at {size}");
        }
    }

    #[test]
    fn pixels_with_the_ignore_label_are_marked_in_training_and_kept_in_test_cases() {
        let (task, mut brain) = brain();
        let preparation = Preparation { task: &task, size: 72, downsampling: 1, absent: Absent::none() };
        let (before, slices) = (preparation.cases(&brain), preparation.test_case(&brain).images.dim().0);
        brain.labels[[slice_number(&before[1]), 0, 0]] = 9;
        let after = preparation.cases(&brain);
        assert_eq!([&after[..1], &after[2..]], [&before[..1], &before[2..]]);
        assert_eq!((after[1].condition[[0, 0]], before[1].condition[[0, 0]]), (IGNORED, 0));
        let is_other = |(a, b): (&u8, &u8)| a != b;
        assert_eq!(after[1].condition.iter().zip(&before[1].condition).filter(|&pair| is_other(pair)).count(), 1);
        assert_eq!(preparation.test_case(&brain).images.dim().0, slices);
    }

    #[test]
    fn an_unmarked_volume_has_all_its_slices_as_training_saw_them() {
        let (task, brain) = brain();
        let preparation = Preparation { task: &task, size: 72, downsampling: 1, absent: Absent::none() };
        let case = preparation.unmarked("phantom", brain.images.view(), brain.spacing_mm);
        assert_eq!((case.images.dim(), case.truth.dim()), ((brain.labels.dim().0, 1, 72, 72), brain.labels.dim()));
        for one in preparation.cases(&brain) {
            assert_eq!(case.images.index_axis(Axis(0), slice_number(&one)), one.image);
        }
    }

    #[test]
    fn a_slice_keeps_its_aspect_ratio_and_its_padding_is_background() {
        let task = Task::parse(&BRAIN.replace("outline = true", "")).expect("a task");
        let labels = Array3::from_shape_fn((1, 20, 40), |(_, r, c)| u32::from(r < 10 && c < 10));
        let study = Study { id: "a".into(), images: Array4::from_elem((1, 1, 20, 40), 5.0), labels, spacing_mm: [1.0, 1.0, 1.0] };
        let preparation = Preparation { task: &task, size: 80, downsampling: 1, absent: Absent::none() };
        let (case, test) = (&preparation.cases(&study)[0], preparation.test_case(&study));
        assert_eq!(test.content, Placement { top: 20, left: 0, rows: 40, columns: 80 });
        assert!(case.image.index_axis(Axis(0), 0).indexed_iter().all(|((r, _), &v)| v == if (20..60).contains(&r) { 1.0 } else { -1.0 }));
        assert_eq!(case.condition.iter().filter(|&&code| code == 1).count(), 20 * 20);
        // Rows twice as far apart as columns: a square.
        let tall = Study { spacing_mm: [1.0, 2.0, 1.0], ..study };
        assert_eq!(preparation.test_case(&tall).content, Placement::whole(80, 80));
    }

    #[test]
    fn patches_without_an_annotated_pixel_are_left_out() {
        let text = r#"
            name = "glands"
            images = "pictures"
            ignore = 255
            channels = [{ name = "r", normalisation = "rgb" }, { name = "g", normalisation = "rgb" }, { name = "b", normalisation = "rgb" }]
            classes = [{ name = "gland", labels = [1, 2] }]
        "#;
        let task = Task::parse(text).expect("a task");
        let mut labels = Array3::from_shape_fn((1, 64, 64), |(_, r, _)| u32::from(r < 9) * 2);
        labels.slice_axis_mut(Axis(1), (32..).into()).slice_axis_mut(Axis(2), (32..).into()).fill(255);
        labels[[0, 1, 1]] = 255;
        let study = Study { id: "a".into(), images: Array4::from_elem((3, 1, 64, 64), 255.0), labels, spacing_mm: [1.0; 3] };
        let cases = Preparation { task: &task, size: 16, downsampling: 2, absent: Absent::none() }.cases(&study);
        assert_eq!(cases.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["a#0,0", "a#0,16", "a#16,0"]);
        assert!(cases[0].image.iter().all(|&v| v == 1.0));
        let count = |code| cases[0].condition.iter().filter(|&&found| found == code).count();
        assert_eq!((count(1), count(IGNORED)), (16 * 4 - 1, 1));
    }

    #[test]
    fn what_a_site_does_not_have_is_zero_in_images_and_not_annotated_in_conditions() {
        let two = BRAIN.replace("channels = [", "channels = [{ name = \"flair\", normalisation = \"foreground_percentile\" }, ");
        let (task, (_, brain)) = (Task::parse(&two).expect("a task"), brain());
        let study = Study { images: ndarray::concatenate![Axis(0), brain.images, brain.images], ..brain };
        let whole = Preparation { task: &task, size: 72, downsampling: 1, absent: Absent::none() };
        let absent = Absent { channels: vec!["FLAIR".into()], classes: vec!["b".into()] };
        let part = Preparation { absent: &absent, ..whole };
        part.check(Path::new("f"), &study).expect("fits");
        let (whole, part) = (whole.cases(&study), part.cases(&study));
        assert!(!part.is_empty());
        for case in &part {
            let same = whole.iter().find(|other| other.id == case.id).expect("the same slice");
            assert!(case.image.index_axis(Axis(0), 0).iter().all(|&v| v == 0.0));
            assert_eq!(case.image.index_axis(Axis(0), 1), same.image.index_axis(Axis(0), 1));
            let body = mask::fill_holes(same.condition.mapv(|code| code > 0).view());
            let expected = Array2::from_shape_fn(body.dim(), |at| match same.condition[at] {
                0 if body[at] => UNMARKED,
                2 => UNMARKED,
                code => code,
            });
            assert_eq!(case.condition, expected);
        }
    }

    #[test]
    fn studies_that_do_not_fit_the_task_are_refused() {
        let (task, brain) = brain();
        let check = |study: &Study| {
            Preparation { task: &task, size: 72, downsampling: 1, absent: Absent::none() }
                .check(Path::new("f"), study)
                .map_err(|e| e.to_string())
        };
        check(&brain).expect("fits");
        let mut other = brain.clone();
        other.labels[[0, 0, 0]] = 4;
        assert!(check(&other).expect_err("a label").contains("label 4"));
        let two = Study { images: ndarray::concatenate![Axis(0), brain.images, brain.images], ..brain };
        assert!(check(&two).expect_err("channels").contains("2 channels"));
    }
}
