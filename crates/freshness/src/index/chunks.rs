//! A vector that grows by pieces: what is in it never moves, so that a large one leaves no half as large behind, and has no half that is empty.

/// Members of a piece; a power of two.
const SIZE: usize = 256;

pub(super) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Chunks<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * SIZE + last.len())
    }
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at / SIZE)?.get(at % SIZE)
    }
    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.get_mut(at / SIZE)?.get_mut(at % SIZE)
    }
    /// Puts a value at the end; its place.
    pub(super) fn push(&mut self, value: T) -> usize {
        let at = self.len();
        match self.0.last_mut() {
            Some(last) if last.len() < SIZE => last.push(value),
            _ => {
                let mut piece = Vec::with_capacity(SIZE);
                piece.push(value);
                self.0.push(piece);
            }
        }
        at
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_vector() {
        let mut chunks = Chunks::new();
        for n in 0..1_000 {
            assert_eq!((chunks.len(), chunks.push(n)), (n, n));
        }
        *chunks.get_mut(700).unwrap() = 1;
        assert_eq!((chunks.get(256), chunks.get(700), chunks.get(1_000)), (Some(&256), Some(&1), None));
        assert!(chunks.iter().count() == 1_000 && chunks.iter().take(700).copied().eq(0..700));
    }
}
