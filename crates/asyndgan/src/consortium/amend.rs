//! Changes of a run that has begun: other members, other limits and timeouts. Finished rounds stay.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_files::{Access, rename, write};
use asyndgan_protocol::{ServerWork as _, SiteId};
use asyndgan_training::ServerTrainer;
use asyndgan_transport::differences;

use super::{
    events::{Events, Kind},
    runs::{RunState, Runs},
    server_config::{ServerConfig, SiteChange, is_dropped},
};
use crate::files::{free_name, read_json, write_json};

/// Settings of the server alone. All others are in the description that the hospitals have approved.
const OWN_SETTINGS: [&str; 9] = [
    "cases_max",
    "condition_bytes_max",
    "feedback_ratio_max",
    "keep_alive_seconds",
    "lost_state",
    "reconnect_timeout_hours",
    "response_timeout_minutes",
    "rollbacks_max",
    "weight_ratio_max",
];

/// Settings with the names that they had before, which a `run.toml` may still use.
const FORMER_SETTINGS: [(&str, &str); 3] =
    [("reconnect_timeout_hours", "absence_hours"), ("response_timeout_minutes", "answer_minutes"), ("rollbacks_max", "set_backs_max")];

/// A change of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Amendment {
    /// Another site takes the place of a site, with its own data and a fresh discriminator. Both names can be the same:
    /// the site then takes part with other data.
    Replace {
        /// The site.
        site: String,
        /// The site that takes its place.
        by: String,
    },
    /// The others continue without a site. Its masks are deleted.
    Drop {
        /// The site.
        site: String,
    },
    /// Another value of a setting of the server.
    Set {
        /// The setting, as in `run.toml`.
        key: String,
        /// The value, as in `run.toml`.
        value: String,
    },
}

/// How long a run that was paused may take to stop.
const PAUSED_WITHIN: Duration = Duration::from_secs(20);

impl Runs {
    /// Changes a run that is not being served. The changes and the reason are added to its states.
    ///
    /// # Errors
    /// If the run is being served or has ended, or a change would change its description. Then nothing is changed.
    pub fn amend(&self, name: &str, amendments: &[Amendment], reason: &str) -> Result<()> {
        ensure!(!amendments.is_empty(), "nothing to change: use --replace, --drop or --limit");
        let _lock = self.lock()?;
        let run = self.get(name)?;
        let state = run.last().state;
        match state {
            RunState::Queued | RunState::Paused | RunState::Failed => {}
            RunState::Running | RunState::Finishing => {
                bail!("the run {name:?} is {}: pause it first with asyndgan run pause {name}", state.name())
            }
            RunState::Finished | RunState::Aborted => bail!("the run {name:?} is {}: submit a new run", state.name()),
        }
        // A run that was paused a moment ago may still be served.
        let _serving = run.lock_within(PAUSED_WITHIN)?;
        let path = run.config();
        let before = ServerConfig::read(&path)?;
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut table: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let (mut sites, mut changes, mut facts) = (before.sites.clone(), before.amendments.clone(), Vec::new());
        for amendment in amendments {
            facts.push(apply(amendment, &mut table, &mut sites, &mut changes)?);
        }
        ensure!((0..sites.len()).any(|site| !is_dropped(&changes, site)), "no site would be left: abort the run instead");
        table.insert("sites".into(), toml::Value::try_from(sites)?);
        table.insert("amendments".into(), toml::Value::try_from(changes)?);

        let changed = run.folder.join(".amended-run.toml");
        write(&changed, Access::Private, toml::to_string(&table)?.as_bytes()).with_context(|| changed.display().to_string())?;
        let checked = check(&before, &changed);
        if checked.is_err() {
            let _ = fs::remove_file(&changed);
        }
        checked?;
        rename(&changed, &path).with_context(|| format!("cannot write {}", path.display()))?;
        if !reason.is_empty() {
            facts.push(reason.into());
        }
        super::runs::add_state(&run.folder, state, &facts.join("; "))
    }
}

/// Checks that a changed configuration is valid, and describes the same run.
fn check(before: &ServerConfig, changed: &Path) -> Result<()> {
    let (before, after) = (before.description()?, ServerConfig::read(changed)?.description()?);
    ensure!(
        before == after,
        "this would change the description that the hospitals have approved: {}; submit it as a new run",
        differences(&before, &after).join(", ")
    );
    Ok(())
}

