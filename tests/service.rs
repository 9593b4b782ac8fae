//! A server that serves one run after another, and sites that stay.
#![allow(missing_docs, reason = "tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::Stdio,
    thread,
    time::Duration,
};

use e2e::consortium::{Consortium, ROUNDS, Running, SITES, get, now};

/// The rounds of a run that is paused or ended early: far more than are done in the meantime.
const MANY: u64 = 1500;

/// A consortium whose sites stay, and whose server has a queue.
struct Service {
    group: Consortium,
    /// The port of the dashboard.
    dashboard: u16,
}

impl Service {
    fn new() -> Self {
        let group = Consortium::new("");
        for site in SITES {
            let path = group.path(&format!("{site}.toml"));
            let text = fs::read_to_string(&path).expect("a configuration");
            fs::write(&path, format!("keep_running = true\nruns_max = 9\napproval = \"policy\"\n{text}")).expect("written");
        }
        let run = fs::read_to_string(group.path("run.toml")).expect("a configuration");
        let listen = run.lines().find(|line| line.starts_with("listen")).expect("an address");
        let dashboard = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let text = format!("folder = \"runs\"\nkeys = \"keys\"\n{listen}\ndashboard = \"127.0.0.1:{dashboard}\"\n");
        fs::write(group.path("runs.toml"), text).expect("written");
        Self { group, dashboard }
    }

    /// Sends a request of the operator, as the dashboard's page does.
    fn request(&self, headers: &str, run: &str, action: &str) -> String {
        let body = format!("{{\"run\": \"{run}\", \"action\": \"{action}\", \"reason\": \"by hand\"}}");
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.dashboard)).expect("connects");
        let head = format!("Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        write!(stream, "POST /runs HTTP/1.1\r\n{head}{headers}\r\n{body}").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn serve(&self) -> Running {
        let words = fs::OpenOptions::new().create(true).append(true).open(self.group.path("run.log")).expect("a log");
        Running(self.group.command(&["run", "serve"]).stdout(Stdio::null()).stderr(words).spawn().expect("starts"))
    }

    fn submit(&self, name: &str, rounds: u64) {
        let path = self.group.path("run.toml");
        let text = fs::read_to_string(&path).expect("a configuration").replacen("\"trial\"", &format!("\"{name}\""), 1);
        let text = text.replace(&format!("rounds = {ROUNDS}\n"), &format!("rounds = {rounds}\n"));
        fs::write(self.group.path("submitted.toml"), text).expect("written");
        self.group.succeed(&["run", "submit", "submitted.toml"]);
    }

    fn state(&self, name: &str) -> String {
        let table = self.group.succeed(&["run", "list"]);
        let row = table.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name} in {table}"));
        row.split_whitespace().nth(1).expect("a state").to_owned()
    }

    fn wait_for_state(&self, name: &str, state: &str) {
        self.group.wait_until(&format!("{name} is {state}"), || self.state(name) == state);
    }

    /// Until the server holds a checkpoint of the run.
    fn wait_for_checkpoint(&self, name: &str) {
        let folder = self.group.path(&format!("runs/{name}/seed-0/AsynDgan/checkpoints"));
        let is_checkpoint = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("server-");
        let holds = |run: fs::DirEntry| fs::read_dir(run.path()).is_ok_and(|mut files| files.any(|file| file.is_ok_and(is_checkpoint)));
        self.group.wait_until(&format!("a checkpoint of {name}"), || {
            fs::read_dir(&folder).is_ok_and(|mut runs| runs.any(|run| run.is_ok_and(holds)))
        });
    }

    fn rounds(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.group.path(&format!("runs/{name}/progress.json"))).unwrap_or_default();
        text.split(['{', ':', ',']).nth(2).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn generator(&self, name: &str) -> PathBuf {
        self.group.path(&format!("runs/{name}/seed-0/AsynDgan/generator.safetensors"))
    }

    fn site_folder(&self, site: &str, run: &str) -> PathBuf {
        let folders = fs::read_dir(self.group.path(site)).expect("a folder").map(|entry| entry.expect("an entry").path());
        let is_of_run = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{run}-")));
        folders.into_iter().find(is_of_run).expect("a folder for the run")
    }
}

