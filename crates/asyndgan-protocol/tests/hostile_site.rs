//! A hostile site cannot make the server panic or end the run. Only finite feedback of the right form reaches the
//! generator.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use std::time::Duration;

use asyndgan_protocol::{
    Dtype, Error, FEEDBACK_MAGNITUDE_MAX, Losses, Message, Payload, ResumeState, ServerEvent, SiteId, SiteSummary, Waiting,
};
use proptest::prelude::*;
use simulation::{World, codes, run, summary};

const QUORUM: Waiting = Waiting::Quorum { sites: 1, deadline_ms: 100 };
const STALENESS: Waiting = Waiting::Staleness { sites: 1, rounds: 4 };

fn payload() -> impl Strategy<Value = Payload> {
    let dims = prop_oneof![Just(vec![1, 1, 2, 2]), Just(vec![2, 3, 3]), proptest::collection::vec(0_u32..5, 0..5), Just(vec![u32::MAX; 4])];
    let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::U8), Just(Dtype::F16), Just(Dtype::Q8)];
    let values = prop_oneof![Just(0.5_f32), Just(f32::NAN), Just(f32::INFINITY), Just(1e9), any::<f32>()];
    (dims, dtype, any::<bool>(), proptest::collection::vec(values, 0..5)).prop_map(|(dims, dtype, packed, values)| {
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Payload { dims, dtype, packed, bytes: bytes.into() }
    })
}

fn message() -> impl Strategy<Value = Message> {
    let losses = prop_oneof![Just(0.5_f32), Just(f32::NAN)].prop_map(|l| Losses { discriminator: l, generator: 0.1 });
    prop_oneof![
        (
            4_u32..6,
            prop_oneof![Just(2_u32), any::<u32>()],
            prop_oneof![Just(vec![1, 3, 3]), Just(vec![1, u32::MAX, u32::MAX]), Just(vec![])]
        )
            .prop_map(|(protocol_version, cases, image_dims)| Message::Join {
                protocol_version,
                summary: SiteSummary { cases, image_dims, ..summary(0, 2) }
            }),
        (
            proptest::option::of(prop_oneof![Just(codes(0, 2)), payload()]),
            proptest::option::of(0_u64..9),
            proptest::collection::vec(0_u64..9, 0..3)
        )
            .prop_map(|(conditions, in_memory, checkpoints)| Message::Accept {
                resume_state: ResumeState { checkpoints, in_memory },
                conditions
            }),
        (0_u32..3, 0_u64..9, payload(), losses).prop_map(|(attempt, round, feedback, losses)| Message::Feedback {
            attempt,
            round,
            feedback,
            losses: Some(losses),
        }),
        Just(Message::Finish),
        (0..30_u64).prop_map(|round| Message::Retire { round, reason: "enough".into() }),
        Just(Message::Leave { reason: "why not".into() }),
        Just(Message::Start { attempt: 9, round: 9, restore: None }),
    ]
}

proptest! {
    #[test]
    fn nothing_that_a_site_sends_ends_the_run(
        seed: u64,
        quorum: bool,
        messages in proptest::collection::vec((message(), any::<bool>(), any::<bool>()), 1..40),
    ) {
        let waiting = if quorum { QUORUM } else { STALENESS };
        let mut world = World::new(run(4, waiting), &[2, 2]);
        // The server waits at most so long for a silent site, well within the schedule.
        world.policy.timeouts.answer = Duration::from_mins(5);
        world.start_server();
        // The first site is hostile; the second must finish the run.
        world.kill_site(0);
        world.gone[0] = true;
        for (message, work, reconnects) in messages {
            if reconnects {
                world.tell_server(ServerEvent::SiteLost { site: SiteId(0), reason: "cut".into() });
            }
            world.tell_server(ServerEvent::Message { site: SiteId(0), message });
            world.connect(1);
            while work && (world.deliver_to_server(1) || world.deliver_to_site(1) || world.work_site(1) || world.work_server()) {}
        }
        world.play(seed, 0);
        for (_, contributions) in &world.updates {
            for c in contributions {
                prop_assert_eq!(&c.feedback.dims, &[1, 1, 2, 2]);
                prop_assert!(c.feedback.magnitude().is_some_and(|m| m <= FEEDBACK_MAGNITUDE_MAX));
                prop_assert!(c.losses.is_none_or(|l| l.discriminator.is_finite()));
            }
        }
        let named = world.dismissed.iter().all(|(site, error)| error.to_string().contains(&site.to_string()));
        prop_assert!(named, "{:?}", world.dismissed);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(&bytes.into()) {
            prop_assert_eq!(Message::decode(&message.encode()).expect("round trip").encode(), message.encode());
        }
    }
}

