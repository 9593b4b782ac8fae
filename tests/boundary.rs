//! How the program protects a hospital's folder, enforces its consent and keys, and who can stop a run.
#![allow(missing_docs, reason = "tests")]

use std::{
    collections::VecDeque,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use e2e::consortium::{Consortium, SITES};

/// Changes a configuration.
fn replace(group: &Consortium, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(group.path(file)).expect("read");
    assert!(text.contains(from), "{from}");
    fs::write(group.path(file), text.replace(from, to)).expect("written");
}

/// What a command that must fail prints.
fn fails(group: &Consortium, arguments: &[&str]) -> String {
    let output = group.command(arguments).output().expect("starts");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !words.contains("panicked"), "{arguments:?}: {words}");
    words
}

#[test]
fn a_hospital_agrees_to_one_run_and_no_other() {
    let group = Consortium::new("");
    replace(&group, "south.toml", "device =", "approval = \"administrator\"\ndevice =");
    let server = group.start("run");
    let north = group.start("north");
    group.wait_for_words("run", "north: joined the run");
    let words = fails(&group, &["site", "--config", "south.toml"]);
    assert!(words.contains("has not been approved") && words.contains("site approve"), "{words}");
    group.wait_for_words("run", "the hospital has not agreed to this run");
    // It is shown the run; without a person, it must say so in the command.
    let words = fails(&group, &["site", "approve", "--config", "south.toml"]);
    assert!(words.contains("--yes") && words.contains("what leaves this site"), "{words}");
    group.succeed(&["site", "approve", "--config", "south.toml", "--yes"]);
    let south = group.start("south");
    group.wait_for_round(10);
    drop((server, north, south));
    // The same server with another seed is another run: for both, also where the policy decided.
    replace(&group, "run.toml", "name = \"trial\"", "name = \"trial\"\nseed = 1");
    replace(&group, "run.toml", "folder = \"run\"", "folder = \"other\"");
    let _server = group.start("run");
    for site in SITES {
        let words = fails(&group, &["site", "--config", &format!("{site}.toml")]);
        assert!(words.contains("belongs to the run \"trial\"") && words.contains("seed: 0, now 1"), "{words}");
    }
    // By a file that came by another way, in a folder of its own, and compared with the run before.
    replace(&group, "south.toml", "folder = \"south\"", "folder = \"south-2\"");
    let output = group.command(&["site", "approve", "--config", "south.toml", "--yes", "--description", "other/description.json"]).output();
    let words = String::from_utf8_lossy(&output.expect("starts").stderr).into_owned();
    assert!(words.contains("seed: 0, now 1") && words.contains("approved"), "{words}");
}

#[test]
fn a_site_in_a_wrong_folder_loses_its_own_state_only() {
    let group = Consortium::new("");
    let server = group.start("run");
    let [north, south] = SITES.map(|site| group.start(site));
    group.wait_for_round(40);
    south.kill();
    replace(&group, "south.toml", "folder = \"south\"", "folder = \"elsewhere\"");
    let south = group.start("south");
    group.wait_for_words("run", "came back without its checkpoint");
    for mut one in [server, north, south] {
        assert!(one.0.wait().expect("ends").success(), "{}", group.all_words());
    }
    let words = group.words("run");
    assert!(words.contains("with a fresh discriminator"), "{words}");
    assert_eq!(words.matches("starts with round 1").count(), 1, "nobody went back to the beginning: {words}");
    let record = fs::read_to_string(group.path("run/events.jsonl")).expect("recorded");
    assert!(record.contains("\"state_lost\"") && record.contains("south"), "{record}");
}

#[test]
fn a_secret_that_is_gone_is_not_replaced_in_silence() {
    let group = Consortium::new("");
    let server = group.start("run");
    let [north, south] = SITES.map(|site| group.start(site));
    group.wait_for_round(20);
    south.kill();
    fs::remove_file(group.path("south/site.secret")).expect("removed");
    let words = fails(&group, &["site", "--config", "south.toml"]);
    assert!(words.contains("site.secret is missing") && words.contains("restore it"), "{words}");
    fs::write(group.path("south/site.secret"), [2; 32]).expect("written");
    fs::set_permissions(group.path("south/site.secret"), fs::Permissions::from_mode(0o644)).expect("set");
    let words = fails(&group, &["site", "--config", "south.toml"]);
    assert!(words.contains("chmod 600"), "{words}");
    drop((server, north));
}

/// Files and folders below a place that others can read.
fn open_to_others(place: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(place).expect("a folder").flatten() {
        let (path, metadata) = (entry.path(), entry.metadata().expect("there"));
        if metadata.permissions().mode() & 0o077 != 0 {
            found.push(path.display().to_string());
        }
        if metadata.is_dir() {
            open_to_others(&path, found);
        }
    }
}

