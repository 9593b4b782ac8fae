//! Scales intensities to [-1, 1], and rejects those that a scaling would misinterpret.

use std::path::Path;

use asyndgan_task::Normalisation;
use ndarray::{Array3, ArrayView3, Axis};

use crate::Error;

/// Scales one channel to [-1, 1].
///
/// # Shapes
/// `[slices, rows, columns]` to the same.
pub fn normalise(normalisation: Normalisation, channel: ArrayView3<f32>) -> Array3<f32> {
    match normalisation {
        Normalisation::ForegroundPercentile => foreground_percentile(channel),
        Normalisation::ZScore => z_score(channel),
        Normalisation::Window { low, high } => channel.mapv(|v| (2.0 * (v - low) / (high - low) - 1.0).clamp(-1.0, 1.0)),
        // Stains are matched before, on all three channels together.
        _ => channel.mapv(|v| v / 127.5 - 1.0),
    }
}

/// Scales a volume to [-1, 1]: background (0 and below) becomes -1, and the 99.5th percentile of the positive voxels
/// becomes 1. Brighter voxels are clipped.
///
/// The whole volume has one scale, so that the same tissue looks the same in all slices.
fn foreground_percentile(channel: ArrayView3<f32>) -> Array3<f32> {
    let mut inside: Vec<f32> = channel.iter().copied().filter(|v| *v > 0.0).collect();
    let at = inside.len().saturating_sub(1) * 995 / 1000;
    let high = if inside.is_empty() { 1.0 } else { *inside.select_nth_unstable_by(at, f32::total_cmp).1 };
    channel.mapv(|v| (2.0 * v / high - 1.0).clamp(-1.0, 1.0))
}

/// Standard deviations that become 1.
const DEVIATIONS: f64 = 3.0;

fn z_score(channel: ArrayView3<f32>) -> Array3<f32> {
    let n = channel.len().max(1) as f64;
    let mean = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = channel.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (DEVIATIONS * variance.sqrt().max(1e-12));
    channel.mapv(|v| ((f64::from(v) - mean) * scale).clamp(-1.0, 1.0) as f32)
}

/// Whether a voxel is part of the foreground, by the normalisation of its channel.
pub(crate) fn is_foreground(normalisation: Normalisation, value: f32) -> bool {
    match normalisation {
        Normalisation::Window { low, .. } => value > low,
        _ => value > 0.0,
    }
}

/// Rejects intensities that a normalisation would misinterpret.
///
/// # Errors
/// [`Error::Unsupported`] with the fact and how to fix it.
pub fn check_intensities(path: &Path, normalisation: Normalisation, channel: ArrayView3<f32>) -> Result<(), Error> {
    match normalisation {
        Normalisation::ForegroundPercentile => check_background(path, channel),
        Normalisation::Window { low, high } => {
            let (least, most) = channel.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
            if least < high && most > low {
                return Ok(());
            }
            let fact = format!("its values are {least} to {most}, outside of the task's window from {low} to {high}; correct the window");
            Err(Error::unsupported(path, fact))
        }
        _ => Ok(()),
    }
}

/// More negative voxels than this part of those that are not 0 are no rounding or ringing.
const NEGATIVE_MAX: f64 = 0.01;

/// Foreground scaling treats 0 and below as background, which is wrong for computed tomography and for volumes with
/// zero mean.
fn check_background(path: &Path, channel: ArrayView3<f32>) -> Result<(), Error> {
    let negative = channel.iter().filter(|v| **v < 0.0).count();
    let all = channel.iter().filter(|v| **v != 0.0).count();
    if negative as f64 <= NEGATIVE_MAX * all as f64 {
        return Ok(());
    }
    let lowest = channel.iter().copied().fold(f32::INFINITY, f32::min);
    let fact = format!(
        "{negative} of its {all} nonzero voxels are negative, down to {lowest}, as in computed tomography or after scaling to zero mean; \
         foreground_percentile treats 0 and below as background. Use window or z_score normalisation in the task, or shift and clip the \
         volume so that background is 0, for example with nibabel: numpy.clip(data - low, 0, high - low)"
    );
    Err(Error::unsupported(path, fact))
}

