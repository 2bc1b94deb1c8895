//! What a good token says of its holder: pure.

use std::sync::Arc;

use farthing_config::{JwtIssuer, Rights, is_reserved_tenant};
use farthing_types::{Priority, RouteName, Tenant, Time};
use serde_json::Value;

use super::verify::Refused;
use crate::clients::{Grant, IdentityRefusal, Tenants, Validity, both};
use crate::wishes::MAX_TAGS;

/// Longest name that a token may give a tenant, a team or a service, bytes.
const LONGEST_NAME: usize = 128;
/// Most routes that a token may name.
const MOST_ROUTES: usize = 1_000;

/// The holder of a good token.
#[derive(Debug, PartialEq)]
pub struct Bearer {
    /// Who pays.
    pub tenant: Tenant,
    /// Team of the tenant.
    pub team: Option<Arc<str>>,
    /// Service of the tenant.
    pub service: Option<Arc<str>>,
    /// What it may do.
    pub grant: Arc<Grant>,
}

/// Reads the holder from a token's payload.
///
/// # Errors
/// A claim that is missing, or cannot be taken: who cannot be told apart is not let in.
pub fn bearer(issuer: &JwtIssuer, tenants: &Tenants, payload: &Value, validity: Validity) -> Result<Bearer, Refused> {
    let claims = &issuer.claims;
    let wrong = |pointer: &str, what: &str| {
        (IdentityRefusal::TokenClaims, format!("the token's claim {pointer} is {what}; issuer `{}` has to set it", issuer.name))
    };
    let name = |pointer: &str| match payload.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => named(value).map(Some).ok_or_else(|| wrong(pointer, "no name of letters, digits and -_.:@|+=, at most 128")),
    };
    let optional = |pointer: &Option<Arc<str>>| pointer.as_deref().map_or(Ok(None), name);
    let tenant = name(&claims.tenant)?.or_else(|| issuer.default_tenant.clone());
    let tenant = tenant.ok_or_else(|| wrong(&claims.tenant, "missing"))?;
    if is_reserved_tenant(&tenant) {
        return Err(wrong(&claims.tenant, "a name that stands for clients whom nobody vouches for"));
    }
    let priority = claims.priority.as_deref().map(|pointer| priority(payload.pointer(pointer)).map_err(|()| wrong(pointer, "no priority")));
    let routes =
        claims.routes.as_deref().map(|pointer| routes(payload.pointer(pointer)).ok_or_else(|| wrong(pointer, "no list of routes")));
    let tags = claims
        .tags
        .as_deref()
        .map(|pointer| tags(payload.pointer(pointer)).map_err(|()| wrong(pointer, "no text of tags, at most 512 bytes")));
    let mut rights = tenants.rights(&tenant, &issuer.rights);
    // The issuer may give what the operator lets its clients have.
    let said = priority.transpose()?.flatten().map(|said| rights.max_priority.map_or(said, |most| said.max(most)));
    rights.priority = said.or(rights.priority);
    let routes: Option<Vec<RouteName>> = routes.transpose()?;
    rights = Rights { routes: both(rights.routes.as_deref(), routes.as_deref()), ..rights };
    let grant = Grant { tags: tags.transpose()?.flatten(), rights, validity };
    Ok(Bearer { tenant, team: optional(&claims.team)?, service: optional(&claims.service)?, grant: Arc::new(grant) })
}

/// A name that may stand in metrics, log and keys.
fn named(value: &Value) -> Option<Arc<str>> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let good = (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@|+=".contains(&b));
    good.then(|| text.into())
}

fn priority(value: Option<&Value>) -> Result<Option<Priority>, ()> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().and_then(Priority::named).map(Some).ok_or(()),
    }
}

/// None where the claim is missing: who does not say what may be called may call nothing.
fn routes(value: Option<&Value>) -> Option<Vec<RouteName>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(text.split_ascii_whitespace().take(MOST_ROUTES).map(Into::into).collect()),
        Some(Value::Array(list)) => list.iter().take(MOST_ROUTES).map(|name| name.as_str().map(Into::into)).collect(),
        Some(_) => None,
    }
}

fn tags(value: Option<&Value>) -> Result<Option<Arc<str>>, ()> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TAGS && text.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            Ok(Some(text.as_str().into()))
        }
        Some(_) => Err(()),
    }
}

