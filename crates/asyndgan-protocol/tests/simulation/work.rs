//! Actions of the server and the sites, and their results.

use asyndgan_protocol::{
    CHECKPOINTS_KEPT, DiscriminatorFamily, Draw, Dtype, Error, Losses, Message, Payload, RequestedTraining, ServerAction, ServerEvent,
    SiteAction, SiteEvent,
};

use super::{Arrival, World, codes};

/// A batch of one image of 2 x 2 that spells a number.
fn spelled(number: u64) -> Payload {
    let bytes: Vec<u8> = (0..4).flat_map(|k| (f32::from((number >> (16 * k)) as u16) / 65536.0).to_le_bytes()).collect();
    Payload::new(vec![1, 1, 2, 2], Dtype::F32, bytes)
}

fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |h, &p| (h ^ p).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23))
}

pub fn learning() -> RequestedTraining {
    RequestedTraining {
        family: DiscriminatorFamily::UNet,
        width: 8,
        spectral_norm: false,
        learning_rate: 1e-3,
        betas: [0.5, 0.999],
        augmentation: 0.5,
        memory_bytes: 0,
        privacy: None,
    }
}

fn read(payload: &Payload) -> u64 {
    hash(&payload.bytes.iter().map(|&b| u64::from(b)).collect::<Vec<_>>())
}

/// Counts down to a kill; whether it comes now.
fn is_due(countdown: &mut Option<u32>) -> bool {
    match countdown {
        Some(0) => countdown.take().is_some(),
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl World {
    pub fn tell_server(&mut self, event: ServerEvent) {
        let now = self.now;
        let Some(server) = &mut self.server else { return };
        match server.machine.handle_event(now, event) {
            Err(Error::AllRetired) => self.all_retired = true,
            result => result.expect("the run goes on"),
        }
        self.drive_server();
    }

    pub(super) fn drive_server(&mut self) {
        let Some(server) = &mut self.server else { return };
        server.waiting.extend(std::iter::from_fn(|| server.machine.poll_action()));
        while server.done.is_none() {
            let Some(action) = server.waiting.pop_front() else { break };
            if is_due(&mut self.server_dies_in) && self.generator.is_none() {
                self.kill_server();
                return;
            }
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
                ServerAction::Joined { .. } | ServerAction::Prepare { .. } => {}
                ServerAction::Retired { site, round, .. } => self.retired.push((site, round)),
                ServerAction::StateLost { site, round, restored } => self.lost.push((site, round, restored)),
                ServerAction::StoreConditions { site, summary, conditions } => {
                    let sound = conditions.decompressed().is_ok_and(|c| c.sha256() == summary.conditions_sha256);
                    if sound {
                        self.keeps.push(site);
                        server.kept.insert(site, summary);
                        self.server_disk.1 = server.kept.clone();
                    }
                    server.done = Some(ServerEvent::ConditionsStored {
                        site,
                        fault: (!sound).then(|| "masks that are not those of its summary".into()),
                    });
                }
                ServerAction::Begin { rounds_done } => {
                    server.generator = if rounds_done == 0 { 1 } else { server.disk[&rounds_done] };
                    server.done = Some(ServerEvent::Begun { norms: Vec::new() });
                }
                ServerAction::Synthesize { round, draws } => {
                    let one = |d: &Draw| spelled(hash(&[server.generator, round, d.site.0.into(), d.cases[0].into()]));
                    server.done = Some(ServerEvent::Synthesized { synthetic: draws.iter().map(one).collect() });
                }
                ServerAction::Update { round, contributions } => {
                    for c in &contributions {
                        server.generator = hash(&[
                            server.generator,
                            round,
                            c.round,
                            c.draw.site.0.into(),
                            (c.weight * c.scale).to_bits(),
                            read(&c.feedback),
                        ]);
                    }
                    self.updates.push((round, contributions));
                    server.done = Some(ServerEvent::Updated);
                }
                ServerAction::Checkpoint { rounds_done } => {
                    server.disk.insert(rounds_done, server.generator);
                    while server.disk.range(..=rounds_done).count() > CHECKPOINTS_KEPT {
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
            if is_due(&mut self.site_dies_in[i]) {
                self.kill_site(i);
                return;
            }
            match action {
                SiteAction::Send(message) => {
                    if matches!(message, Message::Feedback { .. }) {
                        self.journals[i].extend(site.answer.take());
                    }
                    site.sent.push(message.clone());
                    if self.lines[i].up && self.lines[i].at_site == self.lines[i].number {
                        self.lines[i].to_server.push_back(Arrival::Message(Message::decode(&message.encode()).expect("round trip")));
                    }
                }
                SiteAction::Inspect { .. } => site.done = Some(SiteEvent::Inspected { training: learning() }),
                SiteAction::Consent { .. } => site.done = Some(SiteEvent::Consented),
                SiteAction::LoadState { conditions_wanted, .. } => {
                    let checkpoints = site.disk.keys().copied().collect();
                    site.done = Some(SiteEvent::StateLoaded {
                        checkpoints,
                        conditions: conditions_wanted.then(|| codes(i, site.cases).compressed()),
                    });
                }
                SiteAction::Begin { rounds_done, .. } => {
                    site.discriminator = if rounds_done == 0 { i as u64 } else { site.disk[&rounds_done] };
                    site.done = Some(SiteEvent::Begun);
                }
                SiteAction::Prepare { round, .. } | SiteAction::Step { round, .. }
                    if self.budgets[i].is_some_and(|rounds| round >= rounds) =>
                {
                    site.done = Some(SiteEvent::BudgetSpent { reason: "its budget is spent".into() });
                }
                SiteAction::Prepare { .. } => {}
                SiteAction::Step { round, synthetic, draw, answer } => {
                    site.answer = Some((round, answer, draw.real.cases.clone()));
                    site.discriminator = hash(&[site.discriminator, round, read(&synthetic), draw.real.cases[0].into()]);
                    let losses = Losses { discriminator: 0.5, generator: i as f32 };
                    site.done = Some(SiteEvent::Stepped { feedback: spelled(hash(&[site.discriminator])), losses });
                }
                SiteAction::Checkpoint { rounds_done } => {
                    site.disk.insert(rounds_done, site.discriminator);
                    while site.disk.range(..=rounds_done).count() > CHECKPOINTS_KEPT + 1 {
                        site.disk.pop_first();
                    }
                    self.disks[i] = site.disk.clone();
                }
                SiteAction::Finished => {
                    site.finished = true;
                    self.cut(i);
                    return;
                }
                SiteAction::Retired { reason } | SiteAction::Ended { reason } => {
                    site.ended = Some(reason);
                    self.cut(i);
                    return;
                }
            }
        }
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
}
