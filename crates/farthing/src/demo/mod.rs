//! `farthing demo`: from nothing to a proven saving, on simulated paid APIs.
//!
//! Money and learning run on a scaled clock (rules, training on the log just written, the model swapped in under load, model
//! against rule as an experiment); speed runs in real time. All requests go over real HTTP through the real proxy.

mod fit;
mod keep;
mod phases;
mod progress;
mod report;
mod speed;
mod stage;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use progress::Progress;
use report::Report;
use stage::{Folder, STALE_BUDGET, Stage};
use workload::Room;

/// Flags of `farthing demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Replay this Parquet trace (columns ts_ms, key, endpoint, is_write) instead of the generated one.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Stay up afterwards and say what can be tried.
    #[arg(long)]
    pub keep: bool,
    /// Seconds of the money phases; training and the speed phase (at most 20 s) come on top.
    #[arg(long, value_name = "N", default_value_t = 70, value_parser = clap::value_parser!(u32).range(5..=3_600))]
    pub seconds: u32,
    /// Seed of documents, requests and draws.
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
}

/// Longest speed phase, seconds.
const SPEED_S: f64 = 20.0;

/// Runs the demo.
///
/// # Errors
/// A trace that cannot be read, or a part that cannot be started; what merely falls back is told in the result.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(demo(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn demo(args: Args) -> anyhow::Result<()> {
    let seconds = f64::from(args.seconds);
    // The plan must outlast a slow training.
    let real = seconds + phases::FIT_LIMIT.as_secs_f64() + 5.0;
    let folder = Folder::new(args.keep)?;
    let room = Room::new(real, speed::capacity(folder.path(), args.seed).await?);
    let work = match &args.trace {
        Some(path) => workload::from_trace(path, room, args.seed)?,
        None => workload::generated(room, args.seed)?,
    };
    let mut progress = Progress::new();
    progress.say(&work.about);
    let stage = Stage::start(&work, folder.path(), real, args.seed).await?;
    let money = phases::run(&stage, &work, folder.path(), seconds, &mut progress).await?;

    let speed_s = SPEED_S.min(seconds / 3.0);
    progress.say(&format!("speed: {speed_s:.0} s in real time at a fixed rate"));
    let speed = speed::run(folder.path(), speed_s, args.seed, money.version).await?;

    let mut report = Report::new(money.phases, &money.saving, STALE_BUDGET);
    report.overhead_ms = speed.overhead_ms;
    report.swaps = money.swaps + speed.swaps;
    report.failed_during_swap = money.failed_after_swap + speed.failed;
    report.model_version = money.version;
    report.experiment = money.versus;
    report.speed = speed;
    report.notes.extend(money.notes);
    report.notes.extend(late(&work, &report, stage.clock.factor()));
    report.notes.extend(late_predictions(stage.proxy.predictor_lateness()));
    report.notes.extend(stage.proxy.parts().into_iter().filter_map(|p| p.problem.map(|why| format!("{}: {why}", p.name))));
    if args.json {
        crate::table::out(&(serde_json::to_string(&report)? + "\n"));
    } else {
        crate::table::out(&report.render());
    }
    if args.keep {
        keep::up(&stage, &folder).await?;
    }
    stage.proxy.shutdown().await;
    stage.provider.stop().await;
    Ok(())
}

/// Says how many predictions came too late; when that closes the model out, the proxy's parts say so.
fn late_predictions((late, closed_out): (u64, bool)) -> Option<String> {
    (late > 0 && !closed_out).then(|| format!("{late} predictions took longer than a second; the model went on deciding"))
}

/// Says when this machine could not send what was planned: the traffic was thinner then, and hits rarer.
fn late(work: &workload::Workload, report: &Report, speed: f64) -> Option<String> {
    let planned = work.plan.len() as f64 / work.span.as_secs_f64() * speed;
    let sent = report.requests as f64 / report.seconds.max(0.001);
    (sent < 0.8 * planned)
        .then(|| format!("this machine sent {sent:.0} of {planned:.0} planned requests per second; thinner traffic makes hits rarer"))
}

#[cfg(test)]
mod tests {
    use super::late_predictions;

    #[test]
    fn late_predictions_are_told_once() {
        assert_eq!(late_predictions((0, false)), None);
        assert!(late_predictions((2, false)).unwrap().starts_with("2 predictions took longer"));
        assert_eq!(late_predictions((5, true)), None);
    }
}
