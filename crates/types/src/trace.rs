//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): reading, continuing and starting it.

use std::collections::HashSet;
use std::fmt;

/// Most members of a `tracestate` (section 3.3.1.1).
const MOST_MEMBERS: usize = 32;
/// Longest `tracestate` that is sent on; section 3.3.1.5 asks for at least as many.
const LONGEST_STATE: usize = 512;
/// Members that go first when a `tracestate` is too long.
const LONG_MEMBER: usize = 128;
const SAMPLED: u8 = 1;
/// Keeps spans apart that are made of one another.
const APART: u64 = 0x9e37_79b9_7f4a_7c15;

/// A trace, and the span within it that others are children of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not zero.
    trace: u128,
    /// The span; not zero.
    span: u64,
    /// Whether whoever made the span may have recorded it.
    sampled: bool,
}

impl TraceContext {
    /// A trace that begins here, told by `random` bits; recorded, for the log has it.
    pub const fn start(trace: u128, span: u64) -> Self {
        let (trace, span) = (if trace == 0 { 1 } else { trace }, if span == 0 { 1 } else { span });
        Self { trace, span, sampled: true }
    }

    /// The same trace with another span.
    pub const fn child(self, span: u64) -> Self {
        Self { span: if span == 0 { 1 } else { span }, ..self }
    }

    /// The same, where whoever is told of it is to record it or not.
    pub const fn recorded(self, sampled: bool) -> Self {
        Self { sampled, ..self }
    }

    /// The span of a call's attempt: the first bears the call's id, for that is what it was sent with; each later one an id that follows from it.
    pub const fn attempt(self, nth: u16) -> Self {
        if nth == 0 { self } else { self.child(mix(self.span.wrapping_add(APART.wrapping_mul(nth as u64)))) }
    }

    /// The span of the call that is made for several, of which this one is a part.
    pub const fn together(self) -> Self {
        self.child(mix(self.span ^ APART))
    }

    /// The number of the trace.
    pub const fn trace(self) -> u128 {
        self.trace
    }

    /// The span.
    pub const fn span(self) -> u64 {
        self.span
    }

    /// Whether whoever made the span may have recorded it.
    pub const fn is_sampled(self) -> bool {
        self.sampled
    }

    /// Reads a `traceparent`, as strictly as section 3.2 wants it: what is wrong in any way is no context. Of versions to come it
    /// reads what version 00 knows.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let fields = bytes.get(..55)?;
        let dashes = [2, 35, 52].iter().all(|at| fields.get(*at) == Some(&b'-'));
        let hex = |at: std::ops::Range<usize>| fields.get(at).and_then(hexadecimal);
        let (version, trace, span, flags) = (hex(0..2)?, hex(3..35)?, hex(36..52)?, hex(53..55)?);
        let ended = match (version, bytes.get(55)) {
            (0, rest) => rest.is_none(),
            (0xff, _) => false,
            (_, rest) => rest.is_none_or(|byte| *byte == b'-'),
        };
        if !dashes || !ended || trace == 0 || span == 0 {
            return None;
        }
        Some(Self { trace, span: u64::try_from(span).ok()?, sampled: flags & u128::from(SAMPLED) != 0 })
    }

    /// The trace as 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): different numbers stay different.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl fmt::Display for TraceContext {
    /// As a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// The number that lower-case hexadecimal digits write.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// The `tracestate` of a request's lines, in one: members as they came, the too long list cut as section 3.3.1.5 says. `None` where there
/// is nothing, or one member is wrong: then all of it is dropped, and the trace is continued without.
pub fn trace_state<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let members = lines.flat_map(|line| line.split(',')).map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    let mut seen = HashSet::new();
    let mut kept: Vec<&str> = Vec::new();
    for member in members {
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || !seen.insert(key) || kept.len() == MOST_MEMBERS {
            return None;
        }
        kept.push(member);
    }
    let length = |kept: &[&str]| kept.iter().map(|member| member.len() + 1).sum::<usize>();
    while length(&kept) > LONGEST_STATE + 1 {
        let long = kept.iter().rposition(|member| member.len() > LONG_MEMBER);
        kept.remove(long.unwrap_or(kept.len() - 1));
    }
    (!kept.is_empty()).then(|| kept.join(","))
}

