//! A server and sites in virtual time, with a network that cuts connections and machines that are killed: one seed, one schedule.
//!
//! Networks are stood in for by hash chains: a generator is a hash of all that it learnt from, in order, so that two generators are
//! equal only if they saw the same.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use asyndgan_protocol::{
    Contribution, Dtype, Error, Losses, Message, Patience, Payload, RunDescription, Server, ServerAction, ServerEvent, Site, SiteAction,
    SiteEvent, SiteId, SitePolicy, SiteSummary, Symmetry, Waiting, Weighting,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn run(rounds: u64, waiting: Waiting) -> RunDescription {
    RunDescription {
        name: "simulation".into(),
        seed: 3,
        rounds,
        batch: 1,
        channels: 1,
        crop: 2,
        symmetry: Symmetry::Turns,
        weighting: Weighting::Proportional,
        l1_weight: 0.0,
        checkpoint_every: 3,
        waiting,
        synthetic_dtype: Dtype::F32,
        feedback_dtype: Dtype::F32,
        site_threads: 1,
        networks: String::new(),
    }
}

pub fn codes(site: usize, cases: u32) -> Payload {
    Payload::new(vec![cases, 3, 3], Dtype::U8, vec![site as u8; 9 * cases as usize])
}

pub fn summary(site: usize, cases: u32) -> SiteSummary {
    SiteSummary { cases, image_dims: vec![1, 3, 3], conditions_sha256: codes(site, cases).sha256() }
}

/// A batch of one image of 2 x 2 that spells a number.
fn spelled(number: u64) -> Payload {
    let bytes: Vec<u8> = (0..4).flat_map(|k| (f32::from((number >> (16 * k)) as u16) / 65536.0).to_le_bytes()).collect();
    Payload::new(vec![1, 1, 2, 2], Dtype::F32, bytes)
}

fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |h, &p| (h ^ p).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23))
}

fn read(payload: &Payload) -> u64 {
    hash(&payload.bytes.iter().map(|&b| u64::from(b)).collect::<Vec<_>>())
}

pub struct SimSite {
    pub machine: Site,
    pub cases: u32,
    disk: BTreeMap<u64, u64>,
    discriminator: u64,
    done: Option<SiteEvent>,
    waiting: VecDeque<SiteAction>,
    pub finished: bool,
    pub ended: Option<String>,
    pub sent: Vec<Message>,
}

pub struct SimServer {
    pub machine: Server,
    disk: BTreeMap<u64, u64>,
    kept: BTreeMap<SiteId, SiteSummary>,
    pub generator: u64,
    done: Option<ServerEvent>,
    waiting: VecDeque<ServerAction>,
    pub finished: bool,
}

/// A connection as a carrier makes it: what comes next, in order, at either end. An end sends to the connection that it knows of.
#[derive(Default)]
struct Line {
    up: bool,
    number: u32,
    /// The connection that each end has heard of last; 0 for none.
    at_server: u32,
    at_site: u32,
    to_server: VecDeque<Arrival>,
    to_site: VecDeque<Arrival>,
}

enum Arrival {
    Connected(u32),
    Lost,
    Message(Message),
}

pub struct World {
    pub run: RunDescription,
    pub patience: Patience,
    pub sites: Vec<Option<SimSite>>,
    cases: Vec<u32>,
    disks: Vec<BTreeMap<u64, u64>>,
    pub server: Option<SimServer>,
    server_disk: (BTreeMap<u64, u64>, BTreeMap<SiteId, SiteSummary>),
    lines: Vec<Line>,
    pub now: Duration,
    /// Every generator step: its round, and who contributed.
    pub updates: Vec<(u64, Vec<Contribution>)>,
    pub dismissed: Vec<(SiteId, Error)>,
    pub keeps: Vec<SiteId>,
    /// Sites that never come back.
    pub gone: Vec<bool>,
    /// Sites that are lost for good in the midst of the schedule.
    pub doomed: Vec<usize>,
    pub generator: Option<u64>,
}

impl World {
    pub fn new(run: RunDescription, cases: &[u32]) -> Self {
        let patience = Patience { answer: Duration::from_hours(1), absence: Duration::from_hours(1000) };
        let mut world = Self {
            run,
            patience,
            sites: cases.iter().map(|_| None).collect(),
            cases: cases.into(),
            disks: cases.iter().map(|_| BTreeMap::new()).collect(),
            server: None,
            server_disk: (BTreeMap::new(), BTreeMap::new()),
            lines: cases.iter().map(|_| Line::default()).collect(),
            now: Duration::ZERO,
            updates: Vec::new(),
            dismissed: Vec::new(),
            keeps: Vec::new(),
            gone: vec![false; cases.len()],
            doomed: Vec::new(),
            generator: None,
        };
        world.start_server();
        for i in 0..cases.len() {
            world.start_site(i);
        }
        world
    }

