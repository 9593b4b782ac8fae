//! The stored values of one frame, for any supported transfer syntax. The sizes in a header are checked against the
//! data before memory is allocated.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use dicom_core::value::Value;
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_pixeldata::PixelDecoder;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::object::Object;
use crate::{Error, jpeg::frame_header};

/// Explicit VR big endian, which the standard has retired.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// How a JP2 file begins.
const JP2: &[u8] = b"\0\0\0\x0cjP  ";
/// No frame of run lengths, deflate or JPEG is smaller than its pixels by more than this.
const RATIO_MAX: usize = 1032;
/// The same for JPEG-LS and JPEG 2000, which store a blank frame in some hundred bytes.
const BLANK_RATIO_MAX: usize = 1 << 16;

/// How the pixels of an object are stored.
pub(super) struct Pixels {
    rows: usize,
    columns: usize,
    pub(super) frames: usize,
    bytes: usize,
    bits_stored: u32,
    high_bit: u32,
    is_signed: bool,
}

impl Pixels {
    /// Reads the description of one grey channel.
    pub(super) fn from_object(object: &Object) -> Result<Self, Error> {
        let (rows, columns) = object.grid()?;
        let frames = super::object::count(&object.inner, tags::NUMBER_OF_FRAMES).unwrap_or(1);
        let samples = object.count(tags::SAMPLES_PER_PIXEL, "SamplesPerPixel")?;
        let bits = object.count(tags::BITS_ALLOCATED, "BitsAllocated")?;
        if samples != 1 || ![8, 16, 32].contains(&bits) {
            return Err(object.unsupported(format!("it has {samples} samples per pixel of {bits} bits; one of 8, 16 or 32 is supported")));
        }
        let photometric = super::object::text(&object.inner, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
        if photometric == "PALETTE COLOR" && !object.is_segmentation() {
            return Err(object.unsupported("its pixels are palette indices (PALETTE COLOR); only greyscale is supported"));
        }
        let number = |tag| super::object::count(&object.inner, tag).and_then(|n| u32::try_from(n).ok());
        let bits_stored = number(tags::BITS_STORED).unwrap_or(bits as u32);
        let high_bit = number(tags::HIGH_BIT).unwrap_or(bits_stored.saturating_sub(1));
        if bits_stored == 0 || bits_stored > bits as u32 || high_bit >= bits as u32 || high_bit + 1 < bits_stored {
            let fact = format!("it has BitsStored {bits_stored} and HighBit {high_bit}, which are inconsistent with BitsAllocated {bits}");
            return Err(object.unsupported(fact));
        }
        let is_signed = number(tags::PIXEL_REPRESENTATION) == Some(1);
        Ok(Self { rows, columns, frames, bytes: bits / 8, bits_stored, high_bit, is_signed })
    }

    fn count(&self) -> usize {
        self.rows * self.columns
    }

    /// The values of one frame, row by row.
    pub(super) fn frame(&self, object: &Object, frame: usize) -> Result<Vec<f64>, Error> {
        let syntax = object.inner.meta().transfer_syntax();
        let element = object.inner.element(tags::PIXEL_DATA).map_err(|_| object.wrong("it has no pixel data"))?;
        match element.value() {
            Value::Primitive(value) => {
                let (bytes, each) = (value.to_bytes(), self.count() * self.bytes);
                let swapped = syntax == BIG_ENDIAN && self.bytes == 4;
                let raw = bytes.get(frame * each..(frame + 1) * each).ok_or_else(|| self.ends_early(object))?;
                let shift = self.high_bit + 1 - self.bits_stored;
                // Words of 32 bits are read as pairs of 16 bits.
                let order = if swapped { |b: [u8; 4]| [b[2], b[3], b[0], b[1]] } else { |b: [u8; 4]| b };
                Ok(self.words(raw, order).map(|word| self.value(word >> shift)).collect())
            }
            Value::PixelSequence(sequence) => {
                let fragments = sequence.fragments();
                let data = match fragments.len() {
                    n if n == self.frames => Cow::Borrowed(&fragments[frame][..]),
                    _ if self.frames == 1 => Cow::Owned(fragments.concat()),
                    n => {
                        let fact = format!(
                            "its {} frames are in {n} fragments; only one fragment per frame is supported, so convert it, for example \
                             with gdcmconv --raw",
                            self.frames
                        );
                        return Err(object.unsupported(fact));
                    }
                };
                let compresses_blank_frames =
                    [uids::JPEGLS_LOSSLESS, uids::JPEGLS_NEAR_LOSSLESS, uids::JPEG2000_LOSSLESS, uids::JPEG2000].contains(&syntax);
                let ratio_max = if compresses_blank_frames { BLANK_RATIO_MAX } else { RATIO_MAX };
                if data.len().saturating_mul(ratio_max) < self.count() * self.bytes {
                    return Err(self.ends_early(object));
                }
                self.compressed(object, syntax, &data, frame)
            }
            Value::Sequence(_) => Err(object.wrong("its pixel data is a sequence of items")),
        }
    }

    fn ends_early(&self, object: &Object) -> Error {
        let Self { rows, columns, frames, bytes, .. } = self;
        object.wrong(format!("its pixel data is truncated: {frames} frames of {rows} x {columns} pixels of {bytes} bytes are declared"))
    }

    fn compressed(&self, object: &Object, syntax: &str, data: &[u8], frame: usize) -> Result<Vec<f64>, Error> {
        let shift = self.high_bit + 1 - self.bits_stored;
        match syntax {
            uids::RLE_LOSSLESS => {
                let samples = super::rle::decode(data, self.count(), self.bytes);
                let samples = samples.ok_or_else(|| object.wrong("its run-length encoded pixels end early or have a different size"))?;
                Ok(self.words(&samples, |b| b).map(|word| self.value(word >> shift)).collect())
            }
            uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => {
                self.check_header(object, frame_header(data))?;
                let (width, height) = (self.columns as u32, self.rows as u32);
                let decoded = guarded(|| jpegls::decode(data, width, height).map(|(values, ..)| values).map_err(|e| e.to_string()));
                let values = decoded.map_err(|e| object.wrong(format!("its JPEG-LS picture is damaged ({e})")))?;
                self.complete(object, values.into_iter().map(|v| self.value(v.into())).collect())
            }
            uids::JPEG2000_LOSSLESS | uids::JPEG2000 => {
                let header = codestream_header(data);
                self.check_header(object, header.map(|(of_picture, _)| of_picture))?;
                let decoded = guarded(|| jpeg2000(data));
                let values = decoded.map_err(|e| object.wrong(format!("its JPEG 2000 picture is damaged ({e})")))?;
                let range = header.map_or(0..=0, |((_, _, precision, _), is_signed)| {
                    let count = 1_i32 << precision;
                    if is_signed { -count / 2..=count / 2 - 1 } else { 0..=count - 1 }
                });
                // The decoder shifts signed samples as it must unsigned ones, and leaves what lossy compression
                // overshoots.
                let value = |v: i32| (v + (*range.start()).min(0)).clamp(*range.start(), *range.end());
                self.complete(object, values.into_iter().map(|v| self.value(value(v) as u32)).collect())
            }
            _ => {
                if TransferSyntaxRegistry.get(syntax).is_none_or(|known| !known.can_decode_all()) {
                    return Err(object.unsupported_syntax(syntax));
                }
                let header = frame_header(data);
                self.check_header(object, header)?;
                // The decoder returns one byte per sample for a precision of 8, and two bytes for any other.
                let precision = header.map_or(0, |(_, _, precision, _)| precision);
                if (precision == 8) != (self.bytes == 1) {
                    let bits = 8 * self.bytes;
                    let fact = format!(
                        "its JPEG picture has {precision} bits per sample in BitsAllocated {bits}; convert it, for example with gdcmconv --raw"
                    );
                    return Err(object.unsupported(fact));
                }
                let number = u32::try_from(frame).map_err(|e| object.wrong(e))?;
                let decode = AssertUnwindSafe(|| object.inner.decode_pixel_data_frame(number).map_err(|e| e.to_string()));
                let decoded = guarded(decode).map_err(|e| {
                    object.unsupported(format!(
                        "its pixels cannot be decoded ({e}); if it is intact, convert it, for example with gdcmconv --raw"
                    ))
                })?;
                self.complete(object, self.words(decoded.data(), |b| b).map(|word| self.value(word)).collect())
            }
        }
    }

    fn complete(&self, object: &Object, values: Vec<f64>) -> Result<Vec<f64>, Error> {
        let (found, Self { rows, columns, .. }) = (values.len(), self);
        if found == self.count() {
            Ok(values)
        } else {
            Err(object.wrong(format!("it has {found} pixels, but {rows} rows of {columns} are declared")))
        }
    }

    /// Whether a compressed picture is the grid that the object declares.
    fn check_header(&self, object: &Object, found: Option<(usize, usize, u8, u16)>) -> Result<(), Error> {
        let (rows, columns, bits) = (self.rows, self.columns, 8 * self.bytes);
        let fits = |p: u8| if bits == 8 { p <= 8 } else { usize::from(p) <= bits };
        if found.is_some_and(|(r, c, precision, components)| (r, c, components) == (rows, columns, 1) && fits(precision)) {
            return Ok(());
        }
        Err(object.wrong(format!("its JPEG picture is not {rows} x {columns} pixels with {bits} bits, as its DICOM header declares")))
    }

    /// Little-endian samples as words.
    fn words(&self, raw: &[u8], order: impl Fn([u8; 4]) -> [u8; 4]) -> impl Iterator<Item = u32> {
        raw.chunks_exact(self.bytes).map(move |bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(order(word))
        })
    }

