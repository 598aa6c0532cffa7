//! Statistics as plain arrays, to be kept in a file.

use super::{Moments, Rows, Statistics, StatisticsLimits};
use crate::{Constant, ElementType, Error, Result};
use std::collections::BTreeMap;

/// The arrays that statistics consist of, by name.
///
/// Moments of `S` rows of `p` inputs and `n` responses are
///
/// | name | type | shape | content |
/// |---|---|---|---|
/// | `counts` | integers | 2 | `S`, and 1 where products were summed in 32 bits over blocks, else 0 |
/// | `shifts` | 32-bit | p + n | what all sums are of differences from: of the inputs, of the responses |
/// | `sums` | 64-bit | p + 2 n | of the inputs, of the responses, of squared responses |
/// | `gram` | 64-bit | p (p + 1) / 2 | `X^T X` on and below the diagonal, column after column |
/// | `cross` | 64-bit | n x p | `(X^T Y)^T` |
///
/// and rows are `x` (S x p) and `y` (S x n), 32-bit.
pub type Parts = BTreeMap<String, Constant>;

fn f64s(dims: &[usize], values: impl Iterator<Item = f64>) -> Result<Constant> {
    let bytes = values.flat_map(f64::to_le_bytes).collect();
    Constant::from_bytes(ElementType::F64, dims.to_vec(), bytes)
}

/// One of the parts, of `count` finite numbers.
fn part<'a>(parts: &'a Parts, name: &str, count: usize) -> Result<&'a Constant> {
    let found = parts.get(name).ok_or_else(|| Error::invalid(format!("`{name}` is missing")))?;
    if found.count() != count {
        let message = format!("`{name}` has {} numbers instead of {count}", found.count());
        return Err(Error::invalid(message));
    }
    Ok(found)
}

fn finite(parts: &Parts, name: &str, count: usize) -> Result<Vec<f64>> {
    let values = part(parts, name, count)?.to_f64s()?;
    match values.iter().find(|v| !v.is_finite()) {
        Some(wrong) => Err(Error::invalid(format!("`{name}` has the number {wrong}"))),
        None => Ok(values),
    }
}

impl Statistics {
    /// The arrays that [`from_parts`](Self::from_parts) makes the same statistics of, bit by bit.
    ///
    /// # Errors
    /// When the numbers of rows do not fit an integer.
    pub fn to_parts(&self) -> Result<Parts> {
        match self {
            Self::Moments(moments) => moments.to_parts(),
            Self::Rows(rows) => rows.to_parts(),
        }
    }

    /// Statistics of `inputs` and `outputs` columns from their arrays.
    ///
    /// # Errors
    /// When an array is missing, of another size, or not finite.
    pub fn from_parts(inputs: usize, outputs: usize, parts: &Parts) -> Result<Self> {
        match parts.contains_key("x") {
            true => Ok(Self::Rows(Rows::from_parts(inputs, outputs, parts)?)),
            false => Ok(Self::Moments(Moments::from_parts(inputs, outputs, parts)?)),
        }
    }
}

impl Moments {
    fn to_parts(&self) -> Result<Parts> {
        let (p, n) = (self.inputs(), self.outputs());
        let rows =
            i64::try_from(self.rows).map_err(|_| Error::internal(format!("{} rows", self.rows)))?;
        let shifts: Vec<f32> = self.shift_x.iter().chain(&self.shift_y).copied().collect();
        let sums = self.sum_x.iter().chain(&self.sum_y).chain(&self.sum_y2).copied();
        let gram = (0..p).flat_map(|j| self.gram.col_as_slice(j)[j..].iter().copied());
        let cross = (0..n).flat_map(|j| self.cross.col_as_slice(j).iter().copied());
        let named = [
            ("counts", Constant::from_i64s(&[2], &[rows, i64::from(self.is_blocked)])?),
            ("shifts", Constant::from_f32s(&[p + n], &shifts)?),
            ("sums", f64s(&[p + 2 * n], sums)?),
            ("gram", f64s(&[p * (p + 1) / 2], gram)?),
            ("cross", f64s(&[n, p], cross)?),
        ];
        Ok(named.into_iter().map(|(name, array)| (name.to_owned(), array)).collect())
    }

