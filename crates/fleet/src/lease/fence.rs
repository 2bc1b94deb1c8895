//! What refuses the effects of holders whose lease another one has got.

use super::book::Holding;

/// Takes effects in the order of their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence(Option<Holding>);

impl Fence {
    /// Whether an effect of this holder is taken: not when one of a later grant was, or, where a server has given a token twice, one of
    /// another claim with the same.
    pub fn admits(&mut self, by: Holding) -> bool {
        let admitted = self.0.is_none_or(|seen| by.token > seen.token || by == seen);
        if admitted {
            self.0 = Some(by);
        }
        admitted
    }
}