    pub fn start_server(&mut self) {
        let (disk, kept) = self.server_disk.clone();
        let held: Vec<u64> = disk.keys().copied().collect();
        let known = kept.clone().into_iter().collect();
        let machine = Server::new(self.run.clone(), self.cases.len() as u32, self.patience, &held, known);
        self.server = Some(SimServer { machine, disk, kept, generator: 0, done: None, waiting: VecDeque::new(), finished: false });
    }

    pub fn start_site(&mut self, i: usize) {
        self.sites[i] = Some(SimSite {
            machine: Site::new(SitePolicy::default(), summary(i, self.cases[i]), 0),
            cases: self.cases[i],
            disk: self.disks[i].clone(),
            discriminator: 0,
            done: None,
            waiting: VecDeque::new(),
            finished: false,
            ended: None,
            sent: Vec::new(),
        });
    }

    pub fn kill_server(&mut self) {
        for i in 0..self.lines.len() {
            self.cut(i);
            self.lines[i].to_server.clear();
            self.lines[i].at_server = 0;
        }
        self.server = None;
    }

    pub fn kill_site(&mut self, i: usize) {
        self.cut(i);
        self.lines[i].to_site.clear();
        self.lines[i].at_site = 0;
        self.sites[i] = None;
    }

    /// Cuts a connection: what was on its way is lost.
    pub fn cut(&mut self, i: usize) {
        if std::mem::take(&mut self.lines[i].up) {
            let line = &mut self.lines[i];
            line.to_server.retain(|a| !matches!(a, Arrival::Message(_)));
            line.to_server.push_back(Arrival::Lost);
            line.to_site.retain(|a| !matches!(a, Arrival::Message(_)));
            line.to_site.push_back(Arrival::Lost);
        }
    }

    pub fn connect(&mut self, i: usize) {
        let alive = self.sites[i].as_ref().is_some_and(|s| !s.finished && s.ended.is_none());
        if self.lines[i].up || self.server.is_none() || !alive {
            return;
        }
        let line = &mut self.lines[i];
        line.up = true;
        line.number += 1;
        line.to_server.push_back(Arrival::Connected(line.number));
        line.to_site.push_back(Arrival::Connected(line.number));
    }

    pub fn tell_server(&mut self, event: ServerEvent) {
        let now = self.now;
        let Some(server) = &mut self.server else { return };
        server.machine.handle_event(now, event).expect("the run goes on");
        self.drive_server();
    }

    fn drive_server(&mut self) {
        let Some(server) = &mut self.server else { return };
        server.waiting.extend(std::iter::from_fn(|| server.machine.poll_action()));
        while server.done.is_none() {
            let Some(action) = server.waiting.pop_front() else { break };
            match action {
                ServerAction::Send { site, message } => {
                    let line = &mut self.lines[site.0 as usize];
                    if line.up && line.at_server == line.number {
                        line.to_site.push_back(Arrival::Message(Message::decode(&message.encode()).expect("round trip")));
                    }
                }
                ServerAction::Dismiss { site, error } => {
                    // Its last words arrive, then the connection ends.
                    let line = &mut self.lines[site.0 as usize];
                    if line.up && line.at_server == line.number {
                        line.up = false;
                        line.to_server.retain(|a| !matches!(a, Arrival::Message(_)));
                        line.to_server.push_back(Arrival::Lost);
                        if error.is_fault() {
                            line.to_site.push_back(Arrival::Message(Message::Leave { reason: error.to_string() }));
                        }
                        line.to_site.push_back(Arrival::Lost);
                    }
                    self.dismissed.push((site, error));
                }
                ServerAction::Welcome { .. } | ServerAction::Prepare { .. } => {}
                ServerAction::Keep { site, summary, .. } => {
                    self.keeps.push(site);
                    server.kept.insert(site, summary);
                    self.server_disk.1 = server.kept.clone();
                }
                ServerAction::Begin { rounds_done } => {
                    server.generator = if rounds_done == 0 { 1 } else { server.disk[&rounds_done] };
                    server.done = Some(ServerEvent::Begun);
                }
                ServerAction::Synthesize { round, draws } => {
                    let one = |d: &asyndgan_protocol::Draw| spelled(hash(&[server.generator, round, d.site.0.into(), d.cases[0].into()]));
                    server.done = Some(ServerEvent::Synthesized { synthetic: draws.iter().map(one).collect() });
                }
                ServerAction::Update { round, contributions } => {
                    for c in &contributions {
                        server.generator =
                            hash(&[server.generator, round, c.round, c.draw.site.0.into(), c.weight.to_bits(), read(&c.feedback)]);
                    }
                    self.updates.push((round, contributions));
                    server.done = Some(ServerEvent::Updated);
                }
                ServerAction::Checkpoint { rounds_done } => {
                    server.disk.insert(rounds_done, server.generator);
                    while server.disk.len() > asyndgan_protocol::CHECKPOINTS_KEPT {
                        server.disk.pop_first();
                    }
                    self.server_disk.0 = server.disk.clone();
                }
                ServerAction::Finished => {
                    server.finished = true;
                    self.generator = Some(server.generator);
                }
            }
        }
    }

