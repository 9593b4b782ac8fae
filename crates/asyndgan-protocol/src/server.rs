use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    Augmentation, Dtype, Error, Losses, Message, PROTOCOL_VERSION, Payload, RunDescription, SiteId, SiteSummary, draw_augmentations,
    draw_cases,
};

/// What happens to a server.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// A site sent something.
    Message {
        /// Who.
        site: SiteId,
        /// What.
        message: Message,
    },
    /// A site's connection is gone.
    SiteLost {
        /// Who.
        site: SiteId,
        /// What the carrier knows.
        reason: String,
    },
    /// [`ServerAction::Begin`] is done.
    Begun,
    /// [`ServerAction::Synthesize`] is done: one batch a site, in order.
    Synthesized {
        /// The synthetic images.
        synthetic: Vec<Payload>,
    },
    /// [`ServerAction::Update`] is done.
    Updated,
    /// Nothing else: time has passed.
    Tick,
}

/// What a server's driver must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerAction {
    /// Send to a site.
    Send {
        /// To whom.
        site: SiteId,
        /// What.
        message: Message,
    },
    /// Take conditions and weights, make the generator or restore the checkpoint; then [`ServerEvent::Begun`].
    Begin {
        /// Condition codes of every site, in order.
        conditions: Vec<Payload>,
        /// Weights pi of every site, in order.
        weights: Vec<f64>,
        /// Rounds already done.
        rounds_done: u64,
    },
    /// Make one synthetic batch a site; then [`ServerEvent::Synthesized`].
    Synthesize {
        /// Which round.
        round: u64,
        /// Cases and augmentations of every site, in order.
        draws: Vec<(Vec<u32>, Vec<Augmentation>)>,
    },
    /// One generator step; then [`ServerEvent::Updated`].
    Update {
        /// Which round.
        round: u64,
        /// Every site's feedback, in order.
        feedback: Vec<Payload>,
        /// Every site's losses, in order.
        losses: Vec<Losses>,
    },
    /// Keep a checkpoint.
    Checkpoint {
        /// Rounds done.
        rounds_done: u64,
    },
    /// The run is over.
    Finished,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum State {
    Joining,
    Beginning,
    Synthesizing,
    Collecting,
    Updating,
    Over,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Joining => "sites join",
            State::Beginning | State::Synthesizing => "the server synthesizes",
            State::Collecting => "feedback is collected",
            State::Updating => "the generator is updated",
            State::Over => "the run is over",
        }
    }
}

/// The server's side of the protocol: waits for all sites in every round (the paper's policy).
#[derive(Debug)]
pub struct Server {
    run: RunDescription,
    sites: u32,
    silence_max: Duration,
    checkpoints: BTreeSet<u64>,
    state: State,
    round: u64,
    heard_at: Duration,
    summaries: BTreeMap<SiteId, SiteSummary>,
    conditions: BTreeMap<SiteId, Payload>,
    synthetic_dims: Vec<Vec<u32>>,
    answers: BTreeMap<SiteId, (Payload, Losses)>,
    actions: VecDeque<ServerAction>,
}

