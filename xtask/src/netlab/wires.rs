use std::{path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};

pub(super) const HOSPITALS: u32 = 3;
/// The namespace of the server, with the bridge that all hospitals' cables end at.
pub(super) const HUB: &str = "adgan-hub";
const BRIDGE: &str = "adgan-br";
pub(super) const SERVER: &str = "10.77.0.1";
/// Bytes of Ethernet, IPv4 and TCP with time stamps before what is carried.
const HEADER_BYTES: u64 = 14 + 20 + 32;
/// Bytes that one segment carries.
const SEGMENT_BYTES: u64 = 1448;

pub(super) fn hospital(h: u32) -> String {
    format!("adgan-h{h}")
}

/// What happens to the network on the way.
#[derive(Clone, Copy)]
pub(super) enum Trouble {
    /// A hospital's cable is unplugged for the given number of seconds.
    Unplugged(u32, u64),
    /// A hospital's connections are reset.
    Reset(u32),
    /// A firewall drops all packets of a hospital for the given number of seconds.
    Swallowed(u32, u64),
    /// All cables at once.
    Dark(u64),
}

/// The network faults, with the rounds at which they start.
pub(super) const TROUBLES: [(u64, Trouble); 6] = [
    (20, Trouble::Unplugged(1, 6)),
    (50, Trouble::Reset(2)),
    (80, Trouble::Swallowed(3, 8)),
    (110, Trouble::Reset(1)),
    (130, Trouble::Dark(7)),
    (160, Trouble::Reset(3)),
];

