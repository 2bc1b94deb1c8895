//! The store of predictors behind the admin API.

use std::sync::Arc;

use farthing_admin::{
    AliasState, CandidateInfo, CandidateWait, ControlError, DriftInfo, FeatureInfo, ForecastInfo, GuardInfo, ModelDetail, ModelDifference,
    ModelEvent, ModelInstance, ModelList, ModelOrder, ModelVersion, ModelsControl, RouteDriftInfo,
};
use farthing_contract::bundle::{BundleError, Target};
use farthing_ledger::costs::utc;
use farthing_models::{Alias, AliasInfo, Differing, Event, Instance, Kind, ModelsError, Order, VersionInfo};
use farthing_policy::watch::Ratio;
use farthing_proxy::{CandidateView, DriftReport, FeatureShift, RouteDrift};
use farthing_types::{Clock, RouteName, Time};

use super::Running;

fn difference(of: Differing) -> ModelDifference {
    let version = |target: Option<Target>| target.map(|target| target.version);
    ModelDifference { alias: of.place, wanted: version(of.wanted), live: version(of.live) }
}

impl ModelsControl for Running {
    fn list(&self, kind: Option<&str>) -> Result<ModelList, ControlError> {
        let wanted = kind.map(parse_kind).transpose()?;
        let store = self.proxy.models();
        let (versions, status) = (store.list().map_err(control)?, store.status());
        let keep = |kind: Kind| wanted.is_none_or(|wanted| wanted == kind);
        Ok(ModelList {
            library: status.library.map(|path| path.display().to_string()),
            versions: versions.into_iter().filter(|info| keep(info.kind)).map(version).collect(),
            aliases: status.aliases.into_iter().filter(|info| keep(info.kind)).map(alias_state).collect(),
            loaded: status.counts.built,
            freed: status.counts.freed,
        })
    }

    fn show(&self, kind: &str, number: u32) -> Result<ModelDetail, ControlError> {
        let (info, manifest) = self.proxy.models().show(parse_kind(kind)?, number).map_err(control)?;
        let manifest = serde_json::to_value(&manifest).map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(ModelDetail { version: version(info), manifest })
    }

    fn load(&self, kind: &str, number: u32) -> Result<ModelVersion, ControlError> {
        let kind = parse_kind(kind)?;
        self.proxy.models().load(kind, number).map_err(control)?;
        self.proxy.models().show(kind, number).map(|(info, _)| version(info)).map_err(control)
    }

    fn promote(&self, kind: &str, alias: &str, number: u32, order: &ModelOrder) -> Result<AliasState, ControlError> {
        let (kind, alias) = (parse_kind(kind)?, parse_alias(alias)?);
        self.proxy.models().promote(kind, number, alias, self.order(order)).map_err(control)?;
        self.proxy.say_models();
        self.alias(kind, alias)
    }

    fn rollback(&self, kind: &str, alias: &str, order: &ModelOrder) -> Result<AliasState, ControlError> {
        let (kind, alias) = (parse_kind(kind)?, parse_alias(alias)?);
        self.proxy.models().rollback(kind, alias, self.order(order)).map_err(control)?;
        self.proxy.say_models();
        self.alias(kind, alias)
    }

    fn clear(&self, kind: &str, alias: &str, order: &ModelOrder) -> Result<Vec<AliasState>, ControlError> {
        let (kind, alias) = (parse_kind(kind)?, parse_alias(alias)?);
        if alias == Alias::Champion {
            let text = format!("the champion is not taken away: `farthing models rollback {kind}` goes back to the one before");
            return Err(ControlError::Refused(text));
        }
        self.alias(kind, alias)?;
        self.proxy.models().clear(kind, alias, self.order(order)).map_err(control)?;
        self.proxy.say_models();
        let left = self.proxy.models().status().aliases;
        Ok(left.into_iter().filter(|info| info.kind == kind).map(alias_state).collect())
    }

    fn instances(&self) -> Result<Vec<ModelInstance>, ControlError> {
        let now = self.real.now();
        let of = |(instance, differs): (Instance, Vec<Differing>)| ModelInstance {
            name: instance.name,
            said: utc(Time::from_nanos(instance.said_ns)),
            said_s: now.since(Time::from_nanos(instance.said_ns)).as_secs(),
            differs: differs.into_iter().map(difference).collect(),
        };
        Ok(self.proxy.models().instances().map_err(control)?.into_iter().map(of).collect())
    }

    fn candidates(&self) -> Vec<CandidateInfo> {
        self.proxy.candidates().iter().map(candidate).collect()
    }

    fn drift(&self) -> DriftInfo {
        let DriftReport { routes, features, reference, reference_rows, noise } = self.proxy.drift();
        DriftInfo {
            routes: routes.iter().map(route_drift).collect(),
            features: features.iter().map(feature).collect(),
            reference: reference.to_owned(),
            reference_rows,
            noise,
        }
    }

    fn history(&self) -> Vec<ModelEvent> {
        self.proxy.models().history().iter().rev().map(event).collect()
    }
}

