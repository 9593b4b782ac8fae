use std::time::{Duration, Instant};

use asyndgan_protocol::{
    Contribution, Error as Fault, Message, Patience, RunDescription, Server, ServerAction, ServerEvent, ServerWork, SiteId,
};

use bytes::Bytes;

use crate::{Error, Incoming, Ledger, LedgerLine, ServerLink, numbers::Numbers};

/// After the end, how long sites that were just cut off can still learn of it.
const FAREWELL: Duration = Duration::from_secs(30);

/// What people may want to see of a run.
#[derive(Debug)]
pub enum ServerNews<'a> {
    /// A site takes part.
    Welcome(SiteId),
    /// A site is away.
    Dismissed(SiteId, &'a Fault),
    /// The run goes on from here.
    Begun {
        /// Rounds already done.
        rounds_done: u64,
    },
    /// A round is done.
    Round {
        /// Rounds done.
        rounds_done: u64,
        /// Who answered, with what.
        contributions: &'a [Contribution],
    },
}

/// Plays the server's part of a run to its end; `watch` hears what happens, and can look at the worker and the ledger.
///
/// # Errors
/// Whatever ends the run early.
pub fn run_server<W: ServerWork>(
    run: &RunDescription,
    sites: u32,
    patience: Patience,
    link: &mut impl ServerLink,
    work: &mut W,
    ledger: &mut Ledger,
    mut watch: impl FnMut(ServerNews<'_>, &W, &Ledger),
) -> Result<(), Error> {
    let failed = |error: W::Error| Error::Work(error.to_string());
    let known = work.known().map_err(failed)?;
    let server = Server::new(run.clone(), sites, patience, &work.checkpoints().map_err(failed)?, known);
    let mut driver = Driver { server, link, ledger, numbers: (0..sites).map(|_| None).collect(), started: now() };
    let mut finished: Option<Duration> = None;
    loop {
        while let Some(action) = driver.server.poll_action() {
            let event = match action {
                ServerAction::Send { site, message } => {
                    driver.send(site, &message)?;
                    continue;
                }
                ServerAction::Dismiss { site, error } => {
                    driver.dismiss(site, &error)?;
                    watch(ServerNews::Dismissed(site, &error), work, driver.ledger);
                    continue;
                }
                ServerAction::Welcome { site } => {
                    watch(ServerNews::Welcome(site), work, driver.ledger);
                    continue;
                }
                ServerAction::Keep { site, summary, conditions } => {
                    work.keep(site, &summary, conditions).map_err(failed)?;
                    continue;
                }
                ServerAction::Begin { rounds_done } => {
                    work.begin(rounds_done).map_err(failed)?;
                    watch(ServerNews::Begun { rounds_done }, work, driver.ledger);
                    ServerEvent::Begun
                }
                ServerAction::Prepare { round, draws } => {
                    work.prepare(round, &draws).map_err(failed)?;
                    continue;
                }
                ServerAction::Synthesize { round, draws } => {
                    ServerEvent::Synthesized { synthetic: work.synthesize(round, &draws).map_err(failed)? }
                }
                ServerAction::Update { round, contributions } => {
                    work.update(round, &contributions).map_err(failed)?;
                    watch(ServerNews::Round { rounds_done: round + 1, contributions: &contributions }, work, driver.ledger);
                    ServerEvent::Updated
                }
                ServerAction::Checkpoint { rounds_done } => {
                    work.checkpoint(rounds_done).map_err(failed)?;
                    continue;
                }
                ServerAction::Finished => {
                    finished = Some(driver.started.elapsed());
                    continue;
                }
            };
            driver.handle(event)?;
        }
        let now = driver.started.elapsed();
        if finished.is_some_and(|at| driver.server.everybody_knows() || now >= at + FAREWELL) {
            return Ok(());
        }
        let due = driver.server.poll_timeout().into_iter().chain(finished.map(|at| at + FAREWELL)).min();
        if due.is_some_and(|due| due <= now) {
            // Also when messages never cease.
            driver.handle(ServerEvent::Tick)?;
            continue;
        }
        driver.receive(due.map(|due| due.saturating_sub(now)))?;
    }
}

struct Driver<'a, L> {
    server: Server,
    link: &'a mut L,
    ledger: &'a mut Ledger,
    /// Of those who are connected.
    numbers: Vec<Option<Numbers>>,
    started: Instant,
}

