use crate::{Augmentation, Losses, Payload, RunDescription, SiteId, SiteSummary};

/// The computing that a server's actions ask for; whoever drives a [`crate::Server`] hands it such a worker.
pub trait ServerWork {
    /// What the worker can fail with.
    type Error: std::fmt::Display;
    /// Rounds for which a checkpoint is held, ascending.
    fn checkpoints(&mut self) -> Vec<u64>;
    /// Takes the run's sites, in order: their condition codes and weights; restores the checkpoint of `rounds_done` unless 0.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn begin(&mut self, conditions: Vec<Payload>, weights: &[f64], rounds_done: u64) -> Result<(), Self::Error>;
    /// Makes one synthetic batch for every site.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn synthesize(&mut self, round: u64, draws: &[(Vec<u32>, Vec<Augmentation>)]) -> Result<Vec<Payload>, Self::Error>;
    /// One generator step on the weighted feedback, in site order.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn update(&mut self, round: u64, feedback: &[Payload], losses: &[Losses]) -> Result<(), Self::Error>;
    /// Keeps a checkpoint after `rounds_done` rounds.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Self::Error>;
}

/// The computing that a site's actions ask for.
pub trait SiteWork {
    /// What the worker can fail with.
    type Error: std::fmt::Display;
    /// Counts and shapes of the site's cases, and its checkpoints.
    fn summary(&mut self) -> SiteSummary;
    /// The condition codes of every case, `[cases, rows, columns]`.
    fn conditions(&mut self) -> Payload;
    /// Takes the run's description and place; restores the checkpoint of `rounds_done` unless 0.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn begin(&mut self, site: SiteId, run: &RunDescription, rounds_done: u64) -> Result<(), Self::Error>;
    /// One discriminator step, then the feedback of the updated discriminator.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn step(
        &mut self,
        round: u64,
        cases: &[u32],
        augmentations: &[Augmentation],
        synthetic: &Payload,
    ) -> Result<(Payload, Losses), Self::Error>;
    /// Keeps a checkpoint after `rounds_done` rounds.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Self::Error>;
}
