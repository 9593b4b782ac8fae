//! The patients of an audit: those whose images were used, and those that were held out.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::{Context, Result, ensure};
use asyndgan_data::{Case, CaseSet};
use asyndgan_medio::CaseFiles;
use asyndgan_task::SiteLists;

use crate::{
    configure,
    data::{HELD_OUT, RealData, Selection, phantom_name, phantom_study},
    run::RunFolder,
};

/// Images of one patient that are looked at, evenly spread over all.
pub(super) const IMAGES_MAX: usize = 16;

/// A patient.
pub(crate) struct Subject {
    /// The site, from 0; `None` for patients that were held out.
    pub(crate) site: Option<u32>,
    pub(crate) cases: Vec<Case>,
}

/// The patients whose images were used.
pub(crate) struct Members {
    /// Those that are tested, evenly spread.
    pub(crate) subjects: Vec<Subject>,
    /// How many there are.
    pub(crate) patients: usize,
    /// Cases of unknown patients, which are left out.
    pub(crate) unknown_patients: usize,
}

/// The patients whose images were used, of whom at most `limit` are read.
pub(crate) fn members(folder: &RunFolder, limit: usize) -> Result<Members> {
    let (mut subjects, mut count, mut unknown_patients) = (Vec::new(), 0, 0);
    let (sites, mut left) = (folder.prepared()?.sites.len(), limit);
    for site in 0..sites as u32 {
        let set = CaseSet::open(&[folder.site(site + 1)])?;
        let mut patients = BTreeMap::<&str, Vec<usize>>::new();
        for case in 0..set.len() {
            match set.patient(case) {
                Some(patient) => patients.entry(patient).or_default().push(case),
                None => unknown_patients += 1,
            }
        }
        count += patients.len();
        // An equal share of what the sites before have left.
        let kept = patients.len().min(left.div_ceil(sites - site as usize));
        left -= kept;
        let chosen: BTreeSet<usize> = (0..kept).map(|k| k * patients.len() / kept).collect();
        for (_, numbers) in patients.values().enumerate().filter(|(k, _)| chosen.contains(k)) {
            let cases = spread(numbers.len()).map(|k| set.read(numbers[k])).collect::<Result<_, _>>()?;
            subjects.push(Subject { site: Some(site), cases });
        }
    }
    Ok(Members { subjects, patients: count, unknown_patients })
}

/// The patients that were held out, prepared as those that were used.
pub(crate) fn others(folder: &RunFolder) -> Result<Vec<Subject>> {
    let (run, names) = (&folder.run, folder.prepared()?.test);
    let task = configure::task(run)?;
    let preparation = configure::preparation(task, &run.settings);
    let mut patients = BTreeMap::<String, Vec<Case>>::new();
    let Some(path) = &run.data else {
        ensure!(!run.validate, "an audit needs a run without --validate: its held-out patients are not of the sites");
        let sites = run.settings.data.sites as usize;
        for i in 0..run.settings.data.phantoms_held_out {
            let (site, number) = (i % sites, i / sites);
            patients.insert(phantom_name(site, number, HELD_OUT), preparation.cases(&phantom_study(site, number, HELD_OUT, preparation)));
        }
        return Ok(patients.into_values().filter_map(subject).collect());
    };
    let lists = SiteLists { test: names, ..SiteLists::default() };
    let found = RefCell::new(patients);
    RealData::open(path, Selection { lists: Some(&lists), ..Selection::default() }, preparation, |data, case: &CaseFiles, _, study| {
        found.borrow_mut().entry(case.patient.clone()).or_default().extend(data.preparation().cases(study));
        Ok(())
    })
    .with_context(|| format!("cannot read the held-out cases of {}", path.display()))?;
    Ok(found.into_inner().into_values().filter_map(subject).collect())
}

fn subject(cases: Vec<Case>) -> Option<Subject> {
    let numbers: Vec<usize> = spread(cases.len()).collect();
    let cases: Vec<Case> = cases.into_iter().enumerate().filter(|(k, _)| numbers.contains(k)).map(|(_, case)| case).collect();
    (!cases.is_empty()).then_some(Subject { site: None, cases })
}

/// Indices that are evenly spread over a number of cases.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let chosen = count.min(IMAGES_MAX);
    (0..chosen).map(move |k| (2 * k + 1) * count / (2 * chosen))
}
