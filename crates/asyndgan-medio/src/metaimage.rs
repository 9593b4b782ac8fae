//! MetaImage, ITK's format: `.mha` with the voxels after the header, `.mhd` with the voxels in a separate file.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    Error, Volume, files, gzip,
    text_header::{Declared, HEADER_BYTES_MAX, affine_of_lps, beside, numbers, place_beside, shape},
    voxels::{Kind, Storage},
};

/// Reads a volume.
pub(crate) fn parse<T>(path: &Path, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
    let Header { declared, compressed, data_file, data } = declared(path, bytes)?;
    let outside = data_file.map(|name| beside(path, &name)).transpose()?;
    let (place, data) = outside.as_ref().map_or((path, data), |(place, bytes)| (place.as_path(), bytes.as_slice()));
    let raw = if compressed { Cow::Owned(gzip::inflate_zlib(place, data, declared.bytes())?) } else { Cow::Borrowed(data) };
    declared.volume(place, &raw, value)
}

/// What a header says of its voxels.
pub(crate) struct Header<'a> {
    pub(crate) declared: Declared,
    compressed: bool,
    /// The file that holds them, if it is another.
    data_file: Option<String>,
    /// What stands behind the header.
    data: &'a [u8],
}

/// What a header declares.
pub(crate) fn declared<'a>(path: &Path, bytes: &'a [u8]) -> Result<Header<'a>, Error> {
    let wrong = |fact: String| Error::unreadable(path, fact);
    let other = |fact: String| Error::unsupported(path, fact);
    let (fields, data) =
        fields(bytes).ok_or_else(|| wrong("it does not begin with a MetaImage header that ends with ElementDataFile".into()))?;
    let text = |names: &[&str]| names.iter().find_map(|name| fields.get(&name.to_ascii_lowercase()).map(String::as_str));
    let is_true = |names: &[&str]| match text(names).and_then(|v| v.chars().next()) {
        None | Some('F' | 'f' | '0') => Ok(false),
        Some('T' | 't' | '1') => Ok(true),
        Some(_) => Err(other(format!("its {} is {}, expected True or False", names[0], text(names).unwrap_or_default()))),
    };
    let axes: usize = text(&["NDims"]).and_then(|v| v.parse().ok()).ok_or_else(|| wrong("its header has no NDims".into()))?;
    let vector = |names: &[&str], length: usize| -> Result<Option<Vec<f64>>, Error> {
        let Some(text) = text(names) else { return Ok(None) };
        let values = numbers::<f64>(text).filter(|v| v.len() == length && v.iter().all(|v| v.is_finite()));
        values.map(Some).ok_or_else(|| other(format!("its {} is {text:?}, expected {length} numbers", names[0])))
    };
    let sizes: Option<Vec<u64>> = text(&["DimSize"]).and_then(numbers);
    let sizes = sizes
        .filter(|s| s.len() == axes)
        .ok_or_else(|| wrong(format!("its DimSize is {:?}, expected {axes} sizes", text(&["DimSize"]))))?;
    let kind = text(&["ElementType"]).unwrap_or("missing");
    let kind = kind_named(kind).ok_or_else(|| other(format!("its ElementType is {kind}; use integers or floats of up to 64 bits")))?;
    if let Some(odd) = [("ElementNumberOfChannels", "1"), ("HeaderSize", "0")]
        .into_iter()
        .find(|(name, usual)| text(&[name]).is_some_and(|v| !v.eq_ignore_ascii_case(usual)))
    {
        return Err(other(format!("its {} is {}, but only {} is supported", odd.0, text(&[odd.0]).unwrap_or_default(), odd.1)));
    }
    if text(&["BinaryData"]).is_some() && !is_true(&["BinaryData"])? {
        return Err(other("its voxels are stored as text (BinaryData); write them as binary".into()));
    }
    let shape = shape(path, &sizes)?;
    let directions = vector(&["TransformMatrix", "Rotation", "Orientation"], axes * axes)?;
    let spacing = vector(&["ElementSpacing", "ElementSize"], axes)?.unwrap_or_else(|| vec![1.0; axes]);
    let origin = vector(&["Offset", "Position", "Origin"], axes)?.unwrap_or_else(|| vec![0.0; axes]);
    // The matrix has the direction of one axis after the other.
    let cosine = |axis: usize, k: usize| {
        directions.as_ref().map_or(f64::from(u8::from(axis == k)), |m| if k < axes { m[axis * axes + k] } else { 0.0 })
    };
    let used = axes.min(3);
    let steps: Vec<[f64; 3]> = (0..used).map(|axis| std::array::from_fn(|k| spacing[axis] * cosine(axis, k))).collect();
    let affine = affine_of_lps(path, &steps, std::array::from_fn(|k| origin.get(k).copied().unwrap_or(0.0)))?;
    let little = !is_true(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])?;
    let declared = Declared { shape, affine, storage: Storage { kind, little, scaling: None } };
    let name = text(&["ElementDataFile"]).unwrap_or_default();
    if name == "LIST" || name.contains('%') {
        return Err(other("its voxels are in a list of files; write them to one file".into()));
    }
    let data_file = (!name.eq_ignore_ascii_case("LOCAL")).then(|| name.to_owned());
    Ok(Header { declared, compressed: is_true(&["CompressedData"])?, data_file, data })
}

/// The file in which the voxels of a header are, if it is another.
pub(crate) fn data_path(path: &Path) -> Result<Option<PathBuf>, Error> {
    let bytes = files::read(path)?;
    let name = fields(&bytes).and_then(|(fields, _)| fields.get("elementdatafile").cloned());
    name.filter(|name| !name.eq_ignore_ascii_case("LOCAL")).map(|name| place_beside(path, &name)).transpose()
}

/// The lines of a header by their names in small letters, up to the one that says where the voxels are, and what stands
/// behind it.
fn fields(bytes: &[u8]) -> Option<(BTreeMap<String, String>, &[u8])> {
    let (mut fields, mut rest) = (BTreeMap::new(), &bytes[..bytes.len().min(HEADER_BYTES_MAX)]);
    loop {
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let (name, value) = std::str::from_utf8(&rest[..end]).ok()?.split_once('=')?;
        rest = rest.get(end + 1..).unwrap_or_default();
        let name = name.trim().to_ascii_lowercase();
        let is_last = name == "elementdatafile";
        fields.insert(name, value.trim().to_owned());
        if is_last {
            let behind = bytes.len().min(HEADER_BYTES_MAX) - rest.len();
            return Some((fields, &bytes[behind..]));
        }
    }
}

fn kind_named(name: &str) -> Option<Kind> {
    Some(match name {
        "MET_CHAR" => Kind::I8,
        "MET_UCHAR" => Kind::U8,
        "MET_SHORT" => Kind::I16,
        "MET_USHORT" => Kind::U16,
        "MET_INT" => Kind::I32,
        "MET_UINT" => Kind::U32,
        "MET_LONG_LONG" => Kind::I64,
        "MET_ULONG_LONG" => Kind::U64,
        "MET_FLOAT" => Kind::F32,
        "MET_DOUBLE" => Kind::F64,
        _ => return None,
    })
}
