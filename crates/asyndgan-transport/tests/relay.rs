//! Runs through a relay that loses, repeats and delays requests and replies, and programs that a relay must not let in.
#![allow(missing_docs, reason = "tests")]

mod support;

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use asyndgan_protocol::{RunDescription, ServerPolicy, SiteId, SitePolicy, Waiting};
use asyndgan_transport::{
    Error, Incoming, RelayServer, RelayServerLink, RelaySite, RelayToken, ServerLink as _, ServerRecords, ServerRun, ServerRunEvent,
    SiteLink as _, SiteRecords, SiteRun,
};
use support::{
    PATIENT, SITES, StubServer, in_process,
    platform::{Faults, platform},
    run, stub_site,
};

const CASES: [u32; 3] = [3, 5, 4];

fn token(of: &str) -> RelayToken {
    RelayToken::new(&of.repeat(8)).expect("a token")
}

fn server() -> RelayServerLink {
    RelayServer::new(token("serv"), SITES.map(str::to_owned).to_vec()).start().expect("listens")
}

fn site(relay: SocketAddr) -> RelaySite {
    RelaySite::new(relay, token("site")).with(|site| site.reconnect_timeout = Duration::from_secs(20))
}

/// The generator of a run of three sites, each behind a relay with these faults; and how often a site was lost.
fn played(run: &RunDescription, mut link: RelayServerLink, faults: impl Fn(usize) -> Faults) -> (u64, usize) {
    let mut lost = 0;
    let address = link.address();
    let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
    thread::scope(|scope| {
        for (i, name) in SITES.iter().enumerate() {
            let relay = platform(address, "serv", "site", name, faults(i));
            scope.spawn(move || {
                let mut link = site(relay).start().expect("starts");
                SiteRun::new(SitePolicy::unrestricted())
                    .take_part(&mut link, &mut stub_site(CASES[i]), &mut SiteRecords::default(), |_, _, _| {})
                    .expect("the site ends well");
            });
        }
        ServerRun::new(run.clone(), 3, ServerPolicy::new(PATIENT))
            .serve(&mut link, &mut work, &mut ServerRecords::default(), |event, _, _| {
                lost += usize::from(matches!(event, ServerRunEvent::Dismissed(..)));
            })
            .expect("the server ends well");
    });
    (work.generator, lost)
}

#[test]
fn undisturbed() {
    let run = run(12, Waiting::All);
    assert_eq!(played(&run, server(), |_| Faults::default()).0, in_process(&run, &CASES));
}

#[test]
fn requests_and_replies_that_are_lost_repeated_and_late() {
    let run = run(12, Waiting::All);
    let faults = |i| Faults { seed: i as u64 + 1, lost: 0.2, lost_replies: 0.2, repeated: 0.2, late: 0.2, ..Faults::default() };
    assert_eq!(played(&run, server(), faults).0, in_process(&run, &CASES));
}

#[test]
fn a_relay_that_stops_for_longer_than_the_server_waits() {
    let run = run(12, Waiting::All);
    let link = RelayServer::new(token("serv"), SITES.map(str::to_owned).to_vec())
        .with(|server| server.silence_max = Duration::from_millis(400))
        .start()
        .expect("listens");
    // The server considers the sites lost, and they connect again.
    let faults = |i| Faults { stops_after: Some((20 + 7 * i, Duration::from_secs(2))), ..Faults::default() };
    let (generator, lost) = played(&run, link, faults);
    assert_eq!(generator, in_process(&run, &CASES));
    assert!(lost >= 3, "each site was lost once, but {lost} were in all");
}

#[test]
fn a_site_that_connects_again_and_again_takes_no_more_memory() {
    let mut link = server();
    // Nobody receives yet: the first connection is reported first, and no other one replaces it until then.
    let sites: Vec<_> = (0..20)
        .map(|_| {
            let relay = platform(link.address(), "serv", "site", "north", Faults::default());
            site(relay).start().expect("starts")
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    let mut arrived = 0;
    while let Some((SiteId(0), event)) = link.receive(Some(Duration::ZERO)) {
        assert!(matches!(event, Incoming::Connected));
        arrived += 1;
    }
    assert_eq!(arrived, 1);
    drop(sites);
}

#[test]
fn strangers_are_refused() {
    let link = server();
    let refused = |server_token: &str, site_token: &str, name: &str| {
        let relay = platform(link.address(), server_token, "site", name, Faults::default());
        let mut site = RelaySite::new(relay, token(site_token)).start().expect("starts");
        loop {
            match site.receive(None) {
                Ok(Some(Incoming::Lost(_))) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => return error.to_string(),
            }
        }
    };
    assert!(refused("nono", "site", "north").contains("token of the server's relay"));
    assert!(refused("serv", "site", "west").contains("not a participant"));
}

#[test]
fn an_address_that_other_machines_reach_is_refused() {
    let public = SocketAddr::from(([0, 0, 0, 0], 0));
    let server = RelayServer::new(token("serv"), vec!["north".into()]).with(|server| server.listen = public).start();
    assert!(matches!(server, Err(Error::NotLocal { .. })));
    assert!(matches!(site(public).start(), Err(Error::NotLocal { .. })));
    for short in ["", "short", &"a b ".repeat(20), &"é".repeat(40)] {
        assert!(RelayToken::new(short).is_err(), "{short}");
    }
}

#[test]
#[cfg(unix)]
fn a_token_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "a".repeat(32)).expect("written");
    let with_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("permissions");
        RelayToken::read(&path)
    };
    assert!(matches!(with_mode(0o644), Err(Error::NotPrivate { .. })));
    assert!(with_mode(0o600).is_ok());
}

#[test]
fn a_site_without_a_relay_gives_up_in_time() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let mut site = site(free).with(|site| site.reconnect_timeout = Duration::from_millis(300)).start().expect("starts");
    assert!(matches!(site.receive(None), Err(Error::Unreachable { .. })));
}

#[test]
fn a_site_that_ends_is_lost_at_once_and_a_closed_one_connects_again() {
    let mut link = server();
    let relay = platform(link.address(), "serv", "site", "north", Faults::default());
    let mut first = site(relay).start().expect("starts");
    let next = |link: &mut RelayServerLink| link.receive(Some(Duration::from_secs(10))).expect("an event");
    assert!(matches!(next(&mut link), (SiteId(0), Incoming::Connected)));
    assert!(matches!(first.receive(None), Ok(Some(Incoming::Connected))));
    link.close(SiteId(0));
    assert!(matches!(first.receive(None), Ok(Some(Incoming::Lost(_)))));
    assert!(matches!(next(&mut link), (SiteId(0), Incoming::Connected)));
    let (ended, has_ended) = mpsc::channel();
    thread::spawn(move || {
        assert!(matches!(first.receive(None), Ok(Some(Incoming::Connected))));
        drop(first);
        ended.send(()).expect("listened to");
    });
    assert!(matches!(next(&mut link), (SiteId(0), Incoming::Lost(reason)) if reason == "it left"));
    has_ended.recv_timeout(Duration::from_secs(5)).expect("ends");
}
