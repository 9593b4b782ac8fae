use serde::{Deserialize, Serialize};

/// Normalisation between a convolution and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Over each image by itself, without weights (the successors' choice, our default).
    Instance,
    /// Over the batch, with weights and running statistics (the public code).
    Batch,
}

/// What a generator is built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GeneratorConfig {
    /// Convolution, two halvings, residual blocks with dropout, two doublings, tanh.
    ResNet {
        /// Planes of the condition.
        condition_channels: i64,
        /// Channels of the image.
        image_channels: i64,
        /// Channels after the first convolution; 64 in the paper.
        width: i64,
        /// Residual blocks; 9 in the paper.
        blocks: usize,
        /// Normalisation.
        norm: Norm,
    },
    /// Fully connected, for data that are no images; noise is appended to the condition.
    Perceptron {
        /// Values of the condition.
        condition_channels: i64,
        /// Values made.
        image_channels: i64,
        /// Hidden units of each of the two hidden layers.
        width: i64,
        /// Noise values appended to the condition.
        noise: i64,
    },
}

/// What a discriminator is built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DiscriminatorConfig {
    /// The 70x70 `PatchGAN` on condition and image concatenated.
    Patch {
        /// Planes of condition and image together.
        channels: i64,
        /// Channels after the first convolution; 64 in the paper.
        width: i64,
        /// Normalisation.
        norm: Norm,
    },
    /// Fully connected, for data that are no images.
    Perceptron {
        /// Values of condition and image together.
        channels: i64,
        /// Hidden units of each of the two hidden layers.
        width: i64,
    },
}

/// What a segmenter (U-Net) is built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmenterConfig {
    /// Channels of the image.
    pub image_channels: i64,
    /// Classes, background included.
    pub classes: i64,
    /// Channels of the first level; 64 in the paper, doubled by each of `depth` halvings.
    pub width: i64,
    /// Halvings; 4 in the paper.
    pub depth: usize,
}
