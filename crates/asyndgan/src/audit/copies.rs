//! Does the generator copy training images?

use std::path::Path;

use anyhow::Result;
use asyndgan_data::CaseSet;
use asyndgan_metrics::{Window, percentile_of_sorted, ssim};
use asyndgan_paper::CopiesRecord;
use asyndgan_task::Task;
use ndarray::{Array3, ArrayView3};

use super::{
    membership::{synthetic, window_of},
    structure::{BLOCKS, Structures, appearances},
    subjects::Subject,
};
use crate::figures::{Canvas, headings_of, of_image};

/// Synthetic images that are compared, at most.
const IMAGES_MAX: usize = 2_000;
/// Pairs that are drawn.
const PAIRS: usize = 6;

/// The view of a training image that an image is most similar to.
#[derive(Clone, Copy)]
struct Nearest {
    similarity: f32,
    subject: usize,
    case: usize,
    view: usize,
}

/// Compares synthetic and held-out images with all views of the training images, and draws the most similar pairs.
pub(crate) fn copies(
    task: &Task,
    members: &[Subject],
    others: &[Subject],
    set: &CaseSet,
    crop: usize,
    picture: &Path,
) -> Result<Option<CopiesRecord>> {
    let (made, places) = synthetic(set, crop, IMAGES_MAX)?;
    let held_out: Vec<Array3<f32>> = others.iter().flat_map(|s| s.cases.iter().map(|case| window_of(&case.image, crop))).collect();
    let held_out = Structures::new(&held_out, BLOCKS);
    let (mut found, mut reference) = (vec![None; places.len()], vec![None; others.iter().map(|s| s.cases.len()).sum()]);
    // One training image at a time: its views take megabytes.
    for (s, subject) in members.iter().enumerate() {
        for (k, case) in subject.cases.iter().enumerate() {
            let views = Structures::new(appearances(&case.image, crop), BLOCKS);
            for (best, images) in [(&mut found, &made), (&mut reference, &held_out)] {
                for (best, nearest) in best.iter_mut().zip(images.nearest(&views)) {
                    let nearest = nearest.map(|(similarity, view)| Nearest { similarity, subject: s, case: k, view });
                    if nearest.is_some_and(|nearest| best.is_none_or(|best: Nearest| nearest.similarity > best.similarity)) {
                        *best = nearest;
                    }
                }
            }
        }
    }
    let sorted = |nearest: &[Option<Nearest>]| {
        let mut values: Vec<f64> = nearest.iter().flatten().map(|found| f64::from(found.similarity)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (of_synthetic, of_held_out) = (sorted(&found), sorted(&reference));
    if of_synthetic.is_empty() || of_held_out.is_empty() {
        return Ok(None);
    }
    let limit = percentile_of_sorted(&of_held_out, 99.0);
    let mut pairs: Vec<(usize, Nearest)> = found.iter().enumerate().filter_map(|(k, nearest)| Some((k, (*nearest)?))).collect();
    pairs.sort_by(|a, b| b.1.similarity.total_cmp(&a.1.similarity));
    let headings = [headings_of(task, "synthetic"), headings_of(task, "training")].concat();
    let wide = headings.len() / 2;
    let mut canvas = Canvas::new(headings, PAIRS.min(pairs.len()));
    let mut worst_ssim: Option<f64> = None;
    for (row, &(k, Nearest { subject, case, view, .. })) in pairs.iter().take(PAIRS).enumerate() {
        let image = places[k].read(set)?;
        let real = appearances(&members[subject].cases[case].image, crop).nth(view).expect("it was found");
        let similarity = mean_ssim(image.view(), real.view());
        worst_ssim = worst_ssim.into_iter().chain(similarity).reduce(f64::max);
        canvas.put_all(row, 0, &of_image(task, image.view()));
        canvas.put_all(row, wide, &of_image(task, real.view()));
    }
    canvas.save(picture)?;
    let both = |values: &[f64]| [50.0, 95.0].map(|p| percentile_of_sorted(values, p));
    Ok(Some(CopiesRecord {
        images: [of_synthetic.len(), of_held_out.len()],
        synthetic: both(&of_synthetic),
        held_out: both(&of_held_out),
        above_held_out: of_synthetic.iter().filter(|&&value| value > limit).count() as f64 / of_synthetic.len() as f64,
        worst_ssim,
    }))
}

/// SSIM of two images in [-1, 1], averaged over channels.
pub(crate) fn mean_ssim(a: ArrayView3<f32>, b: ArrayView3<f32>) -> Option<f64> {
    let planes = a.outer_iter().zip(b.outer_iter());
    let values = planes.map(|(a, b)| ssim(a.mapv(f64::from).view(), b.mapv(f64::from).view(), 2.0, Window::Gaussian(1.5)).ok());
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    Some(values.iter().sum::<f64>() / values.len() as f64)
}
