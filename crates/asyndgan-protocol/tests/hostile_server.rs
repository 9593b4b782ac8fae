//! What a server can make a site do by hand-made messages.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::{
    AnswerDigest, Dtype, Error, History, LOSS_ROUNDS_MIN, LossPolicy, Losses, Message, Payload, RunDescription, Site, SiteAction,
    SiteEvent, SiteId, SitePolicy, SiteRandomness, SiteSecret, SiteSetup, Waiting,
};
use simulation::{
    allowed::{allowed, patients, summary},
    work::learning,
};

/// A site that is asked by hand, and what leaves it.
struct Asked {
    site: Site,
    run: RunDescription,
    losses: Vec<Option<Losses>>,
    /// What the site names on joining.
    checkpoints: Vec<u64>,
    /// Sends other images each time.
    sent: u32,
    /// Rounds, digests and cases of the answers that were computed.
    answers: Vec<(u64, AnswerDigest, Vec<u32>)>,
}

impl Asked {
    fn new(policy: SitePolicy, run: RunDescription) -> Self {
        let mut asked = Self::with_history(policy, run, History::new(patients()));
        asked.start(0, 0);
        asked
    }

    /// A site that has joined, and waits for its start.
    fn with_history(policy: SitePolicy, run: RunDescription, history: History) -> Self {
        let randomness = SiteRandomness::Secret(SiteSecret::new([9; 32]));
        let site = Site::new(SiteSetup { policy, summary: summary(), randomness, history });
        let checkpoints = (1..400).collect();
        let mut asked = Self { site, run, losses: Vec::new(), checkpoints, sent: 0, answers: Vec::new() };
        asked.join().expect("allowed");
        asked
    }

    fn handle(&mut self, event: SiteEvent) -> Result<(), Error> {
        self.site.handle_event(event)?;
        while let Some(action) = self.site.poll_action() {
            let event = match action {
                SiteAction::Inspect { .. } => SiteEvent::Inspected { training: learning() },
                SiteAction::Consent { .. } => SiteEvent::Consented,
                SiteAction::LoadState { .. } => SiteEvent::StateLoaded { checkpoints: self.checkpoints.clone(), conditions: None },
                SiteAction::Begin { .. } => SiteEvent::Begun,
                SiteAction::Step { round, draw, synthetic, answer } => {
                    self.answers.push((round, answer, draw.real.cases));
                    SiteEvent::Stepped { feedback: synthetic, losses: Losses { discriminator: 0.123_456, generator: -40.0 } }
                }
                SiteAction::Send(Message::Feedback { losses, .. }) => {
                    self.losses.push(losses);
                    continue;
                }
                _ => continue,
            };
            self.site.handle_event(event)?;
        }
        Ok(())
    }

    fn join(&mut self) -> Result<(), Error> {
        self.handle(SiteEvent::Connected)?;
        let run = self.run.clone();
        self.handle(SiteEvent::Message(Message::Describe { site: SiteId(0), run, conditions_wanted: false }))
    }

    fn start(&mut self, attempt: u32, round: u64) {
        let start = Message::Start { attempt, round, restore: Some(round) };
        self.handle(SiteEvent::Message(start)).expect("it may start");
    }

    /// Goes on with the discriminator in memory.
    fn go_on(&mut self, attempt: u32, round: u64) {
        let start = Message::Start { attempt, round, restore: None };
        self.handle(SiteEvent::Message(start)).expect("it may start");
    }

    fn ask(&mut self, attempt: u32, round: u64) -> Result<(), Error> {
        self.sent += 1;
        self.ask_about(attempt, round, self.sent as f32 / 1e4)
    }

