//! Folders in the layout of the `MoNuSeg` download: `Tissue Images/*.tif`, `Annotations/*.xml`, `Instance Labels/*.png`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, Tile, read_annotations, read_instances, read_rgb};

/// Finds the tiles of a folder, sorted by name; each has an annotation or an instance map.
///
/// # Errors
/// [`Error::Empty`], [`Error::Incomplete`] for a tile without labels, [`Error::Io`].
pub fn find(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let images = folder.join("Tissue Images");
    let empty = || Error::Empty { path: folder.into(), looked_for: "Tissue Images/*.tif or *.png (MoNuSeg)" };
    if folder.is_dir() && !images.is_dir() {
        return Err(empty());
    }
    let entries = fs::read_dir(&images).map_err(Error::io(&images))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(&images))?.path();
        if path.extension().is_some_and(|e| ["tif", "tiff", "png"].iter().any(|k| e.eq_ignore_ascii_case(k))) {
            labels(&path)?;
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() { Err(empty()) } else { Ok(found) }
}

enum Labels {
    Map(PathBuf),
    Annotation(PathBuf),
}

/// An instance map is preferred to an annotation: it needs no rasterising.
fn labels(image: &Path) -> Result<Labels, Error> {
    let folder = image.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let map = folder.join("Instance Labels").join(name(image)).with_added_extension("png");
    if map.is_file() {
        return Ok(Labels::Map(map));
    }
    let annotation = folder.join("Annotations").join(name(image)).with_added_extension("xml");
    if annotation.is_file() {
        return Ok(Labels::Annotation(annotation));
    }
    Err(Error::Incomplete { case: name(image), missing: annotation })
}

/// Reads one tile with its nuclei.
///
/// # Errors
/// [`Error::Incomplete`], [`Error::Shape`], [`Error::Unreadable`].
pub fn read(image: &Path) -> Result<Tile, Error> {
    let rgb = read_rgb(image)?;
    let (_, rows, columns) = rgb.dim();
    let (instances, path) = match labels(image)? {
        Labels::Map(path) => (read_instances(&path)?, path),
        Labels::Annotation(path) => (read_annotations(&path, rows, columns)?, path),
    };
    if instances.dim() != (rows, columns) {
        return Err(Error::Shape { path, expected: vec![rows, columns], found: instances.shape().into() });
    }
    Ok(Tile { id: name(image), rgb, instances })
}

/// A tile's name: its file's, without the extension.
pub fn name(image: &Path) -> String {
    image.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
