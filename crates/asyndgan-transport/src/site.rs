use std::time::Duration;

use asyndgan_protocol::{
    History, JournalHead, JournalReceipt, Message, MessageKind, Payload, Readiness, RoundDraw, RunDescription, Site, SiteAction, SiteEvent,
    SiteId, SitePolicy, SiteSetup, SiteWork, hex,
};

use bytes::Bytes;

use crate::{
    Consent, Control, Error, Identity, Incoming, Journal, Ledger, LedgerLine, Outcome, Receipt, Receipts, RunStamp, ShownCases, SiteLink,
    control::POLL_EVERY, error::with_causes, receipts::signed_head, reorder::ReorderBuffer, retry::retried,
};

/// The records that a site keeps of its part in a run.
#[derive(Debug, Default)]
pub struct SiteRecords {
    /// All messages in both directions.
    pub ledger: Ledger,
    /// Everything that is sent. A message that cannot be recorded is not sent.
    pub journal: Option<Journal>,
    /// The run that the hospital agreed to. Without it, the site joins any run that the policy allows.
    pub consent: Option<Consent>,
    /// Requests confirmations of the journal from the server.
    pub signer: Option<Signer>,
    /// Earlier answers of the site, from [`Journal::history`]; `None` for a new site.
    pub history: Option<History>,
}

/// Signs the head of a site's journal, and stores the server's confirmations.
#[derive(Debug)]
pub struct Signer {
    /// The site's key.
    pub identity: Identity,
    /// The server's confirmations.
    pub receipts: Receipts,
    /// Heads that were sent and are not confirmed yet, the latest last.
    waiting: Vec<JournalHead>,
}

/// How many receipts of the server may confirm nothing. Each is counted in the site's ledger.
const UNUSED_RECEIPTS_MAX: u32 = 1_000;
/// How many messages may travel before the server describes a run, over all connections.
const EARLY_MAX: usize = 10_000;
/// Maximum number of unconfirmed heads in memory, in case the server does not confirm them.
const HEADS_WAITING_MAX: usize = 16;

impl Signer {
    /// A signer with a site's key that stores confirmations in `receipts`.
    pub fn new(identity: Identity, receipts: Receipts) -> Self {
        Self { identity, receipts, waiting: Vec::new() }
    }
}

