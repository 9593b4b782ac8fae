//! The headers of NIfTI-1 (348 bytes) and NIfTI-2 (540 bytes), in either byte order.

use std::path::Path;

use crate::{
    Affine, Error,
    voxels::{Kind, Storage, VOXELS_MAX},
};

/// The longest header.
pub(super) const BYTES_MAX: usize = 540;
/// How much longer than 1 a quaternion may be by rounding.
const QUATERNION_SLACK: f64 = 1e-3;

/// What a header declares about the voxels.
pub(super) struct Header {
    pub(super) shape: [usize; 3],
    pub(super) affine: Affine,
    pub(super) storage: Storage,
    /// Where the voxels begin in the file that holds them.
    pub(super) offset: usize,
    /// Whether the voxels are in an `.img` file.
    pub(super) is_pair: bool,
}

/// The type of voxels with a code of the standard; else what they are, for people.
fn kind(code: i64) -> Result<Kind, &'static str> {
    Ok(match code {
        2 => Kind::U8,
        4 => Kind::I16,
        8 => Kind::I32,
        16 => Kind::F32,
        64 => Kind::F64,
        256 => Kind::I8,
        512 => Kind::U16,
        768 => Kind::U32,
        1024 => Kind::I64,
        1280 => Kind::U64,
        1 => return Err("single bits"),
        32 | 1792 | 2048 => return Err("complex numbers"),
        128 | 2304 => return Err("colours"),
        1536 => return Err("128-bit floats"),
        _ => return Err("of a type that NIfTI does not define"),
    })
}

/// The fields that matter, as both versions have them.
struct Fields {
    little: bool,
    is_pair: bool,
    header_bytes: usize,
    dim: [i64; 8],
    datatype: i64,
    pixdim: [f64; 8],
    offset: f64,
    scaling: (f64, f64),
    units: i64,
    qform_code: i64,
    sform_code: i64,
    quaternion: [f64; 3],
    position: [f64; 3],
    sform: [[f64; 4]; 3],
}

/// Numbers at places of a header that has been checked to be long enough.
struct Numbers<'a> {
    bytes: &'a [u8],
    little: bool,
}

macro_rules! number {
    ($name:ident, $of:ty) => {
        fn $name(&self, at: usize) -> $of {
            let bytes = self.bytes[at..at + size_of::<$of>()].try_into().expect("of this length");
            if self.little { <$of>::from_le_bytes(bytes) } else { <$of>::from_be_bytes(bytes) }
        }
    };
}

impl Numbers<'_> {
    number!(i16, i16);
    number!(i32, i32);
    number!(i64, i64);
    number!(f32, f32);
    number!(f64, f64);

    fn version_1(&self) -> Option<Fields> {
        let is_pair = match &self.bytes[344..348] {
            b"n+1\0" => false,
            b"ni1\0" => true,
            _ => return None,
        };
        let f = |at: usize| f64::from(self.f32(at));
        Some(Fields {
            little: self.little,
            is_pair,
            header_bytes: 348,
            dim: std::array::from_fn(|k| self.i16(40 + 2 * k).into()),
            datatype: self.i16(70).into(),
            pixdim: std::array::from_fn(|k| f(76 + 4 * k)),
            offset: f(108),
            scaling: (f(112), f(116)),
            units: self.bytes[123].into(),
            qform_code: self.i16(252).into(),
            sform_code: self.i16(254).into(),
            quaternion: [f(256), f(260), f(264)],
            position: [f(268), f(272), f(276)],
            sform: std::array::from_fn(|row| std::array::from_fn(|k| f(280 + 16 * row + 4 * k))),
        })
    }

    fn version_2(&self) -> Option<Fields> {
        let is_pair = match &self.bytes[4..12] {
            b"n+2\0\r\n\x1a\n" => false,
            b"ni2\0\r\n\x1a\n" => true,
            _ => return None,
        };
        Some(Fields {
            little: self.little,
            is_pair,
            header_bytes: 540,
            dim: std::array::from_fn(|k| self.i64(16 + 8 * k)),
            datatype: self.i16(12).into(),
            pixdim: std::array::from_fn(|k| self.f64(104 + 8 * k)),
            offset: self.i64(168) as f64,
            scaling: (self.f64(176), self.f64(184)),
            units: self.i32(500).into(),
            qform_code: self.i32(344).into(),
            sform_code: self.i32(348).into(),
            quaternion: [self.f64(352), self.f64(360), self.f64(368)],
            position: [self.f64(376), self.f64(384), self.f64(392)],
            sform: std::array::from_fn(|row| std::array::from_fn(|k| self.f64(400 + 32 * row + 8 * k))),
        })
    }
}

impl Header {
    /// Parses the first bytes of a file, at most [`BYTES_MAX`].
    pub(super) fn parse(path: &Path, start: &[u8]) -> Result<Self, Error> {
        let wrong = |fact: String| Error::unreadable(path, fact);
        let other = |fact: String| Error::unsupported(path, fact);
        let first = start.first_chunk::<4>().copied().map(i32::from_le_bytes);
        let little = matches!(first, Some(348 | 540));
        let numbers = Numbers { bytes: start, little };
        let fields = match first {
            Some(348 | 0x5c01_0000) if start.len() >= 348 => numbers.version_1().ok_or_else(|| {
                other(
                    "it has an Analyze 7.5 header, which does not hold the orientation; convert it to NIfTI, for example with nibabel"
                        .into(),
                )
            })?,
            Some(540 | 0x1c02_0000) if start.len() >= 540 => {
                numbers.version_2().ok_or_else(|| wrong("its NIfTI-2 header has a wrong magic number".into()))?
            }
            _ if crate::files::ends(path, &[".img", ".img.gz"]) => {
                return Err(other("it has the voxels of a .hdr/.img pair, but its .hdr file is missing; put it in the same folder".into()));
            }
            _ => {
                return Err(wrong(format!(
                    "it does not begin with a NIfTI header (348 or 540 bytes); its first bytes are {}",
                    shown(start)
                )));
            }
        };
        fields.header(path)
    }

