use std::{path::Path, time::SystemTime};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_files::Lock;
use asyndgan_protocol::{Message, Payload, RunDescription, SiteId, SiteSummary, SiteWork as _};
use asyndgan_training::SiteTrainer;
use asyndgan_transport::{Approval, ApprovedRun, Error, Preflight};

use super::{
    config::Carrier,
    dates::date,
    decision::{Decision, decision, for_run},
    folder::{LOCK, lock},
    secret::read_secret,
    site_config::SiteConfig,
    trainer::{Purpose, trainer},
};
use crate::{files::is_in_use, progress::now};

/// If clocks differ by more than this, certificates soon look not yet valid or expired.
const CLOCK_OFF_MAX_S: f64 = 6.0 * 3600.0;
/// A certificate with fewer days left may expire during the run.
const DAYS_LEFT_MIN: i64 = 14;
const DISK_MIN: u64 = 2 << 30;

fn unix_s() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// Runs checks in order and prints each result at once. Checks that depend on a failed one are skipped.
struct Checks<'a> {
    print: &'a mut dyn FnMut(&str),
    failed: u32,
}

impl Checks<'_> {
    fn check<T>(&mut self, what: &str, outcome: Result<(String, T)>) -> Option<T> {
        match outcome {
            Ok((fact, value)) => {
                (self.print)(&format!("ok    {what}: {fact}"));
                Some(value)
            }
            Err(error) => {
                (self.print)(&format!("FAIL  {what}: {error:#}"));
                self.failed += 1;
                None
            }
        }
    }

    fn skip(&mut self, what: &str, reason: &str) {
        (self.print)(&format!("skip  {what}: {reason}"));
    }

    fn end(self) -> Result<()> {
        ensure!(self.failed == 0, "checks failed: {}; fix the problems listed above, and run this command again", self.failed);
        Ok(())
    }
}

/// Checks a site before a run: data, certificate, clock, connection to the server, disk, libtorch, policy, traffic and
/// duration. `print` gets a line for every check when it is done.
///
/// # Errors
/// If the configuration is not valid, or a check failed.
pub fn doctor(path: &Path, print: &mut dyn FnMut(&str)) -> Result<()> {
    let mut checks = Checks { print, failed: 0 };
    let config = checks.check("configuration", SiteConfig::read(path).map(|c| (path.display().to_string(), c)));
    let config = config.context("nothing else can be checked without a valid configuration")?;
    checks.check("certificate", certificate(&config));
    // Held until the end: the estimate would slow a running site down.
    let _lock = checks.check("folder", folder(&config));
    checks.check("disk", disk(&config));
    // The networks of the estimate, and a secret of its own.
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let trainer = checks.check("data and libtorch", data(&config, scratch.path()));
    if config.carrier == Carrier::Relay {
        checks.skip("server", "it is behind a relay, so neither it nor its run can be checked before a job starts");
        return checks.end();
    }
    let server = checks.check("server", preflight(&config)).flatten();
    if let (Some(server), Some(mut trainer)) = (server, trainer) {
        checks.check("clock", clock(&server));
        let run = checks.check("policy", allowed(&config, &server, &mut trainer));
        if let Some((_, run)) = &run {
            match for_run(&config, run).and_then(|of_run| decision(&config, &of_run)) {
                Ok(Decision::AwaitsApproval(fact)) => (checks.print)(&format!("todo  approval: not given yet: {fact}")),
                decided => drop(checks.check("approval", decided.map(|decision| (approval(decision, run), ())))),
            }
        }
        if let Some((site, run)) = run
            && checks.check("data for this run", fits(&trainer, site, &run)).is_some()
        {
            checks.check("estimate", estimate(&mut trainer, site, &run, &server));
        }
    }
    checks.end()
}

/// Checks the site's folder, and locks it if a site has used it. Nothing is created in it.
fn folder(config: &SiteConfig) -> Result<(String, Option<Lock>)> {
    let shown = config.folder.display();
    if !exists(&config.folder)? {
        return Ok((format!("{shown} does not exist yet"), None));
    }
    let lock = match exists(&config.folder.join(LOCK))?.then(|| lock(&config.folder)).transpose() {
        // That is how it should be; only the estimate is slower.
        Err(error) if config.keep_running && is_in_use(&error) => return Ok((format!("{shown} is in use by the site that runs"), None)),
        lock => lock?,
    };
    let secret = if read_secret(&config.folder)?.is_some() { ", and has the site's secret" } else { "" };
    Ok((format!("{shown} is not in use by another process{secret}"), lock))
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().with_context(|| format!("cannot read {}", path.display()))
}

fn certificate(config: &SiteConfig) -> Result<(String, ())> {
    let Some(identity) = config.identity()? else { return Ok(("none: the relay identifies this site".into(), ())) };
    let facts = identity.facts();
    let left = (facts.not_after as f64 - unix_s()) / 86_400.0;
    let (name, from, until) = (&facts.name, date(facts.not_before), date(facts.not_after));
    ensure!(left > 0.0, "the certificate of {name} expired on {until}; ask the server's operator for a new one");
    ensure!(
        facts.not_before as f64 <= unix_s(),
        "the certificate of {name} is not valid before {from}; check that this machine's clock is right"
    );
    ensure!(
        left > DAYS_LEFT_MIN as f64,
        "the certificate of {name} expires on {until}, in {left:.0} days; ask the server's operator for a new one"
    );
    Ok((format!("{name}, valid until {until}"), ()))
}

