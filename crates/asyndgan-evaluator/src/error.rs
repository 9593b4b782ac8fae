/// Errors that stop an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no training images.
    #[error("no training images for the segmenter")]
    NoCases,
    /// A prepared case cannot be read.
    #[error(transparent)]
    Data(#[from] asyndgan_data::Error),
    /// The loss is not finite.
    #[error("the segmenter's loss at step {step} is not finite; lower the learning rate")]
    Diverged {
        /// The step.
        step: u64,
    },
}
