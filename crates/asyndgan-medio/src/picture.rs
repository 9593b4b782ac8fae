//! Pictures and label images in PNG and TIFF.

mod png_file;
mod stack;
mod tiff_file;

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use asyndgan_files::Access;
use image::{
    ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageReader, Limits, metadata::Orientation,
};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};
use tiff::encoder::{TiffEncoder, colortype::Gray32};
use tiff_file::{Tiff, is_tiff};

use crate::{Error, Volume, files};

/// The longest side of a picture.
const SIDE_MAX: u32 = 1 << 15;
/// The most pixels of a picture: in 32-bit floats, three a pixel, they take 1.5 GiB.
const PIXELS_MAX: u64 = 1 << 27;
/// No picture's file is smaller than its pixels by more than this (deflate 1032, LZW 1365).
const RATIO_MAX: u64 = 1400;

/// Reads a PNG, TIFF or BigTIFF picture (strips or tiles; LZW, deflate, `PackBits` or JPEG; greyscale, RGB, CMYK or
/// YCbCr). The orientation tag is applied, and transparency is discarded.
///
/// # Shapes
/// `[3, rows, columns]`, values in 0..=255.
///
/// # Errors
/// [`Error::Io`], [`Error::Unreadable`], or [`Error::Unsupported`] for floating-point pixels, for a TIFF with several
/// pages, and for a picture with more than 32,768 pixels per side or 2^27 in total.
pub fn read_rgb(path: &Path) -> Result<Array3<f32>, Error> {
    parse_rgb(path, &files::read(path)?)
}

/// Reads a picture from the bytes of a file; `path` is only used in error messages.
///
/// # Errors
/// As [`read_rgb`].
pub fn parse_rgb(path: &Path, bytes: &[u8]) -> Result<Array3<f32>, Error> {
    if is_tiff(bytes) {
        return Tiff::open(path, bytes)?.rgb();
    }
    let decoded = decode(path, bytes)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let of = |value: &dyn Fn(usize) -> f32| Array3::from_shape_fn((3, height, width), |(k, r, c)| value(3 * (r * width + c) + k));
    if matches!(decoded.color(), ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16) {
        let raw = decoded.into_rgb16().into_raw();
        if is_of_8_bits(&raw) {
            return Err(Error::unsupported(path, OF_8_BITS));
        }
        return Ok(of(&|at| f32::from(raw[at]) / 257.0));
    }
    let raw = decoded.into_rgb8().into_raw();
    Ok(of(&|at| raw[at].into()))
}

/// Reads grey pictures of one size, each of which is a channel.
///
/// # Shapes
/// `[channels, rows, columns]`, values in 0..=255.
///
/// # Panics
/// If there is no path.
///
/// # Errors
/// As [`read_rgb`], [`Error::Unsupported`] for a coloured picture, and [`Error::Shape`] for pictures of different size.
pub fn read_grey_planes(paths: &[impl AsRef<Path>]) -> Result<Array3<f32>, Error> {
    let mut planes: Vec<Array2<f32>> = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let rgb = read_rgb(path)?;
        if !is_grey(&rgb) {
            return Err(Error::unsupported(
                path,
                "it is coloured, but it is one of several channels; write each channel as a grey picture",
            ));
        }
        let plane = rgb.index_axis_move(Axis(0), 0);
        if let Some(first) = planes.first().filter(|first| first.dim() != plane.dim()) {
            return Err(Error::Shape { path: path.to_path_buf(), expected: first.shape().into(), found: plane.shape().into() });
        }
        planes.push(plane);
    }
    Ok(ndarray::stack(Axis(0), &planes.iter().map(|array| array.view()).collect::<Vec<_>>()).expect("planes of one shape"))
}

/// Whether red, green and blue are equal in every pixel.
///
/// # Shapes
/// `[3, rows, columns]`.
#[allow(clippy::float_cmp, reason = "a grey picture has the same value three times")]
pub fn is_grey(rgb: &Array3<f32>) -> bool {
    rgb.lanes(Axis(0)).into_iter().all(|pixel| pixel[0] == pixel[1] && pixel[0] == pixel[2])
}

