//! The facts about a data set from which a task is proposed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use asyndgan_data::{check_intensities, check_stain};
use asyndgan_medio::{CaseFiles, DataSet, Layout, Subject, is_grey};
use asyndgan_task::{ImageKind, Normalisation, SliceAxis};
use ndarray::{Array3, ArrayView2, Axis};

use crate::{data::kind_of, progress::Progress};

/// Number of cases that are read, evenly spread over the data set.
const CASES_READ: usize = 24;
/// Number of values per case and channel that enter the percentiles.
const VALUES_READ: usize = 20_000;
/// Slices are cut along an axis whose spacing is this much coarser than the finest.
pub(super) const ANISOTROPY_MIN: f64 = 1.5;

/// The facts about a data set.
#[derive(Debug, Clone)]
pub(super) struct Fingerprint {
    pub(super) kind: ImageKind,
    /// Cases with labels, and how many of them were read.
    pub(super) cases: usize,
    pub(super) read: usize,
    pub(super) patients: usize,
    pub(super) channels: Vec<Channel>,
    /// Whether pictures are coloured, and whether all of them show haematoxylin and eosin.
    pub(super) is_coloured: bool,
    pub(super) is_stained: bool,
    /// Whether the numbers of a mask are instances.
    pub(super) has_instances: bool,
    /// Labels of the masks, with the number of cases that have them.
    pub(super) labels: BTreeMap<u32, Label>,
    /// Medians of slices, rows and columns, and of the spacing in millimetres along them.
    pub(super) shape: [usize; 3],
    pub(super) spacing_mm: [f64; 3],
    /// The axis along which slices are cut.
    pub(super) axis: SliceAxis,
    /// The smallest shorter side of a picture that was read.
    pub(super) side_min: usize,
    /// Share of the voxels of the first channel that lie above the background and carry no label.
    pub(super) unlabelled_foreground: f64,
}

/// Intensities of a channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    pub(super) name: String,
    /// The 0.5th and 99.5th percentiles inside the labels, and of all voxels.
    pub(super) inside: [f32; 2],
    pub(super) all: [f32; 2],
    /// Share of the voxels that are exactly 0.
    pub(super) zero: f64,
    /// Whether preparation accepts 0 and below as the background of every volume.
    pub(super) has_clean_background: bool,
}

/// A label of the masks.
#[derive(Debug, Clone, Default)]
pub(super) struct Label {
    pub(super) cases: usize,
    /// Mean share of a slice that it covers, where it occurs.
    pub(super) share: f64,
    /// Mean width of its parts in pixels: twice the area over the length of the boundary.
    pub(super) width: f64,
}

/// Values that are collected from the cases.
#[derive(Default)]
struct Collected {
    inside: Vec<f32>,
    all: Vec<f32>,
    /// Volumes whose negative values are no rounding.
    without_background: usize,
}

#[derive(Default)]
struct Areas {
    cases: usize,
    slices: usize,
    share: f64,
    pixels: usize,
    boundary: usize,
}

impl Fingerprint {
    /// Reads up to 24 cases with labels.
    pub(super) fn measure(set: &DataSet) -> Result<Self> {
        let cases: Vec<&CaseFiles> = set.cases.iter().filter(|case| case.labels.is_some() && case.missing.is_empty()).collect();
        ensure!(!cases.is_empty(), "{}: no case has labels; `asyndgan data inspect` lists what the folder contains", set.folder.display());
        let kind = kind_of(cases[0])?;
        let count = cases.len().min(CASES_READ);
        let chosen = (0..count).map(|i| cases[i * cases.len() / count]);
        let mut bar = Progress::new("read cases", count as u64);
        let mut seen = Seen::default();
        let all: Vec<usize> = (0..set.channels.len()).collect();
        for (n, case) in chosen.enumerate() {
            seen.add(case, kind, set.read(case, &all)?, set.ignore).with_context(|| case.id.clone())?;
            bar.set(n as u64 + 1);
        }
        let patients = cases.iter().map(|case| &case.patient).collect::<BTreeSet<_>>().len();
        Ok(seen.finish(set, kind, cases.len(), patients))
    }
}

#[derive(Default)]
struct Seen {
    read: usize,
    channels: Vec<Collected>,
    coloured: bool,
    /// Pictures that do not show haematoxylin and eosin.
    not_stained: usize,
    /// For slices along each axis.
    labels: [BTreeMap<u32, Areas>; 3],
    numbers_max: usize,
    shapes: Vec<[usize; 3]>,
    spacings: Vec<[f64; 3]>,
    foreground: usize,
    unlabelled_foreground: usize,
}

