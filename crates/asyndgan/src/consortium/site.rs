use std::{fs, io::Write as _, path::Path};

use anyhow::{Context, Result, anyhow};
use asyndgan_medio::CaseSet;
use asyndgan_models::set_threads;
use asyndgan_protocol::{ConditionPolicy, Stream};
use asyndgan_training::{Pairs, SiteTrainer};
use asyndgan_transport::{GrpcSite, Identity, Journal, Ledger, SiteNews, SiteRecords, run_site};
use rand::{Rng as _, SeedableRng as _};
use tch::Tensor;

use super::{compare::Alternatives, config::SiteConfig, folder::lock};
use crate::{
    progress::Progress,
    recombine::recombined,
    run_folder::{device, write_json},
};

/// Plays a site's part of a run over the network, to its end.
pub(crate) fn site(config: &Path) -> Result<()> {
    let config = SiteConfig::read(config)?;
    let _lock = lock(&config.folder)?;
    let identity = Identity::read(&config.bundle)?;
    let name = identity.facts().name.clone();
    let mut trainer = trainer(&config)?;
    let journal = Journal::open(&config.folder.join("journal.jsonl"))?;
    let mut records = SiteRecords { ledger: Ledger::kept_in(&config.folder.join("ledger.csv"))?, journal: Some(journal) };
    let dial =
        GrpcSite { server: config.server.clone(), identity, patience: config.absence()?, keep_alive: config.keep_alive()?, clock: None };
    let mut link = dial.start()?;
    let mut bar: Option<Progress> = None;
    let mut said = String::new();
    let folder = &config.folder;
    let played = run_site(config.policy.clone(), &mut link, &mut trainer, &mut records, |news, trainer| {
        let tell = |bar: &Option<Progress>, text: &str| bar.as_ref().map_or_else(|| eprintln!("{text}"), |bar| bar.say(text));
        match news {
            SiteNews::Connected => {
                said.clear();
                tell(&bar, &format!("{name}: connected to {}", config.server));
            }
            SiteNews::Lost(reason) if said != reason => {
                said = reason.into();
                tell(&bar, &format!("{name}: no connection ({reason}); trying again"));
            }
            SiteNews::Accepted(run) if bar.is_none() => {
                tell(&bar, &format!("{name}: takes part in {:?}, {} rounds", run.name, run.rounds));
                bar = Some(Progress::new(&name, run.rounds));
                let written = Alternatives::at_site(run, trainer).and_then(|a| write_json(&folder.join("alternatives.json"), &a));
                if let Err(error) = written {
                    tell(&bar, &format!("{name}: no comparison with alternatives: {error:#}"));
                }
            }
            SiteNews::Begun { rounds_done } => {
                for path in trainer.damaged() {
                    tell(&bar, &format!("{} is damaged: the checkpoint before it is used", path.display()));
                }
                tell(&bar, &format!("{name}: goes on from round {rounds_done}"));
                if let Some(bar) = &mut bar {
                    bar.set(rounds_done);
                }
            }
            SiteNews::Round { rounds_done } => {
                if let Some(bar) = &mut bar {
                    bar.set(rounds_done);
                }
            }
            _ => {}
        }
    });
    played.with_context(|| name.clone())?;
    eprintln!("{name}: finished; what left this site stands in {}", config.folder.join("journal.jsonl").display());
    Ok(())
}

/// The site's data and networks, with the masks that its policy lets out.
pub(super) fn trainer(config: &SiteConfig) -> Result<SiteTrainer> {
    let device = device(&config.device)?;
    set_threads(1);
    let pairs = Pairs::of_cases(CaseSet::open(std::slice::from_ref(&config.data))?).with_context(|| config.data.display().to_string())?;
    let shared = match config.policy.conditions {
        ConditionPolicy::All => None,
        ConditionPolicy::Recombined => Some(shared(config, &pairs)?),
    };
    Ok(SiteTrainer::new(pairs, shared, config.policy.feedback_norm_max, &config.folder.join("checkpoints"), device))
}

/// Masks put together from several patients', the same at every start, by a secret that stays here.
fn shared(config: &SiteConfig, pairs: &Pairs) -> Result<Tensor> {
    let cases = CaseSet::open(std::slice::from_ref(&config.data))?;
    let patients: Option<Vec<&str>> = (0..cases.len()).map(|case| cases.patient(case)).collect();
    let patients = patients.with_context(|| {
        format!("{} does not say whose every case is, so its masks cannot be re-combined: prepare it again", config.data.display())
    })?;
    recombined(pairs.codes(), &patients, &mut Stream::from_seed(secret(&config.folder)?))
}

fn secret(folder: &Path) -> Result<[u8; 32]> {
    let path = folder.join("recombine.secret");
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if !path.exists() {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let beside = path.with_extension("partial");
        let save = || {
            let mut file = options.open(&beside)?;
            file.write_all(&rand::rng().random::<[u8; 32]>())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        save().with_context(|| format!("cannot write {}", path.display()))?;
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    bytes.try_into().map_err(|_| anyhow!("{} is damaged: remove it, and begin a new run", path.display()))
}
