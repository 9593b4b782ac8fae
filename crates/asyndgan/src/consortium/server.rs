use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use asyndgan_models::set_threads;
use asyndgan_paper::{Arm, Step, TrainRecord};
use asyndgan_protocol::{RunDescription, SiteId};
use asyndgan_training::ServerTrainer;
use asyndgan_transport::{
    Authority, Error, GrpcServer, Identity, Ledger, Receipts, RevocationStatus, ServerLink, ServerRecords, ServerRunEvent, differences,
    run_server,
};

use super::{
    compare::Alternatives,
    config::{Carrier, ServerConfig},
    dashboard::Dashboard,
    events::{Events, Kind},
    folder::claim,
    relay,
};
use crate::{
    configure,
    curves::LossCurves,
    figures::latest,
    files::write_json,
    progress::{Progress, now},
    run::{
        RunFolder,
        train::{traffic, write_results},
    },
};

/// How often the picture of the latest synthetic images is drawn.
const PICTURE_EVERY: Duration = Duration::from_secs(10);

/// Runs the server of a `run.toml` over the network until the run is finished.
///
/// # Errors
/// If the configuration is not valid, or the run ends early.
pub fn server(config: &Path) -> Result<()> {
    let config = ServerConfig::read(config)?;
    if config.carrier == Carrier::Relay {
        relay::end_with_relay()?;
    }
    let (run, description) = (config.run()?, config.description()?);
    // Before the folder is claimed: without keys, nothing begins.
    config.identity()?;
    warn_of_missing_certificates(&config);
    claim(&config.folder, &run)?;
    let folder = RunFolder::open(&config.folder)?;
    let place = folder.arm(Arm::AsynDgan, config.seed)?;
    let sites = config.sites.len() as u32;
    let (networks, threads) = (configure::gan(&run, Arm::AsynDgan), run.settings.compute.server_threads);
    set_threads(threads);
    let mut trainer = ServerTrainer::new(networks, description.clone(), sites, threads, &place.join("checkpoints"), folder.device)?;
    claim_description(&config.folder.join("description.json"), &description)?;
    let mut records = records(&config, &description)?;
    let mut events = Events::open(&config.folder)?;
    let (mut link, revocation) = listen(&config, &description)?;
    let picture = config.folder.join("latest.png");
    let dashboard = Dashboard::new(&config.name, &config.sites, description.rounds, &picture, revocation);
    if let Some(address) = config.dashboard {
        tracing::info!("dashboard: {}", dashboard.serve(address, &config.folder, config.identity()?.as_ref())?);
    }

    let started = now();
    let (mut first, mut drawn) = (None, None);
    let mut bar = Progress::new(&config.name, description.rounds);
    let (names, task) = (&config.sites, configure::task(&folder.run)?);
    let mut curves = LossCurves::new(&place);
    run_server(&description, sites, config.policy()?, &mut link, &mut trainer, &mut records, |news, trainer, ledger| {
        dashboard.on_event(&news, ledger);
        if let Err(error) = curves.on_event(&news, trainer) {
            tracing::warn!("cannot update the learning curves: {error:#}");
        }
        let event = match &news {
            ServerRunEvent::Joined(site) => Some((Kind::Joined, site, "joined the run".to_owned())),
            ServerRunEvent::Dismissed(site, error) => Some((Kind::Left, site, error.to_string())),
            ServerRunEvent::Retired { site, round, reason } => Some((Kind::Retired, site, super::events::retired(*round, reason))),
            ServerRunEvent::StateLost { site, round, restored } => {
                Some((Kind::StateLost, site, super::events::lost_state(*round, *restored)))
            }
            _ => None,
        };
        if let Some((kind, site, fact)) = event
            && let Err(error) = events.add(kind, &names[site.0 as usize], &fact)
        {
            tracing::warn!("cannot record an event: {error:#}");
        }
        match news {
            ServerRunEvent::Joined(site) => tracing::info!("{}: joined the run", names[site.0 as usize]),
            ServerRunEvent::Dismissed(site, error) => tracing::warn!("{}: {error}", names[site.0 as usize]),
            ServerRunEvent::Retired { site, round, reason } => {
                tracing::info!("{}: {}", names[site.0 as usize], super::events::retired(round, reason));
            }
            ServerRunEvent::StateLost { site, round, restored } => {
                tracing::info!("{}: {}", names[site.0 as usize], super::events::lost_state(round, restored));
            }
            ServerRunEvent::Notice(fact) => tracing::warn!("{fact}"),
            ServerRunEvent::Begun { rounds_done } => {
                for path in trainer.damaged() {
                    tracing::warn!("{} is damaged: using the previous checkpoint", path.display());
                }
                first.get_or_insert(rounds_done);
                let written =
                    Alternatives::compute(&description, trainer).and_then(|a| write_json(&config.folder.join("alternatives.json"), &a));
                if let Err(error) = written {
                    tracing::warn!("cannot compare with other methods: {error:#}");
                }
                bar.set(rounds_done);
                tracing::info!("{}", super::events::starting(rounds_done));
            }
            ServerRunEvent::Round { rounds_done, contributions } => {
                for c in contributions.iter().filter(|c| c.scale < 1.0) {
                    let name = &names[c.draw.site.0 as usize];
                    tracing::warn!("{name}: feedback of round {} was scaled down by a factor of {:.0}", c.round, 1.0 / c.scale);
                }
                bar.set(rounds_done);
                if drawn.is_none_or(|at: std::time::Instant| at.elapsed() > PICTURE_EVERY) || rounds_done == description.rounds {
                    drawn = Some(now());
                    if let Err(error) = latest(&picture, task, names, trainer) {
                        // A picture is for people; the run goes on without.
                        tracing::warn!("cannot draw latest.png: {error:#}");
                    }
                }
            }
        }
    })
    .map_err(|error| with_names(error, names))?;
    write_results(&folder, &place, &trainer)?;
    let record = TrainRecord {
        seconds: started.elapsed().as_secs_f64(),
        resumed_from_round: first.unwrap_or(0),
        bytes: traffic(&records.ledger),
        versions: folder.provenance(Arm::AsynDgan),
        events: events.that_count()?,
    };
    write_json(&folder.proof(Step::Train(Arm::AsynDgan, config.seed)), &record)?;
    tracing::info!("finished: {}", place.join("generator.safetensors").display());
    Ok(())
}