impl Trouble {
    pub(super) fn words(self) -> String {
        match self {
            Trouble::Unplugged(h, s) => format!("the cable of hospital-{h} is unplugged for {s} s"),
            Trouble::Reset(h) => format!("the connections of hospital-{h} are reset"),
            Trouble::Swallowed(h, s) => format!("a firewall drops all packets of hospital-{h} for {s} s"),
            Trouble::Dark(s) => format!("all cables are unplugged for {s} s"),
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn ip(words: &str) -> Result<()> {
    run("ip", &words.split(' ').collect::<Vec<_>>())
}

fn inside(namespace: &str, words: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).args(words.split(' '));
    let output = command.output().context("cannot start ip")?;
    ensure!(output.status.success(), "{namespace}: {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Checks that namespaces, traffic control and packet filters are available.
pub(super) fn available() -> Result<()> {
    run("nft", &["--version"])?;
    run("tc", &["-V"])?;
    // What an earlier lab may have left when it was killed.
    remove();
    ip(&format!("netns add {HUB}"))?;
    let _ = ip(&format!("netns del {HUB}"));
    Ok(())
}

/// The namespaces and their cables; taken down when dropped.
pub(super) struct Wires(());

impl Wires {
    pub(super) fn lay() -> Result<Self> {
        let wires = Self(());
        ip(&format!("netns add {HUB}"))?;
        for words in
            [format!("link add {BRIDGE} type bridge"), format!("addr add {SERVER}/24 dev {BRIDGE}"), format!("link set {BRIDGE} up")]
        {
            ip(&format!("-n {HUB} {words}"))?;
        }
        ip(&format!("-n {HUB} link set lo up"))?;
        for h in 1..=HOSPITALS {
            let name = hospital(h);
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add eth0 netns {name} type veth peer name to-h{h} netns {HUB}"))?;
            for words in [format!("addr add 10.77.0.{}/24 dev eth0", h + 10), "link set eth0 up".into(), "link set lo up".into()] {
                ip(&format!("-n {name} {words}"))?;
            }
            ip(&format!("-n {HUB} link set to-h{h} master {BRIDGE}"))?;
            ip(&format!("-n {HUB} link set to-h{h} up"))?;
            inside(&name, "tc qdisc add dev eth0 root tbf rate 30mbit burst 64kb latency 200ms")?;
            inside(HUB, &format!("tc qdisc add dev to-h{h} root tbf rate 30mbit burst 64kb latency 200ms"))?;
            // A hospital's firewall: nobody calls in.
            inside(&name, "nft add table inet lab")?;
            inside(&name, "nft add chain inet lab in { type filter hook input priority 0 ; }")?;
            inside(&name, "nft add chain inet lab out { type filter hook output priority 0 ; }")?;
            inside(&name, "nft add rule inet lab in iifname eth0 ct state new reject")?;
        }
        Ok(wires)
    }
}

/// From now on, a hospital reaches the server's machine on one port alone: that of the proxy.
pub(super) fn leave_only_proxy(h: u32, port: u16) -> Result<()> {
    let name = hospital(h);
    inside(&name, "nft add chain inet lab proxy { type filter hook output priority 1 ; }")?;
    inside(&name, &format!("nft add rule inet lab proxy oifname eth0 tcp dport != {port} reject with tcp reset")).map(drop)
}

/// From now on, the given percentage of packets to a hospital is lost.
pub(super) fn lose_packets(h: u32, percent: u32) -> Result<()> {
    inside(&hospital(h), &format!("nft add rule inet lab in iifname eth0 numgen random mod 100 < {percent} drop")).map(drop)
}

pub(super) fn suffer(trouble: Trouble) -> Result<()> {
    let pause = |seconds: u64| thread::sleep(Duration::from_secs(seconds));
    match trouble {
        Trouble::Unplugged(h, seconds) => {
            ip(&format!("-n {HUB} link set to-h{h} down"))?;
            pause(seconds);
            ip(&format!("-n {HUB} link set to-h{h} up"))
        }
        Trouble::Dark(seconds) => {
            (1..=HOSPITALS).try_for_each(|h| ip(&format!("-n {HUB} link set to-h{h} down")))?;
            pause(seconds);
            (1..=HOSPITALS).try_for_each(|h| ip(&format!("-n {HUB} link set to-h{h} up")))
        }
        Trouble::Reset(h) => filtered(h, "meta l4proto tcp reject with tcp reset", 1),
        Trouble::Swallowed(h, seconds) => filtered(h, "drop", seconds),
    }
}

/// A rule for all traffic that a hospital sends, for a limited time.
fn filtered(h: u32, rule: &str, seconds: u64) -> Result<()> {
    inside(&hospital(h), &format!("nft add rule inet lab out oifname eth0 {rule}"))?;
    thread::sleep(Duration::from_secs(seconds));
    inside(&hospital(h), "nft flush chain inet lab out").map(drop)
}

/// Bytes over all cables, both directions, and those of them that are headers.
pub(super) fn traffic() -> Result<(u64, u64)> {
    let (mut bytes, mut packets) = (0, 0);
    for h in 1..=HOSPITALS {
        let name = hospital(h);
        let count =
            |what: &str| -> Result<u64> { Ok(inside(&name, &format!("cat /sys/class/net/eth0/statistics/{what}"))?.trim().parse()?) };
        bytes += count("rx_bytes")? + count("tx_bytes")?;
        packets += count("rx_packets")? + count("tx_packets")?;
    }
    Ok((bytes, packets * HEADER_BYTES))
}

/// Bytes that TCP retransmitted, at all ends.
pub(super) fn resent() -> Result<u64> {
    let mut segments = 0;
    for namespace in (1..=HOSPITALS).map(hospital).chain([HUB.to_owned()]) {
        let text = inside(&namespace, "cat /proc/net/snmp")?;
        let mut rows = text.lines().filter(|l| l.starts_with("Tcp:"));
        let (names, values) = rows.next().zip(rows.next()).context("no TCP counters in /proc/net/snmp")?;
        let at = names.split(' ').position(|n| n == "RetransSegs").context("no counter RetransSegs in /proc/net/snmp")?;
        segments += values.split(' ').nth(at).context("no value of RetransSegs in /proc/net/snmp")?.parse::<u64>()?;
    }
    Ok(segments * SEGMENT_BYTES)
}

fn remove() {
    for namespace in (1..=HOSPITALS).map(hospital).chain([HUB.to_owned()]) {
        if Path::new("/run/netns").join(&namespace).exists() {
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        remove();
    }
}
