//! Whom a server does not let in, and what it does not take; each time the others go on.
#![allow(missing_docs, clippy::disallowed_methods, reason = "tests, which may look at the clock")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc::Receiver},
    thread,
    time::{Duration, Instant, SystemTime},
};

use asyndgan_protocol::{Message, Waiting};
use asyndgan_transport::{Error, Frame, GrpcServerLink, GrpcSite, Identity, Incoming, ServerLink, SiteLink};
use rustls_pki_types::UnixTime;
use support::{KEEP_ALIVE, Keys, PATIENT, in_process, keys, notice_channel, run, serve, stub_site, take_part};
use tokio_rustls::rustls::time_provider::TimeProvider;

/// A server for the site "north" alone, and what it says of refused connections.
fn listening(keys: &Keys) -> (GrpcServerLink, SocketAddr, Receiver<String>) {
    let (notice, notices) = notice_channel();
    let link = keys.server(&["north"], &run(4, Waiting::All), 0).start(notice).expect("listens");
    let address = link.address();
    (link, address, notices)
}

/// The error with which a site that connects ends.
fn end_of(site: GrpcSite) -> Error {
    let mut link = site.start().expect("dials");
    loop {
        match link.receive(None) {
            Err(error) => return error,
            Ok(Some(Incoming::Connected)) => panic!("it was let in"),
            Ok(_) => {}
        }
    }
}

/// Afterwards, the server still serves its own site.
fn serves_its_site(keys: &Keys, link: GrpcServerLink, address: SocketAddr) {
    let run = run(4, Waiting::All);
    let server = serve(link, run.clone(), 1, PATIENT);
    take_part(keys.site("north", address), stub_site(3)).join().expect("no panic").expect("the site ends well");
    assert_eq!(server.join().expect("no panic").expect("the server ends well").0, in_process(&run, &[3]));
}

#[test]
fn a_certificate_of_another_authority() {
    let (ours, theirs) = (keys(), keys());
    let (link, address, notices) = listening(&ours);
    // It does not trust us, and says so before we can.
    assert!(matches!(end_of(theirs.site("north", address)), Error::Untrusted { .. }));
    assert!(notices.recv_timeout(Duration::from_secs(5)).is_ok());
    // With our authority in its bundle it trusts us; we do not trust it.
    let bundle = |keys: &Keys, file: &str| std::fs::read_to_string(keys.folder.path().join(file)).expect("read");
    let foreign = bundle(&theirs, "sites/north.pem").replace(&bundle(&theirs, "ca.pem"), &bundle(&ours, "ca.pem"));
    let path = theirs.folder.path().join("mixed.pem");
    asyndgan_files::write(&path, asyndgan_files::Access::Private, foreign.as_bytes()).expect("written");
    let site = ours.site("north", address).with(|site| site.identity = Identity::read(&path).expect("a bundle"));
    let error = end_of(site);
    assert!(matches!(error, Error::Rejected { .. }), "{error}");
    serves_its_site(&ours, link, address);
}

#[test]
fn an_expired_certificate_and_one_that_was_revoked() {
    let mut keys = keys();
    let expired = keys.authority.issue("north", 0).expect("issued");
    let expired = Identity::read(&expired).expect("a bundle");
    let revoked = keys.identity("south");
    keys.authority.revoke("south").expect("revoked");
    keys.authority.issue("north", 30).expect("issued again");
    let (link, address, _notices) = listening(&keys);
    thread::sleep(Duration::from_secs(1));
    for (identity, word) in [(expired, "expired"), (revoked, "revoked")] {
        let error = end_of(keys.site("north", address).with(|site| site.identity = identity));
        assert!(matches!(error, Error::Rejected { .. }) && error.to_string().to_lowercase().contains(word), "{error}");
    }
    serves_its_site(&keys, link, address);
}

#[test]
fn a_certificate_whose_days_are_over() {
    let mut keys = keys();
    // Of no days: valid from two days ago until now.
    keys.authority.issue("east", 0).expect("issued");
    let (link, address, _notices) = listening(&keys);
    thread::sleep(Duration::from_secs(1));
    let error = end_of(keys.site("east", address));
    assert!(matches!(error, Error::Rejected { .. }) && error.to_string().to_lowercase().contains("expired"), "{error}");
    serves_its_site(&keys, link, address);
}

