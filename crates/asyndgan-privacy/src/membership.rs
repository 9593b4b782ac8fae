use crate::normal::quantile_975;

/// How well a score tells members of a training set from others.
///
/// The scores are per patient: several images of one patient are not independent.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MembershipTest {
    /// Number of members and of others.
    pub counts: [usize; 2],
    /// The probability that a member has a higher score than another patient; 0.5 is a guess.
    pub auc: f64,
    /// The 95 % interval of `auc`.
    pub auc_interval: [f64; 2],
    /// The share of members that are found while at most 1 % of the others are taken for members.
    pub true_positive_rate: f64,
    /// The 95 % interval of `true_positive_rate`.
    pub true_positive_rate_interval: [f64; 2],
}

/// The largest share of others that are taken for members.
const FALSE_POSITIVE_RATE: f64 = 0.01;

impl MembershipTest {
    /// Compares the scores of members with those of others; higher scores speak for membership. `None` if there are no
    /// members or no others, or a score is not a number.
    ///
    /// # Reference
    /// The interval of the AUC is Newcombe's method 5 (Statistics in Medicine 25, 2006, page 559), which also holds for
    /// an AUC of 1. The interval of the rate is Wilson's. With fewer than 100 others, no other may be taken for a
    /// member. The measures are those of Carlini et al., Membership Inference Attacks From First Principles, S&P 2022.
    ///
    /// # Example
    /// ```
    /// use asyndgan_privacy::MembershipTest;
    /// let test = MembershipTest::of_scores(&[0.9, 0.8, 0.3], &[0.4, 0.1, 0.2]).expect("scores");
    /// assert!((test.auc - 8.0 / 9.0).abs() < 1e-12 && test.auc_interval[0] < 0.5);
    /// ```
    pub fn of_scores(members: &[f64], others: &[f64]) -> Option<Self> {
        if members.is_empty() || others.is_empty() || members.iter().chain(others).any(|score| score.is_nan()) {
            return None;
        }
        let (m, n) = (members.len() as f64, others.len() as f64);
        let wins = |member: &f64| {
            let won = |other: &f64| if member > other { 1.0 } else { f64::from(u8::from(member.total_cmp(other).is_eq())) * 0.5 };
            others.iter().map(won).sum::<f64>()
        };
        let auc = members.iter().map(wins).sum::<f64>() / (m * n);
        // The lowest threshold above which at most the permitted number of others lies.
        let permitted = (FALSE_POSITIVE_RATE * n).floor() as usize;
        let mut sorted = others.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let threshold = sorted[permitted.min(sorted.len() - 1)];
        let found = members.iter().filter(|&&score| score > threshold).count() as f64;
        Some(Self {
            counts: [members.len(), others.len()],
            auc,
            auc_interval: auc_interval(auc, m, n),
            true_positive_rate: found / m,
            true_positive_rate_interval: rate_interval(found, m),
        })
    }
}

/// All values that the observed AUC does not exclude.
fn auc_interval(auc: f64, members: f64, others: f64) -> [f64; 2] {
    let z = quantile_975();
    let deviation = |x: f64| {
        let weight = f64::midpoint(members, others) - 1.0;
        let variance = x * (1.0 - x) * (1.0 + weight * ((1.0 - x) / (2.0 - x) + x / (1.0 + x))) / (members * others);
        variance.max(0.0).sqrt()
    };
    // The distance in standard deviations grows with the distance from the observed value.
    let boundary = |mut inside: f64, mut outside: f64| {
        if (auc - outside).abs() <= z * deviation(outside) {
            return outside;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(inside, outside);
            if (auc - middle).abs() <= z * deviation(middle) { inside = middle } else { outside = middle }
        }
        inside
    };
    // At 0 and 1 the deviation is 0; values just inside can be tested.
    [boundary(auc.clamp(1e-9, 1.0 - 1e-9), 1e-9), boundary(auc.clamp(1e-9, 1.0 - 1e-9), 1.0 - 1e-9)].map(|x| (x * 1e6).round() / 1e6)
}

/// The 95 % interval of Wilson for `found` of `all`.
fn rate_interval(found: f64, all: f64) -> [f64; 2] {
    let (z2, rate) = (quantile_975().powi(2), found / all);
    let centre = (rate + z2 / (2.0 * all)) / (1.0 + z2 / all);
    let half = (z2 * (rate * (1.0 - rate) / all + z2 / (4.0 * all * all))).sqrt() / (1.0 + z2 / all);
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_and_useless_scores_have_wide_intervals_for_few_patients() {
        let test = MembershipTest::of_scores(&[1.0; 5], &[0.0; 5]).expect("scores");
        assert!((test.auc - 1.0).abs() < 1e-12 && (test.true_positive_rate - 1.0).abs() < 1e-12);
        assert!(test.auc_interval[0] > 0.6 && test.auc_interval[0] < 0.8 && test.auc_interval[1] > 0.999, "{test:?}");
        let same = MembershipTest::of_scores(&[0.5; 20], &[0.5; 20]).expect("scores");
        assert!((same.auc - 0.5).abs() < 1e-12 && same.true_positive_rate < 1e-12);
        // 0.5 plus and minus 1.96 times sqrt(0.25 (1 + 19 * 2 / 3) / 400), roughly.
        assert!((same.auc_interval[0] - 0.327).abs() < 0.02 && (same.auc_interval[1] - 0.673).abs() < 0.02, "{same:?}");
        let worse = MembershipTest::of_scores(&[0.0; 3], &[1.0; 30]).expect("scores");
        assert!(worse.auc < 1e-12 && worse.auc_interval[1] < 0.5, "{worse:?}");
    }

    #[test]
    fn one_in_a_hundred_others_may_be_wrong() {
        let others: Vec<f64> = (0..200).map(f64::from).collect();
        let test = MembershipTest::of_scores(&[197.5, 196.5, 300.0], &others).expect("scores");
        // Two others, 199 and 198, are allowed above the threshold 197.
        assert!((test.true_positive_rate - 2.0 / 3.0).abs() < 1e-12, "{test:?}");
    }

    #[test]
    fn wilsons_interval_is_that_of_the_textbook() {
        // Newcombe, Statistics in Medicine 17, 1998, page 857: 81 of 263.
        let [low, high] = rate_interval(81.0, 263.0);
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4, "{low} {high}");
    }

    #[test]
    fn nothing_is_said_about_nobody() {
        assert_eq!(MembershipTest::of_scores(&[], &[1.0]), None);
        assert_eq!(MembershipTest::of_scores(&[f64::NAN], &[1.0]), None);
    }
}
