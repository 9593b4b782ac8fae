use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::{Error, Payload, RunDescription, SitePolicy, policy::refused};

/// How often a site has answered, and about which cases. Kept across restarts, so that a restart does not reset any
/// limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The patient of each case.
    patients: Vec<u32>,
    /// By round.
    rounds: BTreeMap<u64, Answers>,
    /// Showings by case.
    cases: BTreeMap<u32, u64>,
    /// Showings by patient.
    shown: BTreeMap<u32, u64>,
    repeated: u64,
    skipped: u64,
    restores: u64,
}

/// What was answered in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answers {
    /// Answers that could reveal something new.
    count: u32,
    /// The last one, by [`answer_digest`].
    last: AnswerDigest,
}

/// SHA-256 of all that an answer depends on.
pub type AnswerDigest = [u8; 32];

/// The digest of an answer by all that it depends on: the discriminator, which its own last answer identifies (zeros
/// for first weights), the round, which determines the real images, and the synthetic images. A server that asks for
/// the same answer again, as after a restart, learns nothing new.
pub(crate) fn answer_digest(discriminator: &AnswerDigest, round: u64, synthetic: &Payload) -> AnswerDigest {
    let mut hash = Sha256::new();
    hash.update(discriminator);
    hash.update(round.to_le_bytes());
    hash.update(synthetic.sha256());
    hash.finalize().into()
}

impl History {
    /// The history of a site that has not answered yet. `patients` holds an arbitrary patient number for each of its
    /// cases.
    pub fn new(patients: Vec<u32>) -> Self {
        let (rounds, cases, shown) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { patients, rounds, cases, shown, repeated: 0, skipped: 0, restores: 0 }
    }

    /// The patient of each case.
    pub fn patients(&self) -> &[u32] {
        &self.patients
    }

    /// Adds an answer that involved these real cases. Repeating the same answer does not count.
    pub fn add(&mut self, round: u64, answer: AnswerDigest, cases: &[u32]) {
        match self.rounds.get_mut(&round) {
            Some(answers) if answers.last == answer => return,
            Some(answers) => {
                *answers = Answers { count: answers.count + 1, last: answer };
                self.repeated += 1;
            }
            None => drop(self.rounds.insert(round, Answers { count: 1, last: answer })),
        }
        for &case in cases {
            *self.cases.entry(case).or_default() += 1;
            if let Some(&patient) = self.patients.get(case as usize) {
                *self.shown.entry(patient).or_default() += 1;
            }
        }
    }

    /// The answer that identifies the discriminator in the checkpoint after so many rounds: a site writes it right
    /// after the answer. Zeros for first weights. If the answer is not known, as after a crash between checkpoint and
    /// journal, the digest is that of no other discriminator, so that later answers count.
    pub(crate) fn discriminator(&self, rounds_done: u64) -> AnswerDigest {
        let Some(last) = rounds_done.checked_sub(1) else { return AnswerDigest::default() };
        let unknown = || Sha256::digest([&b"unknown"[..], &rounds_done.to_le_bytes()].concat()).into();
        self.rounds.get(&last).map_or_else(unknown, |answers| answers.last)
    }

    /// Rounds that were answered.
    pub fn rounds(&self) -> u64 {
        self.rounds.len() as u64
    }

    /// Rounds between the first and the last answer that were not answered.
    fn missed(&self) -> u64 {
        let ends = self.rounds.first_key_value().zip(self.rounds.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| last - first + 1 - self.rounds())
    }

    /// Counts a start from a checkpoint or from initial weights.
    pub fn add_restore(&mut self) {
        self.restores += 1;
    }

    /// Whether the policy allows one more start from a checkpoint.
    pub(crate) fn allows_restore(&self, policy: &SitePolicy, run: &RunDescription) -> Result<(), Error> {
        if self.restores < policy.restores_max {
            return Ok(());
        }
        Err(refused(run, format!("restores_max is {}, but the server asks for more starts from a checkpoint", policy.restores_max)))
    }

    /// Counts rounds that the server skipped while the connection was up.
    pub(crate) fn skip(&mut self, rounds: u64) {
        self.skipped = self.skipped.saturating_add(rounds);
    }