    /// Where the voxels end.
    pub(super) fn end(&self) -> usize {
        self.offset + self.shape.iter().product::<usize>() * self.storage.kind.bytes()
    }
}

/// The beginning of a file, for people.
fn shown(start: &[u8]) -> String {
    if start.is_empty() { "none: it is empty".into() } else { format!("{:?}", String::from_utf8_lossy(&start[..start.len().min(16)])) }
}

impl Fields {
    fn header(&self, path: &Path) -> Result<Header, Error> {
        let wrong = |fact: String| Error::unreadable(path, fact);
        let other = |fact: String| Error::unsupported(path, fact);
        let axes = usize::try_from(self.dim[0]).ok().filter(|n| (1..=7).contains(n));
        let axes = axes.ok_or_else(|| wrong(format!("its header declares {} dimensions, but only 1 to 7 are valid", self.dim[0])))?;
        let dim = &self.dim[1..=axes];
        let count = dim.iter().try_fold(1_u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?)).unwrap_or(u64::MAX);
        if count == 0 || count > VOXELS_MAX {
            return Err(other(format!(
                "its header declares {dim:?} voxels, but only 1 to {VOXELS_MAX} in total are supported; crop it, or correct the header"
            )));
        }
        if axes < 2 || dim.iter().skip(3).any(|&d| d > 1) {
            return Err(other(format!("it has shape {dim:?}; only one image with two or three dimensions is supported, so split it")));
        }
        let shape = std::array::from_fn(|axis| dim.get(axis).map_or(1, |&d| d as usize));
        let kind = kind(self.datatype).map_err(|kind| {
            other(format!("its voxels are {kind} (data type {}); convert them to integers or floats of up to 64 bits", self.datatype))
        })?;
        // Metres and micrometres; without a unit, files are in millimetres.
        if let Some(unit) = [None, Some("metres"), None, Some("micrometres")].get((self.units & 7) as usize).copied().flatten() {
            return Err(other(format!("its lengths are in {unit} (xyzt_units {}); convert it to millimetres", self.units)));
        }
        let affine = self.affine(shape, axes).map_err(wrong)?;
        if !affine.is_usable() {
            let fact = format!("its geometry is invalid: spacing {:?} mm, affine {:?}; correct its header", affine.spacing_mm(), affine.0);
            return Err(other(fact));
        }
        // Behind the header stand 4 bytes that declare extensions.
        let header_bytes = if self.is_pair { 0 } else { self.header_bytes + 4 };
        // Zero means right there.
        let offset = if self.offset == 0.0 { header_bytes as f64 } else { self.offset };
        if !(offset >= header_bytes as f64 && offset <= f64::from(1 << 24)) {
            return Err(wrong(format!("its voxels begin at byte {offset}; expected {header_bytes} or more")));
        }
        let (slope, intercept) = self.scaling;
        // A slope of 0, and one that is no number, mean "not scaled".
        let scaled = slope != 0.0 && slope.is_finite();
        if scaled && !intercept.is_finite() {
            return Err(other(format!("its scaling is {slope} * voxel + {intercept}; correct scl_inter in its header")));
        }
        let scaling = Some((slope, intercept)).filter(|s| scaled && *s != (1.0, 0.0));
        let storage = Storage { kind, little: self.little, scaling };
        Ok(Header { shape, affine, storage, offset: offset as usize, is_pair: self.is_pair })
    }

    /// The sform's if there is one, else the qform's, else the spacing about the centre. Spacings count by their size,
    /// and 0 as 1, as nibabel corrects them.
    fn affine(&self, shape: [usize; 3], axes: usize) -> Result<Affine, String> {
        let positive = |v: f64| if v == 0.0 { 1.0 } else { v.abs() };
        let spacing = [1, 2, 3].map(|axis| positive(self.pixdim[axis]));
        if self.sform_code > 0 {
            return Ok(Affine(self.sform));
        }
        if self.qform_code > 0 {
            let squares: f64 = self.quaternion.iter().map(|v| v * v).sum();
            if squares.is_nan() || squares > 1.0 + QUATERNION_SLACK {
                return Err(format!("its quaternion {:?} is longer than 1", self.quaternion));
            }
            return Ok(Affine::of_quaternion(self.quaternion, spacing, (self.pixdim[0] + 1.0).abs() < f64::EPSILON, self.position));
        }
        // A picture has no third spacing.
        let [i, j, k] = std::array::from_fn(|axis| if axis < axes { spacing[axis] } else { 1.0 });
        let centre: [f64; 3] = std::array::from_fn(|axis| (shape[axis] as f64 - 1.0) / 2.0);
        Ok(Affine([[-i, 0.0, 0.0, i * centre[0]], [0.0, j, 0.0, -j * centre[1]], [0.0, 0.0, k, -k * centre[2]]]))
    }
}
