//! The patients and tiles of a run, one at a time: no more than one is in memory beyond what is prepared of it.

use std::path::Path;

use anyhow::{Result, ensure};
use asyndgan_medio::{BRATS_2018, Case, KUMAR, TestCase, brats, monuseg, phantom, prepare, published_split};
use asyndgan_paper::{DataKind, Settings};
use asyndgan_protocol::{Role, stream};

use crate::sources::share_out;

/// A site's name, its patients' names, and their cases.
pub(crate) struct SiteData {
    pub(crate) name: String,
    pub(crate) patients: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

/// All that a table's arms learn from and are scored on.
pub(crate) struct AllData {
    pub(crate) kind: DataKind,
    pub(crate) sites: Vec<SiteData>,
    pub(crate) test: Vec<TestCase>,
}

/// Real brains of a BraTS folder.
pub(crate) fn real_brains(folder: &Path, settings: &Settings, mut progress: impl FnMut(u64, u64)) -> Result<AllData> {
    let paths = brats::find(folder)?;
    let names: Vec<String> = paths.iter().map(|p| brats::name(p)).collect();
    let (mut cases, mut tests, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for (i, path) in paths.iter().enumerate() {
        let brain = brats::read(path)?;
        let voxel_mm3: f64 = brain.spacing_mm.iter().product();
        sizes.push(brain.labels.iter().filter(|&&l| l > 0).count() as f64 * voxel_mm3);
        cases.push(prepare::brain_cases(&brain, settings.size));
        tests.push(Some(prepare::brain_test_case(&brain, settings.size)));
        progress(i as u64 + 1, paths.len() as u64);
    }
    let (sites, held_out) = share_out(&published_split(BRATS_2018)?, &names, &sizes, settings.sites as usize, folder.into())?;
    let all = collect(DataKind::Brats, &names, sites, &held_out, &mut cases, &mut tests);
    let shown = all.sites.len().min(all.test.len());
    ensure!(
        shown > 0,
        "{}: no training case or no held-out case shows a tumour of {} pixels in any slice; add cases",
        folder.display(),
        prepare::TUMOUR_PIXELS_MIN
    );
    Ok(all)
}

/// Real tiles of a folder in the MoNuSeg layout.
pub(crate) fn real_tiles(folder: &Path, settings: &Settings, mut progress: impl FnMut(u64, u64)) -> Result<AllData> {
    let paths = monuseg::find(folder)?;
    let names: Vec<String> = paths.iter().map(|p| monuseg::name(p)).collect();
    let (mut cases, mut tests, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for (i, path) in paths.iter().enumerate() {
        let tile = monuseg::read(path)?;
        let side = tile.instances.nrows().min(tile.instances.ncols());
        let needed = settings.size * settings.shrink;
        ensure!(side >= needed, "{} has {side} pixels on its shorter side, this profile needs {needed}; leave it out", path.display());
        sizes.push(tile.instances.iter().filter(|&&l| l > 0).count() as f64);
        cases.push(prepare::tile_cases(&tile, settings.size, settings.shrink));
        tests.push(Some(prepare::tile_test_case(&tile, settings.shrink)));
        progress(i as u64 + 1, paths.len() as u64);
    }
    let (sites, held_out) = share_out(&published_split(KUMAR)?, &names, &sizes, settings.sites as usize, folder.into())?;
    Ok(collect(DataKind::Monuseg, &names, sites, &held_out, &mut cases, &mut tests))
}

fn collect(
    kind: DataKind,
    names: &[String],
    sites: Vec<(String, Vec<usize>)>,
    held_out: &[usize],
    cases: &mut [Vec<Case>],
    tests: &mut [Option<TestCase>],
) -> AllData {
    let mut site = |(name, items): (String, Vec<usize>)| SiteData {
        name,
        patients: items.iter().map(|&i| names[i].clone()).collect(),
        cases: items.iter().flat_map(|&i| std::mem::take(&mut cases[i])).collect(),
    };
    let sites = sites.into_iter().map(&mut site).filter(|s| !s.cases.is_empty()).collect();
    AllData { kind, sites, test: held_out.iter().filter_map(|&i| tests[i].take()).filter(|t| !t.images.is_empty()).collect() }
}

/// Artificial brains: every site's under its own scanner, the held-out ones under all in turn.
pub(crate) fn phantom_brains(settings: &Settings, progress: impl FnMut(u64, u64)) -> AllData {
    let brain = |site: usize, number: usize, part: u64| {
        let mut rng = stream(0, Role::Phantom, site as u32, part + number as u64);
        phantom::brain(&format!("phantom-{part}-{site}-{number}"), number, &phantom::Scanner::of_site(site), &mut rng)
    };
    let case = |site: usize, number: usize| prepare::brain_cases(&brain(site, number, 0), settings.size);
    let test = |site: usize, number: usize| prepare::brain_test_case(&brain(site, number, HELD_OUT), settings.size);
    phantoms(settings, case, test, progress)
}

/// Artificial tiles, likewise.
pub(crate) fn phantom_tiles(settings: &Settings, progress: impl FnMut(u64, u64)) -> AllData {
    let side = 3 * settings.size * settings.shrink;
    let tile = |site: usize, number: usize, part: u64| {
        let mut rng = stream(0, Role::Phantom, site as u32, part + number as u64);
        phantom::tile(&format!("phantom-{part}-{site}-{number}"), side, &phantom::Stain::of_site(site), &mut rng)
    };
    let case = |site: usize, number: usize| prepare::tile_cases(&tile(site, number, 0), settings.size, settings.shrink);
    let test = |site: usize, number: usize| prepare::tile_test_case(&tile(site, number, HELD_OUT), settings.shrink);
    phantoms(settings, case, test, progress)
}

/// Where the numbers of held-out phantoms begin: far from those of any site's own.
const HELD_OUT: u64 = 1 << 32;

fn phantoms(
    settings: &Settings,
    cases: impl Fn(usize, usize) -> Vec<Case>,
    test: impl Fn(usize, usize) -> TestCase,
    mut progress: impl FnMut(u64, u64),
) -> AllData {
    let (sites, each, held_out) = (settings.sites as usize, settings.phantoms_per_site, settings.phantoms_held_out);
    let total = (sites * each + held_out) as u64;
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress(done, total);
    };
    let mut site_data = Vec::new();
    for site in 0..sites {
        let mut all = Vec::new();
        for number in 0..each {
            all.extend(cases(site, number));
            step();
        }
        let patients = (0..each).map(|number| format!("phantom-0-{site}-{number}")).collect();
        site_data.push(SiteData { name: format!("phantom_site_{site}"), patients, cases: all });
    }
    let mut held = Vec::new();
    for i in 0..held_out {
        held.push(test(i % sites, i / sites));
        step();
    }
    AllData { kind: DataKind::Phantom, sites: site_data, test: held }
}
