//! Raw voxels as files hold them: integers and floats of 8 to 64 bits in either byte order.

/// The largest volume that is read: 512 Mi voxels.
pub(crate) const VOXELS_MAX: u64 = 1 << 29;

/// The types of voxels that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Kind {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// How raw voxels are to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storage {
    pub(crate) kind: Kind,
    pub(crate) little: bool,
    /// Slope and intercept, unless they change nothing.
    pub(crate) scaling: Option<(f64, f64)>,
}

impl Storage {
    /// Converts raw bytes to voxels; an incomplete voxel at the end is ignored.
    pub(crate) fn convert<T>(self, raw: &[u8], value: impl Fn(f64) -> T) -> Vec<T> {
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
            Kind::U8 => each!(u8),
            Kind::I8 => each!(i8),
            Kind::U16 => each!(u16),
            Kind::I16 => each!(i16),
            Kind::U32 => each!(u32),
            Kind::I32 => each!(i32),
            Kind::U64 => each!(u64),
            Kind::I64 => each!(i64),
            Kind::F32 => each!(f32),
            Kind::F64 => each!(f64),
        }
    }
}
