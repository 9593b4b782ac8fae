//! Under a quorum or bounded staleness, a site that does not answer delays the others no longer than allowed.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use std::time::Duration;

use asyndgan_protocol::{SiteId, Timeouts, Waiting};
use simulation::{World, run};

const ROUNDS: u64 = 4;
/// This site never answers a round.
const SILENT: usize = 0;

/// Three sites, of which the silent one and another have come.
fn world(waiting: Waiting) -> World {
    let mut world = World::new(run(ROUNDS, waiting), &[2, 2, 2]);
    world.connect(SILENT);
    world.connect(1);
    settle(&mut world);
    world
}

/// Everything that can happen without time passing.
fn settle(world: &mut World) {
    let mut one = |i| {
        let worked = if i == SILENT { world.work_site_unless_stepping(i) } else { world.work_site(i) };
        worked || world.deliver_to_server(i) || world.deliver_to_site(i) || world.work_server()
    };
    while (0..3).any(&mut one) {}
}

fn wait(world: &mut World, time: Duration) {
    world.let_time_pass(time);
    settle(world);
}

/// Who answered, round by round.
fn answers(world: &World) -> Vec<Vec<u32>> {
    world.updates.iter().map(|(_, contributions)| contributions.iter().map(|c| c.draw.site.0).collect()).collect()
}

#[test]
fn a_quorum_asks_a_latecomer_at_the_deadline_and_waits_for_nobody_again() {
    let deadline = Duration::from_mins(1);
    let mut world = world(Waiting::Quorum { sites: 2, deadline_ms: 60_000 });
    wait(&mut world, deadline);
    world.connect(2);
    wait(&mut world, Duration::from_millis(59_999));
    assert!(world.updates.is_empty(), "the silent site may still answer");
    wait(&mut world, Duration::from_millis(1));
    assert_eq!(answers(&world), [[1, 2]; ROUNDS as usize]);
    assert!(world.generator.is_some());
}

#[test]
fn timeouts_of_any_length_do_not_overflow() {
    let mut world = World::new(run(ROUNDS, Waiting::Quorum { sites: 2, deadline_ms: 604_800_000 }), &[2, 2, 2]);
    world.policy.timeouts = Timeouts { answer: Duration::MAX, absence: Duration::MAX };
    world.kill_server();
    world.start_server();
    world.let_time_pass(Duration::from_secs(1));
    world.connect(SILENT);
    world.connect(1);
    settle(&mut world);
    world.cut(1);
    wait(&mut world, Duration::from_secs(1));
    assert!(world.updates.is_empty());
    world.connect(1);
    world.connect(2);
    settle(&mut world);
    world.cut(SILENT);
    wait(&mut world, Duration::from_secs(1));
    assert_eq!(answers(&world).len(), ROUNDS as usize);
}

#[test]
fn under_bounded_staleness_latecomers_are_asked_at_once() {
    let mut world = world(Waiting::Staleness { sites: 1, rounds: 1 });
    assert_eq!(answers(&world), [[1]], "the silent site may fall back by one round");
    world.connect(2);
    settle(&mut world);
    assert_eq!(world.updates.len(), 1, "the silent site is waited for");
    let timeout = world.policy.timeouts.answer;
    wait(&mut world, timeout);
    assert_eq!(world.dismissed.first().map(|d| d.0), Some(SiteId(SILENT as u32)));
    assert_eq!(answers(&world)[1], [1, 2], "both were asked meanwhile");
    assert!(world.generator.is_some());
}
