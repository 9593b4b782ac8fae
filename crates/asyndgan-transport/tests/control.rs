//! Servers and sites that are asked to stop, runs that are ended early, and servers without a run.
#![allow(missing_docs, reason = "tests")]

mod support;

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use asyndgan_protocol::{RunDescription, ServerPolicy, SitePolicy, Waiting};
use asyndgan_transport::{
    Control, Error, GrpcServer, GrpcServerLink, GrpcSite, Identity, Incoming, Outcome, ServerRecords, ServerRun, ServerRunEvent,
    SiteLink as _, SiteRecords, SiteRun, SiteRunEvent,
};
use support::{Disk, PATIENT, StubServer, StubSite, in_process, keys, run, stub_site};

const ROUNDS: u64 = 40;

/// A server that asks itself for something after a round; returns how it ended, the rounds done and the generator.
fn serve(
    mut link: GrpcServerLink,
    run: &RunDescription,
    disk: &Disk,
    after: u64,
    request: fn(&Control),
) -> JoinHandle<(Outcome, u64, u64)> {
    let (run, disk, control) = (run.clone(), disk.clone(), Control::new());
    thread::spawn(move || {
        let mut work = StubServer { run: Some(run.clone()), disk, ..StubServer::default() };
        let mut done = 0;
        let part = ServerRun::new(run, 1, ServerPolicy::new(PATIENT)).with(|part| part.control = control.clone());
        let outcome = part.serve(&mut link, &mut work, &mut ServerRecords::default(), |event, _, _| {
            if let ServerRunEvent::Round { rounds_done, .. } = event {
                done = rounds_done;
                if done == after {
                    request(&control);
                }
            }
        });
        (outcome.expect("in order"), done, work.generator)
    })
}

/// A site that stops after a round, if asked to; returns how it ended and the reasons why connections were lost.
fn take_part(site: GrpcSite, mut work: StubSite, stop_after: Option<u64>) -> JoinHandle<(Outcome, Vec<String>)> {
    let control = Control::new();
    thread::spawn(move || {
        let mut link = site.start().expect("starts");
        let mut lost = Vec::new();
        let part = SiteRun::new(SitePolicy::unrestricted()).with(|part| part.control = control.clone());
        let outcome = part.take_part(&mut link, &mut work, &mut SiteRecords::default(), |event, _, _| match event {
            SiteRunEvent::Lost(reason) | SiteRunEvent::NoRun(reason) => lost.push(reason.to_owned()),
            SiteRunEvent::Round { rounds_done } if Some(rounds_done) == stop_after => control.stop(),
            _ => {}
        });
        (outcome.expect("in order"), lost)
    })
}

fn slow_site() -> StubSite {
    let mut work = stub_site(3);
    work.pause = Duration::from_millis(5);
    work
}

#[test]
fn a_server_that_stops_gives_the_reason_and_resumes_with_the_same_result() {
    let (keys, run, disk) = (keys(), run(ROUNDS, Waiting::All), Disk::default());
    let link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let address = link.address();
    let site = take_part(keys.site("north", address), slow_site(), None);
    let (outcome, done, _) = serve(link, &run, &disk, 10, Control::stop).join().expect("no panic");
    assert_eq!((outcome, done), (Outcome::Stopped, 10));
    let link = keys.server(&["north"], &run, address.port()).start(|_| {}).expect("listens again");
    let (outcome, done, generator) = serve(link, &run, &disk, 0, |_| {}).join().expect("no panic");
    assert_eq!((outcome, done), (Outcome::Finished, ROUNDS));
    let (outcome, lost) = site.join().expect("no panic");
    assert_eq!(outcome, Outcome::Finished);
    assert!(lost[0].contains("the operator has stopped the run"), "{lost:?}");
    assert_eq!(generator, in_process(&run, &[3]));
}

#[test]
fn a_site_that_stops_says_goodbye_and_resumes_with_the_same_result() {
    let (keys, run) = (keys(), run(ROUNDS, Waiting::All));
    let mut link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let address = link.address();
    let served = thread::spawn({
        let run = run.clone();
        move || {
            let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
            let mut left = Vec::new();
            let part = ServerRun::new(run, 1, ServerPolicy::new(PATIENT));
            let outcome = part.serve(&mut link, &mut work, &mut ServerRecords::default(), |event, _, _| {
                if let ServerRunEvent::Dismissed(_, error) = event {
                    left.push(error.to_string());
                }
            });
            (outcome.expect("ends"), left, work.generator)
        }
    });
    let work = slow_site();
    let disk = work.disk.clone();
    let (outcome, _) = take_part(keys.site("north", address), work, Some(10)).join().expect("no panic");
    assert_eq!(outcome, Outcome::Stopped);
    let mut again = slow_site();
    again.disk = disk;
    let (outcome, _) = take_part(keys.site("north", address), again, None).join().expect("no panic");
    assert_eq!(outcome, Outcome::Finished);
    let (outcome, left, generator) = served.join().expect("no panic");
    assert_eq!(outcome, Outcome::Finished);
    assert!(left[0].contains("the site was stopped"), "{left:?}");
    assert_eq!(generator, in_process(&run, &[3]));
}

#[test]
fn a_run_that_is_ended_early_finishes_at_every_site() {
    let (keys, run, disk) = (keys(), run(ROUNDS, Waiting::All), Disk::default());
    let link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let site = take_part(keys.site("north", link.address()), slow_site(), None);
    let (outcome, done, _) = serve(link, &run, &disk, 10, Control::finish).join().expect("no panic");
    // The request may come while the next round is under way, which does not count any more.
    assert_eq!((outcome, done), (Outcome::Finished, 10));
    assert_eq!(site.join().expect("no panic").0, Outcome::Finished);
    assert_eq!(disk.lock().expect("disk").keys().last(), Some(&10), "the result is stored");
}

#[test]
fn a_server_without_a_run_lets_sites_wait_longer_than_for_a_server_that_is_away() {
    let (keys, run) = (keys(), run(4, Waiting::All));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let identity = Identity::read(&keys.folder.path().join("server.pem")).expect("a bundle");
    let idle = GrpcServer::without_run(listen, identity, keys.folder.path().join("revoked.pem"), "no run is queued");
    let idle = idle.start(|_| {}).expect("listens");
    let address = idle.address();
    let site = || keys.site("north", address).with(|site| site.reconnect_timeout = Duration::from_secs(2));
    assert!(matches!(site().preflight(), Err(Error::NoRun { reason, .. }) if reason == "no run is queued"));
    let mut link = site().start().expect("starts");
    let mut waits = || match link.receive(Some(Duration::from_secs(20))) {
        Ok(Some(Incoming::NoRun(reason))) => reason,
        other => panic!("{other:?}"),
    };
    let began = std::time::SystemTime::now();
    while began.elapsed().expect("a clock") < Duration::from_secs(5) {
        assert!(waits().contains("has no run now: no run is queued"));
    }
    drop(idle);
    let mut server = keys.server(&["north"], &run, address.port()).start(|_| {}).expect("listens");
    let connected = (0..20).any(|_| matches!(link.receive(Some(Duration::from_secs(10))), Ok(Some(Incoming::Connected))));
    assert!(connected, "the run has come");
    asyndgan_transport::ServerLink::stop(&mut server, "done");
}
