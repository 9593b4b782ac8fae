//! The sites that a run waits for.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use std::time::Duration;

use asyndgan_protocol::{SiteId, Waiting};
use simulation::{World, run};

fn awaited(world: &World) -> Vec<u32> {
    world.server.as_ref().expect("it runs").machine.awaited().into_iter().map(|SiteId(site)| site).collect()
}

#[test]
fn a_run_waits_for_sites_that_have_not_joined_and_for_slow_ones() {
    let mut world = World::new(run(20, Waiting::All), &[2, 3, 4]);
    assert_eq!(awaited(&world), [0, 1, 2]);
    world.kill_site(1);
    world.gone[1] = true;
    world.go(1, 2_000);
    assert_eq!(awaited(&world), [1], "the others have joined");
    world.gone[1] = false;
    world.start_site(1);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..500 {
        world.go(seed, 1);
        seen.insert(awaited(&world));
    }
    assert!(seen.contains(&vec![]) && seen.contains(&vec![0, 1, 2]) && seen.iter().any(|sites| sites.len() == 1), "{seen:?}");
    world.play(2, 0);
    assert_eq!(awaited(&world), [0_u32; 0]);
}

#[test]
fn a_quorum_does_not_wait_for_absent_sites() {
    let mut world = World::new(run(20, Waiting::Quorum { sites: 2, deadline_ms: 1_000 }), &[2, 3, 4]);
    world.kill_site(2);
    world.gone[2] = true;
    for seed in 0..2_000 {
        world.go(seed, 1);
        world.let_time_pass(Duration::from_millis(50));
        let joined = !world.updates.is_empty();
        assert!(!joined || !awaited(&world).contains(&2), "{:?}", awaited(&world));
    }
    assert!(!world.updates.is_empty());
}
