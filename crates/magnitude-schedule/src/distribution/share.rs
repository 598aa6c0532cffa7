//! Whole numbers in given proportions.

/// Rounds `wanted` to whole numbers that sum to `total`, none above its capacity: largest remainders
/// first, of equal ones the earlier. What does not fit goes to the others in proportion.
pub(super) fn apportion(wanted: &[f64], capacities: &[usize], total: usize) -> Vec<usize> {
    let total = total.min(capacities.iter().sum());
    let mut quotas: Vec<f64> =
        wanted.iter().zip(capacities).map(|(&w, &most)| w.min(most as f64)).collect();
    // Each round fills a layer or ends, so there are no more rounds than layers.
    for _ in 0..wanted.len() {
        let missing = total as f64 - quotas.iter().sum::<f64>();
        let room: f64 = wanted.iter().zip(capacities).zip(&quotas).map(free).sum();
        if missing <= 0.5 || room <= 0.0 {
            break;
        }
        let factor = missing / room;
        for (quota, (&want, &most)) in quotas.iter_mut().zip(wanted.iter().zip(capacities)) {
            if *quota < most as f64 {
                *quota = (*quota + want * factor).min(most as f64);
            }
        }
    }
    let mut counts: Vec<usize> = quotas.iter().map(|quota| quota.floor() as usize).collect();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    let remainder = |i: &usize| quotas[*i] - quotas[*i].floor();
    order.sort_by(|a, b| remainder(b).total_cmp(&remainder(a)));
    let mut left = total.saturating_sub(counts.iter().sum());
    while left > 0 {
        let before = left;
        for &i in &order {
            if left > 0 && counts[i] < capacities[i] {
                counts[i] += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    counts
}

/// What a layer that is not full weighs when the rest is handed out.
fn free(((&want, &most), &quota): ((&f64, &usize), &f64)) -> f64 {
    if quota < most as f64 { want } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        let most = [10, 10, 10];
        assert_eq!(apportion(&[1.5, 1.5, 1.0], &most, 4), [2, 1, 1]);
        assert_eq!(apportion(&[0.4, 0.3, 0.3], &most, 1), [1, 0, 0]);
        // The first is full: the others take over in proportion.
        assert_eq!(apportion(&[5.0, 2.0, 4.0], &[2, 10, 10], 11), [2, 3, 6]);
        assert_eq!(apportion(&[5.0, 5.0], &[1, 2], 10), [1, 2]);
        assert_eq!(apportion(&[], &[], 3), Vec::<usize>::new());
    }
}
