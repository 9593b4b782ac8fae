use std::{
    io::{Cursor, Read},
    path::Path,
};

use asyndgan_files::Access;
use flate2::read::MultiGzDecoder;
use ndarray::Array3;
use nifti::{Endianness, NiftiHeader, NiftiType, writer::WriterOptions};

use crate::{Affine, Error, Volume, files, labels::integer};

/// The largest volume that is read: 512 Mi voxels.
const VOXELS_MAX: u64 = 1 << 29;
const HEADER_BYTES: usize = 348;
/// No deflate stream is smaller than its content by more than this.
const DEFLATE_RATIO_MAX: u64 = 1032;

/// Reads a `.nii` or `.nii.gz` volume: every integer and float type, either byte order, scaled by its slope and intercept.
///
/// The affine is the sform's if there is one, else the qform's, else the spacing about the centre, as nibabel decides.
///
/// # Errors
/// [`Error::Unreadable`] for a truncated file, a geometry that spans no space, and voxels that are not finite;
/// [`Error::Unsupported`] for NIfTI-2, a pair of header and image files, colours and complex numbers, more than 512 Mi voxels, more than
/// three dimensions, and units other than millimetres.
pub fn read_volume(path: &Path) -> Result<Volume, Error> {
    parse_volume(path, &files::read(path)?)
}

/// Reads integer labels from a NIfTI file.
///
/// # Errors
/// As [`read_volume`], and for a voxel that is no whole number from 0 to 4,294,967,295.
pub fn read_labels(path: &Path) -> Result<Volume<u32>, Error> {
    parse_labels(path, &files::read(path)?)
}

/// Reads a volume from the bytes of a file; `path` only names it in errors.
///
/// # Errors
/// As [`read_volume`].
pub fn parse_volume(path: &Path, bytes: &[u8]) -> Result<Volume, Error> {
    let volume = parse(path, bytes, |v| v as f32)?;
    if volume.voxels.iter().any(|v| !v.is_finite()) {
        return Err(Error::unreadable(path, "it holds voxels that are NaN or infinite"));
    }
    Ok(volume)
}

/// Reads labels from the bytes of a file; `path` only names it in errors.
///
/// # Errors
/// As [`read_labels`].
pub fn parse_labels(path: &Path, bytes: &[u8]) -> Result<Volume<u32>, Error> {
    let Volume { voxels, affine } = parse(path, bytes, |v| v)?;
    if let Some(odd) = voxels.iter().find(|v| integer(**v).is_none()) {
        return Err(Error::unreadable(path, format!("it holds label {odd}, labels are whole numbers from 0")));
    }
    Ok(Volume { voxels: voxels.mapv(|v| v as u32), affine })
}

/// Writes a `.nii` or `.nii.gz` volume, as the name ends, whole or not at all.
///
/// # Errors
/// [`Error::Io`], [`Error::Unwritable`] for an axis beyond 32,767.
pub fn write_volume(path: &Path, volume: &Volume) -> Result<(), Error> {
    write(path, volume)
}

/// Writes labels as 16-bit integers if they fit, as 32-bit integers else; whole or not at all.
///
/// # Errors
/// As [`write_volume`].
pub fn write_labels(path: &Path, labels: &Volume<u32>) -> Result<(), Error> {
    if labels.voxels.iter().all(|&l| l <= u16::MAX.into()) {
        return write(path, &Volume { voxels: labels.voxels.mapv(|l| l as u16), affine: labels.affine });
    }
    write(path, labels)
}

fn write<T: nifti::DataElement + bytemuck::Pod>(path: &Path, volume: &Volume<T>) -> Result<(), Error> {
    let (slices, rows, columns) = volume.voxels.dim();
    if slices.max(rows).max(columns) > i16::MAX as usize {
        return Err(Error::unwritable(path, format!("NIfTI-1 has axes of at most 32767 voxels, this has {:?}", volume.voxels.dim())));
    }
    let [k, j, i] = volume.spacing_mm();
    let [srow_x, srow_y, srow_z] = volume.affine.0.map(|row| row.map(|v| v as f32));
    let pixdim = [1.0, i as f32, j as f32, k as f32, 0.0, 0.0, 0.0, 0.0];
    let header = NiftiHeader { pixdim, sform_code: 2, srow_x, srow_y, srow_z, xyzt_units: 2, ..NiftiHeader::default() };
    let compressed = path.extension().is_some_and(|e| e == "gz");
    asyndgan_files::write_at_path(path, Access::Shared, Error::io(path), |beside| {
        // The nifti crate looks at the ending, and names the file itself.
        let stem = beside.file_name().unwrap_or_default().to_string_lossy().replace('.', "_");
        let named = beside.with_file_name(stem + if compressed { ".nii.gz" } else { ".nii" });
        let array = volume.voxels.view().reversed_axes();
        let written = WriterOptions::new(&named).reference_header(&header).compress(compressed).write_nifti(&array);
        if let Err(error) = written {
            // The first error is the one that matters.
            std::fs::remove_file(&named).ok();
            return Err(Error::unwritable(path, error));
        }
        std::fs::rename(&named, beside).map_err(Error::io(path))
    })
}

