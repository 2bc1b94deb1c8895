//! `farthing logs sinks`.

use std::fmt::Write;
use std::process::ExitCode;

use farthing_admin::SinkInfo;

use super::utc;
use crate::remote::{AdminFlags, ask, print};
use crate::table::render;

/// Flags of `farthing logs sinks`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
}

/// Shows what was shipped where and what waits; fails while a sink has a problem.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        let sinks: Vec<SinkInfo> = client.get("/api/v1/sinks").await?;
        print(&args.admin, sinks.as_slice(), told);
        Ok(if sinks.iter().all(|sink| sink.problem.is_none()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn told(sinks: &[SinkInfo]) -> String {
    if sinks.is_empty() {
        return "no sinks; [[sinks]] in the configuration names them, see docs/sinks.md\n".to_owned();
    }
    let row = |sink: &SinkInfo| {
        let numbers = [sink.files, sink.rows, sink.waiting].map(|number| number.to_string());
        let mut cells = vec![sink.name.clone(), sink.kind.clone()];
        cells.extend(numbers);
        cells.push(if sink.waiting == 0 { "-".to_owned() } else { format!("{:.0} s", sink.lag_s) });
        cells.push(sink.complete_ns.map_or_else(|| "-".to_owned(), utc));
        cells
    };
    let mut text = render(&["sink", "kind", "files shipped", "rows", "waiting", "oldest", "complete at"], sinks.iter().map(row));
    for sink in sinks {
        // Writing to a String cannot fail.
        if let Some(problem) = &sink.problem {
            let _ = writeln!(text, "{}: {problem}", sink.name);
        } else if let (Some(fault), Some(at)) = (&sink.last_fault, sink.last_fault_ns) {
            let _ = writeln!(text, "{}: well; at {} {fault}", sink.name, utc(at));
        }
        if sink.missed > 0 {
            let _ = writeln!(text, "{}: {} files were removed by retention before they were shipped", sink.name, sink.missed);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_is_lost_is_said() {
        let well = SinkInfo { name: "a".into(), kind: "postgres".into(), files: 3, rows: 70, complete_ns: Some(0), ..SinkInfo::default() };
        let text = told(&[well]);
        assert!(text.contains("postgres") && text.contains("1970-01-01 00:00:00") && text.lines().count() == 2, "{text}");
        let ill = SinkInfo {
            name: "b".into(),
            waiting: 7,
            lag_s: 61.2,
            missed: 2,
            problem: Some("7 files wait in the log: timeout: no answer".into()),
            ..SinkInfo::default()
        };
        let text = told(&[ill]);
        assert!(
            text.contains("61 s") && text.contains("b: 7 files wait") && text.contains("b: 2 files were removed by retention"),
            "{text}"
        );
        assert!(told(&[]).contains("[[sinks]]"));
    }
}
