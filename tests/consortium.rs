//! A server and two sites as separate processes, over loopback. After a kill, a halt, a full disk or a damaged file,
//! the run ends with the same generator as an undisturbed run.
#![allow(missing_docs, reason = "tests")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::Duration,
};

use e2e::consortium::{Consortium, Running, SITES, get};

/// The generator of the run that nothing disturbs: made once for all tests.
fn reference() -> &'static Vec<u8> {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let group = Consortium::new("");
        group.ends(["run", "north", "south"].map(|name| group.start(name)).into())
    })
}

/// All come to their end with the generator of the run that nothing disturbs.
fn ends_as_it_should(group: &Consortium, running: Vec<Running>) {
    assert!(group.ends(running) == *reference(), "a different generator\n{}", group.all_words());
}

#[test]
fn undisturbed_with_everything_that_people_look_at() {
    let dashboard = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let group = Consortium::new(&format!("dashboard = \"127.0.0.1:{dashboard}\""));
    let server = group.start("run");
    group.wait_for_words("run", "listening");
    let report = group.succeed(&["doctor", "--config", "north.toml"]);
    assert!(!report.contains("FAIL") && report.contains("estimate"), "{report}");
    let left: Vec<_> = fs::read_dir(group.path("north")).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["site.secret"], "doctor leaves nothing");
    let sites = SITES.map(|site| group.start(site));
    group.wait_for_round(20);
    let beside = group.command(&["doctor", "--config", "north.toml"]).output().expect("doctor runs");
    let report = String::from_utf8_lossy(&beside.stdout);
    assert!(!beside.status.success() && report.contains("another process is using"), "{report}");
    assert!(report.contains("ok    server"), "other checks go on: {report}");
    let token = fs::read_to_string(group.path("run/dashboard.token")).expect("a token");
    let host = "Host: localhost\r\n";
    let allowed = format!("{host}Authorization: Bearer {token}\r\n");
    // Nobody without the token, and nobody by another name.
    assert!(get(dashboard, "/status.json", host).contains("401"));
    assert!(get(dashboard, "/latest.png", &format!("{host}Cookie: asyndgan-token=00\r\n")).contains("401"));
    assert!(get(dashboard, "/metrics", &allowed.replace("localhost", "evil.example")).contains("421"));
    let entered = get(dashboard, &format!("/?token={token}"), host);
    assert!(entered.contains("303") && entered.contains("HttpOnly") && entered.contains("frame-ancestors 'none'"), "{entered}");
    let metrics = get(dashboard, "/metrics", &allowed);
    assert!(metrics.contains("asyndgan_rounds 120") && metrics.contains("asyndgan_site_up{site=\"north\"} 1"), "{metrics}");
    let status = get(dashboard, "/status.json", &allowed);
    assert!(status.contains("\"name\":\"south\"") && status.contains("\"rounds\":120"), "{status}");
    assert!(get(dashboard, "/", &allowed).contains("<title>") && get(dashboard, "/latest.png", &allowed).contains("image/png"));
    ends_as_it_should(&group, [server].into_iter().chain(sites).collect());
    let at = |name: &str| {
        let table = group.succeed(&["ledger", name]);
        table.lines().filter(|line| line.ends_with(" the site")).map(str::to_owned).collect::<Vec<_>>()
    };
    let of_server = at("run");
    assert_eq!(of_server.len(), 18);
    for site in SITES {
        let named: Vec<&String> = of_server.iter().filter(|line| line.starts_with(site)).collect();
        let own: Vec<String> = at(site).iter().map(|line| line.replacen("this site", &format!("{site:9}"), 1)).collect();
        assert_eq!(named, own.iter().collect::<Vec<_>>(), "both ends count the same");
    }
    group.succeed(&["ledger", "run", "--plot", "ledger.svg"]);
    assert!(fs::read_to_string(group.path("ledger.svg")).expect("drawn").contains("FedGAN"));
    group.succeed(&["synthesize", "--run", "run", "--arm", "AsynDgan", "--seed", "0"]);
    group.succeed(&["data", "export", "--run", "run", "--arm", "AsynDgan", "--seed", "0", "--layout", "pairs", "--out", "set"]);
    assert!(fs::read_to_string(group.path("set/README.md")).is_ok_and(|card| card.contains("images that stayed at their sites")));
}

