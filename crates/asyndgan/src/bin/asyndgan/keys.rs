//! `asyndgan keys`.

use std::{
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan::consortium::{certificates, check_owner};
use asyndgan_transport::{Authority, request};
use clap::{Args, Subcommand};

use crate::stdout::{print, print_note};

#[derive(Args)]
pub(crate) struct KeysFolder {
    /// Folder of the certificate authority. Anyone who can read its key can issue certificates: encrypt the key, or
    /// keep the folder off the server, which needs only server.pem and revoked.pem.
    #[arg(long, default_value = "keys")]
    keys: PathBuf,
    /// File with the passphrase of the authority's key in its first line. Default: prompt on the terminal.
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Create the consortium's certificate authority and the server's certificate.
    Init {
        #[command(flatten)]
        at: KeysFolder,
        /// Host names or IP addresses at which sites will reach the server.
        #[arg(long, required = true, num_args = 1..)]
        server: Vec<String>,
        /// Validity of the server's certificate, in days.
        #[arg(long, default_value_t = 400)]
        days: u32,
        /// Encrypt the authority's key with a passphrase.
        #[arg(long)]
        encrypt: bool,
    },
    /// Renew the server's certificate before it expires. The server uses the new one after a restart.
    Renew {
        #[command(flatten)]
        at: KeysFolder,
        /// Host names or IP addresses at which sites reach the server.
        #[arg(long, required = true, num_args = 1..)]
        server: Vec<String>,
        /// Validity of the certificate, in days.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// At a hospital: create a private key, which stays there, and a signing request (CSR) for the operator.
    Request {
        /// The site's name, as in run.toml.
        site: String,
        /// Output folder for SITE-key.pem and SITE.csr.
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// At the operator: sign a hospital's request. Send the certificate back to the hospital; it contains no secret. An
    /// earlier certificate of the same name is revoked.
    Sign {
        /// The site's name, as in run.toml. The request must be for this name.
        site: String,
        /// The hospital's signing request: SITE.csr.
        request: PathBuf,
        #[command(flatten)]
        at: KeysFolder,
        /// Validity of the certificate, in days.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// Issue a site's bundle that includes a private key, for a first test. Deliver it over a secure channel. An
    /// earlier certificate of the same name is revoked.
    Issue {
        /// The site's name, as in run.toml.
        site: String,
        #[command(flatten)]
        at: KeysFolder,
        /// Validity of the certificate, in days.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// Revoke a site's certificate. A running server applies this within seconds.
    Revoke {
        /// The site's name.
        site: String,
        #[command(flatten)]
        at: KeysFolder,
    },
    /// List the issued certificates.
    Show {
        #[command(flatten)]
        at: KeysFolder,
    },
}

pub(crate) fn keys(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Init { at, server, days, encrypt } => init(&at, &server, days, encrypt)?,
        KeysCommand::Renew { at, server, days } => {
            open(&at)?.renew_server(&server, days)?;
            print_note(&format!("renewed {}", at.keys.join("server.pem").display()));
        }
        KeysCommand::Request { site, out } => {
            let (key, csr) = (out.join(format!("{site}-key.pem")), out.join(format!("{site}.csr")));
            request(&site, &key, &csr)?;
            print_note(&format!("created {}: keep it here, and set it as `key` in site.toml", key.display()));
            print_note(&format!("created {}: send it to the operator, who signs it with `asyndgan keys sign`", csr.display()));
        }
        KeysCommand::Sign { site, request, at, days } => {
            let path = open(&at)?.sign(&site, &request, days)?;
            print_note(&format!("signed {} for {site}: send it to the hospital, which sets it as `bundle` in site.toml", path.display()));
        }
        KeysCommand::Issue { site, at, days } => {
            let mut authority = open(&at)?;
            let earlier = authority.issued().iter().any(|issued| issued.name == site && !issued.revoked);
            let path = authority.issue(&site, days)?;
            if earlier {
                print_note(&format!("revoked the earlier certificate of {site}: a site that still uses it is disconnected"));
            }
            print_note(&format!("issued {}: it contains a private key; deliver it to {site} over a secure channel", path.display()));
        }
        KeysCommand::Revoke { site, at } => {
            open(&at)?.revoke(&site)?;
            print_note(&format!("revoked {site}"));
        }
        KeysCommand::Show { at } => print(&certificates(&at.keys)?)?,
    }
    Ok(())
}

fn init(at: &KeysFolder, server: &[String], days: u32, encrypt: bool) -> Result<()> {
    check_owner(&at.keys)?;
    let shown = at.keys.display();
    if encrypt || at.passphrase_file.is_some() {
        let passphrase = passphrase(at, true)?;
        ensure!(!passphrase.is_empty(), "the passphrase is empty");
        Authority::init_encrypted(&at.keys, server, days, passphrase)?;
        print_note(&format!("created {shown} with an encrypted key"));
    } else {
        Authority::init(&at.keys, server, days)?;
        print_note(&format!("created {shown}: its key is not encrypted (see --encrypt); give only the operator access to this folder"));
    }
    print_note("the server needs only server.pem and revoked.pem from this folder: ca-key.pem can be kept on another machine");
    Ok(())
}

/// The authority, with its passphrase if it has one.
fn open(at: &KeysFolder) -> Result<Authority> {
    check_owner(&at.keys)?;
    let authority = Authority::open(&at.keys)?;
    Ok(if Authority::is_encrypted(&at.keys)? { authority.with_passphrase(passphrase(at, false)?) } else { authority })
}

fn passphrase(at: &KeysFolder, is_new: bool) -> Result<String> {
    if let Some(path) = &at.passphrase_file {
        return first_line(path);
    }
    ensure!(std::io::stdin().is_terminal(), "no terminal to prompt for the passphrase: use --passphrase-file");
    let passphrase = rpassword::prompt_password("Passphrase of the authority's key: ")?;
    ensure!(!is_new || rpassword::prompt_password("Repeat the passphrase: ")? == passphrase, "the passphrases do not match");
    Ok(passphrase)
}

fn first_line(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
