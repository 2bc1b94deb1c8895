//! Text that must never be printed.

use std::fmt;

/// A secret: never shown by `Debug`, compared in constant time, read only through [`Secret::expose`].
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the one place that sends or hashes it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same text; the time taken depends on the lengths alone.
    pub fn matches(&self, other: &str) -> bool {
        same_bytes(self.0.as_bytes(), other.as_bytes())
    }
}

/// Equality whose running time depends on the lengths alone.
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y));
    std::hint::black_box(difference) == 0 && a.len() == b.len()
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}
impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_and_compares_whole() {
        let secret = Secret::new("abc");
        assert!(!format!("{secret:?}").contains("abc"));
        assert!(secret.matches("abc"));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!secret.matches(other), "{other}");
        }
    }
}
