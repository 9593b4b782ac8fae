//! An operator ends a run before its last round.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::{ServerEvent, Waiting};
use proptest::prelude::*;
use simulation::{World, run};

const ROUNDS: u64 = 20;

fn world(waiting: Waiting) -> World {
    World::new(run(ROUNDS, waiting), &[2, 3, 4])
}

fn waitings() -> impl Strategy<Value = Waiting> {
    let quorum = Waiting::Quorum { sites: 2, deadline_ms: 1_000 };
    prop_oneof![Just(Waiting::All), Just(quorum), Just(Waiting::Staleness { sites: 2, rounds: 2 })]
}

proptest! {
    #[test]
    fn at_any_time_the_run_ends_with_the_rounds_that_are_done(waiting in waitings(), seed in any::<u64>(), steps in 0_u32..2_000) {
        let mut world = world(waiting);
        let under_way = world.go(seed, steps);
        let done = world.updates.last().map_or(0, |update| update.0 + 1);
        world.tell_server(ServerEvent::Finish);
        world.play(seed, 0);
        let rounds = world.updates.last().expect("a round").0 + 1;
        // A round that was being computed when the request came still counts, and the first is always done.
        prop_assert!(!under_way || rounds <= (done + 1).max(1), "{done} rounds were done, {rounds} are the result");
        prop_assert!(world.generator.is_some());
        prop_assert!(world.retired.is_empty());
        prop_assert_eq!(world.server_checkpoints().pop(), Some(rounds));
    }

    #[test]
    fn a_server_that_is_killed_while_it_ends_the_run_ends_it_when_it_is_asked_again(
        sites in 1_usize..4,
        seed in any::<u64>(),
        steps in 200_u32..2_000,
        actions in 0_u32..20,
    ) {
        let mut world = World::new(run(ROUNDS, Waiting::All), &[2, 3, 4][..sites]);
        world.strict = false;
        let under_way = world.go(seed, steps);
        let done = world.updates.last().map_or(0, |update| update.0 + 1);
        world.server_dies_in = Some(actions);
        world.tell_server(ServerEvent::Finish);
        world.server_dies_in = None;
        world.kill_server();
        world.start_server();
        world.tell_server(ServerEvent::Finish);
        world.play(seed, 0);
        prop_assert!(world.generator.is_some() && world.retired.is_empty(), "{:?}", world.retired);
        let rounds = world.server_checkpoints().pop().expect("a result");
        prop_assert!(!under_way || rounds <= (done + 1).max(1), "{done} rounds were done, {rounds} are the result");
    }

    #[test]
    fn absent_sites_do_not_prevent_the_end(seed in any::<u64>(), steps in 600_u32..2_000) {
        let mut world = world(Waiting::All);
        let under_way = world.go(seed, steps);
        if !under_way || world.updates.is_empty() {
            // Too early or too late for this case.
            return Ok(());
        }
        for i in 0..3 {
            world.kill_site(i);
            world.gone[i] = true;
        }
        world.tell_server(ServerEvent::Finish);
        world.play(seed, 0);
        prop_assert!(world.generator.is_some());
    }
}
