//! Prepares patients and tiles as inputs for the networks.

use std::path::Path;

use ndarray::{Array2, Array3, Array4, ArrayView3, Axis, Slice};

use crate::{Brain, Case, Error, StainReference, TestCase, Tile, Windows, bilinear, mask, nearest, reinhard, window};

/// Condition code of the brain's outline; 1, 2 and 3 are tumour labels.
pub const BRAIN_OUTLINE: u8 = 4;
/// Number of condition codes of a brain, which is also the number of condition planes.
pub const BRAIN_CODES: u8 = 4;
/// Condition codes of tissue: nuclei are 1.
pub const TISSUE_CODES: u8 = 1;
/// Label of a voxel without annotation. Slices that contain such a voxel are skipped.
pub const IGNORED: u8 = 255;
/// Slices with fewer tumour pixels on the original grid are skipped.
pub const TUMOUR_PIXELS_MIN: usize = 10;

/// The fully annotated slices of one brain that show enough tumour, resized to `size` by `size`.
///
/// Intensities are scaled per volume: background is -1, and the 99.5th percentile of the brain is 1. The condition
/// consists of the tumour labels and the brain's outline.
///
/// # Reference
/// Section 4.1. The public code scales every slice separately, so that the same tissue differs between slices.
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

/// The conditions of a brain mask's slices, for synthesis: the tumour labels of the mask, and the outline of everything
/// that is marked, including the brain's contour. Slices without tumour are skipped.
///
/// # Shapes
/// Codes `[slices, rows, columns]` to one `[size, size]` per slice, with the slice's number.
pub fn brain_conditions(codes: ArrayView3<u32>, size: usize) -> Vec<(usize, Array2<u8>)> {
    let slice = |(z, plane): (usize, ndarray::ArrayView2<u32>)| {
        let inside = mask::filled(plane.mapv(|code| code > 0).view());
        (z, condition(nearest(plane, size, size).mapv(|code| code.min(255) as u8), inside, size))
    };
    let shows_tumour = |(_, codes): &(usize, Array2<u8>)| codes.iter().any(|&code| code > 0 && code != BRAIN_OUTLINE);
    codes.outer_iter().enumerate().map(slice).filter(shows_tumour).collect()
}

/// The condition of a tile mask, for synthesis: its nuclei, downscaled by `shrink` and separated where they touch.
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

/// All slices of a brain at `size`, as input for a segmenter; the ground truth is empty.
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

/// The slices from the first to the last with enough tumour, as a held-out case: images at `size`, ground truth on the
/// original grid.
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
    let shows_enough = |z: &usize| {
        let plane = brain.labels.index_axis(Axis(0), *z);
        plane.iter().all(|&l| l != IGNORED) && plane.iter().filter(|&&l| l > 0).count() >= TUMOUR_PIXELS_MIN
    };
    let chosen = (0..brain.t2.len_of(Axis(0))).filter(shows_enough).collect();
    (scaled, chosen)
}

/// Scales a volume to [-1, 1]: background (0 and below) becomes -1, and the 99.5th percentile of the positive voxels
/// becomes 1. Brighter voxels are clipped.
///
/// The whole volume has one scale, so that the same tissue looks the same in all slices.
pub fn scale_robustly(volume: &Array3<f32>) -> Array3<f32> {
    let mut inside: Vec<f32> = volume.iter().copied().filter(|v| *v > 0.0).collect();
    let at = inside.len().saturating_sub(1) * 995 / 1000;
    let high = if inside.is_empty() { 1.0 } else { *inside.select_nth_unstable_by(at, f32::total_cmp).1 };
    volume.mapv(|v| (2.0 * v / high - 1.0).clamp(-1.0, 1.0))
}

/// More negative voxels than this part of those that are not 0 are no rounding or ringing.
const NEGATIVE_MAX: f64 = 0.01;

