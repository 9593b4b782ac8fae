//! TIFF and BigTIFF: pictures, label images, and stacks of pages that are a volume.

use std::{io::Cursor, path::Path};

use ndarray::{Array2, Array3};
use tiff::{
    ColorType,
    decoder::{Decoder, DecodingResult},
    tags::{PhotometricInterpretation, PlanarConfiguration, Tag},
};

use super::{
    OF_8_BITS, PIXELS_MAX, RATIO_MAX, check_size, is_of_8_bits,
    stack::{Shaped, described_axes, read_spacing, spacing_file},
};
use crate::{Affine, Error, Volume, jpeg::frame_header, labels::labels_of, voxels::VOXELS_MAX};

/// The tag of a page with several planes.
const IMAGE_DEPTH: u16 = 32997;
/// Pages beyond this are refused: each may have a table of a megabyte.
const PAGES_MAX: usize = 1 << 12;
/// A page that is a smaller copy of another.
const REDUCED: u64 = 1;
/// The compression of pages whose strips or tiles are JPEG streams.
const JPEG: u16 = 7;
/// The most rows of a block of JPEG.
const BLOCK_ROWS: usize = 16;
/// Compressions that change values: both kinds of JPEG.
const LOSSY: [u16; 2] = [6, JPEG];

/// Whether bytes are those of a TIFF or a BigTIFF file.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| bytes.starts_with(*magic))
}

/// A file with the pages that are no smaller copies of others.
pub(super) struct Tiff<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    decoder: Decoder<Cursor<&'a [u8]>>,
    pages: Vec<usize>,
}

/// What the pages of a file are.
enum Pages {
    One,
    /// The slices of a volume, which the file itself or the one beside it says.
    Slices,
    /// Anything else, for people.
    Other(String),
}

impl<'a> Tiff<'a> {
    pub(super) fn open(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        let wrong = |e: tiff::TiffError| wrong_tiff(path, &e);
        let mut limits = tiff::decoder::Limits::default();
        limits.decoding_buffer_size = 8 * PIXELS_MAX as usize;
        limits.intermediate_buffer_size = 8 * PIXELS_MAX as usize;
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(wrong)?.with_limits(limits);
        let mut pages = Vec::new();
        for page in 0.. {
            if page > 0 {
                decoder.next_image().map_err(wrong)?;
            }
            let kind = decoder.find_tag_unsigned::<u64>(Tag::NewSubfileType).map_err(wrong)?.unwrap_or(0);
            if kind & REDUCED == 0 {
                pages.push(page);
            }
            if !decoder.more_images() {
                break;
            }
            if page >= PAGES_MAX {
                return Err(Error::unsupported(path, format!("it has more than {PAGES_MAX} pages, so split it")));
            }
        }
        Ok(Self { path, bytes, decoder, pages })
    }

    fn wrong(&self, fact: impl std::fmt::Display) -> Error {
        Error::unreadable(self.path, fact)
    }

    fn unsupported(&self, fact: impl std::fmt::Display) -> Error {
        Error::unsupported(self.path, fact)
    }

    /// What the pages are, by the file's own description.
    fn described(&mut self) -> Result<Pages, Error> {
        let pages = self.pages.len();
        self.go_to(0)?;
        let text = self.decoder.find_tag(Tag::ImageDescription).ok().flatten().and_then(|v| v.into_string().ok()).unwrap_or_default();
        if let Some([channels, slices, times]) = described_axes(&text) {
            // The samples of a pixel are channels in one page.
            let samples = usize::from(self.number(Tag::SamplesPerPixel).unwrap_or(1)).max(1);
            return Ok(match [channels.max(1).div_ceil(samples), slices.max(1), times.max(1)] {
                [1, 1, 1] if pages == 1 => Pages::One,
                [1, slices, 1] if pages == slices => Pages::Slices,
                _ => Pages::Other(format!("{pages} pages of {channels} channels, {slices} slices and {times} time points")),
            });
        }
        if let Some(depth) = self.number(Tag::Unknown(IMAGE_DEPTH)).filter(|depth| *depth > 1) {
            return Ok(Pages::Other(format!("{depth} planes in a page (ImageDepth)")));
        }
        let shaped = serde_json::from_str::<Shaped>(&text).ok();
        if let Some(Shaped { shape, .. }) = &shaped {
            let (rows, columns, kind) = self.page()?;
            let declared = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
            if declared != Some(pages * rows * columns * usize::from(kind.num_samples())) {
                return Ok(Pages::Other(format!("{pages} pages, but describes an array of shape {shape:?}")));
            }
        }
        if pages == 1 {
            return Ok(Pages::One);
        }
        let is_stack = |s: Shaped| s.shape.len() == 3 && s.shape[0] == pages && s.axes.is_none_or(|axes| axes.starts_with('Z'));
        Ok(if shaped.is_some_and(is_stack) {
            Pages::Slices
        } else {
            Pages::Other(format!("{pages} pages without metadata that marks them as slices"))
        })
    }

