//! Every generator step takes each site at most once, in site order, with weights that sum to 1, and nothing later than
//! allowed.
//!
//! # Reference
//! Equation 4: the weighted sum over sites.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::Waiting;
use proptest::prelude::*;
use simulation::{World, run};

fn waiting() -> impl Strategy<Value = Waiting> {
    prop_oneof![
        Just(Waiting::All),
        (1_u32..4, 0_u64..5000).prop_map(|(sites, deadline_ms)| Waiting::Quorum { sites, deadline_ms }),
        (1_u32..4, 0_u64..4).prop_map(|(sites, rounds)| Waiting::Staleness { sites, rounds }),
    ]
}

proptest! {
    #[test]
    fn steps_are_sums_over_sites_in_order(seed: u64, cases in proptest::collection::vec(1_u32..4, 1..5), rounds in 1_u64..9, faults in 0_u32..8, waiting in waiting()) {
        let mut world = World::new(run(rounds, waiting), &cases);
        world.play(seed, faults);
        let needed = waiting.needed(cases.len() as u32) as usize;
        for (round, contributions) in &world.updates {
            prop_assert!(contributions.len() >= needed, "round {round}: {} of {needed}", contributions.len());
            prop_assert!(contributions.windows(2).all(|w| w[0].draw.site < w[1].draw.site));
            prop_assert!((contributions.iter().map(|c| c.weight).sum::<f64>() - 1.0).abs() < 1e-9);
            let late = match waiting { Waiting::Staleness { rounds, .. } => rounds, _ => 0 };
            prop_assert!(contributions.iter().all(|c| c.round <= *round && c.round + late >= *round), "round {round}, {waiting:?}: {:?}", contributions.iter().map(|c| c.round).collect::<Vec<_>>());
        }
        // Sites are only dismissed for being away or silent: none sent anything invalid.
        for (_, error) in &world.dismissed {
            let innocent = matches!(error, asyndgan_protocol::Error::SiteLeft { .. } | asyndgan_protocol::Error::Silent { .. });
            prop_assert!(innocent, "{error}");
        }
    }
}
