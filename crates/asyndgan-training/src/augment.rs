use asyndgan_protocol::Stream;
use rand::RngExt;
use tch::Tensor;

/// Augmentation of the discriminator's input, real and synthetic alike, so that it cannot memorise the few images of a
/// site.
///
/// Gradients pass through the augmentation; the generator learns to make images without it. Brightness, saturation and
/// contrast of the image are changed, and image and condition are shifted together.
///
/// # Reference
/// Zhao et al., `NeurIPS` 2020 (differentiable augmentation), without its cutout.
#[derive(Debug)]
pub(crate) struct Augment {
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    brightness: f64,
    saturation: f64,
    contrast: f64,
    /// Rows and columns, in shares of the image's.
    shift: [f64; 2],
}

impl Augment {
    /// Draws changes for a batch; at strength 1 they are as large as the reference's, at 0 there are none.
    pub(crate) fn draw(batch: i64, strength: f64, rng: &mut Stream) -> Self {
        let count = if strength > 0.0 { batch } else { 0 };
        let mut within = |limit: f64| strength * limit * rng.random_range(-1.0..1.0);
        let change = |_| Change {
            brightness: within(0.5),
            saturation: 1.0 + within(1.0),
            contrast: 1.0 + within(0.5),
            shift: [within(0.125), within(0.125)],
        };
        Self { changes: (0..count).map(change).collect() }
    }

    /// Condition and image, changed.
    ///
    /// # Shapes
    /// `[batch, channels, rows, columns]` each, to the same; data that are not images are unchanged.
    pub(crate) fn apply(&self, condition: &Tensor, image: &Tensor) -> (Tensor, Tensor) {
        if self.changes.is_empty() || image.dim() < 4 {
            return (condition.shallow_clone(), image.shallow_clone());
        }
        let each = |of: fn(&Change) -> f64| {
            let values: Vec<f32> = self.changes.iter().map(|c| of(c) as f32).collect();
            Tensor::from_slice(&values).view([-1, 1, 1, 1]).to_device(image.device())
        };
        let about = |x: &Tensor, dims: &[i64], factor: Tensor| {
            let mean = x.mean_dim(dims, true, None);
            (x - &mean) * factor + mean
        };
        let mut changed = image + each(|c| c.brightness);
        if image.size()[1] > 1 {
            changed = about(&changed, &[1], each(|c| c.saturation));
        }
        changed = about(&changed, &[1, 2, 3], each(|c| c.contrast));
        (self.moved(condition), self.moved(&changed))
    }

    /// Shifts each image; pixels from outside are zero.
    fn moved(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let (rows, columns) = (size[2], size[3]);
        let margin = |n: i64| n / 8 + 1;
        let wide = x.constant_pad_nd([margin(columns), margin(columns), margin(rows), margin(rows)]);
        let part = |(i, change): (usize, &Change)| {
            let start = |n: i64, share: f64| (margin(n) + (share * n as f64).round() as i64).clamp(0, 2 * margin(n));
            wide.get(i as i64).narrow(1, start(rows, change.shift[0]), rows).narrow(2, start(columns, change.shift[1]), columns)
        };
        Tensor::stack(&self.changes.iter().enumerate().map(part).collect::<Vec<_>>(), 0)
    }
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::{Role, stream};
    use tch::{Device, Kind};

    use super::*;

    fn image() -> Tensor {
        ((Tensor::arange(2 * 3 * 16 * 16, (Kind::Float, Device::Cpu)) * 0.3).remainder(2.0) - 1.0).view([2, 3, 16, 16])
    }

    fn drawn(strength: f64) -> Augment {
        Augment::draw(2, strength, &mut stream(3, Role::Discriminator, 0, 0))
    }

    #[test]
    fn nothing_changes_at_strength_zero() {
        let (condition, changed) = drawn(0.0).apply(&image(), &image());
        assert_eq!((condition, changed), (image(), image()));
    }

    #[test]
    fn image_and_condition_move_together() {
        // Shades do not move what is where: the brightest spot of a dark image stays the brightest.
        let spot = Tensor::zeros([2, 1, 16, 16], (Kind::Float, Device::Cpu));
        let _ = spot.narrow(2, 7, 1).narrow(3, 9, 1).fill_(1.0);
        let (condition, changed) = drawn(1.0).apply(&spot, &spot);
        for i in 0..2 {
            assert_eq!(condition.get(i).argmax(None, false), changed.get(i).argmax(None, false));
        }
        assert_ne!(condition, spot);
    }

    #[test]
    fn gradients_go_through() {
        let image = image().set_requires_grad(true);
        let changed = drawn(1.0).apply(&image, &image).1.square().sum(Kind::Float);
        let gradient = Tensor::run_backward(&[&changed], &[&image], false, false).swap_remove(0);
        assert!(gradient.abs().sum(Kind::Float).double_value(&[]) > 0.0);
    }
}