/// Reads instance labels or class labels as stored: a PNG with one grey channel of 1 to 16 bits or with palette
/// indices, or a TIFF with one grey channel of integers or floats of up to 64 bits.
///
/// # Shapes
/// `[rows, columns]`, 0 is background.
///
/// # Errors
/// [`Error::Io`], [`Error::Unreadable`], or [`Error::Unsupported`] for a colour picture, for JPEG compression, for a
/// TIFF with several pages ([`read_labels`](crate::read_labels) reads a stack of slices), and for values that are not
/// integers.
pub fn read_instances(path: &Path) -> Result<Array2<u32>, Error> {
    parse_instances(path, &files::read(path)?)
}

/// Reads labels from the bytes of a file; `path` is only used in error messages.
///
/// # Errors
/// As [`read_instances`].
pub fn parse_instances(path: &Path, bytes: &[u8]) -> Result<Array2<u32>, Error> {
    if is_tiff(bytes) { Tiff::open(path, bytes)?.labels() } else { png_file::labels(path, bytes) }
}

/// Whether a file is a TIFF whose pages are the slices of a volume, according to nnU-Net's spacing file next to it or
/// to metadata of ImageJ, OME or tifffile.
pub(crate) fn is_stack(path: &Path) -> Result<bool, Error> {
    let bytes = files::read(path)?;
    if is_tiff(&bytes) { Tiff::open(path, &bytes)?.is_stack() } else { Ok(false) }
}

/// The file beside a TIFF that has the spacing of its slices.
pub(crate) fn spacing_path(path: &Path) -> Option<PathBuf> {
    stack::spacing_file(path)
}

/// Reads a TIFF whose pages are the slices of a volume.
pub(crate) fn stack<T>(path: &Path, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
    if !is_tiff(bytes) {
        return Err(Error::unreadable(path, "it is not a TIFF file"));
    }
    Tiff::open(path, bytes)?.stack(value)
}

/// What is wrong with a picture for which [`is_of_8_bits`] holds.
const OF_8_BITS: &str = "its 16-bit values are at most 255, as in an 8-bit picture; write it with 8 bits";

/// Whether 16-bit values of a picture have the range of 8 bits, so that it would be taken for black.
fn is_of_8_bits(values: &[u16]) -> bool {
    let highest = values.iter().copied().max().unwrap_or(0);
    (1..=255).contains(&highest)
}

/// Samples of up to 8 bits in rows of so many bytes, the first sample in the highest bits.
fn unpacked_rows(bytes: &[u8], rows: usize, columns: usize, row_bytes: usize, bits: u8) -> impl Iterator<Item = u8> {
    let (each, mask) = (usize::from(8 / bits), u8::MAX >> (8 - bits));
    let sample = move |row: &[u8], c: usize| row.get(c / each).map(|byte| byte >> (8 - usize::from(bits) * (c % each + 1)) & mask);
    bytes.chunks(row_bytes.max(1)).take(rows).flat_map(move |row| (0..columns).filter_map(move |c| sample(row, c)))
}

/// Writes a PNG picture atomically.
///
/// # Shapes
/// `[3, rows, columns]`.
///
/// # Errors
/// [`Error::Io`] or [`Error::Unwritable`].
pub fn write_rgb(path: &Path, rgb: ArrayView3<u8>) -> Result<(), Error> {
    let (_, height, width) = rgb.dim();
    let pixels: Vec<u8> = rgb.permuted_axes([1, 2, 0]).iter().copied().collect();
    write_png(path, Access::Shared, &pixels, width, height, ExtendedColorType::Rgb8)
}

/// As [`write_rgb`], for a picture that only its owner can read.
///
/// # Errors
/// As [`write_rgb`].
pub fn write_private_rgb(path: &Path, rgb: ArrayView3<u8>) -> Result<(), Error> {
    let (_, height, width) = rgb.dim();
    let pixels: Vec<u8> = rgb.permuted_axes([1, 2, 0]).iter().copied().collect();
    write_png(path, Access::Private, &pixels, width, height, ExtendedColorType::Rgb8)
}

/// Writes a grey PNG picture of 8 bits atomically.
///
/// # Shapes
/// `[rows, columns]`.
///
/// # Errors
/// [`Error::Io`] or [`Error::Unwritable`].
pub fn write_grey(path: &Path, grey: ArrayView2<u8>) -> Result<(), Error> {
    let (height, width) = grey.dim();
    write_png(path, Access::Shared, &grey.iter().copied().collect::<Vec<u8>>(), width, height, ExtendedColorType::L8)
}

