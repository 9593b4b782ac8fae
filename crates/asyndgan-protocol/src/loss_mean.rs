use crate::{LOSS_ROUNDS_MIN, LossPolicy, Losses};

/// Collects losses until it has as many rounds as the policy requires.
#[derive(Debug, Default)]
pub(crate) struct LossMean {
    sums: [f64; 2],
    count: u32,
}

impl LossMean {
    /// The losses that may leave with this round's answer, if any.
    pub(crate) fn release(&mut self, policy: LossPolicy, losses: Losses) -> Option<Losses> {
        let rounds = match policy {
            LossPolicy::None => return None,
            LossPolicy::Exact => return Some(losses),
            LossPolicy::Mean { rounds } => rounds,
        };
        self.sums[0] += f64::from(losses.discriminator);
        self.sums[1] += f64::from(losses.generator);
        self.count += 1;
        if self.count < rounds.max(LOSS_ROUNDS_MIN) {
            return None;
        }
        let [discriminator, generator] =
            self.sums.map(|sum| ((sum / f64::from(self.count)).clamp(-10.0, 10.0) * 100.0).round() as f32 / 100.0);
        *self = Self::default();
        Some(Losses { discriminator, generator })
    }
}