    /// The stored bits as a number, without what else a word holds.
    fn value(&self, word: u32) -> f64 {
        let unused = 32 - self.bits_stored;
        if self.is_signed { f64::from(((word << unused) as i32) >> unused) } else { f64::from((word << unused) >> unused) }
    }
}

/// The samples of a JPEG 2000 picture of one component.
fn jpeg2000(data: &[u8]) -> Result<Vec<i32>, String> {
    let settings = hayro_jpeg2000::DecodeSettings { resolve_palette_indices: false, strict: true, ..Default::default() };
    let image = hayro_jpeg2000::Image::new(data, &settings).map_err(|e| e.to_string())?;
    let mut context = hayro_jpeg2000::DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|e| e.to_string())?;
    let samples = decoded.components().first().ok_or("it has no component")?.samples();
    Ok(samples.iter().map(|v| v.round() as i32).collect())
}

/// Decoders by others may panic on damaged data.
fn guarded<T>(decode: impl FnOnce() -> Result<T, String> + std::panic::UnwindSafe) -> Result<T, String> {
    catch_unwind(decode).unwrap_or_else(|_| Err("its decoder stopped".into()))
}

/// Rows, columns, bits and components of a JPEG 2000 codestream of samples that its decoder keeps exactly, and whether
/// they are signed.
fn codestream_header(bytes: &[u8]) -> Option<((usize, usize, u8, u16), bool)> {
    const START: &[u8] = &[0xff, 0x4f, 0xff, 0x51];
    // The codestream may lie in a JP2 file.
    let start = if bytes.starts_with(JP2) { bytes.windows(4).position(|w| w == START)? } else { 0 };
    let size = bytes.get(start..)?.strip_prefix(START)?;
    let word = |at: usize| Some(u32::from_be_bytes(size.get(at..at + 4)?.try_into().ok()?) as usize);
    let (columns, rows) = (word(4)?.checked_sub(word(12)?)?, word(8)?.checked_sub(word(16)?)?);
    let components = u16::from_be_bytes(size.get(36..38)?.try_into().ok()?);
    let (precision, is_signed) = ((size.get(38)? & 0x7f) + 1, size.get(38)? & 0x80 != 0);
    (precision <= 16).then_some(((rows, columns, precision, components), is_signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bits_are_cut_out_and_their_sign_kept() {
        let pixels =
            |bits_stored, high_bit, is_signed| Pixels { rows: 1, columns: 1, frames: 1, bytes: 2, bits_stored, high_bit, is_signed };
        assert_eq!(pixels(12, 11, true).value(0x0f9c) as i64, -100);
        assert_eq!(pixels(12, 11, true).value(0xff9c) as i64, -100);
        assert_eq!(pixels(12, 11, false).value(0xff9c) as i64, 3996);
        assert_eq!(pixels(16, 15, true).value(0x8000) as i64, -32768);
    }
}
