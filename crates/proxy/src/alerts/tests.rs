use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use farthing_config::{AlertsConfig, Config, SigningKey};
use farthing_ledger::watch::{AlertKind, Delivery, HourRow, SeriesKey, Told, billing_at_risk};
use farthing_types::{Body, Call, Clock, Draw, Failure, Reply, Span, Time, VirtualClock};
use farthing_upstream::Origin;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use ring::hmac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::deliver::{Post, run};
use super::watch::HourCosts;
use super::{AlertStats, Alerts};

fn alert(what: &str, at: Time) -> farthing_ledger::watch::Alert {
    billing_at_risk(what, "the disk is full", at)
}

fn config(dir: Option<&std::path::Path>, webhook: &str) -> Config {
    let alerts = AlertsConfig {
        webhook: Some(webhook.parse().unwrap()),
        webhook_key: Some(SigningKey::new(*b"0123456789abcdef01234567")),
        ..AlertsConfig::default()
    };
    Config { alerts, state_dir: dir.map(Into::into).unwrap_or_default(), ..Config::default() }
}

/// A receiver that answers as told, then takes everything.
#[derive(Default)]
struct Receiver {
    answers: Mutex<VecDeque<StatusCode>>,
    seen: Mutex<Vec<(HeaderMap, Bytes, tokio::time::Instant)>>,
}

impl Origin for Receiver {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let body = call.body.as_full().unwrap();
        self.seen.lock().push((call.headers, body, tokio::time::Instant::now()));
        let status = self.answers.lock().pop_front().unwrap_or(StatusCode::OK);
        async move { Ok(Reply { status, headers: HeaderMap::new(), body: Body::empty() }) }.boxed()
    }
}

