//! The journal's chain, and the ledger's file.
#![allow(missing_docs, reason = "tests")]

use std::{fs, path::Path};

use asyndgan_protocol::{MessageKind, SiteId};
use asyndgan_transport::{Error, Journal, Ledger, LedgerLine, ShownCases};
use proptest::prelude::*;

fn written(path: &Path, entries: u64) {
    let mut journal = Journal::open(path).expect("opens");
    for round in 0..entries {
        journal
            .append(
                MessageKind::Feedback,
                Some(round),
                Some(ShownCases { cases: vec![round as u32 % 3], answer: format!("{round:064x}") }),
                &round.to_le_bytes(),
            )
            .expect("appends");
    }
    journal.sync().expect("syncs");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_or_missing_entry_is_found(entries in 2_u64..12, at: proptest::sample::Index, what in 0..3) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.jsonl");
        written(&path, entries);
        prop_assert_eq!(Journal::verify(&path).expect("whole").len() as u64, entries);
        let text = fs::read_to_string(&path).expect("read");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = at.index(lines.len());
        match what {
            0 => drop(lines.remove(at)),
            1 => lines[at] = lines[at].replace("\"bytes\":8", "\"bytes\":7"),
            // An entry and all that follow: the chain is whole, but shorter than it was.
            _ => lines.truncate(at),
        }
        fs::write(&path, lines.iter().flat_map(|l| [l.as_str(), "\n"]).collect::<String>()).expect("written");
        match Journal::verify(&path) {
            Err(Error::Journal { entry, .. }) => prop_assert!(entry >= at as u64, "{entry} before {at}"),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn a_journal_goes_on_after_its_process_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.jsonl");
    written(&path, 3);
    // The fourth entry was being written.
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, format!("{text}{{\"number\":3,\"un")).expect("written");
    written(&path, 2);
    assert_eq!(Journal::verify(&path).expect("whole").len(), 5);
}

#[test]
fn a_ledger_goes_on_with_what_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.csv");
    let line = |round| LedgerLine { site: SiteId(1), kind: MessageKind::Round, round, bytes: 10 };
    let mut ledger = Ledger::open(&path).expect("opens");
    ledger.count(line(Some(0))).expect("counted");
    ledger.count(line(None)).expect("counted");
    drop(ledger);
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, format!("{text}2,rou")).expect("written");
    let ledger = Ledger::open(&path).expect("opens");
    let totals: Vec<_> = ledger.entries().collect();
    assert_eq!((totals.len(), totals[0].2.messages, totals[0].2.bytes), (1, 2, 20));
    assert_eq!(Ledger::lines(&path).expect("lines"), [line(Some(0)), line(None)]);
}

#[test]
fn a_line_that_ends_within_a_character_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, journal) = (folder.path().join("ledger.csv"), folder.path().join("journal.jsonl"));
    let line = LedgerLine { site: SiteId(0), kind: MessageKind::Round, round: Some(1), bytes: 10 };
    Ledger::open(&ledger).expect("opens").count(line).expect("counted");
    written(&journal, 2);
    for path in [&ledger, &journal] {
        let mut bytes = fs::read(path).expect("read");
        bytes.extend_from_slice(&"é".as_bytes()[..1]);
        fs::write(path, bytes).expect("written");
    }
    assert_eq!(Ledger::lines(&ledger).expect("lines"), [line]);
    Ledger::open(&ledger).expect("opens").count(line).expect("counted");
    assert_eq!(Ledger::lines(&ledger).expect("lines"), [line, line]);
    written(&journal, 1);
    assert_eq!(Journal::verify(&journal).expect("whole").len(), 3);
}

#[test]
fn a_journal_without_entries_can_be_synced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.jsonl");
    written(&path, 0);
    written(&path, 2);
    assert_eq!(Journal::verify(&path).expect("whole").len(), 2);
}
