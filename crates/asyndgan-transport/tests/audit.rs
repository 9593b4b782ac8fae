//! Records that a site cannot rewrite without a trace, keys that stay where they were made, and consent to one run.
#![allow(missing_docs, reason = "tests")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread};

use asyndgan_files::is_private;
use asyndgan_protocol::{MessageKind, ServerPolicy, SiteId, SitePolicy, Waiting};
use asyndgan_transport::{
    Approval, Authority, Certificates, Consent, Error, Identity, Journal, Ledger, Receipt, Receipts, ServerRecords, ServerRun, Signer,
    SiteRecords, SiteRun, differences, request,
};
use support::{Keys, PATIENT, StubServer, keys, run, stub_site};

/// Plays a run of twelve rounds with records in two folders; returns the keys.
fn recorded(site: &Path, server: &Path) -> Keys {
    let keys = keys();
    let run = run(12, Waiting::All);
    let mut link = keys.server(&["north"], &run, 0).start(|_| {}).expect("listens");
    let address = link.address();
    let identity = Identity::read(&keys.folder.path().join("server.pem")).expect("a bundle");
    let receipts = vec![Receipts::open(&server.join("receipts/north.receipts")).expect("opens")];
    let serving = thread::spawn({
        let (run, server) = (run.clone(), server.to_owned());
        move || {
            let mut ledger = Ledger::open(&server.join("ledger.csv")).expect("opens");
            ledger.set_run(&run, Some(identity.certificate()));
            let mut records = ServerRecords { ledger, receipts: Some((identity, receipts)) };
            let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
            ServerRun::new(run.clone(), 1, ServerPolicy::new(PATIENT))
                .serve(&mut link, &mut work, &mut records, |_, _, _| {})
                .expect("ends");
        }
    });
    let journal = site.join("journal.jsonl");
    let mut records = SiteRecords {
        ledger: Ledger::open(&site.join("ledger.csv")).expect("opens"),
        journal: Some(Journal::open(&journal).expect("opens")),
        consent: Some(Consent::in_folder(site, Approval::Policy)),
        signer: Some(Signer::new(keys.identity("north"), Receipts::open(&Receipts::path_of(&journal)).expect("opens"))),
        history: None,
    };
    let mut link = keys.site("north", address).start().expect("dials");
    SiteRun::new(SitePolicy::unrestricted()).take_part(&mut link, &mut stub_site(3), &mut records, |_, _, _| {}).expect("ends");
    drop(link);
    serving.join().expect("no panic");
    keys
}

/// A receipt in which the site's certificate stands for the server's.
fn self_signed(line: &str, identity: &Identity) -> String {
    let mut receipt: Receipt = serde_json::from_str(line).expect("a receipt");
    receipt.server_certificate = identity.certificate().to_vec();
    serde_json::to_string(&receipt).expect("plain data")
}

