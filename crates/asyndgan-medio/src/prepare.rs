//! From patients and tiles to the shapes that networks take.

use ndarray::{Array2, Array3, Array4, ArrayView3, Axis, Slice};

use crate::{Brain, Case, StainReference, TestCase, Tile, Windows, bilinear, mask, nearest, reinhard, window};

/// Condition code of the brain's outline; 1, 2 and 3 are tumour labels.
pub const BRAIN_OUTLINE: u8 = 4;
/// Number of condition codes of a brain, and so of condition planes.
pub const BRAIN_CODES: u8 = 4;
/// Condition codes of tissue: nuclei are 1.
pub const TISSUE_CODES: u8 = 1;
/// A slice with fewer tumour pixels on the original grid is left out.
pub const TUMOUR_PIXELS_MIN: usize = 10;

/// Slices of one brain that show enough tumour, resized to `size` by `size`.
///
/// Intensities are scaled per volume: background is -1, the 99.5th percentile of the brain 1. The condition is the tumour labels
/// and the brain's outline.
///
/// # Reference
/// Section 4.1; the public code scales every slice by itself, which makes the same tissue differ between slices.
pub fn brain_cases(brain: &Brain, size: usize) -> Vec<Case> {
    let (scaled, chosen) = brain_slices(brain);
    let case = |z: usize| {
        let image = bilinear(slice_of(&scaled, z), size, size);
        let labels = nearest(brain.labels.index_axis(Axis(0), z), size, size);
        let condition = condition(labels, brain.t2.index_axis(Axis(0), z).mapv(|v| v > 0.0), size);
        Case { id: format!("{}#{z}", brain.id), image, condition }
    };
    // A tumour of ten pixels may vanish when the slice shrinks: such a slice has no condition to learn from.
    chosen.into_iter().map(case).filter(|c| c.condition.iter().any(|&code| code > 0 && code != BRAIN_OUTLINE)).collect()
}

/// Tumour labels at `size`, with the outline of what is inside the brain on the original grid: a line would not survive the resizing.
fn condition(labels: Array2<u8>, inside: Array2<bool>, size: usize) -> Array2<u8> {
    let outline = mask::contour(mask::filled(nearest(inside.view(), size, size).view()).view());
    Array2::from_shape_fn((size, size), |at| match labels[at] {
        0 | BRAIN_OUTLINE.. => BRAIN_OUTLINE * u8::from(outline[at]),
        label => label,
    })
}

/// Codes of a brain's slices for which images can be made: tumour labels as they stand in a mask, and the outline of all that is marked,
/// the brain's contour included; slices without tumour are left out.
///
/// # Shapes
/// `[slices, rows, columns]` of codes to `[size, size]` each, with the slice's number.
pub fn brain_conditions(codes: ArrayView3<u32>, size: usize) -> Vec<(usize, Array2<u8>)> {
    let slice = |(z, plane): (usize, ndarray::ArrayView2<u32>)| {
        let inside = mask::filled(plane.mapv(|code| code > 0).view());
        (z, condition(nearest(plane, size, size).mapv(|code| code.min(255) as u8), inside, size))
    };
    let shows_tumour = |(_, codes): &(usize, Array2<u8>)| codes.iter().any(|&code| code > 0 && code != BRAIN_OUTLINE);
    codes.outer_iter().enumerate().map(slice).filter(shows_tumour).collect()
}

/// The nuclei of a picture for which images can be made, shrunk by `shrink` and cut apart where they touch.
///
/// # Shapes
/// `[rows, columns]` of instances to `[rows / shrink, columns / shrink]` of codes.
///
/// # Panics
/// If `shrink` is 0.
pub fn tile_condition(instances: ndarray::ArrayView2<u32>, shrink: usize) -> Array2<u8> {
    let (rows, columns) = instances.dim();
    mask::cut_apart(nearest(instances, rows / shrink, columns / shrink).view()).mapv(u8::from)
}

/// All slices of a brain at `size`, for a segmenter that is to find what nobody has marked; the truth is empty.
///
/// Slices are scaled as in [`brain_cases`].
///
/// # Shapes
/// `[slices, rows, columns]` to images `[slices, 1, size, size]`.
///
/// # Units
/// Millimetres along slices, rows and columns.
pub fn brain_unmarked(id: &str, t2: &Array3<f32>, spacing_mm: [f64; 3], size: usize) -> TestCase {
    let scaled = scale_robustly(t2);
    let mut images = Array4::zeros((t2.len_of(Axis(0)), 1, size, size));
    for z in 0..t2.len_of(Axis(0)) {
        images.index_axis_mut(Axis(0), z).assign(&bilinear(slice_of(&scaled, z), size, size));
    }
    TestCase { id: id.into(), images, truth: Array3::zeros(t2.dim()), spacing_mm }
}

/// The slices from the first to the last that show enough tumour, as a held-out case: images at `size`, truth on the original grid.
pub fn brain_test_case(brain: &Brain, size: usize) -> TestCase {
    let (scaled, chosen) = brain_slices(brain);
    // Slices between the first and the last chosen stay in, so that neighbours in the array are neighbours in the body.
    let chosen: Vec<usize> = chosen.first().zip(chosen.last()).map_or_else(Vec::new, |(&first, &last)| (first..=last).collect());
    let (_, rows, columns) = brain.t2.dim();
    let mut images = Array4::zeros((chosen.len(), 1, size, size));
    let mut truth = Array3::zeros((chosen.len(), rows, columns));
    for (i, &z) in chosen.iter().enumerate() {
        images.index_axis_mut(Axis(0), i).assign(&bilinear(slice_of(&scaled, z), size, size));
        truth.index_axis_mut(Axis(0), i).assign(&brain.labels.index_axis(Axis(0), z).mapv(u32::from));
    }
    TestCase { id: brain.id.clone(), images, truth, spacing_mm: brain.spacing_mm }
}

