//! Finds a few values in JSON text that arrives in pieces, without holding the text.

use std::sync::Arc;

/// Longest value that is captured, bytes; a longer one is skipped. A usage that tells of a hundred samplings has some 25,000.
const MAX_VALUE: usize = 32 << 10;
/// Longest key that is told apart, bytes; longer ones match nothing.
const MAX_KEY: usize = 128;

/// One step from a value into what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// An object's key, or an array's index where it is a number.
    Name(Vec<u8>, Option<u64>),
    /// Each key and each index.
    Any,
}

/// What is wanted of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Its text.
    Text,
    /// The text of a number or string; of an array how many elements it has, in decimal.
    Amount,
    /// How many bytes its text has as a string, in decimal.
    Length,
}

/// Where a value is looked for, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    steps: Vec<Step>,
    take: Take,
}

impl Path {
    /// Keys from the outermost object on; `*` stands for each key and index.
    pub(super) fn keys(keys: &[&str], take: Take) -> Self {
        let step = |key: &&str| if *key == "*" { Step::Any } else { Step::Name(key.as_bytes().to_vec(), None) };
        Self { steps: keys.iter().map(step).collect(), take }
    }

    /// A JSON pointer (RFC 6901); `None` when it is none or points at the whole document.
    pub(super) fn pointer(pointer: &str) -> Option<Self> {
        let steps = pointer.strip_prefix('/')?.split('/').map(|token| {
            let name = token.replace("~1", "/").replace("~0", "~");
            let index = name.parse().ok().filter(|_| name == "0" || !name.starts_with(['0', '+']));
            Step::Name(name.into_bytes(), index)
        });
        Some(Self { steps: steps.collect(), take: Take::Amount })
    }
}

/// A scanner that reports the values at the wanted paths.
///
/// It accepts any bytes: text that is not JSON yields nothing or, at worst, a captured value that fails to parse later.
#[derive(Debug)]
pub(super) struct Scan {
    wanted: Arc<[Path]>,
    /// Documents are the elements of one list.
    listed: bool,
    /// Documents that have ended.
    ended: u64,
    state: State,
    depth: usize,
    levels: Vec<Level>,
    string: Option<Str>,
    /// The value that comes next has a key or an index that may be wanted.
    fresh: bool,
    captures: Vec<Capture>,
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
    /// Elements begun.
    begun: u64,
    /// The element at hand has begun.
    filled: bool,
}

#[derive(Debug)]
struct Str {
    key: bool,
    escaped: bool,
}

#[derive(Debug)]
struct Capture {
    path: usize,
    take: Take,
    depth: usize,
    scalar: bool,
    text: Vec<u8>,
    length: u64,
}

impl Scan {
    pub(super) fn new(wanted: Arc<[Path]>) -> Self {
        // One level below the deepest path: arrays there are counted.
        let depth = wanted.iter().map(|path| path.steps.len()).max().unwrap_or_default() + 1;
        Self {
            wanted,
            listed: false,
            ended: 0,
            state: State::Outside,
            depth: 0,
            levels: (0..depth).map(|_| Level::default()).collect(),
            string: None,
            fresh: false,
            captures: Vec::new(),
        }
    }

    /// A scanner of a list whose elements are each a document of its own.
    pub(super) fn of_list(wanted: Arc<[Path]>) -> Self {
        Self { listed: true, ..Self::new(wanted) }
    }

    pub(super) const fn is_of_list(&self) -> bool {
        self.listed
    }

    /// How many documents have ended.
    pub(super) const fn ended(&self) -> u64 {
        self.ended
    }

    /// Reads nothing more.
    pub(super) const fn give_up(&mut self) {
        self.state = State::Foreign;
    }

