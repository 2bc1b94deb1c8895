//! What a body may hold for its answer to be kept: soft errors, personal fields, fields that a provider's terms allow to keep.
//!
//! What cannot be read (no JSON, too long) cannot be shown to be allowed, and is not kept.

use std::sync::Arc;

use farthing_types::UncachedReason;
use serde_json::Value;

/// A JSON pointer (RFC 6901) as segments; `*` stands for every member of an object or element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<Arc<str>>);

impl Pointer {
    /// Reads a pointer; what comes before its first `/` is ignored.
    pub fn new(text: &str) -> Self {
        Self(text.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~").into()).collect())
    }

    /// Its segments, unescaped.
    pub fn segments(&self) -> &[Arc<str>] {
        &self.0
    }

    /// All values it points at.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.0.iter().fold(vec![value], |found, segment| found.into_iter().flat_map(|value| children(value, segment)).collect())
    }

    /// Whether a value at `path` is pointed at, or lies in one that is.
    fn covers(&self, path: &[&str]) -> bool {
        self.0.len() <= path.len() && self.0.iter().zip(path).all(|(own, part)| &**own == "*" || **own == **part)
    }
}

fn children<'v>(value: &'v Value, segment: &str) -> Vec<&'v Value> {
    match value {
        Value::Object(map) if segment == "*" => map.values().collect(),
        Value::Object(map) => map.get(segment).into_iter().collect(),
        Value::Array(items) if segment == "*" => items.iter().collect(),
        Value::Array(items) => segment.parse::<usize>().ok().and_then(|i| items.get(i)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// What an answer's body must say for the answer to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Where to look. Every value there must pass, and there must be one that is not null.
    pub pointer: Pointer,
    /// Texts, numbers or flags that pass; empty: all but those of `not`.
    pub is: Vec<Arc<str>>,
    /// Texts, numbers or flags that do not.
    pub not: Vec<Arc<str>>,
}

impl Condition {
    /// Whether a body meets it.
    pub fn holds(&self, body: &Value) -> bool {
        let found: Vec<&Value> = self.pointer.find(body).into_iter().filter(|value| !value.is_null()).collect();
        !found.is_empty() && found.into_iter().all(|value| self.passes(value))
    }

    fn passes(&self, value: &Value) -> bool {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (self.is.is_empty() || self.is.iter().any(|wanted| **wanted == *text)) && !self.not.iter().any(|unwanted| **unwanted == *text)
    }
}

/// Rules about bodies of one route; none by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContentRules {
    /// All must hold, or the answer counts as a soft error.
    pub conditions: Vec<Condition>,
    /// An answer with one of these is personal.
    pub personal: Vec<Pointer>,
    /// A request body with one of these is personal.
    pub personal_request: Vec<Pointer>,
    /// The only fields that the provider's terms allow to keep; empty: all.
    pub storable: Vec<Pointer>,
}

impl ContentRules {
    /// Whether an answer with this body may be kept; `None` is a body that cannot be read as JSON.
    ///
    /// # Errors
    /// The one reason why it may not.
    pub fn may_keep(&self, body: impl FnOnce() -> Option<Value>) -> Result<(), UncachedReason> {
        if self.conditions.is_empty() && self.personal.is_empty() && self.storable.is_empty() {
            return Ok(());
        }
        let Some(body) = body() else { return Err(self.unread()) };
        if !self.personal.iter().all(|pointer| pointer.find(&body).is_empty()) {
            return Err(UncachedReason::Personal);
        }
        if !self.conditions.iter().all(|condition| condition.holds(&body)) {
            return Err(UncachedReason::SoftError);
        }
        if !self.storable.is_empty() && !self.only_storable(&body, &mut Vec::new()) {
            return Err(UncachedReason::Terms);
        }
        Ok(())
    }

    const fn unread(&self) -> UncachedReason {
        match (self.personal.is_empty(), self.storable.is_empty()) {
            (false, _) => UncachedReason::Personal,
            (true, false) => UncachedReason::Terms,
            (true, true) => UncachedReason::SoftError,
        }
    }

    /// Whether a request with this body is personal. One that cannot be read as JSON (compressed, a form) is not known to be none, and counts as one.
    pub fn is_personal(&self, body: &[u8]) -> bool {
        let found = |body: &Value| self.personal_request.iter().any(|pointer| !pointer.find(body).is_empty());
        !self.personal_request.is_empty() && !body.is_empty() && serde_json::from_slice(body).map_or(true, |body| found(&body))
    }

