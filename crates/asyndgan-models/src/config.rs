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

/// How a generator doubles rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upsample {
    /// A transposed convolution (the public code); its uneven overlap shows as a checkerboard.
    Transposed,
    /// Every pixel four times, then a convolution.
    ///
    /// # Reference
    /// Odena et al., Distill 2016.
    Nearest,
}

/// Where z of equation 1 enters a generator of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variation {
    /// As dropout in the residual blocks (the public code).
    Dropout,
    /// As a plane of noise at every scale, with a weight a channel that is learnt; and as a code for the whole image that scales and
    /// shifts channels in the blocks and behind them, so that texture, colour and contrast can differ between images of one condition.
    /// No dropout: what it does to single values in the blocks stays in the image as speckle.
    ///
    /// # Reference
    /// Karras et al., CVPR 2019 (noise inputs); Perez et al., AAAI 2018 (modulation).
    EveryScale {
        /// Values of the code.
        code: i64,
    },
}

/// Where a generator of images is told its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guidance {
    /// At its first layer (the public code).
    First,
    /// There, and where it doubles rows and columns: channels are scaled and shifted by what the condition shows around a pixel, so that
    /// edges lie where the condition has them.
    ///
    /// # Reference
    /// Park et al., CVPR 2019, without their hidden layer.
    EveryScale,
}

/// A generator of images: convolution, two halvings, residual blocks, two doublings, tanh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResNetConfig {
    /// Planes of the condition.
    pub condition_channels: i64,
    /// Channels of the image.
    pub image_channels: i64,
    /// Channels after the first convolution; 64 in the paper.
    pub width: i64,
    /// Residual blocks; 9 in the paper.
    pub blocks: usize,
    /// Normalisation.
    pub norm: Norm,
    /// How it doubles rows and columns.
    pub upsample: Upsample,
    /// Where z enters.
    pub variation: Variation,
    /// Where the condition enters.
    pub guidance: Guidance,
}

/// What a generator is built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GeneratorConfig {
    /// For images.
    ResNet(ResNetConfig),
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
        /// Every weight is divided by its largest singular value, so that the first and the last layer do not amplify; where a norm follows,
        /// it takes the scale away anyhow, and what changes is the size of the weights' steps.
        ///
        /// # Reference
        /// Miyato et al., ICLR 2018.
        spectral: bool,
    },
    /// A U-Net that says of every pixel which class of the condition it is, and whether it is real or synthetic.
    ///
    /// # Reference
    /// Schönfeld et al., ICLR 2021, with the classes of Hou et al., ICML 2022.
    Segmenting {
        /// Planes of the condition.
        codes: i64,
        /// Channels of the image.
        image_channels: i64,
        /// Channels after the first convolution.
        width: i64,
        /// Every weight is divided by its largest singular value.
        spectral: bool,
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
