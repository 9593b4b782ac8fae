//! Sequences of layers, named as in `torch.nn.Sequential`.

use tch::{Kind, Tensor};

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

/// The slope of the leaky ReLU below zero.
const LEAKY_SLOPE: f64 = 0.2;

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
        apply(&self.0, x.shallow_clone(), parameters, pass)
    }

    /// The output for a concatenation of inputs along their channels, of which the first layer is a convolution: the
    /// sum of the convolutions of each of them. That is the same but for rounding, and saves the concatenation.
    ///
    /// # Panics
    /// If the first layer is no convolution of as many channels.
    pub(crate) fn forward_concatenated(&self, inputs: &[&Tensor], parameters: &Parameters, pass: &mut Pass) -> Tensor {
        let (first, others) = self.0.split_first().expect("a sequence of layers");
        let channels: Vec<i64> = inputs.iter().map(|x| x.size()[1]).collect();
        let (conv, weight, mut bias) = first.convolution(parameters, inputs[0].kind()).expect("a convolution");
        let weights = weight.split_with_sizes(&channels, 1);
        // The bias is added once.
        let parts = inputs.iter().zip(&weights).map(|(x, weight)| convolve(x, weight, bias.take().as_ref(), &conv));
        let sum = parts.reduce(|sum, part| sum + part).expect("an input");
        apply(others, sum, parameters, pass)
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

/// The output of layers, one after another. Modulation right after instance norm is a part of it.
fn apply(layers: &[Layer], mut x: Tensor, parameters: &Parameters, pass: &mut Pass) -> Tensor {
    let mut layers = layers.iter().peekable();
    while let Some(layer) = layers.next() {
        x = match (layer, layers.peek().copied()) {
            (Layer::InstanceNorm, Some(modulate @ Layer::Modulate { .. })) => {
                layers.next();
                let affine = modulate.modulation(&x, parameters, pass);
                instance_norm(&x, affine)
            }
            _ => layer.forward(&x, parameters, pass),
        };
    }
    x
}

/// Instance norm, with a factor and a shift for each channel of each image, if given: `[batch, channels]` each.
///
/// It is the batch norm of one image with the channels of all images, as in `PyTorch`.
fn instance_norm(x: &Tensor, affine: Option<(Tensor, Tensor)>) -> Tensor {
    let (batch, channels, rows, columns) = x.size4().expect("images");
    // With factors in 32-bit floats, the mean and the deviation are in these, too.
    let unchanged =
        || (x.kind() != Kind::Float).then(|| [1.0, 0.0].map(|value| Tensor::full([batch, channels], value, (Kind::Float, x.device()))));
    let affine = affine.map(<[Tensor; 2]>::from).or_else(unchanged);
    let [factor, shift] = affine.map_or([None, None], |both| both.map(|values| Some(values.to_kind(Kind::Float).reshape(-1))));
    let joined = x.contiguous().view([1, batch * channels, rows, columns]);
    let normed = joined.batch_norm::<Tensor>(factor, shift, None, None, true, 0.1, 1e-5, true).view([batch, channels, rows, columns]);
    if x.is_contiguous() { normed } else { channels_last(&normed) }
}

fn convolve(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, c: &Conv) -> Tensor {
    x.conv2d(weight, bias, [c.stride; 2], [c.padding; 2], [1; 2], 1)
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
    /// Shape, weight and bias of a convolution, in the given precision; `None` for other layers.
    fn convolution(&self, parameters: &Parameters, kind: Kind) -> Option<(Conv, Tensor, Option<Tensor>)> {
        let (conv, weight, bias) = match self {
            Layer::Conv(conv, weight, bias) => (*conv, parameters.get(*weight).to_kind(kind), bias),
            Layer::SpectralConv(conv, weight, bias, direction) => {
                let weight = parameters.get(*weight);
                let rows = weight.flatten(1, -1);
                let (left, right) = singular(&rows, parameters.buffer(*direction));
                (*conv, (weight / left.dot(&rows.mv(&right))).to_kind(kind), bias)
            }
            _ => return None,
        };
        Some((conv, weight, bias.map(|bias| parameters.get(bias).to_kind(kind))))
    }

    /// The factor and the shift of each channel of each image by the images' code, `[batch, channels]` each; `None` for
    /// other layers, and if noise is off.
    fn modulation(&self, x: &Tensor, parameters: &Parameters, pass: &mut Pass) -> Option<(Tensor, Tensor)> {
        let Layer::Modulate { values, scale, shift } = self else { return None };
        let code = pass.noise.code(x, *values)?;
        let of = |weight: &Weight| code.linear::<&Tensor>(&parameters.get(*weight).to_kind(x.kind()), None);
        Some((of(scale) + 1.0, of(shift)))
    }

    fn forward(&self, x: &Tensor, parameters: &Parameters, pass: &mut Pass) -> Tensor {
        // Everything is computed in the precision of the input; weights are kept in theirs.
        let get = |w: &Weight| parameters.get(*w).to_kind(x.kind());
        match self {
            Layer::ReflectPad(n) => x.reflection_pad2d([*n; 4]),
            Layer::Conv(..) | Layer::SpectralConv(..) => {
                let (conv, weight, bias) = self.convolution(parameters, x.kind()).expect("a convolution");
                convolve(x, &weight, bias.as_ref(), &conv)
            }
            Layer::UpsampleNearest2x => x.upsample_nearest2d([2 * x.size()[2], 2 * x.size()[3]], None, None),
            Layer::Noise(weight) => match pass.noise.plane(x) {
                Some(plane) => x.addcmul(&plane, &get(weight)),
                None => x.shallow_clone(),
            },
            Layer::Modulate { .. } => match self.modulation(x, parameters, pass) {
                Some((factor, shift)) => {
                    let [factor, shift] = [factor, shift].map(|values| values.unsqueeze(2).unsqueeze(3));
                    shift.addcmul(x, &factor)
                }
                None => x.shallow_clone(),
            },
            Layer::Guide(weight) => {
                let condition = pass.condition.expect("a network with conditioning");
                let seen = condition.adaptive_avg_pool2d([x.size()[2], x.size()[3]]);
                // Factors are around 1, and shifts around 0.
                let options = (x.kind(), x.device());
                let bias = Tensor::cat(&[Tensor::ones([x.size()[1]], options), Tensor::zeros([x.size()[1]], options)], 0);
                let both = seen.conv2d(&get(weight), Some(&bias), [1; 2], [GUIDE / 2; 2], [1; 2], 1).chunk(2, 1);
                both[1].addcmul(x, &both[0])
            }
            Layer::ConvTranspose(c, weight, bias) => {
                // The output is twice as large for every kernel.
                let more = c.stride - c.kernel + 2 * c.padding;
                x.conv_transpose2d(&get(weight), bias.as_ref().map(get), [c.stride; 2], [c.padding; 2], [more; 2], 1, [1; 2])
            }
            Layer::Linear(weight, bias) => x.linear(&get(weight), Some(get(bias))),
            Layer::InstanceNorm => instance_norm(x, None),
            Layer::BatchNorm { weight, bias, mean, variance, batches } => {
                let train = pass.mode == Mode::Train;
                if train {
                    let _ = parameters.buffer(*batches).shallow_clone().g_add_scalar_(1);
                }
                let running = (Some(parameters.buffer(*mean)), Some(parameters.buffer(*variance)));
                x.batch_norm(Some(parameters.get(*weight)), Some(parameters.get(*bias)), running.0, running.1, train, 0.1, 1e-5, true)
            }
            Layer::Relu => x.relu(),
            // tch's own leaky ReLU has no slope to set. Its backward pass multiplies by 1 or the slope, as the forward
            // pass does.
            Layer::LeakyRelu => x.detach().leaky_relu_backward(x, LEAKY_SLOPE, false),
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

    /// Layers with weights from a seed.
    fn built(plans: Vec<Plan>) -> (Sequential, Parameters) {
        let mut layout = Layout::default();
        let layers = Sequential::new("row", plans, &mut layout, true);
        (layers, layout.build(Device::Cpu, &mut ChaCha8Rng::seed_from_u64(0)))
    }

    fn images(channels: i64) -> Tensor {
        (Tensor::arange(2 * channels * 6 * 8, (Kind::Float, Device::Cpu)) * 0.37).sin().view([2, channels, 6, 8])
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn a_concatenation_need_not_be_made() {
        let conv = Conv { from: 5, to: 3, kernel: 3, stride: 1, padding: 1, bias: true };
        for spectral in [false, true] {
            let (layers, parameters) = built(vec![Plan::conv(conv, spectral), Plan::LeakyRelu]);
            let (a, b) = (images(4), images(1) * 2.0);
            let pass = &mut Pass { mode: Mode::Train, noise: &mut Noise::off(), condition: None };
            let whole = layers.forward(&Tensor::cat(&[&a, &b], 1), &parameters, pass);
            let parts = layers.forward_concatenated(&[&a, &b], &parameters, pass);
            assert!(difference(&whole, &parts) < 1e-5);
            let [of_whole, of_parts] = [whole, parts].map(|output| parameters.gradient(&output.square().sum(Kind::Float)));
            assert!(difference(&of_whole, &of_parts) < 1e-3);
        }
    }

    #[test]
    fn instance_norm_is_that_of_pytorch_in_every_memory_format() {
        let x = images(3);
        let expected = x.instance_norm::<&Tensor>(None, None, None, None, true, 0.1, 1e-5, true);
        for x in [x.shallow_clone(), channels_last(&x)] {
            let normed = instance_norm(&x, None);
            assert!(difference(&normed, &expected) < 1e-6);
            assert_eq!(normed.is_contiguous(), x.is_contiguous());
            let (factor, shift) =
                (images(3).slice(2, 0, 1, 1).slice(3, 0, 1, 1).view([2, 3]), Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
            let moved = &expected * factor.view([2, 3, 1, 1]) + shift.view([2, 3, 1, 1]);
            assert!(difference(&instance_norm(&x, Some((factor, shift))), &moved) < 1e-6);
        }
        // The mean is far from zero: bfloat16 would lose it.
        let far = (&x + 10.0).to_kind(Kind::BFloat16);
        let expected = far.to_kind(Kind::Float).instance_norm::<&Tensor>(None, None, None, None, true, 0.1, 1e-5, true);
        assert!(difference(&instance_norm(&far, None).to_kind(Kind::Float), &expected) < 0.02);
    }

    #[test]
    fn the_leaky_relu_has_its_slope_forwards_and_backwards() {
        let (layers, parameters) = built(vec![Plan::LeakyRelu]);
        for kind in [Kind::Float, Kind::BFloat16] {
            let x = Tensor::from_slice(&[-2.0_f32, -0.5, 0.0, 3.0]).to_kind(kind).set_requires_grad(true);
            let pass = &mut Pass { mode: Mode::Train, noise: &mut Noise::off(), condition: None };
            let y = layers.forward(&x, &parameters, pass);
            assert!(difference(&y, &Tensor::from_slice(&[-0.4_f32, -0.1, 0.0, 3.0])) < 2e-3);
            let gradient = Tensor::run_backward(&[y.sum(kind)], &[&x], false, false).swap_remove(0);
            assert!(difference(&gradient, &Tensor::from_slice(&[0.2_f32, 0.2, 0.2, 1.0])) < 1e-3);
        }
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
