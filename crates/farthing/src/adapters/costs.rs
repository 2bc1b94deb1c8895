//! Questions about money, answered by the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_admin::{ControlError, CostAnswer, CostFigures, CostPoint, CostQuestion, CostRow, CostsView, NetSaving, StrategyImpact};
use farthing_ledger::costs::{Asked, CostError, CostQuery, CostReport, CostStore, CostSums, Point, SelfCost, Strategy, money, utc};
use farthing_proxy::UnobservedHost;
use farthing_types::{Clock, RealClock, Span, Time};
use serde_json::Value;

use super::Running;

/// Questions that are answered at a time: each may hold some tens of megabytes and all cores.
const AT_A_TIME: usize = 2;
/// Longest time for one, below that of the admin API's handlers.
const LONGEST: Span = Span::from_secs(25);

/// Places for questions.
#[derive(Debug, Default)]
pub struct Places(Arc<AtomicUsize>);

struct Place(Arc<AtomicUsize>);

impl Places {
    fn take(&self) -> Option<Place> {
        let place = Place(self.0.clone());
        (self.0.fetch_add(1, Ordering::AcqRel) < AT_A_TIME).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl CostsView for Running {
    fn ask(&self, question: &CostQuestion) -> Result<CostAnswer, ControlError> {
        let store = self.proxy.cost_store().ok_or_else(|| ControlError::Unavailable("the log is off (log.enabled)".to_owned()))?;
        let busy = || ControlError::Unavailable("other questions about money are being answered: ask again".to_owned());
        let _place = self.places.take().ok_or_else(busy)?;
        let own = self.proxy.config().self_cost;
        let own = own.map(|own| SelfCost { per_month: own.per_month, per_million_requests: own.per_million_requests });
        let proved = serde_json::to_value(self.proxy.savings()).ok();
        let unobserved = self.proxy.unobserved().into_iter().map(unobserved).collect();
        answer(&store, question, Beside { now: self.proxy.now(), own, proved }).map(|answer| CostAnswer { unobserved, ..answer })
    }
}

fn unobserved(of: UnobservedHost) -> farthing_admin::UnobservedHost {
    let UnobservedHost { host, tunnels, passed, up, down } = of;
    farthing_admin::UnobservedHost { host: host.to_string(), tunnels, passed, bytes_up: up, bytes_down: down }
}

/// What an answer has beside the log's rows.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The time now, on the log's clock.
    pub now: Time,
    /// What Farthing costs.
    pub own: Option<SelfCost>,
    /// The saving as the holdout proves it.
    pub proved: Option<Value>,
}

/// Answers `question` from `store`.
///
/// # Errors
/// See [`CostsView::ask`].
pub fn answer(store: &CostStore, question: &CostQuestion, beside: Beside) -> Result<CostAnswer, ControlError> {
    let asked = Asked {
        window: question.window.as_deref(),
        by: question.aggregate.as_deref(),
        filter: question.filter.as_deref(),
        top: question.top.as_deref(),
        step: question.step.as_deref(),
    };
    let query = CostQuery::parse(asked, beside.now).map_err(|error| ControlError::Refused(error.to_string()))?;
    let real = RealClock::default();
    let until = real.now() + LONGEST;
    let report = store.answer(&query, &|| real.now() > until).map_err(|error| match error {
        CostError::TooLarge(_) | CostError::Late => ControlError::Refused(error.to_string()),
        CostError::Broken => ControlError::Failed(error.to_string()),
    })?;
    // What a part of the traffic saves is not to be set against the cost of the whole.
    let net = beside.own.filter(|_| query.filters.is_empty()).and_then(|own| own.net(&report, beside.now));
    let net = net.map(|net| NetSaving { self_cost_usd: money(net.own), net_usd: money(net.net), return_on_cost: net.returned });
    Ok(view(report, net, beside.proved))
}

fn view(report: CostReport, net: Option<NetSaving>, proved: Option<Value>) -> CostAnswer {
    let base = report.total.requests.map(|requests| requests.base);
    CostAnswer {
        from: utc(report.window.from),
        to: utc(report.window.to),
        groups_in_all: report.groups_in_all,
        total: figures(&report.total),
        series: report.series.iter().map(point).collect(),
        strategies: report.strategies.iter().map(|strategy| impact(strategy, base)).collect(),
        prefetch_waste_usd: report.prefetch_waste().map(money),
        net,
        proved,
        rows: report.rows,
        files: report.files,
        unreadable: report.unreadable,
        unobserved: Vec::new(),
        groups: report.groups.iter().map(|group| row(&report.by, group)).collect(),
        by: report.by,
    }
}

fn row(by: &[String], group: &farthing_ledger::costs::CostGroup) -> CostRow {
    let names: BTreeMap<String, Option<String>> =
        by.iter().cloned().zip(group.names.iter().map(|name| name.as_deref().map(str::to_owned))).collect();
    CostRow { names, others: group.others, figures: figures(&group.sums), series: group.series.iter().map(point).collect() }
}

fn point(point: &Point) -> CostPoint {
    CostPoint { at: utc(point.at), figures: figures(&point.sums) }
}

fn figures(sums: &CostSums) -> CostFigures {
    let (requests, calls) = (sums.requests.as_ref(), sums.calls.as_ref());
    let share = |part: i128, whole: i128| (whole > 0).then(|| part as f64 / whole as f64);
    CostFigures {
        bill_usd: calls.map(|calls| money(calls.bill)),
        base_usd: requests.map(|requests| money(requests.base)),
        saving_share: requests.zip(calls).and_then(|(requests, calls)| share(requests.base - calls.bill, requests.base)),
        saved_usd: requests.map(|requests| money(requests.saved)),
        requests: requests.map(|requests| count(requests.requests)),
        hit_ratio: requests.and_then(|requests| share(requests.hits, requests.requests)),
        failed: requests.map(|requests| count(requests.failed)),
        unpriced_requests: requests.map(|requests| count(requests.unpriced)),
        calls: calls.map(|calls| count(calls.calls)),
        unpriced_calls: calls.map(|calls| count(calls.unpriced)),
        background_usd: calls.map(|calls| money(calls.background)),
        prefetch_usd: calls.map(|calls| money(calls.prefetch)),
    }
}

fn impact(strategy: &Strategy, base: Option<i128>) -> StrategyImpact {
    let share = base.filter(|base| *base > 0).map(|base| strategy.saved as f64 / base as f64);
    StrategyImpact {
        name: strategy.name.to_string(),
        requests: count(strategy.requests),
        calls_avoided: count(strategy.calls_avoided),
        saved_usd: money(strategy.saved),
        share_of_base: share,
        calls: count(strategy.calls),
        bill_usd: money(strategy.bill),
        net_usd: money(strategy.net()),
        unpriced: count(strategy.unpriced),
    }
}

fn count(count: i128) -> u64 {
    u64::try_from(count).unwrap_or(if count < 0 { 0 } else { u64::MAX })
}

#[cfg(test)]
mod tests {
    use farthing_types::Money;

