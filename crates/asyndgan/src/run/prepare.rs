//! The first step of a run: reads or generates the images, and splits them across sites.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::{CaseOrigin, Preparation};
use asyndgan_paper::{DataKind, Experiment, Prepared, PreparedSite, Run, Settings, Step};
use asyndgan_task::SiteLists;
use rayon::prelude::*;

use super::RunFolder;
use crate::{
    configure,
    data::{HELD_OUT, PreparedFolder, RealData, Rule, Selection, own_lists, phantom_name, phantom_stem, phantom_study, read, real},
    files::write_json,
    progress::Progress,
};

/// Reads or generates the images of a run, and splits them across its sites.
///
/// # Errors
/// If a case cannot be used, or a file cannot be written.
pub fn prepare(folder: &RunFolder) -> Result<()> {
    let (place, run) = (folder.path.join("prepared"), &folder.run);
    asyndgan_files::create_private_folder(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let Some(task) = run.task() else {
        return write_json(&folder.proof(Step::Prepare), &toy(run.settings.data.phantoms_per_site));
    };
    let preparation = configure::preparation(task, &run.settings);
    let prepared = match &run.data {
        None => {
            ensure!(run.experiment != Experiment::Custom, "there are phantoms only for the tasks of the paper: name a folder of real data");
            phantoms(&place, &run.settings, preparation, run.validate)?
        }
        Some(path) => {
            let selection = Selection { lists: run.lists.as_ref(), ..Selection::default() };
            let (data, prepared) = read(&place, path, selection, preparation)?;
            if let Some(ignore) = data.task.ignore.filter(|_| task.ignore.is_none()) {
                bail!(
                    "{} marks label {ignore} as not annotated, which this task would score as background; use a task file with ignore = {ignore}",
                    path.display()
                );
            }
            let (lists, rule) = lists(run, &data)?;
            real(prepared, &data, &lists, run.settings.data.sites as usize, rule, run.validate)?
        }
    };
    write_json(&folder.proof(Step::Prepare), &prepared)
}

/// The lists by which a run assigns cases to sites: the user's own, or those of the paper.
fn lists(run: &Run, data: &RealData) -> Result<(SiteLists, Rule)> {
    match &run.lists {
        Some(lists) => Ok((own_lists(lists.clone(), data, run.settings.data.sites as usize)?, Rule::OwnLists)),
        None => Ok((run.experiment.lists().unwrap_or_default(), Rule::Lists)),
    }
}

/// Artificial patients: each site has its own scanner or stain; held-out patients use the scanners or stains of all
/// sites in turn.
fn phantoms(place: &Path, settings: &Settings, preparation: Preparation, validate: bool) -> Result<Prepared> {
    let (sites, each, held_out) = (settings.data.sites as usize, settings.data.phantoms_per_site, settings.data.phantoms_held_out);
    ensure!(each > 0 && held_out > 0, "data.phantoms_per_site and data.phantoms_held_out must be at least 1 without real data");
    let mut bar = Progress::new("prepare data", (sites * each + held_out) as u64);
    let (mut prepared, images) = (PreparedFolder::new(place), preparation.description());
    let together = rayon::current_num_threads();
    let all: Vec<(usize, usize)> = (0..sites).flat_map(|site| (0..each).map(move |number| (site, number))).collect();
    let (mut names, mut done) = (Vec::new(), 0);
    for some in all.chunks(together) {
        let make = |&(site, number): &(usize, usize)| preparation.cases(&phantom_study(site, number, 0, preparation));
        let made: Vec<_> = some.par_iter().map(make).collect();
        for (&(site, number), cases) in some.iter().zip(made) {
            let name = phantom_name(site, number, 0);
            let origin = CaseOrigin::default().with(|origin| {
                origin.patient = Some(&name);
                origin.images = Some(&images);
            });
            prepared.put_cases(&phantom_stem(&name, preparation), origin, || Ok(cases))?;
            names.push(name);
            if number + 1 == each {
                prepared.close_site(format!("phantom_site_{site}"), std::mem::take(&mut names))?;
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
            prepared.put_test_case(&phantom_stem(&name, preparation), || Ok(case))?;
            test.push(name);
            done += 1;
            bar.set(done);
        }
    }
    prepared.finish(DataKind::Phantom, test, Vec::new())
}

fn toy(values: usize) -> Prepared {
    let site = |i: usize| PreparedSite { name: format!("gaussian_{i}"), patients: vec![format!("gaussian_{i}")], cases: values };
    Prepared {
        kind: DataKind::Toy,
        sites: (1..=asyndgan_training::toy::SITES.len()).map(site).collect(),
        test: vec!["mixture".into()],
        test_patients: BTreeMap::new(),
    }
}
