//! Layers in a row, named as `torch.nn.Sequential` names them.

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

/// A layer as written.
#[derive(Debug)]
pub(crate) enum Plan {
    ReflectPad(i64),
    Conv(Conv),
    /// Doubles rows and columns.
    ConvTranspose(Conv),
    Linear(i64, i64),
    Norm(Norm, i64),
    Relu,
    LeakyRelu,
    Tanh,
    DropHalf,
    /// Adds its output to its input; the name of its own row.
    Residual(&'static str, Vec<Plan>),
}

#[derive(Debug)]
enum Layer {
    ReflectPad(i64),
    Conv(Conv, Weight, Option<Weight>),
    ConvTranspose(Conv, Weight, Option<Weight>),
    Linear(Weight, Weight),
    InstanceNorm,
    BatchNorm { weight: Weight, bias: Weight, mean: Buffer, variance: Buffer, batches: Buffer },
    Relu,
    LeakyRelu,
    Tanh,
    DropHalf,
    Residual(Sequential),
}

/// A row of layers.
#[derive(Debug)]
pub(crate) struct Sequential(Vec<Layer>);

/// Whether running statistics are learnt or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Train,
    Evaluate,
}

impl Sequential {
    /// Lays the row out; names begin with `prefix` and the layer's place. `fan_in` chooses the segmenter's initial weights.
    pub(crate) fn new(prefix: &str, plans: Vec<Plan>, layout: &mut Layout, fan_in: bool) -> Self {
        let place = |(i, plan)| layer(&format!("{prefix}.{i}"), plan, layout, fan_in);
        Self(plans.into_iter().enumerate().map(place).collect())
    }

    pub(crate) fn forward(&self, x: &Tensor, parameters: &Parameters, mode: Mode, noise: &mut Noise) -> Tensor {
        let mut x = x.shallow_clone();
        for layer in &self.0 {
            x = layer.forward(&x, parameters, mode, noise);
        }
        x
    }
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
        Plan::DropHalf => Layer::DropHalf,
        Plan::Residual(inner, plans) => Layer::Residual(Sequential::new(&format!("{name}.{inner}"), plans, layout, fan_in)),
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, parameters: &Parameters, mode: Mode, noise: &mut Noise) -> Tensor {
        let get = |w: &Weight| parameters.get(*w);
        match self {
            Layer::ReflectPad(n) => x.reflection_pad2d([*n; 4]),
            Layer::Conv(c, weight, bias) => x.conv2d(get(weight), bias.as_ref().map(get), [c.stride; 2], [c.padding; 2], [1; 2], 1),
            Layer::ConvTranspose(c, weight, bias) => {
                // The output is to be twice as large whatever the kernel.
                let more = c.stride - c.kernel + 2 * c.padding;
                x.conv_transpose2d(get(weight), bias.as_ref().map(get), [c.stride; 2], [c.padding; 2], [more; 2], 1, [1; 2])
            }
            Layer::Linear(weight, bias) => x.linear(get(weight), Some(get(bias))),
            Layer::InstanceNorm => x.instance_norm::<&Tensor>(None, None, None, None, true, 0.1, 1e-5, true),
            Layer::BatchNorm { weight, bias, mean, variance, batches } => {
                let train = mode == Mode::Train;
                if train {
                    let _ = parameters.buffer(*batches).shallow_clone().g_add_scalar_(1);
                }
                let running = (Some(parameters.buffer(*mean)), Some(parameters.buffer(*variance)));
                x.batch_norm(Some(get(weight)), Some(get(bias)), running.0, running.1, train, 0.1, 1e-5, true)
            }
            Layer::Relu => x.relu(),
            // max(x, 0.2 x) is leaky ReLU; tch's own has no slope to set.
            Layer::LeakyRelu => x.maximum(&(x * 0.2)),
            Layer::Tanh => x.tanh(),
            Layer::DropHalf => noise.drop_half(x),
            Layer::Residual(row) => x + row.forward(x, parameters, mode, noise),
        }
    }
}
