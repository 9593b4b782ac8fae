//! Sequences of layers, named as in `torch.nn.Sequential`.

use tch::Tensor;

use crate::{
    Noise, Norm,
    parameters::{Buffer, Init, Layout, Parameters, Weight},
};

/// Shape of a convolution, as written in a network's list of layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) kernel: i64,
    pub(crate) stride: i64,
    pub(crate) padding: i64,
    pub(crate) bias: bool,
}

/// A layer as written in a network's list of layers.
#[derive(Debug)]
pub(crate) enum Plan {
    ReflectPad(i64),
    Conv(Conv),
    /// A convolution with spectral normalisation: the weight is divided by its largest singular value.
    SpectralConv(Conv),
    /// Doubles rows and columns.
    ConvTranspose(Conv),
    /// Nearest-neighbour upsampling by 2.
    UpsampleNearest2x,
    /// One plane of noise, added to every channel with a weight of its own.
    Noise(i64),
    /// Channels scaled and shifted by the image's code: values of the code, channels.
    Modulate(i64, i64),
    /// Channels scaled and shifted by the condition around each pixel: planes of the condition, channels.
    Guide(i64, i64),
    Linear(i64, i64),
    Norm(Norm, i64),
    Relu,
    LeakyRelu,
    Tanh,
    Dropout,
    /// Adds its output to its input; contains the name of the inner sequence.
    Residual(&'static str, Vec<Plan>),
}

impl Plan {
    /// A convolution, with spectral normalisation if `spectral` is set.
    pub(crate) fn conv(conv: Conv, spectral: bool) -> Self {
        if spectral { Self::SpectralConv(conv) } else { Self::Conv(conv) }
    }
}

#[derive(Debug, Clone)]
enum Layer {
    ReflectPad(i64),
    Conv(Conv, Weight, Option<Weight>),
    SpectralConv(Conv, Weight, Option<Weight>, Buffer),
    ConvTranspose(Conv, Weight, Option<Weight>),
    UpsampleNearest2x,
    Noise(Weight),
    Modulate { values: i64, scale: Weight, shift: Weight },
    Guide(Weight),
    Linear(Weight, Weight),
    InstanceNorm,
    BatchNorm { weight: Weight, bias: Weight, mean: Buffer, variance: Buffer, batches: Buffer },
    Relu,
    LeakyRelu,
    Tanh,
    Dropout,
    Residual(Sequential),
}

/// A sequence of layers.
#[derive(Debug, Clone)]
pub(crate) struct Sequential(Vec<Layer>);

/// Context of one forward pass, in addition to the input.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) mode: Mode,
    pub(crate) noise: &'a mut Noise,
    /// Planes of the condition, if the network receives one.
    pub(crate) condition: Option<&'a Tensor>,
}

/// Rows and columns of the condition that a pixel is guided by.
const GUIDE: i64 = 5;

/// Whether running statistics are updated or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Train,
    Evaluate,
}

impl Sequential {
    /// Builds the sequence; names start with `prefix` and the index of the layer. `fan_in` chooses initial weights by
    /// fan-in.
    pub(crate) fn new(prefix: &str, plans: Vec<Plan>, layout: &mut Layout, fan_in: bool) -> Self {
        let place = |(i, plan)| layer(&format!("{prefix}.{i}"), plan, layout, fan_in);
        Self(plans.into_iter().enumerate().map(place).collect())
    }

    pub(crate) fn forward(&self, x: &Tensor, parameters: &Parameters, pass: &mut Pass) -> Tensor {
        let mut x = x.shallow_clone();
        for layer in &self.0 {
            x = layer.forward(&x, parameters, pass);
        }
        x
    }

    /// Updates the spectral normalisation after an optimiser step.
    pub(crate) fn update_spectral_norm(&self, parameters: &Parameters) {
        for layer in &self.0 {
            if let Layer::SpectralConv(_, weight, _, direction) = layer {
                let direction = parameters.buffer(*direction);
                let (next, _) = singular(&parameters.get(*weight).flatten(1, -1), direction);
                tch::no_grad(|| direction.shallow_clone().copy_(&next));
            }
        }
    }
}

/// The directions of a matrix's largest singular value, one power iteration on from a first guess.
fn singular(matrix: &Tensor, guess: &Tensor) -> (Tensor, Tensor) {
    let unit = |v: Tensor| &v / (v.norm() + 1e-12);
    tch::no_grad(|| {
        let right = unit(matrix.tr().mv(guess));
        (unit(matrix.mv(&right)), right)
    })
}