    fn from_parts(p: usize, n: usize, parts: &Parts) -> Result<Self> {
        let mut moments = Self::new(p, n)?;
        let counts = part(parts, "counts", 2)?.to_i64s()?;
        moments.rows = usize::try_from(counts[0])
            .map_err(|_| Error::invalid(format!("`counts` says {} rows", counts[0])))?;
        moments.is_blocked = counts[1] != 0;
        finite(parts, "shifts", p + n)?;
        let shifts = part(parts, "shifts", p + n)?.to_f32s()?;
        moments.shift_x.copy_from_slice(&shifts[..p]);
        moments.shift_y.copy_from_slice(&shifts[p..]);
        let sums = finite(parts, "sums", p + 2 * n)?;
        moments.sum_x.copy_from_slice(&sums[..p]);
        moments.sum_y.copy_from_slice(&sums[p..p + n]);
        moments.sum_y2.copy_from_slice(&sums[p + n..]);
        let gram = finite(parts, "gram", p * (p + 1) / 2)?;
        let mut rest = gram.as_slice();
        for j in 0..p {
            let (column, others) = rest.split_at(p - j);
            moments.gram.col_as_slice_mut(j)[j..].copy_from_slice(column);
            rest = others;
        }
        let cross = finite(parts, "cross", p * n)?;
        for (j, column) in cross.chunks_exact(p).enumerate() {
            moments.cross.col_as_slice_mut(j).copy_from_slice(column);
        }
        Ok(moments)
    }
}

impl Rows {
    fn to_parts(&self) -> Result<Parts> {
        let rows = self.rows();
        let x = Constant::from_f32s(&[rows, self.inputs()], &self.x)?;
        let y = Constant::from_f32s(&[rows, self.outputs()], &self.y)?;
        Ok([("x".to_owned(), x), ("y".to_owned(), y)].into())
    }

    fn from_parts(p: usize, n: usize, parts: &Parts) -> Result<Self> {
        let mut rows = Self::new(p, n, StatisticsLimits::default().max_bytes)?;
        let count = parts.get("y").map_or(0, Constant::count) / n;
        let x = part(parts, "x", count.saturating_mul(p))?.to_f32s()?;
        rows.push(&x, &part(parts, "y", count * n)?.to_f32s()?)?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin() + 3.0).collect()
    }

    #[test]
    fn parts_give_the_same_statistics() {
        let (p, n, rows) = (5, 3, 40);
        for (limit, is_moments) in [(100, true), (1, false)] {
            let limits = StatisticsLimits { max_gram_columns: limit, max_bytes: 1 << 20 };
            let mut statistics = Statistics::new(p, n, 100_000, limits)
                .or_else(|_| Statistics::new(p, n, rows, limits))
                .unwrap();
            statistics.push(&numbers(rows * p, 0.37), &numbers(rows * n, 0.11)).unwrap();
            assert_eq!(matches!(statistics, Statistics::Moments(_)), is_moments);
            let parts = statistics.to_parts().unwrap();
            let again = Statistics::from_parts(p, n, &parts).unwrap();
            assert_eq!(again.to_parts().unwrap(), parts);
            match (statistics, again) {
                (Statistics::Moments(a), Statistics::Moments(b)) => {
                    let (a, b) = (a.centred().unwrap(), b.centred().unwrap());
                    assert_eq!((a.gram, a.cross, a.mean_x), (b.gram, b.cross, b.mean_x));
                    assert_eq!((a.energy, a.rounding, a.rows), (b.energy, b.rounding, b.rows));
                }
                (Statistics::Rows(a), Statistics::Rows(b)) => {
                    let (a, b) = (a.centred().unwrap(), b.centred().unwrap());
                    assert_eq!((a.x, a.y), (b.x, b.y));
                }
                _ => panic!("another form"),
            }
        }
    }

    #[test]
    fn wrong_parts_are_refused() {
        let mut moments = Moments::new(2, 1).unwrap();
        moments.push(&[1.0, 2.0, 3.0, 5.0], &[1.0, 2.0]).unwrap();
        let parts = Statistics::from(moments).to_parts().unwrap();
        for name in parts.keys() {
            let mut wrong = parts.clone();
            wrong.remove(name);
            assert!(Statistics::from_parts(2, 1, &wrong).is_err(), "without {name}");
        }
        assert!(Statistics::from_parts(3, 1, &parts).is_err());
        let mut wrong = parts.clone();
        wrong.insert("sums".into(), f64s(&[4], [1.0, f64::NAN, 1.0, 1.0].into_iter()).unwrap());
        assert!(Statistics::from_parts(2, 1, &wrong).is_err());
        let mut negative = parts;
        negative.insert("counts".into(), Constant::from_i64s(&[2], &[-1, 0]).unwrap());
        assert!(Statistics::from_parts(2, 1, &negative).is_err());
    }
}