impl Running {
    fn order(&self, order: &ModelOrder) -> Order {
        let by = order.by.as_deref().map_or_else(|| "operator".to_owned(), |name| format!("operator {name}"));
        let reason = order.reason.clone().unwrap_or_else(|| "not said".to_owned());
        Order { force: order.force, ..Order::new(self.proxy.now(), by, reason) }
    }

    fn alias(&self, kind: Kind, alias: Alias) -> Result<AliasState, ControlError> {
        let aliases = self.proxy.models().status().aliases;
        let found = aliases.into_iter().find(|info| (info.kind, info.alias) == (kind, alias));
        found.map(alias_state).ok_or_else(|| ControlError::NotFound(format!("{kind} {alias} names nothing")))
    }
}

fn parse_kind(text: &str) -> Result<Kind, ControlError> {
    let known = || Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    Kind::parse(text).ok_or_else(|| ControlError::NotFound(format!("no kind of predictor is called `{text}`; there are {}", known())))
}

fn parse_alias(text: &str) -> Result<Alias, ControlError> {
    let known = || Alias::ALL.iter().map(|alias| alias.as_str()).collect::<Vec<_>>().join(", ");
    Alias::parse(text).ok_or_else(|| ControlError::NotFound(format!("no alias is called `{text}`; there are {}", known())))
}

fn control(error: ModelsError) -> ControlError {
    let text = error.to_string();
    match error {
        ModelsError::Bundle(BundleError::NoVersion { .. }) => ControlError::NotFound(text),
        ModelsError::Rejected(_)
        | ModelsError::Bundle(BundleError::Refused { .. } | BundleError::NoTarget { .. } | BundleError::Moved { .. }) => {
            ControlError::Refused(text)
        }
        ModelsError::LibraryNotFound { .. } | ModelsError::Library { .. } => ControlError::Unavailable(text),
        ModelsError::Bundle(_) => ControlError::Failed(text),
    }
}

fn version(info: VersionInfo) -> ModelVersion {
    ModelVersion {
        kind: info.kind.to_string(),
        version: info.version,
        digest: info.digest,
        aliases: info.aliases.iter().map(ToString::to_string).collect(),
        live: info.live,
        created_ns: info.created_ns,
        rows: info.rows,
        metrics: info.metrics,
        problem: info.problem,
        rejected: info.rejected,
    }
}

fn event(event: &Event) -> ModelEvent {
    ModelEvent {
        at: utc(Time::from_nanos(event.at_ns)),
        kind: event.kind.to_string(),
        alias: event.alias.to_string(),
        action: event.action.as_str().to_owned(),
        from: event.from.as_ref().map(|target| target.version),
        to: event.to.as_ref().map(|target| target.version),
        by: event.by.clone(),
        reason: event.reason.clone(),
        forced: event.forced,
    }
}

fn alias_state(info: AliasInfo) -> AliasState {
    AliasState {
        kind: info.kind.to_string(),
        alias: info.alias.to_string(),
        version: info.wanted.map(|target| target.version),
        live: info.live,
        digest: info.digest,
        engine: info.engine.map(ToOwned::to_owned),
        problem: info.problem,
    }
}

fn candidate(view: &CandidateView) -> CandidateInfo {
    let report = &view.report;
    CandidateInfo {
        alias: view.alias.to_string(),
        version: view.version,
        digest: view.digest.to_string(),
        since: utc(view.since),
        stage: report.stage.to_string(),
        share: report.share,
        fills: report.fills,
        disagreement: report.disagreement,
        latency_us: report.latency * 1e6,
        bill_against_champion: report.bill,
        forecasts: forecasts(&report.candidate),
        champion: forecasts(&report.champion),
        guards: report.evidence.iter().map(|(guard, evidence)| GuardInfo { guard: guard.to_string(), evidence: *evidence }).collect(),
        money_against_champion: report.money.ratio,
        key_windows: report.money.units,
        shown: report.money.within,
        autopilot_left_s: view.left.map(|left| left.as_secs_f64()),
        waits: view.waits.iter().map(wait).collect(),
    }
}

fn wait((route, experiment): &(RouteName, Arc<str>)) -> CandidateWait {
    CandidateWait { route: route.to_string(), experiment: experiment.to_string() }
}

fn forecasts(ratio: &Ratio) -> ForecastInfo {
    ForecastInfo {
        labels: ratio.labels,
        observed: ratio.observed,
        expected: ratio.expected,
        ratio: ratio.ratio(),
        evidence: ratio.evidence(),
    }
}

fn route_drift(view: &RouteDrift) -> RouteDriftInfo {
    RouteDriftInfo {
        route: view.route.to_string(),
        trust: view.trust.to_string(),
        warns: view.warns,
        turns: view.turns,
        predictor: forecasts(&view.predictor),
        statistics: forecasts(&view.statistics),
    }
}

fn feature(view: &FeatureShift) -> FeatureInfo {
    FeatureInfo { feature: view.feature.to_owned(), shift: view.shift, shifted: view.shifted }
}
