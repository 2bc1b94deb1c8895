//! What is told of candidates and of drift.

use std::sync::Arc;

use farthing_contract::features::TTL_SPEC;
use farthing_models::Alias;
use farthing_policy::watch::psi::SHIFTED;
use farthing_policy::watch::{CanaryReport, Ratio, Trust};
use farthing_types::{RouteName, Span, Time};

use crate::state::State;

/// A version beside the champion.
#[derive(Clone, Debug)]
pub struct CandidateView {
    /// Under which alias.
    pub alias: Alias,
    /// Its version.
    pub version: u32,
    /// Its digest.
    pub digest: Arc<str>,
    /// Since when it is scored.
    pub since: Time,
    /// It decides for some keys.
    pub acts: bool,
    /// What is known of it.
    pub report: CanaryReport,
    /// How much time the autopilot has left to decide about it; `None` where none does.
    pub left: Option<Span>,
}

/// How the forecasts of a route have come true.
#[derive(Clone, Debug)]
pub struct RouteDrift {
    /// The route.
    pub route: RouteName,
    /// How far the predictor is trusted.
    pub trust: Trust,
    /// There is evidence to trust it less, and nothing may act.
    pub warns: bool,
    /// How often the trust has changed.
    pub turns: u64,
    /// Of the predictor.
    pub predictor: Ratio,
    /// Of the live statistics alone.
    pub statistics: Ratio,
}

/// How far a feature has moved.
#[derive(Clone, Debug)]
pub struct FeatureShift {
    /// The feature.
    pub feature: &'static str,
    /// Population stability index less its noise.
    pub shift: f64,
    /// More than is taken for chance and habit.
    pub shifted: bool,
}

/// All that is known of drift.
#[derive(Clone, Debug)]
pub struct DriftReport {
    /// Routes of which anything is known.
    pub routes: Vec<RouteDrift>,
    /// The features of the last whole window, the farthest first; empty before one has ended.
    pub features: Vec<FeatureShift>,
    /// What they are compared with: `golden-rows` of the bundle, or the `first-window` seen; empty before any row.
    pub reference: &'static str,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// What chance alone gives a feature; taken off.
    pub noise: f64,
}

impl State {
    /// The versions beside the champion.
    pub fn candidates(&self) -> Vec<CandidateView> {
        let candidates = self.lifecycle.candidates.iter().filter_map(arc_swap::ArcSwapOption::load_full);
        let view = |candidate: Arc<super::Candidate>| CandidateView {
            alias: candidate.alias,
            version: candidate.generation.version(),
            digest: candidate.generation.digest().clone(),
            since: candidate.since,
            acts: candidate.acts(),
            report: candidate.canary.lock().report(),
            left: self
                .lifecycle
                .settings
                .autopilot
                .filter(|_| candidate.alias == Alias::Challenger)
                .map(|within| candidate.unattended.lock().left(within)),
        };
        candidates.map(view).collect()
    }

    /// How forecasts have come true, and how far features have moved.
    pub fn drift(&self) -> DriftReport {
        let of = |route: &Arc<crate::route::RouteState>| {
            let drift = route.watched.lock().drift.clone();
            let (predictor, statistics) = drift.ratios();
            let view = RouteDrift {
                route: route.route.name.clone(),
                trust: drift.trust(),
                warns: drift.warns(),
                turns: drift.turns(),
                predictor,
                statistics,
            };
            (predictor.labels > 0 || view.turns > 0).then_some(view)
        };
        let routes = self.live().routes.iter().filter_map(of).collect();
        let features = self.lifecycle.features.lock();
        let (psi, reference) = features.report();
        let report = psi.and_then(|psi| psi.report());
        let shift = |(feature, shift): (&&'static str, &f64)| FeatureShift { feature, shift: *shift, shifted: *shift > SHIFTED };
        let mut shifts: Vec<_> = report.iter().flat_map(|report| TTL_SPEC.names.iter().zip(&report.shifts)).map(shift).collect();
        shifts.sort_by(|a, b| b.shift.total_cmp(&a.shift));
        DriftReport {
            routes,
            features: shifts,
            reference,
            reference_rows: psi.map_or(0, |psi| psi.reference().rows()),
            noise: report.map_or(0.0, |report| report.noise),
        }
    }
}
