use asyndgan_protocol::{Augmentation, Dtype, Payload};
use tch::{Device, Kind, Tensor};

use crate::Error;

/// A tensor as a payload: bytes as label maps, all other types as 32-bit floats.
pub fn to_payload(tensor: &Tensor) -> Payload {
    to_payload_as(tensor, if tensor.kind() == Kind::Uint8 { Dtype::U8 } else { Dtype::F32 })
}

/// A tensor as a payload of the given element type.
pub fn to_payload_as(tensor: &Tensor, dtype: Dtype) -> Payload {
    let tensor = tensor.detach().to_device(Device::Cpu);
    let tensor = match dtype {
        Dtype::Q8 => ((tensor + 1.0) * LEVELS).round().clamp(0.0, 255.0),
        _ => tensor,
    };
    let tensor = tensor.to_kind(kind(dtype)).contiguous();
    let dims = tensor.size().iter().map(|&d| d as u32).collect();
    let mut bytes = vec![0_u8; tensor.numel() * dtype.bytes() as usize];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    Payload::new(dims, dtype, bytes)
}

/// Half the levels of an 8-bit image in [-1, 1].
const LEVELS: f64 = 127.5;

fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
        Dtype::Q8 | Dtype::U8 => Kind::Uint8,
    }
}

/// A payload as a tensor: label maps as bytes, all other types as 32-bit floats.
///
/// # Errors
/// [`Error::Protocol`] if the number of bytes does not match the dimensions.
pub fn to_tensor(payload: &Payload, device: Device) -> Result<Tensor, Error> {
    let payload = payload.clone().decompressed()?;
    let dims: Vec<i64> = payload.dims.iter().map(|&d| i64::from(d)).collect();
    let tensor = Tensor::f_from_data_size(&payload.bytes, &dims, kind(payload.dtype))?.to_device(device);
    Ok(match payload.dtype {
        Dtype::U8 => tensor,
        Dtype::Q8 => tensor.to_kind(Kind::Float) / LEVELS - 1.0,
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => tensor.to_kind(Kind::Float),
    })
}

/// A crop of an image, flipped as given; data that are not images are unchanged.
///
/// # Shapes
/// `[channels, rows, columns]` to `[channels, crop, crop]`.
pub(crate) fn augmented(sample: &Tensor, a: &Augmentation, crop: u32) -> Tensor {
    if sample.dim() < 3 {
        return sample.shallow_clone();
    }
    let side = i64::from(crop);
    let window = sample.narrow(1, i64::from(a.top), side).narrow(2, i64::from(a.left), side);
    let window = if a.transpose { window.transpose(1, 2) } else { window };
    let axes: Vec<i64> = [(a.flip_rows, 1), (a.flip_columns, 2)].into_iter().filter(|f| f.0).map(|f| f.1).collect();
    if axes.is_empty() { window } else { window.flip(axes) }
}

/// Chosen cases, each cropped and flipped as given.
pub(crate) fn choose(all: &Tensor, cases: &[u32], augmentations: &[Augmentation], crop: u32) -> Tensor {
    let one = |(&case, a): (&u32, &Augmentation)| augmented(&all.get(case.into()), a, crop);
    Tensor::stack(&cases.iter().zip(augmentations).map(one).collect::<Vec<_>>(), 0)
}

/// Label maps as one-hot channels: one channel per class, 1 where the class is and -1 elsewhere.
///
/// # Shapes
/// `[batch, 1, rows, columns]` to `[batch, classes, rows, columns]`, or `[batch, 1]` to `[batch, classes]`.
pub fn one_hot_condition(label_maps: &Tensor, classes: u8) -> Tensor {
    let planes: Vec<Tensor> = (1..=i64::from(classes)).map(|code| label_maps.eq(code)).collect();
    Tensor::cat(&planes, 1).to_kind(Kind::Float) * 2.0 - 1.0
}
