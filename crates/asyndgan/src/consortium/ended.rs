//! Runs that have ended: a site marks them, and deletes their discriminators, which have learnt from patients.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use asyndgan_files::{Access, write};
use asyndgan_protocol::RunDescription;
use asyndgan_transport::{Consent, RunEnd};

use super::{folder::lock, site_config::SiteConfig};
use crate::files::is_in_use;

/// The file that marks a run as finished at this site.
const FINISHED: &str = "finished";
/// The file with the consortium of a run: [`asyndgan_transport::Identity::authority_sha256`].
const AUTHORITY: &str = "authority";
const CHECKPOINTS: &str = "checkpoints";

/// Whether a run is marked as finished.
pub(super) fn is_finished(folder: &Path) -> Result<bool> {
    folder.join(FINISHED).try_exists().with_context(|| folder.display().to_string())
}

/// Marks a run as finished, and deletes its discriminator.
pub(super) fn mark_finished(folder: &Path) -> Result<()> {
    let mark = folder.join(FINISHED);
    write(&mark, Access::Private, b"").with_context(|| format!("cannot write {}", mark.display()))?;
    delete_checkpoints(folder)
}

fn delete_checkpoints(folder: &Path) -> Result<()> {
    let checkpoints = folder.join(CHECKPOINTS);
    match fs::remove_dir_all(&checkpoints) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", checkpoints.display()))
        }
        _ => Ok(()),
    }
}

