use std::path::Path;

use anyhow::{Context, Result, ensure};
use asyndgan_models::set_threads;
use asyndgan_paper::{Arm, Step, TrainRecord};
use asyndgan_protocol::{RunDescription, ServerWork as _, SiteId};
use asyndgan_training::ServerTrainer;
use asyndgan_transport::{
    Absences, Control, Error, GrpcServer, Identity, Ledger, Outcome, Receipts, RevocationStatus, ServerLink, ServerRecords, ServerRun,
    differences,
};

use super::{
    amend,
    compare::Alternatives,
    config::Carrier,
    dashboard::{Dashboard, Page},
    events::{Events, Kind},
    folder::create_run_folder,
    notify,
    observer::Observer,
    relay,
    runs::RunProgress,
    server_config::ServerConfig,
};
use crate::{
    configure,
    files::write_json,
    progress::now,
    run::{
        RunFolder,
        train::{traffic, write_results},
    },
};

/// Runs the server of a `run.toml` over the network until the run is finished. `control` stops it.
///
/// # Errors
/// If the configuration is not valid, or the run ends early.
pub fn server(config: &Path, control: &Control) -> Result<()> {
    let config = ServerConfig::read(config)?;
    if config.carrier == Carrier::Relay {
        relay::end_with_relay()?;
    }
    notify::watchdog(control);
    let token_folder = config.folder.clone();
    let outcome = serve_run(&config, &token_folder, control, &mut None)?;
    config.carrier.ends_with(outcome)
}

/// A warning about a site.
const NO_CERTIFICATE: &str = "it has no valid certificate, so it cannot join: asyndgan keys sign, or keys issue";

/// Serves one run. The dashboard shows it; its token is in `token_folder`.
pub(super) fn serve_run(config: &ServerConfig, token_folder: &Path, control: &Control, page: &mut Option<Page>) -> Result<Outcome> {
    let (run, description) = (config.run()?, config.description()?);
    // Before the folder is claimed: without keys, nothing begins.
    config.identity()?;
    let without_certificate = config.keys_folder().map(|keys| config.sites_without_certificate(keys)).unwrap_or_default();
    for site in &without_certificate {
        tracing::warn!("{site}: {NO_CERTIFICATE}");
    }
    create_run_folder(&config.folder, &run)?;
    let folder = RunFolder::open(&config.folder)?;
    RunProgress::reset(&config.folder)?;
    let place = folder.arm(Arm::AsynDgan, config.seed)?;
    let sites = config.sites.len() as u32;
    let (networks, threads) = (configure::gan(&run, Arm::AsynDgan), run.settings.compute.server_threads);
    set_threads(threads);
    let mut trainer = ServerTrainer::new(networks, description.clone(), sites, threads, &place.join("checkpoints"), folder.device)?;
    claim_description(&config.folder.join("description.json"), &description)?;
    let events = Events::open(&config.folder)?;
    amend::carry_out(config, &mut trainer, &events)?;
    let mut records = records(config, &description)?;
    let (mut link, watched) = listen(config, &description, &events)?;
    notify::ready();
    events.note(Kind::Listening, "the server serves the run, and waits for its sites");
    let rounds_done = trainer.checkpoints()?.last().copied().unwrap_or(0);
    let dashboard = show(config, (rounds_done, description.rounds), watched, token_folder, page)?;
    for site in without_certificate {
        dashboard.note(site, NO_CERTIFICATE);
    }
    dashboard.set_retired(&trainer.retired()?);
    let task = configure::task(&folder.run)?;
    let mut observer = Observer::new(config, &description, task, events, dashboard, &place);

    let started = now();
    let serving = ServerRun::new(description.clone(), sites, config.policy()?).with(|run| run.control = control.clone());
    let served = serving.serve(&mut link, &mut trainer, &mut records, |news, trainer, ledger| observer.on_event(&news, trainer, ledger));
    let finish = || -> Result<()> {
        write_results(&folder, &place, &trainer)?;
        let record = TrainRecord {
            seconds: started.elapsed().as_secs_f64(),
            resumed_from_round: observer.resumed_from.unwrap_or(0),
            bytes: traffic(&records.ledger),
            versions: folder.provenance(Arm::AsynDgan),
            events: Events::that_count(&config.folder)?,
        };
        write_json(&folder.proof(Step::Train(Arm::AsynDgan, config.seed)), &record)
    };
    let outcome = served.map_err(|error| with_names(error, &config.sites)).and_then(|outcome| match outcome {
        Outcome::Finished => finish().map(|()| outcome),
        Outcome::Stopped => Ok(outcome),
    });
    match &outcome {
        Ok(Outcome::Finished) => {
            let (done, all) = (observer.rounds_done(), description.rounds);
            let how = if done < all { format!("finished early, after {done} of {all} rounds") } else { "finished".into() };
            observer.end(Kind::Finished, &format!("{how}: {}", place.join("generator.safetensors").display()));
        }
        Ok(Outcome::Stopped) => observer.end(Kind::Stopped, "stopped; the last checkpoint is kept"),
        Err(error) => observer.end(Kind::Failed, &format!("failed: {error:#}")),
    }
    outcome
}

