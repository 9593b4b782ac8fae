/// What can stop an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to learn from.
    #[error("no training images for the segmenter")]
    NoCases,
    /// A prepared case cannot be read.
    #[error(transparent)]
    Medio(#[from] asyndgan_medio::Error),
    /// The loss is no number any more.
    #[error("the segmenter's loss at step {step} is not finite; lower the learning rate")]
    Diverged {
        /// Which step.
        step: u64,
    },
}
