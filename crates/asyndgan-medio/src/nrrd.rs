//! NRRD: volumes of 3D Slicer, with the voxels in the same file or in a separate one (`.nhdr`).

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use crate::{
    Error, Volume, files, gzip,
    text_header::{Declared, HEADER_BYTES_MAX, affine_of_lps, beside, numbers, place_beside, shape},
    voxels::{Kind, Storage},
};

/// How voxels are packed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Encoding {
    Raw,
    Gzip,
}

#[derive(Default)]
struct Header<'a> {
    kind: Option<&'a str>,
    dimension: Option<usize>,
    sizes: Option<Vec<u64>>,
    encoding: Option<&'a str>,
    endian: Option<&'a str>,
    space: Option<&'a str>,
    directions: Option<&'a str>,
    origin: Option<&'a str>,
    spacings: Option<&'a str>,
    units: [Option<&'a str>; 2],
    kinds: Option<&'a str>,
    axis_mins: Option<&'a str>,
    data_file: Option<&'a str>,
    skips: bool,
}

/// Reads a volume, without a `space` as if its axes ran to the left, to the back and up, as ITK does.
pub(crate) fn parse<T>(path: &Path, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
    let (declared, encoding, name) = declared(path, bytes)?;
    let outside = name.map(|name| beside(path, &name)).transpose()?;
    let (place, data) = outside.as_ref().map_or((path, split(bytes).1), |(place, bytes)| (place.as_path(), bytes.as_slice()));
    let raw = match encoding {
        Encoding::Raw => Cow::Borrowed(data),
        Encoding::Gzip => Cow::Owned(gzip::inflate(place, data, declared.bytes())?),
    };
    declared.volume(place, &raw, value)
}

/// What a header declares, how its voxels are packed, and the name of their file if it is another.
pub(crate) fn declared(path: &Path, bytes: &[u8]) -> Result<(Declared, Encoding, Option<String>), Error> {
    let wrong = |fact: String| Error::unreadable(path, fact);
    let other = |fact: String| Error::unsupported(path, fact);
    if !bytes.starts_with(b"NRRD000") {
        return Err(wrong("it does not begin with NRRD000".into()));
    }
    let text = std::str::from_utf8(split(bytes).0).map_err(|e| wrong(format!("its header is not text ({e})")))?;
    let header = Header::parse(text);
    let kind = header.kind.ok_or_else(|| wrong("its header has no type".into()))?;
    let kind = kind_named(kind).ok_or_else(|| other(format!("its voxels are of type {kind}; use integers or floats of up to 64 bits")))?;
    let sizes = header.sizes.clone().ok_or_else(|| wrong("its header has no sizes".into()))?;
    if header.dimension != Some(sizes.len()) {
        return Err(wrong(format!("its header has {} sizes, but its dimension is {:?}", sizes.len(), header.dimension)));
    }
    let encoding = match header.encoding.unwrap_or_default().to_ascii_lowercase().as_str() {
        "raw" => Encoding::Raw,
        "gzip" | "gz" => Encoding::Gzip,
        odd => return Err(other(format!("its encoding is {odd:?}; use raw or gzip"))),
    };
    let little = match header.endian {
        Some("little") => true,
        Some("big") => false,
        _ if kind.bytes() == 1 => true,
        found => return Err(wrong(format!("its endian is {found:?}; expected little or big"))),
    };
    if header.skips {
        return Err(other("its header has a line skip or byte skip; write the file without them".into()));
    }
    if header.data_file.is_some_and(|name| name.starts_with("LIST") || name.contains('%')) {
        return Err(other("its voxels are in a list of files; write them to one file".into()));
    }
    let declared = Declared {
        shape: shape(path, &sizes)?,
        affine: header.affine(path, sizes.len())?,
        storage: Storage { kind, little, scaling: None },
    };
    Ok((declared, encoding, header.data_file.map(str::to_owned)))
}

/// The file in which the voxels of a header are, if it is another.
pub(crate) fn data_path(path: &Path) -> Result<Option<PathBuf>, Error> {
    let bytes = files::read(path)?;
    let text = String::from_utf8_lossy(split(&bytes).0).into_owned();
    Header::parse(&text).data_file.map(|name| place_beside(path, name)).transpose()
}

/// The header, and what stands behind the empty line that ends it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let head = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    let ends = [&b"\n\n"[..], b"\n\r\n"].map(|end| head.windows(end.len()).position(|w| w == end).map(|at| (at + 1, at + end.len())));
    let end = ends.into_iter().flatten().min();
    end.map_or((head, &[]), |(text, data)| (&bytes[..text], &bytes[data..]))
}