    /// Whether every leaf lies within a storable field.
    fn only_storable<'v>(&self, value: &'v Value, path: &mut Vec<&'v str>) -> bool {
        let covered = |path: &[&str]| self.storable.iter().any(|pointer| pointer.covers(path));
        match value {
            _ if covered(path) => true,
            Value::Object(map) => map.iter().all(|(name, inner)| within(path, name, |path| self.only_storable(inner, path))),
            // A place in an array says nothing: only `*` covers it.
            Value::Array(items) => items.iter().all(|inner| within(path, "*", |path| self.only_storable(inner, path))),
            _ => false,
        }
    }
}

fn within<'v, T>(path: &mut Vec<&'v str>, name: &'v str, see: impl FnOnce(&mut Vec<&'v str>) -> T) -> T {
    path.push(name);
    let seen = see(path);
    path.pop();
    seen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(pointer: &str, is: &[&str], not: &[&str]) -> Condition {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).into()).collect();
        Condition { pointer: Pointer::new(pointer), is: texts(is), not: texts(not) }
    }

    fn kept(rules: &ContentRules, body: Value) -> Result<(), UncachedReason> {
        rules.may_keep(|| Some(body))
    }

    #[test]
    fn soft_errors_are_not_kept() {
        let rules = ContentRules { conditions: vec![condition("/status", &["OK", "ZERO_RESULTS"], &[])], ..ContentRules::default() };
        assert_eq!(kept(&rules, json!({"status": "OK", "results": [1]})), Ok(()));
        assert_eq!(kept(&rules, json!({"status": "OVER_QUERY_LIMIT"})), Err(UncachedReason::SoftError));
        assert_eq!(kept(&rules, json!({"status": null})), Err(UncachedReason::SoftError));
        assert_eq!(kept(&rules, json!({})), Err(UncachedReason::SoftError));
        assert_eq!(rules.may_keep(|| None), Err(UncachedReason::SoftError));
        let rules = ContentRules { conditions: vec![condition("/items/*/ok", &[], &["false", "0"])], ..ContentRules::default() };
        assert_eq!(kept(&rules, json!({"items": [{"ok": true}, {"ok": 1}]})), Ok(()));
        assert_eq!(kept(&rules, json!({"items": [{"ok": true}, {"ok": false}]})), Err(UncachedReason::SoftError));
        assert_eq!(kept(&rules, json!({"items": []})), Err(UncachedReason::SoftError));
    }

    #[test]
    fn personal_answers_and_requests_are_known() {
        let rules = ContentRules { personal: vec![Pointer::new("/users/*/email")], ..ContentRules::default() };
        assert_eq!(kept(&rules, json!({"users": [{"id": 1}]})), Ok(()));
        assert_eq!(kept(&rules, json!({"users": [{"id": 1}, {"email": "a@b"}]})), Err(UncachedReason::Personal));
        let rules = ContentRules { personal_request: vec![Pointer::new("/ssn")], ..ContentRules::default() };
        assert!(rules.is_personal(br#"{"ssn": "1"}"#) && !rules.is_personal(br#"{"name": {"ssn": 1}}"#));
        assert!(rules.is_personal(b"ssn=1") && !rules.is_personal(b""), "what cannot be read fails closed");
        assert!(!ContentRules::default().is_personal(b"ssn=1"));
    }

    #[test]
    fn only_storable_fields_are_kept_whole_or_in_part() {
        let storable = ["/results/*/place_id", "/status", "/geo"].map(Pointer::new).into();
        let rules = ContentRules { storable, ..ContentRules::default() };
        assert_eq!(kept(&rules, json!({"status": "OK", "results": [{"place_id": "x"}, {"place_id": "y"}]})), Ok(()));
        assert_eq!(kept(&rules, json!({"geo": {"lat": 1, "lng": [2]}})), Ok(()));
        assert_eq!(kept(&rules, json!({"status": "OK", "results": [{"place_id": "x", "name": "Ulm"}]})), Err(UncachedReason::Terms));
        assert_eq!(kept(&rules, json!("text")), Err(UncachedReason::Terms));
        assert_eq!(rules.may_keep(|| None), Err(UncachedReason::Terms));
    }

    #[test]
    fn without_rules_nothing_is_read() {
        assert_eq!(ContentRules::default().may_keep(|| unreachable!("no rule asks for the body")), Ok(()));
    }
}
