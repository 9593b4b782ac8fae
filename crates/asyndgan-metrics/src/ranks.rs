/// Ranks of values, from 1; ties share the mean of their ranks.
pub(crate) struct Ranks {
    /// Twice the rank of each value, since the mean of a tie can end in a half.
    pub(crate) doubled: Vec<usize>,
    /// Sum of `n^3 - n` over all ties of `n` values.
    pub(crate) ties: f64,
}

impl Ranks {
    pub(crate) fn of(values: &[f64]) -> Self {
        // A sum with 0 has no negative zero, which would not be tied with 0.
        let values: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let (mut doubled, mut ties, mut before) = (vec![0; values.len()], 0.0, 0);
        for tied in order.chunk_by(|&i, &j| values[i].total_cmp(&values[j]).is_eq()) {
            let n = tied.len();
            for &i in tied {
                doubled[i] = 2 * before + n + 1;
            }
            ties += (n * n * n - n) as f64;
            before += n;
        }
        Self { doubled, ties }
    }
}
