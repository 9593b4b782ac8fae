use std::{
    fmt::Write as _,
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan_transport::{Authority, request};
use clap::{Args, Subcommand};

use super::doctor::date;
use crate::stdout::print;

#[derive(Args)]
pub(crate) struct KeysFolder {
    /// The authority's folder. Everybody who can read its key can issue certificates: encrypt it, or keep the folder on another machine than
    /// the server, which needs server.pem and revoked.pem alone.
    #[arg(long, default_value = "keys")]
    keys: PathBuf,
    /// A file whose first line is the passphrase of the authority's key; asked for on the terminal unless given.
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
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
        /// How long the server's certificate is valid.
        #[arg(long, default_value_t = 400)]
        days: u32,
        /// Encrypt the authority's key with a passphrase.
        #[arg(long)]
        encrypt: bool,
    },
    /// Renew the server's certificate before it expires; the server uses it when it is started again.
    Renew {
        #[command(flatten)]
        at: KeysFolder,
        /// Host names or addresses that sites dial.
        #[arg(long, required = true, num_args = 1..)]
        server: Vec<String>,
        /// How long it is valid.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// At a hospital: make a private key, which stays there, and a signing request for the operator.
    Request {
        /// The site's name, as in run.toml.
        site: String,
        /// Where both go: SITE-key.pem and SITE.csr.
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// At the operator: sign a hospital's request. The certificate, which holds no secret, goes back to the hospital. An earlier certificate of
    /// that name is revoked.
    Sign {
        /// The site's name, as in run.toml: the request must be of that name.
        site: String,
        /// The request that the hospital sent: SITE.csr.
        request: PathBuf,
        #[command(flatten)]
        at: KeysFolder,
        /// How long it is valid.
        #[arg(long, default_value_t = 400)]
        days: u32,
    },
    /// Issue a site's bundle with a private key in it, for a first try; deliver it over a secure channel. An earlier certificate of that name is
    /// revoked.
    Issue {
        /// The site's name, as in run.toml.
        site: String,
        #[command(flatten)]
        at: KeysFolder,
        /// How long it is valid.
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
        KeysCommand::Init { at, server, days, encrypt } => init(&at, &server, days, encrypt)?,
        KeysCommand::Renew { at, server, days } => {
            open(&at)?.renew_server(&server, days)?;
            eprintln!("renewed {}", at.keys.join("server.pem").display());
        }
        KeysCommand::Request { site, out } => {
            let (key, csr) = (out.join(format!("{site}-key.pem")), out.join(format!("{site}.csr")));
            request(&site, &key, &csr)?;
            eprintln!("made {}: it stays here; name it as `key` in site.toml", key.display());
            eprintln!("made {}: send it to the operator, who signs it with `asyndgan keys sign`", csr.display());
        }
        KeysCommand::Sign { site, request, at, days } => {
            let path = open(&at)?.sign(&site, &request, days)?;
            eprintln!("signed {} for {site}: send it to the hospital, which names it as `bundle` in site.toml", path.display());
        }
        KeysCommand::Issue { site, at, days } => {
            let mut authority = open(&at)?;
            let earlier = authority.issued().iter().any(|issued| issued.name == site && !issued.revoked);
            let path = authority.issue(&site, days)?;
            if earlier {
                eprintln!("revoked the bundle that {site} had before: a site that runs with it is shut out");
            }
            eprintln!("issued {}: it holds a private key; deliver it to {site} over a secure channel", path.display());
        }
        KeysCommand::Revoke { site, at } => {
            open(&at)?.revoke(&site)?;
            eprintln!("revoked {site}");
        }
        KeysCommand::Show { at } => show(&Authority::open(&at.keys)?)?,
    }
    Ok(())
}

fn init(at: &KeysFolder, server: &[String], days: u32, encrypt: bool) -> Result<()> {
    let shown = at.keys.display();
    if encrypt || at.passphrase_file.is_some() {
        let passphrase = passphrase(at, true)?;
        ensure!(!passphrase.is_empty(), "the passphrase is empty");
        Authority::init_encrypted(&at.keys, server, days, passphrase)?;
        eprintln!("made {shown}, with an encrypted key");
    } else {
        Authority::init(&at.keys, server, days)?;
        eprintln!("made {shown}: its key is not encrypted (--encrypt); keep the folder to the operator");
    }
    eprintln!("the server needs server.pem and revoked.pem of it alone: ca-key.pem can lie on another machine");
    Ok(())
}

/// The authority, with its passphrase if it has one.
fn open(at: &KeysFolder) -> Result<Authority> {
    let authority = Authority::open(&at.keys)?;
    Ok(if Authority::is_encrypted(&at.keys)? { authority.with_passphrase(passphrase(at, false)?) } else { authority })
}

fn passphrase(at: &KeysFolder, is_new: bool) -> Result<String> {
    if let Some(path) = &at.passphrase_file {
        return first_line(path);
    }
    ensure!(std::io::stdin().is_terminal(), "nobody can be asked for the passphrase here: give --passphrase-file");
    let passphrase = rpassword::prompt_password("Passphrase of the authority's key: ")?;
    ensure!(!is_new || rpassword::prompt_password("Once more: ")? == passphrase, "the two differ");
    Ok(passphrase)
}

fn first_line(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn show(authority: &Authority) -> Result<()> {
    let mut text = format!("{:>6}  {:24}  {:10}  state\n", "serial", "name", "until");
    for issued in authority.issued() {
        let state = if issued.revoked { "revoked" } else { "valid" };
        writeln!(text, "{:>6}  {:24}  {:10}  {state}", issued.serial, issued.name, date(issued.not_after))?;
    }
    print(&text)
}