    /// Asks with images that have one value everywhere.
    fn ask_about(&mut self, attempt: u32, round: u64, value: f32) -> Result<(), Error> {
        let draw = self.run.draw(SiteId(0), round, &summary());
        let dims = self.run.batch_dims(&summary().image_dims);
        let values = std::iter::repeat_n(value, dims.iter().product::<u32>() as usize);
        let synthetic = Payload::new(dims, Dtype::F32, values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
        let (cases, augmentations) = (draw.cases, draw.augmentations);
        self.handle(SiteEvent::Message(Message::Round { attempt, round, cases, augmentations, synthetic }))
    }
}

fn words(result: Result<(), Error>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn one_round_is_answered_a_few_times_however_often_the_server_goes_back() {
    let mut asked = Asked::new(SitePolicy::default(), allowed());
    for attempt in 0..5 {
        asked.ask(attempt, 0).expect("answered");
        asked.start(attempt + 1, 0);
    }
    assert!(words(asked.ask(5, 0)).contains("answers_per_round_max is 5"));
    assert_eq!(asked.losses.len(), 5);
    // The same over connections that are cut.
    let mut asked = Asked::new(SitePolicy::default(), allowed());
    for _ in 0..5 {
        asked.ask(0, 0).expect("answered");
        asked.join().expect("it comes back");
        asked.start(0, 0);
    }
    assert!(words(asked.ask(0, 0)).contains("answers_per_round_max is 5"));
}

#[test]
fn repeated_rounds_are_counted_over_all_rounds() {
    let policy = SitePolicy::default().with(|policy| policy.repeated_rounds_max = 7);
    let mut asked = Asked::new(policy, allowed());
    (0..5).for_each(|round| asked.ask(0, round).expect("answered"));
    asked.start(1, 0);
    (0..5).for_each(|round| asked.ask(1, round).expect("answered again"));
    asked.start(2, 0);
    (0..2).for_each(|round| asked.ask(2, round).expect("answered again"));
    assert!(words(asked.ask(2, 2)).contains("repeated_rounds_max is 7"));
}

#[test]
fn a_server_meets_the_same_discriminator_a_limited_number_of_times() {
    let policy = SitePolicy::default().with(|policy| policy.restores_max = 20);
    let mut asked = Asked::new(policy, allowed());
    // It has no checkpoint yet.
    asked.checkpoints.clear();
    asked.join().expect("it comes back");
    asked.start(0, 0);
    let mut answers = 0;
    // Back to first weights before each new round: no round is repeated, none is skipped.
    let refused = (0..100).find_map(|round| {
        asked.ask(round as u32, round).expect("answered");
        answers += 1;
        let start = Message::Start { attempt: round as u32 + 1, round: round + 1, restore: Some(0) };
        asked.handle(SiteEvent::Message(start)).err()
    });
    assert!(refused.expect("refused").to_string().contains("restores_max is 20"));
    assert_eq!(answers, 19);
}

#[test]
fn a_server_cannot_take_a_site_back_further_than_its_nearest_checkpoint() {
    let mut asked = Asked::new(SitePolicy::default(), allowed());
    let mut start = |attempt, round, restore| {
        asked.join().expect("it comes back");
        asked.handle(SiteEvent::Message(Message::Start { attempt, round, restore: Some(restore) }))
    };
    assert_eq!(start(0, 790, 399), Ok(()));
    assert_eq!(start(0, 7, 7), Ok(()));
    assert!(words(start(0, 790, 0)).contains("from its checkpoint 0"));
}

#[test]
fn the_same_question_once_more_does_not_count() {
    let policy = SitePolicy::default().with(|policy| {
        policy.repeated_rounds_max = 0;
        policy.answers_per_round_max = 1;
    });
    let mut asked = Asked::new(policy, allowed());
    for _ in 0..50 {
        asked.sent = 0;
        asked.ask(0, 0).expect("the same images");
        asked.join().expect("it comes back");
        asked.start(0, 0);
    }
    assert!(words(asked.ask(0, 0)).contains("repeated_rounds_max is 0"));
}

#[test]
fn the_same_question_to_a_discriminator_that_has_learnt_since_counts() {
    for waiting in [Waiting::Quorum { sites: 1, deadline_ms: 1_000 }, Waiting::Staleness { sites: 1, rounds: 3 }] {
        let run = || allowed().with(|run| run.waiting = waiting);
        // Two questions in turn, without a restart in between: each meets another discriminator.
        let mut asked = Asked::new(SitePolicy::default(), run());
        asked.ask_about(0, 0, 0.5).expect("answered");
        let answers = (1..100).take_while(|&attempt| {
            asked.go_on(attempt, 0);
            asked.ask_about(attempt, 0, if attempt % 2 == 0 { 0.5 } else { 0.6 }).is_ok()
        });
        // With the first one, as many as answers_per_round_max.
        assert_eq!(answers.count(), 4);
        // A branch does not make later questions free.
        let policy = SitePolicy::default().with(|policy| policy.repeated_rounds_max = 2);
        let mut asked = Asked::new(policy, run());
        (0..4).for_each(|round| asked.ask_about(0, round, 0.1).expect("answered"));
        asked.start(1, 0);
        asked.ask_about(1, 0, 0.2).expect("another question");
        asked.ask_about(1, 1, 0.1).expect("the same question to another discriminator");
        assert!(words(asked.ask_about(1, 2, 0.1)).contains("repeated_rounds_max is 2"));
    }
}

#[test]
fn an_answer_that_was_lost_is_sent_again_and_the_discriminator_does_not_learn_twice() {
    let policy = SitePolicy::default().with(|policy| policy.repeated_rounds_max = 0);
    let mut asked = Asked::new(policy, allowed().with(|run| run.waiting = Waiting::Staleness { sites: 1, rounds: 3 }));
    for attempt in 0..20 {
        asked.ask_about(attempt, 0, 0.5).expect("answered");
        asked.go_on(attempt + 1, 0);
    }
    assert_eq!((asked.losses.len(), asked.answers.len()), (20, 1));
    asked.ask_about(20, 0, 0.5).expect("answered");
    asked.ask_about(20, 1, 0.5).expect("the next round");
    assert_eq!(asked.answers.len(), 2);
}

#[test]
fn a_site_that_is_killed_and_resumes_repeats_nothing() {
    let policy = || {
        SitePolicy::default().with(|policy| {
            policy.repeated_rounds_max = 0;
            policy.answers_per_round_max = 1;
        })
    };
    for waiting in [Waiting::All, Waiting::Quorum { sites: 1, deadline_ms: 1_000 }] {
        let run = || allowed().with(|run| run.waiting = waiting);
        let mut asked = Asked::new(policy(), run());
        (0..250).for_each(|round| asked.ask_about(0, round, round as f32 / 1e3).expect("answered"));
        // The last answers are in the journal, and the checkpoint is older.
        let mut history = History::new(patients());
        asked.answers.iter().for_each(|(round, answer, cases)| history.add(*round, *answer, cases));
        for checkpoint in [0, 100, 200] {
            let mut resumed = Asked::with_history(policy(), run(), history.clone());
            resumed.checkpoints = vec![100, 200];
            resumed.join().expect("it comes back");
            resumed.start(0, checkpoint);
            (checkpoint..300).for_each(|round| resumed.ask_about(0, round, round as f32 / 1e3).expect("nothing is new"));
        }
        // A checkpoint whose answer is not in the journal: later answers are new.
        let mut history = History::new(patients());
        asked.answers.iter().filter(|(round, ..)| *round != 99).for_each(|(round, answer, cases)| history.add(*round, *answer, cases));
        let mut resumed = Asked::with_history(policy(), run(), history);
        resumed.start(0, 100);
        assert!(words(resumed.ask_about(0, 100, 0.1)).contains("repeated_rounds_max is 0"));
    }
}

#[test]
fn synthetic_images_have_the_values_of_images() {
    for value in [1.0 + 1e-6, -1e12, f32::NAN, f32::INFINITY] {
        let mut asked = Asked::new(SitePolicy::default(), allowed());
        asked.ask_about(0, 0, -1.0).expect("black");
        assert!(words(asked.ask_about(0, 1, value)).contains("not from -1 to 1"), "{value}");
    }
}

#[test]
fn messages_about_the_past_are_ignored_a_limited_number_of_times() {
    let mut asked = Asked::new(SitePolicy::default(), allowed());
    (0..3).for_each(|round| asked.ask(0, round).expect("answered"));
    let echo = |asked: &mut Asked| {
        let synthetic = Payload::new(vec![0], Dtype::F32, Vec::new());
        asked.handle(SiteEvent::Message(Message::Round { attempt: 0, round: 0, cases: Vec::new(), augmentations: Vec::new(), synthetic }))
    };
    assert_eq!((0..100_000).take_while(|_| echo(&mut asked).is_ok()).count(), 10_000);
}

#[test]
fn a_server_cannot_skip_rounds_without_a_lost_connection() {
    let quorum = Waiting::Quorum { sites: 1, deadline_ms: 1_000 };
    let policy = SitePolicy::default().with(|policy| policy.skipped_rounds_max = 10);
    let mut asked = Asked::new(policy, allowed().with(|run| run.waiting = quorum));
    asked.ask(0, 0).expect("answered");
    asked.ask(0, 9).expect("a slow site misses some");
    assert!(words(asked.ask(0, 20)).contains("skipped_rounds_max is 10"));
}

#[test]
fn another_description_ends_the_sites_part() {
    let mut asked = Asked::new(SitePolicy::default(), allowed());
    asked.run.seed += 1;
    assert!(words(asked.join()).contains("now describes the run"));
}

#[test]
fn losses_stay_or_leave_as_rounded_means() {
    let leaving = |losses: LossPolicy| {
        let mut asked = Asked::new(SitePolicy::default().with(|policy| policy.losses = losses), allowed());
        (0..120).for_each(|round| asked.ask(0, round).expect("answered"));
        asked.losses
    };
    assert!(leaving(LossPolicy::None).iter().all(Option::is_none));
    let means = leaving(LossPolicy::Mean { rounds: LOSS_ROUNDS_MIN });
    let expected = Losses { discriminator: 0.12, generator: -10.0 };
    assert_eq!(means.iter().flatten().collect::<Vec<_>>(), [&expected; 2]);
    assert!(means[49].is_some() && means[99].is_some());
    assert!(SitePolicy::default().with(|policy| policy.losses = LossPolicy::Mean { rounds: 2 }).validate().is_err());
}

#[test]
fn an_answer_is_sent_again_a_limited_number_of_times() {
    let mut asked = Asked::new(SitePolicy::default(), allowed());
    asked.ask(0, 0).expect("answered");
    let again = (0..1_000).take_while(|_| asked.ask(0, 0).is_ok()).count();
    assert_eq!((again, asked.losses.len()), (100, 101));
}

#[test]
fn what_a_server_writes_cannot_move_the_terminal() {
    let mut asked = Asked::new(SitePolicy::default(), allowed());
    asked.site.handle_event(SiteEvent::Message(Message::Leave { reason: "bye\u{1b}[2J\r\n".repeat(100) })).expect("it ends");
    let ended = std::iter::from_fn(|| asked.site.poll_action()).find_map(|action| match action {
        SiteAction::Ended { reason } => Some(reason),
        _ => None,
    });
    let reason = ended.expect("it ended");
    assert!(reason.starts_with("bye[2Jbye") && reason.len() == 500, "{reason:?}");
}
