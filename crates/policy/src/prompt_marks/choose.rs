//! Which of a prompt's boundaries are marked.
//!
//! With marks at `s1 < s2 < ... < e` the input between two marks is read by whoever comes with the longer prefix: the segment that ends at `s`
//! by the `reads` expected of the prefix that ends at `s`. Each of these saves `1 - read` per unit; what is written, beyond what the provider
//! has, costs `write - 1` more than plain input. The best set is found by dynamic programming over the boundaries and the number of marks. What
//! the provider has is read now only if a mark stands within its lookback.

use super::{Boundary, MarkTerms};
use crate::prompt_cache::WritePrices;

/// A boundary as it is weighed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place among the prompt's boundaries.
    pub place: usize,
    /// Reads that are expected before the prefix is forgotten, if it is kept from now on.
    pub reads: f64,
    /// The provider has it.
    pub warm: bool,
}

/// What marks are weighed by.
pub(super) struct Scale<'a> {
    pub boundaries: &'a [Boundary],
    pub prices: WritePrices,
    pub terms: MarkTerms,
}

impl Scale<'_> {
    fn saved(&self) -> f64 {
        f64::from(1_000 - self.prices.read.min(1_000))
    }

    fn premium(&self) -> f64 {
        f64::from(self.prices.write.max(1_000) - 1_000)
    }

    fn size(&self, candidate: &Candidate) -> f64 {
        self.boundaries.get(candidate.place).map_or(0.0, |boundary| boundary.size as f64)
    }

    /// What the segment up to `candidate` is worth behind what ends at `before` units, when `warm` units are there already.
    fn segment(&self, candidate: &Candidate, before: f64, warm: f64) -> f64 {
        let size = self.size(candidate);
        (size - before) * candidate.reads * self.saved() - (size - before.max(warm)).max(0.0) * self.premium()
    }

    /// Whether the provider finds the prefix that ends at `warm` from one of the marks.
    pub(super) fn finds(&self, marks: &[usize], warm: usize) -> bool {
        let blocks = |place: usize| self.boundaries.get(place).map_or(0, |boundary| boundary.blocks);
        marks.iter().any(|mark| *mark >= warm && blocks(*mark) - blocks(warm) < self.terms.lookback)
    }
}

/// Places of the marks that are worth most, ascending, and their worth in thousandths of the price of plain input; none where none is worth
/// anything. `candidates` ascend.
pub(super) fn best(scale: &Scale<'_>, candidates: &[Candidate]) -> (Vec<usize>, f64) {
    let warm = candidates.iter().rev().find(|candidate| candidate.warm);
    let free = planned(scale, candidates, scale.terms.most);
    let Some(warm) = warm else { return free };
    let now = scale.size(warm) * scale.saved();
    if scale.finds(&free.0, warm.place) {
        return (free.0, free.1 + now);
    }
    // One mark for what is there, so that it is read.
    let (mut marks, worth) = planned(scale, candidates, scale.terms.most.saturating_sub(1));
    marks.push(warm.place);
    marks.sort_unstable();
    marks.dedup();
    if worth + now > free.1 { (marks, worth + now) } else { free }
}

/// The best marks that end at a candidate: their worth, and the candidate before.
type End = (f64, Option<usize>);

/// The best at most `most` marks by what they are worth later.
fn planned(scale: &Scale<'_>, candidates: &[Candidate], most: usize) -> (Vec<usize>, f64) {
    let warm = candidates.iter().filter(|candidate| candidate.warm).map(|candidate| scale.size(candidate)).fold(0.0, f64::max);
    // By how many marks there are, and by the last of them.
    let mut rows: Vec<Vec<Option<End>>> = Vec::with_capacity(most);
    for row in 0..most {
        let next = candidates.iter().enumerate().map(|(last, candidate)| match row.checked_sub(1).and_then(|before| rows.get(before)) {
            None => Some((scale.segment(candidate, 0.0, warm), None)),
            Some(before) => {
                let from = |(place, known): (usize, &Option<End>)| {
                    let (worth, _) = (*known)?;
                    let behind = candidates.get(place).map_or(0.0, |candidate| scale.size(candidate));
                    Some((worth + scale.segment(candidate, behind, warm), Some(place)))
                };
                before.iter().enumerate().take(last).filter_map(from).max_by(|a, b| a.0.total_cmp(&b.0))
            }
        });
        let next: Vec<_> = next.collect();
        rows.push(next);
    }
    let ends = rows
        .iter()
        .enumerate()
        .flat_map(|(row, ends)| ends.iter().enumerate().filter_map(move |(last, end)| end.as_ref().map(|(worth, _)| (row, last, *worth))));
    // Of equals the fewest marks.
    let Some((row, last, worth)) = ends.filter(|(.., worth)| *worth > 0.0).reduce(|a, b| if b.2 > a.2 { b } else { a }) else {
        return (Vec::new(), 0.0);
    };
    let mut marks = Vec::with_capacity(row + 1);
    let mut at = Some(last);
    for row in (0..=row).rev() {
        let Some(last) = at else { break };
        marks.extend(candidates.get(last).map(|candidate| candidate.place));
        at = rows.get(row).and_then(|ends| ends.get(last)).and_then(|end| end.as_ref()).and_then(|(_, from)| *from);
    }
    marks.reverse();
    (marks, worth)
}