fn parse<T: Copy>(path: &Path, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
    let compressed = bytes.starts_with(&[0x1f, 0x8b]);
    let mut start = Vec::with_capacity(HEADER_BYTES);
    if compressed {
        let read = MultiGzDecoder::new(bytes).take(HEADER_BYTES as u64).read_to_end(&mut start);
        read.map_err(|e| Error::unreadable(path, format!("its gzip stream is damaged ({e})")))?;
    } else {
        start.extend(&bytes[..bytes.len().min(HEADER_BYTES)]);
    }
    let layout = Layout::of(path, &start)?;
    let available = if compressed { (bytes.len() as u64).saturating_mul(DEFLATE_RATIO_MAX) } else { bytes.len() as u64 };
    if available < layout.end() as u64 {
        return Err(Error::unreadable(path, format!("it ends early: its header promises {} bytes", layout.end())));
    }
    let inflated;
    let content = if compressed {
        inflated = inflate(path, bytes, layout.end())?;
        &inflated[..]
    } else {
        bytes
    };
    let voxels = layout.convert(&content[layout.offset..layout.end()], value);
    let [i, j, k] = layout.shape;
    let voxels = Array3::from_shape_vec((k, j, i), voxels).expect("as many values as the header promises");
    Ok(Volume { voxels, affine: layout.affine })
}

/// Inflates the first `length` bytes: in one call if the file is a single stream of exactly this content, else by parts.
fn inflate(path: &Path, bytes: &[u8], length: usize) -> Result<Vec<u8>, Error> {
    let mut content = vec![0; length];
    if libdeflater::Decompressor::new().gzip_decompress(bytes, &mut content).is_ok_and(|n| n == length) {
        return Ok(content);
    }
    let fact = |e: std::io::Error| Error::unreadable(path, format!("its gzip stream is damaged or ends early ({e})"));
    let mut decoder = MultiGzDecoder::new(bytes);
    decoder.read_exact(&mut content).map_err(fact)?;
    // To the end, so that the checksum is looked at.
    std::io::copy(&mut decoder.take(length as u64), &mut std::io::sink()).map_err(fact)?;
    Ok(content)
}

/// What a header says of the bytes behind it.
struct Layout {
    shape: [usize; 3],
    affine: Affine,
    kind: NiftiType,
    little: bool,
    /// Slope and intercept, unless they change nothing.
    scaling: Option<(f64, f64)>,
    offset: usize,
}