/// An event of a site's part in a run, for logs.
#[derive(Debug)]
pub enum SiteRunEvent<'a> {
    /// The site is connected to the server.
    Connected,
    /// The connection was lost, or could not be established; the site retries.
    Lost(&'a str),
    /// The server answers, but serves no run now; the site asks again.
    NoRun(&'a str),
    /// A message was handed to the connection.
    Sent(MessageKind),
    /// A warning that does not stop the site.
    Notice(&'a str),
    /// The policy allows the run, and the hospital agreed to it.
    Accepted(&'a RunDescription),
    /// The run starts or resumes.
    Begun {
        /// Rounds already done.
        rounds_done: u64,
    },
    /// A round is done.
    Round {
        /// Rounds done.
        rounds_done: u64,
    },
    /// The site has left the run in order, because its privacy budget is spent. The others continue.
    Retired(&'a str),
}

/// A site's part in a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SiteRun {
    /// What the hospital allows.
    pub policy: SitePolicy,
    /// Requests to stop. Default: none are possible.
    pub control: Control,
}

impl SiteRun {
    /// A part that lasts until the run is finished.
    pub fn new(policy: SitePolicy) -> Self {
        Self { policy, control: Control::default() }
    }

    /// This part with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Takes part until the run is finished, the privacy budget is spent, or [`Control`] stops the site, and reconnects
    /// as often as necessary. `watch` is called for every event, and can inspect the worker and the ledger.
    ///
    /// # Errors
    /// The error that ended the site's part early. The server is informed, if it is connected.
    pub fn take_part<W: SiteWork>(
        self,
        link: &mut impl SiteLink,
        work: &mut W,
        records: &mut SiteRecords,
        mut watch: impl FnMut(SiteRunEvent<'_>, &W, &Ledger),
    ) -> Result<Outcome, Error> {
        let Self { policy, control } = self;
        policy.validate()?;
        let mut driver = Driver::new(policy, link, work, records);
        let turn = control.can_be_used().then_some(POLL_EVERY);
        loop {
            if control.is_stopping() {
                driver.send(&Message::Leave { reason: "the site was stopped; it resumes when it is started again".into() })?;
                return driver.finished().map(|()| Outcome::Stopped);
            }
            for notice in std::mem::take(&mut driver.notices) {
                watch(SiteRunEvent::Notice(&notice), work, &driver.records.ledger);
            }
            while let Some(action) = driver.site.poll_action() {
                let done = match action {
                    SiteAction::Send(message) => {
                        driver.send(&message)?;
                        watch(SiteRunEvent::Sent(message.kind()), work, &driver.records.ledger);
                        continue;
                    }
                    SiteAction::Inspect { site, run } => {
                        driver.handle(inspected(work, site, &run));
                        continue;
                    }
                    SiteAction::Consent { site, run } => {
                        let event = driver.consent(site, &run);
                        driver.handle(event);
                        continue;
                    }
                    SiteAction::LoadState { site, run, conditions_wanted } => {
                        tracing::debug!(%site, run = run.name, conditions_wanted, "takes part");
                        driver.takes_part(site, &run)?;
                        watch(SiteRunEvent::Accepted(&run), work, &driver.records.ledger);
                        work.checkpoints(site, &run).map(|checkpoints| {
                            let conditions = conditions_wanted.then(|| work.conditions().compressed());
                            Some(SiteEvent::StateLoaded { checkpoints, conditions })
                        })
                    }
                    SiteAction::Begin { site, run, rounds_done } => {
                        tracing::debug!(%site, rounds_done, "run begins");
                        if let Some(journal) = &mut driver.records.journal {
                            // Nothing leaves; but that the server had it start from here counts, also after a restart.
                            journal.append(MessageKind::Start, Some(rounds_done), None, b"")?;
                        }
                        work.begin(site, &run, rounds_done).map(|()| {
                            watch(SiteRunEvent::Begun { rounds_done }, work, &driver.records.ledger);
                            Some(SiteEvent::Begun)
                        })
                    }
                    SiteAction::Prepare { round, draw } => work.prepare(round, &draw).map(spent),
                    // The server may have skipped the round that was prepared.
                    SiteAction::Step { round, draw, synthetic, answer } => match work.prepare(round, &draw).map(spent) {
                        Ok(None) => stepped(work, round, &draw, &synthetic).map(|event| {
                            if let SiteEvent::Stepped { .. } = event {
                                watch(SiteRunEvent::Round { rounds_done: round + 1 }, work, &driver.records.ledger);
                                driver.showing = Some(ShownCases { cases: draw.real.cases, answer: hex(&answer) });
                            }
                            Some(event)
                        }),
                        other => other,
                    },
                    SiteAction::Checkpoint { rounds_done } => {
                        tracing::debug!(rounds_done, "checkpoint");
                        let kept = retried(
                            || work.checkpoint(rounds_done),
                            |error| {
                                driver.notices.push(format!(
                                    "cannot write the checkpoint of round {rounds_done} ({}); retrying",
                                    with_causes(&error)
                                ));
                            },
                        );
                        if kept.is_ok() {
                            driver.sign_journal(rounds_done)?;
                        }
                        kept.map(|()| None)
                    }
                    SiteAction::Retired { reason } => {
                        watch(SiteRunEvent::Retired(&reason), work, &driver.records.ledger);
                        return driver.finished().map(|()| Outcome::Finished);
                    }
                    SiteAction::Finished => return driver.finished().map(|()| Outcome::Finished),
                    SiteAction::Ended { reason } => return Err(driver.refusal.take().unwrap_or(Error::Ended { reason })),
                };
                match done {
                    Ok(Some(event)) => driver.handle(event),
                    Ok(None) => {}
                    // What was to follow counted on this: the machine drops it. The error may name files or patients,
                    // so it stays here.
                    Err(error) => {
                        driver.refusal.get_or_insert(Error::Work(Box::new(error)));
                        driver.handle(SiteEvent::Failed { reason: "the computation at this site failed; see the site's log".into() });
                    }
                }
            }
            driver.receive(turn, &mut |news, ledger| watch(news, work, ledger))?;
        }
    }
}

fn spent(readiness: Readiness) -> Option<SiteEvent> {
    match readiness {
        Readiness::Ready => None,
        Readiness::BudgetSpent { reason } => Some(SiteEvent::BudgetSpent { reason }),
    }
}

fn stepped<W: SiteWork>(work: &mut W, round: u64, draw: &RoundDraw, synthetic: &Payload) -> Result<SiteEvent, W::Error> {
    match work.step(round, draw, synthetic) {
        Ok((feedback, losses)) => Ok(SiteEvent::Stepped { feedback, losses }),
        Err(error) => W::budget_spent(&error).map(|reason| SiteEvent::BudgetSpent { reason }).ok_or(error),
    }
}

fn inspected(work: &mut impl SiteWork, site: SiteId, run: &RunDescription) -> SiteEvent {
    match work.inspect(site, run) {
        Ok(training) => SiteEvent::Inspected { training },
        // It is about the description alone, which the server knows.
        Err(error) => SiteEvent::Failed { reason: format!("this site cannot train the run: {error}") },
    }
}

struct Driver<'a, L> {
    site: Site,
    /// The run that it takes part in.
    run: Option<RunStamp>,
    /// What the answer that is about to leave depends on.
    showing: Option<ShownCases>,
    notices: Vec<String>,
    id: Option<SiteId>,
    /// What travelled before the server assigned a number to this site.
    early: Vec<(MessageKind, u64)>,
    /// Receipts of the server that confirm nothing.
    unused_receipts: u32,
    link: &'a mut L,
    records: &'a mut SiteRecords,
    /// While there is a connection.
    numbers: Option<ReorderBuffer>,
    refusal: Option<Error>,
}

impl<'a, L: SiteLink> Driver<'a, L> {
    fn new(policy: SitePolicy, link: &'a mut L, work: &mut impl SiteWork, records: &'a mut SiteRecords) -> Self {
        let history = records.history.take().unwrap_or_else(|| History::new(work.patients()));
        let setup = SiteSetup { policy, summary: work.summary(), randomness: work.randomness(), history };
        Self {
            site: Site::new(setup),
            run: None,
            showing: None,
            notices: Vec::new(),
            id: None,
            early: Vec::new(),
            unused_receipts: 0,
            link,
            records,
            numbers: None,
            refusal: None,
        }
    }

    fn send(&mut self, message: &Message) -> Result<(), Error> {
        // Without a connection nothing leaves, and nothing is written down.
        let Some(numbers) = &mut self.numbers else { return Ok(()) };
        let frame = numbers.frame(message);
        let (kind, round) = (message.kind(), message.round());
        if let Some(journal) = &mut self.records.journal {
            let shown = (kind == MessageKind::Feedback).then(|| self.showing.take()).flatten();
            journal.append(kind, round, shown, &frame.bytes)?;
        }
        self.count(kind, round, frame.bytes.len() as u64)?;
        self.link.send(frame);
        Ok(())
    }

    /// Whether the hospital agrees. If not, the site leaves with that reason.
    fn consent(&mut self, site: SiteId, run: &RunDescription) -> SiteEvent {
        let decided = self.records.consent.as_ref().map_or(Ok(()), |consent| consent.decide(site, run));
        match decided {
            Ok(()) => SiteEvent::Consented,
            Err(error) => {
                // Paths of the site are nobody else's business.
                let reason = "the hospital has not agreed to this run".to_owned();
                self.refusal.get_or_insert(error);
                SiteEvent::Failed { reason }
            }
        }
    }

    /// From now on, records are about this run.
    fn takes_part(&mut self, site: SiteId, run: &RunDescription) -> Result<(), Error> {
        let stamp = RunStamp::new(run, self.link.server_certificate().as_deref());
        self.records.ledger.stamp = stamp.clone();
        if let Some(journal) = &mut self.records.journal {
            journal.stamp = stamp.clone();
        }
        self.run = Some(stamp);
        self.id = Some(site);
        std::mem::take(&mut self.early).into_iter().try_for_each(|(kind, bytes)| self.count(kind, None, bytes))
    }

    /// Makes the journal survive a power failure, and asks the server to confirm it.
    fn sign_journal(&mut self, rounds_done: u64) -> Result<(), Error> {
        let Some(journal) = &mut self.records.journal else { return Ok(()) };
        journal.sync()?;
        let (Some(signer), Some(run)) = (&mut self.records.signer, &self.run) else { return Ok(()) };
        let (entries, link) = journal.head();
        let head = signed_head(&signer.identity, &run.run, entries, link, rounds_done)?;
        if signer.waiting.len() >= HEADS_WAITING_MAX {
            signer.waiting.remove(0);
        }
        signer.waiting.push(head.clone());
        self.send(&Message::JournalHead(head))
    }

    fn confirmed(&mut self, receipt: &JournalReceipt) -> Result<(), Error> {
        let at = |signer: &mut Signer| signer.waiting.iter().position(|head| head.entries == receipt.entries);
        let at = self.records.signer.as_mut().and_then(at);
        let (Some(at), Some(signer), Some(run), Some(server)) = (at, &mut self.records.signer, &self.run, self.link.server_certificate())
        else {
            self.unused_receipts += 1;
            if self.unused_receipts > UNUSED_RECEIPTS_MAX {
                let reason = "the server sends receipts that confirm nothing".to_owned();
                self.handle(SiteEvent::Failed { reason });
            }
            return Ok(());
        };
        let head = signer.waiting.drain(..=at).next_back().expect("found there");
        let kept = Receipt::confirmed(&run.run, head, signer.identity.certificate(), receipt, &server);
        match kept.and_then(|receipt| signer.receipts.add(&receipt)) {
            // Entries that are not confirmed show in `journal verify`.
            Err(error @ Error::Receipt { .. }) => self.notices.push(format!("the server did not confirm the journal: {error}")),
            done => done?,
        }
        Ok(())
    }

    fn count(&mut self, kind: MessageKind, round: Option<u64>, bytes: u64) -> Result<(), Error> {
        if let Some(site) = self.id {
            return self.records.ledger.count(LedgerLine { site, kind, round, bytes });
        }
        self.early.push((kind, bytes));
        if self.early.len() > EARLY_MAX {
            let reason = "the server sends messages, but describes no run".to_owned();
            self.handle(SiteEvent::Failed { reason });
        }
        Ok(())
    }

    fn handle(&mut self, event: SiteEvent) {
        if let Err(error) = self.site.handle_event(event) {
            self.refusal.get_or_insert(Error::Protocol(error));
        }
    }

    /// Nothing more leaves.
    fn finished(&mut self) -> Result<(), Error> {
        self.records.journal.as_mut().map_or(Ok(()), Journal::sync)
    }

    fn receive(&mut self, wait: Option<Duration>, watch: &mut impl FnMut(SiteRunEvent<'_>, &Ledger)) -> Result<(), Error> {
        // One message at a time: what it asks for is done before the next is looked at.
        if let Some(bytes) = self.numbers.as_mut().and_then(ReorderBuffer::next) {
            return self.message(&bytes);
        }
        let Some(incoming) = self.link.receive(wait)? else { return Ok(()) };
        match incoming {
            Incoming::Connected => {
                self.numbers = Some(ReorderBuffer::default());
                watch(SiteRunEvent::Connected, &self.records.ledger);
                self.handle(SiteEvent::Connected);
            }
            Incoming::Lost(reason) => {
                self.numbers = None;
                watch(SiteRunEvent::Lost(&reason), &self.records.ledger);
            }
            Incoming::NoRun(reason) => {
                self.numbers = None;
                watch(SiteRunEvent::NoRun(&reason), &self.records.ledger);
            }
            Incoming::Frame(frame) => {
                if let Some(Err(fact)) = self.numbers.as_mut().map(|n| n.take(frame)) {
                    self.unreadable(&fact);
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, bytes: &Bytes) -> Result<(), Error> {
        match Message::decode(bytes) {
            Ok(message) => {
                self.count(message.kind(), message.round(), bytes.len() as u64)?;
                if let Message::JournalReceipt(receipt) = &message {
                    return self.confirmed(receipt);
                }
                self.handle(SiteEvent::Message(message));
            }
            Err(error) => self.unreadable(&error.to_string()),
        }
        Ok(())
    }

    fn unreadable(&mut self, fact: &str) {
        self.handle(SiteEvent::Failed { reason: format!("the server's frames cannot be read: {fact}") });
    }
}
