//! The protocol over a carrier of one's own, here channels between threads: `cargo run -p asyndgan --example
//! own_carrier`.
//!
//! A carrier moves frames of bytes, and reports when a connection begins and ends. Frames are numbered, so they may be
//! repeated and slightly reordered; but none may be lost unless the connection ends. `ServerLink` lists the rules.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod support;

use std::{sync::mpsc, thread, time::Duration};

use asyndgan::{Result, in_process::InProcess, task_file::TaskFile};
use asyndgan_data::CaseSet;
use asyndgan_protocol::{ServerPolicy, SiteId, SitePolicy, Timeouts};
use asyndgan_training::{Pairs, ServerTrainer, SiteOptions, SiteTrainer};
use asyndgan_transport::{Error, Frame, Incoming, ServerLink, ServerRecords, ServerRun, ServerRunEvent, SiteLink, SiteRecords, SiteRun};
use tch::Device;

struct ServerEnd {
    from_sites: mpsc::Receiver<(SiteId, Incoming)>,
    to_sites: Vec<mpsc::Sender<Frame>>,
}

impl ServerLink for ServerEnd {
    fn send(&mut self, site: SiteId, frame: Frame) {
        // A site that is gone is reported as lost.
        let _ = self.to_sites[site.0 as usize].send(frame);
    }

    fn close(&mut self, _: SiteId) {}

    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)> {
        match wait {
            Some(wait) => self.from_sites.recv_timeout(wait).ok(),
            None => self.from_sites.recv().ok(),
        }
    }
}

struct SiteEnd {
    site: SiteId,
    is_connected: bool,
    to_server: mpsc::Sender<(SiteId, Incoming)>,
    from_server: mpsc::Receiver<Frame>,
}

impl SiteLink for SiteEnd {
    fn send(&mut self, frame: Frame) {
        let _ = self.to_server.send((self.site, Incoming::Frame(frame)));
    }

    fn receive(&mut self, wait: Option<Duration>) -> Result<Option<Incoming>, Error> {
        if !std::mem::replace(&mut self.is_connected, true) {
            let _ = self.to_server.send((self.site, Incoming::Connected));
            return Ok(Some(Incoming::Connected));
        }
        let frame = match wait {
            Some(wait) => self.from_server.recv_timeout(wait),
            None => self.from_server.recv().map_err(mpsc::RecvTimeoutError::from),
        };
        match frame {
            Ok(frame) => Ok(Some(Incoming::Frame(frame))),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::Disconnected { peer: "server".into() }),
        }
    }
}

impl Drop for SiteEnd {
    fn drop(&mut self) {
        let _ = self.to_server.send((self.site, Incoming::Lost("the site ended".into())));
    }
}

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    support::prepare(place.path())?;
    let run = TaskFile::parse(support::TASK)?.run(None, &[])?;
    let job = InProcess::of_run(&run, 0, place.path().join("checkpoints"));

    let (to_server, from_sites) = mpsc::channel();
    let mut server = ServerEnd { from_sites, to_sites: Vec::new() };
    let mut trainer = ServerTrainer::new(job.networks, job.run.clone(), 2, 1, &job.checkpoints, Device::Cpu)?;
    thread::scope(move |scope| -> Result<()> {
        for site in (0..2).map(SiteId) {
            let (to_site, from_server) = mpsc::channel();
            server.to_sites.push(to_site);
            let pairs = Pairs::of_cases(CaseSet::open(&[place.path().join(format!("prepared/site-{}", site.0 + 1))])?)?;
            let mut link = SiteEnd { site, is_connected: false, to_server: to_server.clone(), from_server };
            let checkpoints = job.checkpoints.clone();
            scope.spawn(move || {
                let mut trainer = SiteTrainer::new(pairs, SiteOptions::default(), &checkpoints, Device::Cpu);
                SiteRun::new(SitePolicy::unrestricted()).take_part(&mut link, &mut trainer, &mut SiteRecords::default(), |_, _, _| {})
            });
        }
        // Sites learn that the server has ended when its end of the carrier is gone.
        let mut server = server;
        let policy = ServerPolicy::unrestricted(Timeouts { answer: Duration::from_mins(1), absence: Duration::ZERO });
        ServerRun::new(job.run.clone(), 2, policy).serve(&mut server, &mut trainer, &mut ServerRecords::default(), |news, _, _| {
            if let ServerRunEvent::Round { rounds_done, .. } = news {
                println!("{rounds_done} of {} rounds", job.run.rounds);
            }
        })?;
        Ok(())
    })
}