#[test]
fn patients_data_and_records_are_private_under_an_open_umask() {
    let group = Consortium::new("");
    let data = e2e::consortium::prepared();
    let mut running = Vec::new();
    for (role, name) in [("server", "run"), ("site", "north"), ("site", "south")] {
        let program = group.command(&[]);
        let script = format!("umask 000; exec \"$0\" {role} --config {name}.toml");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).arg(program.get_program()).current_dir(group.folder.path()).env("OMP_WAIT_POLICY", "passive");
        running.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts"));
    }
    for one in &mut running {
        assert!(one.wait().expect("ends").success());
    }
    let mut found = Vec::new();
    for site in SITES {
        open_to_others(&group.path(site), &mut found);
    }
    open_to_others(&data.join("prepared/site-1"), &mut found);
    // The server's folder itself is closed; pictures and curves in it hold no patient's data.
    assert_eq!(fs::metadata(group.path("run")).expect("there").permissions().mode() & 0o077, 0);
    for file in ["ledger.csv", "receipts", "seed-0/AsynDgan/checkpoints", "seed-0/AsynDgan/conditions.safetensors"] {
        let path = group.path("run").join(file);
        if fs::metadata(&path).expect("there").permissions().mode() & 0o077 != 0 {
            found.push(file.to_owned());
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_key_that_never_leaves_the_hospital_takes_part() {
    let group = Consortium::new("");
    fs::write(group.path("passphrase"), "correct horse battery staple\n").expect("written");
    fs::remove_dir_all(group.path("keys")).expect("removed");
    let passphrase = ["--passphrase-file", "passphrase"];
    group.succeed(&[&["keys", "init", "--server", "localhost"][..], &passphrase].concat());
    assert!(fails(&group, &["keys", "issue", "north"]).contains("passphrase"));
    group.succeed(&[&["keys", "issue", "north"][..], &passphrase].concat());
    group.succeed(&["keys", "request", "south"]);
    group.succeed(&[&["keys", "sign", "south", "south.csr"][..], &passphrase].concat());
    replace(&group, "south.toml", "device =", "key = \"south-key.pem\"\ndevice =");
    let running = ["run", "north", "south"].map(|name| group.start(name));
    group.ends(running.into());
}

/// Opens connections to a port and sends the beginning of something, again and again, until `stop` is set.
fn flood(port: u16, at_once: usize, first: &'static [u8], stop: &Arc<AtomicBool>) -> thread::JoinHandle<u32> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let (mut open, mut count) = (VecDeque::new(), 0);
        while !stop.load(Ordering::Relaxed) {
            if open.len() >= at_once {
                open.pop_front();
            }
            if let Ok(mut stream) = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1)) {
                stream.write_all(first).ok();
                open.push_back(stream);
                count += 1;
            }
            // The sites share two cores with this.
            thread::sleep(Duration::from_micros(500));
        }
        count
    })
}

#[test]
fn floods_of_connections_keep_no_site_out_and_end_no_run() {
    let dashboard = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let group = Consortium::new(&format!("dashboard = \"127.0.0.1:{dashboard}\""));
    let text = fs::read_to_string(group.path("north.toml")).expect("read");
    let port = text.lines().next().and_then(|l| l.trim_end_matches('"').rsplit_once(':')?.1.parse().ok()).expect("a port");
    let program = group.command(&[]);
    let mut server = Command::new("bash");
    server.args(["-c", "ulimit -n 512; exec \"$0\" server --config run.toml"]).arg(program.get_program());
    server.current_dir(group.folder.path()).env("OMP_WAIT_POLICY", "passive").env("ASYNDGAN_PROGRESS", "lines");
    let words = fs::File::create(group.path("run.log")).expect("a log");
    let mut server = server.stdout(Stdio::null()).stderr(words).spawn().expect("starts");
    group.wait_for_words("run", "dashboard: ");
    let stop = Arc::new(AtomicBool::new(false));
    let floods = [
        flood(port, 300, b"", &stop),
        flood(port, 100, b"\x16\x03\x01\x02\x00", &stop),
        flood(dashboard, 400, b"GET /status.json HTTP/1.1\r\nHost: localhost\r\nX-a: ", &stop),
    ];
    // Somebody who has the token keeps a connection.
    let token = fs::read_to_string(group.path("run/dashboard.token")).expect("the dashboard's token");
    let mut page = TcpStream::connect(("127.0.0.1", dashboard)).expect("the dashboard");
    page.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let mut answers = || {
        let request = format!("GET /status.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        let (sent, mut head) = (page.write_all(request.as_bytes()), [0; 12]);
        // The body is a few bytes, and comes with its head.
        let read = page.read_exact(&mut head).and_then(|()| page.read(&mut [0; 1 << 14]));
        assert!(sent.is_ok() && read.is_ok() && head == *b"HTTP/1.1 200", "{read:?} {}", String::from_utf8_lossy(&head));
    };
    answers();
    thread::sleep(Duration::from_secs(1));
    answers();
    let sites = SITES.map(|site| group.start(site));
    for mut one in sites {
        assert!(one.0.wait().expect("ends").success(), "{}", group.all_words());
    }
    assert!(server.wait().expect("ends").success(), "{}", group.all_words());
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        assert!(flood.join().expect("no panic") > 1_000, "it was no flood");
    }
}
