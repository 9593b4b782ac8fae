//! A site whose privacy budget ends leaves the run in order, also in the middle of a round.
#![allow(missing_docs, reason = "tests")]

mod support;

use std::{thread, time::Duration};

use asyndgan_protocol::{ServerPolicy, SiteId, SitePolicy, Timeouts, Waiting};
use asyndgan_transport::{ServerRecords, ServerRun, ServerRunEvent, SiteRecords, SiteRun, SiteRunEvent, in_memory};
use support::{PATIENT, StubServer, run, stub_site};

#[test]
fn a_budget_that_ends_within_a_round_retires_the_site_and_the_others_continue() {
    let run = run(8, Waiting::All);
    let (mut link, sites) = in_memory(2);
    let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
    let (mut retired, mut done) = (Vec::new(), 0);
    thread::scope(|scope| {
        for (i, mut link) in (0_u32..).zip(sites) {
            scope.spawn(move || {
                let mut site = stub_site(3 + i);
                site.rounds_max = (i == 0).then_some(3);
                let mut reason = None;
                let played =
                    SiteRun::new(SitePolicy::unrestricted()).take_part(&mut link, &mut site, &mut SiteRecords::default(), |event, _, _| {
                        if let SiteRunEvent::Retired(why) = event {
                            reason = Some(why.to_owned());
                        }
                    });
                played.expect("ends in order");
                assert_eq!(reason.as_deref(), (i == 0).then_some("the budget ended within the round"));
            });
        }
        let policy = ServerPolicy::new(Timeouts { absence: Duration::ZERO, ..PATIENT });
        ServerRun::new(run.clone(), 2, policy)
            .serve(&mut link, &mut work, &mut ServerRecords::default(), |event, _, _| match event {
                ServerRunEvent::Retired { site, round, .. } => retired.push((site, round)),
                ServerRunEvent::Round { rounds_done, .. } => done = rounds_done,
                _ => {}
            })
            .expect("the others finish");
    });
    assert_eq!((retired, done), (vec![(SiteId(0), 3)], 8));
}
