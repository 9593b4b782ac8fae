//! `Tissue Images/NAME.tif` with `Instance Labels/NAME.png` or `Annotations/NAME.xml`.

use std::path::{Path, PathBuf};

use super::{CaseFiles, DataSet, Layout, PICTURES, Split, ends, stem};
use crate::{Error, files};

fn images(entries: &[PathBuf]) -> Option<&PathBuf> {
    entries.iter().find(|e| ends(e, &["tissue images"]) && e.is_dir())
}

pub(super) fn fits(entries: &[PathBuf]) -> bool {
    images(entries).is_some()
}

pub(super) fn find(folder: &Path, entries: &[PathBuf]) -> Result<DataSet, Error> {
    let images = images(entries).map_or_else(|| folder.join("Tissue Images"), PathBuf::clone);
    let mut cases = Vec::new();
    for image in files::entries(&images)?.into_iter().filter(|p| ends(p, &PICTURES)) {
        let id = stem(&image);
        let annotation = folder.join("Annotations").join(format!("{id}.xml"));
        // An instance map is preferred to an annotation: it needs no rasterising.
        let maps = PICTURES.iter().map(|e| folder.join("Instance Labels").join(format!("{id}{e}")));
        let labels = maps.chain([annotation.clone()]).find(|p| p.is_file());
        let missing = if labels.is_none() { vec![annotation] } else { Vec::new() };
        cases.push(CaseFiles { patient: super::patient(&id), id, split: Split::Train, images: vec![image], labels, missing });
    }
    let channels = ["red", "green", "blue"].map(str::to_owned).to_vec();
    Ok(DataSet { folder: folder.into(), layout: Layout::Monuseg, channels, labels: [].into(), cases })
}