    /// Whether the pages are a volume.
    pub(super) fn is_stack(&mut self) -> Result<bool, Error> {
        Ok(self.pages.len() > 1 && (spacing_file(self.path).is_some() || matches!(self.described()?, Pages::Slices)))
    }

    fn go_to(&mut self, page: usize) -> Result<(), Error> {
        let number = self.pages.get(page).copied().ok_or_else(|| self.wrong("all of its pages are reduced copies of other pages"))?;
        self.decoder.seek_to_image(number).map_err(|e| wrong_tiff(self.path, &e))
    }

    /// The only page is what is read; refuses a file with others.
    fn go_to_only(&mut self) -> Result<(), Error> {
        match self.described()? {
            Pages::One => self.go_to(0),
            Pages::Slices => {
                Err(self.unsupported(format!("it is a volume of {} slices, but a picture with one page is needed", self.pages.len())))
            }
            Pages::Other(fact) => Err(self.unsupported(format!(
                "it has {fact}; write one page per file, or a volume as NIfTI, as an ImageJ stack of slices, or with nnU-Net's spacing file"
            ))),
        }
    }

    /// Rows, columns and kind of the page at hand, checked before room is made.
    fn page(&mut self) -> Result<(usize, usize, ColorType), Error> {
        let (width, height) = self.decoder.dimensions().map_err(|e| self.wrong_tiff(&e))?;
        let kind = self.decoder.colortype().map_err(|e| self.wrong_tiff(&e))?;
        let decoded =
            (u64::from(width) * u64::from(height)).saturating_mul(u64::from(kind.bit_depth()) * u64::from(kind.num_samples())) / 8;
        check_size(self.path, self.bytes, (width, height), decoded)?;
        if self.number(Tag::FillOrder) == Some(2) {
            return Err(self.unsupported("its bits are stored in reverse order (FillOrder 2); write it with FillOrder 1"));
        }
        let samples = self.number(Tag::SamplesPerPixel).unwrap_or(1);
        let is_planar = self.number(Tag::PlanarConfiguration) == Some(PlanarConfiguration::Planar.to_u16());
        // The decoder drops the further samples first, and then undoes the differences between pixels of all samples.
        if !is_planar && samples != kind.num_samples() && self.number(Tag::Predictor).is_some_and(|predictor| predictor != 1) {
            return Err(
                self.unsupported(format!("its pixels have {samples} samples and a predictor; write it as RGB without further samples"))
            );
        }
        if self.number(Tag::Compression) == Some(JPEG) {
            self.check_jpeg(width, height, if is_planar { 1 } else { samples })?;
        }
        Ok((height as usize, width as usize, kind))
    }

