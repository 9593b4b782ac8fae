//! Attacks on a finished run, and a page about what they found, for a hospital's security officer.

mod copies;
mod masks;
mod membership;
mod page;
mod reconstruction;
mod structure;
mod subjects;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use asyndgan_data::CaseSet;
use asyndgan_files::{Access, write};
use asyndgan_paper::{Arm, AuditRecord, MembershipRecord, Step};
use asyndgan_privacy::MembershipTest;
use ndarray::ArrayView2;

use self::{
    masks::Released,
    membership::{synthetic, with_generator, with_synthetic_set},
    reconstruction::Attacked,
    subjects::Members,
};
use crate::{
    configure,
    files::{read_json, write_json},
    network_file::GeneratorFile,
    progress::Progress,
    run::{RunFolder, made},
};

/// Synthetic images that are searched, at most.
const SYNTHETIC_MAX: usize = 4_000;

/// Patients whose membership is tested, at most.
const MEMBERS_MAX: usize = 200;

/// What the attacker of the synthetic images has.
pub(crate) const SYNTHETIC_SET: &str = "the synthetic images alone and the patient's image";

/// An audit of one arm of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuditJob {
    /// The run folder, with prepared images.
    pub run: PathBuf,
    /// The arm whose generator is attacked.
    pub arm: Arm,
    /// The seed of the arm.
    pub seed: u64,
    /// Prepared cases of the site whose feedback is attacked; the run's site with the most patients by default.
    pub site: Option<PathBuf>,
    /// Answers about each image in an attack on feedback. 0 leaves these attacks out, which take the longest.
    pub answers: u64,
    /// The page to write. A record (`.json`) and pictures are written beside it.
    pub out: PathBuf,
}

impl AuditJob {
    /// An audit of `AsynDGAN` with the first seed, with 60 answers about each image.
    pub fn new(run: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), arm: Arm::AsynDgan, seed: 0, site: None, answers: 60, out: out.into() }
    }

    /// Carries out all attacks, and writes the page and the record.
    ///
    /// # Errors
    /// If the folder is not that of a run with images, the arm has no synthetic images, or a file cannot be read or
    /// written.
    pub fn audit(&self) -> Result<AuditRecord> {
        ensure!(self.out.extension().is_some_and(|e| e == "html"), "{}: the page needs a name that ends in .html", self.out.display());
        let record = self.out.with_extension("json");
        let is_audit = !record.exists() || read_json::<AuditRecord>(&record).is_ok();
        ensure!(is_audit, "the record of the audit would replace {}, which is another file: choose another name", record.display());
        let folder = RunFolder::open_to_read(&self.run)?;
        let task = configure::task(&folder.run)?;
        let crop = folder.run.settings.data.crop;
        let (Members { subjects: members, patients: at_sites, unknown_patients }, others) =
            (subjects::members(&folder, MEMBERS_MAX)?, subjects::others(&folder)?);
        ensure!(
            members.len() > 1 && others.len() > 1,
            "{}: an audit needs at least two patients with names at the sites and two that are held out; there are {} and {}",
            self.run.display(),
            members.len(),
            others.len()
        );
        let place = Step::folder(&folder.path, self.arm, self.seed);
        let generator = GeneratorFile::open(&place.join("generator.safetensors"), folder.device)?;
        let generate = |mask: ArrayView2<u8>, count, seed| generator.images(mask, &[], count, seed);
        let mut bar = Progress::new("attack: membership from the generator", (members.len() + others.len()) as u64);
        let (mut membership, mut left_out) = (Vec::new(), Vec::new());
        let found = with_generator(&members, &others, crop, generator.sites(), &generate, |done| bar.set(done))?;
        membership.extend(found.map(|test| tested("the generator and the patient's image and mask", test)));
        let set = CaseSet::open(&[made(&folder, self.arm, self.seed)?])?;
        let (searched, _) = synthetic(&set, crop, SYNTHETIC_MAX)?;
        let found = with_synthetic_set(&members, &others, crop, &searched);
        membership.extend(found.map(|test| tested(SYNTHETIC_SET, test)));
        let picture = self.out.with_extension("copies.png");
        let copies = copies::copies(task, &members, &others, &set, crop, &picture)?;
        let released = Released::new(task, &members, self.seed, &mut left_out)?;
        let masks = released.membership(&members, &others);
        let attributes = released.attributes(task, &members, &others, &mut left_out);
        let mut reconstruction = Vec::new();
        if self.answers == 0 {
            left_out.push("attacks on feedback: the number of answers is 0".to_owned());
        } else {
            // The site with the most patients tells the most.
            let sites = folder.prepared()?.sites;
            let largest = (1..=sites.len() as u32).rev().max_by_key(|&site| sites[site as usize - 1].patients.len()).unwrap_or(1);
            let data = self.site.clone().unwrap_or_else(|| folder.site(largest));
            let attacked = Attacked::open(&folder.run, &data, self.answers)?;
            let is_private = folder.run.settings.privacy.epsilon.is_some();
            match if is_private { None } else { attacked.membership()? } {
                Some(test) => membership.push(tested("the feedback of every round, and the patient's image and mask", test)),
                None => left_out.push("membership from feedback: the attacked site has fewer than eight patients, or the run trains with differential privacy".to_owned()),
            }
            reconstruction = attacked.reconstructions(&mut left_out);
        }
        let record = AuditRecord {
            data: folder.run.data.as_ref().map_or_else(|| "phantoms".to_owned(), |path| name_of(path)),
            seed: self.seed,
            patients: [at_sites, others.len()],
            tested: members.len(),
            unknown_patients,
            membership,
            masks,
            attributes,
            copies,
            reconstruction,
            left_out,
            versions: folder.provenance(self.arm),
        };
        write_json(&self.out.with_extension("json"), &record)?;
        let page = page::page(&record, &folder.run, &picture)?;
        write(&self.out, Access::Private, page.as_bytes()).with_context(|| format!("cannot write {}", self.out.display()))?;
        Ok(record)
    }
}

/// The record of a membership test.
fn tested(attack: impl Into<String>, test: MembershipTest) -> MembershipRecord {
    let MembershipTest { counts, auc, auc_interval, true_positive_rate, true_positive_rate_interval, .. } = test;
    MembershipRecord { attack: attack.into(), counts, auc, auc_interval, true_positive_rate, true_positive_rate_interval }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
