//! A server and two sites over loopback, with certificates, approval and records: `cargo run -p asyndgan --example
//! consortium`.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod support;

use std::{fs, net::TcpListener, path::Path, thread, time::Duration};

use asyndgan::{
    Result,
    consortium::{Proposal, ledger, server, site, site_template, verify_journal},
};
use asyndgan_transport::{Authority, Control};

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let at = |name: &str| place.path().join(name);
    support::prepare(place.path())?;

    // The operator: keys, a task file and a configuration.
    let mut authority = Authority::init(&at("keys"), &["localhost".into()], 30)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    fs::write(at("task.toml"), support::TASK)?;
    fs::write(
        at("run.toml"),
        format!(
            "name = \"example\"\nsites = [\"north\", \"south\"]\ntask = \"task.toml\"\nfolder = \"run\"\nkeys = \"keys\"\n\
             listen = \"127.0.0.1:{port}\"\ndevice = \"cpu\"\n[settings.protocol]\nrounds = 4\n"
        ),
    )?;
    // The hospitals: a certificate and a configuration each.
    for (number, name) in (1..).zip(["north", "south"]) {
        let bundle = authority.issue(name, 30)?;
        let (address, data) = (format!("localhost:{port}"), format!("prepared/site-{number}"));
        let values = [("server", &address[..]), ("bundle", &bundle.display().to_string()), ("data", &data), ("folder", name)];
        // A policy for a small example: real hospitals have more images.
        let text = site_template(&values).replace("cases_min = 32", "cases_min = 8").replace("crop_min = 64", "crop_min = 32");
        fs::write(at(&format!("{name}.toml")), text)?;
    }

    thread::scope(|scope| -> Result<()> {
        let served = scope.spawn(|| server(&at("run.toml"), &Control::default()));
        let sites = ["north.toml", "south.toml"].map(|config| {
            let config = at(config);
            scope.spawn(move || {
                take_part(&config).inspect_err(|error| {
                    eprintln!("{}: {error:#}", config.display());
                    // The server would wait for this site.
                    std::process::exit(1);
                })
            })
        });
        for ended in sites.into_iter().chain([served]) {
            ended.join().expect("no thread panics")?;
        }
        Ok(())
    })?;
    println!("{}", ledger(&at("run"), None)?);
    println!("{}", verify_journal(&at("north/journal.jsonl"), None, None)?);
    Ok(())
}

/// A hospital looks at the run, agrees to it, and takes part.
fn take_part(config: &Path) -> Result<()> {
    let mut attempts = 0;
    let proposal = loop {
        match Proposal::read(config, None) {
            Ok(proposal) => break proposal,
            // The server may not listen yet.
            Err(_) if attempts < 100 => attempts += 1,
            Err(error) => return Err(error),
        }
        thread::sleep(Duration::from_millis(100));
    };
    println!("{}", proposal.text());
    proposal.approve()?;
    site(config, &Control::default())
}
