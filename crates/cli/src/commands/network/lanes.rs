//! Where connections that pass by other rows run.

use super::{Network, Row};

/// Lanes beside the rows; what would need more shares the last one.
const MOST: usize = 6;

/// What stands beside one row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct Lanes {
    /// Is it read from the row above?
    pub(in crate::commands) from_above: bool,
    /// Does the row below read it?
    pub(in crate::commands) to_below: bool,
    /// Lanes that pass.
    pub(in crate::commands) passing: Vec<usize>,
    /// Lanes that begin here.
    pub(in crate::commands) out: Vec<usize>,
    /// Lanes that end here.
    pub(in crate::commands) into: Vec<usize>,
}

/// The lanes of each row, and how many there are.
pub(in crate::commands) fn lanes(
    network: &Network,
    rows: &[Row],
    place: &[usize],
) -> (Vec<Lanes>, usize) {
    let mut lanes = vec![Lanes::default(); rows.len()];
    // The last row that each lane is taken to.
    let mut taken: Vec<usize> = Vec::new();
    let mut last_reader = vec![0; rows.len()];
    for (at, row) in rows.iter().enumerate() {
        for &read in &network.nodes[row.node].reads {
            let from = place[read];
            if from < at {
                last_reader[from] = last_reader[from].max(at);
                if from + 1 == at {
                    lanes[at].from_above = true;
                    lanes[from].to_below = true;
                }
            }
        }
    }
    for from in 0..rows.len() {
        let to = last_reader[from];
        if to <= from + 1 {
            continue;
        }
        let free = taken.iter().position(|&until| until <= from);
        let lane = match free {
            Some(lane) => lane,
            None if taken.len() < MOST => {
                taken.push(0);
                taken.len() - 1
            }
            None => MOST - 1,
        };
        taken[lane] = taken[lane].max(to);
        lanes[from].out.push(lane);
        for (at, beside) in lanes.iter_mut().enumerate().take(to + 1).skip(from + 1) {
            let reads = &network.nodes[rows[at].node].reads;
            // The row right below has its own line.
            if at > from + 1 && reads.iter().any(|&read| place[read] == from) {
                beside.into.push(lane);
            }
            if at < to {
                beside.passing.push(lane);
            }
        }
    }
    for row in &mut lanes {
        for list in [&mut row.passing, &mut row.out, &mut row.into] {
            list.sort_unstable();
            list.dedup();
        }
    }
    (lanes, taken.len())
}
