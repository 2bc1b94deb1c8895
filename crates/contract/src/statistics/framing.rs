//! Lists and texts in the files that hold statistics: little endian, each with its number of items or bytes before it.

/// Bytes of a text; longer ones are cut.
const LONGEST: usize = 1 << 16;

/// Writes how many items follow.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// Writes bytes with their number before them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Reads from the front; `None` whenever something does not fit.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// So many bytes.
    pub fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    /// What [`put_count`] wrote.
    pub fn count(&mut self) -> Option<usize> {
        self.chunk().map(|count| u32::from_le_bytes(count) as usize)
    }
    /// What [`put_bytes`] wrote.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
}
