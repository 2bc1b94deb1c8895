//! Chunked bodies (RFC 9112 section 7.1), without tolerance.

use memchr::memchr;

use super::super::Refusal;

/// Bytes of chunk extensions in one body; they have no use known to us, and unbounded they make a body of nothing.
const MAX_EXTENSIONS: usize = 4_096;

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the size, with so many digits read.
    Size(u32),
    Extension,
    /// After the CR of a size line.
    SizeLf,
    /// In the data, with `left` to come.
    Data,
    DataCr,
    DataLf,
}

/// Reads the chunks of one body up to and including the size line of the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    state: State,
    left: u64,
    extensions: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { state: State::Size(0), left: 0, extensions: 0 }
    }
}

impl Chunks {
    /// How many of the bytes belong to the chunks, and whether the last chunk's size line is complete.
    pub(super) fn scan(&mut self, data: &[u8]) -> Result<(usize, bool), Refusal> {
        let mut at = 0;
        while at < data.len() {
            if matches!(self.state, State::Data) {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len() - at);
                self.left -= taken as u64;
                at += taken;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            if matches!(self.state, State::Extension) {
                at += self.extension(&data[at..])?;
                continue;
            }
            let done = self.byte(data[at])?;
            at += 1;
            if done {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    fn byte(&mut self, byte: u8) -> Result<bool, Refusal> {
        self.state = match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => self.digit(digits, byte)?,
            (State::Size(1..), b'\r') => State::SizeLf,
            (State::Size(1..), b';') => State::Extension,
            (State::SizeLf, b'\n') if self.left == 0 => return Ok(true),
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::DataCr | State::DataLf, _) => return Err(Refusal::ChunkEnd),
            (State::SizeLf, _) => return Err(Refusal::BareCr),
            _ => return Err(Refusal::ChunkSize),
        };
        Ok(false)
    }

    fn digit(&mut self, digits: u32, byte: u8) -> Result<State, Refusal> {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        // 15 digits are an exabyte; a longer number is an attempt to overflow some reader.
        if digits >= 15 {
            return Err(Refusal::ChunkSize);
        }
        self.left = if digits == 0 { u64::from(value) } else { (self.left << 4) | u64::from(value) };
        Ok(State::Size(digits + 1))
    }

    fn extension(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        let end = memchr(b'\r', data);
        let text = &data[..end.unwrap_or(data.len())];
        self.extensions += text.len();
        if self.extensions > MAX_EXTENSIONS || text.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
            return Err(Refusal::ChunkExtension);
        }
        if end.is_some() {
            self.state = State::SizeLf;
        }
        Ok(text.len() + usize::from(end.is_some()))
    }
}
