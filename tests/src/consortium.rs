//! A server and two sites as separate processes, over loopback.
#![allow(missing_docs, clippy::missing_panics_doc, clippy::must_use_candidate, reason = "tests share it")]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use asyndgan_paper::Experiment;

use crate::{describe, done, program, smoke};

pub const ROUNDS: u64 = 120;
pub const SITES: [&str; 2] = ["north", "south"];

/// The prepared images: made once for all tests.
pub fn prepared() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let mut run = smoke(Experiment::Table2, None);
        run.settings.data.sites = 2;
        // Four tiles of nine patches: the default policy asks for 32 cases of several patients.
        run.settings.data.phantoms_per_site = 4;
        run.settings.protocol.rounds = ROUNDS;
        run.settings.protocol.checkpoint_every = 10;
        run.settings.protocol.l1_weight = 0.0;
        describe(&folder, &run);
        done(&folder, &["prepare"]);
        folder
    })
}

/// A consortium's folder with keys and configurations; the output of every program goes to a log file of its name.
pub struct Consortium {
    /// The folder.
    pub folder: tempfile::TempDir,
}

impl Consortium {
    pub fn new(extra: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let this = Self { folder };
        this.succeed(&["keys", "init", "--server", "localhost"]);
        for (i, site) in (1..).zip(SITES) {
            this.succeed(&["keys", "issue", site]);
            let data = prepared().join(format!("prepared/site-{i}"));
            let text = format!(
                "server = \"localhost:{port}\"\nbundle = \"keys/sites/{site}.pem\"\ndata = \"{}\"\nfolder = \"{site}\"\ndevice = \"cpu\"\nkeep_alive_seconds = 1\n",
                data.display()
            );
            fs::write(this.path(&format!("{site}.toml")), text).expect("written");
            // The same secret in every test: else each would end with another generator.
            this.write_private(&format!("{site}/site.secret"), &[i as u8; 32]);
        }
        let text = format!(
            "name = \"trial\"\nsites = [\"north\", \"south\"]\nimages = \"tissue\"\nprofile = \"smoke\"\nfolder = \"run\"\nkeys = \"keys\"\n\
             listen = \"127.0.0.1:{port}\"\ndevice = \"cpu\"\nkeep_alive_seconds = 1\n{extra}\n[settings.protocol]\nrounds = {ROUNDS}\ncheckpoint_every = 10\n"
        );
        fs::write(this.path("run.toml"), text).expect("written");
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write_private(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("created");
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        // Three programs share two cores.
        command.args(arguments).current_dir(self.folder.path()).env("OMP_WAIT_POLICY", "passive");
        command
    }

    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn start(&self, name: &str) -> Running {
        let role = if name == "run" { "server" } else { "site" };
        let words = fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.log"))).expect("a log");
        let config = format!("{name}.toml");
        let child = self.command(&[role, "--config", &config]).stdout(Stdio::null()).stderr(words).spawn().expect("starts");
        Running(child)
    }

    pub fn words(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    pub fn wait_for_words(&self, name: &str, word: &str) {
        self.wait_until(&format!("{name} says {word}"), || self.words(name).contains(word));
    }

    pub fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_mins(2), "{what}: not reached within two minutes\n{}", self.all_words());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Until the server holds a checkpoint of at least this round.
    pub fn wait_for_round(&self, round: u64) {
        self.wait_until(&format!("round {round}"), || self.server_checkpoints().into_iter().any(|c| c.0 >= round));
    }

    pub fn server_checkpoints(&self) -> Vec<(u64, PathBuf)> {
        let runs = fs::read_dir(self.path("run/seed-0/AsynDgan/checkpoints")).into_iter().flatten().flatten();
        let files = runs.flat_map(|run| fs::read_dir(run.path()).into_iter().flatten().flatten());
        let round = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix("server-")?.strip_suffix(".safetensors")?.parse().ok()?;
            Some((name, path))
        };
        files.filter_map(|file| round(file.path())).collect()
    }

    pub fn all_words(&self) -> String {
        ["run", "north", "south"].map(|name| format!("--- {name}\n{}", self.words(name))).concat()
    }

    /// All processes end successfully, with a generator and verified journals.
    pub fn ends(&self, running: Vec<Running>) -> Vec<u8> {
        for mut one in running {
            let status = one.0.wait().expect("ends");
            assert!(status.success(), "{}", self.all_words());
        }
        for site in SITES {
            let journal = format!("{site}/journal.jsonl");
            let said = self.succeed(&["journal", "verify", &journal]);
            assert!(said.contains("verified") && said.contains("up to round 119") && !said.contains("cut off"), "{said}");
            fs::remove_file(self.path(&format!("{site}/journal.head"))).expect("there");
            let said = self.succeed(&["journal", "verify", &journal]);
            assert!(said.contains("can only be detected with the receipts"), "{said}");
        }
        fs::read(self.path("run/seed-0/AsynDgan/generator.safetensors")).expect("a generator")
    }
}

#[allow(clippy::disallowed_methods, reason = "tests may look at the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// A program that ends with its test.
pub struct Running(pub Child);

impl Running {
    pub fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }

    /// Waits until it ends; whether it ends successfully.
    pub fn ends_well(mut self) -> bool {
        self.0.wait().expect("ends").success()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.0.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; a halted one ends too.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a request to the dashboard.
pub fn get(port: u16, path: &str, headers: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").expect("asked");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}
