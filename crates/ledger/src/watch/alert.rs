//! What is told, and in what words.

use std::sync::Arc;

use farthing_types::{Money, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::series::Change;
use super::watcher::Anomaly;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A budget has reached a level.
    BudgetLevel,
    /// There is traffic without a known price.
    Unpriced,
    /// Spend, or the cost of a call, is unusual.
    SpendAnomaly,
    /// A period will probably cost more than it may.
    PredictedOverrun,
    /// Records of what was spent may be lost.
    BillingAtRisk,
    /// A changed configuration was refused, so that the one before is in force.
    ConfigRefused,
}

impl AlertKind {
    /// Every value, in the order of declaration.
    pub const ALL: [Self; 6] =
        [Self::BudgetLevel, Self::Unpriced, Self::SpendAnomaly, Self::PredictedOverrun, Self::BillingAtRisk, Self::ConfigRefused];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BudgetLevel => "budget-level",
            Self::Unpriced => "unpriced",
            Self::SpendAnomaly => "spend-anomaly",
            Self::PredictedOverrun => "predicted-overrun",
            Self::BillingAtRisk => "billing-at-risk",
            Self::ConfigRefused => "config-refused",
        }
    }
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for the same matter, however often it is found.
    pub id: Arc<str>,
    /// What it is about.
    pub kind: AlertKind,
    /// When it was found, ns since 1970 UTC.
    pub at: Time,
    /// Whose money it is about.
    pub subject: Arc<str>,
    /// What a person needs to know, in one sentence.
    pub summary: Arc<str>,
    /// The same for programs.
    pub details: Value,
}

impl Alert {
    /// `matter`: what tells it from others of its kind and subject.
    fn new((kind, at): (AlertKind, Time), subject: &str, matter: &str, (summary, details): (String, Value)) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(format!("{}\n{subject}\n{matter}", kind.as_str()));
        let id = format!("{}-{}", kind.as_str(), hex::encode(digest.get(..8).unwrap_or(&digest)));
        Self { id: id.into(), kind, at, subject: subject.into(), summary: summary.into(), details }
    }
}

/// A level that a budget has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It is nearly used up.
    Warn,
    /// It is used up, and some requests are served all the same.
    Soft,
    /// It is used up, and requests are refused.
    Hard,
}

impl Level {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// A budget that has reached a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLevel {
    /// Whose budget it is: `team maps, daily`.
    pub subject: Arc<str>,
    /// The level.
    pub level: Level,
    /// What is used of it.
    pub used: Money,
    /// What may be used.
    pub limit: Money,
    /// What names its current period: the same level is told once for each.
    pub period: Arc<str>,
}

/// Budgets as far as alerts are concerned; whoever counts them implements it.
pub trait BudgetLevels: Send + Sync {
    /// The budgets that have reached a level now, each with its highest one.
    fn levels(&self) -> Vec<BudgetLevel>;
}

/// A budget has reached a level.
pub fn budget(level: &BudgetLevel, at: Time) -> Alert {
    let BudgetLevel { subject, level, used, limit, period } = level;
    let means = match level {
        Level::Warn => "it is nearly used up",
        Level::Soft => "it is used up; requests that may go beyond it are still served",
        Level::Hard => "it is used up; requests are refused",
    };
    let summary = format!("budget of {subject}: {used} $ of {limit} $ used, {means}");
    let details = json!({ "level": level.as_str(), "used_usd": used, "limit_usd": limit, "period": period });
    Alert::new((AlertKind::BudgetLevel, at), subject, &format!("{} {period}", level.as_str()), (summary, details))
}

/// Calls without a known price within the last hours.
pub fn unpriced((provider, route, target): (&str, &str, Option<&str>), calls: u64, at: Time) -> Alert {
    let subject = format!("{provider}/{route}{}", target.map_or_else(String::new, |target| format!("/{target}")));
    let of = target.map_or_else(String::new, |target| format!(" for {target}"));
    let summary = format!(
        "{calls} calls of route {route} to {provider}{of} have no known price: they are in no bill; set [providers.{provider}.prices]"
    );
    let details = json!({ "provider": provider, "route": route, "target": target, "calls": calls });
    Alert::new((AlertKind::Unpriced, at), &subject, "", (summary, details))
}

