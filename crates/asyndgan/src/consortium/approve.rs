//! A hospital's consent to a run: what the run is, in plain words, and what it means for privacy.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_files::Lock;
use asyndgan_protocol::{
    ConditionPolicy, LossPolicy, Message, PrivacyBudget, RequestedPrivacy, RequestedTraining, RunDescription, SiteId, SiteSummary,
    SiteWork as _, Symmetry, Waiting, hex,
};
use asyndgan_training::{GanConfig, MASKS, PrivacyLedger};
use asyndgan_transport::{ApprovedRun, Consent, differences};

use super::{
    config::Carrier,
    ended::is_finished,
    folder::{check_owner, lock},
    site_config::SiteConfig,
    trainer::{Purpose, trainer},
};
use crate::{files::is_in_use, privacy};

/// A run that the server or a file describes, for the hospital to decide on.
#[derive(Debug)]
pub struct Proposal {
    config: SiteConfig,
    run: RunDescription,
    allowed: Result<()>,
    consent: Consent,
    text: String,
    /// Held for as long as the decision is pending.
    _lock: Lock,
}

impl Proposal {
    /// Reads the run from the server of a `site.toml`, or from a description file that the operator sent.
    ///
    /// # Errors
    /// If the configuration is not valid, or there is no description.
    pub fn read(config: &Path, description: Option<&Path>) -> Result<Self> {
        let mut config = SiteConfig::read(config)?;
        let run: RunDescription = match description {
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_str(&text).with_context(|| format!("{} is not a run description", path.display()))?
            }
            None => ask(&config)?,
        };
        config.set_run(&run)?;
        ensure!(
            !config.keep_running || !is_finished(&config.folder)?,
            "this site has finished the run {:?}, or the operator has taken it out of it: there is nothing to decide",
            run.name
        );
        let consent = Consent::in_folder(&config.folder, config.approval());
        check_owner(&config.folder)?;
        let lock = match lock(&config.folder) {
            Err(error) if is_in_use(&error) && consent.approved()?.is_some_and(|run| run.site.is_some()) => {
                bail!("this site takes part in the run {:?} now, so there is nothing to decide", run.name)
            }
            lock => lock?,
        };
        let checked = check(&config, &config.folder, &run);
        let mut text = described(&config, &run, checked.as_ref().ok())?;
        for line in compared(&config, &consent, &run)? {
            writeln!(text, "{line}")?;
        }
        let allowed = checked.map(drop);
        Ok(Self { config, run, allowed, consent, text, _lock: lock })
    }

    /// The run in plain words, and what it means for privacy.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks that the policy of the site allows the run.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check(&self) -> Result<()> {
        match &self.allowed {
            Ok(()) => Ok(()),
            Err(refusal) => bail!("{refusal:#}"),
        }
    }

    /// Records that the hospital approves the run; returns the name and the folder of the site.
    ///
    /// # Errors
    /// If the policy does not allow the run, or the decision cannot be written.
    pub fn approve(self) -> Result<(String, PathBuf)> {
        self.check()?;
        self.consent.approve(&self.run)?;
        Ok((self.config.name()?, self.config.folder.clone()))
    }
}

/// The description that the server gives.
fn ask(config: &SiteConfig) -> Result<RunDescription> {
    ensure!(
        config.carrier == Carrier::Grpc,
        "the server is behind a relay, and cannot be asked: give the description.json that the operator sent, with --description"
    );
    match config.grpc_site()?.describe()? {
        Message::Describe { run, .. } => Ok(run),
        _ => bail!("the server did not describe a run; check that both ends run the same version"),
    }
}

/// Whether the policy allows the run on this site's data.
/// The secret of the check is in `folder`.
pub(super) fn check(config: &SiteConfig, folder: &Path, run: &RunDescription) -> Result<(SiteSummary, RequestedTraining)> {
    let mut trainer = trainer(config, folder, Purpose::Check)?;
    let (summary, patients) = (trainer.data().clone(), trainer.patients());
    // The place in the run is not known yet; errors name the first.
    run.check(SiteId(0), &summary)?;
    let training = trainer.inspect(SiteId(0), run)?;
    config.policy.check(run, &training, &summary, &patients)?;
    Ok((summary, training))
}

