use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use asyndgan_files::{Access, create_private_folder, write};
use asyndgan_protocol::{RunDescription, SiteId, hex};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Who agrees that a site takes part in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// The policy's bounds decide about the first run that a server describes; from then on the site's folder belongs to that run.
    #[default]
    Policy,
    /// The administrator approves the run's hash before the site takes part.
    Administrator,
}

/// A run that a site takes part in: the site's folder belongs to it, and to no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovedRun {
    /// The run's identity ([`RunDescription::sha256`]), in hexadecimal.
    pub run: String,
    /// The site's place in the run; none before it has joined.
    pub site: Option<SiteId>,
    /// Who agreed.
    pub by: Approval,
    /// When: milliseconds since 1970, by the site's clock.
    pub unix_ms: u64,
    /// What the run is.
    pub description: RunDescription,
}

/// A site's consent to one run, kept in its folder.
#[derive(Debug)]
pub struct Consent {
    path: PathBuf,
    approval: Approval,
}

impl Consent {
    /// The consent that is kept in a site's folder.
    pub fn kept_in(folder: &Path, approval: Approval) -> Self {
        Self { path: folder.join("approved-run.json"), approval }
    }

    /// The run that the folder belongs to, if it belongs to one.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Consent`] for a damaged file: it may have been any run.
    pub fn approved(&self) -> Result<Option<ApprovedRun>, Error> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(Error::Record { path: self.path.clone(), cause }),
        };
        let approved: ApprovedRun = serde_json::from_slice(&text).map_err(|e| self.refusal(format!("it is damaged ({e})")))?;
        if approved.run != hex(&approved.description.sha256()) {
            return Err(self.refusal("its hash is not that of its description".into()));
        }
        Ok(Some(approved))
    }

    /// Approves a run as the site's administrator.
    ///
    /// # Errors
    /// [`Error::Consent`] when the folder belongs to another run, or [`Error::Record`].
    pub fn approve(&self, run: &RunDescription) -> Result<(), Error> {
        match self.approved()? {
            Some(before) if before.description != *run => Err(self.other_run(&before, run)),
            before => self.write(run, before.and_then(|b| b.site), Approval::Administrator),
        }
    }

    /// Whether the site takes part in this very run, at this place; an answer by the policy is kept.
    ///
    /// # Errors
    /// [`Error::Consent`] when it does not, or [`Error::Record`].
    pub fn decide(&self, site: SiteId, run: &RunDescription) -> Result<(), Error> {
        match self.approved()? {
            Some(before) if before.description != *run => Err(self.other_run(&before, run)),
            Some(ApprovedRun { site: Some(before), .. }) if before != site => {
                Err(self.refusal(format!("the site took part as {before}, and the server now gives it the place of {site}")))
            }
            None | Some(ApprovedRun { by: Approval::Policy, .. }) if self.approval == Approval::Administrator => {
                Err(self.not_approved(run))
            }
            Some(ApprovedRun { site: Some(_), .. }) => Ok(()),
            Some(before) => self.write(run, Some(site), before.by),
            None => self.write(run, Some(site), Approval::Policy),
        }
    }

    fn write(&self, run: &RunDescription, site: Option<SiteId>, by: Approval) -> Result<(), Error> {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
        let approved = ApprovedRun { run: hex(&run.sha256()), site, by, unix_ms, description: run.clone() };
        let text = serde_json::to_string_pretty(&approved).unwrap_or_default() + "\n";
        let folder = self.path.parent().unwrap_or(Path::new("."));
        create_private_folder(folder)
            .and_then(|()| write(&self.path, Access::Private, text.as_bytes()))
            .map_err(|cause| Error::Record { path: self.path.clone(), cause })
    }

    fn not_approved(&self, run: &RunDescription) -> Error {
        let hash = hex(&run.sha256());
        self.refusal(format!("the run {:?} ({hash}) has not been approved; look at it with `asyndgan site approve`", run.name))
    }

    fn other_run(&self, before: &ApprovedRun, run: &RunDescription) -> Error {
        let changes = differences(&before.description, run).join("; ");
        self.refusal(format!("this folder belongs to the run {:?}, and the server describes another: {changes}", before.description.name))
    }

    fn refusal(&self, fact: String) -> Error {
        Error::Consent { path: self.path.clone(), fact }
    }
}

/// What differs between two descriptions, a line per field: `batch: 2, now 1`.
pub fn differences(before: &RunDescription, after: &RunDescription) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &plain(before), &plain(after), &mut found);
    found
}

/// What a server wrote, without what moves a terminal or turns text around.
fn printable(text: &str) -> String {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars().filter(|&c| !hidden(c)).take(2_000).collect()
}

/// A description as plain values, its networks included.
fn plain(run: &RunDescription) -> serde_json::Value {
    let mut value = serde_json::to_value(run).unwrap_or_default();
    if let Ok(networks) = serde_json::from_str(&run.networks) {
        value["networks"] = networks;
    }
    value
}

fn compare(name: &str, before: &serde_json::Value, after: &serde_json::Value, found: &mut Vec<String>) {
    if let (Some(before), Some(after)) = (before.as_object(), after.as_object()) {
        let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            let value = |of: &serde_json::Map<String, serde_json::Value>| of.get(key).cloned().unwrap_or_default();
            compare(&inner, &value(before), &value(after), found);
        }
    } else if before != after {
        found.push(printable(&format!("{name}: {before}, now {after}")));
    }
}
