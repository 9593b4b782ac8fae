use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use crate::Error;

/// Writes named tensors as a safetensors file, whole or not at all: beside its place, then renamed into it.
///
/// # Errors
/// [`Error::Io`].
///
/// # Panics
/// For tensors that are neither 32-bit floats, 64-bit integers nor bytes.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), Error> {
    let held: Vec<(&String, Dtype, Vec<usize>, Vec<u8>)> = tensors.iter().map(|(name, tensor)| raw(name, tensor)).collect();
    let views = held
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("bytes of that shape")));
    let bytes = safetensors::serialize(views, None).map_err(|e| Error::Unreadable { path: path.into(), fact: e.to_string() })?;
    let beside = path.with_extension("partial");
    let save = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    save().map_err(|source| Error::Io { path: path.into(), source })
}

fn raw<'a>(name: &'a String, tensor: &Tensor) -> (&'a String, Dtype, Vec<usize>, Vec<u8>) {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let shape = tensor.size().iter().map(|&d| d as usize).collect();
    let n = tensor.numel();
    let (dtype, bytes) = match tensor.kind() {
        Kind::Float => {
            let mut values = vec![0_f32; n];
            tensor.copy_data(&mut values, n);
            (Dtype::F32, values.into_iter().flat_map(f32::to_le_bytes).collect())
        }
        Kind::Int64 => {
            let mut values = vec![0_i64; n];
            tensor.copy_data(&mut values, n);
            (Dtype::I64, values.into_iter().flat_map(i64::to_le_bytes).collect())
        }
        Kind::Uint8 => {
            let mut values = vec![0_u8; n];
            tensor.copy_data(&mut values, n);
            (Dtype::U8, values)
        }
        other => panic!("{name} is {other:?}"),
    };
    (name, dtype, shape, bytes)
}

/// Reads a safetensors file of 32-bit floats, 64-bit integers and bytes, onto the CPU.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] for a broken file or another element type.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let unreadable = |fact: String| Error::Unreadable { path: path.into(), fact };
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| unreadable(e.to_string()))?;
    let one = |(name, view): (String, TensorView)| {
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            Dtype::U8 => Kind::Uint8,
            other => return Err(unreadable(format!("tensor {name} is {other:?}, F32, I64 or U8 is needed"))),
        };
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|e| unreadable(e.to_string()))?;
        Ok((name, tensor))
    };
    tensors.tensors().into_iter().map(one).collect()
}
