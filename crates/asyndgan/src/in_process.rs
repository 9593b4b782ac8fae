//! A whole run in one process: the server and the sites are the protocol's state machines, connected in memory. Each
//! site runs on its own thread.

use std::{collections::BTreeMap, path::PathBuf, thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use asyndgan_models::set_threads;
use asyndgan_paper::{Arm, Run};
use asyndgan_protocol::{
    ConditionPolicy, PrivacyBudget, Role, RunDescription, ServerPolicy, SiteId, SitePolicy, SiteRandomness, SiteSecret, Timeouts, stream,
};
use asyndgan_training::{GanConfig, Pairs, SampledMasks, ServerTrainer, SiteOptions, SiteTrainer};
use asyndgan_transport::{Ledger, MemorySiteLink, ServerRecords, ServerRun, ServerRunEvent, SiteRecords, SiteRun, in_memory};
use tch::Device;

use crate::{configure, consortium::secret, shared_masks::shared_masks};

/// A site that does not answer within this time counts as lost; a round of the paper's size takes minutes on a slow
/// CPU. A lost site never returns: its thread has ended.
const TIMEOUTS: Timeouts = Timeouts { answer: Duration::from_hours(1), absence: Duration::ZERO };

/// Training with all sites in one process.
///
/// The result has the same bytes as that of sites on other machines whose random numbers follow from the run's seed
/// ([`SiteRandomness::Seed`]). Between hospitals they come from secrets: there, the real images of a round are not
/// those of its masks. With differential privacy, the noise comes from secrets in the folder of the checkpoints.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InProcess {
    /// The networks.
    pub networks: GanConfig,
    /// The run; its field `networks` must be the description of `networks`.
    pub run: RunDescription,
    /// Folder of the checkpoints. Training resumes from the latest one.
    pub checkpoints: PathBuf,
    /// Where networks compute.
    pub device: Device,
    /// Threads over which the server distributes the sites of a round.
    pub server_threads: u32,
    /// Which masks leave the sites. Deformations and combinations follow from the run's seed.
    pub masks: ConditionPolicy,
    /// The budget of the masks for each patient, if they are sampled.
    pub masks_budget: PrivacyBudget,
}

impl InProcess {
    /// A run on the CPU with one server thread.
    pub fn new(networks: GanConfig, run: RunDescription, checkpoints: impl Into<PathBuf>) -> Self {
        let (device, masks, masks_budget) = (Device::Cpu, ConditionPolicy::All, PrivacyBudget { epsilon: 2.0, delta: 1e-5 });
        Self { networks, run, checkpoints: checkpoints.into(), device, server_threads: 1, masks, masks_budget }
    }

    /// The run of a task with its settings: `AsynDGAN`, as an experiment trains it.
    ///
    /// # Example
    /// ```no_run
    /// use asyndgan::{in_process::InProcess, task_file::TaskFile};
    ///
    /// let run = TaskFile::read("task.toml")?.run(None, &[])?;
    /// let job = InProcess::of_run(&run, 0, "checkpoints");
    /// # Ok::<(), asyndgan::Error>(())
    /// ```
    pub fn of_run(run: &Run, seed: u64, checkpoints: impl Into<PathBuf>) -> Self {
        let (networks, description) =
            (configure::gan(run, Arm::AsynDgan), configure::description(run, Arm::AsynDgan, seed, run.settings.data.sites));
        let server_threads = configure::server_threads(run, Arm::AsynDgan);
        let masks = configure::masks(run, Arm::AsynDgan);
        let masks_budget = configure::masks_budget(run);
        Self { server_threads, masks, masks_budget, ..Self::new(networks, description, checkpoints) }
    }

    /// Trains to the end of the run with the images and masks of every site. `observe` is called when the run begins or
    /// resumes, and after every round, with the number of rounds done.
    ///
    /// # Errors
    /// If there is no site, the run describes other networks, or the server or a site fails.
    pub fn train(
        &self,
        sites: Vec<Pairs>,
        mut observe: impl FnMut(u64, &ServerRunEvent, &ServerTrainer),
    ) -> Result<(ServerTrainer, Ledger)> {
        let count = sites.len() as u32;
        ensure!(count > 0, "a run needs at least one site");
        ensure!(self.networks.description() == self.run.networks, "the run describes other networks than those that are trained");
        let (mut link, links) = in_memory(count);
        let mut server =
            ServerTrainer::new(self.networks.clone(), self.run.clone(), count, self.server_threads, &self.checkpoints, self.device)?;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(links)
                .zip(sites)
                .map(|((site, link), pairs)| scope.spawn(move || self.take_part(SiteId(site), pairs, link)))
                .collect();
            set_threads(self.server_threads);
            let (policy, mut records) = (ServerPolicy::unrestricted(TIMEOUTS), ServerRecords::default());
            let served =
                ServerRun::new(self.run.clone(), count, policy).serve(&mut link, &mut server, &mut records, |news, server, _| match news {
                    ServerRunEvent::Begun { rounds_done } | ServerRunEvent::Round { rounds_done, .. } => {
                        observe(rounds_done, &news, server);
                    }
                    _ => {}
                });
            drop(link);
            // A site's own error is more informative than the fact that it left.
            let mut site_errors = BTreeMap::new();
            for (i, thread) in (0..).zip(threads) {
                if let Err(error) = thread.join().unwrap_or_else(|_| Err(anyhow!("its thread panicked"))) {
                    site_errors.insert(SiteId(i), error);
                }
            }
            match served {
                Ok(_) => Ok((server, records.ledger)),
                Err(asyndgan_transport::Error::Protocol(asyndgan_protocol::Error::SiteLeft { site, round, reason })) => {
                    let own = site_errors.remove(&site).map(|error| error.context(site));
                    Err(own.unwrap_or_else(|| asyndgan_protocol::Error::SiteLeft { site, round, reason }.into()))
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    fn secret_of(&self, site: SiteId) -> Result<SiteSecret> {
        secret(&self.checkpoints.join(format!("secret-of-site-{}", site.0 + 1)))
    }

    fn take_part(&self, site: SiteId, pairs: Pairs, mut link: MemorySiteLink) -> Result<()> {
        set_threads(self.run.site_threads);
        let shared = match &self.networks.images {
            Some(images) => {
                let mut rng = stream(self.run.seed, Role::Recombination, site.0, 0);
                let needs_secret = self.masks == ConditionPolicy::Sampled;
                let noise = if needs_secret { self.secret_of(site)? } else { SiteSecret::new([0; 32]) };
                shared_masks(self.masks, &images.task, &pairs, &SampledMasks::new(self.masks_budget, noise), &mut rng)?
            }
            None => None,
        };
        let randomness = match self.networks.privacy {
            // The noise must not follow from the seed, which the record of the run has.
            Some(_) => SiteRandomness::Secret(self.secret_of(site)?),
            None => SiteRandomness::Seed,
        };
        let options = SiteOptions::default().with(|options| (options.shared, options.randomness) = (shared, randomness));
        let mut site = SiteTrainer::new(pairs, options, &self.checkpoints, self.device);
        // In one process all data are in one place already: nothing gives away what is not there.
        SiteRun::new(SitePolicy::unrestricted()).take_part(&mut link, &mut site, &mut SiteRecords::default(), |_, _, _| {})?;
        Ok(())
    }
}
