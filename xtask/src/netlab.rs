//! `cargo xtask netlab`: a small run over an emulated network, with one network namespace per hospital, on links of 30
//! Mbit/s that lose packets, reset connections and go down.

mod relay;
mod wires;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::{Arm, Experiment, Profile, Run, Settings, Step};
use clap::Args;

pub(crate) use relay::{RelayArguments, relay};
use wires::{HOSPITALS, SERVER, Wires};

use crate::{build::build_program, now, root, succeed};

/// Rounds of a run; the last fault comes in round 160.
const ROUNDS: u64 = 200;

#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask netlab                                200 rounds with faults, as in ci
  cargo xtask netlab --rounds 1000 --delay-ms 40    every link with a round trip of 80 ms")]
pub(crate) struct Arguments {
    /// Rounds of the run.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u64).range(ROUNDS..))]
    rounds: u64,
    /// Delay of every link in each direction, in milliseconds. By default one link has a delay of 20, and one leads
    /// through a proxy if tinyproxy is installed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=200))]
    delay_ms: Option<u64>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { rounds: ROUNDS, delay_ms: None }
    }
}

impl Arguments {
    /// The delay of a hospital's link, if it has one.
    fn delay_ms(&self, h: u32) -> Option<u64> {
        self.delay_ms.or((h == HOSPITALS).then_some(20))
    }

    /// Whether one hospital reaches the server through the proxy alone.
    fn with_proxy(&self) -> bool {
        self.delay_ms.is_none() && has_proxy()
    }
}

const PORT: u16 = 7443;
/// The hospital that reaches the server through an HTTP proxy alone, and the proxy.
const BEHIND_PROXY: u32 = 2;
const PROXY_PORT: u16 = 3128;
const PROXY_CONFIG: &str = "Listen 10.77.0.1\nPort 3128\nConnectPort 7443\nTimeout 600\nBasicAuth hospital secret\n";
/// How far the interfaces' counters may be from the ledger, once protocol overhead is taken off.
const APART_MAX: f64 = 0.03;

/// Trains over the bad network, and compares the generator with that of an undisturbed run over loopback.
pub(crate) fn netlab(arguments: &Arguments) -> Result<()> {
    if let Err(lack) = wires::available() {
        eprintln!("netlab is SKIPPED: {lack:#} (it needs root, iproute2 and nftables)");
        return Ok(());
    }
    let program = build_program()?;
    let place = root().join("target/netlab");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let lab = Lab { program, place, arguments };
    lab.prepare()?;
    lab.configure()?;
    eprintln!("running the same training over loopback ...");
    let expected = lab.undisturbed()?;
    let wires = Wires::lay()?;
    let report = lab.over()?;
    drop(wires);
    let found = fs::read(lab.place.join("run/seed-0/AsynDgan/generator.safetensors")).context("the run wrote no generator")?;
    ensure!(found == expected, "the generator differs from that of the undisturbed run");
    eprintln!("the generator is the same, byte for byte, as that of the undisturbed run");
    report.print();
    ensure!(report.apart().abs() <= APART_MAX, "ledger and interface counters differ by {:.2} %", 100.0 * report.apart());
    Ok(())
}

struct Lab<'a> {
    program: PathBuf,
    place: PathBuf,
    arguments: &'a Arguments,
}