/// Rejects intensities that [`scale_robustly`] would misinterpret. It treats 0 and below as background, which is wrong
/// for computed tomography and for volumes with zero mean.
///
/// # Errors
/// [`Error::Unsupported`] with the number of negative voxels and how to fix it.
pub fn check_intensities(path: &Path, voxels: ArrayView3<f32>) -> Result<(), Error> {
    let negative = voxels.iter().filter(|v| **v < 0.0).count();
    let all = voxels.iter().filter(|v| **v != 0.0).count();
    if negative as f64 <= NEGATIVE_MAX * all as f64 {
        return Ok(());
    }
    let lowest = voxels.iter().copied().fold(f32::INFINITY, f32::min);
    let fact = format!(
        "{negative} of its {all} nonzero voxels are negative, down to {lowest}, as in computed tomography or after scaling to zero mean; \
         preparation treats 0 and below as background. Shift and clip it so that background is 0 and everything else is above 0, for \
         example with nibabel: numpy.clip(data - low, 0, high - low)"
    );
    Err(Error::unsupported(path, fact))
}

/// A picture whose middle brightness is below this, of 255, has a dark background.
const DARK: f32 = 60.0;
/// Stained tissue lets less than this part of the light through.
const TISSUE: f32 = 0.85;
/// Colours whose largest and smallest part are closer than this, of 255, count as grey, and a picture with fewer coloured pixels is grey.
const GREY: f32 = 12.0;
const COLOURED_MIN: f64 = 0.03;
/// Haematoxylin and eosin both absorb green most. How much more of blue and of red the tissue may absorb on average, as optical density.
const BROWN_MAX: f64 = 0.1;
const COLD_MAX: f64 = 0.3;

/// Rejects pictures that are not stained with haematoxylin and eosin, because preparation normalises pictures to this
/// stain: greyscale pictures, pictures with a dark background (fluorescence), and pictures whose tissue absorbs blue or
/// red more than green (such as diaminobenzidine, or a photograph of the retina).
///
/// # Shapes
/// `[3, rows, columns]`, values in 0..=255.
///
/// # Errors
/// [`Error::Unsupported`] with the reason.
pub fn check_stain(path: &Path, rgb: ArrayView3<f32>) -> Result<(), Error> {
    let refused = |what: &str| {
        let fact = format!("{what}; preparation only supports pictures stained with haematoxylin and eosin, so remove it");
        Err(Error::unsupported(path, fact))
    };
    let pixels: Vec<[f32; 3]> = rgb.lanes(Axis(0)).into_iter().map(|p| [p[0], p[1], p[2]]).collect();
    let brightness = |[r, g, b]: [f32; 3]| (r + g + b) / 3.0;
    let mut bright: Vec<f32> = pixels.iter().copied().map(brightness).collect();
    let (low, high) = bright.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    // A picture of one tone shows nothing that could be told apart.
    if pixels.is_empty() || high - low <= 8.0 {
        return Ok(());
    }
    let is_coloured = |[r, g, b]: &&[f32; 3]| r.max(*g).max(*b) - r.min(*g).min(*b) > GREY;
    if (pixels.iter().filter(is_coloured).count() as f64) < COLOURED_MIN * pixels.len() as f64 {
        return refused("it is grey");
    }
    let middle = bright.len() / 2;
    if *bright.select_nth_unstable_by(middle, f32::total_cmp).1 < DARK {
        return refused("its background is dark");
    }
    let tissue: Vec<[f32; 3]> = pixels.into_iter().filter(|p| brightness(*p) < TISSUE * 255.0).collect();
    let density = |v: f32| -f64::from(((v + 1.0) / 256.0).ln());
    let beyond_green = |k: usize| tissue.iter().map(|p| density(p[k]) - density(p[1])).sum::<f64>() / tissue.len().max(1) as f64;
    if beyond_green(2) > BROWN_MAX {
        return refused("its tissue absorbs blue more than green: it is brown or red");
    }
    if beyond_green(0) > COLD_MAX {
        return refused("its tissue absorbs red more than green: it is blue or green");
    }
    Ok(())
}