    pub fn tell_site(&mut self, i: usize, event: SiteEvent) {
        let Some(site) = &mut self.sites[i] else { return };
        site.machine.handle_event(event).expect("the site goes on");
        self.drive_site(i);
    }

    fn drive_site(&mut self, i: usize) {
        let Some(site) = &mut self.sites[i] else { return };
        site.waiting.extend(std::iter::from_fn(|| site.machine.poll_action()));
        while site.done.is_none() {
            let Some(action) = site.waiting.pop_front() else { break };
            match action {
                SiteAction::Send(message) => {
                    site.sent.push(message.clone());
                    if self.lines[i].up && self.lines[i].at_site == self.lines[i].number {
                        self.lines[i].to_server.push_back(Arrival::Message(Message::decode(&message.encode()).expect("round trip")));
                    }
                }
                SiteAction::Recall { conditions_wanted, .. } => {
                    let checkpoints = site.disk.keys().copied().collect();
                    site.done =
                        Some(SiteEvent::Recalled { checkpoints, conditions: conditions_wanted.then(|| codes(i, site.cases).packed()) });
                }
                SiteAction::Begin { rounds_done, .. } => {
                    site.discriminator = if rounds_done == 0 { i as u64 } else { site.disk[&rounds_done] };
                    site.done = Some(SiteEvent::Begun);
                }
                SiteAction::Prepare { .. } => {}
                SiteAction::Step { round, synthetic, .. } => {
                    site.discriminator = hash(&[site.discriminator, round, read(&synthetic)]);
                    let losses = Losses { discriminator: 0.5, generator: i as f32 };
                    site.done = Some(SiteEvent::Stepped { feedback: spelled(hash(&[site.discriminator])), losses });
                }
                SiteAction::Checkpoint { rounds_done } => {
                    site.disk.insert(rounds_done, site.discriminator);
                    while site.disk.len() > asyndgan_protocol::CHECKPOINTS_KEPT + 1 {
                        site.disk.pop_first();
                    }
                    self.disks[i] = site.disk.clone();
                }
                SiteAction::Finished => {
                    site.finished = true;
                    self.cut(i);
                    return;
                }
                SiteAction::Ended { reason } => {
                    site.ended = Some(reason);
                    self.cut(i);
                    return;
                }
            }
        }
    }

    pub fn deliver_to_server(&mut self, i: usize) -> bool {
        // Its driver does one thing at a time.
        if self.server.as_ref().is_none_or(|s| s.done.is_some()) {
            return false;
        }
        let Some(arrival) = self.lines[i].to_server.pop_front() else { return false };
        let site = SiteId(i as u32);
        match arrival {
            Arrival::Connected(number) => self.lines[i].at_server = number,
            Arrival::Lost => {
                self.lines[i].at_server = 0;
                self.tell_server(ServerEvent::SiteLost { site, reason: "cut".into() });
            }
            Arrival::Message(message) => self.tell_server(ServerEvent::Message { site, message }),
        }
        true
    }

    pub fn deliver_to_site(&mut self, i: usize) -> bool {
        if self.sites[i].as_ref().is_none_or(|s| s.done.is_some()) {
            return false;
        }
        let Some(arrival) = self.lines[i].to_site.pop_front() else { return false };
        match arrival {
            Arrival::Connected(number) => {
                self.lines[i].at_site = number;
                self.tell_site(i, SiteEvent::Connected);
            }
            Arrival::Lost => self.lines[i].at_site = 0,
            Arrival::Message(message) => self.tell_site(i, SiteEvent::Message(message)),
        }
        true
    }