    use super::*;

    #[test]
    fn only_so_many_questions_at_a_time() {
        let places = Places::default();
        let held: Vec<_> = (0..AT_A_TIME).map(|_| places.take().unwrap()).collect();
        assert!(places.take().is_none());
        drop(held);
        assert!(places.take().is_some());
    }

    #[test]
    fn a_log_folder_answers_with_what_remains() {
        let dir = tempfile::tempdir().unwrap();
        let writer =
            farthing_ledger::LogWriter::open(dir.path(), farthing_ledger::LogConfig::default(), Arc::new(RealClock::default())).unwrap();
        let (log, hour) = (writer.handle(), 3_600_000_000_000);
        for (base, outcome) in [(Some(2_000_000_000), "hit"), (Some(2_000_000_000), "lead"), (None, "lead")] {
            log.write(farthing_contract::log::Request {
                ts_ns: hour,
                weight: 1,
                tenant: "a".into(),
                outcome,
                base_nanousd: base,
                cost_nanousd: base.map(|base| if outcome == "hit" { 0 } else { base }),
                saved_by: (outcome == "hit").then_some("l1"),
                ..Default::default()
            });
        }
        log.write(farthing_contract::log::CallRow {
            ts_ns: hour,
            tenant: "a".into(),
            purpose: "user",
            sent: true,
            cost_nanousd: Some(2_000_000_000),
            ..Default::default()
        });
        writer.close();
        let store = CostStore::new(dir.path(), None, farthing_ledger::costs::Limits::default());
        let own = SelfCost { per_month: "730.5".parse().unwrap(), per_million_requests: Money::ZERO };
        let beside = Beside { now: Time::from_nanos(2 * hour), own: Some(own), proved: None };
        let question = CostQuestion { window: Some("1h".to_owned()), aggregate: Some("tenant".to_owned()), ..CostQuestion::default() };
        let told = answer(&store, &question, beside.clone()).unwrap();
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(json["groups"][0]["names"]["tenant"], "a");
        assert_eq!((json["total"]["bill_usd"].as_str(), json["total"]["base_usd"].as_str()), (Some("2"), Some("4")));
        assert_eq!((json["total"]["saving_share"].as_f64(), json["total"]["unpriced_requests"].as_u64()), (Some(0.5), Some(1)));
        assert_eq!((json["net"]["self_cost_usd"].as_str(), json["net"]["net_usd"].as_str()), (Some("1"), Some("1")));
        assert_eq!((json["net"]["return_on_cost"].as_f64(), json["strategies"][0]["saved_usd"].as_str()), (Some(2.0), Some("2")));
        let part = CostQuestion { filter: Some("tenant:a".to_owned()), ..question };
        assert_eq!(answer(&store, &part, beside.clone()).unwrap().net, None, "a part is not set against the whole");
        let bad = CostQuestion { aggregate: Some("model".to_owned()), ..CostQuestion::default() };
        assert!(matches!(answer(&store, &bad, beside), Err(ControlError::Refused(told)) if told.contains("tenant, team")));
    }
}
