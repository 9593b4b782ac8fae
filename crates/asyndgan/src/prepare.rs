use std::fs;

use anyhow::{Context, Result};
use asyndgan_medio::{write_cases, write_test_cases};
use asyndgan_paper::{DataKind, Experiment, Prepared, PreparedSite, Step};

use crate::{
    data,
    progress::Progress,
    run_folder::{RunFolder, write_json},
};

/// Reads or makes the images and leaves one file a site, so that a site's part of a run opens its own cases only.
pub(crate) fn prepare(folder: &RunFolder) -> Result<()> {
    let place = folder.path.join("prepared");
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let settings = &folder.run.settings;
    let mut bar = None;
    let progress = |done, total| bar.get_or_insert_with(|| Progress::new("prepare data", total)).set(done);
    let all = match (folder.run.experiment, &folder.run.data) {
        (Experiment::Fig5, _) => return write_json(&folder.proof(Step::Prepare), &toy(settings.phantoms_per_site)),
        (Experiment::Table1, Some(path)) => data::real_brains(path, settings, progress)?,
        (Experiment::Table1, None) => data::phantom_brains(settings, progress),
        (Experiment::Table2, Some(path)) => data::real_tiles(path, settings, progress)?,
        (Experiment::Table2, None) => data::phantom_tiles(settings, progress),
    };
    let mut sites = Vec::new();
    for (i, site) in (1..).zip(all.sites) {
        write_cases(&folder.site_file(i), &site.cases)?;
        sites.push(PreparedSite { name: site.name, patients: site.patients, cases: site.cases.len() });
    }
    write_test_cases(&folder.test_file(), &all.test)?;
    let test = all.test.into_iter().map(|t| t.id).collect();
    write_json(&folder.proof(Step::Prepare), &Prepared { kind: all.kind, sites, test })
}

fn toy(values: usize) -> Prepared {
    let site = |i: usize| PreparedSite { name: format!("gaussian_{i}"), patients: vec![format!("gaussian_{i}")], cases: values };
    Prepared { kind: DataKind::Toy, sites: (1..=asyndgan_training::toy::SITES.len()).map(site).collect(), test: vec!["mixture".into()] }
}
