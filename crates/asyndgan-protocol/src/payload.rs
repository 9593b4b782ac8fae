use serde::{Deserialize, Serialize};

use crate::Error;

/// Element type of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// 32-bit IEEE floats, little-endian.
    F32,
    /// Unsigned bytes.
    U8,
}

impl Dtype {
    fn bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::U8 => 1,
        }
    }
}

/// A tensor in transit: opaque to the protocol but for its dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Dimensions, outermost first.
    pub dims: Vec<u32>,
    /// Element type.
    pub dtype: Dtype,
    /// The elements, row-major.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// Checks that the bytes are as many as the dimensions ask for.
    ///
    /// # Errors
    /// [`Error::PayloadSize`].
    pub fn check(&self) -> Result<(), Error> {
        let elements = self.dims.iter().try_fold(1_u64, |n, &d| n.checked_mul(u64::from(d))).unwrap_or(u64::MAX);
        let expected = elements.saturating_mul(self.dtype.bytes());
        if expected == self.bytes.len() as u64 {
            Ok(())
        } else {
            Err(Error::PayloadSize { dims: self.dims.clone(), expected, found: self.bytes.len() })
        }
    }
}
