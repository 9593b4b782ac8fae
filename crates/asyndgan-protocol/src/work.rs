use crate::{Draw, Losses, Payload, RequestedTraining, RoundDraw, RunDescription, SiteId, SiteRandomness, SiteSummary};

/// One site's answer, as input of a generator step.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    /// The round of the answered synthetic images: the current one, or an earlier one under bounded staleness.
    pub round: u64,
    /// The site and its cases.
    pub draw: Draw,
    /// The weight pi of the site among the contributing sites. The worker multiplies the feedback by it.
    pub weight: f64,
    /// The gradient.
    pub feedback: Payload,
    /// The Euclidean norm of the feedback as received.
    pub norm: f64,
    /// The factor that the worker multiplies the feedback by, too: less than 1 if it was too large compared with the
    /// other sites or the site's own past.
    pub scale: f64,
    /// Scalar losses, if the site's policy allows them to leave.
    pub losses: Option<Losses>,
}

/// Whether a site can take part in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// The privacy budget of the site's patients does not allow another round. The site leaves the run in order.
    BudgetSpent {
        /// A human-readable reason, which the server receives.
        reason: String,
    },
}

/// The computations behind a server's actions. The driver of a [`crate::Server`] calls such a worker.
pub trait ServerWork {
    /// The worker's error type.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Rounds with an intact checkpoint, ascending.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn checkpoints(&mut self) -> Result<Vec<u64>, Self::Error>;
    /// Sites whose conditions are already stored.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn stored_conditions(&mut self) -> Result<Vec<(SiteId, SiteSummary)>, Self::Error>;
    /// Sites that have left the run in order, with the first round without each. By default, none is stored.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn retired(&mut self) -> Result<Vec<(SiteId, u64)>, Self::Error> {
        Ok(Vec::new())
    }
    /// Stores that a site has left the run in order, so that a restarted server does not wait for it. By default,
    /// nothing is stored.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn retire(&mut self, site: SiteId, round: u64) -> Result<(), Self::Error> {
        let _ = (site, round);
        Ok(())
    }
    /// Decompresses a site's conditions, checks them against its summary, and stores them for the whole run. Returns
    /// what is wrong with them, if anything: that is the site's fault and does not stop the worker.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn store_conditions(&mut self, site: SiteId, summary: &SiteSummary, conditions: Payload) -> Result<Option<String>, Self::Error>;
    /// Creates the generator, or restores the checkpoint of `rounds_done` unless that is 0. Returns the norms of the
    /// sites' feedback (times their scale) in the last rounds, one row per round; not finite if a site did not
    /// contribute. Without rows, feedback is not compared with that of earlier rounds.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn begin(&mut self, rounds_done: u64) -> Result<Vec<Vec<f32>>, Self::Error>;
    /// Prepares the next round while the sites compute. Does not change any result.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn prepare(&mut self, round: u64, draws: &[Draw]) -> Result<(), Self::Error>;
    /// Generates one synthetic batch per draw.
    ///
    /// # Shapes
    /// [`RunDescription::batch_dims`] of the site's image dimensions, in the element type `synthetic_dtype` of the run.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn synthesize(&mut self, round: u64, draws: &[Draw]) -> Result<Vec<Payload>, Self::Error>;
    /// Performs one generator step on the sum of the feedback of all contributions, each times its `weight` and
    /// `scale`, in site order.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn update(&mut self, round: u64, contributions: &[Contribution]) -> Result<(), Self::Error>;
    /// Keeps a checkpoint after `rounds_done` rounds.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Self::Error>;
}

/// The computations behind a site's actions.
pub trait SiteWork {
    /// The worker's error type.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Counts and shapes of the site's cases.
    fn summary(&mut self) -> SiteSummary;
    /// The label maps of the conditions of all cases, `[cases, rows, columns]`.
    fn conditions(&mut self) -> Payload;
    /// An arbitrary patient number for each case; all cases with an unknown patient share one number.
    fn patients(&mut self) -> Vec<u32>;
    /// Where the site's own random numbers come from: a secret if somebody else operates the server.
    fn randomness(&self) -> SiteRandomness;
    /// Reads the training that a run requests, without building the networks.
    ///
    /// # Errors
    /// If the request cannot be read, or cannot be trained at this site.
    fn inspect(&mut self, site: SiteId, run: &RunDescription) -> Result<RequestedTraining, Self::Error>;
    /// Rounds with an intact checkpoint of this run, ascending.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn checkpoints(&mut self, site: SiteId, run: &RunDescription) -> Result<Vec<u64>, Self::Error>;
    /// Creates the networks, or restores the checkpoint of `rounds_done` unless that is 0.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn begin(&mut self, site: SiteId, run: &RunDescription, rounds_done: u64) -> Result<(), Self::Error>;
    /// Does the work of a round that does not need its synthetic images. Does not change any result, and may be called
    /// more than once for a round: in advance, and again before [`SiteWork::step`]. Without a privacy budget, a site is
    /// always ready.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn prepare(&mut self, round: u64, draw: &RoundDraw) -> Result<Readiness, Self::Error>;
    /// Performs one discriminator step, then computes the feedback of the updated discriminator: the gradient of the
    /// generator's loss with respect to `synthetic`.
    ///
    /// # Shapes
    /// `synthetic` and the feedback: [`RunDescription::batch_dims`], the feedback in the element type `feedback_dtype`
    /// of the run.
    ///
    /// # Errors
    /// An error that stops the worker, or one of [`SiteWork::budget_spent`].
    fn step(&mut self, round: u64, draw: &RoundDraw, synthetic: &Payload) -> Result<(Payload, Losses), Self::Error>;
    /// The reason, if an error of [`SiteWork::step`] means that the privacy budget ended within the round. The site
    /// then leaves the run in order, as with [`Readiness::BudgetSpent`]. By default, no error means this.
    fn budget_spent(error: &Self::Error) -> Option<String> {
        let _ = error;
        None
    }
    /// Keeps a checkpoint after `rounds_done` rounds.
    ///
    /// # Errors
    /// An error that stops the worker.
    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Self::Error>;
}