fn data(config: &SiteConfig, scratch: &Path) -> Result<(String, SiteTrainer)> {
    let trainer = trainer(config, scratch, Purpose::Check)?;
    let SiteSummary { cases, image_dims, .. } = trainer.data();
    Ok((format!("{cases} cases of shape {image_dims:?} in {}", config.data.display()), trainer))
}

/// Free space and write access where the site's folder is, or will be created.
fn disk(config: &SiteConfig) -> Result<(String, ())> {
    let path = std::path::absolute(&config.folder).with_context(|| config.folder.display().to_string())?;
    let mut folder = path.as_path();
    while !exists(folder)? {
        folder = folder.parent().with_context(|| format!("{} has no parent folder", path.display()))?;
    }
    tempfile::tempfile_in(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    let free = fs4::available_space(folder).with_context(|| format!("cannot read the free space of {}", folder.display()))?;
    let shown = format!("{:.1} GB free in {}", free as f64 / 1e9, folder.display());
    ensure!(free >= DISK_MIN, "{shown}, which is too little for checkpoints: free some space, or use a larger disk");
    Ok((shown, ()))
}

fn preflight(config: &SiteConfig) -> Result<(String, Option<Preflight>)> {
    let site = config.grpc_site()?;
    let way = site.proxy_address()?.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
    let server = match site.preflight() {
        Err(Error::NoRun { reason, .. }) => {
            return Ok((format!("{} answers{way}, and has no run now ({reason}): check the policy when it has one", config.server), None));
        }
        asked => asked.with_context(|| {
            format!("{}{way}: check that it is running, and that the firewall allows outgoing connections", config.server)
        })?,
    };
    let (ms, rate) = (server.round_trip.as_secs_f64() * 1e3, server.bytes_per_second * 8.0 / 1e6);
    Ok((format!("{}{way} answers in {ms:.1} ms, about {rate:.0} Mbit/s", config.server), Some(server)))
}

fn clock(server: &Preflight) -> Result<(String, ())> {
    let off = unix_s() - server.round_trip.as_secs_f64() / 2.0 - server.unix_ms as f64 / 1e3;
    ensure!(
        off.abs() < CLOCK_OFF_MAX_S,
        "it differs from the server's clock by {:.1} hours; set it, because the validity of certificates depends on it",
        off / 3600.0
    );
    Ok((format!("{off:+.1} s relative to the server's clock"), ()))
}

fn allowed(config: &SiteConfig, server: &Preflight, trainer: &mut SiteTrainer) -> Result<(String, (SiteId, RunDescription))> {
    let Message::Describe { site, run, .. } = &server.describe else {
        bail!("the server did not describe a run; check that both ends run the same version")
    };
    run.check(*site, trainer.data())?;
    let training = trainer.inspect(*site, run)?;
    let patients = trainer.patients();
    config.policy.check(run, &training, trainer.data(), &patients)?;
    let leaks = if run.l1_weight == 0.0 { "" } else { "; WARNING: its L1 term lets the server reconstruct real images" };
    Ok((format!("allows {:?}, {} rounds{leaks}", run.name, run.rounds), (*site, run.clone())))
}

/// The approval of a run that the site joins, or does not join again.
fn approval(decision: Decision, run: &RunDescription) -> String {
    match decision {
        Decision::Finished => "not needed: this site has finished this run, or left it".into(),
        Decision::Join(Some(ApprovedRun { by: Approval::Administrator, unix_ms, description, .. })) if description == *run => {
            format!("given on {}", date(unix_ms as i64 / 1000))
        }
        _ => "not needed: with approval = \"policy\", nobody is asked".into(),
    }
}

/// Checks that the prepared data fits the run; without that, an estimate would be meaningless.
fn fits(trainer: &SiteTrainer, site: SiteId, run: &RunDescription) -> Result<(String, ())> {
    run.check(site, trainer.data())?;
    Ok((format!("image size and channels match {:?}", run.name), ()))
}

/// Bytes and hours of the whole run, from a few rounds of this site's own work.
fn estimate(trainer: &mut SiteTrainer, site: SiteId, run: &RunDescription, server: &Preflight) -> Result<(String, ())> {
    const ROUNDS: u64 = 3;
    let summary = trainer.data().clone();
    let (to, from) = run.round_bytes(&summary.image_dims);
    let synthetic = Payload::new(run.batch_dims(&summary.image_dims), run.synthetic_dtype, vec![0; to as usize]);
    trainer.begin(site, run, 0)?;
    let mut last = now();
    for round in 0..ROUNDS {
        let patients = trainer.patients();
        let draw = run.round_draw(site, round, &summary, &trainer.randomness(), &patients, 1);
        // The first also warms up.
        last = now();
        trainer.step(round, &draw, &synthetic)?;
    }
    let step_s = last.elapsed().as_secs_f64();
    let way_s = (to + from) as f64 / server.bytes_per_second + server.round_trip.as_secs_f64();
    let hours = run.rounds as f64 * (step_s + way_s) / 3600.0;
    let gigabytes = |bytes: u64| (bytes * run.rounds) as f64 / 1e9;
    Ok((
        format!(
            "{:.2} GB received and {:.2} GB sent in {} rounds; {hours:.1} hours if this site is the slowest \
             (per round {:.2} s of computing and {:.2} s of transfer, without the server's own work)",
            gigabytes(to),
            gigabytes(from),
            run.rounds,
            step_s,
            way_s
        ),
        (),
    ))
}