/// Patches of one tile: evenly spaced `size` by `size` windows, as few as cover the tile.
///
/// The tile is first stain-normalised and downscaled by `shrink`. The condition consists of the nuclei, separated where
/// they touch.
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

/// The tile as a held-out case: the image normalised and downscaled, instances on the original grid.
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
    fn slices_that_nobody_has_judged_everywhere_are_left_out() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let mut brain = phantom::brain("phantom", 0, &phantom::Scanner::of_site(3), &mut rng);
        let before: Vec<String> = brain_cases(&brain, 72).into_iter().map(|case| case.id).collect();
        let z: usize = before[1].rsplit('#').next().and_then(|z| z.parse().ok()).expect("a slice's number");
        brain.labels[[z, 0, 0]] = IGNORED;
        let after: Vec<String> = brain_cases(&brain, 72).into_iter().map(|case| case.id).collect();
        assert_eq!(after, [&before[..1], &before[2..]].concat());
    }

    #[test]
    fn intensities_that_scaling_would_read_wrongly_are_refused() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let brain = phantom::brain("phantom", 0, &phantom::Scanner::of_site(3), &mut rng).t2;
        let check = |volume: Array3<f32>| check_intensities(Path::new("v"), volume.view());
        check(brain.clone()).expect("a scan");
        check(brain.mapv(|v| if v == 0.0 { v } else { v - 1e-3 })).expect("positive");
        let mut rung = brain.clone();
        rung.iter_mut().step_by(400).for_each(|v| *v = -1.0);
        check(rung).expect("some ringing");
        assert!(check(brain.mapv(|v| 20.0 * v - 1000.0)).expect_err("as CT").to_string().contains("down to -1000"));
        let mean = brain.mean().expect("voxels");
        check(brain.mapv(|v| v - mean)).expect_err("of mean 0");
    }

    #[test]
    fn pictures_of_other_stains_are_refused() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let check = |rgb: Array3<f32>| check_stain(Path::new("p"), rgb.view()).map_err(|e| e.to_string());
        let tile = phantom::tile("phantom", 96, &phantom::Stain::of_site(0), &mut rng).rgb;
        for site in 0..4 {
            check(phantom::tile("phantom", 96, &phantom::Stain::of_site(site), &mut rng).rgb).expect("haematoxylin and eosin");
        }
        let grey = Array3::from_shape_fn(tile.dim(), |(_, r, c)| tile[[1, r, c]]);
        let mut with_bar = grey.clone();
        with_bar.indexed_iter_mut().for_each(|((k, r, c), v)| {
            if r < 4 && c < 40 {
                *v = [255.0, 0.0, 0.0][k];
            }
        });
        let tinted = Array3::from_shape_fn(tile.dim(), |(k, r, c)| grey[[k, r, c]] + [0.0, 8.0, 0.0][k]);
        for picture in [grey.clone(), with_bar, tinted] {
            assert!(check(picture).expect_err("grey").contains("it is grey"));
        }
        let glow = |background: [f32; 3]| {
            Array3::from_shape_fn(tile.dim(), |(k, r, c)| background[k] + if k == 2 { 0.2 * (255.0 - grey[[0, r, c]]) } else { 0.0 })
        };
        assert!(check(glow([3.0, 3.0, 3.0])).expect_err("fluorescence").contains("background is dark"));
        assert!(check(glow([0.0, 20.0, 190.0])).expect_err("fluorescence").contains("blue or green"));
        let brown = Array3::from_shape_fn(tile.dim(), |(k, r, c)| tile[[[0, 2, 1][k], r, c]] * [1.0, 1.0, 0.7][k]);
        assert!(check(brown).expect_err("diaminobenzidine").contains("brown or red"));
        check(Array3::from_elem((3, 8, 8), 200.0)).expect("one tone");
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