fn kind_named(name: &str) -> Option<Kind> {
    let name = name.strip_suffix(" int").or(name.strip_suffix("_t")).unwrap_or(name);
    Some(match name {
        "signed char" | "int8" => Kind::I8,
        "uchar" | "unsigned char" | "uint8" => Kind::U8,
        "short" | "signed short" | "int16" => Kind::I16,
        "ushort" | "unsigned short" | "uint16" => Kind::U16,
        "int" | "signed" | "signed int" | "int32" => Kind::I32,
        "uint" | "unsigned" | "unsigned int" | "uint32" => Kind::U32,
        "longlong" | "long long" | "signed long long" | "int64" => Kind::I64,
        "ulonglong" | "unsigned long long" | "uint64" => Kind::U64,
        "float" => Kind::F32,
        "double" => Kind::F64,
        _ => return None,
    })
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Self {
        let mut header = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((field, value)) = line.split_once(": ") else { continue };
            let value = value.trim();
            match field.trim().to_ascii_lowercase().as_str() {
                "type" => header.kind = Some(value),
                "dimension" => header.dimension = value.parse().ok(),
                "sizes" => header.sizes = numbers(value),
                "encoding" => header.encoding = Some(value),
                "endian" => header.endian = Some(value),
                "space" => header.space = Some(value),
                "space directions" => header.directions = Some(value),
                "space origin" => header.origin = Some(value),
                "space units" => header.units[0] = Some(value),
                "units" => header.units[1] = Some(value),
                "kinds" => header.kinds = Some(value),
                "axis mins" | "axismins" => header.axis_mins = Some(value),
                "spacings" => header.spacings = Some(value),
                "data file" | "datafile" => header.data_file = Some(value),
                "line skip" | "lineskip" | "byte skip" | "byteskip" => header.skips |= value != "0",
                _ => {}
            }
        }
        header
    }

    fn affine(&self, path: &Path, axes: usize) -> Result<crate::Affine, Error> {
        let wrong = |what: &str, found: Option<&str>| {
            Error::unsupported(path, format!("its {what} is {}; correct its header", found.unwrap_or("missing")))
        };
        let odd_kind = self.kinds.and_then(|kinds| kinds.split_whitespace().find(|k| !matches!(*k, "domain" | "space" | "none" | "???")));
        if let Some(kind) = odd_kind {
            return Err(Error::unsupported(path, format!("one of its axes is of the kind {kind}; write one value per voxel")));
        }
        for units in self.units.into_iter().flatten() {
            if !units.split('"').all(|unit| matches!(unit.trim(), "" | "mm" | "???")) {
                return Err(Error::unsupported(path, format!("its units are {units}; convert them to mm")));
            }
        }
        if let (Some(mins), None) = (self.axis_mins, self.origin) {
            return Err(Error::unsupported(path, format!("its origin is given as axis mins ({mins}); use space and space origin")));
        }
        // To ITK's frame, which counts to the left and to the back.
        let signs = match self.space.map(str::to_ascii_lowercase).as_deref() {
            Some("right-anterior-superior" | "ras") => [-1.0, -1.0, 1.0],
            Some("left-anterior-superior" | "las") => [1.0, -1.0, 1.0],
            Some("left-posterior-superior" | "lps") | None => [1.0; 3],
            Some(_) => return Err(wrong("space", self.space)),
        };
        let turned = |v: [f64; 3]| -> [f64; 3] { std::array::from_fn(|k| v[k] * signs[k]) };
        let origin = self.origin.map_or(Some([0.0; 3]), vector).ok_or_else(|| wrong("space origin", self.origin))?;
        let steps: Vec<[f64; 3]> = match (self.directions, self.spacings) {
            (Some(text), _) => {
                let steps: Option<Vec<_>> =
                    text.split(')').map(str::trim).filter(|v| !v.is_empty()).map(|v| vector(&format!("{v})"))).collect();
                steps.ok_or_else(|| wrong("space directions", self.directions))?.into_iter().map(turned).collect()
            }
            (None, Some(text)) => {
                let spacings: Vec<f64> = numbers(text).ok_or_else(|| wrong("spacings", self.spacings))?;
                spacings.iter().enumerate().take(3).map(|(axis, s)| std::array::from_fn(|k| if k == axis { *s } else { 0.0 })).collect()
            }
            (None, None) => (0..3).map(|axis| std::array::from_fn(|k| f64::from(u8::from(k == axis)))).collect(),
        };
        if steps.len() < axes.min(3) {
            return Err(wrong("space directions", self.directions.or(self.spacings)));
        }
        affine_of_lps(path, &steps, turned(origin))
    }
}

/// `(x,y,z)`, or `(x,y)` in a plane.
fn vector(text: &str) -> Option<[f64; 3]> {
    let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let mut values: Vec<f64> = inside.split(',').map(|v| v.trim().parse().ok()).collect::<Option<_>>()?;
    if values.len() == 2 {
        values.push(0.0);
    }
    values.try_into().ok()
}
