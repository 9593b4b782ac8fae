//! Converts volumes and tiles into the shapes that the networks expect, one at a time, and writes each to its own file
//! in the folder of its site.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::{CaseOrigin, Preparation, disjoint};
use asyndgan_paper::{DataKind, Experiment, Prepared, PreparedSite, Run, Settings, Step};
use asyndgan_protocol::{Role, Stream, stream};
use asyndgan_task::SiteLists;
use rand::Rng;
use rayon::prelude::*;

use crate::{
    configure,
    data::{HELD_OUT, RealData, Selection, phantom_name, phantom_stem, phantom_study},
    progress::Progress,
    run_folder::{RunFolder, write_json},
    shelf::Shelf,
    sources::{Rule, SharedOut, share_out},
};

/// The first step of a run.
pub(crate) fn prepare(folder: &RunFolder) -> Result<()> {
    let (place, run) = (folder.path.join("prepared"), &folder.run);
    asyndgan_files::create_private_folder(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let Some(task) = run.task() else {
        return write_json(&folder.proof(Step::Prepare), &toy(run.settings.phantoms_per_site));
    };
    let preparation = configure::preparation(task, &run.settings);
    let prepared = match &run.data {
        None => {
            ensure!(run.experiment != Experiment::Custom, "there are phantoms only for the tasks of the paper: name a folder of real data");
            phantoms(&place, &run.settings, preparation, run.validate)?
        }
        Some(path) => {
            let data = RealData::open(path, Selection { lists: run.lists.as_ref(), ..Selection::default() }, preparation)?;
            if let Some(ignore) = data.task.ignore.filter(|_| task.ignore.is_none()) {
                bail!(
                    "{} marks label {ignore} as not annotated, which this task would score as background; use a task file with ignore = {ignore}",
                    path.display()
                );
            }
            let (lists, rule) = lists(run, &data)?;
            real(&place, &data, &lists, run.settings.sites as usize, rule, run.validate)?
        }
    };
    write_json(&folder.proof(Step::Prepare), &prepared)
}

/// The lists by which a run assigns cases to sites: the user's own, or those of the paper.
fn lists(run: &Run, data: &RealData) -> Result<(SiteLists, Rule)> {
    match &run.lists {
        Some(lists) => Ok((own_lists(lists.clone(), data, run.settings.sites as usize)?, Rule::OwnLists)),
        None => Ok((run.experiment.lists().unwrap_or_default(), Rule::Lists)),
    }
}

/// Checks the user's own lists: every list becomes a site, and the task has what a site lacks.
pub(crate) fn own_lists(lists: SiteLists, data: &RealData, sites: usize) -> Result<SiteLists> {
    lists.check(&data.task)?;
    let found = lists.sites.len();
    ensure!(found <= sites, "{found} sites are listed, but --sites allows {sites}; use --sites {found}");
    Ok(lists)
}

/// Prepares a folder of real images: writes `place/site-N` and `place/test`, one file per case. Existing files for the
/// same content and recipe are kept. With `validate`, one patient of every site with at least two patients is held out
/// instead of the usual held-out cases.
pub(crate) fn real(place: &Path, data: &RealData, lists: &SiteLists, sites: usize, rule: Rule, validate: bool) -> Result<Prepared> {
    let cases = &data.set.cases;
    let mut bar = Progress::new("prepare data", cases.len() as u64);
    let mut done = 0;
    let mut step = || {
        done += 1;
        bar.set(done);
    };
    let items = data.items();
    let nothing: Vec<&str> = items.iter().filter(|item| item.size == 0.0).map(|item| item.case.as_str()).collect();
    if !nothing.is_empty() {
        eprintln!("note: cases without any label, which add nothing to training: {}", nothing.join(", "));
    }
    let SharedOut { mut sites, mut test } = share_out(lists, items, sites, rule, &data.set.folder)?;
    if validate {
        let patient = |i: usize| cases[i].patient.as_str();
        test = (0..)
            .zip(&mut sites)
            .flat_map(|(site, (_, of))| drawn_patient(of, patient, &mut stream(0, Role::Validation, site, 0)))
            .collect();
        ensure!(
            !test.is_empty(),
            "{}: validation holds out one patient per site, but no site has two patients; add patients",
            data.set.folder.display()
        );
    }
    let patients = |of: &[usize]| of.iter().map(|&i| cases[i].patient.as_str()).collect::<Vec<_>>();
    disjoint(sites.iter().map(|(name, of)| (name.as_str(), patients(of))).chain([("the held-out set", patients(&test))]))?;
    let mut shelf = Shelf::new(place, data.preparation().description());
    for (name, items) in sites {
        for &i in &items {
            let (stem, absent) = (data.stem(&cases[i])?, data.absent(&cases[i]));
            let preparation = Preparation { absent: &absent, ..data.preparation() };
            let origin = CaseOrigin { patient: Some(&cases[i].patient), absent_channels: &preparation.absent_channels(), images: None };
            shelf.put_cases(&stem, origin, || Ok(preparation.cases(&data.read(&cases[i])?)))?;
            step();
        }
        shelf.close_site(name, items.iter().map(|&i| cases[i].id.clone()).collect())?;
    }
    let mut held_out = Vec::new();
    for &i in &test {
        let stem = data.stem(&cases[i])?;
        if shelf.put_test_case(&stem, || Ok(data.preparation().test_case(&data.read(&cases[i])?)))? {
            held_out.push(cases[i].id.clone());
        }
        step();
    }
    ensure!(
        !shelf.is_empty() && !held_out.is_empty(),
        "{}: no training case or no held-out case has a slice with at least {} marked pixels; add cases",
        data.set.folder.display(),
        data.task.marked_pixels_min
    );
    shelf.finish(data.kind(), held_out)
}

/// Removes a random patient from a site that has others. (The last one would have the largest tumour.)
fn drawn_patient<'a>(items: &mut Vec<usize>, patient: impl Fn(usize) -> &'a str, rng: &mut Stream) -> Vec<usize> {
    let patients: BTreeSet<&str> = items.iter().map(|&i| patient(i)).collect();
    if patients.len() < 2 {
        return Vec::new();
    }
    let drawn = patients.iter().nth(rng.random_range(0..patients.len())).copied();
    let (taken, left): (Vec<usize>, Vec<usize>) = items.iter().partition(|&&i| Some(patient(i)) == drawn);
    *items = left;
    taken
}

