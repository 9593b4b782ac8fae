use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Floating-point precision of the layers. A network computes in the precision of its input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Float32,
    /// bfloat16, 32-bit floats without the last 16 bits: faster if the processor or GPU supports it.
    Bfloat16,
}

impl Precision {
    /// A tensor in this precision.
    pub fn cast(self, tensor: &Tensor) -> Tensor {
        tensor.to_kind(match self {
            Self::Float32 => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
        })
    }
}