    /// Whether the policy allows one more answer, about these cases.
    pub(crate) fn allows(
        &self,
        policy: &SitePolicy,
        run: &RunDescription,
        round: u64,
        answer: AnswerDigest,
        cases: &[u32],
    ) -> Result<(), Error> {
        let over =
            |bound: &str, limit: u64, what: &str| Err(refused(run, format!("{bound} is {limit}, but the server asks for more {what}")));
        let earlier = self.rounds.get(&round);
        if earlier.is_some_and(|answers| answers.last == answer) {
            return Ok(());
        }
        if earlier.is_none() && self.rounds() >= policy.rounds_max {
            return over("rounds_max", policy.rounds_max, "rounds");
        }
        if earlier.is_some() && self.repeated >= policy.repeated_rounds_max {
            return over("repeated_rounds_max", policy.repeated_rounds_max, "answers to rounds that were answered before");
        }
        if earlier.is_some_and(|answers| answers.count >= policy.answers_per_round_max) {
            return over("answers_per_round_max", policy.answers_per_round_max.into(), "answers for one round");
        }
        if self.skipped > policy.skipped_rounds_max {
            return over("skipped_rounds_max", policy.skipped_rounds_max, "skipped rounds");
        }
        if self.missed() > policy.missed_rounds_max {
            return over("missed_rounds_max", policy.missed_rounds_max, "rounds after others were missed");
        }
        for &case in cases {
            if self.cases.get(&case).copied().unwrap_or(0) >= policy.case_rounds_max {
                return over("case_rounds_max", policy.case_rounds_max, "rounds that show one case");
            }
            let showings = self.patients.get(case as usize).and_then(|patient| self.shown.get(patient));
            if showings.is_some_and(|&n| n >= policy.patient_rounds_max) {
                return over("patient_rounds_max", policy.patient_rounds_max, "rounds that show one patient");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Symmetry;

    fn run() -> RunDescription {
        RunDescription::new("history", 100).with(|run| {
            run.batch = 2;
            run.size = 72;
            run.crop = 64;
            run.symmetry = Symmetry::Flips;
            run.checkpoint_every = 10;
        })
    }

    fn digest(answer: u64) -> AnswerDigest {
        Sha256::digest(answer.to_le_bytes()).into()
    }

    /// What stops a site that is asked about the same cases in round after round.
    fn stopped(policy: &SitePolicy, cases: &[u32]) -> (u64, String) {
        let mut history = History::new(vec![0, 0, 1, 2]);
        for round in 0.. {
            if let Err(error) = history.allows(policy, &run(), round, digest(round), cases) {
                return (round, error.to_string());
            }
            history.add(round, digest(round), cases);
        }
        unreachable!("something stops it")
    }

    #[test]
    fn no_case_and_no_patient_is_shown_more_often_than_allowed() {
        let by = |policy: SitePolicy, cases: &[u32], bound: &str, rounds: u64| {
            let (at, fact) = stopped(&policy, cases);
            assert!(at == rounds && fact.contains(bound), "{bound}: {at} {fact}");
        };
        by(SitePolicy::default().with(|policy| policy.case_rounds_max = 7), &[1, 2], "case_rounds_max is 7", 7);
        // Both cases are of one patient.
        by(SitePolicy::default().with(|policy| policy.patient_rounds_max = 8), &[0, 1], "patient_rounds_max is 8", 4);
        by(SitePolicy::default().with(|policy| policy.rounds_max = 5), &[0, 2], "rounds_max is 5", 5);
    }

    #[test]
    fn the_same_answer_again_does_not_count() {
        let mut history = History::new(vec![0; 4]);
        history.add(3, digest(7), &[0, 1]);
        let once = history.clone();
        history.add(3, digest(7), &[0, 1]);
        assert_eq!(history, once);
        history.add(3, digest(8), &[0, 1]);
        assert_ne!(history, once);
    }

    #[test]
    fn rounds_that_were_missed_count_over_connections() {
        let mut history = History::new(vec![0; 4]);
        history.add(10, digest(1), &[0]);
        history.add(31, digest(1), &[1]);
        let allows = |missed_rounds_max| {
            history.allows(&SitePolicy::default().with(|policy| policy.missed_rounds_max = missed_rounds_max), &run(), 32, digest(1), &[2])
        };
        assert!(allows(20).is_ok() && allows(19).expect_err("20 are missing").to_string().contains("missed_rounds_max is 19"));
    }
}