/// The same values in channels-last memory format: the layers keep the format, and those of a U-Net are faster with it.
pub(crate) fn channels_last(x: &Tensor) -> Tensor {
    let (_, channels, rows, columns) = x.size4().expect("images");
    let strides = [rows * columns * channels, 1, columns * channels, channels];
    let mut last = Tensor::empty_strided(x.size(), strides, (x.kind(), x.device()));
    last.copy_(x);
    last
}

fn layer(name: &str, plan: Plan, layout: &mut Layout, fan_in: bool) -> Layer {
    let init = |n| if fan_in { Init::FanIn(n) } else { Init::Normal(0.0) };
    match plan {
        Plan::ReflectPad(n) => Layer::ReflectPad(n),
        Plan::Conv(c) => {
            let weight = layout.weight(format!("{name}.weight"), &[c.to, c.from, c.kernel, c.kernel], init(c.from * c.kernel * c.kernel));
            let bias = c.bias.then(|| layout.weight(format!("{name}.bias"), &[c.to], Init::Constant(0.0)));
            Layer::Conv(c, weight, bias)
        }
        Plan::SpectralConv(c) => {
            let Layer::Conv(c, weight, bias) = layer(name, Plan::Conv(c), layout, fan_in) else { unreachable!("a convolution") };
            Layer::SpectralConv(c, weight, bias, layout.buffer(format!("{name}.weight_u"), &[c.to], 1.0 / (c.to as f64).sqrt()))
        }
        Plan::UpsampleNearest2x => Layer::UpsampleNearest2x,
        Plan::Noise(n) => Layer::Noise(layout.weight(format!("{name}.weight"), &[1, n, 1, 1], Init::Constant(0.1))),
        Plan::Modulate(values, n) => Layer::Modulate {
            values,
            scale: layout.weight(format!("{name}.scale"), &[n, values], Init::Normal(0.0)),
            shift: layout.weight(format!("{name}.shift"), &[n, values], Init::Normal(0.0)),
        },
        Plan::Guide(planes, n) => Layer::Guide(layout.weight(format!("{name}.weight"), &[2 * n, planes, GUIDE, GUIDE], Init::Normal(0.0))),
        Plan::ConvTranspose(c) => {
            // Every output pixel meets a quarter of the kernel.
            let weight =
                layout.weight(format!("{name}.weight"), &[c.from, c.to, c.kernel, c.kernel], init(c.from * c.kernel * c.kernel / 4));
            let bias = c.bias.then(|| layout.weight(format!("{name}.bias"), &[c.to], Init::Constant(0.0)));
            Layer::ConvTranspose(c, weight, bias)
        }
        Plan::Linear(from, to) => {
            let weight = layout.weight(format!("{name}.weight"), &[to, from], init(from));
            Layer::Linear(weight, layout.weight(format!("{name}.bias"), &[to], Init::Constant(0.0)))
        }
        Plan::Norm(Norm::Instance, _) => Layer::InstanceNorm,
        Plan::Norm(Norm::Batch, n) => Layer::BatchNorm {
            weight: layout.weight(format!("{name}.weight"), &[n], if fan_in { Init::Constant(1.0) } else { Init::Normal(1.0) }),
            bias: layout.weight(format!("{name}.bias"), &[n], Init::Constant(0.0)),
            mean: layout.buffer(format!("{name}.running_mean"), &[n], 0.0),
            variance: layout.buffer(format!("{name}.running_var"), &[n], 1.0),
            batches: layout.buffer(format!("{name}.num_batches_tracked"), &[], 0.0),
        },
        Plan::Relu => Layer::Relu,
        Plan::LeakyRelu => Layer::LeakyRelu,
        Plan::Tanh => Layer::Tanh,
        Plan::Dropout => Layer::Dropout,
        Plan::Residual(inner, plans) => Layer::Residual(Sequential::new(&format!("{name}.{inner}"), plans, layout, fan_in)),
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, parameters: &Parameters, pass: &mut Pass) -> Tensor {
        // Everything is computed in the precision of the input; weights are kept in theirs.
        let get = |w: &Weight| parameters.get(*w).to_kind(x.kind());
        match self {
            Layer::ReflectPad(n) => x.reflection_pad2d([*n; 4]),
            Layer::Conv(c, weight, bias) => x.conv2d(&get(weight), bias.as_ref().map(get), [c.stride; 2], [c.padding; 2], [1; 2], 1),
            Layer::SpectralConv(c, weight, bias, direction) => {
                let weight = parameters.get(*weight);
                let rows = weight.flatten(1, -1);
                let (left, right) = singular(&rows, parameters.buffer(*direction));
                let weight = (weight / left.dot(&rows.mv(&right))).to_kind(x.kind());
                x.conv2d(&weight, bias.as_ref().map(get), [c.stride; 2], [c.padding; 2], [1; 2], 1)
            }
            Layer::UpsampleNearest2x => x.upsample_nearest2d([2 * x.size()[2], 2 * x.size()[3]], None, None),
            Layer::Noise(weight) => match pass.noise.plane(x) {
                Some(plane) => x + plane * get(weight),
                None => x.shallow_clone(),
            },
            Layer::Modulate { values, scale, shift } => match pass.noise.code(x, *values) {
                Some(code) => {
                    let [scale, shift] = [scale, shift].map(|w| code.linear::<&Tensor>(&get(w), None).unsqueeze(2).unsqueeze(3));
                    x * (scale + 1.0) + shift
                }
                None => x.shallow_clone(),
            },
            Layer::Guide(weight) => {
                let condition = pass.condition.expect("a network with conditioning");
                let seen = condition.adaptive_avg_pool2d([x.size()[2], x.size()[3]]);
                let both = seen.conv2d::<&Tensor>(&get(weight), None, [1; 2], [GUIDE / 2; 2], [1; 2], 1).chunk(2, 1);
                x * (&both[0] + 1.0) + &both[1]
            }
            Layer::ConvTranspose(c, weight, bias) => {
                // The output is twice as large for every kernel.
                let more = c.stride - c.kernel + 2 * c.padding;
                x.conv_transpose2d(&get(weight), bias.as_ref().map(get), [c.stride; 2], [c.padding; 2], [more; 2], 1, [1; 2])
            }
            Layer::Linear(weight, bias) => x.linear(&get(weight), Some(get(bias))),
            Layer::InstanceNorm => x.instance_norm::<&Tensor>(None, None, None, None, true, 0.1, 1e-5, true),
            Layer::BatchNorm { weight, bias, mean, variance, batches } => {
                let train = pass.mode == Mode::Train;
                if train {
                    let _ = parameters.buffer(*batches).shallow_clone().g_add_scalar_(1);
                }
                let running = (Some(parameters.buffer(*mean)), Some(parameters.buffer(*variance)));
                x.batch_norm(Some(parameters.get(*weight)), Some(parameters.get(*bias)), running.0, running.1, train, 0.1, 1e-5, true)
            }
            Layer::Relu => x.relu(),
            // Between x and its positive part: tch's own leaky ReLU has no slope to set.
            Layer::LeakyRelu => x.lerp(&x.relu(), 0.8),
            Layer::Tanh => x.tanh(),
            Layer::Dropout => pass.noise.dropout(x),
            Layer::Residual(row) => x + row.forward(x, parameters, pass),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    use super::*;
    use crate::read_tensors;

    #[test]
    fn modulation_by_a_code_gives_the_same_as_in_pytorch() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/layers.safetensors");
        let golden = read_tensors(&golden).expect("golden file");
        let mut layout = Layout::default();
        let layers = Sequential::new("modulate", vec![Plan::Modulate(3, 4)], &mut layout, false);
        let mut parameters = layout.build(Device::Cpu, &mut ChaCha8Rng::seed_from_u64(0));
        let weight = |name: &str| (format!("modulate.0.{name}"), golden[&format!("modulate.{name}")].shallow_clone());
        parameters.load(&["scale", "shift"].map(weight).into()).expect("weights");
        let noise = &mut Noise::with_code(golden["modulate.code"].shallow_clone());
        let output = layers.forward(&golden["modulate.input"], &parameters, &mut Pass { mode: Mode::Train, noise, condition: None });
        assert!((output - &golden["modulate.output"]).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn a_noise_plane_is_added_with_a_weight_per_channel() {
        let mut layout = Layout::default();
        let layers = Sequential::new("noise", vec![Plan::Noise(2)], &mut layout, false);
        let mut parameters = layout.build(Device::Cpu, &mut ChaCha8Rng::seed_from_u64(0));
        let weights = Tensor::from_slice(&[0.5_f32, -2.0]).view([1, 2, 1, 1]);
        parameters.load(&[("noise.0.weight".to_owned(), weights)].into()).expect("weights");
        let stream = || Noise::new(vec![(1, ChaCha8Rng::seed_from_u64(1))]);
        let x = Tensor::ones([1, 2, 3, 5], (tch::Kind::Float, Device::Cpu));
        let output = layers.forward(&x, &parameters, &mut Pass { mode: Mode::Train, noise: &mut stream(), condition: None });
        let plane = stream().plane(&x).expect("a plane");
        for (channel, weight) in [(0, 0.5), (1, -2.0)] {
            assert_eq!(output.narrow(1, channel, 1), &plane * weight + 1.0);
        }
    }
}
