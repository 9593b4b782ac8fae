//! `cargo xtask netlab`: a small run over a network that is not loopback, one network namespace a hospital, on links of 30 Mbit/s that
//! lose packets, reset connections and go down.

mod relay;
mod wires;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::{Arm, Experiment, Profile, Run, Settings, Step};

pub(crate) use relay::{RelayArguments, relay};
use wires::{HOSPITALS, SERVER, Wires};

use crate::{cargo, root, setup, steps::now, succeed, target};

const ROUNDS: u64 = 200;
const PORT: u16 = 7443;
/// How far the interfaces' counters may be from the ledger, once protocol overhead is taken off.
const APART_MAX: f64 = 0.03;

/// Trains over the bad network, and holds what comes out against the same run in one process.
pub(crate) fn netlab() -> Result<()> {
    if let Err(lack) = wires::available() {
        eprintln!("netlab is SKIPPED: {lack:#} (it needs root, iproute2 and nftables)");
        return Ok(());
    }
    setup::ensure_libtorch()?;
    succeed(cargo(&["build", "--quiet", "--release", "--package", "asyndgan"]))?;
    let place = root().join("target/netlab");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let lab = Lab { program: target().join("release/asyndgan"), place };
    eprintln!("the same run in one process ...");
    let expected = lab.in_process()?;
    let wires = Wires::lay()?;
    lab.configure()?;
    let report = lab.over()?;
    drop(wires);
    let found = fs::read(lab.place.join("run/seed-0/AsynDgan/generator.safetensors")).context("no generator")?;
    ensure!(found == expected, "the generator differs from that of the run in one process");
    eprintln!("the generator is the same, byte for byte, as in one process");
    report.print();
    ensure!(report.apart().abs() <= APART_MAX, "ledger and interfaces are {:.2} % apart", 100.0 * report.apart());
    Ok(())
}

struct Lab {
    program: PathBuf,
    place: PathBuf,
}

