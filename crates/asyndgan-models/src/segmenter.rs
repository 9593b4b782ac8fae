use rand::Rng;
use tch::{Device, Tensor};

use crate::{
    Noise, Norm, Parameters, SegmenterConfig,
    layer::{Conv, Mode, Pass, Plan, Sequential, channels_last},
    parameters::Layout,
};

/// A U-Net: convolution, ReLU and batch norm twice per level, dropout at the bottom, transposed convolutions for
/// upsampling.
///
/// # Reference
/// Ronneberger et al., MICCAI 2015; section 4.2.
#[derive(Debug)]
pub struct Segmenter {
    down: Vec<Sequential>,
    up: Vec<(Sequential, Sequential)>,
    head: Sequential,
    /// The weights.
    pub parameters: Parameters,
}

impl Segmenter {
    /// A segmenter with initial weights from `rng`: normal with variance 2 / fan-in.
    pub fn new(config: &SegmenterConfig, device: Device, rng: &mut impl Rng) -> Self {
        let mut layout = Layout::default();
        let width = |level: usize| config.width << level;
        let mut down = Vec::new();
        for level in 0..=config.depth {
            let from = if level == 0 { config.image_channels } else { width(level - 1) };
            let mut plans = double(from, width(level));
            if level == config.depth {
                plans.push(Plan::Dropout);
            }
            down.push(Sequential::new(&format!("down.{level}"), plans, &mut layout, true));
        }
        let mut up = Vec::new();
        for level in (0..config.depth).rev() {
            let widen =
                vec![Plan::ConvTranspose(Conv { from: width(level + 1), to: width(level), kernel: 2, stride: 2, padding: 0, bias: true })];
            let widen = Sequential::new(&format!("widen.{level}"), widen, &mut layout, true);
            up.push((widen, Sequential::new(&format!("up.{level}"), double(2 * width(level), width(level)), &mut layout, true)));
        }
        let head = vec![Plan::Conv(Conv { from: config.width, to: config.classes, kernel: 1, stride: 1, padding: 0, bias: true })];
        let head = Sequential::new("head", head, &mut layout, true);
        Self { down, up, head, parameters: layout.build(device, rng) }
    }

    /// Logits for training: batch statistics, dropout from `noise`.
    ///
    /// # Shapes
    /// `[batch, image channels, rows, columns]` to `[batch, classes, rows, columns]`, rows and columns multiples of
    /// `2^depth`.
    pub fn forward_train(&self, image: &Tensor, noise: &mut Noise) -> Tensor {
        self.forward(image, &mut Pass { mode: Mode::Train, noise, condition: None })
    }

    /// Logits for inference: running statistics, no dropout, no gradient.
    ///
    /// # Shapes
    /// As [`Segmenter::forward_train`].
    pub fn forward_eval(&self, image: &Tensor) -> Tensor {
        tch::no_grad(|| self.forward(image, &mut unchanged(&mut Noise::off())))
    }

    /// Features of the bottom level of the U-Net, averaged over each image: a space in which to compare images by what
    /// matters to this segmenter.
    ///
    /// # Shapes
    /// `[batch, image channels, rows, columns]` to `[batch, width of the bottom]`.
    pub fn features(&self, image: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let levels = self.descend(image, &mut unchanged(&mut Noise::off()));
            levels[self.down.len() - 1].mean_dim([2_i64, 3].as_slice(), false, None)
        })
    }

    /// What each level finds on the way down.
    fn descend(&self, image: &Tensor, pass: &mut Pass) -> Vec<Tensor> {
        let mut levels: Vec<Tensor> = Vec::new();
        for row in &self.down {
            let x = match levels.last() {
                Some(above) => above.max_pool2d([2; 2], [2; 2], [0; 2], [1; 2], false),
                None => channels_last(image),
            };
            levels.push(row.forward(&x, &self.parameters, pass));
        }
        levels
    }

    fn forward(&self, image: &Tensor, pass: &mut Pass) -> Tensor {
        let mut skips = self.descend(image, pass);
        let mut run = |row: &Sequential, x: &Tensor| row.forward(x, &self.parameters, pass);
        let mut x = skips.pop().expect("a U-Net has a bottom");
        for (widen, row) in &self.up {
            let skip = skips.pop().expect("as many levels up as down");
            let wide = run(widen, &x);
            x = run(row, &Tensor::cat(&[skip, wide], 1));
        }
        run(&self.head, &x)
    }
}

/// A pass for use.
fn unchanged(noise: &mut Noise) -> Pass<'_> {
    Pass { mode: Mode::Evaluate, noise, condition: None }
}

fn double(from: i64, to: i64) -> Vec<Plan> {
    let conv = |from| Plan::Conv(Conv { from, to, kernel: 3, stride: 1, padding: 1, bias: true });
    vec![conv(from), Plan::Relu, Plan::Norm(Norm::Batch, to), conv(to), Plan::Relu, Plan::Norm(Norm::Batch, to)]
}