/// Applies a change; returns it in words.
fn apply(amendment: &Amendment, table: &mut toml::Table, sites: &mut [String], changes: &mut Vec<SiteChange>) -> Result<String> {
    let place = |sites: &[String], site: &String| {
        let place = sites.iter().position(|name| name == site);
        place.with_context(|| format!("{site} is not a site of this run, whose sites are {}", sites.join(", ")))
    };
    match amendment {
        Amendment::Replace { site, by } => {
            let place = place(sites, site)?;
            ensure!(site == by || !sites.contains(by), "{by} is a site of this run already");
            sites[place].clone_from(by);
            changes.push(SiteChange { site: SiteId(place as u32), name: by.clone(), is_dropped: false });
            Ok(if site == by { format!("{site} takes part with other data") } else { format!("{site} is replaced by {by}") })
        }
        Amendment::Drop { site } => {
            let place = place(sites, site)?;
            ensure!(!is_dropped(changes, place), "{site} takes no part already");
            changes.push(SiteChange { site: SiteId(place as u32), name: site.clone(), is_dropped: true });
            Ok(format!("{site} takes no part from now on"))
        }
        Amendment::Set { key, value } => {
            if !OWN_SETTINGS.contains(&key.as_str()) {
                bail!(
                    "{key} is not a limit or timeout of the server, which are {}. What the hospitals approve cannot change: submit a new run",
                    OWN_SETTINGS.join(", ")
                );
            }
            if let Some((_, former)) = FORMER_SETTINGS.iter().find(|(name, _)| name == key) {
                table.remove(*former);
            }
            // A word without quotes is a string.
            let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
            table.insert(key.clone(), parsed.unwrap_or_else(|| value.as_str().into()));
            Ok(format!("{key} = {value}"))
        }
    }
}

/// Carries out the changes of the sites that are new, before the run is served.
pub(super) fn carry_out(config: &ServerConfig, trainer: &mut ServerTrainer, events: &Events) -> Result<()> {
    let path = config.folder.join("amendments-done.json");
    let done: usize = if path.try_exists().with_context(|| path.display().to_string())? { read_json(&path)? } else { 0 };
    let new = config.amendments.get(done..).unwrap_or_default();
    if new.is_empty() {
        return Ok(());
    }
    let round = trainer.checkpoints()?.last().copied().unwrap_or(0);
    for SiteChange { site, name, is_dropped } in new {
        trainer.forget(*site)?;
        let fact = if *is_dropped {
            trainer.retire(*site, round)?;
            format!("takes no part from round {} on; its masks are deleted", round + 1)
        } else {
            // Receipts are of one journal, and the site begins another.
            set_receipts_aside(config, name, round)?;
            format!("takes this place in the run from round {} on, with a fresh discriminator", round + 1)
        };
        tracing::info!("{name}: {fact}");
        events.add(Kind::Amended, name, &fact);
    }
    write_json(&path, &config.amendments.len())
}

/// Keeps the receipts of a site's journal under another name.
fn set_receipts_aside(config: &ServerConfig, site: &str, round: u64) -> Result<()> {
    let folder = config.folder.join("receipts");
    let path = folder.join(format!("{site}.receipts"));
    if path.try_exists().with_context(|| path.display().to_string())? {
        let aside = free_name(&folder, &format!("{site}-until-round-{round}"), "receipts")?;
        rename(&path, &aside).with_context(|| format!("cannot rename {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_replaces_one_with_a_former_name() {
        let mut table: toml::Table = toml::from_str("answer_minutes = 5\nset_backs_max = 2").expect("a table");
        let set = |key: &str, value: &str| Amendment::Set { key: key.into(), value: value.into() };
        apply(&set("response_timeout_minutes", "30"), &mut table, &mut [], &mut Vec::new()).expect("changed");
        apply(&set("lost_state", "restore"), &mut table, &mut [], &mut Vec::new()).expect("changed");
        let expected: toml::Table =
            toml::from_str("set_backs_max = 2\nresponse_timeout_minutes = 30\nlost_state = \"restore\"").expect("a table");
        assert_eq!(table, expected);
    }
}