    /// Checks the JPEG streams of the page, because the decoder fills up a damaged one with grey, and takes its size
    /// from its own header.
    fn check_jpeg(&mut self, width: u32, height: u32, components: u16) -> Result<(), Error> {
        let is_tiled = self.decoder.find_tag(Tag::TileOffsets).map_err(|e| self.wrong_tiff(&e))?.is_some();
        let (offsets, counts) = if is_tiled { (Tag::TileOffsets, Tag::TileByteCounts) } else { (Tag::StripOffsets, Tag::StripByteCounts) };
        let offsets = self.decoder.get_tag_u64_vec(offsets).map_err(|e| self.wrong_tiff(&e))?;
        let counts = self.decoder.get_tag_u64_vec(counts).map_err(|e| self.wrong_tiff(&e))?;
        let (chunk_width, chunk_height) = self.decoder.chunk_dimensions();
        let columns = if is_tiled { chunk_width } else { width } as usize;
        let rows = if is_tiled { chunk_height } else { chunk_height.min(height) }.max(1) as usize;
        // The last strip may have fewer rows.
        let rows_min = if is_tiled { rows } else { (height as usize - 1) % rows + 1 };
        for (number, (&offset, &count)) in offsets.iter().zip(&counts).enumerate() {
            let end = offset.checked_add(count).and_then(|end| usize::try_from(end).ok());
            let stream = end.and_then(|end| self.bytes.get(offset as usize..end));
            let stream = stream.ok_or_else(|| self.wrong(format!("part {number} of its picture is beyond the end of the file")))?;
            let header = frame_header(stream).ok_or_else(|| self.wrong(format!("part {number} of its picture is no JPEG stream")))?;
            // Encoders may fill up the rows to whole blocks.
            let is_fit =
                (rows_min..rows + BLOCK_ROWS).contains(&header.0) && header.1 == columns && header.2 == 8 && header.3 == components;
            if !is_fit {
                let (r, c, bits, found) = header;
                return Err(self.wrong(format!(
                    "part {number} of its picture is a JPEG stream of {r} x {c} pixels with {found} samples of {bits} bits; expected {rows} x \
                     {columns} with {components} of 8"
                )));
            }
            let scan = stream.windows(2).position(|marker| marker == [0xff, 0xda]).unwrap_or(stream.len());
            if !stream[scan..].windows(2).any(|marker| marker == [0xff, 0xd9]) {
                return Err(self.wrong(format!("part {number} of its picture is a JPEG stream without an end")));
            }
        }
        Ok(())
    }

    /// Whether the picture is to be shown turned or mirrored.
    pub(super) fn is_turned(&mut self) -> Result<bool, Error> {
        self.go_to_only()?;
        Ok(self.number(Tag::Orientation).is_some_and(|orientation| orientation > 1))
    }

    fn wrong_tiff(&self, error: &tiff::TiffError) -> Error {
        wrong_tiff(self.path, error)
    }

    fn number(&mut self, tag: Tag) -> Option<u16> {
        self.decoder.find_tag_unsigned::<u16>(tag).ok().flatten()
    }

    /// # Shapes
    /// `[3, rows, columns]`, values in 0..=255, turned as the file's orientation says.
    pub(super) fn rgb(&mut self) -> Result<Array3<f32>, Error> {
        self.go_to_only()?;
        let (rows, columns, kind) = self.page()?;
        let turned = self.number(Tag::Orientation).unwrap_or(1);
        let planar = self.number(Tag::PlanarConfiguration) == Some(PlanarConfiguration::Planar.to_u16());
        let mut decoded = DecodingResult::U8(Vec::new());
        let read = self.decoder.read_image_to_buffer(&mut decoded);
        read.map_err(|e| self.wrong_tiff(&e))?;
        let (values, depth) = match (decoded, kind.bit_depth()) {
            (DecodingResult::U8(v), 8) => (v.into_iter().map(f32::from).collect::<Vec<_>>(), 8),
            (DecodingResult::U16(v), 16) if is_of_8_bits(&v) => return Err(self.unsupported(OF_8_BITS)),
            (DecodingResult::U16(v), 16) => (v.into_iter().map(|v| f32::from(v) / 257.0).collect(), 16),
            (DecodingResult::U8(v), bits @ (1 | 2 | 4)) if matches!(kind, ColorType::Gray(_)) => {
                let top = f32::from((1_u8 << bits) - 1);
                (unpacked(&v, rows, columns, bits).map(|v| f32::from(v) * 255.0 / top).collect(), bits)
            }
            _ => {
                return Err(self.unsupported(format!("its pixels are signed or floating-point {kind:?}; write pictures with 8 or 16 bits")));
            }
        };
        let samples = usize::from(kind.num_samples());
        if values.len() != rows * columns * samples {
            return Err(
                self.wrong(format!("it has {} values for {rows} x {columns} pixels of {samples} samples and {depth} bits", values.len()))
            );
        }
        let at = |k: usize, r: usize, c: usize| {
            if planar { values[(k * rows + r) * columns + c] } else { values[(r * columns + c) * samples + k] }
        };
        let colour: fn([f32; 4]) -> [f32; 3] = match kind {
            ColorType::Gray(_) | ColorType::GrayA(_) => |[y, ..]| [y; 3],
            ColorType::RGB(_) | ColorType::RGBA(_) => |[r, g, b, _]| [r, g, b],
            ColorType::CMYK(8) => |[c, m, y, k]| [c, m, y].map(|v| ((255.0 - v) * (255.0 - k) / 255.0).round()),
            ColorType::YCbCr(8) => from_ycbcr,
            _ => return Err(self.unsupported(format!("its pixels are {kind:?}; write it as greyscale or RGB"))),
        };
        if matches!(kind, ColorType::YCbCr(_)) && self.decoder.find_tag(Tag::Unknown(532)).ok().flatten().is_some_and(|v| !is_full_range(v))
        {
            return Err(self.unsupported("its YCbCr values do not have the full range from 0 to 255; write it as RGB"));
        }
        let rgb = Array3::from_shape_fn((3, rows, columns), |(k, r, c)| {
            colour(std::array::from_fn(|s| if s < samples { at(s, r, c) } else { 0.0 }))[k]
        });
        Ok(oriented(rgb, turned))
    }

