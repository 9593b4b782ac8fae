//! A site's masks leave it until they are kept, and then never again in a run, also after kills.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::Waiting;
use proptest::prelude::*;
use simulation::{World, run};

proptest! {
    #[test]
    fn masks_are_kept_once(seed: u64, sites in 1_usize..5, faults in 0_u32..8) {
        let mut world = World::new(run(6, Waiting::All), &vec![2; sites]);
        world.play(seed, faults);
        let mut keeps = world.keeps.clone();
        keeps.sort();
        prop_assert!(keeps.windows(2).all(|w| w[0] != w[1]), "{keeps:?}");
        prop_assert_eq!(keeps.len(), sites);
    }
}
