//! Schedules: who goes next, what fails and when, all from one seed.

use std::time::Duration;

use asyndgan_protocol::{RunDescription, ServerEvent};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{SimSite, World};

impl World {
    fn may_progress(&mut self, choice: u32, i: usize) {
        match choice {
            0 => self.deliver_to_server(i),
            1 => self.deliver_to_site(i),
            2 => self.work_server(),
            _ => self.work_site(i),
        };
    }

    /// Brings back what is down, but for sites that are gone for good; an operator restarts a site that ended early.
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
        self.all_retired || self.generator.is_some() && self.sites.iter().enumerate().all(finished)
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
            match rng.random_range(0..6_u32) {
                0 if self.generator.is_none() => self.kill_server(),
                1 => self.kill_site(i),
                2 => self.server_dies_in = Some(rng.random_range(0..40)),
                3 => self.site_dies_in[i] = Some(rng.random_range(0..20)),
                4 => self.let_time_pass(self.policy.timeouts.answer * 2),
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

    pub fn let_time_pass(&mut self, time: Duration) {
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