impl Layout {
    fn of(path: &Path, start: &[u8]) -> Result<Self, Error> {
        let wrong = |fact: String| Error::unreadable(path, fact);
        let other = |fact: String| Error::unsupported(path, fact);
        match start.get(..4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])) {
            Some(540 | 0x1c02_0000) => return Err(other("it is NIfTI-2, NIfTI-1 is read; convert it, for example with nibabel".into())),
            Some(348 | 0x5c01_0000) if start.len() == HEADER_BYTES => {}
            _ => return Err(wrong("it is no NIfTI-1 file: it does not begin with a header of 348 bytes".into())),
        }
        let header = NiftiHeader::from_reader(Cursor::new(start)).map_err(|e| wrong(e.to_string()))?;
        if &header.magic != b"n+1\0" {
            return Err(other("it is half of a .hdr and .img pair; convert it to one .nii file".into()));
        }
        let dim = header.dim().map_err(|e| wrong(e.to_string()))?;
        let count = dim.iter().try_fold(1_u64, |n, &d| n.checked_mul(d.into())).unwrap_or(u64::MAX);
        if count == 0 || count > VOXELS_MAX {
            return Err(other(format!(
                "its header declares {dim:?} voxels, supported are 1 to {VOXELS_MAX} in all; crop it, or correct the header"
            )));
        }
        if dim.len() < 2 || dim.iter().skip(3).any(|&d| d > 1) {
            return Err(other(format!("it has shape {dim:?}; one image of two or three dimensions is needed, so split it")));
        }
        let shape = std::array::from_fn(|axis| dim.get(axis).map_or(1, |&d| d as usize));
        let kind = header.data_type().map_err(|e| wrong(e.to_string()))?;
        if width(kind) == 0 {
            return Err(other(format!("its voxels are {kind:?}; integers and floats up to 64 bits are read, so convert it")));
        }
        // Metres and micrometres; without a unit, files are in millimetres.
        if matches!(header.xyzt_units & 7, 1 | 3) {
            return Err(other("its lengths are not in millimetres; convert it".into()));
        }
        let affine = affine(&header, shape, dim.len());
        if !affine.is_usable() {
            return Err(wrong(format!("its geometry is unusable: spacing {:?} mm, affine {:?}", affine.spacing_mm(), affine.0)));
        }
        let offset = header.vox_offset;
        if !(offset >= HEADER_BYTES as f32 && offset <= (1 << 24) as f32) {
            return Err(wrong(format!("its voxels begin at byte {offset}, expected 352 or a little more")));
        }
        let (slope, intercept) = (f64::from(header.scl_slope), f64::from(header.scl_inter));
        // A slope of 0, and one that is no number, mean "not scaled".
        let scaled = slope != 0.0 && slope.is_finite();
        if scaled && !intercept.is_finite() {
            return Err(wrong(format!("its scaling is {slope} times the voxel plus {intercept}")));
        }
        let scaling = Some((slope, intercept)).filter(|s| scaled && *s != (1.0, 0.0));
        Ok(Self { shape, affine, kind, little: header.endianness == Endianness::Little, scaling, offset: offset as usize })
    }

    fn end(&self) -> usize {
        self.offset + self.shape.iter().product::<usize>() * width(self.kind)
    }

    fn convert<T>(&self, raw: &[u8], value: impl Fn(f64) -> T) -> Vec<T> {
        macro_rules! each {
            ($of:ty) => {{
                let one = |b: &[u8]| <[u8; size_of::<$of>()]>::try_from(b).expect("chunks of this size");
                let chunks = raw.chunks_exact(size_of::<$of>());
                match (self.little, self.scaling) {
                    (true, None) => chunks.map(|b| value(<$of>::from_le_bytes(one(b)) as f64)).collect(),
                    (false, None) => chunks.map(|b| value(<$of>::from_be_bytes(one(b)) as f64)).collect(),
                    (true, Some((k, c))) => chunks.map(|b| value(<$of>::from_le_bytes(one(b)) as f64 * k + c)).collect(),
                    (false, Some((k, c))) => chunks.map(|b| value(<$of>::from_be_bytes(one(b)) as f64 * k + c)).collect(),
                }
            }};
        }
        match self.kind {
            NiftiType::Uint8 => each!(u8),
            NiftiType::Int8 => each!(i8),
            NiftiType::Uint16 => each!(u16),
            NiftiType::Int16 => each!(i16),
            NiftiType::Uint32 => each!(u32),
            NiftiType::Int32 => each!(i32),
            NiftiType::Uint64 => each!(u64),
            NiftiType::Int64 => each!(i64),
            NiftiType::Float32 => each!(f32),
            _ => each!(f64),
        }
    }
}

/// Bytes a voxel, 0 for types that are not read.
fn width(kind: NiftiType) -> usize {
    match kind {
        NiftiType::Uint8 | NiftiType::Int8 => 1,
        NiftiType::Uint16 | NiftiType::Int16 => 2,
        NiftiType::Uint32 | NiftiType::Int32 | NiftiType::Float32 => 4,
        NiftiType::Uint64 | NiftiType::Int64 | NiftiType::Float64 => 8,
        _ => 0,
    }
}

fn affine(header: &NiftiHeader, shape: [usize; 3], axes: usize) -> Affine {
    // A picture has no third spacing.
    let spacing = [1, 2, 3].map(|axis| if axis <= axes { f64::from(header.pixdim[axis]) } else { 1.0 });
    if header.sform_code > 0 {
        return Affine([header.srow_x, header.srow_y, header.srow_z].map(|row| row.map(f64::from)));
    }
    if header.qform_code > 0 {
        let quaternion = [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from);
        let offset = [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from);
        return Affine::of_quaternion(quaternion, spacing, header.pixdim[0] < 0.0, offset);
    }
    let [i, j, k] = spacing;
    let centre: [f64; 3] = std::array::from_fn(|axis| (shape[axis] as f64 - 1.0) / 2.0);
    Affine([[-i, 0.0, 0.0, i * centre[0]], [0.0, j, 0.0, -j * centre[1]], [0.0, 0.0, k, -k * centre[2]]])
}
