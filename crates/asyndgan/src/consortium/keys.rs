use std::path::PathBuf;

use anyhow::Result;
use asyndgan_transport::Authority;
use clap::{Args, Subcommand};

use super::doctor::date;

#[derive(Args)]
pub(crate) struct KeysFolder {
    /// The authority's folder. Whoever can read it can let anybody in.
    #[arg(long, default_value = "keys")]
    keys: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make the consortium's authority, and the server's certificate.
    Init {
        #[command(flatten)]
        at: KeysFolder,
        /// Host names or addresses that sites will dial.
        #[arg(long, required = true, num_args = 1..)]
        server: Vec<String>,
        /// How long the server's certificate counts.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// Issue the server's certificate anew, before its days are over; the server takes it when it is started again.
    Renew {
        #[command(flatten)]
        at: KeysFolder,
        /// Host names or addresses that sites dial.
        #[arg(long, required = true, num_args = 1..)]
        server: Vec<String>,
        /// How long it counts.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// Issue a site's start-up bundle: one file, to be handed over on a safe way. An earlier one of that name is revoked.
    Issue {
        /// The site's name, as in run.toml.
        site: String,
        #[command(flatten)]
        at: KeysFolder,
        /// How long it counts.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// Revoke a site's certificate; a running server notices within seconds.
    Revoke {
        /// The site's name.
        site: String,
        #[command(flatten)]
        at: KeysFolder,
    },
    /// List what was issued.
    Show {
        #[command(flatten)]
        at: KeysFolder,
    },
}

pub(crate) fn keys(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Init { at, server, days } => {
            Authority::init(&at.keys, &server, days)?;
            eprintln!("made {}: issue a bundle to each site, and keep this folder to the server's keeper", at.keys.display());
        }
        KeysCommand::Renew { at, server, days } => {
            Authority::open(&at.keys)?.renew_server(&server, days)?;
            eprintln!("renewed {}", at.keys.join("server.pem").display());
        }
        KeysCommand::Issue { site, at, days } => {
            let mut authority = Authority::open(&at.keys)?;
            let earlier = authority.issued().iter().any(|issued| issued.name == site && !issued.revoked);
            let path = authority.issue(&site, days)?;
            if earlier {
                eprintln!("revoked the bundle that {site} had before: a site that runs with it is shut out");
            }
            eprintln!("issued {}: hand it to {site} on a safe way", path.display());
        }
        KeysCommand::Revoke { site, at } => {
            Authority::open(&at.keys)?.revoke(&site)?;
            eprintln!("revoked {site}");
        }
        KeysCommand::Show { at } => show(&Authority::open(&at.keys)?),
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the list is what was asked for")]
fn show(authority: &Authority) {
    println!("{:>6}  {:24}  {:10}  state", "serial", "name", "until");
    for issued in authority.issued() {
        let state = if issued.revoked { "revoked" } else { "counts" };
        println!("{:>6}  {:24}  {:10}  {state}", issued.serial, issued.name, date(issued.not_after));
    }
}