/// Sends SIGTERM; the program ends successfully within ten seconds.
fn terminates(mut program: Running, words: impl Fn() -> String) {
    program.signal("-TERM");
    let began = now();
    loop {
        if let Some(status) = program.0.try_wait().expect("a status") {
            assert!(status.success(), "{status}\n{}", words());
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it does not end\n{}", words());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn runs_follow_each_other_and_obey_the_operator() {
    let service = Service::new();
    let group = &service.group;
    let mut server = service.serve();
    let sites = SITES.map(|site| group.start(site));
    for site in SITES {
        group.wait_for_words(site, "has no run now: no run is queued");
    }
    service.submit("first", ROUNDS);
    service.submit("second", MANY);
    service.wait_for_state("first", "finished");
    assert!(service.generator("first").exists());

    // The second begins by itself, is paused, and survives a restart of the server.
    service.wait_for_checkpoint("second");
    group.succeed(&["run", "pause", "second", "--reason", "maintenance"]);
    for site in SITES {
        group.wait_for_words(site, "no run is queued; paused: second");
    }
    assert!(!service.generator("second").exists());
    terminates(server, || group.all_words());
    server = service.serve();
    assert_eq!(service.state("second"), "paused");
    group.succeed(&["run", "resume", "second"]);
    group.wait_until("the second run goes on", || group.succeed(&["run", "logs", "second"]).contains("resumes after round"));
    group.succeed(&["run", "finish", "second"]);
    service.wait_for_state("second", "finished");
    assert!(service.generator("second").exists());
    assert!(group.succeed(&["run", "show", "second"]).contains("maintenance"));
    let events = group.succeed(&["run", "logs", "second"]);
    assert!(events.contains("north"), "{events}");

    // A run can be ended early, with a result, or without.
    service.submit("short", MANY);
    service.wait_for_checkpoint("short");
    group.wait_until("the count of rounds", || service.rounds("short") > 0);
    group.succeed(&["run", "finish", "short"]);
    service.wait_for_state("short", "finished");
    assert!(service.generator("short").exists() && service.rounds("short") < MANY);
    service.submit("never", ROUNDS);
    group.succeed(&["run", "abort", "never", "--reason", "a mistake"]);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(service.state("never"), "aborted");

    // The sites delete their discriminators also of a run that was aborted.
    service.submit("aborted", MANY);
    service.wait_for_checkpoint("aborted");
    let has_checkpoints = |site: &&str| service.site_folder(site, "aborted").join("checkpoints").exists();
    group.wait_until("checkpoints at the sites", || SITES.iter().all(has_checkpoints));
    group.succeed(&["run", "abort", "aborted", "--reason", "a mistake"]);
    group.wait_until("no checkpoints at the sites", || !SITES.iter().any(has_checkpoints));
    assert!(SITES.iter().all(|site| service.site_folder(site, "aborted").join("finished").exists()));
    for site in SITES {
        group.wait_for_words(site, "is aborted: its discriminator is deleted");
    }
    let has_masks = || group.path("runs/aborted/seed-0/AsynDgan/checkpoints").exists();
    group.wait_until("no masks at the operator", || !has_masks());
    let events = group.succeed(&["run", "logs", "aborted"]);
    assert!(events.contains("the operator has aborted the run: a mistake"), "{events}");

    // A run whose sites are gone for good can still be ended with a result.
    service.submit("gone", MANY);
    service.wait_for_checkpoint("gone");
    group.wait_until("the count of rounds", || service.rounds("gone") > 0);
    let token = fs::read_to_string(group.path("runs/dashboard.token")).expect("a token");
    let allowed = format!("Authorization: Bearer {token}\r\n");
    let of_page = format!("{allowed}asyndgan-request: 1\r\n");
    assert!(service.request("asyndgan-request: 1\r\n", "gone", "pause").contains("401"), "nobody without the token");
    assert!(service.request(&allowed, "gone", "pause").contains("404"), "no form of another page");
    assert!(service.request(&of_page, "gone", "resume").contains("only a run that is paused or failed"));
    assert!(service.request(&of_page, "elsewhere", "pause").contains("there is no run"));
    let status = get(service.dashboard, "/status.json", &format!("Host: localhost\r\n{allowed}"));
    assert!(status.contains("\"actions\":[\"pause\",\"finish\",\"abort\"]"), "{status}");
    let curve = get(service.dashboard, "/curve/1", &format!("Host: localhost\r\n{allowed}"));
    assert!(curve.contains("\"feedback_norm\":"), "{curve}");
    assert!(service.request(&of_page, "gone", "pause").contains("204"));
    assert!(group.succeed(&["run", "show", "gone"]).contains("by hand (on the dashboard)"));
    for site in SITES {
        group.wait_for_words(site, "paused: gone");
    }
    for site in sites {
        terminates(site, || group.all_words());
    }
    group.succeed(&["run", "resume", "gone"]);
    service.wait_for_state("gone", "running");
    group.succeed(&["run", "finish", "gone"]);
    service.wait_for_state("gone", "finished");
    assert!(service.generator("gone").exists());
    terminates(server, || group.all_words());
    for (site, run) in SITES.into_iter().flat_map(|site| ["first", "second", "short"].map(|run| (site, run))) {
        let journal = service.site_folder(site, run).join("journal.jsonl");
        let said = group.succeed(&["journal", "verify", &journal.display().to_string()]);
        assert!(said.contains("verified"), "{said}");
    }
}

#[test]
fn a_site_that_asks_its_administrator_waits_for_the_approval() {
    let service = Service::new();
    let group = &service.group;
    let path = group.path("north.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, text.replace("approval = \"policy\"", "approval = \"administrator\"")).expect("written");
    let server = service.serve();
    service.submit("trial", ROUNDS);
    let sites = SITES.map(|site| group.start(site));
    group.wait_for_words("north", "it is proposed by the operator");
    assert!(group.words("north").contains("asyndgan site approve --config north.toml"), "{}", group.words("north"));
    let fact = "its administrator has not approved this run";
    group.wait_until("the operator knows", || group.succeed(&["run", "logs", "trial"]).contains(fact));
    group.wait_until("the list names the site", || group.succeed(&["run", "list"]).contains(fact));
    let shown = group.succeed(&["run", "show", "trial"]);
    assert!(shown.contains("not connected") && shown.contains(fact) && !shown.contains("generator"), "{shown}");
    let checked = group.succeed(&["doctor", "--config", "north.toml"]);
    assert!(checked.contains("todo  approval: not given yet"), "{checked}");
    assert_eq!(service.rounds("trial"), 0);
    group.succeed(&["site", "approve", "--config", "north.toml", "--yes"]);
    service.wait_for_state("trial", "finished");
    let shown = group.succeed(&["run", "show", "trial"]);
    assert!(shown.contains("trial/seed-0/AsynDgan/generator.safetensors"), "{shown}");
    let traffic = group.succeed(&["ledger", "runs/trial"]);
    assert!(traffic.contains("north") && traffic.contains("south"), "{traffic}");
    for program in sites.into_iter().chain([server]) {
        terminates(program, || group.all_words());
    }
}

#[test]
fn an_operator_is_told_that_a_policy_refuses_a_run() {
    let service = Service::new();
    let group = &service.group;
    let path = group.path("south.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, text + "[policy]\nrounds_max = 3\n").expect("written");
    let server = service.serve();
    service.submit("trial", ROUNDS);
    let site = group.start("south");
    group.wait_for_words("south", "the policy of this site does not allow it");
    let fact = "its policy or its data does not allow this run";
    group.wait_until("the operator knows", || group.succeed(&["run", "list"]).contains(fact));
    group.wait_for_words("run", fact);
    assert!(!group.words("run").contains("rounds_max"), "the bound stays at the site: {}", group.words("run"));
    for program in [site, server] {
        terminates(program, || group.all_words());
    }
    let listed = group.succeed(&["run", "list"]);
    assert!(listed.contains("no server serves the queue now"), "{listed}");
}

#[test]
fn a_paused_run_gets_another_site_and_continues_without_one() {
    let service = Service::new();
    let group = &service.group;
    let server = service.serve();
    service.submit("trial", MANY);
    let [north, south] = SITES.map(|site| group.start(site));
    service.wait_for_checkpoint("trial");
    let refused = group.command(&["run", "amend", "trial", "--drop", "north"]).output().expect("starts");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("pause it first"));
    group.succeed(&["run", "pause", "trial"]);
    group.wait_for_words("south", "paused: trial");
    let done = service.rounds("trial");
    let refuses = |arguments: &[&str], fact: &str| {
        let refused = group.command(&[&["run", "amend", "trial"], arguments].concat()).output().expect("starts");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(fact), "{said}");
    };
    refuses(&["--limit", "seed=7"], "submit a new run");
    refuses(&["--replace", "east=west"], "east is not a site of this run");
    refuses(&["--limit", "weight_ratio_max=0.1"], "at least 1");
    terminates(north, || group.all_words());

    // West takes the place of north, with north's images.
    group.succeed(&["keys", "issue", "west"]);
    let text = fs::read_to_string(group.path("north.toml")).expect("a configuration");
    let text = text.replace("keys/sites/north.pem", "keys/sites/west.pem").replace("folder = \"north\"", "folder = \"west\"");
    fs::write(group.path("west.toml"), text).expect("written");
    group.succeed(&["run", "amend", "trial", "--replace", "north=west", "--limit", "rollbacks_max=3", "--reason", "north has left"]);
    let west = group.start("west");
    group.succeed(&["run", "resume", "trial"]);
    group.wait_until("more rounds", || service.rounds("trial") > done + 10);
    let events = group.succeed(&["run", "logs", "trial"]);
    assert!(events.contains("takes this place in the run from round") && !events.contains("came back"), "{events}");

    // Then the run continues with south alone.
    group.succeed(&["run", "pause", "trial"]);
    group.wait_for_words("west", "paused: trial");
    terminates(west, || group.all_words());
    group.succeed(&["run", "amend", "trial", "--drop", "west"]);
    let done = service.rounds("trial");
    group.succeed(&["run", "resume", "trial"]);
    group.wait_until("more rounds with south", || service.rounds("trial") > done);
    group.succeed(&["run", "finish", "trial"]);
    service.wait_for_state("trial", "finished");
    assert!(service.generator("trial").exists());
    let shown = group.succeed(&["run", "show", "trial"]);
    assert!(shown.contains("north is replaced by west; rollbacks_max = 3; north has left"), "{shown}");
    for program in [south, server] {
        terminates(program, || group.all_words());
    }
}
