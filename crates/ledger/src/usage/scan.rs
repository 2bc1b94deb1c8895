//! Finds a few values in JSON text that arrives in pieces, without holding the text.

/// Longest value that is captured, bytes; a longer one is skipped.
const MAX_VALUE: usize = 8 << 10;
/// Longest key that is told apart, bytes; longer ones match nothing.
const MAX_KEY: usize = 40;
/// Keys of a path: values are looked for in the outermost object and in the objects directly within.
const LEVELS: usize = 2;

/// A path of one or two keys.
pub(super) type Path = &'static [&'static str];

/// A scanner that reports the raw JSON text of the values at the wanted paths.
///
/// It accepts any bytes: text that is not JSON yields nothing or, at worst, a captured value that fails to parse later.
#[derive(Debug)]
pub(super) struct Scan {
    wanted: &'static [Path],
    state: State,
    depth: usize,
    levels: [Level; LEVELS],
    string: Option<Str>,
    /// Index of the wanted path whose value comes next.
    next: Option<usize>,
    capture: Option<Capture>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the document, or after it.
    Outside,
    Inside,
    /// Not a JSON object: nothing more until [`Scan::reset`].
    Foreign,
}

#[derive(Debug, Default)]
struct Level {
    object: bool,
    expects_key: bool,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Str {
    key: bool,
    escaped: bool,
}

#[derive(Debug)]
struct Capture {
    path: usize,
    depth: usize,
    scalar: bool,
    text: Vec<u8>,
}

impl Scan {
    pub(super) fn new(wanted: &'static [Path]) -> Self {
        Self {
            wanted,
            state: State::Outside,
            depth: 0,
            levels: [Level::default(), Level::default()],
            string: None,
            next: None,
            capture: None,
        }
    }

    /// Forgets the document at hand; the next bytes begin another one.
    pub(super) fn reset(&mut self) {
        *self = Self { levels: std::mem::take(&mut self.levels), ..Self::new(self.wanted) };
    }

    /// Takes the next bytes; `found` gets the index of the path and the value's text.
    pub(super) fn push(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(usize, &[u8])) {
        while !bytes.is_empty() && self.state != State::Foreign {
            let taken = if self.string.is_some() { self.in_string(bytes, found) } else { self.structure(bytes[0], found) };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Takes string content up to a quote or backslash; answers how many bytes.
    fn in_string(&mut self, bytes: &[u8], found: &mut dyn FnMut(usize, &[u8])) -> usize {
        let Some(string) = &mut self.string else { return 0 };
        if std::mem::take(&mut string.escaped) {
            self.keep(&bytes[..1]);
            return 1;
        }
        let Some(end) = memchr::memchr2(b'"', b'\\', bytes) else {
            self.keep(bytes);
            return bytes.len();
        };
        if bytes[end] == b'\\' {
            string.escaped = true;
            self.keep(&bytes[..=end]);
        } else {
            let key = string.key;
            self.keep(&bytes[..end]);
            self.string = None;
            self.keep(b"\"");
            self.end_of_string(key, found);
        }
        end + 1
    }

    /// Keeps bytes of a key or of a captured value.
    fn keep(&mut self, bytes: &[u8]) {
        if self.string.as_ref().is_some_and(|string| string.key)
            && let Some(level) = self.level()
        {
            let room = (MAX_KEY + 1).saturating_sub(level.key.len());
            level.key.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if let Some(capture) = &mut self.capture {
            if capture.text.len() + bytes.len() > MAX_VALUE {
                self.capture = None;
            } else {
                capture.text.extend_from_slice(bytes);
            }
        }
    }

    fn end_of_string(&mut self, key: bool, found: &mut dyn FnMut(usize, &[u8])) {
        if key {
            self.next = self.match_path();
        } else {
            self.end_of_scalar(found);
        }
    }

    fn match_path(&self) -> Option<usize> {
        let keys = self.levels.get(..self.depth)?;
        let same = |path: &Path| path.len() == keys.len() && path.iter().zip(keys).all(|(want, level)| want.as_bytes() == level.key);
        self.wanted.iter().position(same)
    }

    /// Takes one byte outside of strings.
    fn structure(&mut self, byte: u8, found: &mut dyn FnMut(usize, &[u8])) -> usize {
        match (self.state, byte) {
            (State::Outside, b'{') => {
                self.state = State::Inside;
                self.open(byte);
            }
            (State::Outside, b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF) => {}
            (State::Outside, _) => self.state = State::Foreign,
            (_, b'"') => self.open_string(),
            (_, b'{' | b'[') => self.open(byte),
            (_, b'}' | b']') => self.close(byte, found),
            (_, b',') => {
                self.end_of_scalar(found);
                self.keep(b",");
                if let Some(level) = self.level() {
                    level.expects_key = level.object;
                }
            }
            (_, b' ' | b'\t' | b'\r' | b'\n') => self.end_of_scalar(found),
            (_, b':') => {
                self.keep(b":");
                if let Some(level) = self.level() {
                    level.expects_key = false;
                }
            }
            (_, byte) => {
                self.begin_value(true);
                self.keep(&[byte]);
            }
        }
        1
    }

    fn level(&mut self) -> Option<&mut Level> {
        self.depth.checked_sub(1).and_then(|i| self.levels.get_mut(i))
    }

    fn open_string(&mut self) {
        let key = self.level().is_some_and(|level| level.object && level.expects_key);
        if key {
            if let Some(level) = self.level() {
                level.key.clear();
            }
            self.keep(b"\"");
        } else {
            self.begin_value(true);
            self.keep(b"\"");
        }
        self.string = Some(Str { key, escaped: false });
    }

    fn open(&mut self, byte: u8) {
        self.begin_value(false);
        self.keep(&[byte]);
        self.depth += 1;
        if let Some(level) = self.level() {
            *level = Level { object: byte == b'{', expects_key: byte == b'{', key: std::mem::take(&mut level.key) };
        }
    }

    fn close(&mut self, byte: u8, found: &mut dyn FnMut(usize, &[u8])) {
        self.end_of_scalar(found);
        self.keep(&[byte]);
        self.depth = self.depth.saturating_sub(1);
        if self.capture.as_ref().is_some_and(|capture| !capture.scalar && capture.depth == self.depth) {
            self.report(found);
        }
        if self.depth == 0 {
            self.state = State::Outside;
            self.capture = None;
        }
    }

    fn begin_value(&mut self, scalar: bool) {
        if let (Some(path), None) = (self.next.take(), &self.capture) {
            self.capture = Some(Capture { path, depth: self.depth, scalar, text: Vec::new() });
        }
    }

    fn end_of_scalar(&mut self, found: &mut dyn FnMut(usize, &[u8])) {
        if self.capture.as_ref().is_some_and(|capture| capture.scalar && capture.depth == self.depth && !capture.text.is_empty()) {
            self.report(found);
        }
    }

    fn report(&mut self, found: &mut dyn FnMut(usize, &[u8])) {
        if let Some(capture) = self.capture.take() {
            found(capture.path, &capture.text);
        }
    }
}