impl Seen {
    fn add(&mut self, case: &CaseFiles, kind: ImageKind, subject: Subject, ignore: Option<u32>) -> Result<()> {
        let (channels, labels, spacing) = match subject {
            Subject::Volume { channels, labels } => {
                let spacing = channels[0].spacing_mm();
                let labels = labels.context("no labels")?.voxels;
                (channels.into_iter().map(|channel| channel.voxels).collect::<Vec<_>>(), labels, spacing)
            }
            Subject::Picture { planes, labels } => {
                if planes.len_of(Axis(0)) == 3 && !is_grey(&planes) {
                    self.coloured = true;
                    self.not_stained += usize::from(check_stain(&case.images[0], planes.view()).is_err());
                }
                let channels = planes.outer_iter().map(|plane| plane.to_owned().insert_axis(Axis(0))).collect();
                (channels, labels.context("no labels")?.insert_axis(Axis(0)), [1.0; 3])
            }
        };
        let (slices, rows, columns) = labels.dim();
        self.read += 1;
        self.shapes.push([slices, rows, columns]);
        self.spacings.push(spacing);
        let labels = labels.mapv(|label| if ignore == Some(label) { 0 } else { label });
        self.add_values(&case.images[0], &channels, &labels);
        let numbers: BTreeSet<u32> = labels.iter().copied().filter(|&label| label > 0).collect();
        self.numbers_max = self.numbers_max.max(numbers.len());
        let is_picture = kind == ImageKind::Pictures;
        for (axis, areas) in self.labels.iter_mut().enumerate().take(if is_picture { 1 } else { 3 }) {
            for &label in &numbers {
                areas.entry(label).or_default().cases += 1;
            }
            for plane in labels.axis_iter(Axis(axis)) {
                add_areas(areas, plane);
            }
        }
        Ok(())
    }

    /// Adds evenly spread values of every channel, and of its labelled part.
    fn add_values(&mut self, path: &Path, channels: &[Array3<f32>], labels: &Array3<u32>) {
        self.channels.resize_with(self.channels.len().max(channels.len()), Collected::default);
        let step = labels.len().div_ceil(VALUES_READ);
        let inside: Vec<usize> = labels.iter().enumerate().filter(|(_, label)| **label > 0).map(|(at, _)| at).collect();
        let step_inside = inside.len().div_ceil(VALUES_READ).max(1);
        for (collected, channel) in self.channels.iter_mut().zip(channels) {
            let is_refused = check_intensities(path, Normalisation::ForegroundPercentile, channel.view()).is_err();
            collected.without_background += usize::from(is_refused);
            let values: Vec<f32> = channel.iter().copied().collect();
            collected.all.extend(values.iter().step_by(step));
            collected.inside.extend(inside.iter().step_by(step_inside).map(|&at| values[at]));
        }
        for (value, label) in channels[0].iter().zip(labels).step_by(step) {
            let foreground = *value > 0.0;
            self.foreground += usize::from(foreground);
            self.unlabelled_foreground += usize::from(foreground && *label == 0);
        }
    }

    fn finish(self, set: &DataSet, kind: ImageKind, cases: usize, patients: usize) -> Fingerprint {
        // Without a description, pictures of a single number have classes; otherwise numbers count instances.
        let is_numbered = set.layout == Layout::Monuseg || self.numbers_max > 1;
        let has_instances = kind == ImageKind::Pictures && set.has_instances() && is_numbered;
        let median = |of: &mut Vec<f64>| {
            of.sort_by(f64::total_cmp);
            of[of.len() / 2]
        };
        let shape = [0, 1, 2].map(|axis| median(&mut self.shapes.iter().map(|shape| shape[axis] as f64).collect()) as usize);
        let spacing_mm = [0, 1, 2].map(|axis| median(&mut self.spacings.iter().map(|spacing| spacing[axis]).collect()));
        let axis = slice_axis(shape, spacing_mm);
        let areas = self.labels.into_iter().nth(axis.order()[0]).unwrap_or_default();
        let mut labels: BTreeMap<u32, Label> = areas.into_iter().map(|(label, areas)| (label, areas.label())).collect();
        if has_instances {
            let count = labels.len().max(1) as f64;
            let mean = |of: fn(&Label) -> f64| labels.values().map(of).sum::<f64>() / count;
            labels = BTreeMap::from([(1, Label { cases: self.read, share: mean(|l| l.share), width: mean(|l| l.width) })]);
        }
        let side_min = self.shapes.iter().map(|shape| shape[1].min(shape[2])).min().unwrap_or(0);
        Fingerprint {
            kind,
            cases,
            read: self.read,
            patients,
            channels: (0..).zip(self.channels).map(|(k, values)| values.channel(name_of(set, k))).collect(),
            is_coloured: self.coloured,
            is_stained: self.coloured && self.not_stained == 0,
            has_instances,
            labels,
            shape,
            spacing_mm,
            axis,
            side_min,
            unlabelled_foreground: self.unlabelled_foreground as f64 / self.foreground.max(1) as f64,
        }
    }
}

