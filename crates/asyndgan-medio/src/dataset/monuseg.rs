//! `Tissue Images/NAME.tif` with `Instance Labels/NAME.png` or `Annotations/NAME.xml`, or, as the test set comes,
//! `NAME.tif` and `NAME.xml` in one folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{CaseFiles, DataSet, Layout, SkippedFile, Split, patients};
use crate::{Error, Format, files};

/// A folder in the data set, by its name in capital or small letters.
fn folder_named<'a>(entries: &'a [PathBuf], name: &str) -> Option<&'a PathBuf> {
    entries.iter().find(|e| e.file_name().is_some_and(|n| n.eq_ignore_ascii_case(name)) && e.is_dir())
}

fn is_picture(path: &Path) -> bool {
    matches!(Format::from_path(path), Some(Format::Png | Format::Tiff)) && path.is_file()
}

fn is_annotation(path: &Path) -> bool {
    files::ends(path, &[".xml"]) && path.is_file()
}

/// A name without its ending.
fn stem(path: &Path) -> String {
    Format::stem(path).unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
}

/// The pictures and annotations of each name.
fn by_stem(files: &[PathBuf]) -> BTreeMap<String, Vec<&PathBuf>> {
    let mut found = BTreeMap::<String, Vec<&PathBuf>>::new();
    for path in files.iter().filter(|path| is_picture(path) || is_annotation(path)) {
        found.entry(stem(path)).or_default().push(path);
    }
    found
}

pub(super) fn fits(entries: &[PathBuf]) -> bool {
    let drawn: BTreeSet<String> = entries.iter().filter(|e| is_annotation(e)).map(|e| stem(e)).collect();
    folder_named(entries, "tissue images").is_some()
        || !drawn.is_empty() && entries.iter().any(|e| is_picture(e) && drawn.contains(&stem(e)))
}

pub(super) fn find(folder: &Path, entries: &[PathBuf]) -> Result<DataSet, Error> {
    let listed = |name: &str| folder_named(entries, name).map_or(Ok(Vec::new()), |f| files::entries(f));
    let (images, annotations, maps) = if folder_named(entries, "tissue images").is_some() {
        (listed("tissue images")?, listed("annotations")?, listed("instance labels")?)
    } else {
        let (annotations, images) = entries.iter().filter(|e| e.is_file()).cloned().partition(|e| is_annotation(e));
        (images, annotations, Vec::new())
    };
    let is_flat = folder_named(entries, "tissue images").is_none();
    let place = if is_flat {
        folder.to_path_buf()
    } else {
        folder_named(entries, "annotations").cloned().unwrap_or_else(|| folder.join("Annotations"))
    };
    let (maps_of, drawn_of) = (by_stem(&maps), by_stem(&annotations));
    let (mut cases, mut skipped) = (Vec::new(), Vec::new());
    for image in &images {
        if !is_picture(image) {
            skipped.push(SkippedFile::unused(image, "it is not a PNG or TIFF picture"));
            continue;
        }
        let id = stem(image);
        // An instance map is preferred to an annotation: it needs no rasterising.
        let found = maps_of.get(&id).or_else(|| drawn_of.get(&id)).map_or(&[][..], Vec::as_slice);
        if found.len() > 1 {
            let candidates = found.iter().map(|p| p.display().to_string()).collect();
            return Err(Error::Ambiguous { path: folder.into(), candidates });
        }
        let labels = found.first().map(|&path| path.clone());
        let missing = if labels.is_none() { vec![place.join(format!("{id}.xml"))] } else { Vec::new() };
        cases.push(CaseFiles { patient: patients::of_name(&id), id, split: Split::Train, images: vec![image.clone()], labels, missing });
    }
    let used: BTreeSet<&Path> = cases.iter().filter_map(|case| case.labels.as_deref()).collect();
    let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    for path in annotations.iter().chain(&maps).filter(|path| !used.contains(path.as_path())) {
        let has_picture = ids.contains(stem(path).as_str());
        skipped.push(match (has_picture, is_picture(path) || is_annotation(path)) {
            (true, true) => SkippedFile::note(path, "the case's instance map is used instead"),
            (false, true) => SkippedFile::problem(path, "there is no picture with the same name"),
            (_, false) => SkippedFile::unused(path, "it is neither a picture nor an annotation"),
        });
    }
    let known = ["tissue images", "annotations", "instance labels"];
    for path in entries {
        let is_known = path.file_name().is_some_and(|n| known.iter().any(|k| n.eq_ignore_ascii_case(k)));
        if (path.is_dir() && !is_known) || (path.is_file() && !is_flat) {
            skipped.push(SkippedFile::note(path, "it is not part of MoNuSeg's layout"));
        }
    }
    let channels = ["red", "green", "blue"].map(str::to_owned).to_vec();
    Ok(DataSet { channels, skipped, ..DataSet::new(folder, Layout::Monuseg, cases) })
}
