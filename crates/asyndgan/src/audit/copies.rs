//! Does the generator copy training images?

use std::{fs, path::Path};

use anyhow::Result;
use asyndgan_data::CaseSet;
use asyndgan_files::{Access, write};
use asyndgan_metrics::{Window, percentile_of_sorted, ssim};
use asyndgan_paper::CopiesRecord;
use asyndgan_task::Task;
use ndarray::{Array3, ArrayView3};

use super::{
    membership::{synthetic, window_of},
    structure::{Structures, appearances},
    subjects::Subject,
};
use crate::figures::{Canvas, headings_of, of_image};

/// Synthetic images that are compared, at most.
const IMAGES_MAX: usize = 2_000;
/// Pairs that are drawn.
const PAIRS: usize = 6;
const BLOCKS: usize = 16;

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
    let (mut views, mut sources) = (Vec::new(), Vec::new());
    for (s, subject) in members.iter().enumerate() {
        for (k, case) in subject.cases.iter().enumerate() {
            let all = appearances(&case.image, crop);
            sources.extend((0..all.len()).map(|view| (s, k, view)));
            views.push(Structures::new(&all, BLOCKS));
        }
    }
    let training = Structures::joined(views);
    let held_out: Vec<Array3<f32>> = others.iter().flat_map(|s| s.cases.iter().map(|case| window_of(&case.image, crop))).collect();
    let held_out = Structures::new(&held_out, BLOCKS);
    let (found, reference) = (made.nearest(&training), held_out.nearest(&training));
    let sorted = |nearest: &[Option<(f32, usize)>]| {
        let mut values: Vec<f64> = nearest.iter().flatten().map(|found| f64::from(found.0)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (of_synthetic, of_held_out) = (sorted(&found), sorted(&reference));
    if of_synthetic.is_empty() || of_held_out.is_empty() {
        return Ok(None);
    }
    let limit = percentile_of_sorted(&of_held_out, 99.0);
    let mut pairs: Vec<(f32, usize, usize)> =
        found.iter().enumerate().filter_map(|(k, nearest)| nearest.map(|(similarity, view)| (similarity, k, view))).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let headings = [headings_of(task, "synthetic"), headings_of(task, "training")].concat();
    let wide = headings.len() / 2;
    let mut canvas = Canvas::new(headings, PAIRS.min(pairs.len()));
    let mut worst_ssim: Option<f64> = None;
    for (row, &(_, k, view)) in pairs.iter().take(PAIRS).enumerate() {
        let image = places[k].read(set)?;
        let (s, case, number) = sources[view];
        let real = appearances(&members[s].cases[case].image, crop).swap_remove(number);
        let similarity = mean_ssim(image.view(), real.view());
        worst_ssim = worst_ssim.into_iter().chain(similarity).reduce(f64::max);
        canvas.put_all(row, 0, &of_image(task, image.view()));
        canvas.put_all(row, wide, &of_image(task, real.view()));
    }
    canvas.save(picture)?;
    // It shows patients.
    write(picture, Access::Private, &fs::read(picture)?)?;
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
