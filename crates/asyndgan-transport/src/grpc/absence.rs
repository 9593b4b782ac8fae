use asyndgan_protocol::RunDescription;

use super::wire::{self, absence::Reason};

/// Why a site does not join a run that the server described to it. Nothing else about the decision leaves the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbsenceReason {
    /// Its administrator has not approved the run yet.
    AwaitsApproval,
    /// Its policy or its data does not allow the run.
    Refused,
    /// It has marked the run as finished.
    Finished,
    /// Its folder of this run belongs to other images.
    OtherImages,
    /// A reason that this version does not know.
    Other,
}

/// The reasons as messages carry them.
const REASONS: [(AbsenceReason, Reason); 5] = [
    (AbsenceReason::AwaitsApproval, Reason::AwaitsApproval),
    (AbsenceReason::Refused, Reason::Refused),
    (AbsenceReason::Finished, Reason::Finished),
    (AbsenceReason::OtherImages, Reason::OtherImages),
    (AbsenceReason::Other, Reason::Other),
];

/// A site's report that it does not join a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    run: [u8; 32],
    reason: AbsenceReason,
}

impl Absence {
    /// A report about this run.
    pub fn new(run: &RunDescription, reason: AbsenceReason) -> Self {
        Self { run: run.sha256(), reason }
    }

    pub(super) fn to_wire(&self) -> wire::Absence {
        let known = REASONS.iter().find(|(reason, _)| *reason == self.reason);
        wire::Absence { run: self.run.to_vec().into(), reason: known.map_or(Reason::Other, |(_, reason)| *reason).into() }
    }
}

/// The reason in a report about this run; `None` for a report about another run, or without a reason.
pub(super) fn reason_for(run: &RunDescription, report: &wire::Absence) -> Option<AbsenceReason> {
    if report.run != run.sha256().as_slice() || report.reason == i32::from(Reason::Unspecified) {
        return None;
    }
    let known = REASONS.iter().find(|(_, reason)| i32::from(*reason) == report.reason);
    Some(known.map_or(AbsenceReason::Other, |(reason, _)| *reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_a_later_version_is_not_lost() {
        let run = RunDescription::new("trial", 4);
        let mut report = Absence::new(&run, AbsenceReason::Refused).to_wire();
        assert_eq!(reason_for(&run, &report), Some(AbsenceReason::Refused));
        report.reason = 77;
        assert_eq!(reason_for(&run, &report), Some(AbsenceReason::Other));
        report.reason = 0;
        assert_eq!(reason_for(&run, &report), None);
    }
}
