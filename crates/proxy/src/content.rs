//! Personal fields of requests, and a route's rules about bodies, from its configuration.

use std::sync::Arc;

use bytes::Bytes;
use farthing_config::{PersonalField, Provider, Route};
use farthing_freshness::ContentRules;
use farthing_freshness::content::{Condition, Pointer};
use farthing_freshness::key::Credentials;
use farthing_policy::plan::Steps;
use farthing_types::UncachedReason;
use http::{HeaderMap, HeaderName, Uri};

/// Fields of a request's head that make it personal.
#[derive(Clone, Debug)]
pub struct Personal {
    query: Option<Credentials>,
    headers: Vec<HeaderName>,
    /// An answer may turn out to be personal when its body is there: until then others have it already.
    in_shared_answers: bool,
}

impl Personal {
    /// Those of a route.
    pub fn of(route: &Route) -> Self {
        let query: Vec<&str> =
            route.pii.iter().filter_map(|f| if let PersonalField::Query(name) = f { Some(&**name) } else { None }).collect();
        let headers = route.pii.iter().filter_map(|f| if let PersonalField::Header(name) = f { Some(name.clone()) } else { None });
        let in_shared_answers = route.shared && route.pii.iter().any(|field| matches!(field, PersonalField::Answer(_)));
        Self { query: (!query.is_empty()).then(|| Credentials::new(query)), headers: headers.collect(), in_shared_answers }
    }

    /// Takes cache, sharing and batches away from a request that has a personal field, and sharing where the answer may have one.
    pub fn restrict(&self, mut steps: Steps, (target, headers, body): (&Uri, &HeaderMap, &Bytes), rules: &ContentRules) -> Steps {
        if self.in_shared_answers {
            steps.dedupe = steps.dedupe.and(Err(UncachedReason::Personal));
        }
        let none = self.query.is_none() && self.headers.is_empty() && rules.personal_request.is_empty();
        if none || !(self.is_in(target, headers) || rules.is_personal(body)) {
            return steps;
        }
        let off = |step: Result<(), UncachedReason>| step.and(Err(UncachedReason::Personal));
        Steps { cache: off(steps.cache), dedupe: off(steps.dedupe), batch: off(steps.batch) }
    }

    fn is_in(&self, target: &Uri, headers: &HeaderMap) -> bool {
        let named = |names: &Credentials| target.query().is_some_and(|query| names.pairs(query).next().is_some());
        self.headers.iter().any(|name| headers.contains_key(name)) || self.query.as_ref().is_some_and(named)
    }
}

/// A route's rules about bodies.
pub fn rules(route: &Route, provider: &Provider) -> ContentRules {
    let conditions =
        route.cacheable_if.iter().map(|c| Condition { pointer: Pointer::new(&c.pointer), is: c.is.clone(), not: c.not.clone() });
    let pointers = |of: fn(&PersonalField) -> Option<&Arc<str>>| route.pii.iter().filter_map(of).map(|p| Pointer::new(p)).collect();
    ContentRules {
        conditions: conditions.collect(),
        personal: pointers(|field| if let PersonalField::Answer(pointer) = field { Some(pointer) } else { None }),
        personal_request: pointers(|field| if let PersonalField::Request(pointer) = field { Some(pointer) } else { None }),
        storable: provider.terms.storable_fields.iter().map(|pointer| Pointer::new(pointer)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Steps = Steps { cache: Ok(()), dedupe: Ok(()), batch: Ok(()) };

    fn steps(pii: Vec<PersonalField>, target: &str, body: &'static str) -> Steps {
        let route = Route { pii, ..Route::default() };
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-user"), http::HeaderValue::from_static("7"))]);
        let rules = rules(&route, &Provider::default());
        Personal::of(&route).restrict(OPEN, (&target.parse().unwrap(), &headers, &Bytes::from_static(body.as_bytes())), &rules)
    }

    #[test]
    fn a_personal_field_anywhere_in_the_request_takes_cache_and_sharing_away() {
        let off = Steps::none(UncachedReason::Personal);
        let email = || vec![PersonalField::Query("email".into())];
        assert_eq!(steps(email(), "/users?q=1&Email=a%40b", ""), off);
        assert_eq!(steps(email(), "/users?q=1&%65mail=a%40b", ""), off);
        assert_eq!(steps(email(), "/users?q=email", ""), OPEN);
        assert_eq!(steps(vec![PersonalField::Header(HeaderName::from_static("x-user"))], "/", ""), off);
        assert_eq!(steps(vec![PersonalField::Header(HeaderName::from_static("x-other"))], "/", ""), OPEN);
        let ssn = || vec![PersonalField::Request("/person/ssn".into())];
        assert_eq!(steps(ssn(), "/", r#"{"person":{"ssn":"1"}}"#), off);
        assert_eq!(steps(ssn(), "/", r#"{"person":{}}"#), OPEN);
        // What cannot be read is not known to have none; no body has none.
        for (unread, expected) in [("\u{feff}{\"person\":{\"ssn\":\"1\"}}", off), ("person[ssn]=1", off), ("", OPEN)] {
            assert_eq!(steps(ssn(), "/", unread), expected, "{unread}");
        }
        assert_eq!(steps(Vec::new(), "/?email=x", "{}"), OPEN);
    }

    #[test]
    fn nobody_waits_for_an_answer_that_may_be_anothers() {
        let pii = vec![PersonalField::Answer("/email".into())];
        for shared in [false, true] {
            let route = Route { pii: pii.clone(), shared, ..Route::default() };
            let rules = rules(&route, &Provider::default());
            let steps = Personal::of(&route).restrict(OPEN, (&"/".parse().unwrap(), &HeaderMap::new(), &Bytes::new()), &rules);
            let dedupe = if shared { Err(UncachedReason::Personal) } else { Ok(()) };
            assert_eq!(steps, Steps { dedupe, ..OPEN });
        }
    }
}