impl Lab {
    fn step(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.place).env("ASYNDGAN_PROGRESS", "lines").stdout(Stdio::null());
        succeed(command)
    }

    /// Prepares phantoms, trains in one process, and gives the generator.
    fn in_process(&self) -> Result<Vec<u8>> {
        let experiment = Experiment::Table2;
        let smoke = Settings::new(experiment, Profile::Smoke);
        let settings = Settings { sites: HOSPITALS, rounds: ROUNDS, checkpoint_every: 20, l1_weight: 0.0, ..smoke };
        let run = Run::phantoms(experiment, Profile::Smoke, settings);
        let folder = self.place.join("in-process");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("run.json"), serde_json::to_string_pretty(&run)?)?;
        self.step(&["prepare", "--run", "in-process"])?;
        self.step(&["train", "--run", "in-process", "--arm", "AsynDgan", "--seed", "0"])?;
        Ok(fs::read(Step::folder(&folder, Arm::AsynDgan, 0).join("generator.safetensors"))?)
    }

    fn configure(&self) -> Result<()> {
        self.step(&["keys", "init", "--server", SERVER, "localhost"])?;
        let names: Vec<String> = (1..=HOSPITALS).map(|h| format!("\"hospital-{h}\"")).collect();
        let run = format!(
            "name = \"netlab\"\nsites = [{}]\nimages = \"tissue\"\nprofile = \"smoke\"\nfolder = \"run\"\nkeys = \"keys\"\nlisten = \"0.0.0.0:{PORT}\"\n\
             device = \"cpu\"\nkeep_alive_seconds = 2\n[settings]\nrounds = {ROUNDS}\ncheckpoint_every = 20\n",
            names.join(", ")
        );
        fs::write(self.place.join("run.toml"), run)?;
        for h in 1..=HOSPITALS {
            self.step(&["keys", "issue", &format!("hospital-{h}")])?;
            // The last hospital's way is long: it goes through a relay that takes its time.
            let server = if h == HOSPITALS { format!("localhost:{PORT}") } else { format!("{SERVER}:{PORT}") };
            let site = format!(
                "server = \"{server}\"\nbundle = \"keys/sites/hospital-{h}.pem\"\ndata = \"in-process/prepared/site-{h}\"\nfolder = \"hospital-{h}\"\n\
                 device = \"cpu\"\nkeep_alive_seconds = 2\n"
            );
            fs::write(self.place.join(format!("hospital-{h}.toml")), site)?;
        }
        Ok(())
    }

    fn start(&self, namespace: &str, program: &Path, arguments: &[&str], log: &str) -> Result<Running> {
        let words = fs::File::create(self.place.join(log))?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program).args(arguments).current_dir(&self.place);
        command.env("ASYNDGAN_PROGRESS", "lines").env("OMP_WAIT_POLICY", "passive").stdout(Stdio::null()).stderr(words);
        Ok(Running(command.spawn().context("cannot start a program in its namespace")?))
    }

    /// Trains while the network does what networks do.
    fn over(&self) -> Result<Report> {
        let mut server = self.start(wires::HUB, &self.program, &["server", "--config", "run.toml"], "run.log")?;
        let here = std::env::current_exe()?;
        let (to, listen) = (format!("{SERVER}:{PORT}"), format!("127.0.0.1:{PORT}"));
        let relay = ["netlab-relay", "--listen", &listen, "--to", &to, "--delay-ms", "20"];
        let _relay = self.start(&wires::hospital(HOSPITALS), &here, &relay, "relay.log")?;
        thread::sleep(Duration::from_secs(1));
        let mut sites = Vec::new();
        for h in 1..=HOSPITALS {
            let config = format!("hospital-{h}.toml");
            sites.push(self.start(&wires::hospital(h), &self.program, &["site", "--config", &config], &format!("hospital-{h}.log"))?);
        }
        let began = now();
        wires::lose_packets(HOSPITALS, 1)?;
        for (round, trouble) in wires::TROUBLES {
            self.wait_for(round, &mut server)?;
            eprintln!("round {round}: {}", trouble.words());
            wires::suffer(trouble)?;
        }
        for (name, mut running) in [("server".to_owned(), server)].into_iter().chain((1..).map(|h| format!("hospital-{h}")).zip(sites)) {
            let status = running.0.wait()?;
            ensure!(status.success(), "{name} failed ({status}); see its log in {}", self.place.display());
        }
        eprintln!("{ROUNDS} rounds in {:.0} s over the bad network", began.elapsed().as_secs_f64());
        Report::of(&self.place.join("run/ledger.csv"))
    }

    fn wait_for(&self, round: u64, server: &mut Running) -> Result<()> {
        let ledger = self.place.join("run/ledger.csv");
        let began = now();
        loop {
            let text = fs::read_to_string(&ledger).unwrap_or_default();
            let last = text.lines().rev().find_map(|line| line.split(',').nth(2)?.parse::<u64>().ok());
            if last.is_some_and(|last| last >= round) {
                return Ok(());
            }
            if let Some(status) = server.0.try_wait()? {
                bail!("the server ended before round {round} ({status}); see {}", self.place.join("run.log").display());
            }
            ensure!(began.elapsed() < Duration::from_mins(3), "round {round} does not come; see the logs in {}", self.place.display());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A program that ends with the lab.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the ledger says travelled, and what the interfaces say.
struct Report {
    ledger: u64,
    on_wire: u64,
    headers: u64,
    resent: u64,
}

impl Report {
    fn of(ledger: &Path) -> Result<Self> {
        let text = fs::read_to_string(ledger)?;
        let bytes = text.lines().filter_map(|line| line.split(',').nth(3)?.parse::<u64>().ok()).sum();
        let (on_wire, headers) = wires::traffic()?;
        Ok(Self { ledger: bytes, on_wire, headers, resent: wires::resent()? })
    }

    fn apart(&self) -> f64 {
        let carried = self.on_wire as f64 - self.headers as f64 - self.resent as f64;
        carried / self.ledger as f64 - 1.0
    }

    #[allow(clippy::print_stdout, reason = "the report is what was asked for")]
    fn print(&self) {
        println!("interfaces: {} bytes, both directions", self.on_wire);
        println!("  headers of Ethernet, IP and TCP: {} ({:.2} %)", self.headers, 100.0 * self.headers as f64 / self.on_wire as f64);
        println!("  sent again by TCP: about {} ({:.2} %)", self.resent, 100.0 * self.resent as f64 / self.on_wire as f64);
        println!("ledger: {} bytes; the rest (TLS, HTTP/2, what was cut off) is {:+.2} % of it", self.ledger, 100.0 * self.apart());
    }
}