    /// Forgets the document at hand; the next bytes begin another one.
    pub(super) fn reset(&mut self) {
        (self.state, self.depth, self.string, self.fresh) = (State::Outside, 0, None, false);
        self.captures.clear();
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
            if key {
                self.fresh = true;
            } else {
                self.end_of_scalar(found);
            }
        }
        end + 1
    }

    /// Keeps bytes of a key or of captured values.
    fn keep(&mut self, bytes: &[u8]) {
        if self.string.as_ref().is_some_and(|string| string.key)
            && let Some(level) = self.level()
        {
            let room = (MAX_KEY + 1).saturating_sub(level.key.len());
            level.key.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if self.captures.is_empty() {
            return;
        }
        for capture in &mut self.captures {
            capture.length += bytes.len() as u64;
        }
        let keeps = |capture: &Capture| capture.take == Take::Text || (capture.take == Take::Amount && capture.scalar);
        self.captures.retain(|capture| !keeps(capture) || capture.text.len() + bytes.len() <= MAX_VALUE);
        for capture in self.captures.iter_mut().filter(|capture| keeps(capture)) {
            capture.text.extend_from_slice(bytes);
        }
    }

    /// Whether a path leads to the value that begins now.
    fn leads(&self, path: &Path) -> bool {
        let same = |(step, level): (&Step, &Level)| match step {
            Step::Any => true,
            Step::Name(name, _) if level.object => *name == level.key,
            Step::Name(_, index) => level.begun.checked_sub(1) == *index && index.is_some(),
        };
        path.steps.len() == self.depth && self.levels.get(..self.depth).is_some_and(|levels| path.steps.iter().zip(levels).all(same))
    }

    /// Takes one byte outside of strings.
    fn structure(&mut self, byte: u8, found: &mut dyn FnMut(usize, &[u8])) -> usize {
        match (self.state, byte) {
            (State::Outside, b'{') => {
                self.state = State::Inside;
                self.open(byte);
            }
            (State::Outside, b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF) => {}
            (State::Outside, b'[' | b',' | b']') if self.listed => {}
            (State::Outside, _) => self.state = State::Foreign,
            (_, b'"') => self.open_string(),
            (_, b'{' | b'[') => self.open(byte),
            (_, b'}' | b']') => self.close(byte, found),
            (_, b',') => {
                self.end_of_scalar(found);
                self.keep(b",");
                if let Some(level) = self.level() {
                    level.expects_key = level.object;
                    level.filled = false;
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
                self.begin_value(byte);
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
            self.begin_value(b'"');
            self.keep(b"\"");
        }
        self.string = Some(Str { key, escaped: false });
    }

    fn open(&mut self, byte: u8) {
        self.begin_value(byte);
        self.keep(&[byte]);
        self.depth += 1;
        self.fresh = false;
        if let Some(level) = self.level() {
            let object = byte == b'{';
            *level = Level { object, expects_key: object, key: std::mem::take(&mut level.key), begun: 0, filled: false };
        }
    }

    fn close(&mut self, byte: u8, found: &mut dyn FnMut(usize, &[u8])) {
        self.end_of_scalar(found);
        self.keep(&[byte]);
        let elements = self.level().map_or(0, |level| level.begun);
        self.depth = self.depth.saturating_sub(1);
        let depth = self.depth;
        self.report(found, |capture| !capture.scalar && capture.depth == depth, elements);
        if self.depth == 0 {
            self.state = State::Outside;
            self.ended += 1;
            self.captures.clear();
        }
    }

    /// A value begins with this byte; captures it where it is wanted.
    fn begin_value(&mut self, byte: u8) {
        if let Some(level) = self.level()
            && !level.object
            && !std::mem::replace(&mut level.filled, true)
        {
            level.begun += 1;
            self.fresh = true;
        }
        if !std::mem::take(&mut self.fresh) {
            return;
        }
        let scalar = !matches!(byte, b'{' | b'[');
        for (path, wanted) in self.wanted.iter().enumerate() {
            let fits = match wanted.take {
                Take::Text => true,
                Take::Amount => byte != b'{',
                Take::Length => byte == b'"',
            };
            if fits && self.leads(wanted) {
                self.captures.push(Capture { path, take: wanted.take, depth: self.depth, scalar, text: Vec::new(), length: 0 });
            }
        }
    }

    fn end_of_scalar(&mut self, found: &mut dyn FnMut(usize, &[u8])) {
        if !self.captures.is_empty() {
            let depth = self.depth;
            self.report(found, |capture| capture.scalar && capture.depth == depth && capture.length > 0, 0);
        }
    }

    /// Reports the captures that have ended.
    fn report(&mut self, found: &mut dyn FnMut(usize, &[u8]), ended: impl Fn(&Capture) -> bool, elements: u64) {
        for capture in self.captures.extract_if(.., |capture| ended(capture)) {
            match capture.take {
                Take::Text => found(capture.path, &capture.text),
                Take::Amount if capture.scalar => found(capture.path, &capture.text),
                Take::Amount => found(capture.path, elements.to_string().as_bytes()),
                // Without its quotes.
                Take::Length => found(capture.path, capture.length.saturating_sub(2).to_string().as_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(paths: Vec<Path>, text: &str, chunk: usize) -> Vec<(usize, String)> {
        let mut scan = Scan::new(paths.into());
        let mut all = Vec::new();
        for chunk in text.as_bytes().chunks(chunk) {
            scan.push(chunk, &mut |path, text| all.push((path, String::from_utf8(text.to_vec()).unwrap())));
        }
        all
    }

    #[test]
    fn pointers_reach_objects_arrays_and_escaped_keys() {
        let text = r#"{"a":{"b":[1,{"c":7.5},[3,4]],"x/y~z":"12"},"0":{"1":5},"list":[{"k":[1,2]},2,"three"],"none":[],"deep":{"a":1}}"#;
        for (pointer, amount) in [
            ("/a/b/0", Some("1")),
            ("/a/b/1/c", Some("7.5")),
            ("/a/b/2", Some("2")),
            ("/a/b/2/1", Some("4")),
            ("/a/b", Some("3")),
            ("/a/x~1y~0z", Some("\"12\"")),
            ("/0/1", Some("5")),
            ("/list", Some("3")),
            ("/none", Some("0")),
            ("/list/0", None),
            ("/list/00", None),
            ("/a/c", None),
            ("/deep/a/b", None),
        ] {
            for chunk in [1, 3, 1000] {
                let all = found(vec![Path::pointer(pointer).unwrap()], text, chunk);
                assert_eq!(all.first().map(|(_, text)| text.as_str()), amount, "{pointer}");
                assert!(all.len() <= 1);
            }
        }
        assert_eq!((Path::pointer(""), Path::pointer("a")), (None, None));
    }

    #[test]
    fn wanted_values_may_lie_within_each_other() {
        let paths =
            vec![Path::keys(&["a"], Take::Text), Path::pointer("/a/list").unwrap(), Path::keys(&["a", "list", "*", "t"], Take::Length)];
        let all = found(paths, r#"{"a":{"list":[{"t":"four"},{"t":"\n."}]}}"#, 2);
        let told: Vec<(usize, &str)> = all.iter().map(|(path, text)| (*path, text.as_str())).collect();
        assert_eq!(told, [(2, "4"), (2, "3"), (1, "2"), (0, r#"{"list":[{"t":"four"},{"t":"\n."}]}"#)]);
    }
}
