use tch::Tensor;

use crate::{
    Parameters,
    layer::{Conv, Pass, Plan, Sequential, channels_last},
    parameters::Layout,
};

/// A U-Net that predicts the class of every pixel in the condition, and whether the pixel is real or synthetic.
///
/// # Reference
/// Schönfeld et al., ICLR 2021, with three downsampling steps and without residuals.
#[derive(Debug)]
pub(crate) struct UNetDiscriminator {
    down: Vec<Sequential>,
    up: Vec<Sequential>,
    head: Sequential,
}

impl UNetDiscriminator {
    pub(crate) fn new(condition_channels: i64, image_channels: i64, width: i64, spectral: bool, layout: &mut Layout) -> Self {
        let conv = |from, to, kernel, stride| Plan::conv(Conv { from, to, kernel, stride, padding: 1, bias: true }, spectral);
        let mut row = |name: &str, plans| Sequential::new(name, plans, layout, true);
        let widths = [image_channels, width, 2 * width, 4 * width];
        let mut down = Vec::new();
        for (level, pair) in widths.windows(2).enumerate() {
            down.push(row(&format!("down.{level}"), vec![conv(pair[0], pair[1], 4, 2), Plan::LeakyRelu]));
        }
        let mut up = Vec::new();
        for level in (0..3).rev() {
            // From below, and what the way down found here.
            let (from, to) = (widths[level + 1] + widths[level], widths[level.max(1)]);
            up.push(row(&format!("up.{level}"), vec![conv(from, to, 3, 1), Plan::LeakyRelu]));
        }
        let head = row("head", vec![conv(width, 2 * (condition_channels + 1), 3, 1)]);
        Self { down, up, head }
    }

    pub(crate) fn update_spectral_norm(&self, parameters: &Parameters) {
        self.down.iter().chain(&self.up).chain([&self.head]).for_each(|row| row.update_spectral_norm(parameters));
    }

    /// # Shapes
    /// `[batch, image channels, rows, columns]` to `[batch, 2 (condition channels + 1), rows, columns]`, rows and
    /// columns at least 8.
    pub(crate) fn forward(&self, image: &Tensor, parameters: &Parameters, pass: &mut Pass) -> Tensor {
        let mut found = vec![channels_last(image)];
        for row in &self.down {
            found.push(row.forward(&found[found.len() - 1], parameters, pass));
        }
        let mut x = found.pop().expect("a bottom");
        for row in &self.up {
            let beside = found.pop().expect("as many levels up as down");
            let wide = x.upsample_nearest2d([beside.size()[2], beside.size()[3]], None, None);
            x = row.forward_concatenated(&[&wide, &beside], parameters, pass);
        }
        self.head.forward(&x, parameters, pass)
    }
}
