//! Which requests of the log a cache may answer: what it never answers has no copy that could grow stale, and teaches nothing about TTLs.

use farthing_types::UncachedReason as R;

/// Texts of a column, each once, and each row's place among them.
type Texts = (Vec<String>, Vec<Option<u32>>);

/// Whether a cache may answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It may.
    Answerable,
    /// The row does not say: another method than GET and HEAD, whose answers are kept on routes with `idempotent` only, passed by for a
    /// reason that is looked at before the method.
    Untold,
    /// A request by such a method that the cache had a part in: its route answers those.
    Proof,
    /// It may not, whatever the TTL.
    Never,
}

impl Asked {
    fn of(method: Option<&str>, reason: Option<R>) -> Self {
        // Rows that another program made may have no method.
        let safe = method.is_none_or(|m| matches!(m, "GET" | "HEAD" | ""));
        match reason {
            Some(reason) if !reason.is_keyed() => Self::Never,
            _ if safe => Self::Answerable,
            None | Some(R::Cold | R::Expired | R::Invalidated) => Self::Proof,
            Some(_) => Self::Untold,
        }
    }

    /// Of each row, by its method and why it was not answered from the cache.
    pub fn rows(methods: &Texts, reasons: &Texts) -> Vec<Self> {
        let known: Vec<Option<R>> = reasons.0.iter().map(|text| R::parse(text)).collect();
        let method = |row: &Option<u32>| row.and_then(|place| methods.0.get(place as usize)).map(String::as_str);
        let reason = |row: &Option<u32>| row.and_then(|place| known.get(place as usize).copied().flatten());
        methods.1.iter().zip(&reasons.1).map(|(m, r)| Self::of(method(m), reason(r))).collect()
    }
}

/// Whether a prefetcher would see a request: as in the proxy, a GET that the cache has a part in.
pub(super) fn is_visit(methods: &Texts, reasons: &Texts) -> Vec<bool> {
    let head: Vec<bool> = methods.0.iter().map(|m| m == "HEAD").collect();
    let is_head = |row: &Option<u32>| row.is_some_and(|place| head.get(place as usize).copied().unwrap_or(false));
    Asked::rows(methods, reasons).into_iter().zip(&methods.1).map(|(asked, m)| asked == Asked::Answerable && !is_head(m)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_reasons_say_what_a_cache_may_answer() {
        for (method, reason, asked) in [
            ("GET", None, Asked::Answerable),
            ("HEAD", Some(R::Observe), Asked::Answerable),
            ("GET", Some(R::Holdout), Asked::Answerable),
            ("GET", Some(R::PassThrough), Asked::Never),
            ("POST", Some(R::Method), Asked::Never),
            ("POST", Some(R::Observe), Asked::Untold),
            ("PUT", Some(R::Disabled), Asked::Untold),
            ("POST", Some(R::Cold), Asked::Proof),
            ("POST", None, Asked::Proof),
            ("", Some(R::Observe), Asked::Answerable),
        ] {
            assert_eq!(Asked::of(Some(method), reason), asked, "{method} {reason:?}");
        }
    }

    #[test]
    fn prefetchers_see_gets() {
        let texts = |all: &[&str], rows: &[u32]| (all.iter().map(ToString::to_string).collect(), rows.iter().map(|r| Some(*r)).collect());
        let seen = is_visit(&texts(&["GET", "HEAD", "POST"], &[0, 1, 2, 0]), &texts(&["observe", "pass-through"], &[0, 0, 0, 1]));
        assert_eq!(seen, [true, false, false, false]);
    }
}