impl<L: ServerLink> Driver<'_, L> {
    fn send(&mut self, site: SiteId, message: &Message) -> Result<(), Error> {
        let Some(Some(numbers)) = self.numbers.get_mut(site.0 as usize) else { return Ok(()) };
        let frame = numbers.frame(message);
        let bytes = frame.bytes.len() as u64;
        self.ledger.count(LedgerLine { site, kind: message.kind(), round: message.round(), bytes })?;
        self.link.send(site, frame);
        Ok(())
    }

    fn dismiss(&mut self, site: SiteId, error: &Fault) -> Result<(), Error> {
        if error.is_fault() {
            self.send(site, &Message::Leave { reason: error.to_string() })?;
        }
        self.link.close(site);
        if let Some(numbers) = self.numbers.get_mut(site.0 as usize) {
            *numbers = None;
        }
        Ok(())
    }

    /// Waits for what comes next, at most so long.
    fn receive(&mut self, wait: Option<Duration>) -> Result<(), Error> {
        // One message at a time: what it asks for is done before the next is looked at.
        let held = |(i, n): (usize, &mut Option<Numbers>)| Some((SiteId(i as u32), n.as_mut()?.next()?));
        if let Some((site, bytes)) = self.numbers.iter_mut().enumerate().find_map(held) {
            return self.message(site, &bytes);
        }
        let Some((site, incoming)) = self.link.receive(wait) else {
            // Without a time to wait for, nothing means that nothing can come any more.
            return if wait.is_none() { Err(Error::Disconnected { peer: "sites".into() }) } else { self.handle(ServerEvent::Tick) };
        };
        let Some(numbers) = self.numbers.get_mut(site.0 as usize) else { return Ok(()) };
        match incoming {
            Incoming::Connected => {
                if numbers.replace(Numbers::default()).is_some() {
                    self.handle(ServerEvent::SiteLost { site, reason: "it connected anew".into() })?;
                }
            }
            Incoming::Lost(reason) => {
                *numbers = None;
                self.handle(ServerEvent::SiteLost { site, reason })?;
            }
            Incoming::Frame(frame) => {
                if let Some(Err(fact)) = numbers.as_mut().map(|n| n.take(frame)) {
                    return self.handle(ServerEvent::Garbage { site, fact });
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, site: SiteId, bytes: &Bytes) -> Result<(), Error> {
        match Message::decode(bytes) {
            Ok(message) => {
                let (kind, round, bytes) = (message.kind(), message.round(), bytes.len() as u64);
                self.ledger.count(LedgerLine { site, kind, round, bytes })?;
                self.handle(ServerEvent::Message { site, message })
            }
            Err(error) => self.handle(ServerEvent::Garbage { site, fact: error.to_string() }),
        }
    }

    /// Hands an event to the machine; when that ends the run, still delivers its last words.
    fn handle(&mut self, event: ServerEvent) -> Result<(), Error> {
        let Err(error) = self.server.handle_event(self.started.elapsed(), event) else { return Ok(()) };
        while let Some(action) = self.server.poll_action() {
            match action {
                ServerAction::Send { site, message } => self.send(site, &message)?,
                ServerAction::Dismiss { site, error } => self.dismiss(site, &error)?,
                _ => {}
            }
        }
        Err(error.into())
    }
}

#[allow(clippy::disallowed_methods, reason = "the transport owns the clock")]
fn now() -> Instant {
    Instant::now()
}
