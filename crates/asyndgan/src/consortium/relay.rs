//! The program beside a relay, which starts it and gives it an address and a token in environment variables:
//!
//! | variable | content |
//! | --- | --- |
//! | `ASYNDGAN_RELAY_TOKEN` | the token, or |
//! | `ASYNDGAN_RELAY_TOKEN_FILE` | a file with it, which only its owner can read |
//! | `ASYNDGAN_RELAY_ADDRESS` | at a site: where the relay listens |
//! | `ASYNDGAN_RELAY_ADDRESS_FILE` | at the server: the file that gets the address on which the program listens |
//! | `ASYNDGAN_RELAY_SITE` | at a site: its name, for messages |
//! | `ASYNDGAN_RELAY_RUN` | at a site: the run's name, and that of the folder of its files, within `folder` |
//! | `ASYNDGAN_RELAY_PID` | the process of the relay, without which the program ends |

use std::{
    env,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Access, write};
use asyndgan_transport::{RelayServer, RelayServerLink, RelaySite, RelayToken};

/// How often the program checks that the relay still runs.
const PARENT_EVERY: Duration = Duration::from_millis(500);

/// A server for these sites, on a port of its own. Its address is in the file that the relay named.
pub(super) fn server(sites: &[String]) -> Result<RelayServerLink> {
    let file = variable("ASYNDGAN_RELAY_ADDRESS_FILE")?;
    let link = RelayServer::new(token()?, sites.to_vec()).start()?;
    write(Path::new(&file), Access::Private, link.address().to_string().as_bytes()).with_context(|| format!("cannot write {file}"))?;
    Ok(link)
}

/// A site, which waits so long for a relay that does not answer.
pub(super) fn site(reconnect_timeout: Duration) -> Result<RelaySite> {
    let address = variable("ASYNDGAN_RELAY_ADDRESS")?;
    let address = address.parse().with_context(|| format!("ASYNDGAN_RELAY_ADDRESS is {address}; expected an IP address and a port"))?;
    Ok(RelaySite::new(address, token()?).with(|site| site.reconnect_timeout = reconnect_timeout))
}

/// The name by which the relay knows this site.
pub(super) fn site_name() -> String {
    env::var("ASYNDGAN_RELAY_SITE").unwrap_or_else(|_| "site".into())
}

/// The run that the relay wants this site to take part in.
pub(super) fn run_name() -> Result<String> {
    variable("ASYNDGAN_RELAY_RUN")
}

/// The folder of a run within the folder of a site.
pub(super) fn run_folder(folder: &Path, run: &str) -> Result<PathBuf> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        run.starts_with(|c: char| c.is_ascii_alphanumeric()) && run.len() <= 64 && run.chars().all(is_valid),
        "the run's name is {run:?}; through a relay, a name has up to 64 letters, digits, '.', '_' and '-'"
    );
    Ok(folder.join(run))
}

fn token() -> Result<RelayToken> {
    if let Some(file) = env::var_os("ASYNDGAN_RELAY_TOKEN_FILE") {
        return Ok(RelayToken::read(Path::new(&file))?);
    }
    Ok(RelayToken::new(&variable("ASYNDGAN_RELAY_TOKEN")?)?)
}

fn variable(name: &str) -> Result<String> {
    env::var(name)
        .with_context(|| format!("{name} is not set: carrier = \"relay\" is for a program that a relay starts, such as a job of FLARE"))
}

/// Ends this process once the relay that started it has ended: the process would be unreachable, and its folder would
/// stay locked. As after any interruption, the next start resumes.
pub(super) fn end_with_relay() -> Result<()> {
    let pid = variable("ASYNDGAN_RELAY_PID")?;
    let relay: u32 = pid.parse().with_context(|| format!("ASYNDGAN_RELAY_PID is {pid}; expected the number of a process"))?;
    #[cfg(unix)]
    thread::spawn(move || {
        while std::os::unix::process::parent_id() == relay {
            thread::sleep(PARENT_EVERY);
        }
        tracing::error!("the relay that started this program has ended; the next start resumes");
        std::process::exit(1);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_folder_within_that_of_the_site() {
        let folder = Path::new("site");
        assert_eq!(run_folder(folder, "pilot-1.a_b").expect("a name"), folder.join("pilot-1.a_b"));
        for name in ["", "..", "../x", "a/b", ".hidden", "-x", "a b", &"x".repeat(65)] {
            assert!(run_folder(folder, name).is_err(), "{name}");
        }
    }
}