    /// Labels as stored: whether 0 is shown white, and which way is up, changes nothing.
    pub(super) fn labels(&mut self) -> Result<Array2<u32>, Error> {
        self.go_to_only()?;
        let (rows, columns, values) = self.grey()?;
        let values = Array2::from_shape_vec((rows, columns), values).map_err(|e| self.wrong(e))?;
        let volume = Volume { voxels: values.insert_axis(ndarray::Axis(0)), affine: Affine::scaling([1.0; 3]) };
        Ok(labels_of(self.path, volume)?.voxels.remove_axis(ndarray::Axis(0)))
    }

    /// The values of the grey page at hand, as stored.
    fn grey(&mut self) -> Result<(usize, usize, Vec<f64>), Error> {
        let (rows, columns, kind) = self.page()?;
        let ColorType::Gray(bits) = kind else {
            return Err(self.unsupported(format!("its pixels are {kind:?}; labels and volumes must have one grey channel")));
        };
        let inverted = self.number(Tag::PhotometricInterpretation) == Some(PhotometricInterpretation::WhiteIsZero.to_u16());
        if self.number(Tag::Compression).is_some_and(|c| LOSSY.contains(&c)) {
            return Err(self.unsupported("it has JPEG compression, which changes labels and voxels; use lossless compression"));
        }
        let decoded = self.decoder.read_image().map_err(|e| self.wrong_tiff(&e))?;
        // The decoder turns white-is-zero around.
        macro_rules! each {
            ($values:expr) => {
                $values.into_iter().map(|v| if inverted { !v as f64 } else { v as f64 }).collect::<Vec<f64>>()
            };
        }
        let values = match decoded {
            DecodingResult::U8(v) if bits < 8 => {
                let stored: Vec<u8> = if inverted { v.into_iter().map(|v| !v).collect() } else { v };
                unpacked(&stored, rows, columns, bits).map(f64::from).collect()
            }
            DecodingResult::U8(v) => each!(v),
            DecodingResult::U16(v) => each!(v),
            DecodingResult::U32(v) => each!(v),
            DecodingResult::U64(v) => each!(v),
            DecodingResult::I8(v) => each!(v),
            DecodingResult::I16(v) => each!(v),
            DecodingResult::I32(v) => each!(v),
            DecodingResult::I64(v) => each!(v),
            DecodingResult::F32(v) => v.into_iter().map(|v| f64::from(if inverted { 1.0 - v } else { v })).collect(),
            DecodingResult::F64(v) => v.into_iter().map(|v| if inverted { 1.0 - v } else { v }).collect(),
            DecodingResult::F16(_) => return Err(self.unsupported("its pixels are 16-bit floats; write integers or 32-bit floats")),
        };
        if values.len() != rows * columns {
            return Err(self.wrong(format!("it has {} values for {rows} x {columns} pixels", values.len())));
        }
        Ok((rows, columns, values))
    }