    pub fn work_server(&mut self) -> bool {
        let Some(event) = self.server.as_mut().and_then(|s| s.done.take()) else { return false };
        self.tell_server(event);
        true
    }

    pub fn work_site(&mut self, i: usize) -> bool {
        let Some(event) = self.sites[i].as_mut().and_then(|s| s.done.take()) else { return false };
        self.tell_site(i, event);
        true
    }

    /// Lets a site's worker do all but answer a round.
    pub fn work_site_unless_stepping(&mut self, i: usize) -> bool {
        let stepping = self.sites[i].as_ref().is_some_and(|s| matches!(s.done, Some(SiteEvent::Stepped { .. })));
        !stepping && self.work_site(i)
    }

    fn may_progress(&mut self, choice: u32, i: usize) {
        match choice {
            0 => self.deliver_to_server(i),
            1 => self.deliver_to_site(i),
            2 => self.work_server(),
            _ => self.work_site(i),
        };
    }

    /// Brings back what is down, but for sites that are gone for good; an operator starts a site that ended early anew.
    fn mend(&mut self, i: usize) {
        if self.server.is_none() {
            self.start_server();
        }
        if self.gone[i] {
            return;
        }
        if self.sites[i].as_ref().is_none_or(|s| s.ended.is_some()) {
            self.start_site(i);
        }
        self.connect(i);
    }

    pub fn is_over(&self) -> bool {
        let finished = |(i, s): (usize, &Option<SimSite>)| self.gone[i] || s.as_ref().is_some_and(|s| s.finished);
        self.generator.is_some() && self.sites.iter().enumerate().all(finished)
    }

    /// Plays a schedule: at first with so many faults in between, then undisturbed to the end, which must come.
    pub fn play(&mut self, seed: u64, faults: u32) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let n = self.sites.len();
        for _ in 0..faults {
            for _ in 0..rng.random_range(0..60_u32) {
                let (choice, i) = (rng.random_range(0..4), rng.random_range(0..n));
                self.may_progress(choice, i);
                if rng.random_range(0..8_u32) == 0 {
                    self.mend(rng.random_range(0..n));
                }
                self.let_time_pass(Duration::from_millis(rng.random_range(0..500)));
            }
            let i = rng.random_range(0..n);
            match rng.random_range(0..4_u32) {
                0 if self.generator.is_none() => self.kill_server(),
                1 => self.kill_site(i),
                2 => self.let_time_pass(self.patience.answer * 2),
                _ => self.cut(i),
            }
        }
        for i in std::mem::take(&mut self.doomed) {
            for _ in 0..rng.random_range(0..200_u32) {
                let (choice, i) = (rng.random_range(0..4), rng.random_range(0..n));
                self.may_progress(choice, i);
            }
            self.kill_site(i);
            self.gone[i] = true;
        }
        for step in 0..20_000_u32 {
            if self.is_over() {
                return;
            }
            if step.is_multiple_of(16) {
                (0..n).for_each(|i| self.mend(i));
            }
            let (choice, i) = (rng.random_range(0..4), rng.random_range(0..n));
            self.may_progress(choice, i);
            self.let_time_pass(Duration::from_millis(100));
        }
        panic!("the run does not end: {:?}", self.server.as_ref().map(|s| &s.machine));
    }

    /// Goes so many steps of a schedule in which nothing fails; says whether the run was still under way then.
    pub fn go(&mut self, seed: u64, steps: u32) -> bool {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let n = self.sites.len();
        (0..n).for_each(|i| self.mend(i));
        for _ in 0..steps {
            let (choice, i) = (rng.random_range(0..4), rng.random_range(0..n));
            self.may_progress(choice, i);
        }
        self.generator.is_none()
    }

    fn let_time_pass(&mut self, time: Duration) {
        self.now += time;
        let idle = self.server.as_ref().filter(|s| s.done.is_none());
        if idle.and_then(|s| s.machine.poll_timeout()).is_some_and(|due| due <= self.now) {
            self.tell_server(ServerEvent::Tick);
            let next = self.server.as_ref().and_then(|s| s.machine.poll_timeout());
            assert!(next.is_none_or(|due| due > self.now), "a timer that has run off must not stay: {next:?} at {:?}", self.now);
        }
    }
}

/// The generator of a run that nothing disturbs.
pub fn undisturbed(run: &RunDescription, cases: &[u32]) -> u64 {
    let mut world = World::new(run.clone(), cases);
    world.play(0, 0);
    world.generator.expect("it ended")
}