/// The volume in [-1, 1], and the slices with enough tumour.
fn brain_slices(brain: &Brain) -> (Array3<f32>, Vec<usize>) {
    let scaled = scale_robustly(&brain.t2);
    let tumour = |z: &usize| brain.labels.index_axis(Axis(0), *z).iter().filter(|&&l| l > 0).count();
    let chosen = (0..brain.t2.len_of(Axis(0))).filter(|z| tumour(z) >= TUMOUR_PIXELS_MIN).collect();
    (scaled, chosen)
}

/// A volume in [-1, 1]: background (0 and below) is -1, the 99.5th percentile of what is above 0 becomes 1; brighter is clipped.
///
/// One scale for the whole volume, so that the same tissue looks the same in all slices.
pub fn scale_robustly(volume: &Array3<f32>) -> Array3<f32> {
    let mut inside: Vec<f32> = volume.iter().copied().filter(|v| *v > 0.0).collect();
    let at = inside.len().saturating_sub(1) * 995 / 1000;
    let high = if inside.is_empty() { 1.0 } else { *inside.select_nth_unstable_by(at, f32::total_cmp).1 };
    volume.mapv(|v| (2.0 * v / high - 1.0).clamp(-1.0, 1.0))
}

/// Patches of one tile: a grid of as many `size` by `size` windows as cover it, evenly spaced.
///
/// The tile is stain-normalised and shrunk by `shrink` first; the condition is the nuclei, cut apart where they touch.
///
/// # Reference
/// Section 4.1: 16 patches of 286 from a tile of 1000 at full resolution (`shrink` 1).
pub fn tile_cases(tile: &Tile, size: usize, shrink: usize) -> Vec<Case> {
    let image = tile_image(tile, shrink);
    let (_, rows, columns) = image.dim();
    let nuclei = mask::cut_apart(nearest(tile.instances.view(), rows, columns).view());
    let case = |&(top, left): &(usize, usize)| Case {
        id: format!("{}#{top},{left}", tile.id),
        image: window(image.view(), top, left, size).to_owned(),
        condition: window(nuclei.view(), top, left, size).mapv(u8::from),
    };
    Windows::covering(rows, columns, size).starts().iter().map(case).collect()
}

/// The tile as a held-out case: the image normalised and shrunk, instances on the original grid.
///
/// # Units
/// The spacing is 1: tiles are scored in pixels.
pub fn tile_test_case(tile: &Tile, shrink: usize) -> TestCase {
    let images = tile_image(tile, shrink).insert_axis(Axis(0));
    TestCase { id: tile.id.clone(), images, truth: tile.instances.clone().insert_axis(Axis(0)), spacing_mm: [1.0; 3] }
}

fn tile_image(tile: &Tile, shrink: usize) -> Array3<f32> {
    let (_, rows, columns) = tile.rgb.dim();
    let normal = reinhard(tile.rgb.view(), &StainReference::HAEMATOXYLIN_EOSIN);
    to_unit(bilinear(normal.view(), rows / shrink, columns / shrink).view())
}

fn to_unit(rgb: ArrayView3<f32>) -> Array3<f32> {
    rgb.mapv(|v| v / 127.5 - 1.0)
}

fn slice_of(volume: &Array3<f32>, z: usize) -> ArrayView3<'_, f32> {
    volume.slice_axis(Axis(0), Slice::from(z..z + 1))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::phantom;

    #[test]
    fn a_mask_with_the_brains_contour_gives_the_condition_that_its_image_gives() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let brain = phantom::brain("phantom", 0, &phantom::Scanner::of_site(3), &mut rng);
        let mut codes = brain.labels.mapv(u32::from);
        for (z, mut plane) in codes.axis_iter_mut(Axis(0)).enumerate() {
            let inside = mask::filled(brain.t2.index_axis(Axis(0), z).mapv(|v| v > 0.0).view());
            let contour = mask::contour(inside.view());
            plane.zip_mut_with(&contour, |code, &on| {
                if on && *code == 0 {
                    *code = BRAIN_OUTLINE.into();
                }
            });
        }
        // A third of the grid, where a line of one pixel would be torn.
        for size in [96, 72, 32] {
            let expected: Vec<Array2<u8>> = brain_cases(&brain, size).into_iter().map(|case| case.condition).collect();
            let of_mask = brain_conditions(codes.view(), size);
            let enough = |z: usize| brain.labels.index_axis(Axis(0), z).iter().filter(|&&l| l > 0).count() >= TUMOUR_PIXELS_MIN;
            let found: Vec<Array2<u8>> = of_mask.into_iter().filter(|(z, _)| enough(*z)).map(|(_, condition)| condition).collect();
            assert!(!found.is_empty() && found == expected, "at {size}");
        }
    }

    #[test]
    fn an_unmarked_brain_has_all_its_slices_as_training_saw_them() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let brain = phantom::brain("phantom", 0, &phantom::Scanner::of_site(3), &mut rng);
        let case = brain_unmarked("phantom", &brain.t2, brain.spacing_mm, 72);
        assert_eq!((case.images.dim(), case.truth.dim()), ((brain.t2.dim().0, 1, 72, 72), brain.t2.dim()));
        for one in brain_cases(&brain, 72) {
            let z: usize = one.id.rsplit('#').next().and_then(|z| z.parse().ok()).expect("a slice's number");
            assert_eq!(case.images.index_axis(Axis(0), z), one.image);
        }
    }
}