#[test]
fn a_site_that_is_revoked_while_it_takes_part() {
    let mut keys = keys();
    let (mut link, address, _notices) = listening(&keys);
    let mut site = keys.site("north", address).start().expect("dials");
    assert!(matches!(site.receive(None), Ok(Some(Incoming::Connected))));
    assert!(matches!(link.receive(Some(Duration::from_secs(5))), Some((_, Incoming::Connected))));
    keys.authority.revoke("north").expect("revoked");
    assert!(matches!(link.receive(Some(Duration::from_secs(8))), Some((_, Incoming::Lost(_)))));
    let error = loop {
        if let Err(error) = site.receive(None) {
            break error;
        }
    };
    assert!(matches!(error, Error::Rejected { .. }), "{error}");
}

#[test]
fn every_site_while_the_list_of_revoked_certificates_cannot_be_read() {
    let keys = keys();
    let (link, address, notices) = listening(&keys);
    let (list, status) = (keys.folder.path().join("revoked.pem"), link.revocation_status());
    assert_eq!(status.unreadable(), None);
    let intact = std::fs::read(&list).expect("read");
    let written = std::fs::metadata(&list).and_then(|m| m.modified()).expect("a time");
    std::fs::write(&list, "half a file").expect("written");
    let notice = notices.recv_timeout(Duration::from_secs(8)).expect("an alarm");
    assert!(notice.contains("no site may join") && status.unreadable().is_some(), "{notice}");
    let error = end_of(keys.site("north", address).with(|site| site.reconnect_timeout = Duration::from_secs(1)));
    assert!(matches!(error, Error::Unreachable { .. }) && error.to_string().contains("list of revoked certificates"), "{error}");
    // A copy that keeps the file's time counts, too.
    std::fs::write(&list, intact).expect("written");
    std::fs::File::options().append(true).open(&list).and_then(|file| file.set_modified(written)).expect("the earlier time");
    serves_its_site(&keys, link, address);
    assert_eq!(status.unreadable(), None);
}

#[test]
fn a_site_that_is_not_in_the_list() {
    let keys = keys();
    let (link, address, _notices) = listening(&keys);
    let error = end_of(keys.site("south", address));
    assert!(matches!(error, Error::Rejected { .. }) && error.to_string().contains("south"), "{error}");
    serves_its_site(&keys, link, address);
}

#[test]
fn a_server_of_another_name() {
    let keys = keys();
    let (link, address, _notices) = listening(&keys);
    // The certificate is for localhost and 127.0.0.1.
    let site = keys.site("north", address).with(|site| site.server = format!("127.0.0.2:{}", address.port()));
    drop(link);
    let listener = keys.server(&["north"], &run(4, Waiting::All), 0);
    let link = listener.with(|server| server.listen = SocketAddr::from(([127, 0, 0, 2], address.port())));
    let _link = link.start(|_| {}).expect("listens");
    assert!(matches!(end_of(site), Error::Untrusted { .. }));
}

#[test]
fn no_certificate_and_plain_text() {
    let keys = keys();
    let (link, address, notices) = listening(&keys);
    let mut plain = TcpStream::connect(address).expect("connects");
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("written");
    let mut answer = Vec::new();
    // A TLS alert at most; no HTTP/2.
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.len() < 32, "{answer:?}");
    assert!(notices.recv_timeout(Duration::from_secs(5)).expect("a notice").contains("refused"));

    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    let authority = std::fs::read(keys.folder.path().join("ca.pem")).expect("read");
    let authority = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(&authority).expect("pem");
    roots.add(authority).expect("added");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("tls");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
    let mut session = tokio_rustls::rustls::ClientConnection::new(Arc::new(config), name).expect("tls");
    let mut tcp = TcpStream::connect(address).expect("connects");
    let mut stream = tokio_rustls::rustls::Stream::new(&mut session, &mut tcp);
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let error = stream.read_to_end(&mut answer).expect_err("no certificate, no session");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    serves_its_site(&keys, link, address);
}

