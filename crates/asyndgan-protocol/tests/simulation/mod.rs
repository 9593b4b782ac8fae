//! A server and sites in virtual time, with a network that cuts connections and machines that are killed: one seed, one
//! schedule.
//!
//! Networks are stood in for by hash chains: a generator is a hash of all that it learnt from, in order, so that two
//! generators are equal only if they saw the same.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use asyndgan_protocol::{
    AnswerDigest, Contribution, Dtype, Error, History, Message, Payload, RunDescription, Server, ServerAction, ServerEvent, ServerPolicy,
    Site, SiteAction, SiteEvent, SiteId, SitePolicy, SiteRandomness, SiteSecret, SiteSetup, SiteSummary, Symmetry, Timeouts, Waiting,
};

pub mod allowed;
pub mod schedule;
pub mod work;

pub fn run(rounds: u64, waiting: Waiting) -> RunDescription {
    RunDescription::new("simulation", rounds).with(|run| {
        run.seed = 3;
        run.size = 3;
        run.crop = 2;
        run.symmetry = Symmetry::Turns;
        run.checkpoint_every = 3;
        run.waiting = waiting;
    })
}

pub fn codes(site: usize, cases: u32) -> Payload {
    Payload::new(vec![cases, 3, 3], Dtype::U8, vec![site as u8; 9 * cases as usize])
}

pub fn summary(site: usize, cases: u32) -> SiteSummary {
    SiteSummary { cases, image_dims: vec![1, 3, 3], conditions_sha256: codes(site, cases).sha256() }
}

/// Round, digest and cases of an answer, as a journal keeps them.
type Journaled = (u64, AnswerDigest, Vec<u32>);

pub struct SimSite {
    pub machine: Site,
    pub cases: u32,
    disk: BTreeMap<u64, u64>,
    discriminator: u64,
    done: Option<SiteEvent>,
    /// The answer that is about to be sent.
    answer: Option<Journaled>,
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

/// A connection as a carrier makes it: what comes next, in order, at either end. An end sends to the connection that it
/// knows of.
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
    pub policy: ServerPolicy,
    /// Sites refuse to answer anything new about a round that they answered before: a server that goes back honestly
    /// does not ask for it.
    pub strict: bool,
    pub sites: Vec<Option<SimSite>>,
    cases: Vec<u32>,
    disks: Vec<BTreeMap<u64, u64>>,
    /// Of each site; they outlive its process.
    journals: Vec<Vec<Journaled>>,
    pub server: Option<SimServer>,
    server_disk: (BTreeMap<u64, u64>, BTreeMap<SiteId, SiteSummary>),
    lines: Vec<Line>,
    pub now: Duration,
    /// Every generator step: its round, and who contributed.
    pub updates: Vec<(u64, Vec<Contribution>)>,
    pub dismissed: Vec<(SiteId, Error)>,
    pub keeps: Vec<SiteId>,
    /// Who lost their state: the round, and the checkpoint that they go on with.
    pub lost: Vec<(SiteId, u64, u64)>,
    /// Sites that never come back.
    pub gone: Vec<bool>,
    /// The rounds that the privacy budget of each site allows.
    pub budgets: Vec<Option<u64>>,
    /// Sites that have left in order, as the server has stored them, with the first round without each.
    pub retired: Vec<(SiteId, u64)>,
    /// Sites that are lost for good in the midst of the schedule.
    pub doomed: Vec<usize>,
    /// After so many more actions of its machine the server is killed, before it performs the next one.
    pub server_dies_in: Option<u32>,
    /// The same for each site.
    pub site_dies_in: Vec<Option<u32>>,
    pub generator: Option<u64>,
    /// Every site left before there was a result.
    pub all_retired: bool,
}

impl World {
    pub fn new(run: RunDescription, cases: &[u32]) -> Self {
        let strict = run.waiting == Waiting::All;
        let timeouts = Timeouts { answer: Duration::from_hours(1), absence: Duration::from_hours(1000) };
        let mut world = Self {
            run,
            policy: ServerPolicy::unrestricted(timeouts),
            strict,
            sites: cases.iter().map(|_| None).collect(),
            cases: cases.into(),
            disks: cases.iter().map(|_| BTreeMap::new()).collect(),
            journals: cases.iter().map(|_| Vec::new()).collect(),
            server: None,
            server_disk: (BTreeMap::new(), BTreeMap::new()),
            lines: cases.iter().map(|_| Line::default()).collect(),
            now: Duration::ZERO,
            updates: Vec::new(),
            dismissed: Vec::new(),
            keeps: Vec::new(),
            lost: Vec::new(),
            gone: vec![false; cases.len()],
            budgets: vec![None; cases.len()],
            retired: Vec::new(),
            doomed: Vec::new(),
            server_dies_in: None,
            site_dies_in: vec![None; cases.len()],
            generator: None,
            all_retired: false,
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
        let retired: Vec<SiteId> = self.retired.iter().map(|r| r.0).collect();
        let machine = Server::new(self.run.clone(), self.cases.len() as u32, self.policy, &held, known, &retired);
        self.server = Some(SimServer { machine, disk, kept, generator: 0, done: None, waiting: VecDeque::new(), finished: false });
        self.drive_server();
    }

    pub fn start_site(&mut self, i: usize) {
        let mut history = History::new((0..self.cases[i]).collect());
        self.journals[i].iter().for_each(|(round, answer, cases)| history.add(*round, *answer, cases));
        self.sites[i] = Some(SimSite {
            machine: Site::new(SiteSetup {
                policy: SitePolicy::unrestricted().with(|policy| policy.repeated_rounds_max = if self.strict { 0 } else { u64::MAX }),
                summary: summary(i, self.cases[i]),
                randomness: SiteRandomness::Secret(SiteSecret::new([i as u8; 32])),
                history,
            }),
            cases: self.cases[i],
            disk: self.disks[i].clone(),
            discriminator: 0,
            done: None,
            answer: None,
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

    /// A site's disk fails, or it is started in another folder.
    pub fn lose_disk(&mut self, i: usize) {
        self.kill_site(i);
        self.disks[i].clear();
        self.journals[i].clear();
    }

    /// While the server is down, its operator gives a site's place to another one.
    pub fn replace_site(&mut self, i: usize) {
        assert!(self.server.is_none());
        self.lose_disk(i);
        self.server_disk.1.remove(&SiteId(i as u32));
    }

    /// A site's checkpoints.
    pub fn disk(&self, i: usize) -> BTreeMap<u64, u64> {
        self.disks[i].clone()
    }

    pub fn put_disk(&mut self, i: usize, disk: BTreeMap<u64, u64>) {
        self.disks[i] = disk;
    }

    /// Restores a server's folder from a backup that was made at some round.
    pub fn restore_server(&mut self, backup: &(BTreeMap<u64, u64>, BTreeMap<SiteId, SiteSummary>)) {
        self.kill_server();
        self.server_disk = backup.clone();
    }

    /// A copy of the server's folder.
    pub fn backup_server(&self) -> (BTreeMap<u64, u64>, BTreeMap<SiteId, SiteSummary>) {
        self.server_disk.clone()
    }

    /// Checkpoints on the server's disk.
    pub fn server_checkpoints(&self) -> Vec<u64> {
        self.server_disk.0.keys().copied().collect()
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
}
