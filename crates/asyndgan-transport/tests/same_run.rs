//! Over loopback, a bad network does not change the generator: it equals that of the same run in one process.
#![allow(missing_docs, reason = "tests")]

mod support;

use std::{net::SocketAddr, thread, time::Duration};

use asyndgan_protocol::{MessageKind, Waiting};
use asyndgan_transport::{Error, Incoming, Ledger, ServerLink as _, SiteLink as _, SiteRecords};
use support::{PATIENT, SITES, Weather, in_process, keys, relay, run, serve, stub_site, take_part};

const CASES: [u32; 3] = [3, 5, 4];

/// Plays a run in which the first site's way to the server has its own weather.
fn played(rounds: u64, weather: impl Fn(usize) -> Weather + Send + 'static) -> (u64, Ledger, Vec<SiteRecords>) {
    let (keys, run) = (keys(), run(rounds, Waiting::All));
    let link = keys.server(&support::SITES, &run, 0).start(|_| {}).expect("listens");
    let address = link.address();
    let server = serve(link, run, 3, PATIENT);
    let way: SocketAddr = relay(address, weather);
    let sites: Vec<_> =
        (0..3).map(|i| take_part(keys.site(support::SITES[i], if i == 0 { way } else { address }), stub_site(CASES[i]))).collect();
    let records = sites.into_iter().map(|site| site.join().expect("no panic").expect("the site ends well")).collect();
    let (generator, ledger) = server.join().expect("no panic").expect("the server ends well");
    (generator, ledger, records)
}

/// A server on the caller's runtime, and one with a runtime of its own, can be started, used and dropped in async code.
#[test]
fn servers_in_async_code() {
    let keys = keys();
    let run = run(4, Waiting::All);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for handle in [None, Some(tokio::runtime::Handle::current())] {
            let start = || keys.server(&SITES[..1], &run, 0).with(|server| server.runtime = handle.clone()).start(|_| {}).expect("listens");
            let link = start();
            let address = link.address();
            let server = serve(link, run.clone(), 1, PATIENT);
            let site = take_part(keys.site("north", address), stub_site(3));
            let joined = tokio::task::spawn_blocking(move || (site.join(), server.join()));
            let (site, server) = joined.await.expect("no panic");
            site.expect("no panic").expect("the site ends well");
            assert_eq!(server.expect("no panic").expect("the server ends well").0, in_process(&run, &[3]));
            // Dropped here, with a site that is connected.
            let mut link = start();
            let mut site = keys.site("north", link.address()).start().expect("connects");
            assert!(matches!(link.receive(Some(Duration::from_secs(5))), Some((_, Incoming::Connected))));
            drop(link);
            let lost = tokio::task::spawn_blocking(move || while !matches!(site.receive(None), Ok(Some(Incoming::Lost(_))) | Err(_)) {});
            tokio::time::timeout(Duration::from_secs(10), lost).await.expect("the site notices in time").expect("no panic");
            // A server that cannot start leaves no runtime behind, either; and a site can ask from here.
            let missing = keys.server(&SITES[..1], &run, 0).with(|server| server.revoked = "missing.pem".into()).start(|_| {});
            assert!(matches!(missing, Err(Error::Record { .. })));
            let link = start();
            assert!(keys.site("north", link.address()).preflight().is_ok());
        }
    });
}

#[test]
fn undisturbed_and_both_ledgers_agree() {
    let (generator, ledger, records) = played(12, |_| Weather::Fair);
    assert_eq!(generator, in_process(&run(12, Waiting::All), &CASES));
    let at_server: Vec<_> = ledger.entries().collect();
    let at_sites: Vec<_> = records.iter().flat_map(|r| r.ledger.entries().collect::<Vec<_>>()).collect();
    assert_eq!(at_server, at_sites);
    assert!(at_server.iter().any(|e| e.1 == MessageKind::Feedback && e.2.messages == 12));
}

#[test]
fn connections_that_break_in_the_midst_of_messages() {
    // Longer each time, so that the run comes to its end; each break at another place of a message.
    let (generator, ..) = played(12, |number| Weather::BreaksAfter(4_000 + 3_337 * number));
    assert_eq!(generator, in_process(&run(12, Waiting::All), &CASES));
}

#[test]
fn a_slow_link() {
    let (generator, ..) = played(6, |_| Weather::Slow(40_000));
    assert_eq!(generator, in_process(&run(6, Waiting::All), &CASES));
}

#[test]
fn a_link_that_swallows_everything_is_noticed_and_left() {
    // A partition: nothing comes through, nothing is refused. Longer than every timer of the carrier.
    let (generator, ..) = played(6, |number| if number < 3 { Weather::SwallowsAfter(6_000 + 2_000 * number) } else { Weather::Fair });
    assert_eq!(generator, in_process(&run(6, Waiting::All), &CASES));
}

#[test]
fn a_server_that_ends_and_comes_back_on_its_port() {
    let (keys, run) = (keys(), run(40, Waiting::All));
    let link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let address = link.address();
    let disk = support::Disk::default();
    let first = thread::spawn({
        let (run, disk) = (run.clone(), disk.clone());
        move || {
            let mut link = link;
            let mut work = support::StubServer { run: Some(run.clone()), disk, ..support::StubServer::default() };
            let mut rounds = 0;
            // Its timeout ends in the midst of a round, because the site is slow: as good as being killed.
            let timeouts = asyndgan_protocol::Timeouts { answer: Duration::from_millis(300), absence: Duration::ZERO };
            let ended = asyndgan_transport::ServerRun::new(run.clone(), 1, asyndgan_protocol::ServerPolicy::new(timeouts)).serve(
                &mut link,
                &mut work,
                &mut asyndgan_transport::ServerRecords::default(),
                |news, _, _| {
                    if let asyndgan_transport::ServerRunEvent::Round { rounds_done, .. } = news {
                        rounds = rounds_done;
                    }
                },
            );
            (ended, rounds)
        }
    });
    let mut work = stub_site(3);
    work.pause = Duration::from_millis(20);
    let site_disk = work.disk.clone();
    let site = take_part(keys.site("north", address), work);
    // Once there are checkpoints, the site's process is halted for a while.
    while site_disk.lock().expect("disk").len() < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    let guard = site_disk.lock().expect("disk");
    thread::sleep(Duration::from_millis(600));
    drop(guard);
    let (ended, rounds) = first.join().expect("no panic");
    assert!(matches!(ended, Err(Error::Protocol(asyndgan_protocol::Error::Silent { .. }))), "{ended:?}");
    assert!((4..40).contains(&rounds), "{rounds}");
    let link = keys.server(&["north"], &run, address.port()).start(|_| {}).expect("listens again");
    let second = thread::spawn({
        let (run, mut link) = (run.clone(), link);
        move || {
            let mut work = support::StubServer { run: Some(run.clone()), disk, ..support::StubServer::default() };
            asyndgan_transport::ServerRun::new(run.clone(), 1, asyndgan_protocol::ServerPolicy::new(PATIENT))
                .serve(&mut link, &mut work, &mut asyndgan_transport::ServerRecords::default(), |_, _, _| {})
                .expect("ends");
            work.generator
        }
    });
    let generator = second.join().expect("no panic");
    site.join().expect("no panic").expect("the site ends well");
    assert_eq!(generator, in_process(&run, &[3]));
}
