//! A server, a site or both killed after every single step of a run: it ends with the generator of an undisturbed one.
//!
//! # Reference
//! Section 3.2: waiting for all, distributed learning is centralised learning.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::Waiting;
use simulation::{World, run, schedule::undisturbed};

#[test]
fn a_kill_at_any_point_leaves_the_generator_the_same() {
    let (run, cases) = (run(7, Waiting::All), [2, 1]);
    let expected = undisturbed(&run, &cases);
    let mut points = 0;
    for steps in 0.. {
        let killed: [fn(&mut World); 3] = [
            World::kill_server,
            |w| w.kill_site(1),
            |w| {
                w.kill_server();
                w.kill_site(0);
            },
        ];
        let mut under_way = false;
        for kill in killed {
            let mut world = World::new(run.clone(), &cases);
            under_way = world.go(11, steps);
            kill(&mut world);
            world.play(5, 0);
            assert_eq!(world.generator, Some(expected), "killed after {steps} steps");
        }
        if !under_way {
            break;
        }
        points += 1;
    }
    assert!(points > 100, "the run was over after {points} steps");
}
