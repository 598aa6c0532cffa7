//! Exact removal of weights, one unit at a time, by the formulas of the optimal brain surgeon.

use tensor_core::kernels::widest;

/// Rows of a weight that share a mask, and what they may lose.
pub(super) struct Rows<'a> {
    /// `H^-1`, `p x p`, symmetric.
    pub(super) inverse: &'a [f64],
    /// The minimum of the error, one row of `p` weights each.
    pub(super) weights: Vec<&'a [f64]>,
    /// Columns that are zero already.
    pub(super) zero: &'a [usize],
    /// Columns of each unit.
    pub(super) units: &'a [Vec<usize>],
    /// The group of each unit and how many units each group may lose; without groups, all.
    pub(super) groups: Option<(&'a [usize], Vec<usize>)>,
}

/// What the removal of zeros costs: less than that of any weight.
const ZERO: f64 = -1.0;

/// The units in the order of their removal, each with what the error `(w - w*) H (w - w*)^T` grows by.
///
/// Removing the unit `q` raises the error by `w_q ([H^-1]_qq)^-1 w_q^T`, summed over the rows, when
/// all weights that stay move to their new optimum; the cheapest unit per weight goes first, of equal
/// ones the later. Units of nothing but zeros come before, and cost less than nothing; of the others
/// the columns count that are not zero.
pub(super) fn eliminate(rows: Rows) -> Vec<(usize, f64)> {
    let Rows { inverse, weights, zero, units, mut groups } = rows;
    let mut state = State::new(inverse, &weights);
    let mut is_zero = vec![false; inverse.len().isqrt()];
    for &column in zero {
        state.remove(column);
        is_zero[column] = true;
    }
    let of_unit = |columns: &Vec<usize>| columns.iter().copied().filter(|&c| !is_zero[c]).collect();
    let units: Vec<Vec<usize>> = units.iter().map(of_unit).collect();
    let mut is_left = vec![true; units.len()];
    let mut removed = Vec::new();
    for unit in (0..units.len()).filter(|&unit| units[unit].is_empty()) {
        is_left[unit] = false;
        // A group may have more zeros than it can lose.
        if let Some((of, left)) = &mut groups {
            match left[of[unit]].checked_sub(1) {
                Some(fewer) => left[of[unit]] = fewer,
                None => continue,
            }
        }
        removed.push((unit, ZERO));
    }
    loop {
        let mut best: Option<(f64, usize)> = None;
        for (unit, columns) in units.iter().enumerate() {
            let is_full = groups.as_ref().is_some_and(|(of, left)| left[of[unit]] == 0);
            if !is_left[unit] || is_full {
                continue;
            }
            let cost = state.cost(columns) / columns.len() as f64;
            if best.is_none_or(|(least, _)| cost <= least) {
                best = Some((cost, unit));
            }
        }
        let Some((cost, unit)) = best else { return removed };
        for &column in &units[unit] {
            state.remove(column);
        }
        is_left[unit] = false;
        if let Some((of, left)) = &mut groups {
            left[of[unit]] -= 1;
        }
        removed.push((unit, cost * units[unit].len() as f64));
    }
}

/// `H^-1` restricted to the columns that are left, and the weights that are optimal for them.
///
/// Columns that are left occupy the first `left` places; of the matrix the lower triangle counts.
struct State {
    inverse: Vec<f64>,
    weights: Vec<Vec<f64>>,
    size: usize,
    left: usize,
    /// Where each column is, and the column at each place.
    place_of: Vec<usize>,
    column_at: Vec<usize>,
    /// The matrix column that is being removed.
    taken: Vec<f64>,
}

impl State {
    fn new(inverse: &[f64], weights: &[&[f64]]) -> Self {
        let size = weights.first().map_or(0, |row| row.len());
        Self {
            inverse: inverse.to_vec(),
            weights: weights.iter().map(|row| row.to_vec()).collect(),
            size,
            left: size,
            place_of: (0..size).collect(),
            column_at: (0..size).collect(),
            taken: vec![0.0; size],
        }
    }

    /// An entry of the symmetric matrix.
    fn at(&self, a: usize, b: usize) -> f64 {
        self.inverse[a.max(b) * self.size + a.min(b)]
    }