/// Posts what `alerts` has until `done` holds of its figures. Time is tokio's, which the test has paused.
async fn post_until(alerts: &Arc<Alerts>, receiver: &Arc<Receiver>, done: impl Fn(&AlertStats) -> bool) {
    let clock = Arc::new(VirtualClock::new(Time::from_millis(1_000_000)));
    let post = Post::by(receiver.clone(), "/hook?x=1".parse().unwrap(), alerts.config.load().webhook_key.as_ref());
    let waiting = alerts.waiting.1.lock().take().unwrap();
    let posting = run((alerts.clone(), post), waiting, (Draw::new(7), clock as Arc<dyn Clock>));
    let watching = async {
        while !done(&alerts.stats()) {
            tokio::time::sleep(Span::from_secs(1)).await; // paused time: nobody waits
        }
    };
    tokio::select! {
        () = posting => {}
        () = watching => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_fails_first_gets_the_alert_once_it_can() {
    let alerts = Arc::new(Alerts::new(&config(None, "http://hooks.example/hook")));
    let receiver = Arc::new(Receiver::default());
    receiver.answers.lock().extend([StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS, StatusCode::NOT_FOUND]);
    alerts.raise(alert("log", Time::from_millis(0)));
    alerts.raise(alert("log", Time::from_millis(5)));
    post_until(&alerts, &receiver, |stats| stats.delivered == 1).await;
    let stats = alerts.stats();
    assert_eq!((stats.attempts, stats.failed, stats.delivered, stats.given_up), (4, 3, 1, 0));
    let risk = stats.kinds.iter().find(|(kind, _)| *kind == AlertKind::BillingAtRisk.as_str()).unwrap().1;
    assert_eq!((risk.told, risk.repeated), (1, 1), "the same is not told twice");
    assert!(matches!(alerts.list()[0].delivery, Delivery::Delivered { attempts: 4, .. }));
    let seen = receiver.seen.lock();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef01234567");
    for (headers, body, _) in seen.iter() {
        let of = |name: &str| headers[name].to_str().unwrap();
        assert_eq!((of("webhook-id"), of("webhook-timestamp"), of("content-type")), (of("webhook-id"), "1000", "application/json"));
        let signed = [of("webhook-id").as_bytes(), b".1000.", body].concat();
        hmac::verify(&key, &signed, &STANDARD.decode(of("webhook-signature").strip_prefix("v1,").unwrap()).unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!((json["kind"].as_str(), json["at"].as_str()), (Some("billing-at-risk"), Some("1970-01-01T00:00:00Z")));
        assert_eq!(of("webhook-id"), format!("{}-{}", json["id"].as_str().unwrap(), json["number"]));
        assert_eq!(seen[0].0["webhook-id"], headers["webhook-id"], "the same telling has the same id");
    }
    let waits: Vec<f64> = seen.windows(2).map(|two| (two[1].2 - two[0].2).as_secs_f64()).collect();
    assert!(
        waits.iter().zip([2.0, 4.0, 8.0]).all(|(wait, most)| *wait <= most + 0.01) && waits.iter().any(|wait| *wait > 0.0),
        "{waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_never_taken_is_given_up_and_said() {
    let alerts = Arc::new(Alerts::new(&config(None, "http://hooks.example/hook")));
    let receiver = Arc::new(Receiver::default());
    receiver.answers.lock().extend((0..10_000).map(|_| StatusCode::BAD_GATEWAY));
    let begun = tokio::time::Instant::now();
    alerts.raise(alert("log", Time::ZERO));
    alerts.raise(alert("journal", Time::ZERO));
    post_until(&alerts, &receiver, |stats| stats.given_up == 2).await;
    let took = begun.elapsed().as_secs();
    assert!((3_000..=3_600).contains(&took), "{took} s of an hour");
    for told in alerts.list() {
        assert!(matches!(&told.delivery, Delivery::GivenUp { attempts, problem } if *attempts > 10 && problem.contains("502")), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_can_wait_are_counted() {
    let alerts = Arc::new(Alerts::new(&config(None, "http://hooks.example/hook")));
    (0..300).for_each(|n| alerts.raise(alert(&format!("n{n}"), Time::ZERO)));
    assert_eq!(alerts.stats().given_up, 44);
    assert!(matches!(&alerts.list()[0].delivery, Delivery::GivenUp { attempts: 0, .. }));
}

#[test]
fn a_restart_forgets_neither_what_was_told_nor_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(Some(&dir.path().join("state")), "http://hooks.example/hook");
    let first = Alerts::new(&config);
    first.raise(alert("log", Time::ZERO));
    first.save();
    let second = Alerts::new(&config);
    second.recall();
    second.raise(alert("log", Time::from_millis(1_000)));
    assert_eq!(second.list().len(), 1, "told before the restart");
    let waiting: Told = second.waiting.1.lock().as_mut().unwrap().try_recv().unwrap();
    assert_eq!((waiting.number, &*waiting.alert.subject), (1, "request log".trim_start_matches("request ")));
    std::fs::write(dir.path().join("state/alerts.json"), "no book").unwrap();
    let third = Alerts::new(&config);
    third.recall();
    assert!(third.list().is_empty() && dir.path().join("state/alerts.json.unreadable").exists());
}

#[tokio::test]
async fn over_the_wire() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/services/T0/hook?token=x", listener.local_addr().unwrap());
    let config = config(None, &url);
    let alerts = Arc::new(Alerts::new(&config));
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new(Time::from_millis(5_000)));
    let post = Post::new(config.alerts.webhook.as_ref().unwrap(), config.alerts.webhook_key.as_ref(), clock.clone()).unwrap();
    alerts.raise(alert("log", Time::ZERO));
    let waiting = alerts.waiting.1.lock().take().unwrap();
    let posting = run((alerts.clone(), post), waiting, (Draw::new(1), clock));
    let receiving = async {
        // The first connection breaks, the second one is answered.
        drop(listener.accept().await.unwrap());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"}") {
            let mut part = [0; 4_096];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&part[..read]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        while alerts.stats().delivered == 0 {
            tokio::task::yield_now().await;
        }
        String::from_utf8(text).unwrap()
    };
    let text = tokio::select! {
        () = posting => unreachable!("it posts as long as alerts may come"),
        text = receiving => text,
    };
    assert!(text.starts_with("POST /services/T0/hook?token=x HTTP/1.1\r\n") && text.contains("\"kind\":\"billing-at-risk\""), "{text}");
    assert_eq!(alerts.stats().attempts, 2);
}

fn costs(tenant: &str, calls: f64, nanos: i128, unpriced: u64) -> HourCosts {
    let key = SeriesKey { tenant: tenant.into(), provider: "openai".into(), route: "chat".into() };
    HourCosts { row: HourRow { key, target: Some("small".into()), calls, usd: nanos as f64 / 1e9 }, nanos, unpriced }
}

#[test]
fn hours_become_alerts_and_a_forecast() {
    let per_month = Some("1000".parse().unwrap());
    let alerts = Alerts::new(&Config { alerts: AlertsConfig { per_month, ..AlertsConfig::default() }, ..Config::default() });
    // 2026-10-05 00:00 UTC, and 19 November.
    let (first, last) = (497_544_i64, 497_544 + 45 * 24);
    let hour = 3_600_000;
    let mut rows: BTreeMap<i64, Vec<HourCosts>> = (first..last).map(|h| (h, vec![costs("acme", 100.0, 2_000_000_000, 0)])).collect();
    rows.insert(last - 3, vec![costs("acme", 100.0, 0, 7)]);
    alerts.take(first..last, &rows, Time::from_millis(last * hour));
    let told: Vec<_> = alerts.list().iter().map(|told| (told.alert.kind, told.alert.subject.to_string())).collect();
    assert_eq!(told, [(AlertKind::PredictedOverrun, "all spend".to_owned()), (AlertKind::Unpriced, "openai/chat/small".to_owned())]);
    let forecast = alerts.forecast(None).unwrap();
    // Eighteen days of November at 48 dollars, less the hour without a price.
    assert_eq!((forecast.month.as_str(), forecast.so_far.to_string()), ("2026-11", "862".to_owned()));
    assert!((forecast.quantiles[1] / 1_438.0 - 1.0).abs() < 0.05 && forecast.over == Some(1.0), "{forecast:?}");
    assert_eq!((alerts.forecast(Some("acme")).unwrap().over, alerts.forecast(Some("nobody"))), (None, None));
    // Ten times as much, now.
    let now = (last..last + 3).map(|h| (h, vec![costs("acme", 1_000.0, 20_000_000_000, 0)])).collect();
    alerts.take(last..last + 3, &now, Time::from_millis((last + 3) * hour));
    let newest = alerts.list().remove(0).alert;
    assert_eq!((newest.kind, &*newest.subject), (AlertKind::SpendAnomaly, "acme/openai/chat"));
    assert!(newest.summary.contains("more calls"), "{}", newest.summary);
    alerts.forget_tenant("acme");
    assert_eq!((alerts.stats().watch.series, alerts.forecast(Some("acme"))), (0, None));
    assert!(alerts.list().iter().all(|told| !told.alert.subject.contains("acme")));
}

#[test]
fn old_changes_are_history_and_a_log_that_loses_rows_is_not() {
    let alerts = Alerts::new(&Config::default());
    let at = |hour: i64| Time::from_millis(hour * 3_600_000);
    let rows = BTreeMap::from([(10, vec![costs("acme", 1.0, 0, 1)])]);
    alerts.take(0..100, &rows, at(100));
    assert!(alerts.list().is_empty(), "of more than a day ago");
    alerts.log_seen(0, true, at(100));
    alerts.log_seen(5, true, at(100));
    alerts.log_seen(5, true, at(101));
    assert_eq!(alerts.list().len(), 1);
    assert!(alerts.list()[0].alert.summary.contains("5 rows were dropped"));
}

#[test]
fn what_ends_late_is_spent_in_its_month_all_the_same() {
    let alerts = Alerts::new(&Config::default());
    let (first, last) = (497_544_i64, 497_544 + 45 * 24);
    let mut rows: BTreeMap<i64, Vec<HourCosts>> = (first..last).map(|h| (h, vec![costs("acme", 100.0, 2_000_000_000, 0)])).collect();
    alerts.take(first..last, &rows, Time::from_millis(last * 3_600_000));
    // November had 432 hours of $2 by then.
    assert_eq!(alerts.forecast(None).unwrap().so_far.to_string(), "864");
    rows.insert(last - 5, vec![costs("acme", 100.0, 7_000_000_000, 0)]);
    for _ in 0..2 {
        alerts.again(last - 48..last, &rows);
        assert_eq!(alerts.forecast(None).unwrap().so_far.to_string(), "869");
        assert_eq!(alerts.forecast(Some("acme")).unwrap().so_far.to_string(), "869");
    }
}