/// Names the sites of the run for which the authority has issued no certificate, if its folder is here.
fn warn_of_missing_certificates(config: &ServerConfig) {
    // The authority may be on another machine.
    let Some(issued) = config.keys().and_then(|keys| Authority::valid_sites(keys).ok()) else { return };
    for site in config.sites.iter().filter(|site| !issued.contains(site)) {
        tracing::warn!("{site} has no valid certificate, so it cannot join: asyndgan keys sign, or keys issue");
    }
}

/// Starts to listen for sites.
fn listen(config: &ServerConfig, description: &RunDescription) -> Result<(Box<dyn ServerLink>, Option<RevocationStatus>)> {
    let (Some(identity), Some(keys)) = (config.identity()?, config.keys()) else {
        let link = relay::server(&config.sites)?;
        tracing::info!("listening on {} for a relay of {}", link.address(), config.sites.join(", "));
        return Ok((Box::new(link), None));
    };
    let keep_alive = config.keep_alive()?;
    let listener = GrpcServer::new(config.listen, identity, keys.join("revoked.pem"), config.sites.clone(), description.clone())
        .with(|server| server.keep_alive = keep_alive);
    let link = listener.start(|fact| tracing::warn!("{fact}"))?;
    tracing::info!("listening on {} for {}", link.address(), config.sites.join(", "));
    let revocation = link.revocation_status();
    Ok((Box::new(link), Some(revocation)))
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

/// Reads the comparison with other methods from a run folder.
pub(super) fn alternatives(folder: &Path) -> Result<Alternatives> {
    crate::files::read_json(&folder.join("alternatives.json")).context("the comparison needs alternatives.json of a started run")
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