    /// What removing the columns of a unit costs: by eliminating them one after the other in a small
    /// copy.
    fn cost(&self, columns: &[usize]) -> f64 {
        if let [column] = columns {
            let place = self.place_of[*column];
            let square: f64 = self.weights.iter().map(|row| row[place] * row[place]).sum();
            return square / pivot(self.at(place, place));
        }
        let places: Vec<usize> = columns.iter().map(|&column| self.place_of[column]).collect();
        let n = places.len();
        let mut small: Vec<f64> = Vec::with_capacity(n * n);
        for &a in &places {
            small.extend(places.iter().map(|&b| self.at(a, b)));
        }
        let mut rows: Vec<Vec<f64>> =
            self.weights.iter().map(|row| places.iter().map(|&p| row[p]).collect()).collect();
        let mut cost = 0.0;
        for k in 0..n {
            let diagonal = pivot(small[k * n + k]);
            for row in &mut rows {
                cost += row[k] * row[k] / diagonal;
                let factor = row[k] / diagonal;
                for i in k + 1..n {
                    row[i] -= factor * small[i * n + k];
                }
            }
            for i in k + 1..n {
                let factor = small[i * n + k] / diagonal;
                for j in k + 1..n {
                    small[i * n + j] -= factor * small[k * n + j];
                }
            }
        }
        cost
    }

    /// Removes a column: the others make up for it, and their inverse loses its part.
    fn remove(&mut self, column: usize) {
        let (place, last, size) = (self.place_of[column], self.left - 1, self.size);
        self.swap(place, last);
        let diagonal = pivot(self.inverse[last * size + last]);
        self.taken[..last].copy_from_slice(&self.inverse[last * size..last * size + last]);
        let taken = &self.taken[..last];
        for row in &mut self.weights {
            let factor = row[last] / diagonal;
            row.iter_mut().zip(taken).for_each(|(w, t)| *w -= factor * t);
        }
        let inverse = &mut self.inverse;
        widest(|| {
            for (i, t) in taken.iter().enumerate() {
                let factor = t / diagonal;
                let row = &mut inverse[i * size..i * size + i + 1];
                row.iter_mut().zip(taken).for_each(|(entry, t)| *entry -= factor * t);
            }
        });
        self.left = last;
    }

    /// Lets two places of the lower triangle change; `b` is the last place and not below `a`.
    fn swap(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let size = self.size;
        for k in 0..a {
            self.inverse.swap(a * size + k, b * size + k);
        }
        for k in a + 1..b {
            self.inverse.swap(k * size + a, b * size + k);
        }
        self.inverse.swap(a * size + a, b * size + b);
        for row in &mut self.weights {
            row.swap(a, b);
        }
        self.column_at.swap(a, b);
        self.place_of[self.column_at[a]] = a;
        self.place_of[self.column_at[b]] = b;
    }
}

