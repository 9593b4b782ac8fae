use std::{
    io::{Cursor, Seek},
    path::Path,
};

use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageReader, Limits};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3};
use tiff::{
    ColorType,
    decoder::{Decoder, DecodingResult},
    encoder::{TiffEncoder, colortype::Gray32},
};

use crate::{Error, files, labels::integer};

/// The longest side of a picture.
const SIDE_MAX: u32 = 1 << 15;
/// The most pixels of a picture: in 32-bit floats, three a pixel, they take 1.5 GiB.
const PIXELS_MAX: u64 = 1 << 27;
/// No picture's file is smaller than its pixels by more than this (deflate 1032, LZW 1365).
const RATIO_MAX: u64 = 1400;

/// Reads a PNG or TIFF picture (strips or tiles; LZW, deflate or `PackBits`, with or without predictor); transparency is dropped.
///
/// # Shapes
/// `[3, rows, columns]`, values in 0..=255.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] also for a picture of more than 32,768 pixels a side or 2^27 in all.
pub fn read_rgb(path: &Path) -> Result<Array3<f32>, Error> {
    parse_rgb(path, &files::read(path)?)
}

/// Reads a picture from the bytes of a file; `path` only names it in errors.
///
/// # Errors
/// As [`read_rgb`].
pub fn parse_rgb(path: &Path, bytes: &[u8]) -> Result<Array3<f32>, Error> {
    let rgb = decode(path, bytes)?.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let raw = rgb.into_raw();
    Ok(Array3::from_shape_fn((3, height, width), |(k, r, c)| raw[3 * (r * width + c) + k].into()))
}

/// Reads instance labels or class labels: a PNG of one grey channel with 8 or 16 bits, or a TIFF with 8, 16 or 32.
///
/// # Shapes
/// `[rows, columns]`, 0 is background.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] also for a colour picture and for values that are no whole numbers.
pub fn read_instances(path: &Path) -> Result<Array2<u32>, Error> {
    parse_instances(path, &files::read(path)?)
}

/// Reads labels from the bytes of a file; `path` only names it in errors.
///
/// # Errors
/// As [`read_instances`].
pub fn parse_instances(path: &Path, bytes: &[u8]) -> Result<Array2<u32>, Error> {
    let (width, height, labels) = if is_tiff(bytes) {
        tiff_labels(path, bytes)?
    } else {
        match decode(path, bytes)? {
            DynamicImage::ImageLuma16(grey) => (grey.width(), grey.height(), grey.into_raw().into_iter().map(u32::from).collect()),
            DynamicImage::ImageLuma8(grey) => (grey.width(), grey.height(), grey.into_raw().into_iter().map(u32::from).collect()),
            other => return Err(Error::unsupported(path, format!("its pixels are {:?}; labels are one grey channel", other.color()))),
        }
    };
    Array2::from_shape_vec((height as usize, width as usize), labels).map_err(|e| Error::unreadable(path, e))
}

/// Writes a PNG picture, whole or not at all.
///
/// # Shapes
/// `[3, rows, columns]`.
///
/// # Errors
/// [`Error::Io`] or [`Error::Unwritable`].
pub fn write_rgb(path: &Path, rgb: ArrayView3<u8>) -> Result<(), Error> {
    let (_, height, width) = rgb.dim();
    let pixels: Vec<u8> = rgb.permuted_axes([1, 2, 0]).iter().copied().collect();
    write_png(path, &pixels, width, height, ExtendedColorType::Rgb8)
}

/// Writes labels as a 16-bit grey PNG, or, where the name ends in `.tif` or `.tiff`, a 32-bit TIFF; whole or not at all.
///
/// # Errors
/// [`Error::Io`], [`Error::Unwritable`] for a label beyond what the format holds.
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
        return Err(Error::unwritable(path, format!("label {label} does not fit 16 bits; name the file .tif")));
    }
    // The encoder takes samples in the machine's own order.
    let pixels: Vec<u8> = labels.iter().flat_map(|&l| (l as u16).to_ne_bytes()).collect();
    write_png(path, &pixels, width, height, ExtendedColorType::L16)
}

