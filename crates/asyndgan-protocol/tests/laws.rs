//! Draws, weights and payloads.
#![allow(missing_docs, reason = "tests")]

use asyndgan_protocol::{Dtype, Message, Payload, SiteSummary, Weighting, draw_cases};
use proptest::prelude::*;

proptest! {
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
    fn weights_sum_to_one_and_ignore_scale(cases in proptest::collection::vec(1_u32..1000, 1..20), factor in 1_u32..50) {
        let weights = Weighting::Proportional.weights(&cases);
        prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let scaled: Vec<u32> = cases.iter().map(|n| n * factor).collect();
        for (a, b) in weights.iter().zip(Weighting::Proportional.weights(&scaled)) {
            prop_assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn packing_loses_nothing(codes in proptest::collection::vec(0_u8..3, 0..500)) {
        let payload = Payload::new(vec![codes.len() as u32], Dtype::U8, codes);
        let packed = payload.clone().compressed();
        prop_assert!(packed.bytes.len() <= payload.bytes.len());
        prop_assert_eq!(packed.decompressed().expect("whole"), payload);
    }

    #[test]
    fn messages_with_many_dimensions_are_refused(count in 0_usize..20) {
        let dims = vec![1; count];
        let summary = SiteSummary { cases: 1, image_dims: dims.clone(), conditions_sha256: [0; 32] };
        let join = Message::Join { protocol_version: 1, summary };
        let feedback = Payload::new(dims, Dtype::U8, vec![0]);
        let answer = Message::Feedback { attempt: 0, round: 0, feedback, losses: None };
        for message in [join, answer] {
            prop_assert_eq!(Message::decode(&message.encode()).is_ok(), count <= 8);
        }
    }

    #[test]
    fn magnitudes_are_found(values in proptest::collection::vec(-1e30_f32..1e30, 1..50), spoilt in proptest::option::of(prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)]), at: proptest::sample::Index) {
        let mut values = values;
        let at = at.index(values.len());
        if let Some(spoilt) = spoilt {
            values[at] = spoilt;
        }
        let largest = values.iter().fold(0_f32, |m, v| m.max(v.abs()));
        let payload = Payload::new(vec![values.len() as u32], Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        prop_assert_eq!(payload.magnitude(), spoilt.is_none().then_some(largest));
    }
}

#[test]
fn a_bomb_does_not_go_off() {
    // Megabytes of nothing in a few bytes, with dimensions that tell of less.
    let bomb = Payload::new(vec![10_000_000], Dtype::U8, vec![0; 10_000_000]).compressed();
    assert!(bomb.packed && bomb.bytes.len() < 10_000);
    let lying = Payload { dims: vec![100_000], ..bomb };
    assert!(lying.decompressed().is_err());
}