#[test]
fn a_site_the_server_and_both_are_killed() {
    let group = Consortium::new("");
    let mut server = group.start("run");
    let [mut north, south] = SITES.map(|site| group.start(site));
    group.wait_for_round(10);
    north.kill();
    group.wait_for_words("run", "north: left");
    north = group.start("north");
    group.wait_for_round(40);
    server.kill();
    server = group.start("run");
    group.wait_for_round(70);
    server.kill();
    north.kill();
    north = group.start("north");
    server = group.start("run");
    ends_as_it_should(&group, vec![server, north, south]);
    assert!(group.words("run").contains("resumes after round"), "{}", group.all_words());
}

#[test]
fn programs_that_are_asked_to_stop_end_in_order_and_resume() {
    let group = Consortium::new("");
    let server = group.start("run");
    let [north, south] = SITES.map(|site| group.start(site));
    group.wait_for_round(10);
    north.signal("-TERM");
    assert!(north.ends_well(), "{}", group.all_words());
    group.wait_for_words("run", "north: left");
    assert!(group.words("run").contains("the site was stopped"), "{}", group.all_words());
    let north = group.start("north");
    group.wait_for_round(40);
    server.signal("-INT");
    assert!(server.ends_well(), "{}", group.all_words());
    group.wait_for_words("south", "the operator has stopped the run");
    ends_as_it_should(&group, vec![group.start("run"), north, south]);
}

#[test]
fn a_site_that_is_halted_longer_than_every_timer() {
    let group = Consortium::new("");
    let server = group.start("run");
    let sites = SITES.map(|site| group.start(site));
    group.wait_for_round(20);
    sites[1].signal("-STOP");
    group.wait_for_words("run", "south: left");
    thread::sleep(Duration::from_secs(3));
    sites[1].signal("-CONT");
    ends_as_it_should(&group, [server].into_iter().chain(sites).collect());
}

#[test]
fn a_quorum_goes_on_without_a_site_that_has_not_come_and_one_that_has_left() {
    let group = Consortium::new("waiting = { quorum = { sites = 1, deadline_ms = 200 } }");
    let server = group.start("run");
    let south = group.start("south");
    group.wait_for_round(40);
    south.kill();
    group.wait_for_words("run", "south: left");
    let north = group.start("north");
    group.wait_for_round(80);
    let south = group.start("south");
    assert!(group.ends(vec![server, north, south]) != *reference(), "of sites that were not there");
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used() {
    let group = Consortium::new("");
    let server = group.start("run");
    let sites = SITES.map(|site| group.start(site));
    group.wait_for_round(40);
    server.kill();
    let (_, newest) = group.server_checkpoints().into_iter().max().expect("a checkpoint");
    let mut bytes = fs::read(&newest).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&newest, bytes).expect("spoilt");
    let server = group.start("run");
    ends_as_it_should(&group, [server].into_iter().chain(sites).collect());
    assert!(group.words("run").contains("damaged"), "{}", group.all_words());
}

#[test]
fn a_disk_that_is_full_during_a_checkpoint() {
    let group = Consortium::new("");
    let server = group.start("run");
    let north = group.start("north");
    // A file of the site's can hold no more than its first kilobytes: its checkpoint does not fit.
    let site = group.command(&["site", "--config", "south.toml"]);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" site --config south.toml"]).arg(site.get_program());
    limited.current_dir(group.folder.path()).env("OMP_WAIT_POLICY", "passive").env("ASYNDGAN_PROGRESS", "lines");
    let output = limited.output().expect("starts");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("south") && words.contains(".safetensors"), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    group.wait_for_words("run", "south: left in round 9");
    let left = fs::read_dir(group.path("south/checkpoints")).expect("a folder").flatten();
    let left: Vec<_> = left.flat_map(|run| fs::read_dir(run.path()).expect("a folder").flatten()).map(|f| f.file_name()).collect();
    assert!(left.is_empty(), "half a file stays: {left:?}");
    let south = group.start("south");
    ends_as_it_should(&group, vec![server, north, south]);
}