/// The run in plain words, and what leaves the site.
fn described(config: &SiteConfig, run: &RunDescription, checked: Option<&(SiteSummary, RequestedTraining)>) -> Result<String> {
    let mut text = String::new();
    let policy = &config.policy;
    writeln!(text, "run       {:?}", run.name)?;
    writeln!(text, "hash      {}", hex(&run.sha256()))?;
    writeln!(text, "images    {} channels, {} x {}, cropped to {} x {}", run.channels, run.size, run.size, run.crop, run.crop)?;
    if let Some(images) = GanConfig::from_description(&run.networks).ok().and_then(|networks| networks.images) {
        let names = |of: Vec<&str>| of.join(", ");
        let channels = names(images.task.channels.iter().map(|channel| channel.name.as_str()).collect());
        let classes = names(images.task.classes.iter().map(|class| class.name.as_str()).collect());
        writeln!(text, "task      {}: {channels}; classes {classes}", images.task.name)?;
    }
    let flips = match run.symmetry {
        Symmetry::None => "never flipped",
        Symmetry::Flips => "flipped at random",
        Symmetry::Turns => "flipped and rotated by multiples of 90 degrees at random",
    };
    let waits = match run.waiting {
        Waiting::All => "every round waits for all sites".to_owned(),
        Waiting::Quorum { sites, deadline_ms } => {
            format!("a round needs answers from {sites} sites, and waits up to {deadline_ms} ms for the others")
        }
        Waiting::Staleness { sites, rounds } => {
            format!("a round needs answers from {sites} sites; an answer may be up to {rounds} rounds late")
        }
    };
    writeln!(text, "rounds    {}, {} images each, {flips}; {waits}", run.rounds, run.batch)?;
    writeln!(
        text,
        "tensors   synthetic images as {}, feedback as {}; a checkpoint every {} rounds; seed {}",
        run.synthetic_dtype, run.feedback_dtype, run.checkpoint_every, run.seed
    )?;
    if let Some((_, training)) = checked {
        let RequestedTraining { family, width, spectral_norm, learning_rate, augmentation, .. } = training;
        let norm = if *spectral_norm { "with" } else { "without" };
        writeln!(
            text,
            "trained   a {family} discriminator, {width} channels wide, {norm} spectral norm, learning rate {learning_rate}, on images"
        )?;
        writeln!(text, "          augmented with strength {augmentation}")?;
    }
    writeln!(text)?;
    writeln!(text, "what leaves this site:")?;
    writeln!(
        text,
        "  masks     {}",
        match policy.conditions {
            ConditionPolicy::All => "all of them, as they are, once".to_owned(),
            ConditionPolicy::Deformed => "randomly deformed, once; anyone who has a patient's mask can recognise it".to_owned(),
            ConditionPolicy::Recombined => "recombined from masks of several patients and deformed, once".to_owned(),
            ConditionPolicy::Sampled => {
                format!("drawn from a model of their shapes, with epsilon {} for each patient, once", policy.conditions_epsilon)
            }
        }
    )?;
    let (batch, limit) = (run.batch, policy.feedback_norm_max);
    let real = if checked.is_some_and(|(_, training)| training.privacy.is_some()) {
        "which depends on images of patients drawn at random, possibly of one or none, and on noise".to_owned()
    } else {
        format!("which depends on images of at least {} patients", policy.patients_per_batch_min)
    };
    writeln!(text, "  feedback  one gradient per round for {batch} synthetic images, {real}; with a norm of at most {limit} per image")?;
    writeln!(
        text,
        "  losses    {}",
        match policy.losses {
            LossPolicy::None => "none".to_owned(),
            LossPolicy::Mean { rounds } => format!("their mean over {rounds} rounds, rounded"),
            LossPolicy::Exact => "all".to_owned(),
        }
    )?;
    if let Some((_, training)) = checked {
        describe_privacy(&mut text, config, run, training)?;
    }
    if let Some((summary, _)) = checked.filter(|(_, training)| training.privacy.is_none()) {
        let shown = run.rounds.saturating_mul(run.batch.into()) / u64::from(summary.cases.max(1));
        writeln!(
            text,
            "  each of the {} images is used about {shown} times; the number, size and time of answers are also visible",
            summary.cases
        )?;
    }
    writeln!(
        text,
        "what it means: the server cannot choose the patients of a round, and does not know the weights of this site's discriminator."
    )?;
    writeln!(text, "The generator learns how this site's images look, and may reproduce parts of images that are used often.")?;
    if run.l1_weight != 0.0 {
        writeln!(text, "WARNING: the run has an L1 term: the server can reconstruct real images within a few rounds.")?;
    }
    writeln!(text)?;
    Ok(text)
}

