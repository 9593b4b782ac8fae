//! The sizes at which networks see the images of a data set.

use asyndgan_paper::Profile;
use asyndgan_task::ImageKind;

use super::fingerprint::Fingerprint;

/// Parts that are this wide, in pixels, are still seen after downsampling.
const WIDTH_MIN: f64 = 4.0;
/// Pixels that a class should cover in a prepared slice.
const CLASS_PIXELS_MIN: f64 = 12.0;

/// Sizes, with the reasons for them.
pub(super) struct Scale {
    pub(super) size: usize,
    pub(super) crop: usize,
    pub(super) downsampling: usize,
    pub(super) size_reason: String,
    pub(super) downsampling_reason: String,
}

/// The sizes that suit a data set with a profile.
pub(super) fn scale(found: &Fingerprint, profile: Profile) -> Scale {
    let (size, crop) = if profile == Profile::Paper { (286, 256) } else { (72, 64) };
    match found.kind {
        ImageKind::Volumes => {
            // The class that covers the smallest share of the slices in which it occurs.
            let share = found.labels.values().map(|label| label.share).fold(1.0, f64::min);
            let pixels = |size: usize| share * (size * size) as f64;
            let is_small = profile != Profile::Paper && pixels(size) < CLASS_PIXELS_MIN;
            let (size, crop) = if is_small { (144, 128) } else { (size, crop) };
            let slower = if is_small { "; at 72, a quarter of them would be left, in a quarter of the time" } else { "" };
            let size_reason =
                format!("a slice is resized to this; the smallest class covers about {:.0} pixels of it{slower}", pixels(size));
            Scale { size, crop, downsampling: 1, size_reason, downsampling_reason: String::new() }
        }
        ImageKind::Pictures => {
            let (size, crop) = if profile == Profile::Paper { (286, 256) } else { (143, 64) };
            let width = found.labels.values().map(|label| label.width).fold(f64::INFINITY, f64::min);
            let width = if width.is_finite() { width } else { WIDTH_MIN };
            // At least a crop must be left of the smallest picture.
            let most = (found.side_min / crop).max(1);
            let downsampling = ((width / WIDTH_MIN).floor() as usize).clamp(1, most);
            let size = size.min(found.side_min / downsampling);
            let crop = crop.min(size / 16 * 16).max(16);
            Scale {
                size: size.max(crop),
                crop,
                downsampling,
                size_reason: format!("a patch; the shorter side of the smallest of the {} pictures read is {}", found.read, found.side_min),
                downsampling_reason: format!("pictures are downsampled by this first; the finest class is {width:.0} pixels wide"),
            }
        }
    }
}
