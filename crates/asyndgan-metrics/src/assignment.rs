//! One-to-one assignment with the largest total weight, for sparse weights.

use std::collections::BTreeMap;

/// Chooses pairs (left, right, positive weight) with the largest sum, using each side at most once; returns their
/// indices, ascending.
///
/// Pairs form small groups that are not connected to each other; each group is solved separately.
pub(crate) fn assign(pairs: &[(u32, u32, f64)]) -> Vec<usize> {
    let mut chosen: Vec<usize> = groups(pairs).iter().flat_map(|group| solve(pairs, group)).collect();
    chosen.sort_unstable();
    chosen
}

/// Indices of pairs by the connected group that they belong to.
fn groups(pairs: &[(u32, u32, f64)]) -> Vec<Vec<usize>> {
    let mut of_right: BTreeMap<u32, usize> = BTreeMap::new();
    let mut of_left: BTreeMap<u32, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, &(left, right, _)) in pairs.iter().enumerate() {
        let [a, b] = [of_left.get(&left).copied(), of_right.get(&right).copied()];
        let own = match (a, b) {
            (Some(a), Some(b)) if a != b => {
                // The smaller moves, so that no pair moves often.
                let (kept, other) = if groups[a].len() < groups[b].len() { (b, a) } else { (a, b) };
                let moved = std::mem::take(&mut groups[other]);
                for &j in &moved {
                    of_left.insert(pairs[j].0, kept);
                    of_right.insert(pairs[j].1, kept);
                }
                groups[kept].extend(moved);
                kept
            }
            (Some(a), _) | (None, Some(a)) => a,
            (None, None) => {
                groups.push(Vec::new());
                groups.len() - 1
            }
        };
        groups[own].push(i);
        of_left.insert(left, own);
        of_right.insert(right, own);
    }
    groups
}

/// The Hungarian method on the matrix of one group, by shortest augmenting paths with potentials.
///
/// # Reference
/// Jonker and Volgenant, Computing 38, 1987.
fn solve(pairs: &[(u32, u32, f64)], group: &[usize]) -> Vec<usize> {
    let side = |of: fn(&(u32, u32, f64)) -> u32| {
        let mut names: Vec<u32> = group.iter().map(|&i| of(&pairs[i])).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let (lefts, rights) = (side(|p| p.0), side(|p| p.1));
    // The shorter side is assigned row by row. As many extra columns of weight 0 let each row stay unassigned.
    let turned = rights.len() < lefts.len();
    let (lefts, rights) = if turned { (rights, lefts) } else { (lefts, rights) };
    let (n, m) = (lefts.len(), rights.len() + lefts.len());
    // Of each row's costs only those that are not 0: a group of cells side by side may hold thousands.
    let mut costs = vec![Vec::new(); n];
    let mut pair = BTreeMap::new();
    for &i in group {
        let (own, other) = if turned { (pairs[i].1, pairs[i].0) } else { (pairs[i].0, pairs[i].1) };
        let (l, r) = (lefts.partition_point(|&n| n < own), rights.partition_point(|&n| n < other));
        costs[l].push((r + 1, -pairs[i].2));
        pair.insert((l, r), i);
    }
    // Columns count from 1, column 0 holds the row that is being placed.
    let (mut row_potential, mut column_potential) = (vec![0.0; n], vec![0.0; m + 1]);
    let mut row_of: Vec<Option<usize>> = vec![None; m + 1];
    let mut cost = vec![0.0; m + 1];
    for row in 0..n {
        row_of[0] = Some(row);
        let (mut nearest, mut from, mut done) = (vec![f64::INFINITY; m + 1], vec![0; m + 1], vec![false; m + 1]);
        let mut column = 0;
        while let Some(r) = row_of[column] {
            done[column] = true;
            costs[r].iter().for_each(|&(c, of)| cost[c] = of);
            let (mut step, mut next) = (f64::INFINITY, 0);
            for c in 1..=m {
                if done[c] {
                    continue;
                }
                let reduced = cost[c] - row_potential[r] - column_potential[c];
                if reduced < nearest[c] {
                    (nearest[c], from[c]) = (reduced, column);
                }
                if nearest[c] < step {
                    (step, next) = (nearest[c], c);
                }
            }
            costs[r].iter().for_each(|&(c, _)| cost[c] = 0.0);
            for c in 0..=m {
                if let Some(r) = row_of[c].filter(|_| done[c]) {
                    row_potential[r] += step;
                    column_potential[c] -= step;
                } else {
                    nearest[c] -= step;
                }
            }
            column = next;
        }
        while column > 0 {
            row_of[column] = row_of[from[column]];
            column = from[column];
        }
    }
    (1..=m).filter_map(|c| pair.get(&(row_of[c]?, c - 1)).copied()).collect()
}