/// What the run's differential privacy guarantees, and what remains of the budget.
fn describe_privacy(text: &mut String, config: &SiteConfig, run: &RunDescription, training: &RequestedTraining) -> Result<()> {
    let Some(RequestedPrivacy { budget: PrivacyBudget { epsilon, delta }, .. }) = training.privacy else {
        writeln!(text, "  privacy   no differential privacy: what can be learnt about a patient is limited, but not bounded by a proof")?;
        return Ok(());
    };
    writeln!(
        text,
        "  privacy   differential privacy for each patient's images: epsilon {epsilon}, delta {delta} for {} rounds;",
        run.rounds
    )?;
    let is_sampled = config.policy.conditions == ConditionPolicy::Sampled;
    let masks = if is_sampled { "masks have an epsilon of their own" } else { "masks are not covered, and leave as described above" };
    writeln!(text, "            {masks}")?;
    let steps = match PrivacyLedger::read(&config.privacy_ledger()) {
        Ok(steps) => steps,
        Err(asyndgan_training::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let spent = privacy::composition(&steps)?;
    // They are drawn when the site takes part for the first time.
    let is_drawn = !is_sampled || steps.iter().any(|step| step.run == MASKS);
    let of_masks = if is_drawn { 0.0 } else { config.policy.conditions_epsilon };
    let (limit, delta) = (config.policy.epsilon_max, config.policy.delta);
    let total = spent.epsilon(delta)?;
    writeln!(text, "            spent before: epsilon {total:.2} at delta {delta}; epsilon_max is {limit}")?;
    if total + of_masks + epsilon > limit {
        writeln!(text, "            WARNING: together, this may exceed epsilon_max; the site then leaves the run before its end")?;
    }
    Ok(())
}

/// Lists the differences from the previous run: the run of this folder, or the latest one in a sibling folder.
fn compared(config: &SiteConfig, consent: &Consent, run: &RunDescription) -> Result<Vec<String>> {
    let before = match consent.approved()? {
        Some(before) => Some((config.folder.clone(), before)),
        None => latest_beside(config),
    };
    let Some((folder, before)) = before else { return Ok(vec!["no run was approved here before".into()]) };
    let changes = differences(&before.description, run);
    let heading = format!("compared with {:?} in {}:", before.description.name, folder.display());
    if changes.is_empty() {
        return Ok(vec![format!("{heading} the same run")]);
    }
    Ok([heading].into_iter().chain(changes.into_iter().map(|change| format!("  {change}"))).collect())
}

fn latest_beside(config: &SiteConfig) -> Option<(PathBuf, ApprovedRun)> {
    let folders = fs::read_dir(config.folder.parent()?).ok()?;
    let approved = folders.flatten().filter_map(|folder| {
        let path = folder.path();
        Some((path.clone(), Consent::in_folder(&path, config.approval()).approved().ok()??))
    });
    approved.max_by_key(|(_, run)| run.unix_ms)
}
