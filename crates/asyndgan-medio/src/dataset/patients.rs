//! The patients of cases: from their names, or from a file. Cases of one patient must not be split.

use std::{collections::BTreeMap, path::Path};

use super::DataSet;
use crate::{Error, files};

/// The file that names the patient of a case in any layout: a line `case = "patient"` for each.
const FILE: &str = "patients.toml";

/// The patient of a case, as far as its name shows: `BraTS-GLI-00000-000` is a visit of `BraTS-GLI-00000`, and
/// `TCGA-18-5592-01Z-00-DX1` is a slide of `TCGA-18-5592`. Otherwise, the name of the case.
pub(super) fn of_name(id: &str) -> String {
    known_of_name(id).unwrap_or_else(|| id.to_owned())
}

fn known_of_name(id: &str) -> Option<String> {
    let parts: Vec<&str> = id.split('-').collect();
    match parts[0] {
        "BraTS" if parts.len() > 3 => Some(parts[..parts.len() - 1].join("-")),
        "TCGA" if parts.len() > 3 => Some(parts[..3].join("-")),
        // BraTS 2017 to 2021 have one case per patient.
        _ if is_brats_before_2022(id) => Some(id.to_owned()),
        _ => None,
    }
}

/// Whether a name is that of BraTS 2017 to 2021, such as `Brats18_CBICA_ALU_1` or `BraTS2021_00000`.
fn is_brats_before_2022(id: &str) -> bool {
    let id = id.to_ascii_lowercase();
    let year = id.strip_prefix("brats").and_then(|rest| rest.split_once('_')).map(|(year, _)| year);
    year.is_some_and(|year| matches!(year, "17" | "18" | "19" | "20" | "2021"))
}

/// Assigns the patients of `patients.toml`, if the folder has one, and notes whether all patients are known.
pub(super) fn apply(found: &mut DataSet) -> Result<(), Error> {
    let path = found.folder.join(FILE);
    if path.is_file() {
        let text = String::from_utf8(files::read(&path)?).map_err(|e| Error::unsupported(&path, format!("{e}; write it as UTF-8")))?;
        let patients = toml::from_str(text.trim_start_matches('\u{feff}'));
        let patients = patients.map_err(|e| Error::unsupported(&path, format!("{}; correct it", e.to_string().trim())))?;
        assign(found, &path, patients)?;
        found.skipped.retain(|skipped| skipped.path != path);
    }
    let is_known = |id: &str, patient: &str| patient != id || known_of_name(id).is_some();
    found.are_patients_known |= found.cases.iter().all(|case| is_known(&case.id, &case.patient));
    Ok(())
}

/// Assigns patients to cases. A file that names the patient of every case says so also where both names are equal.
pub(super) fn assign(found: &mut DataSet, path: &Path, mut patients: BTreeMap<String, String>) -> Result<(), Error> {
    if let Some(odd) = patients.iter().flat_map(|(case, patient)| [case, patient]).find(|name| name.chars().any(char::is_control)) {
        return Err(Error::unsupported(path, format!("the name {odd:?} of a case or a patient contains control characters; remove them")));
    }
    found.are_patients_known = found.cases.iter().all(|case| patients.contains_key(&case.id));
    for case in &mut found.cases {
        if let Some(patient) = patients.remove(&case.id) {
            case.patient = patient;
        }
    }
    match patients.into_keys().next() {
        Some(case) => {
            Err(Error::unsupported(path, format!("it names the patient of {case:?}, but there is no such case; use names without endings")))
        }
        None => Ok(()),
    }
}
