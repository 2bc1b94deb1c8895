//! Signed deliveries, after Standard Webhooks (<https://www.standardwebhooks.com>): who has the secret may say what has changed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use farthing_config::SigningKey;
use farthing_types::Time;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::{mpsc, oneshot};

use super::seen::Seen;
use super::{Arrival, EventSource, News, SourceState, cloud};

/// How far a delivery's time may be from ours, seconds.
const TOLERANCE: i64 = 300;
/// Deliveries that wait at most; more are refused.
const MOST_WAITING: usize = 64;
/// Bytes of an id at most, and signatures of a delivery.
const LONGEST_ID: usize = 256;
const MOST_SIGNATURES: usize = 16;

/// What a delivery did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Events in it.
    pub events: u64,
    /// Entries that were purged.
    pub entries: u64,
    /// It had come before: nothing was done.
    pub repeated: bool,
}

/// Why a delivery was not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// There is no such source.
    #[error("no source of events of kind `webhook` is called `{0}`")]
    Unknown(String),
    /// It is not signed as it should be, or its time is not now.
    #[error("{0}")]
    Unsigned(&'static str),
    /// It is signed, and no event.
    #[error("{0}")]
    Malformed(String),
    /// It cannot be obeyed now; to be sent again.
    #[error("too many deliveries wait, or the instance is ending: send it again")]
    Busy,
}

/// Where deliveries come in.
pub(super) struct Door {
    keys: Vec<hmac::Key>,
    seen: Mutex<Seen>,
    /// Ids of deliveries that have not been obeyed yet.
    under_way: Mutex<HashSet<Arc<str>>>,
    waiting: Mutex<Option<mpsc::Sender<Arrival>>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(keys: &[SigningKey]) -> Self {
        let keys = keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())).collect();
        Self { keys, seen: Mutex::default(), under_way: Mutex::default(), waiting: Mutex::default() }
    }

    /// The source that hears of what comes in.
    pub(super) fn open(&self) -> Webhook {
        let (sender, deliveries) = mpsc::channel(MOST_WAITING);
        *self.waiting.lock() = Some(sender);
        Webhook(deliveries)
    }

    /// The delivery's id, when it is signed with one of the keys and its time is now.
    fn verify<'a>(&self, headers: &'a HeaderMap, body: &[u8], now: i64) -> Result<(&'a str, i64), &'static str> {
        let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = of("webhook-id").filter(|id| (1..=LONGEST_ID).contains(&id.len())).ok_or("no header webhook-id of 1 to 256 bytes")?;
        let time = of("webhook-timestamp").ok_or("no header webhook-timestamp")?;
        let signatures = of("webhook-signature").ok_or("no header webhook-signature")?;
        let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
        let presented = signatures.split(' ').take(MOST_SIGNATURES).filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        // Compared in constant time by `verify`.
        let good = |tag: Vec<u8>| self.keys.iter().any(|key| hmac::verify(key, &signed, &tag).is_ok());
        if !presented.into_iter().any(good) {
            return Err("no signature fits: `webhook-signature: v1,BASE64` is the HMAC-SHA256 of `webhook-id.webhook-timestamp.body`");
        }
        let time: i64 = time.parse().map_err(|_| "webhook-timestamp is no number of seconds since 1970")?;
        if now.abs_diff(time) > TOLERANCE as u64 {
            return Err("webhook-timestamp is more than five minutes from now: set the clocks");
        }
        Ok((id, time))
    }
}

/// Takes a delivery; returns when what it says has been obeyed.
pub async fn deliver(shared: Arc<SourceState>, (headers, body): (HeaderMap, Bytes), now: Time) -> Result<Delivered, DeliveryError> {
    let Some(door) = &shared.door else { return Err(DeliveryError::Unknown(shared.config.name.to_string())) };
    let now = now.millis().div_euclid(1_000);
    let (id, time) = door.verify(&headers, &body, now).map_err(|why| {
        shared.counts.unsigned.fetch_add(1, Ordering::Relaxed);
        DeliveryError::Unsigned(why)
    })?;
    let events = cloud::read(&headers, &body).map_err(|error| {
        shared.counts.malformed.fetch_add(1, Ordering::Relaxed);
        DeliveryError::Malformed(error.to_string())
    })?;
    // Whether it will be obeyed is not known yet.
    if door.under_way.lock().contains(id) {
        return Err(DeliveryError::Busy);
    }
    if !door.seen.lock().note(id, time.saturating_add(TOLERANCE), now) {
        shared.counts.repeated.fetch_add(1, Ordering::Relaxed);
        return Ok(Delivered { events: events.len() as u64, entries: 0, repeated: true });
    }
    door.under_way.lock().insert(id.into());
    let mut under_way = UnderWay { door, id, obeyed: false };
    let count = events.len() as u64;
    let (obeyed, told) = oneshot::channel();
    let sender = door.waiting.lock().clone().ok_or(DeliveryError::Busy)?;
    sender.try_send(Arrival { events, obeyed: Some(obeyed), ..Arrival::default() }).map_err(|_| DeliveryError::Busy)?;
    let entries = told.await.map_err(|_| DeliveryError::Busy)?;
    under_way.obeyed = true;
    Ok(Delivered { events: count, entries, repeated: false })
}

/// Lets a delivery come again that was not obeyed, also when nobody waited for it any more.
struct UnderWay<'a> {
    door: &'a Door,
    id: &'a str,
    obeyed: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.obeyed {
            self.door.seen.lock().forget(self.id);
        }
        self.door.under_way.lock().remove(self.id);
    }
}

/// Deliveries as a source of events.
#[derive(Debug)]
pub(super) struct Webhook(mpsc::Receiver<Arrival>);

impl EventSource for Webhook {
    fn next(&mut self) -> BoxFuture<'_, News> {
        async {
            match self.0.recv().await {
                Some(arrival) => News::Came(arrival),
                // The door is as old as the process.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
    fn remembers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const AT: i64 = 1_614_265_330;

    fn door(keys: &[&[u8]]) -> Door {
        Door::new(&keys.iter().map(|key| SigningKey::new(*key)).collect::<Vec<_>>())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = STANDARD.decode(KEY).unwrap();
        let signed = |signature: &str| {
            headers(&[
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", signature),
            ])
        };
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let verify = |keys: &[&[u8]], signature: &str, body: &[u8], now| door(keys).verify(&signed(signature), body, now).is_ok();
        assert!(verify(&[&key], good, BODY, AT));
        assert!(verify(&[b"another key, an older one", &key], &format!("v1a,AAAA v1,AAAA {good}"), BODY, AT), "while keys are exchanged");
        assert!(verify(&[&key], good, BODY, AT + 300) && verify(&[&key], good, BODY, AT - 300));
        assert!(!verify(&[&key], good, BODY, AT + 301) && !verify(&[&key], good, BODY, AT - 301));
        assert!(!verify(&[&key], good, b"{}", AT) && !verify(&[b"another key"], good, BODY, AT));
        for bad in ["", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,", "v1,!"] {
            assert!(!verify(&[&key], bad, BODY, AT), "{bad}");
        }
        let far = (0..MOST_SIGNATURES).map(|_| "v1,AAAA ").collect::<String>() + good;
        assert!(!verify(&[&key], &far, BODY, AT), "a bounded number of them is tried");
    }

    #[test]
    fn each_header_is_needed() {
        let all = [("webhook-id", "a"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,AAAA")];
        for (at, (name, _)) in all.iter().enumerate() {
            let mut some = all.to_vec();
            some.remove(at);
            assert!(door(&[b"k"]).verify(&headers(&some), b"", 1).unwrap_err().contains(name));
        }
    }
}