/// `vendor`, or `tenant@vendor`.
fn is_key(key: &str) -> bool {
    let rest = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(&b));
    let starts = |text: &str, digit: bool| text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || (digit && b.is_ascii_digit()));
    match key.split_once('@') {
        None => key.len() <= 256 && starts(key, false) && rest(key),
        Some((tenant, vendor)) => {
            tenant.len() <= 241 && vendor.len() <= 14 && starts(tenant, true) && starts(vendor, false) && rest(tenant) && rest(vendor)
        }
    }
}

fn is_value(value: &str) -> bool {
    value.len() <= 256 && value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b',' && b != b'=') && !value.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_continued() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.child(0x1234).to_string(), "00-0af7651916cd43dd8448eb211c80319c-0000000000001234-01");
        let not_recorded = GOOD.replace("-01", "-00");
        assert_eq!(
            TraceContext::parse(&not_recorded).unwrap().child(1).to_string(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-00"
        );
        assert_eq!(TraceContext::parse(&GOOD.replace("-01", "-ff")).unwrap().to_string(), GOOD, "flags that are unknown are not sent on");
        assert_eq!(TraceContext::start(0, 0).to_string(), format!("00-{:032x}-{:016x}-01", 1, 1));
    }

    #[test]
    fn what_is_wrong_in_any_way_is_no_context() {
        for text in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}-what"),
            &format!("{GOOD} "),
            &format!(" {GOOD}"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0g", 1),
            &GOOD.replacen('-', "_", 1),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace("b7ad6b7169203331", "b7ad6b716920333g"),
            &GOOD.replace("b7ad", "é7d"),
            &format!("cc-{}x", &GOOD[3..]),
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
        // Of a version to come what is known of it is read.
        for text in [format!("cc-{}", &GOOD[3..]), format!("cc-{}-more-to-come", &GOOD[3..])] {
            assert_eq!(TraceContext::parse(&text).unwrap().to_string(), GOOD, "{text}");
        }
    }

    #[test]
    fn spans_that_follow_from_one_another_are_others() {
        let call = TraceContext::parse(GOOD).unwrap();
        assert_eq!(call.attempt(0), call);
        let all: HashSet<u64> =
            (0..100).flat_map(|nth| [call.attempt(nth), call.together().attempt(nth)]).map(TraceContext::span).collect();
        assert_eq!(all.len(), 200);
        assert_eq!((call.attempt(3).trace(), call.attempt(3).is_sampled()), (call.trace(), call.is_sampled()));
        assert!(!call.recorded(false).is_sampled());
    }

    #[test]
    fn the_state_is_kept_within_limits() {
        let of = |lines: &[&str]| trace_state(lines.iter().copied());
        assert_eq!(
            of(&["rojo=00f067aa0ba902b7, congo=t61rcWkgMzE", "", "t1@v=x y"]).unwrap(),
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,t1@v=x y"
        );
        for wrong in ["a", "a=", "A=1", "1a=1", "a=1=2", "a=é", "@v=1", "a@=1", "a@1=1", "a b=1", "a=1,a=2"] {
            assert_eq!(of(&["good=1", wrong]), None, "{wrong}");
        }
        assert_eq!(of(&[]), None);
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert_eq!(of(&[&many.join(",")]), None);
        assert_eq!(of(&[&many[..32].join(",")]).unwrap().split(',').count(), 32);
        // Too long: first the long members go, then the last ones.
        let long = format!("long={}", "x".repeat(200));
        let short: Vec<String> = (0..10).map(|n| format!("key{n}={}", "y".repeat(40))).collect();
        let kept = of(&[&long, &short.join(",")]).unwrap();
        assert_eq!(kept, short.join(","), "the long one went, although it came first");
        let wide: Vec<String> = (0..6).map(|n| format!("key{n}={}", "y".repeat(100))).collect();
        assert_eq!(of(&[&wide.join(",")]).unwrap(), wide[..4].join(","));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in "\\PC{0,80}", hex in "[0-9a-f-]{50,60}") {
            for text in [&text, &hex] {
                if let Some(context) = TraceContext::parse(text) {
                    prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
                }
                if let Some(state) = trace_state(std::iter::once(text.as_str())) {
                    prop_assert!(state.len() <= LONGEST_STATE);
                }
            }
        }
    }
}
