//! `[routes.NAME.tune]`: numbers of the plan that experiments may move.

use farthing_types::{Money, Span};
use toml::de::DeValue;

use super::registry;
use super::section::{Bad, Section};
use super::values as v;
use crate::{BatchWindow, Mode, Prefetch, Route, TuneConfig};

/// Refreshing ahead gives away at most this part of an entry's lifetime, so longer means the same.
const MOST_GIVEN: u32 = 10;

/// Reads `tune`, over what `route` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    let Some(table) = s.table("tune") else { return };
    let path = format!("{path}.tune");
    let s = Section::open(s.doc, table, &path, registry::TUNE);
    let mut config = TuneConfig {
        batch_window: bounds(&s, "batch_window", v::positive_span),
        refresh_ahead: bounds(&s, "refresh_ahead", v::span),
        prefetch_confidence: bounds(&s, "prefetch_confidence", v::share(0.0..=1.0)),
        window: s.opt("window", v::long_span),
        latency: s.opt("latency", v::positive_span),
        ..TuneConfig::default()
    };
    s.set("within", v::long_span, &mut config.within);
    s.set("again", v::long_span, &mut config.again);
    s.set("worthwhile", v::share(0.0..=0.99), &mut config.worthwhile);
    s.set("margin", v::share(0.0..=0.49), &mut config.margin);
    route.tune = Some(config);
}

/// The lower and the upper one.
fn bounds<T: Copy + PartialOrd>(s: &Section<'_, '_>, key: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>) -> Option<(T, T)> {
    let given = s.opt(key, v::list(parse))?;
    match given[..] {
        [low, high] if low < high => Some((low, high)),
        _ => {
            s.wrong(key, "that is no lower and upper bound", "write two values, the smaller first, or take it out");
            None
        }
    }
}

/// What is to be moved must be there, have a value between the bounds, and be worth something.
pub(crate) fn obey(top: &Section<'_, '_>, route: &Route) {
    let Some(tune) = &route.tune else { return };
    let wrong = |key: &str, found: String, remedy: &str| top.doc.problem(None, &format!("routes.{}.tune.{key}", route.name), found, remedy);
    if tune.batch_window.is_none() && tune.refresh_ahead.is_none() && tune.prefetch_confidence.is_none() {
        wrong("batch_window", "no bounds are named".to_owned(), "name those of `batch_window`, `refresh_ahead` or `prefetch_confidence`");
    }
    if route.mode == Mode::Observe {
        wrong("batch_window", "in mode \"observe\" nothing is changed".to_owned(), "take the table out, or choose another `mode`");
    }
    if let Some((low, high)) = tune.batch_window {
        let window = route.batch.as_ref().map(|batch| batch.window);
        let most = (route.deadline / 2).min(Span::from_secs(10));
        match window {
            None => wrong("batch_window", "the route makes no batches".to_owned(), "add a table `batch` to the route, or take it out"),
            Some(BatchWindow::Fixed(start)) => {
                if high > most || low < Span::from_millis(1) {
                    wrong(
                        "batch_window",
                        format!("{low:?} to {high:?}"),
                        &format!("write 1ms to {most:?}: at most half of the `deadline`"),
                    );
                }
                within(&wrong, "batch_window", (start, low, high), "the route's batch.window");
            }
            Some(BatchWindow::Auto | BatchWindow::Learned) => {
                let remedy = "write the time it begins with as `window` in the route's table `batch`, such as \"50ms\"";
                wrong("batch_window", "the route's batch.window is no time".to_owned(), remedy);
            }
        }
    }
    // What one instance renews or fetches ahead all others find in L2: a comparison by one of them would be none.
    for (key, named) in [("refresh_ahead", tune.refresh_ahead.is_some()), ("prefetch_confidence", tune.prefetch_confidence.is_some())] {
        if named && top.has("fleet") {
            let remedy = "take it out, and compare values by an experiment of your own: that is one over the fleet ([experiments.NAME])";
            wrong(key, "each instance of a [fleet] would try for itself what the others profit from".to_owned(), remedy);
        }
    }
    let unpriced = route.price_wait <= Money::ZERO;
    if let Some((low, high)) = tune.refresh_ahead {
        if unpriced {
            let remedy = "say what a wait is worth (`price_wait`): for money alone none is best, which is 0s";
            wrong("refresh_ahead", "waiting has no price on the route".to_owned(), remedy);
        }
        if !route.cache {
            wrong("refresh_ahead", "the route keeps no answers".to_owned(), "take it out, or `cache = false`");
        }
        let most = route.max_ttl / MOST_GIVEN;
        if high > most {
            wrong(
                "refresh_ahead",
                format!("up to {high:?}"),
                &format!("write at most {most:?}: a tenth of the longest lifetime is all that is given away"),
            );
        }
        within(&wrong, "refresh_ahead", (route.refresh_ahead, low, high), "the route's `refresh_ahead`");
    }
    if let Some((low, high)) = tune.prefetch_confidence {
        if unpriced || route.prefetch == Prefetch::Off {
            let remedy = "say what a wait is worth (`price_wait`) and leave `prefetch` on \"auto\", or take it out";
            wrong("prefetch_confidence", "the route fetches nothing ahead".to_owned(), remedy);
        }
        within(&wrong, "prefetch_confidence", (route.prefetch_confidence, low, high), "the route's `prefetch_confidence`");
    }
}