#[test]
fn two_programs_with_one_certificate() {
    let keys = keys();
    let (link, address, _notices) = listening(&keys);
    let run = run(4, Waiting::All);
    let server = serve(link, run.clone(), 1, PATIENT);
    let mut slow = stub_site(3);
    slow.pause = KEEP_ALIVE * 2;
    let first = take_part(keys.site("north", address), slow);
    thread::sleep(Duration::from_millis(500));
    let second = take_part(keys.site("north", address), stub_site(3)).join().expect("no panic");
    assert!(matches!(second, Err(Error::Rejected { .. })), "{second:?}");
    first.join().expect("no panic").expect("the first goes on");
    assert_eq!(server.join().expect("no panic").expect("ends").0, in_process(&run, &[3]));
}

#[derive(Debug)]
struct Clock(i64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs() as i64;
        Some(UnixTime::since_unix_epoch(Duration::from_secs((now + self.0) as u64)))
    }
}

#[test]
fn a_clock_that_is_a_day_off_does_no_harm_and_a_week_is_told() {
    const DAY: i64 = 86_400;
    for off in [-DAY, DAY] {
        let keys = keys();
        let (link, address, _notices) = listening(&keys);
        let server = serve(link, run(4, Waiting::All), 1, PATIENT);
        let site = keys.site("north", address).with(|site| site.clock = Some(Arc::new(Clock(off))));
        take_part(site, stub_site(3)).join().expect("no panic").expect("the site ends well");
        server.join().expect("no panic").expect("the server ends well");
    }
    let keys = keys();
    let (_link, address, _notices) = listening(&keys);
    let error = end_of(keys.site("north", address).with(|site| site.clock = Some(Arc::new(Clock(-7 * DAY)))));
    assert!(matches!(error, Error::Untrusted { .. }) && error.to_string().contains("clock"), "{error}");
}

#[test]
fn ten_thousand_connections_opened_and_left() {
    let keys = keys();
    let (link, address, _notices) = listening(&keys);
    let before = memory_kib();
    // As many at once as this process may hold; each says nothing and stays until the next ones take its place.
    let mut left = std::collections::VecDeque::new();
    for _ in 0..10_000 {
        if left.len() >= 300 {
            left.pop_front();
        }
        left.push_back(TcpStream::connect(address).expect("connects"));
    }
    let grown = memory_kib().saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} KiB");
    // Those that hang on are closed before long, and a site gets in.
    let began = Instant::now();
    serves_its_site(&keys, link, address);
    assert!(began.elapsed() < Duration::from_secs(30));
    drop(left);
}

fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("memory");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn frames_that_are_no_messages() {
    for bytes in [vec![0xff; 100], Message::Finish.encode().to_vec(), Vec::new(), vec![0; 3 << 20]] {
        let keys = keys();
        let (link, address, _notices) = listening(&keys);
        let server = serve(link, run(4, Waiting::All), 1, PATIENT);
        let mut hostile = keys.site("north", address).start().expect("dials");
        assert!(matches!(hostile.receive(None), Ok(Some(Incoming::Connected))));
        hostile.send(Frame { number: 0, bytes: bytes.into() });
        let leave = loop {
            match hostile.receive(None).expect("the reason") {
                Some(Incoming::Frame(frame)) => break Message::decode(&frame.bytes).expect("a message"),
                Some(Incoming::Lost(reason)) => panic!("lost before it got the reason: {reason}"),
                Some(Incoming::Connected | Incoming::NoRun(_)) | None => {}
            }
        };
        assert!(matches!(&leave, Message::Leave { reason } if reason.contains("site 1")), "{leave:?}");
        drop(hostile);
        // The site itself, mended, is let in again.
        take_part(keys.site("north", address), stub_site(3)).join().expect("no panic").expect("the site ends well");
        assert_eq!(server.join().expect("no panic").expect("ends").0, in_process(&run(4, Waiting::All), &[3]));
    }
}

#[test]
fn looking_shows_the_run_and_the_clock() {
    let keys = keys();
    // As long as a description may be, and so longer than what a chunk leaves of a message.
    let described = run(4, Waiting::All).with(|run| run.networks = "x".repeat(60_000));
    let (notice, _notices) = notice_channel();
    let link = keys.server(&["north"], &described, 0).start(notice).expect("listens");
    let address = link.address();
    let look = keys.site("north", address).preflight().expect("looks");
    assert!(matches!(look.describe, Message::Describe { run, .. } if run == described));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    assert!(now.abs_diff(look.unix_ms) < 10_000 && look.bytes_per_second > 0.0);
    assert!(matches!(keys.site("south", address).preflight(), Err(Error::Rejected { .. })));
}
