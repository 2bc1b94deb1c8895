//! What `farthing models candidates`, `farthing models drift` and `farthing models instances` print.

use farthing_admin::{CandidateInfo, DriftInfo, ForecastInfo, ModelDifference, ModelInstance};

use crate::table::render;

/// Candidates, one a row; what they are held to below.
pub fn candidates(all: &[CandidateInfo]) -> String {
    if all.is_empty() {
        return "no version is scored beside the champion: farthing models challenge KIND VERSION\n".to_owned();
    }
    let rows = all.iter().map(|of| {
        vec![
            of.alias.clone(),
            of.version.to_string(),
            if of.stage == "canary" { format!("canary, {:.0} % of keys", 100.0 * of.share) } else { of.stage.clone() },
            of.fills.to_string(),
            of.forecasts.labels.to_string(),
            ratio(&of.forecasts),
            ratio(&of.champion),
            of.bill_against_champion.map_or_else(|| "-".to_owned(), |bill| format!("{:+.1} %", 100.0 * (bill - 1.0))),
            format!("{:.2}", of.disagreement),
            format!("{:.0}", of.latency_us),
        ]
    });
    let head = ["alias", "version", "stage", "fills", "labels", "seen/foretold", "champion's", "bill vs champion", "log distance", "us"];
    let mut text = render(&head, rows);
    for of in all.iter().filter(|of| of.stage == "canary") {
        let guards: Vec<_> = of.guards.iter().map(|guard| format!("{} {:.2}", guard.guard, guard.evidence)).collect();
        text += &format!("{} {}: evidence of harm {} (1 is none, taken back at 1000)\n", of.alias, of.version, guards.join(", "));
    }
    // All wait for the same.
    for wait in all.first().iter().flat_map(|of| &of.waits) {
        text += &format!("on route {} they are waiting for experiment {}\n", wait.route, wait.experiment);
    }
    text + &all.iter().filter_map(autopilot).collect::<String>()
}

/// What the canary's keys cost, and how the autopilot stands.
fn autopilot(of: &CandidateInfo) -> Option<String> {
    let cost = of.money_against_champion.map(|ratio| {
        let [theirs, ours] = of.key_windows;
        format!("its keys cost {:+.1} % beside the champion's ({ours} and {theirs} key-windows)", 100.0 * (ratio - 1.0))
    });
    let decides = of.autopilot_left_s.map(|left| {
        format!("autopilot: evidence {:.2} that it is not dearer (promoted at 100), taken back in {:.1} d", of.shown, left / 86_400.0)
    });
    let told: Vec<_> = cost.into_iter().chain(decides).collect();
    (!told.is_empty()).then(|| format!("{} {}: {}\n", of.alias, of.version, told.join("; ")))
}

/// Routes, then features.
pub fn drift(info: &DriftInfo) -> String {
    let rows = info.routes.iter().map(|route| {
        let trust = if route.warns { format!("{} (warning)", route.trust) } else { route.trust.clone() };
        let evidence = format!("{:.3e}", route.predictor.evidence);
        vec![route.route.clone(), trust, route.predictor.labels.to_string(), ratio(&route.predictor), ratio(&route.statistics), evidence]
    });
    let mut text = render(&["route", "trust", "labels", "seen/foretold", "by statistics", "evidence"], rows);
    let shifted: Vec<_> = info.features.iter().filter(|feature| feature.shifted).collect();
    text += &match (info.features.is_empty(), shifted.is_empty()) {
        (true, _) => "features: fewer than 1000 decisions so far\n".to_owned(),
        (false, true) => format!("features: none has moved (against {} rows: {})\n", info.reference_rows, info.reference),
        (false, false) => {
            format!("features that have moved (against {} rows: {}); this only warns:\n", info.reference_rows, info.reference)
        }
    };
    text + &shifted.iter().map(|feature| format!("  {} {:.2}\n", feature.feature, feature.shift)).collect::<String>()
}

fn ratio(of: &ForecastInfo) -> String {
    of.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// What decides in which instance, and which do not follow an alias.
pub fn instances(all: &[ModelInstance]) -> String {
    if all.is_empty() {
        return "no instances: [models.store] in the configuration names the object store that they share, see docs/models.md\n".to_owned();
    }
    let number = |version: Option<u32>| version.map_or_else(|| "nothing".to_owned(), |version| version.to_string());
    let rows = all.iter().map(|instance| {
        let differs = |of: &ModelDifference| format!("{} is {}, not {}", of.alias, number(of.live), number(of.wanted));
        let differs: Vec<String> = instance.differs.iter().map(differs).collect();
        let follows = if differs.is_empty() { "follows".to_owned() } else { differs.join("; ") };
        vec![instance.name.clone(), format!("{} s ago", instance.said_s), follows]
    });
    render(&["instance", "said", "aliases"], rows)
}

#[cfg(test)]
mod tests {
    use farthing_admin::{CandidateWait, FeatureInfo, RouteDriftInfo};

    use super::*;

    #[test]
    fn instances_that_do_not_follow_are_told_with_what_decides_there() {
        assert!(instances(&[]).contains("[models.store]"));
        let differs = vec![ModelDifference { alias: "ttl/champion".to_owned(), wanted: Some(3), live: None }];
        let one = ModelInstance { name: "a".to_owned(), said: String::new(), said_s: 4, differs };
        let text = instances(&[one.clone(), ModelInstance { name: "b".to_owned(), differs: Vec::new(), ..one }]);
        assert!(text.contains("4 s ago") && text.contains("ttl/champion is nothing, not 3") && text.contains("follows"), "{text}");
    }

    #[test]
    fn what_matters_is_told_in_a_line() {
        let forecasts = ForecastInfo { labels: 250, observed: 90.0, expected: 30.0, ratio: Some(3.0), evidence: 2e6 };
        let route = RouteDriftInfo {
            route: "geo".to_owned(),
            trust: "statistics".to_owned(),
            warns: false,
            turns: 1,
            predictor: forecasts.clone(),
            statistics: ForecastInfo { ratio: Some(1.02), ..forecasts.clone() },
        };
        let moved = FeatureInfo { feature: "log_rate".to_owned(), shift: 0.8, shifted: true };
        let info =
            DriftInfo { routes: vec![route], features: vec![moved], reference: "golden-rows".to_owned(), reference_rows: 256, noise: 0.05 };
        let text = drift(&info);
        assert!(
            text.contains("statistics") && text.contains("3.00") && text.contains("log_rate 0.80") && text.contains("golden-rows"),
            "{text}"
        );
        assert!(drift(&DriftInfo::default()).contains("fewer than 1000"));
        assert!(candidates(&[]).contains("models challenge"));
        let candidate = CandidateInfo {
            alias: "challenger".to_owned(),
            version: 4,
            digest: String::new(),
            since: String::new(),
            stage: "canary".to_owned(),
            share: 0.2,
            fills: 900,
            disagreement: 0.3,
            latency_us: 20.0,
            bill_against_champion: Some(0.97),
            forecasts,
            champion: ForecastInfo::default(),
            guards: Vec::new(),
            money_against_champion: Some(0.95),
            key_windows: [40, 42],
            shown: 12.5,
            autopilot_left_s: Some(6.5 * 86_400.0),
            waits: vec![CandidateWait { route: "geo".to_owned(), experiment: "e".to_owned() }],
        };
        let text = candidates(&[candidate]);
        assert!(text.contains("-5.0 %") && text.contains("42 and 40") && text.contains("12.50") && text.contains("6.5 d"), "{text}");
        assert!(text.contains("on route geo they are waiting for experiment e"), "{text}");
    }
}
