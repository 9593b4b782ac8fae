//! Under the paper's policy, cuts, kills and slow sites do not change the generator.
//!
//! # Reference
//! Section 3.2: waiting for all, distributed learning is centralised learning.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::Waiting;
use proptest::prelude::*;
use simulation::{World, run, schedule::undisturbed};

proptest! {
    #[test]
    fn any_schedule_ends_with_the_same_generator(seed: u64, cases in proptest::collection::vec(1_u32..4, 1..5), rounds in 1_u64..9, faults in 0_u32..8) {
        let run = run(rounds, Waiting::All);
        let mut world = World::new(run.clone(), &cases);
        world.play(seed, faults);
        prop_assert_eq!(world.generator, Some(undisturbed(&run, &cases)));
    }
}

#[test]
fn another_order_of_sites_would_be_another_generator() {
    let run = run(3, Waiting::All);
    assert_ne!(undisturbed(&run, &[1, 2]), undisturbed(&run, &[2, 1]));
}