/// A diagonal entry of a positive definite matrix, which rounding may have brought to zero.
fn pivot(diagonal: f64) -> f64 {
    diagonal.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::linear::{inverse, solve};
    use super::*;
    use faer::Mat;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::RngCore;

    fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
        (0..count).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5).collect()
    }

    /// A well-conditioned Hessian and two rows.
    fn problem(p: usize) -> (Mat<f64>, Vec<Vec<f64>>) {
        let mut rng = tensor_core::random::stream(0, "eliminate");
        let a = numbers(&mut rng, 3 * p * p);
        let a =
            Mat::from_fn(3 * p, p, |i, j| a[i * p + j] + if j > 0 { 0.5 * a[i * p] } else { 0.0 });
        (a.transpose() * &a, vec![numbers(&mut rng, p), numbers(&mut rng, p)])
    }

    /// The least error when some columns must be zero, from the normal equations.
    fn error(h: &Mat<f64>, rows: &[Vec<f64>], keep: &[usize]) -> f64 {
        let p = h.nrows();
        let part = Mat::from_fn(keep.len(), keep.len(), |i, j| h[(keep[i], keep[j])]);
        rows.iter()
            .map(|w| {
                let full = Mat::from_fn(p, 1, |i, _| w[i]);
                let right = h * &full;
                let right = Mat::from_fn(keep.len(), 1, |i, _| right[(keep[i], 0)]);
                let kept = solve(part.as_ref(), right.as_ref()).unwrap();
                let mut change = full;
                keep.iter().enumerate().for_each(|(i, &k)| change[(k, 0)] -= kept[(i, 0)]);
                (change.transpose() * h * &change)[(0, 0)]
            })
            .sum()
    }

    fn trace(h: &Mat<f64>, rows: &[Vec<f64>], units: &[Vec<usize>]) -> Vec<(usize, f64)> {
        let inverse = inverse(h.as_ref()).unwrap();
        let p = h.nrows();
        let flat: Vec<f64> = (0..p * p).map(|i| inverse[(i / p, i % p)]).collect();
        let weights = rows.iter().map(Vec::as_slice).collect();
        eliminate(Rows { inverse: &flat, weights, zero: &[], units, groups: None })
    }

    /// The sum of the steps is the error of the normal equations, at every length.
    #[test]
    fn steps_add_up_to_the_least_error() {
        let (h, rows) = problem(12);
        let singles: Vec<Vec<usize>> = (0..12).map(|c| vec![c]).collect();
        let pairs: Vec<Vec<usize>> = (0..6).map(|c| vec![2 * c, 2 * c + 1]).collect();
        for (units, rows) in [(&singles, &rows[..1]), (&pairs, &rows[..])] {
            let mut keep: Vec<usize> = (0..12).collect();
            let mut sum = 0.0;
            for (unit, step) in trace(&h, rows, units) {
                keep.retain(|column| !units[unit].contains(column));
                sum += step;
                let expected = error(&h, rows, &keep);
                // Sums of a dozen terms in f64.
                assert!((sum - expected).abs() < 1e-10 * expected, "{sum} {expected}");
            }
            assert!(keep.is_empty());
        }
    }

    #[test]
    fn the_first_removal_is_the_best_one() {
        let (h, rows) = problem(9);
        let units: Vec<Vec<usize>> = (0..9).map(|c| vec![c]).collect();
        let without =
            |c: usize| error(&h, &rows[..1], &(0..9).filter(|&k| k != c).collect::<Vec<_>>());
        let best = (0..9).min_by(|&a, &b| without(a).total_cmp(&without(b))).unwrap();
        assert_eq!(trace(&h, &rows[..1], &units)[0].0, best);
    }

    #[test]
    fn groups_limit_what_goes() {
        let (h, rows) = problem(8);
        let inverse = inverse(h.as_ref()).unwrap();
        let flat: Vec<f64> = (0..64).map(|i| inverse[(i / 8, i % 8)]).collect();
        let units: Vec<Vec<usize>> = (0..8).map(|c| vec![c]).collect();
        let of = [0, 0, 0, 0, 1, 1, 1, 1];
        let weights = vec![rows[0].as_slice()];
        let groups = Some((&of[..], vec![2, 1]));
        let rows = Rows { inverse: &flat, weights, zero: &[], units: &units, groups };
        let removed = eliminate(rows);
        let first = removed.iter().filter(|(unit, _)| *unit < 4).count();
        assert_eq!((removed.len(), first), (3, 2));
    }

    /// Zeros go first, no more of them than a group may lose, and the others as if they had never
    /// been there.
    #[test]
    fn zeros_go_first() {
        let (h, rows) = problem(8);
        let units: Vec<Vec<usize>> = (0..8).map(|c| vec![c]).collect();
        let inverse_of = |columns: &[usize]| {
            let n = columns.len();
            let part = Mat::from_fn(n, n, |i, j| h[(columns[i], columns[j])]);
            let inverse = inverse(part.as_ref()).unwrap();
            (0..n * n).map(|i| inverse[(i / n, i % n)]).collect::<Vec<f64>>()
        };
        let flat = inverse_of(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let zero = [1, 2, 3, 6];
        let run = |groups| {
            let weights = vec![rows[0].as_slice()];
            eliminate(Rows { inverse: &flat, weights, zero: &zero, units: &units, groups })
        };
        let removed = run(None);
        let first: Vec<usize> = removed[..4].iter().map(|&(unit, _)| unit).collect();
        assert_eq!(first, zero);
        // What is left without the zeros: its inverse is of that part alone, its minimum too.
        let left = [0, 4, 5, 7];
        let part = Mat::from_fn(4, 4, |i, j| h[(left[i], left[j])]);
        let right = &h * Mat::from_fn(8, 1, |i, _| rows[0][i]);
        let right = Mat::from_fn(4, 1, |i, _| right[(left[i], 0)]);
        let minimum = solve(part.as_ref(), right.as_ref()).unwrap();
        let minimum: Vec<f64> = (0..4).map(|i| minimum[(i, 0)]).collect();
        let expected = eliminate(Rows {
            inverse: &inverse_of(&left),
            weights: vec![&minimum],
            zero: &[],
            units: &units[..4],
            groups: None,
        });
        for (found, expected) in removed[4..].iter().zip(expected) {
            assert_eq!(found.0, left[expected.0]);
            // A few operations in f64.
            assert!((found.1 - expected.1).abs() < 1e-10 * expected.1, "{found:?} {expected:?}");
        }
        let removed = run(Some((&[0, 0, 0, 0, 1, 1, 1, 1], vec![2, 2])));
        let units: Vec<usize> = removed.iter().map(|&(unit, _)| unit).collect();
        assert_eq!((&units[..3], units.len()), (&[1, 2, 6][..], 4));
        assert!(units[3] >= 4);
    }
}
