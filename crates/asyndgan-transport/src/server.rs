use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use asyndgan_protocol::{
    Contribution, Error as Fault, JournalHead, JournalReceipt, Message, MessageKind, RunDescription, Server, ServerAction, ServerEvent,
    ServerPolicy, ServerWork, SiteId, hex,
};

use bytes::Bytes;

use crate::{
    Control, Error, Identity, Incoming, Ledger, LedgerLine, Outcome, Receipt, Receipts, ServerLink, control::POLL_EVERY,
    error::with_causes, reorder::ReorderBuffer, retry::retried,
};

/// How many journal heads of a site may remain unconfirmed, in addition to one per round. Each is a line of the ledger.
const HEADS_UNCONFIRMED_MAX: u64 = 1_000;
/// How many of them are reported.
const NOTICES_MAX: u64 = 10;

/// How long after the end of a run disconnected sites can reconnect to learn about it.
const FAREWELL: Duration = Duration::from_secs(30);

/// An event of a run, for logs and dashboards.
#[derive(Debug)]
pub enum ServerRunEvent<'a> {
    /// A site takes part.
    Joined(SiteId),
    /// A site was dismissed or has disconnected.
    Dismissed(SiteId, &'a Fault),
    /// A site has left the run in order; the others continue.
    Retired {
        /// The site.
        site: SiteId,
        /// The first round without it.
        round: u64,
        /// Why, for people.
        reason: &'a str,
    },
    /// A site came back without its checkpoint, and resumes with an older or a fresh state.
    StateLost {
        /// The site.
        site: SiteId,
        /// The round from which it resumes.
        round: u64,
        /// The round of the checkpoint that it resumes with; 0 for a fresh discriminator.
        restored: u64,
    },
    /// A warning that does not stop the run.
    Notice(&'a str),
    /// The run waits for these sites, and for no others. Empty while the server works.
    Waiting(&'a [SiteId]),
    /// The run starts or resumes.
    Begun {
        /// Rounds already done.
        rounds_done: u64,
    },
    /// A round is done.
    Round {
        /// Rounds done.
        rounds_done: u64,
        /// The sites that answered, and their contributions.
        contributions: &'a [Contribution],
    },
}

/// The records that a server keeps of a run.
#[derive(Debug, Default)]
pub struct ServerRecords {
    /// All messages in both directions.
    pub ledger: Ledger,
    /// The server's key and the receipts of each site, in order. Without them, the server does not confirm journals.
    pub receipts: Option<(Identity, Vec<Receipts>)>,
}

/// A run as its server carries it out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerRun {
    /// The description that the sites get.
    pub description: RunDescription,
    /// The number of sites.
    pub sites: u32,
    /// The limits on what sites may do to the run.
    pub policy: ServerPolicy,
    /// Requests to stop, or to end the run early. Default: none are possible.
    pub control: Control,
}

/// The reason that sites get when the server stops.
const STOPPED: &str = "the operator has stopped the run";

impl ServerRun {
    /// A run that lasts until it is finished.
    pub fn new(description: RunDescription, sites: u32, policy: ServerPolicy) -> Self {
        Self { description, sites, policy, control: Control::default() }
    }

    /// This run with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Serves the sites until the run is finished, or [`Control`] stops the server. `watch` is called for every event,
    /// and can inspect the worker and the ledger.
    ///
    /// # Errors
    /// The error that ended the run early.
    pub fn serve<W: ServerWork>(
        self,
        link: &mut impl ServerLink,
        work: &mut W,
        records: &mut ServerRecords,
        mut watch: impl FnMut(ServerRunEvent<'_>, &W, &Ledger),
    ) -> Result<Outcome, Error> {
        let Self { description: run, sites, policy, control } = self;
        let failed = |error: W::Error| Error::Work(Box::new(error));
        let known = work.stored_conditions().map_err(failed)?;
        let retired: Vec<SiteId> = work.retired().map_err(failed)?.into_iter().map(|(site, _)| site).collect();
        let server = Server::new(run.clone(), sites, policy, &work.checkpoints().map_err(failed)?, known, &retired);
        let numbers = (0..sites).map(|_| None).collect();
        let mut driver = Driver {
            server,
            link,
            records,
            run: hex(&run.sha256()),
            numbers,
            notices: Vec::new(),
            unconfirmed: BTreeMap::new(),
            lost: BTreeSet::new(),
            awaited: Vec::new(),
            finished: None,
            started: now(),
        };
        let mut is_ending = false;
        loop {
            if control.is_stopping() {
                if driver.finished.is_some() {
                    // The result is stored; only sites that are away do not know it yet.
                    return Ok(Outcome::Finished);
                }
                driver.link.stop(STOPPED);
                return Ok(Outcome::Stopped);
            }
            if control.is_finishing() && !std::mem::replace(&mut is_ending, true) {
                driver.handle(ServerEvent::Finish)?;
            }
            for notice in std::mem::take(&mut driver.notices) {
                watch(ServerRunEvent::Notice(&notice), work, &driver.records.ledger);
            }
            while let Some(action) = driver.server.poll_action() {
                if let Some(event) = driver.perform(action, work, &mut watch)? {
                    driver.handle(event)?;
                }
            }
            let now = driver.started.elapsed();
            if driver.finished.is_some_and(|at| driver.server.all_notified() || now >= at + FAREWELL) {
                return Ok(Outcome::Finished);
            }
            driver.wait_for(driver.server.awaited(), work, &mut watch);
            let due = driver.server.poll_timeout().into_iter().chain(driver.finished.map(|at| at + FAREWELL)).min();
            if due.is_some_and(|due| due <= now) {
                // Also when messages never cease.
                driver.handle(ServerEvent::Tick)?;
                continue;
            }
            driver.receive(due.map(|due| due.saturating_sub(now)), control.can_be_used())?;
        }
    }
}

struct Driver<'a, L> {
    server: Server,
    link: &'a mut L,
    records: &'a mut ServerRecords,
    /// The run's identity, in hexadecimal.
    run: String,
    /// Of those who are connected.
    numbers: Vec<Option<ReorderBuffer>>,
    notices: Vec<String>,
    /// How many journal heads of each site could not be confirmed.
    unconfirmed: BTreeMap<SiteId, u64>,
    /// Sites whose next start is one without their state.
    lost: BTreeSet<SiteId>,
    /// The sites that the run waits for, as reported.
    awaited: Vec<SiteId>,
    /// When the run was finished.
    finished: Option<Duration>,
    started: Instant,
}

impl<L: ServerLink> Driver<'_, L> {
    /// Performs an action; returns the event of its completion, if it has one.
    fn perform<W: ServerWork>(
        &mut self,
        action: ServerAction,
        work: &mut W,
        watch: &mut impl FnMut(ServerRunEvent<'_>, &W, &Ledger),
    ) -> Result<Option<ServerEvent>, Error> {
        let failed = |error: W::Error| Error::Work(Box::new(error));
        match action {
            ServerAction::Send { site, message } => self.send(site, &message)?,
            ServerAction::Dismiss { site, error } => {
                tracing::debug!(%site, %error, "site dismissed");
                self.dismiss(site, &error)?;
                watch(ServerRunEvent::Dismissed(site, &error), work, &self.records.ledger);
            }
            ServerAction::Joined { site } => {
                tracing::debug!(%site, "site takes part");
                watch(ServerRunEvent::Joined(site), work, &self.records.ledger);
            }
            ServerAction::Retired { site, round, reason } => {
                tracing::debug!(%site, round, reason, "site has left the run in order");
                work.retire(site, round).map_err(failed)?;
                watch(ServerRunEvent::Retired { site, round, reason: &reason }, work, &self.records.ledger);
            }
            ServerAction::StateLost { site, round, restored } => {
                tracing::debug!(%site, round, restored, "site has lost its state");
                self.lost.insert(site);
                watch(ServerRunEvent::StateLost { site, round, restored }, work, &self.records.ledger);
            }
            ServerAction::StoreConditions { site, summary, conditions } => {
                let fault = work.store_conditions(site, &summary, conditions).map_err(failed)?;
                return Ok(Some(ServerEvent::ConditionsStored { site, fault }));
            }
            ServerAction::Begin { rounds_done } => {
                tracing::debug!(rounds_done, "run begins");
                let norms = work.begin(rounds_done).map_err(failed)?;
                watch(ServerRunEvent::Begun { rounds_done }, work, &self.records.ledger);
                return Ok(Some(ServerEvent::Begun { norms }));
            }
            ServerAction::Prepare { round, draws } => work.prepare(round, &draws).map_err(failed)?,
            ServerAction::Synthesize { round, draws } => {
                return Ok(Some(ServerEvent::Synthesized { synthetic: work.synthesize(round, &draws).map_err(failed)? }));
            }
            ServerAction::Update { round, contributions } => {
                self.wait_for(Vec::new(), work, watch);
                tracing::debug!(round, contributions = contributions.len(), "generator updated");
                work.update(round, &contributions).map_err(failed)?;
                watch(ServerRunEvent::Round { rounds_done: round + 1, contributions: &contributions }, work, &self.records.ledger);
                return Ok(Some(ServerEvent::Updated));
            }
            ServerAction::Checkpoint { rounds_done } => {
                tracing::debug!(rounds_done, "checkpoint");
                let notices = &mut self.notices;
                // A lack of file descriptors or disk space is often temporary, so the checkpoint is retried.
                let kept = retried(
                    || work.checkpoint(rounds_done),
                    |error| notices.push(format!("cannot write the checkpoint of round {rounds_done} ({}); retrying", with_causes(&error))),
                );
                kept.map_err(failed)?;
            }
            ServerAction::Finished => self.finished = Some(self.started.elapsed()),
        }
        Ok(None)
    }

    /// Reports the sites that the run waits for, if they have changed.
    fn wait_for<W>(&mut self, sites: Vec<SiteId>, work: &W, watch: &mut impl FnMut(ServerRunEvent<'_>, &W, &Ledger)) {
        if sites != self.awaited {
            self.awaited = sites;
            watch(ServerRunEvent::Waiting(&self.awaited), work, &self.records.ledger);
        }
    }

    fn send(&mut self, site: SiteId, message: &Message) -> Result<(), Error> {
        let Some(Some(numbers)) = self.numbers.get_mut(site.0 as usize) else { return Ok(()) };
        let frame = numbers.frame(message);
        let bytes = frame.bytes.len() as u64;
        let (kind, round) = (message.kind(), message.round());
        tracing::trace!(%site, %kind, round, bytes, "message sent");
        let note = if kind == MessageKind::Start && self.lost.remove(&site) { "state_lost" } else { "" };
        self.records.ledger.count_with_note(LedgerLine { site, kind, round, bytes }, note)?;
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

    /// Waits for what comes next, at most so long; not for long at a time if there may be requests.
    fn receive(&mut self, wait: Option<Duration>, has_control: bool) -> Result<(), Error> {
        // One message at a time: what it asks for is done before the next is looked at.
        let held = |(i, n): (usize, &mut Option<ReorderBuffer>)| Some((SiteId(i as u32), n.as_mut()?.next()?));
        if let Some((site, bytes)) = self.numbers.iter_mut().enumerate().find_map(held) {
            return self.message(site, &bytes);
        }
        let turn = if has_control { Some(wait.map_or(POLL_EVERY, |wait| wait.min(POLL_EVERY))) } else { wait };
        let Some((site, incoming)) = self.link.receive(turn) else {
            if turn != wait {
                return Ok(());
            }
            // Without a time to wait for, nothing means that nothing can come any more.
            return if wait.is_none() { Err(Error::Disconnected { peer: "sites".into() }) } else { self.handle(ServerEvent::Tick) };
        };
        let Some(numbers) = self.numbers.get_mut(site.0 as usize) else { return Ok(()) };
        match incoming {
            Incoming::Connected => {
                tracing::debug!(%site, "site connected");
                if numbers.replace(ReorderBuffer::default()).is_some() {
                    self.handle(ServerEvent::SiteLost { site, reason: "it reconnected".into() })?;
                }
            }
            Incoming::Lost(reason) | Incoming::NoRun(reason) => {
                tracing::debug!(%site, reason, "connection lost");
                *numbers = None;
                self.handle(ServerEvent::SiteLost { site, reason })?;
            }
            Incoming::Frame(frame) => {
                if let Some(Err(fact)) = numbers.as_mut().map(|n| n.take(frame)) {
                    return self.handle(ServerEvent::InvalidFrame { site, fact });
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, site: SiteId, bytes: &Bytes) -> Result<(), Error> {
        match Message::decode(bytes) {
            Ok(message) => {
                let (kind, round, bytes) = (message.kind(), message.round(), bytes.len() as u64);
                tracing::trace!(%site, %kind, round, bytes, "message received");
                self.records.ledger.count(LedgerLine { site, kind, round, bytes })?;
                if let Message::JournalHead(head) = message {
                    return self.confirm(site, head);
                }
                self.handle(ServerEvent::Message { site, message })
            }
            Err(error) => self.handle(ServerEvent::InvalidFrame { site, fact: error.to_string() }),
        }
    }

    /// Countersigns a site's journal head, and keeps it.
    fn confirm(&mut self, site: SiteId, head: JournalHead) -> Result<(), Error> {
        let (Some((identity, receipts)), Some(certificate)) = (&mut self.records.receipts, self.link.site_certificate(site)) else {
            return self.count_unconfirmed(site);
        };
        let Some(receipts) = receipts.get_mut(site.0 as usize) else { return Ok(()) };
        let entries = head.entries;
        if head.rounds_done > self.server.rounds_done() + 1 {
            let fact = format!("round {} is later than the run", head.rounds_done);
            return self.not_confirmed(site, &fact);
        }
        let receipt = Receipt::countersigned(identity, &self.run, head, &certificate).and_then(|receipt| {
            receipts.add(&receipt)?;
            Ok(receipt)
        });
        match receipt {
            Ok(receipt) => self.send(site, &Message::JournalReceipt(JournalReceipt { entries, signature: receipt.server_signature })),
            // The run does not depend on it; that the journal is not confirmed shows at the site.
            Err(error) => self.not_confirmed(site, &with_causes(&error)),
        }
    }

    /// Reports that a journal is not confirmed. The first reports show what is wrong.
    fn not_confirmed(&mut self, site: SiteId, fact: &str) -> Result<(), Error> {
        if self.unconfirmed.get(&site).is_none_or(|count| *count < NOTICES_MAX) {
            self.notices.push(format!("{site}: its journal is not confirmed: {fact}"));
        }
        self.count_unconfirmed(site)
    }

    /// Counts a journal head that is not confirmed. A site that sends many more than one per round is dismissed.
    fn count_unconfirmed(&mut self, site: SiteId) -> Result<(), Error> {
        let limit = HEADS_UNCONFIRMED_MAX.saturating_add(self.server.rounds_done());
        let count = self.unconfirmed.entry(site).or_default();
        *count += 1;
        if *count > limit {
            *count = 0;
            let fact = format!("more than {limit} journal heads that cannot be confirmed");
            return self.handle(ServerEvent::InvalidFrame { site, fact });
        }
        Ok(())
    }

    /// Passes an event to the state machine. If it ends the run, still sends the pending messages.
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
