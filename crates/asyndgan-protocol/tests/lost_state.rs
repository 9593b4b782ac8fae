//! A site that loses its state loses its own only: the others are not rolled back, and nothing that was learnt is
//! thrown away.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::{Error, LostState, SiteId, Waiting};
use simulation::{World, run, schedule::undisturbed};

const ROUNDS: u64 = 40;

fn world(lost_state: LostState) -> World {
    let mut world = World::new(run(ROUNDS, Waiting::All).with(|run| run.checkpoint_every = 5), &[2, 2, 2]);
    world.policy.lost_state = lost_state;
    world.policy.rollbacks_max = 3;
    // Where state is lost, rounds are done again with other images.
    world.strict = false;
    world.kill_server();
    world.start_server();
    for i in 0..3 {
        world.kill_site(i);
        world.start_site(i);
    }
    world
}

/// Plays until so many rounds are done, without faults.
fn until(world: &mut World, rounds: u64) {
    let reached = (0..20_000).any(|seed| {
        world.go(seed, 1);
        world.updates.last().is_some_and(|u| u.0 + 1 >= rounds)
    });
    assert!(reached, "round {rounds} is not reached");
}

/// The rounds whose update happened more than once.
fn repeated(world: &World) -> Vec<u64> {
    let mut seen = std::collections::BTreeMap::<u64, u32>::new();
    for (round, _) in &world.updates {
        *seen.entry(*round).or_default() += 1;
    }
    seen.into_iter().filter(|s| s.1 > 1).map(|s| s.0).collect()
}

#[test]
fn a_site_that_lost_its_disk_starts_afresh_and_nobody_is_set_back() {
    let mut world = world(LostState::Fresh);
    until(&mut world, 23);
    world.lose_disk(1);
    world.play(1, 0);
    assert!(world.generator.is_some());
    assert_eq!(repeated(&world), []);
    let (site, round, restored) = world.lost[0];
    assert!(site == SiteId(1) && (22..=24).contains(&round) && restored == 0, "{:?}", world.lost);
    assert_eq!(world.lost.len(), 1);
}

#[test]
fn a_site_that_takes_anothers_place_has_lost_nothing() {
    for policy in [LostState::Fresh, LostState::Wait, LostState::RollBack] {
        let mut world = world(policy);
        until(&mut world, 23);
        world.kill_server();
        world.replace_site(1);
        world.play(1, 0);
        assert!(world.generator.is_some() && world.lost.is_empty(), "{policy:?}: {:?}", world.lost);
        // The server resumes from its checkpoint.
        assert!(repeated(&world).iter().all(|round| (20..24).contains(round)), "{policy:?}: {:?}", repeated(&world));
    }
}

#[test]
fn a_site_that_forgets_again_and_again_stops_nobody() {
    let mut world = world(LostState::Fresh);
    for k in 1..12 {
        until(&mut world, 6 + 3 * k);
        world.lose_disk(1);
    }
    world.play(1, 0);
    assert!(world.generator.is_some());
    assert_eq!(repeated(&world), []);
}

#[test]
fn a_site_in_a_wrong_folder_goes_on_with_its_own_state_once_it_is_back_in_the_right_one() {
    let mut world = world(LostState::Fresh);
    until(&mut world, 13);
    let right = world.disk(1);
    world.lose_disk(1);
    until(&mut world, 18);
    world.kill_site(1);
    world.put_disk(1, right);
    world.play(1, 0);
    assert_eq!(repeated(&world), []);
    // First a fresh discriminator; then its own of round 10, for the run is at 15 or later.
    assert_eq!(world.lost.iter().map(|l| l.2).collect::<Vec<_>>(), [0, 10]);
}

#[test]
fn the_operator_may_wait_for_the_site_or_go_back_instead() {
    let mut waits = world(LostState::Wait);
    until(&mut waits, 23);
    let right = waits.disk(1);
    waits.lose_disk(1);
    for seed in 0..2_000 {
        waits.go(seed, 1);
    }
    assert!(waits.generator.is_none());
    let (site, error) = waits.dismissed.iter().find(|d| d.1.is_fault()).expect("dismissed");
    assert!(*site == SiteId(1) && matches!(error, Error::StateLost { round: 20, .. }), "{error}");
    waits.kill_site(1);
    waits.put_disk(1, right);
    waits.play(1, 0);
    assert_eq!(waits.generator, Some(undisturbed(&waits.run, &[2, 2, 2])));

    let mut goes_back = world(LostState::RollBack);
    until(&mut goes_back, 23);
    goes_back.lose_disk(1);
    // Later checkpoints stay until the run is past them.
    until(&mut goes_back, 3);
    goes_back.play(1, 0);
    assert_eq!(goes_back.generator, Some(undisturbed(&goes_back.run, &[2, 2, 2])));
    assert!(repeated(&goes_back).contains(&0));
}

#[test]
fn going_back_deletes_no_later_checkpoint_before_the_run_is_past_it() {
    let mut world = world(LostState::RollBack);
    until(&mut world, 23);
    assert_eq!(world.server_checkpoints(), [15, 20]);
    world.lose_disk(1);
    let reached = (0..10_000).any(|seed| {
        world.go(seed, 1);
        world.server_checkpoints().contains(&5)
    });
    assert!(reached);
    assert_eq!(world.server_checkpoints(), [5, 15, 20]);
}

#[test]
fn a_server_that_is_restored_from_a_backup_goes_on_from_it_with_the_sites_states() {
    let mut world = world(LostState::Fresh);
    until(&mut world, 11);
    let backup = world.backup_server();
    until(&mut world, 33);
    let later = world.disk(0);
    world.restore_server(&backup);
    until(&mut world, 10);
    world.play(1, 0);
    assert!(world.generator.is_some());
    // It went on from round 10; sites, which keep no checkpoint that early, with their first later one.
    assert_eq!(*repeated(&world).first().expect("it went back"), 10);
    assert!(world.lost.iter().all(|l| l.1 == 10 && later.contains_key(&l.2)), "{:?}", world.lost);
    assert_eq!(world.lost.len(), 3);
}

#[test]
fn one_site_cannot_set_everybody_back_without_end() {
    let mut world = world(LostState::Fresh);
    for k in 1..10 {
        until(&mut world, 6 + 3 * k);
        world.kill_site(1);
        world.go(100 + k, 200);
    }
    world.play(1, 0);
    // Three times it set everybody back to a checkpoint; after that it went on alone from there.
    let sets = world.updates.windows(2).filter(|w| w[1].0 <= w[0].0).count();
    assert!(sets <= 3, "{sets}");
    assert!(!world.lost.is_empty() && world.lost.iter().all(|l| l.2 > 0), "{:?}", world.lost);
}
