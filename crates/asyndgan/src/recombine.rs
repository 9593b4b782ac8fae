//! Masks put together from several cases, for sites that let no patient's own mask out.

use anyhow::{Result, ensure};
use asyndgan_medio::{prepare, transplant};
use asyndgan_protocol::Stream;
use ndarray::Array2;
use rand::Rng;
use tch::Tensor;

use crate::synthesize::planes;

/// As many conditions as there are, none of them one patient's: brains get the tumour of another case inside their outline, tissue
/// is put together from quarters of different cases.
///
/// # Shapes
/// Codes (bytes) `[cases, 1, rows, columns]` to the same.
pub(crate) fn recombined(codes: &Tensor, rng: &mut Stream) -> Result<Tensor> {
    let own = planes(codes);
    ensure!(own.len() > 1, "one case alone cannot be re-combined; let its mask out as it is, or stay out");
    let brains = own.iter().any(|c| c.iter().any(|&code| code == prepare::BRAIN_OUTLINE));
    let made: Vec<u8> = (0..own.len()).flat_map(|i| if brains { brain(&own, i, rng) } else { tissue(&own, i, rng) }).collect();
    Ok(Tensor::from_slice(&made).view(&codes.size()[..]))
}

fn another(count: usize, than: usize, rng: &mut Stream) -> usize {
    (than + rng.random_range(1..count)) % count
}

fn brain(own: &[Array2<u8>], i: usize, rng: &mut Stream) -> Array2<u8> {
    let mut with = |pixels_min| transplant(own[i].view(), own[another(own.len(), i, rng)].view(), pixels_min);
    // Some tumours lie outside of some outlines: a few tries, then whatever is inside.
    (0..20).find_map(|_| with(prepare::TUMOUR_PIXELS_MIN)).or_else(|| with(0)).unwrap_or_else(|| Array2::zeros(own[i].dim()))
}

fn tissue(own: &[Array2<u8>], i: usize, rng: &mut Stream) -> Array2<u8> {
    let (rows, columns) = own[i].dim();
    // The first quarter is its own.
    let quarters = [i, another(own.len(), i, rng), another(own.len(), i, rng), another(own.len(), i, rng)];
    Array2::from_shape_fn((rows, columns), |(r, c)| {
        let quarter = 2 * usize::from(r >= rows / 2) + usize::from(c >= columns / 2);
        own[quarters[quarter]][[r, c]]
    })
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::{Role, stream};

    use super::*;

    #[test]
    fn no_mask_stays_as_it_is() {
        let cases: Vec<u8> =
            (0..5_u8).flat_map(|case| (0..64_u8).map(move |k| u8::from((u32::from(k) * (u32::from(case) + 3)) % 7 < 2))).collect();
        let codes = Tensor::from_slice(&cases).view([5, 1, 8, 8]);
        let made = recombined(&codes, &mut stream(0, Role::Transplant, 0, 0)).expect("five cases");
        assert_eq!(made.size(), codes.size());
        for (before, after) in planes(&codes).iter().zip(planes(&made)) {
            assert_ne!(*before, after);
        }
        assert!(recombined(&codes.narrow(0, 0, 1), &mut stream(0, Role::Transplant, 0, 0)).is_err());
    }
}