impl Server {
    /// A server for `sites` sites that holds checkpoints of the given rounds, and waits no longer than `silence_max` for a word.
    pub fn new(run: RunDescription, sites: u32, checkpoints: &[u64], silence_max: Duration) -> Self {
        Self {
            run,
            sites,
            silence_max,
            checkpoints: checkpoints.iter().copied().collect(),
            state: State::Joining,
            round: 0,
            heard_at: Duration::ZERO,
            summaries: BTreeMap::new(),
            conditions: BTreeMap::new(),
            synthetic_dims: Vec::new(),
            answers: BTreeMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// What to do next, if anything.
    pub fn poll_action(&mut self) -> Option<ServerAction> {
        self.actions.pop_front()
    }

    /// When to come back with [`ServerEvent::Tick`], if only time could change something.
    pub fn poll_timeout(&self) -> Option<Duration> {
        matches!(self.state, State::Joining | State::Collecting).then(|| self.heard_at + self.silence_max)
    }

    /// Takes one event at a time counted from the run's start.
    ///
    /// # Errors
    /// Whatever ends the run; every site has then been told.
    pub fn handle_event(&mut self, now: Duration, event: ServerEvent) -> Result<(), Error> {
        let done = self.handle(now, event);
        if let Err(error) = &done {
            self.state = State::Over;
            for site in (0..self.sites).map(SiteId) {
                self.send(site, Message::Leave { reason: error.to_string() });
            }
        }
        done
    }

    fn handle(&mut self, now: Duration, event: ServerEvent) -> Result<(), Error> {
        match event {
            ServerEvent::Tick => return self.tick(now),
            ServerEvent::Message { site, message } => {
                self.heard_at = now;
                self.message(site, message)?;
            }
            ServerEvent::SiteLost { .. } if self.state == State::Over => {}
            ServerEvent::SiteLost { site, reason } => return Err(Error::SiteLeft { site, round: self.round, reason }),
            ServerEvent::Begun => self.synthesize(),
            ServerEvent::Synthesized { synthetic } => {
                self.heard_at = now;
                self.send_round(synthetic);
            }
            ServerEvent::Updated => self.finish_round(),
        }
        Ok(())
    }

    fn tick(&self, now: Duration) -> Result<(), Error> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let answered =
            |site: &SiteId| if self.state == State::Joining { self.conditions.contains_key(site) } else { self.answers.contains_key(site) };
        let sites = (0..self.sites).map(SiteId).filter(|site| !answered(site)).collect();
        Err(Error::Silent { sites, round: self.round, waited_ms: self.silence_max.as_millis() as u64 })
    }

    fn message(&mut self, site: SiteId, message: Message) -> Result<(), Error> {
        let out_of_turn = Error::OutOfTurn { site, kind: message.kind(), state: self.state.name() };
        if site.0 >= self.sites {
            return Err(out_of_turn);
        }
        match (self.state, message) {
            (State::Over, _) => {}
            (_, Message::Leave { reason }) => return Err(Error::SiteLeft { site, round: self.round, reason }),
            (State::Joining, Message::Join { protocol_version, summary }) if !self.summaries.contains_key(&site) => {
                if protocol_version != PROTOCOL_VERSION {
                    return Err(Error::Version { site, expected: PROTOCOL_VERSION, found: protocol_version });
                }
                if summary.cases == 0 {
                    return Err(Error::NoCases { site });
                }
                let fits = match summary.image_dims[..] {
                    [_, rows, columns] => rows.min(columns) >= self.run.crop && self.run.crop > 0,
                    [values] => values > 0,
                    _ => false,
                };
                if !fits {
                    return Err(Error::ImageDims { site, found: summary.image_dims, crop: self.run.crop });
                }
                self.summaries.insert(site, summary);
                self.send(site, Message::Describe { run: self.run.clone() });
            }
            (State::Joining, Message::Conditions { codes })
                if self.summaries.contains_key(&site) && !self.conditions.contains_key(&site) =>
            {
                self.take_conditions(site, codes)?;
            }
            (State::Collecting, Message::Feedback { round, feedback, losses })
                if round == self.round && !self.answers.contains_key(&site) =>
            {
                let expected = &self.synthetic_dims[site.0 as usize];
                if feedback.dims != *expected || feedback.dtype != Dtype::F32 {
                    return Err(Error::PayloadDims { site, round, expected: expected.clone(), found: feedback.dims });
                }
                self.answers.insert(site, (feedback, losses));
                if self.answers.len() == self.sites as usize {
                    self.update();
                }
            }
            _ => return Err(out_of_turn),
        }
        Ok(())
    }

    fn take_conditions(&mut self, site: SiteId, codes: Payload) -> Result<(), Error> {
        let summary = &self.summaries[&site];
        let mut expected = summary.image_dims.clone();
        // Images have a code for every pixel; other data one for every case.
        expected[0] = summary.cases;
        if codes.dims != expected || codes.dtype != Dtype::U8 {
            return Err(Error::PayloadDims { site, round: 0, expected, found: codes.dims });
        }
        self.conditions.insert(site, codes);
        if self.conditions.len() == self.sites as usize {
            self.begin();
        }
        Ok(())
    }

    /// Everybody is here: go on from the last round of which all hold a checkpoint.
    fn begin(&mut self) {
        let common = self.checkpoints.iter().rev().find(|round| self.summaries.values().all(|s| s.checkpoints.contains(round)));
        self.round = common.copied().unwrap_or(0);
        self.state = State::Beginning;
        for site in (0..self.sites).map(SiteId) {
            self.send(site, Message::Start { rounds_done: self.round });
        }
        let cases: Vec<u32> = self.summaries.values().map(|s| s.cases).collect();
        let conditions = std::mem::take(&mut self.conditions).into_values().collect();
        let weights = self.run.weighting.weights(&cases);
        self.actions.push_back(ServerAction::Begin { conditions, weights, rounds_done: self.round });
    }

    fn synthesize(&mut self) {
        if self.round >= self.run.rounds {
            self.state = State::Over;
            for site in (0..self.sites).map(SiteId) {
                self.send(site, Message::Finish);
            }
            self.actions.push_back(ServerAction::Finished);
            return;
        }
        self.state = State::Synthesizing;
        let draws = (0..self.sites).map(|site| self.draw(SiteId(site))).collect();
        self.actions.push_back(ServerAction::Synthesize { round: self.round, draws });
    }

    fn draw(&self, site: SiteId) -> (Vec<u32>, Vec<Augmentation>) {
        let (run, summary) = (&self.run, &self.summaries[&site]);
        let margin = match summary.image_dims[..] {
            [_, rows, columns] => [rows.saturating_sub(run.crop), columns.saturating_sub(run.crop)],
            _ => [0, 0],
        };
        let cases = draw_cases(run.seed, site.0, self.round, run.batch, summary.cases);
        (cases, draw_augmentations(run.seed, site.0, self.round, run.batch, margin, run.flips))
    }

    fn send_round(&mut self, synthetic: Vec<Payload>) {
        self.state = State::Collecting;
        self.synthetic_dims = synthetic.iter().map(|s| s.dims.clone()).collect();
        for (site, synthetic) in (0..self.sites).map(SiteId).zip(synthetic) {
            let (cases, augmentations) = self.draw(site);
            self.send(site, Message::Round { round: self.round, cases, augmentations, synthetic });
        }
    }

    fn update(&mut self) {
        self.state = State::Updating;
        let (feedback, losses) = std::mem::take(&mut self.answers).into_values().unzip();
        self.actions.push_back(ServerAction::Update { round: self.round, feedback, losses });
    }

    fn finish_round(&mut self) {
        self.round += 1;
        if self.run.is_checkpoint(self.round) {
            self.actions.push_back(ServerAction::Checkpoint { rounds_done: self.round });
        }
        self.synthesize();
    }

    fn send(&mut self, site: SiteId, message: Message) {
        self.actions.push_back(ServerAction::Send { site, message });
    }
}