/// What the server says of a site that joins honestly and then sends this.
fn complaint(waiting: Waiting, message: Message) -> Error {
    let mut world = World::new(run(4, waiting), &[2, 2]);
    for i in 0..2 {
        world.connect(i);
    }
    while (0..2).any(|i| {
        world.deliver_to_server(i) || world.deliver_to_site(i) || i == 1 && world.work_site(i) || world.work_site_unless_stepping(i)
    }) || world.work_server()
    {}
    if matches!(message, Message::Join { .. }) {
        // It reconnects.
        world.tell_server(ServerEvent::SiteLost { site: SiteId(0), reason: "cut".into() });
    }
    world.tell_server(ServerEvent::Message { site: SiteId(0), message });
    // What is under way is done first.
    while world.dismissed.last().is_none_or(|d| !d.1.is_fault()) && world.work_server() {}
    let (site, error) = world.dismissed.pop().expect("dismissed");
    assert_eq!(site, SiteId(0));
    error
}

fn feedback(round: u64, value: f32, dims: Vec<u32>) -> Message {
    let n = dims.iter().product::<u32>() as usize;
    let bytes: Vec<u8> = std::iter::repeat_n(value, n).flat_map(f32::to_le_bytes).collect();
    Message::Feedback { attempt: 0, round, feedback: Payload::new(dims, Dtype::F32, bytes), losses: None }
}

#[test]
fn each_fault_has_its_own_error() {
    let right = vec![1, 1, 2, 2];
    let check = |message: Message, fits: fn(&Error) -> bool| {
        for waiting in [Waiting::All, Waiting::Quorum { sites: 1, deadline_ms: 1000 }] {
            let error = complaint(waiting, message.clone());
            assert!(fits(&error), "{error}");
        }
    };
    check(feedback(0, f32::NAN, right.clone()), |e| matches!(e, Error::InvalidFeedback { .. }));
    check(feedback(0, 1e6, right.clone()), |e| matches!(e, Error::InvalidFeedback { .. }));
    check(feedback(0, 0.1, vec![1, 1, 2, 3]), |e| matches!(e, Error::PayloadDims { .. }));
    check(feedback(7, 0.1, right), |e| matches!(e, Error::OutOfTurn { .. }));
    check(Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION - 1, summary: summary(0, 2) }, |e| {
        matches!(e, Error::Version { .. })
    });
    check(Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION, summary: summary(0, 9) }, |e| {
        matches!(e, Error::Changed { .. })
    });
    check(
        Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION, summary: SiteSummary { cases: 0, ..summary(0, 2) } },
        |e| matches!(e, Error::NoCases { .. }),
    );
    let enormous = SiteSummary { cases: u32::MAX, ..summary(0, 2) };
    check(Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION, summary: enormous }, |e| {
        matches!(e, Error::TooManyCases { .. })
    });
    let grey = SiteSummary { image_dims: vec![2, 3, 3], ..summary(0, 2) };
    check(Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION, summary: grey }, |e| matches!(e, Error::ImageDims { .. }));
    // Of another scale.
    let wider = SiteSummary { image_dims: vec![1, 3, 4], ..summary(0, 2) };
    check(Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION, summary: wider }, |e| {
        matches!(e, Error::ImageDims { .. })
    });
    let values = SiteSummary { image_dims: vec![1], ..summary(0, 2) };
    check(Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION, summary: values }, |e| {
        matches!(e, Error::ImageDims { .. })
    });
    check(Message::Finish, |e| matches!(e, Error::OutOfTurn { .. }));
}