/// Writes labels atomically as a 16-bit grey PNG, or as a 32-bit TIFF if the name ends in `.tif` or `.tiff`.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unwritable`] for a label that is too large for the format.
pub fn write_instances(path: &Path, labels: ArrayView2<u32>) -> Result<(), Error> {
    let (height, width) = labels.dim();
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tif") || e.eq_ignore_ascii_case("tiff")) {
        let pixels: Vec<u32> = labels.iter().copied().collect();
        let mut content = Cursor::new(Vec::new());
        let encoded = TiffEncoder::new(&mut content).and_then(|mut e| e.write_image::<Gray32>(width as u32, height as u32, &pixels));
        encoded.map_err(|e| Error::unwritable(path, e))?;
        return files::write(path, content.get_ref());
    }
    if let Some(label) = labels.iter().find(|&&l| l > u16::MAX.into()) {
        return Err(Error::unwritable(path, format!("label {label} does not fit in 16 bits; use the extension .tif")));
    }
    // The encoder takes samples in the machine's own order.
    let pixels: Vec<u8> = labels.iter().flat_map(|&l| (l as u16).to_ne_bytes()).collect();
    write_png(path, Access::Shared, &pixels, width, height, ExtendedColorType::L16)
}

fn write_png(path: &Path, access: Access, pixels: &[u8], width: usize, height: usize, kind: ExtendedColorType) -> Result<(), Error> {
    let mut content = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut content);
    encoder.write_image(pixels, width as u32, height as u32, kind).map_err(|e| Error::unwritable(path, e))?;
    asyndgan_files::write(path, access, &content).map_err(Error::io(path))
}

/// Rejects a picture that its orientation tag turns or mirrors, because masks are read as stored.
///
/// # Errors
/// [`Error::Unsupported`] for such a tag; errors of reading the file.
pub fn check_orientation_tag(path: &Path) -> Result<(), Error> {
    if is_turned(path)? {
        let fact = "its orientation tag turns the picture, and programs differ in whether its mask is turned too; write picture and mask \
                    without such a tag";
        return Err(Error::unsupported(path, fact));
    }
    Ok(())
}

fn is_turned(path: &Path) -> Result<bool, Error> {
    let bytes = files::read(path)?;
    if is_tiff(&bytes) {
        return Tiff::open(path, &bytes)?.is_turned();
    }
    let decoder = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(Error::io(path))?.into_decoder();
    let orientation = decoder.and_then(|mut decoder| decoder.orientation());
    Ok(orientation.map_err(|e| Error::unreadable(path, e))? != Orientation::NoTransforms)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<DynamicImage, Error> {
    if bytes.is_empty() {
        return Err(Error::unreadable(path, "it is empty"));
    }
    if let Some(length) = png_file::broken_palette(bytes) {
        return Err(Error::unreadable(path, format!("its palette has {length} bytes, which is not a multiple of 3")));
    }
    let wrong = |e: ImageError| match e {
        ImageError::Unsupported(_) => Error::unsupported(path, format!("{e}; write it as PNG or TIFF")),
        _ => Error::unreadable(path, e),
    };
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io(path))?.into_decoder().map_err(wrong)?;
    check_size(path, bytes, decoder.dimensions(), decoder.total_bytes())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(4 * decoder.total_bytes() + (64 << 20));
    decoder.set_limits(limits).map_err(wrong)?;
    let turned = decoder.orientation().map_err(wrong)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    picture.apply_orientation(turned);
    Ok(picture)
}

/// Rejects pictures that are empty or too large, and headers that declare more than the file can contain, before memory
/// is allocated.
fn check_size(path: &Path, bytes: &[u8], (width, height): (u32, u32), decoded: u64) -> Result<(), Error> {
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > SIDE_MAX || pixels == 0 || pixels > PIXELS_MAX {
        let fact = format!("it has {width} x {height} pixels; 1 to {SIDE_MAX} per side and up to {PIXELS_MAX} in total are supported");
        return Err(Error::unsupported(path, fact));
    }
    if decoded / RATIO_MAX > bytes.len() as u64 {
        return Err(Error::unreadable(
            path,
            format!("its header declares {width} x {height} pixels, more than its {} bytes can hold", bytes.len()),
        ));
    }
    Ok(())
}