#[test]
fn both_ends_keep_receipts_that_show_what_was_changed_afterwards() {
    let (site, server) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let keys = recorded(site.path(), server.path());
    let journal = site.path().join("journal.jsonl");
    let receipts = Receipts::path_of(&journal);
    let of_server = server.path().join("receipts/north.receipts");
    assert_eq!(fs::read(&receipts).expect("read"), fs::read(&of_server).expect("read"), "both keep the same");
    let entries = Journal::verify(&journal).expect("intact");
    let identity = keys.identity("north");
    // Also without the private key.
    let pem = fs::read_to_string(keys.path("north")).expect("a bundle");
    let public = keys.folder.path().join("certificates.pem");
    fs::write(&public, pem.split_inclusive("-----END PRIVATE KEY-----\n").last().expect("certificates")).expect("written");
    assert!(!fs::read_to_string(&public).expect("read").contains("PRIVATE KEY"));
    let certificates = Certificates::read(&public).expect("certificates");
    let confirmed = Receipts::verify(&receipts, &entries, Some(&certificates)).expect("sound").expect("some");
    // Checkpoints after 4, 8 and 12 rounds; the head leaves before the round's own feedback.
    assert_eq!((confirmed.receipts, confirmed.rounds_done), (3, 12));
    assert_eq!(Receipts::verify_journal(&receipts, &journal, Some(&certificates), |_| ()).expect("sound"), Some(confirmed.clone()));

    // Every entry names the run and the server; so does every line of the ledgers.
    let hash = asyndgan_protocol::hex(&run(12, Waiting::All).sha256());
    let feedback: Vec<_> = entries.iter().filter(|e| e.kind == MessageKind::Feedback).collect();
    assert!(
        feedback.len() == 12 && feedback.iter().all(|e| e.stamp.run == hash && e.stamp.server == confirmed.server && e.shown.is_some())
    );
    for folder in [site.path(), server.path()] {
        let ledger = fs::read_to_string(folder.join("ledger.csv")).expect("read");
        let rounds: Vec<&str> = ledger.lines().skip(1).filter(|l| l.contains(",round,")).collect();
        let stamped = |line: &&str| line.ends_with(&format!("{hash},{},\"loopback\"", confirmed.server));
        assert!(rounds.len() == 12 && rounds.iter().all(stamped), "{ledger}");
    }

    // The whole journal is rewritten with its chain and its head, and one answer less: the receipts show it.
    let shorter = |path: &Path, left_out: usize| {
        fs::remove_file(path).ok();
        fs::remove_file(Journal::head_path(path)).ok();
        let mut journal = Journal::open(path).expect("opens");
        for entry in entries.iter().enumerate().filter(|(i, _)| *i != left_out).map(|e| e.1) {
            journal.append(entry.kind, entry.round, entry.shown.clone(), b"rewritten").expect("appended");
        }
        journal.sync().expect("kept");
        Journal::verify(path).expect("the chain is intact")
    };
    let rewritten = shorter(&site.path().join("other.jsonl"), 3);
    let error = Receipts::verify(&receipts, &rewritten, None).expect_err("rewritten").to_string();
    assert!(error.contains("was changed after the server confirmed it"), "{error}");
    let from_file = Receipts::verify_journal(&receipts, &site.path().join("other.jsonl"), None, |_| ()).expect_err("rewritten");
    assert_eq!(from_file.to_string(), error);
    let error = Receipts::verify(&receipts, &entries[..5], None).expect_err("cut off").to_string();
    assert!(error.contains("and the journal has 5"), "{error}");

    // Receipts that somebody made without the keys.
    let text = fs::read_to_string(&receipts).expect("read");
    fs::write(&receipts, text.replace("\"rounds_done\":4", "\"rounds_done\":5")).expect("written");
    assert!(matches!(Receipts::verify(&receipts, &entries, None), Err(Error::Receipt { .. })));
    // The site signs for the server, with its own certificate of the same authority.
    fs::write(&receipts, text.lines().map(|line| self_signed(line, &identity) + "\n").collect::<String>()).expect("written");
    let error = Receipts::verify(&receipts, &entries, Some(&certificates)).expect_err("forged").to_string();
    assert!(error.contains("signature") || error.contains("expected server") || error.contains("another server"), "{error}");
    // And of another authority.
    let other = support::keys();
    let foreign = Certificates::read(&other.path("north")).expect("a bundle");
    let error = Receipts::verify(&of_server, &entries, Some(&foreign)).expect_err("another authority").to_string();
    assert!(error.contains("authority did not issue"), "{error}");
}

#[test]
fn what_a_site_answered_counts_after_a_restart_and_a_damaged_journal_allows_nothing() {
    let (site, server) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    recorded(site.path(), server.path());
    let journal = site.path().join("journal.jsonl");
    assert_eq!(Journal::history(&journal, vec![0, 1, 2]).expect("intact").rounds(), 12);
    let text = fs::read_to_string(&journal).expect("read");
    let lines: Vec<&str> = text.lines().collect();
    // The end is cut off, as in a journal that comes from a backup: the chain is intact, but the receipts show it.
    fs::write(&journal, lines[..lines.len() / 2].join("\n") + "\n").expect("written");
    fs::remove_file(Journal::head_path(&journal)).expect("removed");
    assert!(matches!(Journal::history(&journal, vec![0, 1, 2]), Err(Error::Receipt { .. })));
    fs::write(&journal, [&lines[..4], &lines[5..]].concat().join("\n") + "\n").expect("written");
    assert!(matches!(Journal::history(&journal, vec![0, 1, 2]), Err(Error::Journal { .. })));
    fs::write(&journal, [0xff, 0xfe, b'\n']).expect("written");
    assert!(Journal::history(&journal, vec![0, 1, 2]).is_err());
    let ledger = site.path().join("ledger.csv");
    let text = fs::read_to_string(&ledger).expect("read");
    fs::write(&ledger, text.replacen(",round,", ",rund,", 1)).expect("written");
    assert!(matches!(Ledger::open(&ledger), Err(Error::Ledger { .. })));
}