#[test]
fn a_servers_disk_that_is_full_during_a_checkpoint() {
    let group = Consortium::new("");
    let server = group.start("run");
    let sites = SITES.map(|site| group.start(site));
    group.wait_for_round(20);
    server.kill();
    // The masks are there already; a checkpoint does not fit into a file of a hundred kilobytes.
    let program = group.command(&[]);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" server --config run.toml"]).arg(program.get_program());
    limited.current_dir(group.folder.path()).env("OMP_WAIT_POLICY", "passive").env("ASYNDGAN_PROGRESS", "lines");
    let output = limited.output().expect("starts");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("cannot read or write") && words.contains("/server-000000"), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    // The sites wait, and nothing of theirs is lost.
    let server = group.start("run");
    ends_as_it_should(&group, [server].into_iter().chain(sites).collect());
}

#[test]
fn a_policy_that_does_not_allow_the_run_is_told_at_both_ends() {
    let group = Consortium::new("");
    let config = group.path("south.toml");
    let text = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("{text}[policy]\nrounds_max = 5\n")).expect("written");
    let server = group.start("run");
    let north = group.start("north");
    let refused = group.command(&["site", "--config", "south.toml"]).output().expect("starts");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("rounds_max is 5, but the run asks for 120"), "{words}");
    group.wait_for_words("run", "rounds_max is 5");
    // Its administrator thinks again; the others have waited.
    fs::write(&config, text).expect("written");
    let south = group.start("south");
    ends_as_it_should(&group, vec![server, north, south]);
}

#[test]
fn masks_that_are_re_combined_and_feedback_in_half_the_bytes() {
    let group = Consortium::new("synthetic = \"q8\"\nfeedback = \"bf16\"");
    for site in SITES {
        let config = group.path(&format!("{site}.toml"));
        let text = fs::read_to_string(&config).expect("read");
        fs::write(&config, format!("{text}[policy]\nconditions = \"recombined\"\nfeedback_norm_max = 0.5\n")).expect("written");
    }
    let mut running = [group.start("run"), group.start("north"), group.start("south")];
    // Sites first: a server waits for those that ended badly.
    running.reverse();
    for one in &mut running {
        assert!(one.0.wait().expect("ends").success(), "{}", group.all_words());
    }
    // A reader that stops early, as `head` does.
    let mut shown = group.command(&["journal", "show", "north/journal.jsonl", "--last", "100"]);
    let mut shown = shown.stdout(Stdio::piped()).spawn().expect("starts");
    drop(shown.stdout.take());
    assert!(shown.wait().expect("ends").success());
    let table = group.succeed(&["ledger", "north"]);
    let bytes = |kind: &str| -> u64 {
        let row = table.lines().find(|l| l.contains(kind)).expect("a row");
        row.split_whitespace().nth(4).and_then(|n| n.parse().ok()).expect("a number")
    };
    // 4 images of 3 x 64 x 64: a byte a value at most, and two.
    assert!(bytes("round") <= 120 * (49_152 + 200), "{table}");
    assert!(bytes("feedback") <= 120 * (2 * 49_152 + 200), "{table}");
}

#[test]
fn bad_configurations_name_the_file_and_the_fact() {
    let group = Consortium::new("");
    let text = fs::read_to_string(group.path("run.toml")).expect("read");
    let check = |spoilt: &str, words: &[&str]| {
        fs::write(group.path("run.toml"), spoilt).expect("written");
        let output = group.command(&["server", "--config", "run.toml"]).output().expect("starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.iter().all(|w| said.contains(w)) && !said.contains("panicked"), "{said}");
    };
    check(&text.replace("sites = [\"north\", \"south\"]", "sites = []"), &["run.toml", "0 sites"]);
    check(&text.replace("\"south\"", "\"north\""), &["run.toml", "north is listed twice"]);
    check(&text.replace("rounds =", "ronds ="), &["run.toml", "unknown setting protocol.ronds; protocol has rounds, batch"]);
    check(&text.replace("images = \"tissue\"", "images = \"teeth\""), &["run.toml", "teeth"]);
    check(&text.replace("keys = \"keys\"", "keys = \"nowhere\""), &["nowhere/server.pem"]);
    check("name = ", &["run.toml"]);
    let output = group.command(&["site", "--config", "missing.toml"]).output().expect("starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("asyndgan init"));
    // And an init never writes over somebody's own.
    let output = group.command(&["init", "site", "--out", "north.toml"]).output().expect("starts");
    assert!(!output.status.success());
    fs::remove_file(Path::new(&group.path("north.toml"))).expect("removed");
    group.succeed(&["init", "site", "--out", "north.toml"]);
}