impl Lab<'_> {
    fn step(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.place).env("ASYNDGAN_PROGRESS", "lines").stdout(Stdio::null());
        succeed(command)
    }

    /// Prepares phantoms, four patients per hospital.
    fn prepare(&self) -> Result<()> {
        let experiment = Experiment::Table2;
        let mut settings = Settings::new(experiment, Profile::Smoke);
        settings.data.sites = HOSPITALS;
        settings.data.phantoms_per_site = 4;
        settings.protocol.rounds = self.arguments.rounds;
        settings.protocol.checkpoint_every = 20;
        let run = Run::phantoms(experiment, Profile::Smoke, settings);
        let folder = self.place.join("data");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("run.json"), serde_json::to_string_pretty(&run)?)?;
        self.step(&["prepare", "--run", "data"])
    }

    /// The same run with all programs on this machine; returns the generator.
    fn undisturbed(&self) -> Result<Vec<u8>> {
        let mut programs = Vec::new();
        for (role, name) in std::iter::once(("server", "quiet".to_owned())).chain((1..=HOSPITALS).map(|h| ("site", format!("quiet-{h}")))) {
            let words = fs::File::create(self.place.join(format!("{name}.log")))?;
            let mut command = Command::new(&self.program);
            command.args([role, "--config", &format!("{name}.toml")]).current_dir(&self.place).env("OMP_WAIT_POLICY", "passive");
            let command = command.env("ASYNDGAN_PROGRESS", "lines").stdout(Stdio::null()).stderr(words);
            programs.push((name, Running(command.spawn().context("cannot start a program")?)));
        }
        for (name, mut running) in programs {
            ensure!(running.0.wait()?.success(), "{name} failed; see its log in {}", self.place.display());
        }
        Ok(fs::read(Step::folder(&self.place.join("quiet"), Arm::AsynDgan, 0).join("generator.safetensors"))?)
    }

    /// Configurations for the network and for loopback, with the same secrets: else the two would end with different
    /// generators.
    fn configure(&self) -> Result<()> {
        self.step(&["keys", "init", "--server", SERVER, "localhost"])?;
        for h in 1..=HOSPITALS {
            self.step(&["keys", "issue", &format!("hospital-{h}")])?;
        }
        let host = |h: u32| if self.arguments.delay_ms(h).is_some() { "localhost" } else { SERVER };
        let network = |h: u32| format!("{}:{PORT}", host(h));
        self.configure_run("run", "hospital", &network)?;
        if self.arguments.with_proxy() {
            let path = self.place.join(format!("hospital-{BEHIND_PROXY}.toml"));
            let text = fs::read_to_string(&path)?;
            fs::write(&path, format!("proxy = \"http://hospital:secret@{SERVER}:{PROXY_PORT}\"\n{text}"))?;
            // It has a password.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            fs::write(self.place.join("tinyproxy.conf"), PROXY_CONFIG)?;
        }
        self.configure_run("quiet", "quiet", &|_| format!("localhost:{PORT}"))
    }

    /// Starts the proxy, if there is one, and leaves one hospital no other way.
    fn proxy(&self) -> Result<Option<Running>> {
        if !self.arguments.with_proxy() {
            let reason = if has_proxy() { "every link has a delay" } else { "tinyproxy is not installed" };
            eprintln!("without an HTTP proxy: {reason}");
            return Ok(None);
        }
        wires::leave_only_proxy(BEHIND_PROXY, PROXY_PORT)?;
        self.start(wires::HUB, Path::new("tinyproxy"), &["-d", "-c", "tinyproxy.conf"], "proxy.log").map(Some)
    }

    fn configure_run(&self, run: &str, site: &str, server: &dyn Fn(u32) -> String) -> Result<()> {
        let rounds = self.arguments.rounds;
        let names: Vec<String> = (1..=HOSPITALS).map(|h| format!("\"hospital-{h}\"")).collect();
        let text = format!(
            "name = \"netlab\"\nsites = [{}]\nimages = \"tissue\"\nprofile = \"smoke\"\nfolder = \"{run}\"\nkeys = \"keys\"\nlisten = \"0.0.0.0:{PORT}\"\n\
             device = \"cpu\"\nkeep_alive_seconds = 2\n[settings.protocol]\nrounds = {rounds}\ncheckpoint_every = 20\n",
            names.join(", ")
        );
        fs::write(self.place.join(format!("{run}.toml")), text)?;
        for h in 1..=HOSPITALS {
            let text = format!(
                "server = \"{}\"\nbundle = \"keys/sites/hospital-{h}.pem\"\ndata = \"data/prepared/site-{h}\"\nfolder = \"{site}-{h}\"\n\
                 device = \"cpu\"\nkeep_alive_seconds = 2\n",
                server(h)
            );
            fs::write(self.place.join(format!("{site}-{h}.toml")), text)?;
            let secret = self.place.join(format!("{site}-{h}/site.secret"));
            fs::create_dir_all(self.place.join(format!("{site}-{h}")))?;
            fs::write(&secret, [h as u8; 32])?;
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
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

    /// Trains over the disturbed network.
    fn over(&self) -> Result<Report> {
        let mut server = self.start(wires::HUB, &self.program, &["server", "--config", "run.toml"], "run.log")?;
        let here = std::env::current_exe()?;
        let (to, listen) = (format!("{SERVER}:{PORT}"), format!("127.0.0.1:{PORT}"));
        let _proxy = self.proxy()?;
        let mut relays = Vec::new();
        for h in 1..=HOSPITALS {
            let Some(delay_ms) = self.arguments.delay_ms(h) else { continue };
            let relay = ["netlab-relay", "--listen", &listen, "--to", &to, "--delay-ms", &delay_ms.to_string()];
            relays.push(self.start(&wires::hospital(h), &here, &relay, &format!("relay-{h}.log"))?);
        }
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
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("{} rounds in {seconds:.0} s over the bad network", self.arguments.rounds);
        Report::from_ledger(&self.place.join("run/ledger.csv"))
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
            ensure!(began.elapsed() < Duration::from_mins(3), "round {round} was not reached; see the logs in {}", self.place.display());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn has_proxy() -> bool {
    Command::new("tinyproxy").arg("-v").output().is_ok_and(|output| output.status.success())
}

/// A program that ends with the lab.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Traffic according to the ledger, and according to the interfaces.
struct Report {
    ledger: u64,
    on_wire: u64,
    headers: u64,
    resent: u64,
}

impl Report {
    fn from_ledger(ledger: &Path) -> Result<Self> {
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
        println!("  retransmitted by TCP: about {} ({:.2} %)", self.resent, 100.0 * self.resent as f64 / self.on_wire as f64);
        println!("ledger: {} bytes; the rest (TLS, HTTP/2, aborted messages) is {:+.2} % of it", self.ledger, 100.0 * self.apart());
    }
}
