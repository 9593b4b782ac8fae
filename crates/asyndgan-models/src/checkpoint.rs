use std::{collections::BTreeMap, fs, path::Path};

use asyndgan_files::{Access, write};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::Error;

/// The header key of our notes: a single key, because the format does not preserve the order of several.
const NOTES: &str = "asyndgan";

/// Content of a file's header in addition to names and shapes.
#[derive(Serialize, Deserialize)]
struct Notes {
    /// Of the tensors.
    sha256: String,
    /// What the tensors are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<String>,
}

impl Notes {
    /// `None` for a file without our notes; notes that cannot be parsed mean that the file is damaged.
    fn parse(metadata: &Metadata) -> Result<Option<Self>, serde_json::Error> {
        let notes = metadata.metadata().as_ref().and_then(|all| all.get(NOTES));
        notes.map(|text| serde_json::from_str(text)).transpose()
    }
}

/// Writes named tensors atomically as a safetensors file with a digest in its header: under a temporary name, which is
/// then renamed.
///
/// # Errors
/// [`Error::Io`].
///
/// # Panics
/// For tensors that are neither 32-bit floats, 64-bit integers nor bytes.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), Error> {
    write_with_metadata(path, tensors, None)
}

/// As [`write_tensors`], with a description of the tensors in the header.
///
/// # Errors
/// [`Error::Io`].
///
/// # Panics
/// As [`write_tensors`].
pub fn write_with_metadata(path: &Path, tensors: &BTreeMap<String, Tensor>, about: Option<String>) -> Result<(), Error> {
    let held: Vec<(&String, Dtype, Vec<usize>, Vec<u8>)> = tensors.iter().map(|(name, tensor)| raw(name, tensor)).collect();
    let views = held
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("bytes of that shape")));
    let notes = serde_json::to_string(&Notes { sha256: digest(views.clone()), about }).expect("plain text");
    let bytes = safetensors::serialize(views, Some([(NOTES.to_owned(), notes)].into()))
        .map_err(|e| Error::Unreadable { path: path.into(), fact: e.to_string() })?;
    // Discriminators and masks are about patients. The owner of a generator can make it public.
    write(path, Access::Private, &bytes).map_err(|source| Error::Io { path: path.into(), source })
}

/// SHA-256 over names, types, shapes and elements, in the order of the names.
fn digest<'a>(tensors: impl Iterator<Item = (&'a str, TensorView<'a>)>) -> String {
    let mut hash = Sha256::new();
    for (name, view) in tensors {
        hash.update(format!("{name} {:?} {:?}\n", view.dtype(), view.shape()));
        hash.update(view.data());
    }
    hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
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
        other => panic!("tensor {name} has type {other:?}; expected Float, Int64 or Uint8"),
    };
    (name, dtype, shape, bytes)
}

/// The description in the header of a safetensors file, if it has one.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] for a damaged file.
pub fn read_metadata(path: &Path) -> Result<Option<String>, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let unreadable = |fact: String| Error::Unreadable { path: path.into(), fact };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| unreadable(e.to_string()))?;
    let notes = Notes::parse(&header).map_err(|e| unreadable(e.to_string()))?;
    Ok(notes.and_then(|notes| notes.about))
}

/// Reads a safetensors file of 32-bit floats, 64-bit integers and bytes, onto the CPU.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] for a damaged file, a digest mismatch, or an unsupported element type.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, Error> {
    let unreadable = |fact: String| Error::Unreadable { path: path.into(), fact };
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| unreadable(e.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| unreadable(e.to_string()))?;
    if let Some(notes) = Notes::parse(&header).map_err(|e| unreadable(e.to_string()))? {
        let views: BTreeMap<String, TensorView> = tensors.tensors().into_iter().collect();
        if digest(views.iter().map(|(name, view)| (name.as_str(), view.clone()))) != notes.sha256 {
            return Err(unreadable("its content does not match its digest".into()));
        }
    }
    let one = |(name, view): (String, TensorView)| {
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            Dtype::U8 => Kind::Uint8,
            other => return Err(unreadable(format!("tensor {name} has type {other:?}; expected F32, I64 or U8"))),
        };
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|e| unreadable(e.to_string()))?;
        Ok((name, tensor))
    };
    tensors.tensors().into_iter().map(one).collect()
}
