use asyndgan_models::loss::GanLoss;
use asyndgan_protocol::Losses;

/// A discriminator whose loss is below this separates real from synthetic images without error.
const COLLAPSED_LOSS: f32 = 1e-3;
/// After so many consecutive rounds the discriminator has won, and the generator learns nothing from it.
const COLLAPSED_ROUNDS: u32 = 300;

/// Counts the rounds in which a site's own discriminator has won.
#[derive(Debug, Default)]
pub(crate) struct CollapseCheck {
    rounds: u32,
}

impl CollapseCheck {
    /// Adds the losses of a round. Returns for how many rounds the discriminator has won, if that is too many.
    ///
    /// The loss of a discriminator is never below zero. That of a U-Net discriminator never gets so small, because
    /// boundaries stay uncertain; the generator's loss shows how certain it is about synthetic pixels.
    pub(crate) fn add(&mut self, losses: Losses, gan_loss: GanLoss) -> Option<u32> {
        let won = match gan_loss {
            GanLoss::Segmentation => losses.generator > -COLLAPSED_LOSS.ln(),
            _ => (0.0..COLLAPSED_LOSS).contains(&losses.discriminator),
        };
        self.rounds = if won { self.rounds + 1 } else { 0 };
        (self.rounds >= COLLAPSED_ROUNDS).then_some(self.rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The round in which it is found, if at all.
    fn found(losses: impl Iterator<Item = [f32; 2]>, gan_loss: GanLoss) -> Option<usize> {
        let mut check = CollapseCheck::default();
        let losses = losses.map(|[discriminator, generator]| Losses { discriminator, generator });
        losses.into_iter().position(|l| check.add(l, gan_loss).is_some())
    }

    #[test]
    fn a_discriminator_has_collapsed_when_it_has_lost_nothing_for_long() {
        let gan_loss = GanLoss::CrossEntropy;
        let won = || std::iter::repeat_n([1e-5, 1.0], COLLAPSED_ROUNDS as usize);
        assert_eq!(found(won(), gan_loss), Some(299));
        assert_eq!(found(won().skip(1), gan_loss), None);
        // A round that it did not win begins the count again; what no loss can be is no win.
        for odd in [0.6, f32::NAN, -1.0] {
            assert_eq!(found(won().skip(1).chain([[odd, 1.0]]).chain(won()), gan_loss), Some(299 + 300));
        }
    }

    #[test]
    fn a_discriminator_that_segments_has_won_when_the_generators_loss_is_high_for_long() {
        let losses = || std::iter::repeat_n([0.6, 7.0], COLLAPSED_ROUNDS as usize);
        assert_eq!(found(losses(), GanLoss::Segmentation), Some(299));
        assert_eq!(found(losses(), GanLoss::CrossEntropy), None);
        assert_eq!(found(losses().skip(1).chain([[0.6, 6.0]]), GanLoss::Segmentation), None);
    }
}
