//! Which rows a long network needs: blocks that repeat are shown once.

use super::{Network, Shown};

/// Rows up to which every node is shown.
const EVERY: usize = 300;

/// Longest block that is looked for.
const LONGEST: usize = 120;

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) struct Row {
    /// The node, by its place in the network.
    pub(in crate::commands) node: usize,
    /// Where a block begins that repeats: its rows, and how often it stands here.
    pub(in crate::commands) block: Option<(usize, usize)>,
}

/// The rows of a network, and for each node its row.
pub(in crate::commands) fn rows(network: &Network) -> (Vec<Row>, Vec<usize>) {
    let nodes = &network.nodes;
    if nodes.len() <= EVERY {
        let rows = (0..nodes.len()).map(|node| Row { node, block: None }).collect();
        return (rows, (0..nodes.len()).collect());
    }
    // Blocks of the same widths are the same to the eye; where that leaves too much, of any width.
    let exact = |a: &Shown, b: &Shown| {
        (&a.op, a.channels, &a.dims, a.bits) == (&b.op, b.channels, &b.dims, b.bits)
    };
    let folded = fold(nodes, exact);
    match folded.0.len() <= EVERY {
        true => folded,
        false => fold(nodes, |a, b| a.op == b.op),
    }
}

fn fold(nodes: &[Shown], same: impl Fn(&Shown, &Shown) -> bool) -> (Vec<Row>, Vec<usize>) {
    let mut rows: Vec<Row> = Vec::new();
    let mut place = vec![0; nodes.len()];
    let mut at = 0;
    while at < nodes.len() {
        let (length, times) = repeat(&nodes[at..], &same);
        for offset in 0..length {
            let block = (offset == 0 && times > 1).then_some((length, times));
            for turn in 0..times {
                place[at + turn * length + offset] = rows.len();
            }
            rows.push(Row { node: at + offset, block });
        }
        at += length * times;
    }
    (rows, place)
}

/// The block at the beginning that saves most rows, and how often it stands there.
fn repeat(nodes: &[Shown], same: &impl Fn(&Shown, &Shown) -> bool) -> (usize, usize) {
    let mut best = (1, 1);
    for length in 1..=LONGEST.min(nodes.len() / 2) {
        let is_same = |at: usize| same(&nodes[at % length], &nodes[at]);
        let equal = (length..nodes.len()).take_while(|&at| is_same(at)).count();
        let times = 1 + equal / length;
        if (times - 1) * length > (best.1 - 1) * best.0 {
            best = (length, times);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::{Bits, Family};
    use super::*;

    fn node(op: &str, channels: usize) -> Shown {
        Shown {
            key: String::new(),
            op: op.to_owned(),
            family: Family::Other,
            input: String::new(),
            output: String::new(),
            dims: None,
            reads: Vec::new(),
            channels: Some(channels),
            group: None,
            bits: Bits::default(),
            is_depthwise: false,
            is_spatial: false,
            macs: 0,
            parameters: 0,
            bytes: 0,
        }
    }

    fn network(nodes: Vec<Shown>) -> Network {
        Network { nodes, cost: tensor_core::cost::Cost::default() }
    }

    #[test]
    fn short_networks_are_shown_whole() {
        let network = network(vec![node("Conv", 8); 300]);
        assert_eq!(rows(&network).0.len(), 300);
    }

    #[test]
    fn blocks_are_shown_once_with_their_number() {
        let mut nodes = vec![node("Stem", 3)];
        for _ in 0..200 {
            nodes.extend([node("Conv", 8), node("Relu", 8)]);
        }
        nodes.push(node("Gemm", 10));
        let (rows, place) = rows(&network(nodes));
        let blocks: Vec<_> = rows.iter().map(|row| (row.node, row.block)).collect();
        assert_eq!(blocks, [(0, None), (1, Some((2, 200))), (2, None), (401, None)]);
        assert_eq!((place[1], place[3], place[400], place[401]), (1, 1, 2, 3));
    }

    #[test]
    fn where_widths_differ_operators_decide() {
        let nodes: Vec<Shown> = (0..400).map(|at| node("Conv", at)).collect();
        assert_eq!(rows(&network(nodes)).0, [Row { node: 0, block: Some((1, 400)) }]);
    }
}