/// Something unusual was found.
pub fn anomaly(anomaly: &Anomaly, at: Time) -> Alert {
    let Anomaly { key, found, split } = anomaly;
    let subject = format!("{}/{}/{}", key.tenant, key.provider, key.route);
    let excess = found.spent - found.usual;
    let hours = found.to - found.from;
    let what = match found.change {
        Change::SpendSuddenly | Change::SpendSlowly => "spend",
        Change::UnitSuddenly | Change::UnitSlowly => "cost of a call",
    };
    let how = match found.change {
        Change::SpendSuddenly | Change::UnitSuddenly => "suddenly",
        Change::SpendSlowly | Change::UnitSlowly => "for days",
    };
    let reasons = reasons(&[("more calls", split.calls), ("dearer calls", split.unit), ("another mix of targets", split.mix)]);
    let targets: Vec<String> = split.targets.iter().map(|(name, usd)| format!("{name} {usd:+.2} $")).collect();
    let summary = format!(
        "{subject}: {what} {how} above the usual: {:.2} $ in {hours} h instead of about {:.2} $ ({excess:+.2} $); {reasons}; targets: {}",
        found.spent,
        found.usual,
        if targets.is_empty() { "none stands out".to_owned() } else { targets.join(", ") }
    );
    let details = json!({
        "change": found.change.as_str(), "tenant": key.tenant, "provider": key.provider, "route": key.route,
        "from_ns": found.from * 3_600_000_000_000, "to_ns": found.to * 3_600_000_000_000,
        "spent_usd": found.spent, "usual_usd": found.usual, "excess_usd": excess, "calls": found.calls.0, "usual_calls": found.calls.1,
        "by_reason_usd": { "calls": split.calls, "unit_cost": split.unit, "mix": split.mix },
        "by_target_usd": split.targets.iter().map(|(name, usd)| json!({ "target": name, "usd": usd })).collect::<Vec<_>>(),
    });
    Alert::new((AlertKind::SpendAnomaly, at), &subject, found.change.as_str(), (summary, details))
}

/// Reasons with what they add, most first.
fn reasons(parts: &[(&str, f64)]) -> String {
    let mut parts = parts.to_vec();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    parts.iter().map(|(name, usd)| format!("{name} {usd:+.2} $")).collect::<Vec<_>>().join(", ")
}

/// A period will probably cost more than it may.
pub fn overrun((subject, period): (&str, &str), (limit, probability): (Money, f64), [low, middle, high]: [f64; 3], at: Time) -> Alert {
    let summary = format!(
        "{subject}: {period} will cost about {middle:.2} $ (80 %: {low:.2} to {high:.2} $); more than {limit} $ with a probability of {:.0} %",
        probability * 100.0
    );
    let details =
        json!({ "period": period, "limit_usd": limit, "probability": probability, "p10_usd": low, "p50_usd": middle, "p90_usd": high });
    Alert::new((AlertKind::PredictedOverrun, at), subject, period, (summary, details))
}

/// Records of what was spent may be lost. `what` names the danger, `problem` says more.
pub fn billing_at_risk(what: &str, problem: &str, at: Time) -> Alert {
    let summary = format!("{what}: {problem}; what is spent now may be in no bill");
    Alert::new((AlertKind::BillingAtRisk, at), what, "", (summary, json!({ "problem": problem })))
}

/// A changed configuration was refused: limits, prices and budgets that somebody thinks are in force are not. `digest` names what was refused.
pub fn config_refused(digest: &str, problem: &str, at: Time) -> Alert {
    let summary = format!("the configuration was not reloaded, and the one before is in force: {problem}");
    Alert::new((AlertKind::ConfigRefused, at), "configuration", digest, (summary, json!({ "problem": problem, "digest": digest })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::mix::Split;
    use crate::watch::series::Found;
    use crate::watch::watcher::SeriesKey;

    #[test]
    fn an_anomaly_says_what_moved_it() {
        let key = SeriesKey { tenant: "acme".into(), provider: "openai".into(), route: "chat".into() };
        let found = Found { change: Change::SpendSuddenly, from: 100, to: 102, spent: 50.0, usual: 10.0, calls: (500.0, 100.0) };
        let split = Split { calls: 35.0, unit: 5.0, mix: 0.0, targets: vec![("big".into(), 30.0)] };
        let told = anomaly(&Anomaly { key, found, split }, Time::from_millis(1));
        assert_eq!(
            &*told.summary,
            "acme/openai/chat: spend suddenly above the usual: 50.00 $ in 2 h instead of about 10.00 $ (+40.00 $); more calls +35.00 $, \
             dearer calls +5.00 $, another mix of targets +0.00 $; targets: big +30.00 $"
        );
        assert_eq!(told.details["by_target_usd"][0]["target"], "big");
    }

    #[test]
    fn ids_are_of_the_matter_not_of_the_moment() {
        let level = |used: i64, level, period: &str| BudgetLevel {
            subject: "team maps, daily".into(),
            level,
            used: Money::from_nanos(used),
            limit: Money::from_nanos(100),
            period: period.into(),
        };
        let id = |level: BudgetLevel, ms| budget(&level, Time::from_millis(ms)).id;
        assert_eq!(id(level(90, Level::Warn, "2026-11-26"), 1), id(level(95, Level::Warn, "2026-11-26"), 2));
        assert_ne!(id(level(90, Level::Warn, "2026-11-26"), 1), id(level(90, Level::Warn, "2026-11-27"), 1));
        assert_ne!(id(level(90, Level::Warn, "2026-11-26"), 1), id(level(90, Level::Hard, "2026-11-26"), 1));
        let told = unpriced(("openai", "chat", Some("new-model")), 3, Time::ZERO);
        assert!(told.id.starts_with("unpriced-") && told.summary.contains("[providers.openai.prices]"), "{told:?}");
        assert_eq!(serde_json::from_str::<Alert>(&serde_json::to_string(&told).unwrap()).unwrap(), told);
        for kind in AlertKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
