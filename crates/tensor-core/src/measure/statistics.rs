//! Robust statistics of small samples.

/// The `p` quantile (0 to 1) of sorted values, linear between neighbours; NaN without values.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// Median absolute deviation from the median, unscaled.
pub fn mad(sorted: &[f64]) -> f64 {
    let median = quantile(sorted, 0.5);
    let mut deviations: Vec<f64> = sorted.iter().map(|value| (value - median).abs()).collect();
    deviations.sort_by(f64::total_cmp);
    quantile(&deviations, 0.5)
}

/// A 95 % confidence interval of the median from order statistics: whatever the distribution, the
/// median lies between the `k`-th smallest and the `k`-th largest of n independent values with
/// probability 1 - 2 P(Bin(n, 1/2) < k). Below 6 values that is the whole range (and less than 95 %).
pub fn median_interval(sorted: &[f64]) -> (f64, f64) {
    let n = sorted.len();
    if n == 0 {
        return (f64::NAN, f64::NAN);
    }
    // P(Bin(n, 1/2) = 0), then by recurrence; in logarithms since 2^-n underflows beyond 1,074.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut cumulative = 0.0;
    let mut k = 0;
    while k < n / 2 {
        cumulative += log_term.exp();
        if cumulative > 0.025 {
            break;
        }
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
        k += 1;
    }
    let k = k.max(1);
    (sorted[k - 1], sorted[n - k])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn quantiles_are_numpys() {
        // numpy.quantile([1, 2, 4, 8], p)
        let values = [1.0, 2.0, 4.0, 8.0];
        for (p, expected) in [(0.0, 1.0), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&values, p) - expected).abs() < 1e-12, "{p}");
        }
        assert!(quantile(&[], 0.5).is_nan());
        // |1-3|, |2-3|, |4-3|, |8-3| have median 1.5.
        assert_eq!(mad(&values), 1.5);
    }

    #[test]
    fn median_interval_has_the_tabulated_ranks() {
        // Ranks from the binomial distribution, as in Conover, Practical Nonparametric Statistics,
        // table A3: n = 6: 1 and 6; n = 10: 2 and 9; n = 20: 6 and 15; n = 100: 40 and 61.
        for (n, low, high) in [(6, 1, 6), (10, 2, 9), (20, 6, 15), (100, 40, 61)] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            assert_eq!(median_interval(&values), (f64::from(low), f64::from(high)), "{n}");
        }
        let many: Vec<f64> = (1..=5_000).map(f64::from).collect();
        let (low, high) = median_interval(&many);
        // Normal approximation: 2,500 -+ 1.96 sqrt(5,000) / 2 = 2,500 -+ 69.3.
        assert!((low - 2_431.0).abs() <= 1.0 && (high - 2_570.0).abs() <= 1.0, "{low} {high}");
        assert_eq!(median_interval(&[2.0]), (2.0, 2.0));
    }

    #[test]
    fn median_interval_covers_the_median() {
        let mut rng = random::stream(0, "coverage");
        let covered = (0..2_000)
            .filter(|_| {
                let mut values: Vec<f64> =
                    (0..40).map(|_| random::below(&mut rng, 1 << 40) as f64).collect();
                values.sort_by(f64::total_cmp);
                let (low, high) = median_interval(&values);
                (low..=high).contains(&((1_u64 << 39) as f64))
            })
            .count();
        // At least 95 % of 2,000; exactly 96.2 % is expected for n = 40, standard deviation 0.43 %.
        assert!((1_890..=1_960).contains(&covered), "{covered}");
    }
}
