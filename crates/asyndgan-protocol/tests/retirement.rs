//! A site whose privacy budget is spent leaves in order, and the others go on.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::{Error, ServerAction, ServerEvent, SiteId, Waiting};
use proptest::prelude::*;
use simulation::{World, run};

const ROUNDS: u64 = 20;

fn world(waiting: Waiting, budgets: [Option<u64>; 3]) -> World {
    let mut world = World::new(run(ROUNDS, waiting), &[2, 3, 4]);
    world.budgets = budgets.to_vec();
    // Rounds that a site has answered before it left are done again without it.
    world.strict = false;
    for i in 0..3 {
        world.kill_site(i);
        world.start_site(i);
    }
    world
}

/// The sites of each round's last update.
fn contributors(world: &World, round: u64) -> Vec<u32> {
    let last = world.updates.iter().rev().find(|u| u.0 == round).expect("every round is done");
    last.1.iter().map(|c| c.draw.site.0).collect()
}

#[test]
fn a_site_takes_part_as_long_as_its_budget_lasts() {
    let mut world = world(Waiting::All, [None, Some(12), Some(0)]);
    world.play(1, 0);
    for round in 0..ROUNDS {
        let expected: &[u32] = if round < 12 { &[0, 1] } else { &[0] };
        assert_eq!(contributors(&world, round), expected, "round {round}");
    }
    assert_eq!(world.retired, [(SiteId(2), 0), (SiteId(1), 12)]);
    // The weights of the others sum to 1.
    assert!(world.updates.iter().all(|u| (u.1.iter().map(|c| c.weight).sum::<f64>() - 1.0).abs() < 1e-12));
}

#[test]
fn a_restarted_server_does_not_wait_for_a_site_that_has_left() {
    let mut world = world(Waiting::All, [None, Some(5), None]);
    let reached = (0..20_000).any(|seed| {
        world.go(seed, 1);
        world.updates.last().is_some_and(|u| u.0 >= 8)
    });
    assert!(reached && world.retired == [(SiteId(1), 5)]);
    world.kill_server();
    world.gone[1] = true;
    world.kill_site(1);
    world.play(2, 0);
    assert_eq!(contributors(&world, ROUNDS - 1), [0, 2]);
}

#[test]
fn a_run_that_every_site_has_left_ends_with_what_was_learnt() {
    let mut world = world(Waiting::All, [Some(7), Some(5), Some(4)]);
    world.play(1, 0);
    assert!(world.generator.is_some());
    assert_eq!(world.updates.iter().map(|u| u.0).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    assert_eq!(world.server_checkpoints().last(), Some(&7));
    // A server that is started again finds the result, although nobody comes.
    world.generator = None;
    world.kill_server();
    for i in 0..3 {
        world.kill_site(i);
        world.gone[i] = true;
    }
    world.play(2, 0);
    assert!(world.generator.is_some());
}

#[test]
fn a_server_that_is_killed_at_any_action_keeps_the_result_of_the_last_site() {
    for actions in 0..20 {
        let mut world = World::new(run(ROUNDS, Waiting::All), &[2]);
        (world.budgets, world.strict) = (vec![Some(1)], false);
        world.kill_site(0);
        world.start_site(0);
        world.server_dies_in = Some(actions);
        world.play(actions.into(), 0);
        assert!(world.generator.is_some() && !world.all_retired, "killed before action {actions}");
        assert_eq!((world.server_checkpoints(), world.retired), (vec![1], vec![(SiteId(0), 1)]));
    }
}

#[test]
fn the_last_site_of_a_run_without_a_round_may_end() {
    let mut world = World::new(run(ROUNDS, Waiting::All), &[2]);
    world.budgets = vec![Some(0)];
    world.play(1, 0);
    assert!(world.all_retired && world.generator.is_none());
    assert_eq!(world.retired, [(SiteId(0), 0)]);
    while world.deliver_to_site(0) {}
    assert!(world.sites[0].as_ref().is_some_and(|site| site.ended.is_some()), "it would wait for the server");
}

#[test]
fn the_end_of_a_run_that_went_back_is_found_among_later_checkpoints() {
    let run = run(ROUNDS, Waiting::All);
    let policy = world(Waiting::All, [None; 3]).policy;
    let mut server = asyndgan_protocol::Server::new(run, 2, policy, &[6, 7, 15, 18], Vec::new(), &[SiteId(0)]);
    let mut actions = std::iter::from_fn(|| server.poll_action()).collect::<Vec<_>>();
    // Checkpoints are regular after every third round.
    assert_eq!(actions, [ServerAction::Begin { rounds_done: 7 }]);
    server.handle_event(std::time::Duration::ZERO, ServerEvent::Begun { norms: Vec::new() }).expect("it ends");
    actions = std::iter::from_fn(|| server.poll_action()).collect();
    let reason = "it had left when the server was stopped".to_owned();
    assert_eq!(actions.first(), Some(&ServerAction::Retired { site: SiteId(1), round: 7, reason }));
    assert_eq!(actions.last(), Some(&ServerAction::Finished));
}

#[test]
fn a_run_without_a_round_fails() {
    let mut server = asyndgan_protocol::Server::new(
        run(ROUNDS, Waiting::All),
        2,
        world(Waiting::All, [None; 3]).policy,
        &[],
        Vec::new(),
        &[SiteId(0), SiteId(1)],
    );
    assert!(server.poll_timeout().is_some(), "it does not wait for anyone");
    let error = server.handle_event(std::time::Duration::ZERO, ServerEvent::Tick).expect_err("nobody is left");
    assert!(matches!(error, Error::AllRetired), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 1024 }))]

    #[test]
    fn whatever_fails_the_run_ends_and_no_budget_is_exceeded(
        seed: u64,
        faults in 0..20_u32,
        first in 0..=ROUNDS,
        second in 0..=ROUNDS,
        third in prop_oneof![Just(None), (1..=ROUNDS).prop_map(Some)],
        waiting in prop_oneof![
            Just(Waiting::All),
            Just(Waiting::Quorum { sites: 2, deadline_ms: 2_000 }),
            Just(Waiting::Staleness { sites: 1, rounds: 3 }),
        ],
    ) {
        // One site takes part in the first round at least, or there would be no result.
        let mut world = world(waiting, [third, Some(first), Some(second)]);
        world.play(seed, faults);
        if world.all_retired {
            // Without a checkpoint a fault loses the rounds of sites that have left since.
            prop_assert!(faults > 0 && world.server_checkpoints().is_empty());
            return Ok(());
        }
        prop_assert!(world.generator.is_some());
        for &(site, round) in &world.retired {
            prop_assert!(world.budgets[site.0 as usize].is_some_and(|rounds| round >= rounds));
        }
        // Otherwise a server may skip rounds, and the budget of this simulation is the number of a round.
        let in_order = world.run.waiting == Waiting::All;
        for (_, contributions) in world.updates.iter().filter(|_| in_order) {
            for c in contributions {
                let budget = world.budgets[c.draw.site.0 as usize];
                prop_assert!(budget.is_none_or(|rounds| c.round < rounds), "{:?}", c.draw.site);
            }
        }
    }
}
