//! Fetching ahead: it buys waits with calls that nobody may ask for, and that is what it must be found to cost.

use farthing_types::Span;

use super::Study;
use super::run::Visit;
use super::worlds::answer;
use crate::draws::{Draws, latency};
use crate::world::{Answer, Asked};

/// Folders of a list and the entry that is asked for next, by most.
pub struct Ahead;

const FOLDERS: u64 = 24;
/// Share of the sessions that go on from the list to the entry.
const GO_ON: f64 = 0.7;

impl Study for Ahead {
    fn name(&self) -> &'static str {
        "prefetch"
    }
    fn variants(&self) -> [&'static str; 2] {
        ["without", "ahead"]
    }
    fn config(&self) -> String {
        r#"
        [providers.guide]
        base_url = "http://guide.test"
        price = "0.001"
        [routes.guide]
        provider = "guide"
        path_prefix = "/"
        mode = "override"
        ttl = "fixed:30s"
        base_ttl = "30s"
        price_wait = "0.001"
        prefetch_confidence = 0.5
        prefetch_budget = 1.0
        [experiments.prefetch]
        hypothesis = "entries that are there in time cost less than a twentieth of the bill"
        window = "180s"
        start = "draft"
        min_units = 20
        slice = 1.0
        ramp = [1.0]
        [[experiments.prefetch.variants]]
        name = "without"
        prefetch = false
        [[experiments.prefetch.variants]]
        name = "ahead"
        "#
        .to_owned()
    }
    fn window(&self) -> Span {
        Span::from_secs(180)
    }
    fn windows(&self) -> (u32, u32) {
        (12, 84)
    }
    fn visits(&self, seed: u64, lasts: Span) -> Vec<Visit> {
        let mut draws = Draws::new(seed);
        let (mut visits, mut at, mut session) = (Vec::new(), Span::ZERO, 0);
        while at < lasts {
            at += draws.until_next(0.22);
            session += 1;
            let folder = draws.below(FOLDERS);
            let visit = |at, page: &str| {
                let headers = vec![("x-farthing-tags", format!("session={session}"))];
                Visit { at, path: format!("/{folder}/{page}"), headers }
            };
            visits.push(visit(at, "list"));
            if draws.chance(GO_ON) {
                visits.push(visit(at + Span::from_millis(1_000 + draws.below(2_000)), "entry"));
            }
        }
        visits.sort_by_key(|visit| visit.at);
        visits
    }
    fn answer(&self, _seed: u64, asked: &Asked) -> Answer {
        answer("{}".to_owned(), latency(&asked.path, 40, 120), 1_000_000)
    }
    fn unit(&self, path: &str) -> String {
        path.rsplit_once('/').unwrap().0.to_owned()
    }
    fn line(&self) -> &'static str {
        "worse"
    }
}
