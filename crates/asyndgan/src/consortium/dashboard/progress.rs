//! The progress of a run for other programs, and what delays it.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use asyndgan_protocol::SiteId;
use asyndgan_transport::AbsenceReason;

use super::status::{Awaited, Dashboard, SiteStatus};
use crate::consortium::{
    runs::{RunProgress, SiteProgress},
    stall::AwaitedSite,
};

impl Dashboard {
    /// The rounds, and the state of the sites.
    pub(in crate::consortium) fn progress(&self) -> RunProgress {
        let status = self.status();
        let at = |at: Instant| status.started_unix_ms + at.saturating_duration_since(status.started).as_millis() as u64;
        let site = |(number, site): (usize, &SiteStatus)| SiteProgress {
            name: site.name.clone(),
            connected: site.connected,
            awaited_since_unix_ms: status.awaited.0.iter().find(|(awaited, _)| *awaited == number).map(|(_, since)| at(*since)),
            note: site.note.clone(),
        };
        RunProgress {
            rounds_done: status.rounds_done,
            rounds: status.rounds,
            last_round_unix_ms: status.last_round.filter(|_| status.rounds_computed > 0).map(at),
            sites: status.sites.iter().enumerate().map(site).collect(),
        }
    }

    /// The sites that the run waits for, for how long, and why they do not join.
    pub(in crate::consortium) fn awaited(&self) -> Vec<AwaitedSite> {
        let of = |Awaited { site, absence, seconds, .. }: Awaited| AwaitedSite {
            name: site,
            waited: Duration::from_secs_f64(seconds.max(0.0)),
            absence,
        };
        self.status().waits_for.into_iter().map(of).collect()
    }

    /// Adds a fact about a site, until something happens to it.
    pub(in crate::consortium) fn note(&self, site: &str, fact: &str) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.sites.iter_mut().filter(|status| status.name == site).for_each(|status| status.note = fact.into());
    }

    /// These sites have left the run for good, after so many rounds each.
    pub(in crate::consortium) fn set_retired(&self, retired: &[(SiteId, u64)]) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        for (site, round) in retired {
            if let Some(site) = status.sites.get_mut(site.0 as usize) {
                (site.retired, site.note) = (true, format!("takes no part from round {} on", round + 1));
            }
        }
    }

    /// Why sites that could take part are not connected, by their place in the run.
    pub(in crate::consortium) fn absences(&self) -> Vec<Option<AbsenceReason>> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = |(site, status): (u32, &SiteStatus)| {
            self.absences.as_ref()?.reason(SiteId(site)).filter(|_| !status.connected && !status.retired)
        };
        (0..).zip(&status.sites).map(reason).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use asyndgan_protocol::RunDescription;
    use asyndgan_transport::{Absence, Authority, GrpcServer, GrpcSite, Identity, Ledger, Proxy, ServerRunEvent};

    use super::*;
    use crate::consortium::dashboard::status::ServedState;

    fn dashboard(sites: &[String]) -> Dashboard {
        Dashboard::of(("trial", ServedState::Running), sites, (40, 100), Path::new("."), None, None)
    }

    #[test]
    fn a_site_that_has_left_for_good_needs_no_reason() {
        let place = tempfile::tempdir().expect("a folder");
        let mut authority = Authority::init(place.path(), &["localhost".to_owned()], 30).expect("keys");
        let bundle = place.path().join("sites/south.pem");
        authority.issue("south", 30).expect("issued");
        let identity = |path: &Path| Identity::read(path).expect("a bundle");
        let (run, names) = (RunDescription::new("trial", 9), ["north".to_owned(), "south".to_owned()]);
        let (server, revoked) = (identity(&place.path().join("server.pem")), place.path().join("revoked.pem"));
        let link =
            GrpcServer::new(([127, 0, 0, 1], 0).into(), server, revoked, names.to_vec(), run.clone()).start(|_| {}).expect("listens");
        let site = GrpcSite::new(format!("localhost:{}", link.address().port()), identity(&bundle));
        let report = Absence::new(&run, AbsenceReason::Finished);
        site.with(|site| (site.absence, site.proxy) = (Some(report), Proxy::Direct)).describe().expect("an answer");

        let dashboard = Dashboard { absences: Some(link.absences()), ..dashboard(&names) };
        assert_eq!(dashboard.absences(), [None, Some(AbsenceReason::Finished)]);
        assert!(dashboard.progress().sites[1].note.contains("run amend --replace"));
        dashboard.on_event(&ServerRunEvent::Retired { site: SiteId(1), round: 5, reason: "its budget is spent" }, &Ledger::default());
        assert_eq!(dashboard.absences(), [None, None]);
        assert!(dashboard.progress().sites[1].note.contains("its budget is spent"));
        let restarted = Dashboard { absences: Some(link.absences()), ..self::dashboard(&names) };
        restarted.set_retired(&[(SiteId(1), 5)]);
        assert_eq!(restarted.absences(), [None, None]);
        assert!(restarted.progress().sites[1].note.contains("from round 6 on"));
    }
}