#[test]
fn records_are_private_whatever_the_umask() {
    let (site, server) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o755)).expect("set");
    recorded(site.path(), server.path());
    for file in ["journal.jsonl", "journal.head", "journal.receipts", "ledger.csv", "approved-run.json"] {
        assert!(is_private(&site.path().join(file)).expect(file), "{file}");
    }
    assert!(is_private(site.path()).expect("there"), "the folder was open before");
    for file in ["ledger.csv", "receipts/north.receipts", "receipts"] {
        assert!(is_private(&server.path().join(file)).expect(file), "{file}");
    }
}

#[test]
fn a_folder_belongs_to_one_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, mut second) = (run(4, Waiting::All), run(4, Waiting::All));
    second.batch = 1;
    let consent = Consent::in_folder(folder.path(), Approval::Policy);
    assert_eq!(consent.decide(SiteId(1), &first).ok(), Some(()));
    assert_eq!(consent.decide(SiteId(1), &first).ok(), Some(()), "again");
    let error = consent.decide(SiteId(1), &second).expect_err("another run").to_string();
    assert!(error.contains("batch: 2, now 1"), "{error}");
    let error = consent.decide(SiteId(0), &first).expect_err("another place").to_string();
    assert!(error.contains("site 2") && error.contains("site 1"), "{error}");
    assert!(consent.approve(&second).is_err(), "a new run needs a new folder");
    // A damaged file may have been any run.
    let path = folder.path().join("approved-run.json");
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, text.replace("\"batch\": 2", "\"batch\": 1")).expect("written");
    assert!(matches!(consent.decide(SiteId(1), &first), Err(Error::Consent { .. })));
}

#[test]
fn where_the_administrator_decides_nothing_happens_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (run(4, Waiting::All), run(5, Waiting::All));
    let consent = Consent::in_folder(folder.path(), Approval::Administrator);
    let error = consent.decide(SiteId(0), &first).expect_err("not approved").to_string();
    assert!(error.contains("site approve") && error.contains(&asyndgan_protocol::hex(&first.sha256())), "{error}");
    consent.approve(&first).expect("approved");
    assert!(consent.decide(SiteId(0), &first).is_ok() && consent.decide(SiteId(0), &second).is_err());
    assert_eq!(differences(&first, &second), ["rounds: 4, now 5"]);
}

