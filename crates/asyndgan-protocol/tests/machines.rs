//! The two machines against each other, in virtual time, with sites that answer in any order.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use std::time::Duration;

use asyndgan_protocol::{
    Dtype, Error, Losses, Message, PROTOCOL_VERSION, Payload, RunDescription, Server, ServerAction, ServerEvent, Site, SiteAction,
    SiteEvent, SiteId, SitePolicy, SiteSummary, Weighting, draw_cases,
};
use proptest::prelude::*;

fn run(rounds: u64) -> RunDescription {
    RunDescription {
        seed: 3,
        rounds,
        batch: 2,
        crop: 4,
        flips: true,
        weighting: Weighting::Proportional,
        l1_weight: 0.0,
        checkpoint_every: 2,
    }
}

fn payload(dims: &[u32], dtype: Dtype, fill: u8) -> Payload {
    let n = dims.iter().product::<u32>() as usize * if dtype == Dtype::F32 { 4 } else { 1 };
    Payload { dims: dims.into(), dtype, bytes: vec![fill; n] }
}

fn ready(cases: u32, checkpoints: &[u64]) -> SiteEvent {
    let summary = SiteSummary { cases, image_dims: vec![1, 6, 6], checkpoints: checkpoints.into() };
    SiteEvent::Ready { summary, conditions: payload(&[cases, 6, 6], Dtype::U8, 1) }
}

/// A server and its sites joined by queues; `pick` chooses which waiting message is delivered next.
struct Group {
    server: Server,
    sites: Vec<Site>,
    to_server: Vec<(SiteId, Message)>,
    updates: Vec<(u64, Vec<Payload>)>,
    begun_at: Vec<u64>,
    checkpoints: Vec<u64>,
    finished: bool,
}

impl Group {
    fn new(rounds: u64, cases: &[u32], held: &[u64]) -> Self {
        let server = Server::new(run(rounds), cases.len() as u32, held, Duration::from_mins(1));
        let sites = (0..cases.len()).map(|i| Site::new(SiteId(i as u32), SitePolicy::default())).collect();
        let mut group = Self {
            server,
            sites,
            to_server: Vec::new(),
            updates: Vec::new(),
            begun_at: Vec::new(),
            checkpoints: Vec::new(),
            finished: false,
        };
        for (i, &n) in cases.iter().enumerate() {
            group.sites[i].handle_event(ready(n, held)).expect("joins");
            group.drive_site(i);
        }
        group
    }

    fn drive_site(&mut self, i: usize) {
        while let Some(action) = self.sites[i].poll_action() {
            let event = match action {
                SiteAction::Send(message) => {
                    let message = Message::decode(&message.encode()).expect("round trip");
                    self.to_server.push((SiteId(i as u32), message));
                    continue;
                }
                SiteAction::Begin { .. } => SiteEvent::Begun,
                // The feedback names its site and round, so that the order of sums can be seen.
                SiteAction::Step { round, synthetic, .. } => {
                    let feedback = Payload { bytes: vec![(10 * round) as u8 + i as u8; synthetic.bytes.len()], ..synthetic };
                    SiteEvent::Stepped { round, feedback, losses: Losses { discriminator: 0.5, generator: i as f32 } }
                }
                SiteAction::Checkpoint { .. } | SiteAction::Finished | SiteAction::Ended { .. } => continue,
            };
            self.sites[i].handle_event(event).expect("site goes on");
        }
    }

    fn drive_server(&mut self) -> Result<(), Error> {
        while let Some(action) = self.server.poll_action() {
            let event = match action {
                ServerAction::Send { site, message } => {
                    self.sites[site.0 as usize].handle_event(SiteEvent::Message(message)).expect("site goes on");
                    self.drive_site(site.0 as usize);
                    continue;
                }
                ServerAction::Begin { rounds_done, .. } => {
                    self.begun_at.push(rounds_done);
                    ServerEvent::Begun
                }
                ServerAction::Synthesize { draws, .. } => ServerEvent::Synthesized {
                    synthetic: draws.iter().map(|(c, _)| payload(&[c.len() as u32, 1, 4, 4], Dtype::F32, 0)).collect(),
                },
                ServerAction::Update { round, feedback, .. } => {
                    self.updates.push((round, feedback));
                    ServerEvent::Updated
                }
                ServerAction::Checkpoint { rounds_done } => {
                    self.checkpoints.push(rounds_done);
                    continue;
                }
                ServerAction::Finished => {
                    self.finished = true;
                    continue;
                }
            };
            self.server.handle_event(Duration::ZERO, event)?;
        }
        Ok(())
    }