/// Stores the consortium of a run. Only servers of this consortium are asked whether the run has ended.
pub(super) fn write_authority(config: &SiteConfig) -> Result<()> {
    let Some(identity) = config.identity()? else { return Ok(()) };
    let path = config.folder.join(AUTHORITY);
    write(&path, Access::Private, identity.authority_sha256().as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Closes runs that have ended while a site was not connected.
#[derive(Debug, Default)]
pub(super) struct EndedRunsCheck {
    /// Folders whose problems were reported.
    reported: BTreeSet<PathBuf>,
}

/// A run that a site has begun.
struct Begun {
    folder: PathBuf,
    run: RunDescription,
}

impl EndedRunsCheck {
    /// Asks the server which of the runs have ended that the site has begun, and closes them. The run that the server
    /// describes now is not among them. Problems of one run's folder do not affect the others.
    pub(super) fn run(&mut self, config: &SiteConfig, name: &str, described: Option<&RunDescription>) -> Result<()> {
        let mut begun = self.begun(config)?;
        begun.retain(|begun| Some(&begun.run) != described);
        if begun.is_empty() {
            return Ok(());
        }
        let ends = match config.grpc_site()?.ended_runs(begun.iter().map(|begun| begun.run.clone()).collect()) {
            Ok(ends) => ends,
            // The next request asks again. A server of an earlier version cannot answer.
            Err(error) => {
                tracing::debug!("{name}: cannot ask which runs have ended: {error}");
                return Ok(());
            }
        };
        for (Begun { folder, run }, end) in begun.into_iter().zip(ends) {
            let end = match end {
                Some(RunEnd::Finished) => "finished",
                Some(RunEnd::Aborted) => "aborted",
                None => continue,
            };
            let closed = lock(&folder).and_then(|_lock| mark_finished(&folder));
            match closed {
                Ok(()) => tracing::info!(
                    "{name}: the server reports that the run {:?} ({}) is {end}: its discriminator is deleted, and the journal stays",
                    run.name,
                    run.id()
                ),
                Err(error) if is_in_use(&error) => {}
                Err(error) => self.report(folder, &error),
            }
        }
        Ok(())
    }

    /// The runs of the same consortium that the site has joined and that have not ended here.
    fn begun(&mut self, config: &SiteConfig) -> Result<Vec<Begun>> {
        let (at, identity) = (&config.folder, config.identity()?);
        let authority = identity.map(|identity| identity.authority_sha256());
        let mut begun = Vec::new();
        for entry in fs::read_dir(at).with_context(|| format!("cannot read {}", at.display()))? {
            let folder = entry.with_context(|| format!("cannot read {}", at.display()))?.path();
            let of_authority = fs::read_to_string(folder.join(AUTHORITY)).ok();
            if of_authority.is_none() || of_authority != authority {
                continue;
            }
            let run = match is_finished(&folder) {
                // The process may have ended during the deletion.
                Ok(true) => delete_checkpoints(&folder).map(|()| None),
                Ok(false) => Consent::in_folder(&folder, config.approval()).approved().map_err(Into::into),
                Err(error) => Err(error),
            };
            match run {
                Ok(approved) => begun.extend(
                    approved.filter(|approved| approved.site.is_some()).map(|approved| Begun { folder, run: approved.description }),
                ),
                Err(error) => self.report(folder, &error),
            }
        }
        Ok(begun)
    }

    /// Logs a problem, once for each folder.
    fn report(&mut self, folder: PathBuf, error: &anyhow::Error) {
        if !self.reported.contains(&folder) {
            tracing::warn!("cannot check whether the run in {} has ended: {error:#}", folder.display());
            self.reported.insert(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::SiteId;
    use asyndgan_transport::{Approval, Authority, EndedRuns, GrpcServer, Identity};

    use super::*;

    #[test]
    fn runs_of_this_consortium_alone_are_closed_and_damaged_folders_do_not_matter() {
        let place = tempfile::tempdir().expect("a folder");
        let path = |name: &str| place.path().join(name);
        for keys in ["keys", "other"] {
            let mut authority = Authority::init(&path(keys), &["localhost".to_owned()], 30).expect("keys");
            authority.issue("north", 30).expect("issued");
        }
        let runs: Vec<RunDescription> = ["a", "b", "c", "d", "e"].map(|name| RunDescription::new(name, 4)).into();
        for (i, run) in runs.iter().enumerate() {
            let folder = path("north").join(&run.name);
            let keys = if i == 1 { "other" } else { "keys" };
            fs::create_dir_all(folder.join(CHECKPOINTS)).expect("created");
            Consent::in_folder(&folder, Approval::Policy).decide(SiteId(0), run).expect("decided");
            let identity = Identity::read(&path(&format!("{keys}/sites/north.pem"))).expect("a bundle");
            fs::write(folder.join(AUTHORITY), identity.authority_sha256()).expect("written");
        }
        // Damaged, and ended while its checkpoints were being deleted.
        fs::write(path("north/c/approved-run.json"), "???").expect("written");
        fs::write(path("north/d").join(FINISHED), "").expect("written");

        let identity = Identity::read(&path("keys/server.pem")).expect("a bundle");
        let ended = EndedRuns::default();
        ended.set(runs.iter().map(|run| (run.sha256(), RunEnd::Aborted)));
        let server = GrpcServer::without_run(([127, 0, 0, 1], 0).into(), identity, path("keys/revoked.pem"), "no run is queued");
        let server = server.with(|server| server.ended = ended).start(|_| {}).expect("listens");
        let text = format!(
            "server = \"localhost:{}\"\nbundle = \"keys/sites/north.pem\"\ndata = \"data\"\nfolder = \"north\"\nkeep_running = true\n\
             proxy = \"none\"\n",
            server.address().port()
        );
        fs::write(path("site.toml"), text).expect("written");
        let config = SiteConfig::read(&path("site.toml")).expect("a configuration");
        let mut check = EndedRunsCheck::default();
        check.run(&config, "north", runs.get(4)).expect("checked");
        let has_checkpoints = |name: &str| path("north").join(name).join(CHECKPOINTS).exists();
        assert!(!has_checkpoints("a") && path("north/a").join(FINISHED).exists());
        assert!(has_checkpoints("b"), "it is of another consortium");
        assert!(has_checkpoints("c") && check.reported.contains(&path("north/c")));
        assert!(!has_checkpoints("d"));
        assert!(has_checkpoints("e"), "the server describes it now");
    }
}
