//! A server that was killed between its last checkpoint and its results comes to its end by itself: sites may be gone
//! for good.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use asyndgan_protocol::{Message, ServerEvent, SiteId, Waiting};
use simulation::{World, run, schedule::undisturbed, summary};

#[test]
fn a_run_that_is_over_waits_for_nobody() {
    let run = run(4, Waiting::All);
    let mut world = World::new(run.clone(), &[1, 2]);
    world.play(0, 0);
    world.generator = None;
    world.kill_server();
    world.start_server();
    world.tell_server(ServerEvent::Tick);
    assert!(world.work_server());
    assert_eq!(world.generator, Some(undisturbed(&run, &[1, 2])));
    // Sites that come late are notified, too.
    world.tell_server(ServerEvent::Message {
        site: SiteId(0),
        message: Message::Join { protocol_version: asyndgan_protocol::PROTOCOL_VERSION, summary: summary(0, 1) },
    });
    assert!(world.dismissed.iter().all(|d| !d.1.is_fault()));
}