/// A picture whose middle brightness is below this, of 255, has a dark background.
const DARK: f32 = 60.0;
/// Stained tissue lets less than this part of the light through.
const TISSUE: f32 = 0.85;
/// Colours whose largest and smallest part are closer than this, of 255, count as grey, and a picture with fewer
/// coloured pixels is grey.
const GREY: f32 = 12.0;
const COLOURED_MIN: f64 = 0.03;
/// Haematoxylin and eosin both absorb green most. How much more of blue and of red the tissue may absorb on average, as
/// optical density.
const BROWN_MAX: f64 = 0.1;
const COLD_MAX: f64 = 0.3;

/// Rejects pictures that are not stained with haematoxylin and eosin, because stain normalisation matches their colours
/// to this stain: greyscale pictures, pictures with a dark background (fluorescence), and pictures whose tissue absorbs
/// blue or red more than green (such as diaminobenzidine, or a photograph of the retina).
///
/// # Shapes
/// `[3, rows, columns]`, values in 0..=255.
///
/// # Errors
/// [`Error::Unsupported`] with the reason.
pub fn check_stain(path: &Path, rgb: ArrayView3<f32>) -> Result<(), Error> {
    let refused = |what: &str| {
        let fact = format!("{what}; stain normalisation needs haematoxylin and eosin: use rgb normalisation in the task, or remove it");
        Err(Error::unsupported(path, fact))
    };
    let pixels: Vec<[f32; 3]> = rgb.lanes(Axis(0)).into_iter().map(|p| [p[0], p[1], p[2]]).collect();
    let brightness = |[r, g, b]: [f32; 3]| (r + g + b) / 3.0;
    let mut bright: Vec<f32> = pixels.iter().copied().map(brightness).collect();
    let (low, high) = bright.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    // A uniform picture has no stain to check.
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

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact values are expected")]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::phantom;

    #[test]
    fn intensities_that_scaling_would_read_wrongly_are_refused() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let brain = phantom::brain("phantom", 0, &phantom::Scanner::of_site(3), &mut rng).images.index_axis_move(Axis(0), 0);
        let check = |volume: Array3<f32>| check_intensities(Path::new("v"), Normalisation::ForegroundPercentile, volume.view());
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
        let tile = phantom::tile("phantom", 96, &phantom::Stain::of_site(0), &mut rng).images.index_axis_move(Axis(1), 0);
        for site in 0..4 {
            check(phantom::tile("phantom", 96, &phantom::Stain::of_site(site), &mut rng).images.index_axis_move(Axis(1), 0))
                .expect("haematoxylin and eosin");
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
    fn each_normalisation_maps_to_its_range() {
        let volume = Array3::from_shape_fn((1, 1, 1001), |(_, _, x)| x as f32);
        let of = |normalisation| normalise(normalisation, volume.view());
        let window = of(Normalisation::Window { low: 100.0, high: 300.0 });
        assert_eq!([window[[0, 0, 0]], window[[0, 0, 200]], window[[0, 0, 900]]], [-1.0, 0.0, 1.0]);
        let positive = of(Normalisation::ForegroundPercentile);
        assert!(positive[[0, 0, 0]] == -1.0 && positive[[0, 0, 1000]] == 1.0 && (positive[[0, 0, 497]] - -0.001).abs() < 0.01);
        let z = of(Normalisation::ZScore);
        assert!(z[[0, 0, 500]].abs() < 1e-6 && (z[[0, 0, 1000]] - 0.577).abs() < 1e-2, "{}", z[[0, 0, 1000]]);
        assert!(of(Normalisation::Rgb)[[0, 0, 255]] == 1.0);
        let outside = Normalisation::Window { low: -50.0, high: -10.0 };
        assert!(check_intensities(Path::new("v"), outside, volume.view()).is_err_and(|e| e.to_string().contains("0 to 1000")));
    }
}
