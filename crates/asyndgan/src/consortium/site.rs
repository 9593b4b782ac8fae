use std::path::Path;

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Access, write};
use asyndgan_medio::CaseSet;
use asyndgan_models::set_threads;
use asyndgan_protocol::{ConditionPolicy, Role, SiteId, SiteRandomness, SiteSecret, SiteWork as _};
use asyndgan_training::{Pairs, SiteOptions, SiteTrainer};
use asyndgan_transport::{Consent, GrpcSite, Journal, Ledger, Receipts, Signer, SiteNews, SiteRecords, run_site};
use tch::Tensor;

use super::{compare::Alternatives, config::SiteConfig, folder::lock, secret::secret};
use crate::{progress::Progress, recombine::recombined, run_folder::device};

/// Plays a site's part of a run over the network, to its end.
pub(crate) fn site(config: &Path) -> Result<()> {
    let config = SiteConfig::read(config)?;
    let _lock = lock(&config.folder)?;
    let identity = config.identity()?;
    let name = identity.facts().name.clone();
    let mut trainer = trainer(&config, &config.folder.join("checkpoints"))?;
    let journal = config.folder.join("journal.jsonl");
    // First the chain: what cannot be relied on limits nothing.
    let consent = Consent::kept_in(&config.folder, config.approval);
    ensure!(
        journal.exists() || consent.approved()?.is_none_or(|run| run.site.is_none()),
        "{} is missing, and this site has taken part in a run: restore it, or begin in a new folder",
        journal.display()
    );
    let history = Journal::history(&journal, trainer.patients())?;
    let mut records = SiteRecords {
        ledger: Ledger::kept_in(&config.folder.join("ledger.csv"))?,
        journal: Some(Journal::open(&journal)?),
        consent: Some(consent),
        signer: Some(Signer::new(config.identity()?, Receipts::open(&Receipts::path_of(&journal))?)),
        history: Some(history),
    };
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
                tell(&bar, &format!("{name}: takes part in {:?} ({}), {} rounds", run.name, run.id(), run.rounds));
                bar = Some(Progress::new(&name, run.rounds));
                let written = Alternatives::at_site(run, trainer)
                    .and_then(|a| Ok(write(&folder.join("alternatives.json"), Access::Private, &serde_json::to_vec_pretty(&a)?)?));
                if let Err(error) = written {
                    tell(&bar, &format!("{name}: no comparison with alternatives: {error:#}"));
                }
            }
            SiteNews::Notice(fact) => tell(&bar, &format!("{name}: {fact}")),
            SiteNews::Begun { rounds_done } => {
                for path in trainer.damaged() {
                    tell(&bar, &format!("{} is damaged: the checkpoint before it is used", path.display()));
                }
                tell(&bar, &format!("{name}: {}", super::events::starting(rounds_done)));
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
    eprintln!("{name}: finished; what left this site is listed in {}", config.folder.join("journal.jsonl").display());
    Ok(())
}

/// The site's data and networks, with the masks that its policy lets out, and checkpoints in a folder.
pub(super) fn trainer(config: &SiteConfig, checkpoints: &Path) -> Result<SiteTrainer> {
    let device = device(&config.device)?;
    set_threads(1);
    let pairs = Pairs::of_cases(CaseSet::open(std::slice::from_ref(&config.data))?).with_context(|| config.data.display().to_string())?;
    let secret = secret(&config.folder)?;
    let shared = match config.policy.conditions {
        ConditionPolicy::All => None,
        ConditionPolicy::Recombined => Some(shared(config, &pairs, &secret)?),
    };
    let options = SiteOptions { shared, feedback_norm_max: config.policy.feedback_norm_max, randomness: SiteRandomness::Secret(secret) };
    Ok(SiteTrainer::new(pairs, options, checkpoints, device))
}

/// Masks put together from several patients', the same at every start, by a secret that stays here.
fn shared(config: &SiteConfig, pairs: &Pairs, secret: &SiteSecret) -> Result<Tensor> {
    let cases = CaseSet::open(std::slice::from_ref(&config.data))?;
    let patients: Option<Vec<&str>> = (0..cases.len()).map(|case| cases.patient(case)).collect();
    let patients = patients.with_context(|| {
        format!("{} does not say whose every case is, so its masks cannot be re-combined: prepare it again", config.data.display())
    })?;
    // The same for every run: another combination for each run would reveal the parts.
    recombined(pairs.codes(), &patients, &mut secret.stream(&[0; 32], Role::Recombination, SiteId(0), 0))
}
