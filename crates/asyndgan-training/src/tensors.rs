use asyndgan_protocol::{Augmentation, Dtype, Payload};
use tch::{Device, Kind, Tensor};

use crate::Error;

/// A tensor as a payload of 32-bit floats or bytes.
pub fn payload_of(tensor: &Tensor) -> Payload {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let dims = tensor.size().iter().map(|&d| d as u32).collect();
    let n = tensor.numel();
    if tensor.kind() == Kind::Uint8 {
        let mut bytes = vec![0_u8; n];
        tensor.copy_data(&mut bytes, n);
        return Payload { dims, dtype: Dtype::U8, bytes };
    }
    let mut values = vec![0_f32; n];
    tensor.to_kind(Kind::Float).copy_data(&mut values, n);
    Payload { dims, dtype: Dtype::F32, bytes: values.into_iter().flat_map(f32::to_le_bytes).collect() }
}

/// A payload as a tensor.
///
/// # Errors
/// [`Error::Protocol`] when bytes and dimensions do not fit.
pub fn tensor_of(payload: &Payload, device: Device) -> Result<Tensor, Error> {
    payload.check()?;
    let dims: Vec<i64> = payload.dims.iter().map(|&d| i64::from(d)).collect();
    let kind = match payload.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::U8 => Kind::Uint8,
    };
    Ok(Tensor::f_from_data_size(&payload.bytes, &dims, kind)?.to_device(device))
}

/// A window of an image, flipped as told; values that are no image stay as they are.
///
/// # Shapes
/// `[channels, rows, columns]` to `[channels, crop, crop]`.
pub(crate) fn augmented(sample: &Tensor, a: &Augmentation, crop: u32) -> Tensor {
    if sample.dim() < 3 {
        return sample.shallow_clone();
    }
    let side = i64::from(crop);
    let window = sample.narrow(1, i64::from(a.top), side).narrow(2, i64::from(a.left), side);
    let axes: Vec<i64> = [(a.flip_rows, 1), (a.flip_columns, 2)].into_iter().filter(|f| f.0).map(|f| f.1).collect();
    if axes.is_empty() { window } else { window.flip(axes) }
}

/// Chosen cases, each cropped and flipped as told.
pub(crate) fn choose(all: &Tensor, cases: &[u32], augmentations: &[Augmentation], crop: u32) -> Tensor {
    let one = |(&case, a): (&u32, &Augmentation)| augmented(&all.get(case.into()), a, crop);
    Tensor::stack(&cases.iter().zip(augmentations).map(one).collect::<Vec<_>>(), 0)
}

/// Condition codes as planes: one a code, 1 where it is, -1 elsewhere.
///
/// # Shapes
/// `[batch, 1, rows, columns]` to `[batch, codes, rows, columns]`, or `[batch, 1]` to `[batch, codes]`.
pub fn condition_planes(codes: &Tensor, count: u8) -> Tensor {
    let planes: Vec<Tensor> = (1..=i64::from(count)).map(|code| codes.eq(code)).collect();
    Tensor::cat(&planes, 1).to_kind(Kind::Float) * 2.0 - 1.0
}
