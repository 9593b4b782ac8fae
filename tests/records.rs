//! A complete run writes the records that the guide documents.
#![allow(missing_docs, reason = "tests")]

use std::fs;

use asyndgan_paper::{AuditRecord, Experiment, Step, Table};
use e2e::{describe, done, smoke, step};

#[test]
fn a_whole_smoke_run_of_each_experiment_leaves_its_table_and_pictures() {
    for (experiment, sites, pictures) in
        [(Experiment::Fig5, 3, ["fig5.png", "fig5.svg"]), (Experiment::Table2, 4, ["neighbours.png", "predictions.png"])]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let run = smoke(experiment, None);
        describe(folder.path(), &run);
        done(folder.path(), &["prepare"]);
        for step_of_run in run.steps(sites) {
            let arguments = step_of_run.arguments();
            done(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(step_of_run.proof(folder.path(), experiment).is_file(), "{step_of_run:?} left no proof");
        }
        let text = fs::read_to_string(Step::Report.proof(folder.path(), experiment)).expect("a record");
        let table: Table = serde_json::from_str(&text).expect("a table's record");
        assert_eq!(table.rows.iter().map(|r| r.arm).collect::<Vec<_>>(), experiment.arms(sites));
        assert!(table.rows.iter().all(|r| r.metrics.len() == table.configuration.columns().len()));
        assert_eq!(table.configuration, run);
        // Every site sent one feedback a round.
        let rounds = run.settings.protocol.rounds;
        let traffic = &table.bytes["seed-0/AsynDgan"];
        assert_eq!(traffic.len(), sites as usize);
        assert!(traffic.values().all(|kinds| kinds["feedback"].messages == rounds && kinds["accept"].messages == 1));
        assert_eq!(table.markdown().contains("PHANTOM"), experiment != Experiment::Fig5);
        let report = fs::read_to_string(folder.path().join("report.html")).expect("a report");
        assert!(report.contains("How to read this") && report.contains("data:image/png;base64,") && report.contains("<svg"));
        assert_eq!(report.contains("Phantom data"), experiment != Experiment::Fig5);
        assert_eq!(table.curve.len(), run.settings.curve_rounds().len());
        // Held-out real images, then both generators'.
        assert_eq!(table.image_quality.len(), if experiment == Experiment::Fig5 { 0 } else { 3 });
        let page = folder.path().join("audit.html");
        let attacked = step(folder.path(), &["audit", "--answers", "1", "--out", &page.to_string_lossy()]);
        assert_eq!(attacked.status.success(), experiment != Experiment::Fig5, "{}", String::from_utf8_lossy(&attacked.stderr));
        if experiment != Experiment::Fig5 {
            let text = fs::read_to_string(&page).expect("a page");
            assert!(text.contains("In plain words") && text.contains("data:image/png;base64,") && text.contains("Phantom data"));
            let text = fs::read_to_string(page.with_extension("json")).expect("a record");
            let audit: AuditRecord = serde_json::from_str(&text).expect("an audit's record");
            assert!(audit.membership.len() >= 2 && audit.masks.len() >= 2 && audit.reconstruction.len() >= 7, "{audit:?}");
        }
        for picture in pictures {
            assert!(fs::metadata(folder.path().join(picture)).is_ok_and(|m| m.len() > 1000), "{picture}");
        }
    }
}