impl Bearer {
    /// Bytes that it holds, for bounds.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len() + 16);
        let routes = self.grant.rights.routes.iter().flatten().map(|name| name.len() + 32).sum::<usize>();
        size_of::<Self>()
            + size_of::<Grant>()
            + self.tenant.len()
            + 32
            + text(&self.team)
            + text(&self.service)
            + text(&self.grant.tags)
            + routes
    }

    /// Whether it still holds.
    pub fn holds(&self, now: Time) -> bool {
        self.grant.validity.holds(now)
    }
}

#[cfg(test)]
mod tests {
    use farthing_config::{JwtClaims, JwtKeys, Secret};
    use serde_json::json;

    use super::*;

    fn issuer() -> JwtIssuer {
        let claim = |pointer: &str| Some(pointer.into());
        JwtIssuer {
            name: "idp".into(),
            issuer: "https://idp.test".into(),
            audiences: vec!["farthing".into()],
            algorithms: Vec::new(),
            keys: JwtKeys::Secret(Secret::new("s")),
            leeway: farthing_types::Span::ZERO,
            claims: JwtClaims {
                tenant: "/org/id".into(),
                team: claim("/team"),
                service: claim("/svc"),
                priority: claim("/prio"),
                tags: claim("/tags"),
                routes: claim("/scope"),
            },
            default_tenant: None,
            rights: Rights { max_priority: Some(Priority::Medium), ..Rights::default() },
        }
    }

    fn read(issuer: &JwtIssuer, payload: Value) -> Result<Bearer, IdentityRefusal> {
        bearer(issuer, &Tenants::default(), &payload, Validity::default()).map_err(|(reason, _)| reason)
    }

    #[test]
    fn claims_are_read_where_the_issuer_sets_them() {
        let payload =
            json!({ "org": { "id": 42 }, "team": "search", "svc": "api", "prio": "user-facing", "tags": "a=b", "scope": "geo chat" });
        let bearer = read(&issuer(), payload).unwrap();
        assert_eq!((&*bearer.tenant, bearer.team.as_deref(), bearer.service.as_deref()), ("42", Some("search"), Some("api")));
        assert_eq!(bearer.grant.rights.priority, Some(Priority::Medium), "no more than the operator lets the issuer give");
        assert!(bearer.grant.may_call(&"geo".into()) && bearer.grant.may_call(&"chat".into()) && !bearer.grant.may_call(&"other".into()));
        let listed = read(&issuer(), json!({ "org": { "id": "a@b.c" }, "scope": ["geo"] })).unwrap();
        assert!(listed.grant.may_call(&"geo".into()) && !listed.grant.may_call(&"chat".into()));
        let silent = read(&issuer(), json!({ "org": { "id": "a" } })).unwrap();
        assert!(!silent.grant.may_call(&"geo".into()), "what is not said may not be called");
    }

    #[test]
    fn what_cannot_be_taken_is_refused() {
        for payload in [
            json!({}),
            json!({ "org": "acme" }),
            json!({ "org": { "id": null } }),
            json!({ "org": { "id": "" } }),
            json!({ "org": { "id": "a/b" } }),
            json!({ "org": { "id": "a b" } }),
            json!({ "org": { "id": "x".repeat(129) } }),
            json!({ "org": { "id": ["acme"] } }),
            json!({ "org": { "id": "anonymous" } }),
            json!({ "org": { "id": "named-acme" } }),
            json!({ "org": { "id": "p-0123456789abcdef" } }),
            json!({ "org": { "id": "acme" }, "prio": "urgent" }),
            json!({ "org": { "id": "acme" }, "prio": 1 }),
            json!({ "org": { "id": "acme" }, "scope": 7 }),
            json!({ "org": { "id": "acme" }, "scope": [7] }),
            json!({ "org": { "id": "acme" }, "team": { "a": 1 } }),
            json!({ "org": { "id": "acme" }, "tags": "a\nb" }),
        ] {
            assert_eq!(read(&issuer(), payload.clone()), Err(IdentityRefusal::TokenClaims), "{payload}");
        }
        let generous = JwtIssuer { default_tenant: Some("free".into()), ..issuer() };
        assert_eq!(&*read(&generous, json!({})).unwrap().tenant, "free");
        assert_eq!(read(&generous, json!({ "org": { "id": "a b" } })), Err(IdentityRefusal::TokenClaims), "wrong is not missing");
    }
}