/// Artificial patients: each site has its own scanner or stain; held-out patients use the scanners or stains of all
/// sites in turn.
fn phantoms(place: &Path, settings: &Settings, preparation: Preparation, validate: bool) -> Result<Prepared> {
    let (sites, each, held_out) = (settings.sites as usize, settings.phantoms_per_site, settings.phantoms_held_out);
    let mut bar = Progress::new("prepare data", (sites * each + held_out) as u64);
    let mut shelf = Shelf::new(place, preparation.description());
    let together = rayon::current_num_threads();
    let all: Vec<(usize, usize)> = (0..sites).flat_map(|site| (0..each).map(move |number| (site, number))).collect();
    let (mut names, mut done) = (Vec::new(), 0);
    for some in all.chunks(together) {
        let make = |&(site, number): &(usize, usize)| preparation.cases(&phantom_study(site, number, 0, preparation));
        let made: Vec<_> = some.par_iter().map(make).collect();
        for (&(site, number), cases) in some.iter().zip(made) {
            let name = phantom_name(site, number, 0);
            let origin = CaseOrigin { patient: Some(&name), ..CaseOrigin::default() };
            shelf.put_cases(&phantom_stem(&name, preparation), origin, || Ok(cases))?;
            names.push(name);
            if number + 1 == each {
                shelf.close_site(format!("phantom_site_{site}"), std::mem::take(&mut names))?;
            }
            done += 1;
            bar.set(done);
        }
    }
    let mut test = Vec::new();
    let all: Vec<(usize, usize)> = (0..held_out).map(|i| (i % sites, i / sites + if validate { held_out } else { 0 })).collect();
    for some in all.chunks(together) {
        let make = |&(site, number): &(usize, usize)| preparation.test_case(&phantom_study(site, number, HELD_OUT, preparation));
        let made: Vec<_> = some.par_iter().map(make).collect();
        for (&(site, number), case) in some.iter().zip(made) {
            let name = phantom_name(site, number, HELD_OUT);
            shelf.put_test_case(&phantom_stem(&name, preparation), || Ok(case))?;
            test.push(name);
            done += 1;
            bar.set(done);
        }
    }
    shelf.finish(DataKind::Phantom, test)
}

fn toy(values: usize) -> Prepared {
    let site = |i: usize| PreparedSite { name: format!("gaussian_{i}"), patients: vec![format!("gaussian_{i}")], cases: values };
    Prepared { kind: DataKind::Toy, sites: (1..=asyndgan_training::toy::SITES.len()).map(site).collect(), test: vec!["mixture".into()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_is_taken_whole_and_never_the_only_one() {
        let names = ["a", "a", "b", "c", "a"];
        let patient = |i: usize| names[i];
        let mut found = BTreeSet::new();
        for seed in 0..30 {
            let mut items = vec![0, 1, 2, 3, 4];
            let taken = drawn_patient(&mut items, patient, &mut stream(seed, Role::Validation, 0, 0));
            let of: BTreeSet<&str> = taken.iter().map(|&i| patient(i)).collect();
            assert!(of.len() == 1 && items.iter().all(|&i| !of.contains(patient(i))) && taken.len() + items.len() == 5);
            found.extend(of);
        }
        assert_eq!(found.len(), 3, "some are never taken");
        let mut only = vec![0, 1, 4];
        assert!(drawn_patient(&mut only, patient, &mut stream(0, Role::Validation, 0, 0)).is_empty() && only.len() == 3);
    }
}