fn write_png(path: &Path, pixels: &[u8], width: usize, height: usize, kind: ExtendedColorType) -> Result<(), Error> {
    let mut content = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut content);
    encoder.write_image(pixels, width as u32, height as u32, kind).map_err(|e| Error::unwritable(path, e))?;
    files::write(path, &content)
}

fn is_tiff(bytes: &[u8]) -> bool {
    bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") || bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+")
}

fn decode(path: &Path, bytes: &[u8]) -> Result<DynamicImage, Error> {
    if bytes.is_empty() {
        return Err(Error::unreadable(path, "it is empty"));
    }
    let wrong = |e: ImageError| Error::unreadable(path, e);
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io(path))?.into_decoder().map_err(wrong)?;
    check_size(path, bytes, decoder.dimensions(), decoder.total_bytes())?;
    let kind = decoder.original_color_type();
    if matches!(kind, ExtendedColorType::L1 | ExtendedColorType::L2 | ExtendedColorType::L4) {
        return Err(Error::unsupported(path, "its pixels have fewer than 8 bits; convert it to 8 or 16 bits a pixel"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(4 * decoder.total_bytes() + (64 << 20));
    decoder.set_limits(limits).map_err(wrong)?;
    DynamicImage::from_decoder(decoder).map_err(wrong)
}

/// Refuses pictures of no size or of too much, and headers that declare more than the file can hold, before room is made.
fn check_size(path: &Path, bytes: &[u8], (width, height): (u32, u32), decoded: u64) -> Result<(), Error> {
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > SIDE_MAX || pixels == 0 || pixels > PIXELS_MAX {
        let fact = format!("it has {width} x {height} pixels; supported are 1 to {SIDE_MAX} a side and {PIXELS_MAX} in all");
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

/// The `image` crate reads no 32-bit integers, so labels come straight from its TIFF decoder.
fn tiff_labels(path: &Path, bytes: &[u8]) -> Result<(u32, u32, Vec<u32>), Error> {
    let wrong = |e: tiff::TiffError| Error::unreadable(path, e);
    let mut decoder = open_tiff(Cursor::new(bytes)).map_err(wrong)?;
    let (width, height) = decoder.dimensions().map_err(wrong)?;
    let kind = decoder.colortype().map_err(wrong)?;
    check_size(path, bytes, (width, height), (u64::from(width) * u64::from(height)).saturating_mul(kind.bit_depth().into()) / 8)?;
    if !matches!(kind, ColorType::Gray(_)) {
        return Err(Error::unsupported(path, format!("its pixels are {kind:?}; labels are one grey channel")));
    }
    let labels: Option<Vec<u32>> = match decoder.read_image().map_err(wrong)? {
        DecodingResult::U8(v) => Some(v.into_iter().map(u32::from).collect()),
        DecodingResult::U16(v) => Some(v.into_iter().map(u32::from).collect()),
        DecodingResult::U32(v) => Some(v),
        DecodingResult::I16(v) => v.into_iter().map(|v| integer(v.into())).collect(),
        DecodingResult::I32(v) => v.into_iter().map(|v| integer(v.into())).collect(),
        DecodingResult::F32(v) => v.into_iter().map(|v| integer(v.into())).collect(),
        _ => return Err(Error::unsupported(path, format!("its pixels are {kind:?}; convert labels to 8, 16 or 32 bits"))),
    };
    let labels = labels.ok_or_else(|| Error::unsupported(path, "it holds values that are no whole numbers from 0; labels are"))?;
    Ok((width, height, labels))
}

fn open_tiff<R: std::io::Read + Seek>(source: R) -> Result<Decoder<R>, tiff::TiffError> {
    let mut limits = tiff::decoder::Limits::default();
    limits.decoding_buffer_size = 8 * PIXELS_MAX as usize;
    limits.intermediate_buffer_size = 8 * PIXELS_MAX as usize;
    Ok(Decoder::new(source)?.with_limits(limits))
}
