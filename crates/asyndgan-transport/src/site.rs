use asyndgan_protocol::{Message, MessageKind, RunDescription, Site, SiteAction, SiteEvent, SiteId, SitePolicy, SiteWork};

use bytes::Bytes;

use crate::{Error, Incoming, Journal, Ledger, LedgerLine, SiteLink, numbers::Numbers};

/// What a site writes down of its part in a run.
#[derive(Debug, Default)]
pub struct SiteRecords {
    /// What travelled, either way.
    pub ledger: Ledger,
    /// What left; what it cannot write down does not leave.
    pub journal: Option<Journal>,
}

/// What people may want to see of a site's part.
#[derive(Debug)]
pub enum SiteNews<'a> {
    /// There is a connection.
    Connected,
    /// The connection is gone; the site tries again.
    Lost(&'a str),
    /// The run is allowed by the policy.
    Accepted(&'a RunDescription),
    /// The run goes on from here.
    Begun {
        /// Rounds already done.
        rounds_done: u64,
    },
    /// A round is done.
    Round {
        /// Rounds done.
        rounds_done: u64,
    },
}

/// Plays a site's part of a run to its end, over as many connections as it takes; `watch` hears what happens.
///
/// # Errors
/// Whatever ends the site's part early; the server has been told then, if it could be.
pub fn run_site<W: SiteWork>(
    policy: SitePolicy,
    link: &mut impl SiteLink,
    work: &mut W,
    records: &mut SiteRecords,
    mut watch: impl FnMut(SiteNews<'_>, &W),
) -> Result<(), Error> {
    let feedback = records.ledger.entries().filter(|e| e.1 == MessageKind::Feedback);
    let answers = feedback.map(|e| e.2.messages).sum();
    let mut driver = Driver {
        site: Site::new(policy, work.summary(), answers),
        id: None,
        early: Vec::new(),
        link,
        records,
        numbers: None,
        refusal: None,
    };
    loop {
        while let Some(action) = driver.site.poll_action() {
            let done = match action {
                SiteAction::Send(message) => {
                    driver.send(&message)?;
                    continue;
                }
                SiteAction::Recall { site, run, conditions_wanted } => {
                    driver.is(site)?;
                    watch(SiteNews::Accepted(&run), work);
                    work.checkpoints(site, &run).map(|checkpoints| {
                        let conditions = conditions_wanted.then(|| work.conditions().packed());
                        Some(SiteEvent::Recalled { checkpoints, conditions })
                    })
                }
                SiteAction::Begin { site, run, rounds_done } => work.begin(site, &run, rounds_done).map(|()| {
                    watch(SiteNews::Begun { rounds_done }, work);
                    Some(SiteEvent::Begun)
                }),
                SiteAction::Prepare { round, draw } => work.prepare(round, &draw).map(|()| None),
                SiteAction::Step { round, draw, synthetic } => work.step(round, &draw, &synthetic).map(|(feedback, losses)| {
                    watch(SiteNews::Round { rounds_done: round + 1 }, work);
                    Some(SiteEvent::Stepped { feedback, losses })
                }),
                SiteAction::Checkpoint { rounds_done } => {
                    let kept = work.checkpoint(rounds_done);
                    if let Some(journal) = &mut driver.records.journal {
                        journal.sync()?;
                    }
                    kept.map(|()| None)
                }
                SiteAction::Finished => {
                    return driver.records.journal.as_mut().map_or(Ok(()), Journal::sync);
                }
                SiteAction::Ended { reason } => return Err(driver.refusal.take().unwrap_or(Error::Ended { reason })),
            };
            match done {
                Ok(Some(event)) => driver.handle(event),
                Ok(None) => {}
                // What was to follow counted on this: the machine drops it.
                Err(error) => driver.handle(SiteEvent::Failed { reason: error.to_string() }),
            }
        }
        driver.receive(&mut |news| watch(news, work))?;
    }
}

struct Driver<'a, L> {
    site: Site,
    id: Option<SiteId>,
    /// What travelled before the server said which site this is.
    early: Vec<(MessageKind, u64)>,
    link: &'a mut L,
    records: &'a mut SiteRecords,
    /// While there is a connection.
    numbers: Option<Numbers>,
    refusal: Option<Error>,
}

impl<L: SiteLink> Driver<'_, L> {
    fn send(&mut self, message: &Message) -> Result<(), Error> {
        // Without a connection nothing leaves, and nothing is written down.
        let Some(numbers) = &mut self.numbers else { return Ok(()) };
        let frame = numbers.frame(message);
        let (kind, round) = (message.kind(), message.round());
        if let Some(journal) = &mut self.records.journal {
            journal.append(kind, round, &frame.bytes)?;
        }
        self.count(kind, round, frame.bytes.len() as u64)?;
        self.link.send(frame);
        Ok(())
    }

    fn is(&mut self, site: SiteId) -> Result<(), Error> {
        self.id = Some(site);
        std::mem::take(&mut self.early).into_iter().try_for_each(|(kind, bytes)| self.count(kind, None, bytes))
    }

    fn count(&mut self, kind: MessageKind, round: Option<u64>, bytes: u64) -> Result<(), Error> {
        if let Some(site) = self.id {
            return self.records.ledger.count(LedgerLine { site, kind, round, bytes });
        }
        self.early.push((kind, bytes));
        Ok(())
    }

    fn handle(&mut self, event: SiteEvent) {
        if let Err(error) = self.site.handle_event(event) {
            self.refusal.get_or_insert(Error::Protocol(error));
        }
    }

    fn receive(&mut self, watch: &mut impl FnMut(SiteNews<'_>)) -> Result<(), Error> {
        // One message at a time: what it asks for is done before the next is looked at.
        if let Some(bytes) = self.numbers.as_mut().and_then(Numbers::next) {
            return self.message(&bytes);
        }
        match self.link.receive()? {
            Incoming::Connected => {
                self.numbers = Some(Numbers::default());
                watch(SiteNews::Connected);
                self.handle(SiteEvent::Connected);
            }
            Incoming::Lost(reason) => {
                self.numbers = None;
                watch(SiteNews::Lost(&reason));
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
