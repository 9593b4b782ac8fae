//! `asyndgan init`, `journal` and `site approve`.

use std::{
    io::{BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan::consortium::{Proposal, runs_template, server_template, show_journal, site_template, verify_journal};
use asyndgan_files::Access;
use asyndgan_paper::Profile;
use clap::Subcommand;

use crate::stdout::{print, print_note};

#[derive(Subcommand)]
pub(crate) enum InitCommand {
    /// Write a commented run.toml.
    Server {
        /// The file to write.
        #[arg(long, default_value = "run.toml")]
        out: PathBuf,
        /// Profile whose settings the run starts from: smoke, desk or paper [default: that of the task file, or desk].
        #[arg(long)]
        profile: Option<Profile>,
        /// The task: brain, tissue, or the path of a task file, relative to the folder of run.toml.
        #[arg(long, default_value = "tissue")]
        task: String,
    },
    /// Write a commented runs.toml, for a server that serves one run after another.
    Runs {
        /// The file to write.
        #[arg(long, default_value = "runs.toml")]
        out: PathBuf,
    },
    /// Write a commented site.toml.
    Site {
        /// The file to write.
        #[arg(long, default_value = "site.toml")]
        out: PathBuf,
        /// HOST:PORT of the server.
        #[arg(long, default_value = "localhost:7443")]
        server: String,
        /// The site's certificates, as the operator issued them.
        #[arg(long, default_value = "north.pem")]
        bundle: String,
        /// The folder that `data prepare` wrote.
        #[arg(long, default_value = "prepared/site-1")]
        data: String,
        /// The folder for checkpoints, journal and ledger.
        #[arg(long, default_value = "north")]
        folder: String,
    },
}

/// Writes a configuration file, which must not exist yet.
pub(crate) fn init(command: InitCommand) -> Result<()> {
    let (out, text) = match command {
        InitCommand::Server { out, profile, task } => (out, server_template(profile, &task)),
        InitCommand::Runs { out } => (out, runs_template()),
        InitCommand::Site { out, server, bundle, data, folder } => {
            (out, site_template(&[("server", &server), ("bundle", &bundle), ("data", &data), ("folder", &folder)]))
        }
    };
    ensure!(!out.try_exists().with_context(|| out.display().to_string())?, "{} exists: choose another --out", out.display());
    asyndgan_files::write(&out, Access::Shared, text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    print_note(&format!("wrote {}: review it and adapt the settings", out.display()));
    Ok(())
}

#[derive(Subcommand)]
pub(crate) enum JournalCommand {
    /// Check the hash chain and the server's receipts. Prints the entry that was changed or is missing, or up
    /// to which round the server has confirmed the journal.
    Verify {
        /// Journal file: journal.jsonl in a site's folder.
        file: PathBuf,
        /// Receipts file, for example the server's copy. Default: the file next to the journal.
        #[arg(long)]
        receipts: Option<PathBuf>,
        /// The site's bundle, with or without its private key. Certificates in the receipts must be issued by its
        /// authority.
        #[arg(long)]
        bundle: Option<PathBuf>,
    },
    /// Print the latest entries.
    Show {
        /// Journal file.
        file: PathBuf,
        /// Number of entries.
        #[arg(long, default_value_t = 20)]
        last: usize,
    },
}

pub(crate) fn journal(command: JournalCommand) -> Result<()> {
    print(&match command {
        JournalCommand::Show { file, last } => show_journal(&file, last)?,
        JournalCommand::Verify { file, receipts, bundle } => verify_journal(&file, receipts.as_deref(), bundle.as_deref())?,
    })
}

/// Shows the run that a file or the server describes, and stores the administrator's decision.
pub(crate) fn approve(config: &Path, description: Option<&Path>, yes: bool) -> Result<()> {
    let proposal = Proposal::read(config, description)?;
    print_note(proposal.text().trim_end());
    proposal.check()?;
    ensure!(yes || confirmed()?, "not approved");
    let (name, folder) = proposal.approve()?;
    print_note(&format!("approved: {name} joins this run, and no other, from the folder {}", folder.display()));
    Ok(())
}

fn confirmed() -> Result<bool> {
    ensure!(std::io::stdin().is_terminal(), "no terminal to ask for confirmation: inspect the run, then repeat the command with --yes");
    print_note("Type yes to take part in this run:");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}