/// Where it begins must be between the bounds.
fn within<T: Copy + PartialOrd + std::fmt::Debug>(
    wrong: &impl Fn(&str, String, &str),
    key: &str,
    (start, low, high): (T, T, T),
    what: &str,
) {
    if !(low..=high).contains(&start) {
        wrong(
            key,
            format!("{what}, where it begins, is {start:?}"),
            &format!("write a value from {low:?} to {high:?} there, or other bounds"),
        );
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::Span;

    use crate::read::tests::{good, problems};

    fn text(route: &str, batch: &str, tune: &str) -> String {
        format!(
            "[providers.one]\nbase_url = \"https://one.test\"\n[routes.lists]\nprovider = \"one\"\ndeadline = \"1s\"\n{route}\n\
             [routes.lists.batch]\nformat = \"rest\"\n{batch}\n[routes.lists.tune]\n{tune}\n"
        )
    }

    #[test]
    fn bounds_are_read() {
        let all =
            "batch_window = [\"5ms\", \"200ms\"]\nrefresh_ahead = [\"0s\", \"30s\"]\nprefetch_confidence = [0.5, 0.9]\nwithin = \"7d\"";
        let config = good(&text("price_wait = \"0.001\"", "window = \"20ms\"", all));
        let tune = config.routes[0].tune.clone().unwrap();
        let millis = Span::from_millis;
        assert_eq!(tune.batch_window, Some((millis(5), millis(200))));
        assert_eq!((tune.refresh_ahead, tune.prefetch_confidence), (Some((millis(0), millis(30_000))), Some((0.5, 0.9))));
        assert_eq!((tune.within.as_secs(), tune.again.as_secs(), tune.worthwhile, tune.window), (604_800, 2_592_000, 0.02, None));
    }

    #[test]
    fn what_cannot_be_moved_is_refused_with_the_remedy() {
        let (priced, fixed) = ("price_wait = \"0.001\"", "window = \"20ms\"");
        for (route, batch, tune, found, remedy) in [
            ("", fixed, "", "no bounds are named", "name those of"),
            ("", fixed, "batch_window = [\"5ms\"]", "no lower and upper bound", "two values"),
            ("", fixed, "batch_window = [\"200ms\", \"5ms\"]", "no lower and upper bound", "the smaller first"),
            ("", "", "batch_window = [\"5ms\", \"200ms\"]", "is no time", "write the time it begins with"),
            ("", fixed, "batch_window = [\"5ms\", \"2s\"]", "5ms to 2s", "at most half of the `deadline`"),
            ("", fixed, "batch_window = [\"30ms\", \"200ms\"]", "where it begins, is 20ms", "from 30ms to 200ms"),
            ("", fixed, "refresh_ahead = [\"0s\", \"30s\"]", "waiting has no price", "price_wait"),
            (priced, fixed, "refresh_ahead = [\"0s\", \"9h\"]", "up to 32400s", "a tenth"),
            ("", fixed, "prefetch_confidence = [0.5, 0.9]", "fetches nothing ahead", "price_wait"),
            (priced, fixed, "prefetch_confidence = [0.8, 0.9]", "is 0.7", "from 0.8 to 0.9"),
            ("mode = \"observe\"", fixed, "batch_window = [\"5ms\", \"200ms\"]", "nothing is changed", "another `mode`"),
        ] {
            let all = problems(&text(route, batch, tune));
            let named = |problem: &&String| problem.contains("routes.lists.tune") && problem.contains(found) && problem.contains(remedy);
            assert!(all.iter().any(|problem| named(&problem)), "{tune}: {all:?}");
        }
        let fleet = "[fleet]\nname = \"main\"\naddresses = [\"redis://a\"]\n";
        let shared = problems(&(text(priced, fixed, "batch_window = [\"5ms\", \"200ms\"]\nrefresh_ahead = [\"0s\", \"30s\"]") + fleet));
        let told: Vec<_> = shared.iter().filter(|p| p.contains("try for itself")).collect();
        assert!(told.len() == 1 && told[0].contains("tune.refresh_ahead"), "{shared:?}");
        let own = "[experiments.\"tune.x\"]\nhypothesis = \"h\"\n";
        assert!(
            problems(&(text("", fixed, "batch_window = [\"5ms\", \"200ms\"]") + own))
                .iter()
                .any(|p| p.contains("begin with something else"))
        );
    }
}