    /// A volume of slices. Its axes are taken to run to the left, to the back and up, so that it is shown as it is
    /// stored.
    pub(super) fn stack<T>(&mut self, value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
        let spacing = match spacing_file(self.path) {
            Some(path) => read_spacing(&path)?,
            None if matches!(self.described()?, Pages::Slices) => [1.0; 3],
            None => return self.go_to_only().and(Err(self.unsupported("it has one page, but a volume needs several"))),
        };
        self.go_to(0)?;
        let (rows, columns, kind) = self.page()?;
        let count = self.pages.len() * rows * columns;
        if count as u64 > VOXELS_MAX {
            return Err(self.unsupported(format!("its pages have {count} voxels; the limit is {VOXELS_MAX}, so crop it")));
        }
        // Pages may share their strips: together they hold no more than the file can.
        if count as u64 * u64::from(kind.bit_depth()) / 8 / RATIO_MAX > self.bytes.len() as u64 {
            return Err(self.wrong(format!(
                "its {} pages declare {count} voxels, more than its {} bytes can hold",
                self.pages.len(),
                self.bytes.len()
            )));
        }
        let mut voxels = Vec::with_capacity(count);
        for page in 0..self.pages.len() {
            self.go_to(page)?;
            let found = self.grey()?;
            if (found.0, found.1) != (rows, columns) {
                let fact = format!("page {} has {} x {} pixels, but the first has {rows} x {columns}", page + 1, found.0, found.1);
                return Err(self.unsupported(fact));
            }
            voxels.extend(found.2.into_iter().map(&value));
        }
        let voxels = Array3::from_shape_vec((self.pages.len(), rows, columns), voxels).map_err(|e| self.wrong(e))?;
        let [z, y, x] = spacing;
        Ok(Volume { voxels, affine: Affine([[-x, 0.0, 0.0, 0.0], [0.0, -y, 0.0, 0.0], [0.0, 0.0, z, 0.0]]) })
    }
}

/// Damage, or a feature that the decoder lacks.
fn wrong_tiff(path: &Path, error: &tiff::TiffError) -> Error {
    match error {
        tiff::TiffError::UnsupportedError(cause) => {
            Error::unsupported(path, format!("{cause}; write it as greyscale or RGB, without compression"))
        }
        // The decoder's LZW gives up on the edges of small tiles.
        tiff::TiffError::IoError(cause) if cause.to_string().contains("lzw") => {
            let fact = format!("its LZW compression cannot be read ({cause}); write it with deflate, or without compression");
            Error::unsupported(path, fact)
        }
        _ => Error::unreadable(path, error),
    }
}

/// Samples of fewer than 8 bits; rows begin at whole bytes.
fn unpacked(bytes: &[u8], rows: usize, columns: usize, bits: u8) -> impl Iterator<Item = u8> {
    let width = (columns * usize::from(bits)).div_ceil(8);
    super::unpacked_rows(bytes, rows, columns, width, bits)
}

/// Full-range YCbCr with the luma of ITU-R BT.601, TIFF's default.
fn from_ycbcr([y, cb, cr, _]: [f32; 4]) -> [f32; 3] {
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round().clamp(0.0, 255.0))
}

fn is_full_range(reference: tiff::decoder::ifd::Value) -> bool {
    let expected = [0.0, 255.0, 128.0, 255.0, 128.0, 255.0];
    let number = |v: &tiff::decoder::ifd::Value| match v {
        tiff::decoder::ifd::Value::Rational(n, d) => f64::from(*n) / f64::from(*d),
        other => other.clone().into_u64().map_or(f64::NAN, |n| n as f64),
    };
    match reference {
        tiff::decoder::ifd::Value::List(values) => values.iter().map(number).eq(expected),
        _ => false,
    }
}

/// A picture turned as its TIFF orientation says: where its first row and column lie on the screen.
fn oriented(rgb: Array3<f32>, orientation: u16) -> Array3<f32> {
    let mut view = rgb.view();
    let (up, left, swapped) = match orientation {
        2 => (false, true, false),
        3 => (true, true, false),
        4 => (true, false, false),
        5 => (false, false, true),
        6 => (true, false, true),
        7 => (true, true, true),
        8 => (false, true, true),
        _ => return rgb,
    };
    if up {
        view.invert_axis(ndarray::Axis(1));
    }
    if left {
        view.invert_axis(ndarray::Axis(2));
    }
    if swapped {
        view.swap_axes(1, 2);
    }
    view.as_standard_layout().into_owned()
}
