//! A quorum, or bounded staleness, goes on without sites that are gone for good.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::Waiting;
use proptest::prelude::*;
use simulation::{World, run};

proptest! {
    #[test]
    fn enough_sites_end_the_run(seed: u64, sites in 2_usize..6, needed in 1_u32..5, late in 0_u64..3, quorum: bool, at_first: bool, faults in 0_u32..4) {
        let needed = needed.min(sites as u32 - 1);
        let waiting = if quorum { Waiting::Quorum { sites: needed, deadline_ms: 700 } } else { Waiting::Staleness { sites: needed, rounds: late } };
        let mut world = World::new(run(6, waiting), &vec![2; sites]);
        for i in needed as usize..sites {
            if at_first {
                world.kill_site(i);
                world.gone[i] = true;
            } else {
                world.doomed.push(i);
            }
        }
        world.play(seed, faults);
        prop_assert!(world.generator.is_some());
    }
}