/// The axis of a single slice, or the one with the coarsest spacing.
pub(super) fn slice_axis(shape: [usize; 3], spacing_mm: [f64; 3]) -> SliceAxis {
    let finest = spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
    let coarsest = (1..3).fold(0, |best, axis| if spacing_mm[axis] > spacing_mm[best] { axis } else { best });
    let along = match (0..3).find(|&axis| shape[axis] == 1) {
        Some(single) => single,
        None if spacing_mm[coarsest] < ANISOTROPY_MIN * finest => 0,
        None => coarsest,
    };
    let axes = [SliceAxis::Axial, SliceAxis::Coronal, SliceAxis::Sagittal];
    axes.into_iter().find(|axis| axis.order()[0] == along).unwrap_or(SliceAxis::Axial)
}

/// Adds the area of every label in a slice, and the length of its boundary.
fn add_areas(labels: &mut BTreeMap<u32, Areas>, plane: ArrayView2<u32>) {
    let mut found = BTreeMap::<u32, (usize, usize)>::new();
    for (at, &label) in plane.indexed_iter().filter(|(_, label)| **label > 0) {
        let (pixels, boundary) = found.entry(label).or_default();
        *pixels += 1;
        *boundary += usize::from(is_on_boundary(plane, at));
    }
    for (label, (pixels, boundary)) in found {
        let areas = labels.entry(label).or_default();
        areas.slices += 1;
        areas.share += pixels as f64 / plane.len() as f64;
        areas.pixels += pixels;
        areas.boundary += boundary;
    }
}

fn name_of(set: &DataSet, channel: usize) -> String {
    set.channels.get(channel).cloned().unwrap_or_else(|| format!("channel {channel}"))
}

/// Whether a neighbour has another label, or the pixel is at the edge.
fn is_on_boundary(plane: ArrayView2<u32>, (row, column): (usize, usize)) -> bool {
    let label = plane[[row, column]];
    let other = |r: usize, c: usize| plane.get([r, c]).is_none_or(|&found| found != label);
    other(row.wrapping_sub(1), column) || other(row + 1, column) || other(row, column.wrapping_sub(1)) || other(row, column + 1)
}

impl Areas {
    fn label(self) -> Label {
        let width = 2.0 * self.pixels as f64 / self.boundary.max(1) as f64;
        Label { cases: self.cases, share: self.share / self.slices.max(1) as f64, width }
    }
}

impl Collected {
    fn channel(mut self, name: String) -> Channel {
        let count = self.all.len().max(1) as f64;
        let share = |is: fn(&f32) -> bool| self.all.iter().filter(|value| is(value)).count() as f64 / count;
        let (zero, has_clean_background) = (share(|v| *v == 0.0), self.without_background == 0);
        Channel { name, zero, has_clean_background, inside: percentiles(&mut self.inside), all: percentiles(&mut self.all) }
    }
}

/// The 0.5th and the 99.5th percentile.
fn percentiles(values: &mut [f32]) -> [f32; 2] {
    if values.is_empty() {
        return [0.0, 0.0];
    }
    values.sort_by(f32::total_cmp);
    let at = |per_mille: usize| values[(values.len() - 1) * per_mille / 1000];
    [at(5), at(995)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_cut_along_the_coarsest_axis_or_that_of_a_single_slice() {
        assert_eq!(slice_axis([155, 240, 240], [1.0, 1.0, 1.0]), SliceAxis::Axial);
        assert_eq!(slice_axis([30, 320, 320], [6.0, 0.7, 0.7]), SliceAxis::Axial);
        assert_eq!(slice_axis([256, 20, 256], [1.0, 5.0, 1.0]), SliceAxis::Coronal);
        assert_eq!(slice_axis([256, 256, 20], [1.0, 1.0, 5.0]), SliceAxis::Sagittal);
        // A file of one slice often has a spacing of 1 along it.
        assert_eq!(slice_axis([1, 200, 200], [1.0, 1.6, 1.6]), SliceAxis::Axial);
        assert_eq!(slice_axis([200, 1, 200], [1.6, 1.0, 1.6]), SliceAxis::Coronal);
    }
}
