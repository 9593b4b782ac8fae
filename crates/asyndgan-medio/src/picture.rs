use std::path::Path;

use image::{DynamicImage, ImageReader, Limits};
use ndarray::{Array2, Array3, ArrayView3};

use crate::Error;

/// Pictures beyond 32,768 pixels a side or 1 GiB decoded are refused before anything is allocated.
fn open(path: &Path) -> Result<DynamicImage, Error> {
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Error::io(path))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(1 << 15);
    limits.max_image_height = Some(1 << 15);
    limits.max_alloc = Some(1 << 30);
    reader.limits(limits);
    reader.decode().map_err(|e| Error::unreadable(path, e))
}

/// Reads a PNG or TIFF picture.
///
/// # Shapes
/// `[3, rows, columns]`, values in 0..=255.
///
/// # Errors
/// [`Error::Io`] or [`Error::Unreadable`].
pub fn read_rgb(path: &Path) -> Result<Array3<f32>, Error> {
    let rgb = open(path)?.into_rgb8();
    let (width, height) = rgb.dimensions();
    Ok(Array3::from_shape_fn((3, height as usize, width as usize), |(k, r, c)| f32::from(rgb.get_pixel(c as u32, r as u32).0[k])))
}

/// Reads instance labels from an 8- or 16-bit greyscale PNG or TIFF.
///
/// # Shapes
/// `[rows, columns]`, 0 is background.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] also for a colour picture.
pub fn read_instances(path: &Path) -> Result<Array2<u32>, Error> {
    let grey = match open(path)? {
        DynamicImage::ImageLuma16(grey) => grey,
        DynamicImage::ImageLuma8(grey) => {
            image::ImageBuffer::from_fn(grey.width(), grey.height(), |c, r| image::Luma([u16::from(grey.get_pixel(c, r).0[0])]))
        }
        other => return Err(Error::unreadable(path, format!("its pixels are {:?}, instance labels are one grey channel", other.color()))),
    };
    let (width, height) = grey.dimensions();
    Ok(Array2::from_shape_fn((height as usize, width as usize), |(r, c)| u32::from(grey.get_pixel(c as u32, r as u32).0[0])))
}

/// Writes a PNG picture, whole or not at all.
///
/// # Shapes
/// `[3, rows, columns]`, values in 0..=255.
///
/// # Errors
/// [`Error::Io`] or [`Error::Unreadable`].
pub fn write_rgb(path: &Path, rgb: ArrayView3<u8>) -> Result<(), Error> {
    let (_, height, width) = rgb.dim();
    let picture =
        image::RgbImage::from_fn(width as u32, height as u32, |c, r| image::Rgb([0, 1, 2].map(|k| rgb[[k, r as usize, c as usize]])));
    let beside = path.with_extension("partial");
    picture.save_with_format(&beside, image::ImageFormat::Png).map_err(|e| Error::unreadable(path, e))?;
    std::fs::rename(&beside, path).map_err(Error::io(path))
}
