use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use asyndgan_files::{Access, create_private_folder, write};
use asyndgan_protocol::{RunDescription, SiteId, hex, is_hidden};
use serde::{Deserialize, Serialize};

use crate::Error;

/// How it is decided whether a site takes part in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// The site joins the first run that its policy allows; from then on, its folder belongs to that run.
    #[default]
    Policy,
    /// The administrator must approve the run's hash before the site takes part.
    Administrator,
}

/// The run that a site takes part in. The site's folder belongs to this run only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovedRun {
    /// The run's identity ([`RunDescription::sha256`]), in hexadecimal.
    pub run: String,
    /// The site's number in the run; `None` before it has joined.
    pub site: Option<SiteId>,
    /// How the run was approved.
    pub by: Approval,
    /// The time of the approval: milliseconds since the Unix epoch, by the site's clock.
    pub unix_ms: u64,
    /// The description of the run.
    pub description: RunDescription,
}

/// A site's consent to one run, stored in its folder.
#[derive(Debug)]
pub struct Consent {
    path: PathBuf,
    approval: Approval,
    /// The only run that the folder is for.
    only: Option<RunDescription>,
}

impl Consent {
    /// The consent that is stored in a site's folder.
    pub fn in_folder(folder: &Path, approval: Approval) -> Self {
        Self { path: folder.join("approved-run.json"), approval, only: None }
    }

    /// For a folder that was chosen for one run: any other run is refused, and nothing is stored about it.
    #[must_use]
    pub fn for_run(mut self, run: RunDescription) -> Self {
        self.only = Some(run);
        self
    }

    /// The run that the folder belongs to, if any.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Consent`] for a damaged file, because the run is then unknown.
    pub fn approved(&self) -> Result<Option<ApprovedRun>, Error> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Record { path: self.path.clone(), source }),
        };
        let approved: ApprovedRun = serde_json::from_slice(&text).map_err(|e| self.refusal(format!("it is damaged ({e})")))?;
        if approved.run != hex(&approved.description.sha256()) {
            return Err(self.refusal("its hash does not match its description".into()));
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

    /// Checks that the site takes part in this run under this number, and stores a decision that was made by the
    /// policy.
    ///
    /// # Errors
    /// [`Error::Consent`] if it does not take part, [`Error::OtherRun`], or [`Error::Record`].
    pub fn decide(&self, site: SiteId, run: &RunDescription) -> Result<(), Error> {
        if let Some(only) = self.only.as_ref().filter(|only| *only != run) {
            return Err(Error::OtherRun { expected: only.id(), described: run.id() });
        }
        match self.approved()? {
            Some(before) if before.description != *run => Err(self.other_run(&before, run)),
            Some(ApprovedRun { site: Some(before), .. }) if before != site => {
                Err(self.refusal(format!("the site took part as {before}, but the server now assigns it to {site}")))
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
            .map_err(|source| Error::Record { path: self.path.clone(), source })
    }

    fn not_approved(&self, run: &RunDescription) -> Error {
        let hash = hex(&run.sha256());
        self.refusal(format!("the run {:?} ({hash}) has not been approved; inspect it with `asyndgan site approve`", run.name))
    }

    fn other_run(&self, before: &ApprovedRun, run: &RunDescription) -> Error {
        let changes = differences(&before.description, run).join("; ");
        self.refusal(format!("this folder belongs to the run {:?}, but the server describes another: {changes}", before.description.name))
    }

    fn refusal(&self, fact: String) -> Error {
        Error::Consent { path: self.path.clone(), fact }
    }
}

/// The differences between two descriptions, one line per field: `batch: 2, now 1`.
pub fn differences(before: &RunDescription, after: &RunDescription) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &plain(before), &plain(after), &mut found);
    found
}

/// A text from a server, without control characters and characters that change the text direction.
fn printable(text: &str) -> String {
    text.chars().filter(|&c| !is_hidden(c)).take(2_000).collect()
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
