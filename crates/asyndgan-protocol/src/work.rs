use crate::{Draw, Learning, Losses, Payload, RoundDraw, RunDescription, SiteId, SiteRandomness, SiteSummary};

/// One site's answer, as the generator's step takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    /// The round whose synthetic images were answered: the present one, or under bounded staleness an earlier one.
    pub round: u64,
    /// Whose, and of which of its cases.
    pub draw: Draw,
    /// The weight pi of the site among those that contribute.
    pub weight: f64,
    /// The gradient.
    pub feedback: Payload,
    /// The Euclidean norm of the feedback as it came.
    pub norm: f64,
    /// The factor on the feedback: less than 1 where it was too large beside the others' or the site's own past.
    pub scale: f64,
    /// Scalar losses, as far as the site lets them out.
    pub losses: Option<Losses>,
}

/// The computing that a server's actions ask for; whoever drives a [`crate::Server`] hands it such a worker.
pub trait ServerWork {
    /// What the worker can fail with.
    type Error: std::fmt::Display;
    /// Rounds for which a sound checkpoint is held, ascending.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn checkpoints(&mut self) -> Result<Vec<u64>, Self::Error>;
    /// Sites whose conditions are held from before.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn known(&mut self) -> Result<Vec<(SiteId, SiteSummary)>, Self::Error>;
    /// Inflates a site's conditions, checks them against its summary, and keeps them for the whole run. What is wrong with them is the
    /// answer: that is the site's fault, and does not stop the worker.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn keep(&mut self, site: SiteId, summary: &SiteSummary, conditions: Payload) -> Result<Option<String>, Self::Error>;
    /// Makes the generator, or restores the checkpoint of `rounds_done` unless 0. Returns the norms of the sites' feedback (times their
    /// scale) in the last rounds, a row per round, not finite where a site did not contribute.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn begin(&mut self, rounds_done: u64) -> Result<Vec<Vec<f32>>, Self::Error>;
    /// Gets ready what the next round will need, while sites work; changes no result.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn prepare(&mut self, round: u64, draws: &[Draw]) -> Result<(), Self::Error>;
    /// Makes one synthetic batch for every draw.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn synthesize(&mut self, round: u64, draws: &[Draw]) -> Result<Vec<Payload>, Self::Error>;
    /// One generator step on the weighted feedback, in site order.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn update(&mut self, round: u64, contributions: &[Contribution]) -> Result<(), Self::Error>;
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
    /// Counts and shapes of the site's cases.
    fn summary(&mut self) -> SiteSummary;
    /// The condition codes of every case, `[cases, rows, columns]`.
    fn conditions(&mut self) -> Payload;
    /// Which patient each case is of, as any number; one number for all cases whose patient is not known.
    fn patients(&mut self) -> Vec<u32>;
    /// Where the site's own random numbers come from: a secret wherever the server is somebody else.
    fn randomness(&self) -> SiteRandomness;
    /// Reads what a run asks this site to train, without building it.
    ///
    /// # Errors
    /// What of it cannot be read, or cannot be trained here.
    fn inspect(&mut self, site: SiteId, run: &RunDescription) -> Result<Learning, Self::Error>;
    /// Rounds for which a sound checkpoint of this run is held, ascending.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn checkpoints(&mut self, site: SiteId, run: &RunDescription) -> Result<Vec<u64>, Self::Error>;
    /// Makes networks, or restores the checkpoint of `rounds_done` unless 0.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn begin(&mut self, site: SiteId, run: &RunDescription, rounds_done: u64) -> Result<(), Self::Error>;
    /// Does what a round asks for before its synthetic images are here; changes no result.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn prepare(&mut self, round: u64, draw: &RoundDraw) -> Result<(), Self::Error>;
    /// One discriminator step, then the feedback of the updated discriminator.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn step(&mut self, round: u64, draw: &RoundDraw, synthetic: &Payload) -> Result<(Payload, Losses), Self::Error>;
    /// Keeps a checkpoint after `rounds_done` rounds.
    ///
    /// # Errors
    /// Whatever stops the worker.
    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Self::Error>;
}
