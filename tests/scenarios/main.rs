//! Scenarios Z1 to Z6: what a deployment saves, measured by the provider's own count in virtual time, each with an ablation. The short form
//! runs here; `make scenarios` runs them at full size and writes target/results/scenarios.json.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test, and a long run tells its figures"
)]

mod ablation;
mod catalogue;
mod dashboard;
mod day;
mod draws;
mod feed;
mod job;
mod loopback;
mod nightly;
mod routing;
mod trials;
mod world;

use ablation::{Report, study};
use parking_lot::Mutex;

/// Every scenario that is built, with the share of its full size that the short form takes.
const ALL: &[&dyn world::Scenario] =
    &[&catalogue::Catalogue, &feed::Feed, &dashboard::Dashboard, &nightly::Nightly, &day::Day, &routing::Routing];

fn run(scenario: &'static dyn world::Scenario, size: f64) -> Report {
    let report = study(scenario, size);
    println!("{report}");
    report
}

/// Over loopback time is real: nothing else may take it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn each_scenario_saves_what_it_must_in_its_short_form() {
    let _alone = ONE_AT_A_TIME.lock();
    for scenario in ALL {
        run(*scenario, scenario.short()).check(*scenario);
    }
}

#[test]
fn each_scenario_works_over_loopback() {
    let _alone = ONE_AT_A_TIME.lock();
    for scenario in ALL {
        loopback::run(*scenario);
    }
}

#[test]
#[ignore = "full size; `make scenarios` runs it"]
fn scenarios_at_full_size() {
    let reports: Vec<Report> = ALL.iter().map(|scenario| run(*scenario, 1.0)).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/results");
    std::fs::create_dir_all(path).unwrap();
    let all: serde_json::Map<String, serde_json::Value> = reports.iter().map(|report| (report.name.to_owned(), report.as_json())).collect();
    std::fs::write(format!("{path}/scenarios.json"), serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    for (scenario, report) in ALL.iter().zip(&reports) {
        report.check(*scenario);
    }
}