    fn play(&mut self, mut pick: impl FnMut(usize) -> usize) -> Result<(), Error> {
        while !self.to_server.is_empty() {
            let (site, message) = self.to_server.remove(pick(self.to_server.len()));
            self.server.handle_event(Duration::ZERO, ServerEvent::Message { site, message })?;
            self.drive_server()?;
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_order_of_answers_changes_nothing(cases in proptest::collection::vec(1_u32..6, 1..5), choices in proptest::collection::vec(0_usize..100, 64)) {
        let mut straight = Group::new(5, &cases, &[]);
        straight.play(|_| 0).expect("plays");
        let mut choices = choices.into_iter().cycle();
        let mut shuffled = Group::new(5, &cases, &[]);
        shuffled.play(|n| choices.next().unwrap_or(0) % n).expect("plays");
        prop_assert!(straight.finished && shuffled.finished);
        prop_assert_eq!(&straight.updates, &shuffled.updates);
        prop_assert_eq!(&straight.checkpoints, &[2, 4, 5]);
        for (round, feedback) in &straight.updates {
            for (site, f) in feedback.iter().enumerate() {
                prop_assert!(f.bytes.iter().all(|&b| u64::from(b) == 10 * round + site as u64));
            }
        }
    }

    #[test]
    fn every_case_is_drawn_equally_often(seed: u64, site in 0_u32..64, batch in 1_u32..7, cases in 1_u32..20, epochs in 1_u64..4) {
        // As many rounds as show `epochs * batch` whole epochs.
        let mut drawn = vec![0; cases as usize];
        for round in 0..epochs * u64::from(cases) {
            for case in draw_cases(seed, site, round, batch, cases) {
                drawn[case as usize] += 1;
            }
        }
        prop_assert!(drawn.iter().all(|&n| n == epochs * u64::from(batch)), "{drawn:?}");
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()).expect("round trip"), message);
        }
    }

    #[test]
    fn weights_sum_to_one_and_ignore_scale(cases in proptest::collection::vec(1_u32..1000, 1..20), factor in 1_u32..50) {
        let weights = Weighting::Proportional.weights(&cases);
        prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let scaled: Vec<u32> = cases.iter().map(|n| n * factor).collect();
        for (a, b) in weights.iter().zip(Weighting::Proportional.weights(&scaled)) {
            prop_assert!((a - b).abs() < 1e-12);
        }
    }
}

#[test]
fn a_run_goes_on_from_the_last_common_checkpoint() {
    let mut group = Group::new(5, &[3, 2], &[2, 4]);
    group.play(|_| 0).expect("plays");
    assert_eq!(group.begun_at, [4]);
    assert_eq!(group.updates.iter().map(|u| u.0).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_site_refuses_what_its_policy_forbids() {
    let mut site = Site::new(SiteId(0), SitePolicy::default());
    site.handle_event(ready(3, &[])).expect("joins");
    assert!(matches!(site.poll_action(), Some(SiteAction::Send(Message::Join { .. }))));
    let leaky = RunDescription { l1_weight: 10.0, ..run(5) };
    let refusal = site.handle_event(SiteEvent::Message(Message::Describe { run: leaky }));
    assert!(matches!(refusal, Err(Error::Refused { .. })));
    assert!(matches!(site.poll_action(), Some(SiteAction::Send(Message::Leave { .. }))));
}

#[test]
fn silence_and_loss_end_the_run_with_the_site_named() {
    let mut server = Server::new(run(5), 2, &[], Duration::from_mins(1));
    let join = Message::Join {
        protocol_version: PROTOCOL_VERSION,
        summary: SiteSummary { cases: 1, image_dims: vec![1, 4, 4], checkpoints: vec![] },
    };
    server.handle_event(Duration::from_secs(1), ServerEvent::Message { site: SiteId(0), message: join }).expect("joins");
    assert_eq!(server.poll_timeout(), Some(Duration::from_secs(61)));
    assert_eq!(server.handle_event(Duration::from_mins(1), ServerEvent::Tick), Ok(()));
    let silent = server.handle_event(Duration::from_secs(61), ServerEvent::Tick);
    assert!(matches!(silent, Err(Error::Silent { ref sites, .. }) if *sites == [SiteId(0), SiteId(1)]));

    let mut server = Server::new(run(5), 2, &[], Duration::from_mins(1));
    let lost = server.handle_event(Duration::ZERO, ServerEvent::SiteLost { site: SiteId(1), reason: "gone".into() });
    assert_eq!(lost, Err(Error::SiteLeft { site: SiteId(1), round: 0, reason: "gone".into() }));
}

#[test]
fn feedback_of_another_shape_is_refused() {
    let mut group = Group::new(5, &[3], &[]);
    // Join, conditions, then the first feedback, which is tampered with.
    for _ in 0..2 {
        let (site, message) = group.to_server.remove(0);
        group.server.handle_event(Duration::ZERO, ServerEvent::Message { site, message }).expect("joins");
        group.drive_server().expect("goes on");
    }
    let tampered = Message::Feedback {
        round: 0,
        feedback: payload(&[2, 1, 4, 5], Dtype::F32, 0),
        losses: Losses { discriminator: 0.0, generator: 0.0 },
    };
    let refused = group.server.handle_event(Duration::ZERO, ServerEvent::Message { site: SiteId(0), message: tampered });
    assert!(matches!(refused, Err(Error::PayloadDims { .. })));
}