#[test]
fn a_key_is_made_at_the_hospital_and_signed_at_the_operator() {
    let mut keys = keys();
    let hospital = tempfile::tempdir().expect("a folder");
    let (key, csr) = (hospital.path().join("west-key.pem"), hospital.path().join("west.csr"));
    request("west", &key, &csr).expect("made");
    assert!(is_private(&key).expect("there"));
    assert!(request("west", &key, &csr).is_err(), "never over a key");
    assert!(keys.authority.sign("north", &csr, 30).expect_err("another's").to_string().contains("west"));
    assert!(keys.authority.issued().iter().all(|i| !i.revoked), "nobody lost a certificate by that");
    let signed = keys.authority.sign("west", &csr, 30).expect("signed");
    let text = fs::read_to_string(&signed).expect("read");
    assert!(!text.contains("PRIVATE") && !fs::read_to_string(&csr).expect("read").contains("PRIVATE KEY"));
    let identity = Identity::read_with_key(&signed, &key).expect("they belong together");
    assert_eq!(identity.facts().name, "west");
    let error = Identity::read_with_key(&signed, &keys.path("north")).expect_err("another key").to_string();
    assert!(error.contains("is not the key of"), "{error}");
    // It is let in like any other.
    let link = keys.server(&["west"], &run(4, Waiting::All), 0).start(|_| {}).expect("listens");
    let site = keys.site("north", link.address()).with(|site| site.identity = identity);
    let server = support::serve(link, run(4, Waiting::All), 1, PATIENT);
    support::take_part(site, stub_site(3)).join().expect("no panic").expect("ends well");
    server.join().expect("no panic").expect("ends well");
    // A request with a name that is none, and one that is no request.
    let other = hospital.path().join("bad.csr");
    request("../server", &hospital.path().join("bad-key.pem"), &other).expect("made");
    assert!(matches!(keys.authority.sign("../server", &other, 30), Err(Error::Keys { .. })));
    fs::write(&other, "no request").expect("written");
    assert!(matches!(keys.authority.sign("../server", &other, 30), Err(Error::Keys { .. })));
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let keys = keys();
    let bundle = keys.path("north");
    fs::set_permissions(&bundle, fs::Permissions::from_mode(0o640)).expect("set");
    let error = Identity::read(&bundle).expect_err("others can read it");
    assert!(matches!(error, Error::NotPrivate { .. }) && error.to_string().contains("chmod 600"), "{error}");
    // A bundle of certificates alone is no secret: what it lacks is the key.
    let text = fs::read_to_string(&bundle).expect("a bundle");
    let (before, rest) = text.split_once("-----BEGIN PRIVATE KEY-----").expect("a key");
    let (_, after) = rest.split_once("-----END PRIVATE KEY-----").expect("the key's end");
    let without = format!("{before}{after}");
    assert_eq!(without.matches("BEGIN CERTIFICATE").count(), 2);
    fs::write(&bundle, without).expect("written");
    assert!(matches!(Identity::read(&bundle), Err(Error::NoPrivateKey { .. })));
}

#[test]
fn the_authoritys_key_can_be_encrypted() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["localhost".to_owned()];
    let mut authority = Authority::init_encrypted(folder.path(), &names, 30, "correct horse".into()).expect("made");
    authority.issue("north", 30).expect("issued");
    drop(authority);
    let key = fs::read_to_string(folder.path().join("ca-key.pem")).expect("read");
    assert!(key.contains("BEGIN ENCRYPTED PRIVATE KEY") && Authority::is_encrypted(folder.path()).expect("there"));
    let open = || Authority::open(folder.path()).expect("opens");
    assert!(open().issue("south", 30).expect_err("no passphrase").to_string().contains("passphrase"));
    assert!(open().with_passphrase("wrong".into()).issue("south", 30).expect_err("another").to_string().contains("not the passphrase"));
    open().with_passphrase("correct horse".into()).issue("south", 30).expect("issued");
}

#[test]
fn names_that_sites_cannot_dial_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys");
    for name in ["https://gan.example.org", "gan.example.org:7443", "a b", ""] {
        let error = Authority::init(&keys, &[name.to_owned()], 30).expect_err(name).to_string();
        assert!(error.contains("host name"), "{error}");
        assert!(!keys.exists(), "{name}");
    }
    let mut authority = Authority::init(&keys, &["gan.example.org".into(), "192.0.2.7".into(), "2001:db8::7".into()], 30).expect("made");
    assert!(authority.renew_server(&["gan.example.org:1".into()], 30).is_err());
    authority.issue("north", 30).expect("issued");
    authority.issue("south", 30).expect("issued");
    authority.revoke("south").expect("revoked");
    // While it is in use.
    assert_eq!(Authority::valid_sites(&keys).expect("read"), ["north"]);
}

#[test]
fn a_folder_that_was_chosen_for_one_run_takes_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (expected, other) = (run(12, Waiting::All), run(13, Waiting::All));
    let consent = Consent::in_folder(folder.path(), Approval::Policy).for_run(expected.clone());
    assert!(matches!(consent.decide(SiteId(0), &other), Err(Error::OtherRun { .. })));
    assert_eq!(consent.approved().expect("read"), None, "nothing is stored about it");
    consent.decide(SiteId(0), &expected).expect("it takes part");
}