/// Shows the run on the web page of the server, and serves the page if that is configured and not done yet. `rounds`
/// are those that are done, and all.
fn show(config: &ServerConfig, rounds: (u64, u64), watched: Watched, token_folder: &Path, page: &mut Option<Page>) -> Result<Dashboard> {
    let identity = config.identity()?;
    let dashboard = Dashboard::new(config, rounds, watched, identity.as_ref());
    match (page.as_ref(), config.dashboard) {
        (Some(page), _) => page.show(dashboard.clone()),
        (None, Some(address)) => {
            let (served, url) = Page::serve(dashboard.clone(), address, token_folder, identity.as_ref(), None)?;
            tracing::info!("dashboard: {url}");
            *page = Some(served);
        }
        (None, None) => {}
    }
    Ok(dashboard)
}

/// What a dashboard reads from the link to the sites; nothing for a relay.
type Watched = (Option<RevocationStatus>, Option<Absences>);

/// Starts to listen for sites. Refused connections are among the events.
fn listen(config: &ServerConfig, description: &RunDescription, events: &Events) -> Result<(Box<dyn ServerLink>, Watched)> {
    let (Some(identity), Some(keys)) = (config.identity()?, config.keys_folder()) else {
        let link = relay::server(&config.sites)?;
        tracing::info!("listening on {} for a relay of {}", link.address(), config.remaining_sites().join(", "));
        return Ok((Box::new(link), (None, None)));
    };
    let keep_alive = config.keep_alive()?;
    let listener =
        GrpcServer::new(config.listen, identity, keys.join("revoked.pem"), config.sites.clone(), description.clone()).with(|server| {
            server.keep_alive = keep_alive;
            server.ended = config.ended.clone();
        });
    let events = events.clone();
    let link = listener.start(move |fact| {
        tracing::warn!("{fact}");
        events.note(Kind::Refused, fact);
    })?;
    tracing::info!("listening on {} for {}", link.address(), config.remaining_sites().join(", "));
    let watched = (Some(link.revocation_status()), Some(link.absences()));
    Ok((Box::new(link), watched))
}

/// Writes the description of the run, or checks that the folder belongs to the same one: checkpoints of another
/// description would be passed over, and the run would begin again.
fn claim_description(path: &Path, description: &RunDescription) -> Result<()> {
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        return write_json(path, description);
    }
    let before: RunDescription = crate::files::read_json(path)?;
    ensure!(
        before == *description,
        "{} describes another run: {}; undo the change, or use a new folder. If asyndgan was upgraded, finish the run with the earlier \
         version",
        path.display(),
        differences(&before, description).join(", ")
    );
    Ok(())
}

/// The ledger, and the receipts of each site's journal.
fn records(config: &ServerConfig, description: &RunDescription) -> Result<ServerRecords> {
    let identity = config.identity()?;
    let mut ledger = Ledger::open(&config.folder.join("ledger.csv"))?;
    ledger.set_run(description, identity.as_ref().map(Identity::certificate));
    // Receipts are signed with the keys of certificates.
    let Some(identity) = identity else { return Ok(ServerRecords { ledger, receipts: None }) };
    let receipts = |site: &String| Receipts::open(&config.folder.join("receipts").join(format!("{site}.receipts")));
    let receipts = config.sites.iter().map(receipts).collect::<Result<_, _>>()?;
    Ok(ServerRecords { ledger, receipts: Some((identity, receipts)) })
}

/// Adds the configured names of the sites that an error is about.
fn with_names(error: Error, names: &[String]) -> anyhow::Error {
    let sites = if let Error::Protocol(fault) = &error { fault.sites() } else { &[] };
    let named = |site: &SiteId| Some(format!("{site} is {}", names.get(site.0 as usize)?));
    let named: Vec<String> = sites.iter().filter_map(named).collect();
    if named.is_empty() { error.into() } else { anyhow::Error::new(error).context(named.join(", ")) }
}

/// Reads the comparison with other methods from a run folder; `None` before the run has begun.
pub(super) fn alternatives(folder: &Path) -> Result<Option<Alternatives>> {
    let path = folder.join("alternatives.json");
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        return Ok(None);
    }
    crate::files::read_json(&path).map(Some)
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::Waiting;

    use super::*;

    #[test]
    fn a_folder_belongs_to_one_description() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("description.json");
        let run = RunDescription::new("pilot", 100);
        for _ in 0..2 {
            claim_description(&path, &run).expect("the same run");
        }
        let changed = run.with(|run| run.waiting = Waiting::Staleness { sites: 2, rounds: 1 });
        let error = claim_description(&path, &changed).expect_err("another run").to_string();
        assert!(error.contains("waiting") && error.contains("use a new folder"), "{error}");
    }

    #[test]
    fn an_error_names_the_sites_that_it_is_about() {
        let names = ["north".to_owned(), "south".to_owned()];
        let error = with_names(asyndgan_protocol::Error::NoCases { site: SiteId(1) }.into(), &names);
        assert!(format!("{error:#}").starts_with("site 2 is south: site 2 has no cases"), "{error:#}");
        let error = with_names(Error::Keys { fact: "site 1".into() }, &names);
        assert_eq!(format!("{error:#}"), "keys: site 1");
    }
}
