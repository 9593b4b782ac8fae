use serde::{Deserialize, Serialize};

/// Normalisation between a convolution and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Instance norm, over each image separately, without weights (as in the follow-up papers; our default).
    Instance,
    /// Batch norm, with weights and running statistics (as in the public code).
    Batch,
}

/// How a generator upsamples by a factor of 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upsample {
    /// A transposed convolution (the public code); its uneven overlap causes checkerboard artefacts.
    Transposed,
    /// Nearest-neighbour upsampling, then a convolution.
    ///
    /// # Reference
    /// Odena et al., Distill 2016.
    Nearest,
}

/// Where the noise z of equation 1 enters an image generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseInjection {
    /// As dropout in the residual blocks (the public code).
    Dropout,
    /// As a noise plane at every scale, with one learnt weight per channel; and as a latent code per image that scales
    /// and shifts channels in the residual blocks and after them, so that texture, colour and contrast can differ
    /// between images of the same condition. No dropout: its effect on single values in the blocks remains in the image
    /// as speckle.
    ///
    /// # Reference
    /// Karras et al., CVPR 2019 (noise inputs); Perez et al., AAAI 2018 (modulation).
    #[serde(alias = "every_scale")]
    MultiScale {
        /// Length of the code.
        code: i64,
    },
}

/// Where an image generator receives its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conditioning {
    /// At its first layer (the public code).
    #[serde(alias = "first")]
    Input,
    /// At its first layer and at every upsampling step: channels are scaled and shifted by the condition around each
    /// pixel, so that edges follow the condition.
    ///
    /// # Reference
    /// Park et al., CVPR 2019, without the hidden layer.
    #[serde(alias = "every_scale")]
    Spade,
}

/// An image generator: convolution, two downsampling steps, residual blocks, two upsampling steps, tanh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// How it upsamples.
    pub upsample: Upsample,
    /// Where the noise enters.
    #[serde(alias = "variation")]
    pub noise: NoiseInjection,
    /// Where the condition enters.
    #[serde(alias = "guidance")]
    pub conditioning: Conditioning,
}

impl ResNetConfig {
    /// The paper's generator, with instance norm: width 64, 9 blocks, transposed convolutions, dropout as noise.
    ///
    /// # Example
    /// ```
    /// use asyndgan_models::{ResNetConfig, Upsample};
    /// let config = ResNetConfig::new(3, 1).with(|config| config.upsample = Upsample::Nearest);
    /// assert_eq!((config.width, config.blocks), (64, 9));
    /// ```
    pub fn new(condition_channels: i64, image_channels: i64) -> Self {
        Self {
            condition_channels,
            image_channels,
            width: 64,
            blocks: 9,
            norm: Norm::Instance,
            upsample: Upsample::Transposed,
            noise: NoiseInjection::Dropout,
            conditioning: Conditioning::Input,
        }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Configuration of a generator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GeneratorConfig {
    /// For images.
    ResNet(ResNetConfig),
    /// Fully connected, for data that are not images; noise is appended to the condition.
    #[serde(alias = "perceptron")]
    Mlp {
        /// Values of the condition.
        condition_channels: i64,
        /// Values of the output.
        image_channels: i64,
        /// Hidden units of each of the two hidden layers.
        width: i64,
        /// Noise values appended to the condition.
        noise: i64,
    },
}

impl GeneratorConfig {
    /// Rows and columns of an image must be a multiple of this, because they are halved and doubled.
    pub fn crop_factor(&self) -> u32 {
        match self {
            Self::ResNet(_) => 4,
            Self::Mlp { .. } => 1,
        }
    }
}

/// Configuration of a discriminator.
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
        /// Spectral normalisation: every weight is divided by its largest singular value, so that the first and the
        /// last layer do not amplify. A norm layer that follows removes the scale anyway; only the effective step size
        /// of the weights changes.
        ///
        /// # Reference
        /// Miyato et al., ICLR 2018.
        spectral: bool,
    },
    /// A U-Net that predicts the class of every pixel in the condition, and whether the pixel is real or synthetic.
    ///
    /// # Reference
    /// Schönfeld et al., ICLR 2021, with the classes of Hou et al., ICML 2022.
    #[serde(rename = "unet", alias = "segmenting")]
    UNet {
        /// Planes of the condition.
        #[serde(alias = "codes")]
        condition_channels: i64,
        /// Channels of the image.
        image_channels: i64,
        /// Channels after the first convolution.
        width: i64,
        /// Spectral normalisation: every weight is divided by its largest singular value.
        spectral: bool,
    },
    /// Fully connected, for data that are not images.
    #[serde(alias = "perceptron")]
    Mlp {
        /// Values of condition and image together.
        channels: i64,
        /// Hidden units of each of the two hidden layers.
        width: i64,
    },
}

impl DiscriminatorConfig {
    /// Minimum rows and columns of an image.
    pub fn crop_min(&self) -> u32 {
        match self {
            Self::Patch { .. } => 24,
            Self::UNet { .. } => 16,
            Self::Mlp { .. } => 0,
        }
    }
}

/// Configuration of a segmenter (U-Net).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmenterConfig {
    /// Channels of the image.
    pub image_channels: i64,
    /// Classes, background included.
    pub classes: i64,
    /// Channels of the first level; 64 in the paper, doubled by each of the `depth` downsampling steps.
    pub width: i64,
    /// Downsampling steps; 4 in the paper.
    pub depth: usize,
}

impl SegmenterConfig {
    /// The paper's segmenter: width 64, four downsampling steps. `classes` includes the background.
    pub fn new(image_channels: i64, classes: i64) -> Self {
        Self { image_channels, classes, width: 64, depth: 4 }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weight files of the first version have the earlier names.
    #[test]
    fn the_names_of_the_first_version_are_read() {
        let generator = r#"{"kind":"res_net","condition_channels":2,"image_channels":1,"width":8,"blocks":2,"norm":"instance",
            "upsample":"nearest","variation":{"every_scale":{"code":4}},"guidance":"every_scale"}"#;
        let expected = ResNetConfig::new(2, 1).with(|network| {
            (network.width, network.blocks, network.upsample) = (8, 2, Upsample::Nearest);
            (network.noise, network.conditioning) = (NoiseInjection::MultiScale { code: 4 }, Conditioning::Spade);
        });
        assert_eq!(serde_json::from_str::<GeneratorConfig>(generator).expect("read"), GeneratorConfig::ResNet(expected));
        assert_eq!(serde_json::from_str::<Conditioning>(r#""first""#).expect("read"), Conditioning::Input);
        let mlp = r#"{"kind":"perceptron","condition_channels":1,"image_channels":1,"width":8,"noise":4}"#;
        let expected = GeneratorConfig::Mlp { condition_channels: 1, image_channels: 1, width: 8, noise: 4 };
        assert_eq!(serde_json::from_str::<GeneratorConfig>(mlp).expect("read"), expected);
        let unet = r#"{"kind":"segmenting","codes":2,"image_channels":1,"width":8,"spectral":false}"#;
        let expected = DiscriminatorConfig::UNet { condition_channels: 2, image_channels: 1, width: 8, spectral: false };
        assert_eq!(serde_json::from_str::<DiscriminatorConfig>(unet).expect("read"), expected);
        let mlp = r#"{"kind":"perceptron","channels":2,"width":8}"#;
        assert_eq!(serde_json::from_str::<DiscriminatorConfig>(mlp).expect("read"), DiscriminatorConfig::Mlp { channels: 2, width: 8 });
    }
}
