//! Posting: each alert is tried until it is taken or its time is over, beside the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use farthing_config::SigningKey;
use farthing_ledger::costs::utc;
use farthing_ledger::watch::{Delivery, Told, pause};
use farthing_types::call::NoSink;
use farthing_types::{Body, Call, CallId, Claim, Clock, Draw, DrawKind, Purpose, Span};
use farthing_upstream::{Client, Origin, UpstreamSpec};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use ring::hmac;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Alerts;
use crate::StartError;

/// Longest time for one attempt.
const ATTEMPT: Span = Span::from_secs(10);
/// Alerts that are posted at a time.
const AT_A_TIME: usize = 8;

/// Where alerts go.
pub(super) struct Post {
    origin: Arc<dyn Origin>,
    target: Uri,
    key: Option<hmac::Key>,
}

impl Post {
    pub(super) fn new(webhook: &Uri, key: Option<&SigningKey>, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let target = webhook.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut base = webhook.clone().into_parts();
        base.path_and_query = Some(PathAndQuery::from_static("/"));
        let base = Uri::from_parts(base).map_err(|error| StartError::Webhook(error.to_string()))?;
        let target = target.parse().map_err(|error: http::uri::InvalidUri| StartError::Webhook(error.to_string()))?;
        let spec = UpstreamSpec { max_concurrent: AT_A_TIME, ..UpstreamSpec::new("alerts", base) };
        let client = Client::new(&spec, clock, Arc::default()).map_err(|error| StartError::Webhook(error.to_string()))?;
        Ok(Self::by(Arc::new(client), target, key))
    }

    pub(super) fn by(origin: Arc<dyn Origin>, target: Uri, key: Option<&SigningKey>) -> Self {
        Self { origin, target, key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())) }
    }

    /// One attempt; what went wrong when it was not taken.
    async fn attempt(&self, told: &Told, seconds: i64) -> Result<(), String> {
        let body = body(told);
        let call = Call {
            id: CallId(told.number),
            route: "alerts".into(),
            payer: "farthing".into(),
            purpose: Purpose::User,
            key: None,
            method: Method::POST,
            target: self.target.clone(),
            headers: self.headers(told, &body, seconds)?,
            body: Body::full(body),
            repeatable: false,
            deadline: ATTEMPT,
            claim: Claim::default(),
            batch: None,
            routing: None,
            sink: Arc::new(NoSink),
        };
        match tokio::time::timeout(ATTEMPT, self.origin.fetch(call)).await {
            Ok(Ok(reply)) if reply.status.is_success() => Ok(()),
            Ok(Ok(reply)) => Err(format!("answered {}", reply.status)),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => Err(format!("no answer within {ATTEMPT:?}")),
        }
    }

    /// Signed after Standard Webhooks, where there is a key. The id is that of this telling: one sent again can be told from a new one.
    fn headers(&self, told: &Told, body: &[u8], seconds: i64) -> Result<HeaderMap, String> {
        let id = format!("{}-{}", told.alert.id, told.number);
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            HeaderValue::from_str(value).map(|value| drop(headers.insert(name, value))).map_err(|error| error.to_string())
        };
        put(header::CONTENT_TYPE.as_str(), "application/json")?;
        put(header::USER_AGENT.as_str(), concat!("farthing/", env!("CARGO_PKG_VERSION")))?;
        put("webhook-id", &id)?;
        put("webhook-timestamp", &seconds.to_string())?;
        if let Some(key) = &self.key {
            let signed = [id.as_bytes(), b".", seconds.to_string().as_bytes(), b".", body].concat();
            put("webhook-signature", &format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed))))?;
        }
        Ok(headers)
    }
}

fn body(told: &Told) -> Bytes {
    let alert = &told.alert;
    let json = serde_json::json!({
        "id": alert.id, "number": told.number, "kind": alert.kind, "at": utc(alert.at), "subject": alert.subject,
        "summary": alert.summary, "details": alert.details,
    });
    Bytes::from(json.to_string())
}

/// Posts what comes until nothing can come any more.
pub(super) async fn run((alerts, post): (Arc<Alerts>, Post), mut waiting: mpsc::Receiver<Told>, (draw, clock): (Draw, Arc<dyn Clock>)) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            told = waiting.recv(), if under_way.len() < AT_A_TIME => match told {
                Some(told) => under_way.push(one(&alerts, &post, told, (draw, &clock))),
                None if under_way.is_empty() => return,
                None => drop(under_way.next().await),
            },
            Some(()) = under_way.next() => {}
        }
    }
}

async fn one(alerts: &Arc<Alerts>, post: &Post, told: Told, (draw, clock): (Draw, &Arc<dyn Clock>)) {
    let until = Instant::now() + alerts.config.load().deadline;
    let counts = &alerts.counts;
    for attempts in 1u32.. {
        counts.attempts.fetch_add(1, Ordering::Relaxed);
        let problem = match post.attempt(&told, clock.now().millis().div_euclid(1_000)).await {
            Ok(()) => {
                counts.delivered.fetch_add(1, Ordering::Relaxed);
                alerts.note(told.number, Delivery::Delivered { attempts, at: clock.now() });
                return keep(alerts).await;
            }
            Err(problem) => problem,
        };
        counts.failed.fetch_add(1, Ordering::Relaxed);
        let wait = pause(attempts, draw.uniform(DrawKind::Jitter, "alerts", u128::from(told.number), i64::from(attempts)));
        if Instant::now() + wait > until {
            tracing::warn!(id = %told.alert.id, attempts, problem, "an alert could not be posted");
            counts.given_up.fetch_add(1, Ordering::Relaxed);
            alerts.note(told.number, Delivery::GivenUp { attempts, problem });
            return keep(alerts).await;
        }
        alerts.note(told.number, Delivery::Pending { attempts, problem: Some(problem) });
        sleep(wait).await;
    }
}

/// What became of an alert outlives the process.
async fn keep(alerts: &Arc<Alerts>) {
    let alerts = alerts.clone();
    let _ = tokio::task::spawn_blocking(move || alerts.save()).await;
}
