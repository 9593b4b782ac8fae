//! A run with differential privacy across processes: the ledger survives kills, and a site whose budget is spent leaves
//! in order while the other goes on.
#![allow(missing_docs, reason = "tests")]

use std::fs;

use e2e::consortium::{Consortium, ROUNDS, SITES};

/// A consortium whose run has an epsilon of 4, with a limit for each site.
fn consortium(limits: [f64; 2]) -> Consortium {
    let group = Consortium::new("settings.privacy.epsilon = 4.0");
    for (site, limit) in SITES.into_iter().zip(limits) {
        let path = group.path(&format!("{site}.toml"));
        let text = fs::read_to_string(&path).expect("a configuration");
        let limit = if limit.is_finite() { format!("epsilon_max = {limit:?}") } else { "patients_per_batch_min = 1".into() };
        fs::write(&path, format!("privacy_ledger = \"{site}.jsonl\"\n{text}[policy]\n{limit}\n")).expect("written");
    }
    group
}

/// The lines of a site's ledger, and the epsilon that they spend.
fn ledger(group: &Consortium, site: &str) -> (usize, f64) {
    let path = format!("{site}.jsonl");
    let text = fs::read_to_string(group.path(&path)).expect("a ledger");
    let said = group.succeed(&["privacy", "spent", &path]);
    let epsilon = said.lines().last().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
    (text.lines().count(), epsilon.unwrap_or_else(|| panic!("{said}")))
}

#[test]
fn a_site_leaves_when_its_budget_is_spent_and_the_other_goes_on_whatever_is_killed() {
    let group = consortium([f64::INFINITY, 2.5]);
    let mut server = group.start("run");
    group.wait_for_words("run", "listening");
    let output = group.command(&["site", "approve", "--config", "south.toml", "--yes"]).output().expect("starts");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("differential privacy") && said.contains("WARNING: together, this may exceed epsilon_max"), "{said}");
    // A check takes steps, but nothing leaves the site.
    let checked = group.succeed(&["doctor", "--config", "south.toml"]);
    assert!(!group.path("south.jsonl").exists(), "{checked}");
    let [mut north, south] = SITES.map(|site| group.start(site));
    group.wait_for_round(10);
    north.kill();
    group.wait_for_words("run", "north: left");
    north = group.start("north");
    group.wait_for_words("run", "south: takes no part from round");
    server.kill();
    server = group.start("run");
    for mut process in [server, north, south] {
        let status = process.0.wait().expect("ends");
        assert!(status.success(), "{}", group.all_words());
    }
    assert!(group.words("south").contains("left the run in order"), "{}", group.all_words());
    assert!(group.words("north").contains("finished"), "{}", group.all_words());
    let (steps, epsilon) = ledger(&group, "north");
    assert!(steps as u64 == ROUNDS && epsilon > 3.9 && epsilon <= 4.0, "{steps} steps, epsilon {epsilon}");
    let (steps, epsilon) = ledger(&group, "south");
    assert!((steps as u64) < ROUNDS && epsilon <= 2.5 && epsilon > 2.3, "{steps} steps, epsilon {epsilon}");
    let record = fs::read_to_string(group.path("run/seed-0/AsynDgan/train.json")).expect("a record");
    assert!(record.contains("south takes no part from round"), "{record}");
}

#[test]
fn a_budget_needs_a_run_with_differential_privacy() {
    let group = Consortium::new("");
    for site in SITES {
        let path = group.path(&format!("{site}.toml"));
        let text = fs::read_to_string(&path).expect("a configuration");
        fs::write(&path, format!("{text}[policy]\nepsilon_max = 8.0\n")).expect("written");
    }
    let server = group.start("run");
    let mut north = group.start("north");
    assert!(!north.0.wait().expect("ends").success());
    assert!(
        group.words("north").contains("epsilon_max is 8, but the run does not train with differential privacy"),
        "{}",
        group.all_words()
    );
    server.kill();
}
