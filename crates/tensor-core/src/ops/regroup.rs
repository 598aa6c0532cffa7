//! Channel labels through a change of shape that keeps the element order (`Reshape`, `Flatten`).

use crate::channels::{Flow, Label, Labels, SplitAxis};
use std::ops::Range;
use std::sync::Arc;

/// Largest block of elements whose labels are worked out one by one.
const MAX_BLOCK: usize = 1 << 22;

/// Splits two shapes of equal count into the smallest runs of axes with equal products.
/// Axes of length 1 go with the run after them.
fn blocks(from: &[usize], to: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut blocks = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let (first_i, first_j) = (i, j);
        let (mut a, mut b) = (1_usize, 1_usize);
        while a != b || a == 1 {
            if i < from.len() && (a <= b || j == to.len()) {
                a *= from[i];
                i += 1;
            } else if j < to.len() {
                b *= to[j];
                j += 1;
            } else {
                break;
            }
        }
        blocks.push((first_i..i, first_j..j));
    }
    blocks
}

/// Labels of the first output after regrouping the first input's axes.
///
/// Within a block of axes at most one may carry labels. Merging repeats its labels; splitting ties
/// them so that one of the new axes carries all of them: the one that leaves the most classes, or that of
/// heads ([`SplitAxis`]). Anything else is frozen.
pub(super) fn regroup(flow: &mut Flow, from: &[usize], to: &[usize]) -> Labels {
    let labels = flow.input(0);
    let mut result: Labels = vec![None; to.len()];
    if from.contains(&0) {
        flow.freeze_input(0, "it has no elements");
        return result;
    }
    for (old, new) in blocks(from, to) {
        let labelled: Vec<usize> =
            old.clone().filter(|&axis| labels[axis].is_some() && from[axis] > 1).collect();
        let count: usize = from[old.clone()].iter().product();
        let &[axis] = labelled.as_slice() else {
            for axis in labelled {
                flow.freeze_axis(0, axis, "several channel axes are merged");
            }
            continue;
        };
        let Some(list) = labels[axis].clone() else { continue };
        let inner: usize = from[axis + 1..old.end].iter().product();
        let placed = match carry(&list, inner, count, &to[new.clone()], flow.split()) {
            Some(placed) => placed,
            None => {
                flow.freeze_axis(0, axis, "the new shape mixes channels with other axes");
                continue;
            }
        };
        for (a, b) in placed.ties {
            flow.tie(&[list[a]], &[list[b]]);
        }
        result[new.start + placed.axis] = Some(placed.labels);
    }
    result
}

struct Placed {
    /// The new axis, within its block, that carries the labels.
    axis: usize,
    labels: Arc<[Label]>,
    /// Positions of the old axis to tie.
    ties: Vec<(usize, usize)>,
}

/// Finds the new axis that carries the labels of an old axis with `inner` elements per position.
fn carry(
    list: &Arc<[Label]>,
    inner: usize,
    count: usize,
    to: &[usize],
    split: SplitAxis,
) -> Option<Placed> {
    let n = list.len();
    let mut long = (0..to.len()).rev().filter(|&axis| to[axis] > 1);
    let heads = long.nth(1).filter(|_| split == SplitAxis::Heads);
    if count > MAX_BLOCK {
        return None;
    }
    let mut best: Option<(usize, Placed)> = None;
    let mut stride = count;
    for (axis, &length) in to.iter().enumerate() {
        stride /= length;
        if length == 1 || heads.is_some_and(|heads| heads != axis) {
            continue;
        }
        // First old position seen at each new position; later ones are tied to it.
        let mut first = vec![usize::MAX; length];
        let mut root: Vec<usize> = (0..n).collect();
        let mut ties = Vec::new();
        for element in 0..count {
            let old = element / inner % n;
            let new = element / stride % length;
            if first[new] == usize::MAX {
                first[new] = old;
                continue;
            }
            let (a, b) = (find(&mut root, first[new]), find(&mut root, old));
            if a != b {
                root[a.max(b)] = a.min(b);
                ties.push((first[new], old));
            }
        }
        let classes = n - ties.len();
        if classes > 1 && best.as_ref().is_none_or(|(most, _)| classes >= *most) {
            let labels = first.iter().map(|&old| list[old]).collect();
            best = Some((classes, Placed { axis, labels, ties }));
        }
    }
    best.map(|(_, placed)| placed)
}

fn find(root: &mut [usize], mut i: usize) -> usize {
    while root[i] != i {
        root[i] = root[root[i]];
        i = root[i];
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_smallest_with_equal_products() {
        type Case = (&'static [usize], &'static [usize], &'static [(Range<usize>, Range<usize>)]);
        let cases: [Case; 6] = [
            (&[1, 6, 4, 4], &[1, 2, 3, 4, 4], &[(0..2, 0..3), (2..3, 3..4), (3..4, 4..5)]),
            (&[2, 3, 4], &[2, 12], &[(0..1, 0..1), (1..3, 1..2)]),
            (&[6, 1, 1], &[6], &[(0..1, 0..1), (1..3, 1..1)]),
            (&[4, 6], &[6, 4], &[(0..2, 0..2)]),
            (&[1, 1], &[1], &[(0..2, 0..1)]),
            (&[], &[1], &[(0..0, 0..1)]),
        ];
        for (from, to, expected) in cases {
            assert_eq!(blocks(from, to), expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn merging_repeats_and_splitting_ties() {
        let list: Arc<[Label]> = (0..6).collect();
        let merged = carry(&list, 2, 12, &[12], SplitAxis::Finest).expect("a merge is expressible");
        assert_eq!(&*merged.labels, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert!(merged.ties.is_empty());
        let split = carry(&list, 1, 6, &[2, 3], SplitAxis::Finest).expect("a split is expressible");
        assert_eq!((split.axis, &*split.labels), (1, &[0, 1, 2][..]));
        assert_eq!(split.ties, [(0, 3), (1, 4), (2, 5)]);
        let coarse =
            carry(&list, 2, 12, &[4, 3], SplitAxis::Finest).expect("halves are expressible");
        assert_eq!((coarse.axis, &*coarse.labels), (0, &[0, 1, 3, 4][..]));
        assert_eq!(coarse.ties, [(0, 1), (1, 2), (3, 4), (4, 5)]);
        assert!(
            carry(&list, 1, 6, &[1, 1], SplitAxis::Finest).is_none(),
            "no axis can carry labels"
        );
    }

    #[test]
    fn heads_are_the_last_axis_but_one() {
        let list: Arc<[Label]> = (0..12).collect();
        let heads = carry(&list, 1, 12, &[1, 3, 1, 4], SplitAxis::Heads).expect("three heads");
        assert_eq!((heads.axis, &*heads.labels), (1, &[0, 4, 8][..]));
        assert_eq!(heads.ties.len(), 9);
        // Queries, keys and values of two heads side by side.
        let packed = carry(&list, 1, 12, &[3, 2, 2], SplitAxis::Heads).expect("two heads");
        assert_eq!((packed.axis, packed.labels.len(), packed.ties.len()), (1, 2, 10));
        let merged = carry(&list, 2, 24, &[24], SplitAxis::Heads).expect("nothing is split");
        assert_eq!(merged.labels.len(), 24);
    }
}
