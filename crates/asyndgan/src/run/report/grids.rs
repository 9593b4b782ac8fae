//! Grids as in the paper's figures 1, 2, 6 and 7.

use std::collections::BTreeMap;

use anyhow::Result;
use asyndgan_data::{CaseSet, window};
use asyndgan_models::read_tensors;
use asyndgan_paper::{Arm, Step};
use asyndgan_task::{ImageKind, LabelKind, Task};
use ndarray::{Array2, ArrayView2, Axis};
use tch::Tensor;

use super::Samples;
use crate::{
    configure,
    figures::{Canvas, headings_of, of_codes, of_image, of_labels},
    run::{RunFolder, synthesize::made},
};

const ROWS: usize = 6;

/// Condition, each generator's image, and the real one.
pub(crate) fn synthetic(folder: &RunFolder, arms: &[Arm]) -> Result<()> {
    let seed = folder.run.seeds[0];
    let sites = folder.prepared()?.sites.len() as u32;
    let real = CaseSet::open(&(1..=sites).map(|site| folder.site(site)).collect::<Vec<_>>())?;
    let arms: Vec<Arm> = arms.iter().copied().filter(|arm| arm.is_synthetic()).collect();
    let sets: Vec<CaseSet> = arms.iter().map(|&arm| Ok(CaseSet::open(&[made(folder, arm, seed)?])?)).collect::<Result<_>>()?;
    let task = configure::task(&folder.run)?;
    let images: Vec<String> = arms.iter().map(Arm::to_string).chain(["real".to_owned()]).collect();
    let of_images: Vec<Vec<String>> = images.iter().map(|image| headings_of(task, image)).collect();
    let wide = of_images[0].len();
    let headings = ["condition".to_owned()].into_iter().chain(of_images.into_iter().flatten()).collect();
    let mut canvas = Canvas::new(headings, ROWS);
    let crop = folder.run.settings.data.crop;
    for row in 0..ROWS {
        // The first images made are of the real conditions in order, cropped in the middle.
        let i = row * real.len() / ROWS + real.len() / (2 * ROWS);
        let real = real.read(i)?;
        let margin = (real.condition.nrows() - crop) / 2;
        canvas.put(row, 0, of_codes(&window(real.condition.view(), margin, margin, crop).to_owned()).view());
        for (column, cases) in sets.iter().enumerate() {
            if i < cases.len() {
                let made = cases.read(i)?.image;
                let margin = (made.len_of(Axis(1)) - crop) / 2;
                canvas.put_all(row, 1 + wide * column, &of_image(task, window(made.view(), margin, margin, crop)));
            }
        }
        canvas.put_all(row, 1 + wide * sets.len(), &of_image(task, window(real.image.view(), margin, margin, crop)));
    }
    canvas.save(&folder.path.join("synthetic.png"))
}

/// Synthetic images of each arm, each next to the crop of all real training images with the nearest features.
pub(crate) fn neighbours(folder: &RunFolder, samples: &Samples) -> Result<()> {
    let task = configure::task(&folder.run)?;
    let of_arm = |arm: &Arm| [headings_of(task, &arm.to_string()), headings_of(task, "nearest real")].concat();
    let headings: Vec<String> = samples.synthetic.iter().flat_map(|(arm, _)| of_arm(arm)).collect();
    let wide = headings_of(task, "").len();
    let mut canvas = Canvas::new(headings, ROWS);
    for (column, (_, made)) in samples.synthetic.iter().enumerate() {
        for row in 0..ROWS.min(made.images.len()) {
            let i = row * made.images.len() / ROWS;
            canvas.put_all(row, 2 * wide * column, &of_image(task, made.images[i].view()));
            if let Some(nearest) = samples.training.nearest(made.features.row(i))? {
                canvas.put_all(row, (2 * column + 1) * wide, &of_image(task, nearest.view()));
            }
        }
    }
    canvas.save(&folder.path.join("neighbours.png"))
}

/// Image, truth, and each arm's prediction.
pub(crate) fn predictions(folder: &RunFolder, arms: &[Arm]) -> Result<()> {
    let (seed, task) = (folder.run.seeds[0], configure::task(&folder.run)?);
    let test = folder.test()?;
    let mut headings = headings_of(task, "image");
    let wide = headings.len();
    headings.push("truth".to_owned());
    headings.extend(arms.iter().map(Arm::to_string));
    let mut columns = Vec::new();
    for &arm in arms {
        columns.push(read_tensors(&Step::folder(&folder.path, arm, seed).join("predictions.safetensors"))?);
    }
    let rows = columns.iter().map(BTreeMap::len).min().unwrap_or(0);
    let mut canvas = Canvas::new(headings, rows);
    for row in 0..rows {
        let case = test.read(row)?;
        let middle = case.truth.len_of(Axis(0)) / 2;
        let is_large = case.truth.len_of(Axis(1)).min(case.truth.len_of(Axis(2))) > WHOLE_MAX;
        let marked = |labels: ArrayView2<u32>| -> Array2<u32> {
            if task.labels == LabelKind::Classes { labels.mapv(|l| target_number(task, l)) } else { labels.to_owned() }
        };
        canvas.put_all(row, 0, &of_image(task, part(task, is_large, case.images.index_axis(Axis(0), middle))));
        canvas.put(row, wide, of_labels(part(task, is_large, marked(case.truth.index_axis(Axis(0), middle)).view())).view());
        for (column, predictions) in columns.iter().enumerate() {
            let prediction = labels(&predictions[&row.to_string()]);
            canvas.put(row, wide + 1 + column, of_labels(part(task, is_large, marked(prediction.view()).view())).view());
        }
    }
    canvas.save(&folder.path.join("predictions.png"))
}

fn labels(tensor: &Tensor) -> Array2<u32> {
    let size = tensor.size();
    let mut values = vec![0_i64; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    Array2::from_shape_fn((size[0] as usize, size[1] as usize), |(r, c)| values[r * size[1] as usize + c] as u32)
}

/// The number of the segmenter's class that a label belongs to, from 1.
fn target_number(task: &Task, label: u32) -> u32 {
    let class = task.condition_code_of(label).filter(|&code| task.is_class(code)).map(|code| usize::from(code) - 1);
    class.and_then(|class| task.targets().iter().position(|t| t.classes.contains(&class))).map_or(0, |k| k as u32 + 1)
}

/// Pictures with longer sides are shown in part.
const WHOLE_MAX: usize = 400;

/// The visible part: the upper left third of a large picture, a whole small one, or a whole slice of a volume.
fn part<'a, A, D: ndarray::Dimension>(task: &Task, is_large: bool, picture: ndarray::ArrayView<'a, A, D>) -> ndarray::ArrayView<'a, A, D> {
    let n = picture.ndim();
    let side = picture.shape()[n - 1].min(picture.shape()[n - 2]);
    if task.images == ImageKind::Pictures && is_large { window(picture, 0, 0, (side / 3).max(1)) } else { picture }
}
