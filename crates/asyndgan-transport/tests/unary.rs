//! A third carrier, of requests and responses alone, as the relay of a federated platform has them: each request brings
//! a site's frames and takes the server's back; any of them may be made twice.
#![allow(missing_docs, reason = "tests")]

mod support;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use asyndgan_protocol::{SiteId, SitePolicy, Timeouts, Waiting};
use asyndgan_transport::{Error, Frame, Incoming, ServerLink, ServerRun, SiteLink, SiteRecords, SiteRun};
use support::{PATIENT, StubServer, in_process, run, stub_site};

/// What waits at the relay for each site.
type Mailboxes = Arc<Mutex<Vec<Vec<Frame>>>>;

struct RelayServer {
    inbox: mpsc::Receiver<(SiteId, Incoming)>,
    mailboxes: Mailboxes,
}

impl ServerLink for RelayServer {
    fn send(&mut self, site: SiteId, frame: Frame) {
        self.mailboxes.lock().expect("mailboxes")[site.0 as usize].push(frame);
    }
    fn close(&mut self, _: SiteId) {}
    fn receive(&mut self, wait: Option<Duration>) -> Option<(SiteId, Incoming)> {
        self.inbox.recv_timeout(wait.unwrap_or(Duration::from_mins(1))).ok()
    }
}

struct RelaySite {
    site: SiteId,
    connected: bool,
    server: mpsc::Sender<(SiteId, Incoming)>,
    mailboxes: Mailboxes,
    outgoing: Vec<Frame>,
    arrived: VecDeque<Frame>,
    requests: usize,
}

impl RelaySite {
    /// One request; every third is made twice, because its response was lost, and brings its frames in another order.
    fn request(&mut self) {
        self.requests += 1;
        let sent = std::mem::take(&mut self.outgoing);
        let times = if self.requests.is_multiple_of(3) { 2 } else { 1 };
        for frame in (0..times).flat_map(|_| sent.iter().rev().cloned()) {
            let _ = self.server.send((self.site, Incoming::Frame(frame)));
        }
        let response = std::mem::take(&mut self.mailboxes.lock().expect("mailboxes")[self.site.0 as usize]);
        for frame in (0..times).flat_map(|_| response.iter().rev().cloned()) {
            self.arrived.push_back(frame);
        }
    }
}

impl SiteLink for RelaySite {
    fn send(&mut self, frame: Frame) {
        self.outgoing.push(frame);
    }
    fn receive(&mut self, _: Option<Duration>) -> Result<Option<Incoming>, Error> {
        if !std::mem::replace(&mut self.connected, true) {
            let _ = self.server.send((self.site, Incoming::Connected));
            return Ok(Some(Incoming::Connected));
        }
        loop {
            if let Some(frame) = self.arrived.pop_front() {
                return Ok(Some(Incoming::Frame(frame)));
            }
            self.request();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for RelaySite {
    fn drop(&mut self) {
        let _ = self.server.send((self.site, Incoming::Lost("it ended".into())));
    }
}

#[test]
fn requests_and_responses_carry_a_run() {
    let (run, cases) = (run(12, Waiting::All), [3, 5]);
    let mailboxes: Mailboxes = Arc::new(Mutex::new(vec![Vec::new(), Vec::new()]));
    let (server, inbox) = mpsc::channel();
    let mut work = StubServer { run: Some(run.clone()), ..StubServer::default() };
    thread::scope(|scope| {
        for (site, &cases) in (0..).map(SiteId).zip(&cases) {
            let (server, mailboxes) = (server.clone(), Arc::clone(&mailboxes));
            scope.spawn(move || {
                let (outgoing, arrived) = (Vec::new(), VecDeque::new());
                let mut link = RelaySite { site, connected: false, server, mailboxes, outgoing, arrived, requests: 0 };
                SiteRun::new(SitePolicy::unrestricted())
                    .take_part(&mut link, &mut stub_site(cases), &mut SiteRecords::default(), |_, _, _| {})
                    .expect("ends");
            });
        }
        let mut link = RelayServer { inbox, mailboxes: Arc::clone(&mailboxes) };
        let timeouts = Timeouts { absence: Duration::ZERO, ..PATIENT };
        ServerRun::new(run.clone(), 2, asyndgan_protocol::ServerPolicy::new(timeouts))
            .serve(&mut link, &mut work, &mut asyndgan_transport::ServerRecords::default(), |_, _, _| {})
            .expect("ends");
    });
    assert_eq!(work.generator, in_process(&run, &cases));
}
