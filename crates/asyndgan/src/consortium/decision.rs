//! Whether a site joins a run that the server describes, or its administrator decides first.

use std::fs;

use anyhow::{Context, Result};
use asyndgan_protocol::RunDescription;
use asyndgan_transport::{Approval, ApprovedRun, Consent};

use super::{ended::is_finished, site_config::SiteConfig};

/// What a site does about a run.
#[derive(Debug)]
pub(super) enum Decision {
    /// It joins if the policy allows the run, with the approval that there is.
    Join(Option<ApprovedRun>),
    /// It waits for its administrator, with the fact and the way out.
    AwaitsApproval(String),
    /// It has marked the run as finished.
    Finished,
}

/// Decides about a run, from the stored approvals. `of_run` is `config` with the folder of the run.
pub(super) fn decision(config: &SiteConfig, of_run: &SiteConfig) -> Result<Decision> {
    if is_finished(&of_run.folder)? {
        return Ok(Decision::Finished);
    }
    let by_administrator = of_run.approval() == Approval::Administrator;
    let approved = Consent::in_folder(&of_run.folder, of_run.approval()).approved()?;
    let is_enough = |approved: &ApprovedRun| approved.by == Approval::Administrator || !by_administrator && approved.site.is_some();
    if approved.as_ref().is_some_and(is_enough) {
        return Ok(Decision::Join(approved));
    }
    let way_out = format!("inspect it and decide with asyndgan site approve --config {}", of_run.path.display());
    if by_administrator {
        return Ok(Decision::AwaitsApproval(format!("it is proposed by the operator: {way_out}")));
    }
    if config.keep_running {
        let (joined, limit) = (joined_by_policy(config)?, config.runs_max.unwrap_or(0));
        if joined >= limit {
            let fact = format!("this site has joined {joined} runs without being asked, and runs_max is {limit}");
            return Ok(Decision::AwaitsApproval(format!("{fact}: {way_out}, or raise runs_max")));
        }
    }
    Ok(Decision::Join(None))
}

/// The number of runs that a site has joined because its policy allows them.
fn joined_by_policy(config: &SiteConfig) -> Result<u32> {
    let folder = &config.folder;
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    let mut joined = 0;
    for entry in entries {
        let place = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let approved = if place.is_dir() { Consent::in_folder(&place, Approval::Policy).approved()? } else { None };
        joined += u32::from(approved.is_some_and(|run| run.by == Approval::Policy));
    }
    Ok(joined)
}

/// The configuration of a site for one run, in its folder of this run.
pub(super) fn for_run(config: &SiteConfig, run: &RunDescription) -> Result<SiteConfig> {
    let mut of_run = config.clone();
    of_run.set_run(run)?;
    Ok(of_run)
}
