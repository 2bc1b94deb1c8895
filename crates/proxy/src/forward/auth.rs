//! Who uses the proxy.

use std::sync::Arc;

use farthing_config::ForwardConfig;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, PROXY_AUTHORIZATION};

use super::{Refused, refusal};
use crate::clients::{Clients, Grant};
use crate::identify::{self, KEY_HEADER};
use crate::live::Live;
use crate::problem::Problem;
use crate::state::State;

/// What whoever shows a key or token may do; `None` where nobody must and nobody does. A key in `Proxy-Authorization` becomes the one of the request.
///
/// # Errors
/// 407 without one where there must be one, and for one that is not taken.
pub(super) fn holder(
    (state, live): (&State, &Live),
    forward: &ForwardConfig,
    headers: &mut HeaderMap,
) -> Result<Option<Arc<Grant>>, (Refused, Problem)> {
    if let Some(key) = in_proxy_authorization(&live.clients, headers)
        && !headers.contains_key(KEY_HEADER)
    {
        headers.insert(KEY_HEADER, key);
    }
    headers.remove(PROXY_AUTHORIZATION);
    match identify::holder(&live.clients, headers, state.clock.now()) {
        Some(Ok(grant)) => Ok(Some(grant)),
        Some(Err(problem)) => {
            live.clients.counts.note(&problem);
            Err(refusal(Refused::Key, StatusCode::PROXY_AUTHENTICATION_REQUIRED, problem.detail))
        }
        None if forward.auth => {
            let detail = "this proxy takes a Farthing key, as `Proxy-Authorization`: write the proxy's URL as http://any:KEY@HOST:PORT";
            Err(refusal(Refused::Key, StatusCode::PROXY_AUTHENTICATION_REQUIRED, detail))
        }
        None => Ok(None),
    }
}

/// A key or token of ours, as the password or the user of `Basic`, or under any other scheme.
fn in_proxy_authorization(clients: &Clients, headers: &HeaderMap) -> Option<HeaderValue> {
    let text = identify::ours_in(clients, headers.get(PROXY_AUTHORIZATION)?)?;
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
