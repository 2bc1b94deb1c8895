//! `farthing reconcile`: a provider's invoice against the log.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use farthing_ledger::costs::{money, utc};
use farthing_ledger::reconcile::{Comparison, Invoice, Line, Mapping, Sums, compare, logged};
use farthing_types::Time;

use crate::table::{out, render};

const DAY: i64 = 86_400_000_000_000;

/// Flags of `farthing reconcile`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 within the tolerance, 1 beyond it or failed.")]
pub struct Args {
    /// The invoice or usage export, CSV with a head. Exports of OpenAI and Anthropic are recognised by their columns.
    #[arg(long, value_name = "FILE")]
    invoice: PathBuf,
    /// Directory of the log.
    #[arg(long, default_value = "logs", value_name = "DIR")]
    logs: PathBuf,
    /// Which column is what: date=COLUMN,meter=COLUMN,units=COLUMN+COLUMN,amount=COLUMN,calls=COLUMN.
    #[arg(long, default_value = "", value_name = "MAP")]
    map: String,
    /// What the invoice calls a meter, and what the log calls it: INVOICE=LOG; may be repeated.
    #[arg(long = "alias", value_name = "INVOICE=LOG", value_parser = alias)]
    aliases: Vec<(String, String)>,
    /// Only calls of this provider.
    #[arg(long)]
    provider: Option<String>,
    /// Largest drift of a meter, or of all, that is no failure: 1%, 0.5%.
    #[arg(long, default_value = "1%", value_parser = share)]
    tolerance: f64,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn alias(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(from, to)| (from.to_owned(), to.to_owned())).ok_or_else(|| "write INVOICE=LOG".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "write a share such as 1%".to_owned())
}

/// Compares and shows; fails beyond the tolerance.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(&args.invoice).with_context(|| format!("{} cannot be read", args.invoice.display()))?;
    anyhow::ensure!(args.logs.is_dir(), "{} is not a directory; name the log with --logs", args.logs.display());
    let mut mapping = Mapping::parse(&args.map)?;
    mapping.aliases = args.aliases.iter().cloned().collect();
    let invoice = Invoice::read(&text, &mapping).with_context(|| args.invoice.display().to_string())?;
    let days = invoice.span().with_context(|| format!("{} has a head and no rows", args.invoice.display()))?;
    let ours = logged(&args.logs, days, args.provider.as_deref(), (invoice.counts_calls, &mapping))?;
    let told = compare(&invoice.days, &ours, invoice.has, args.tolerance);
    if args.json {
        out(&(serde_json::to_string_pretty(&told)? + "\n"));
    } else {
        out(&table(&invoice, &told, args.tolerance));
    }
    Ok(if told.beyond.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(invoice: &Invoice, told: &Comparison, tolerance: f64) -> String {
    let columns = invoice.columns.iter().map(|(role, column)| format!("{role} from `{column}`")).collect::<Vec<_>>().join(", ");
    let mut text = format!("invoice: {columns}; days are those of UTC\n\n");
    let unit = if invoice.counts_calls { "calls" } else { "tokens" };
    let head = [
        "day",
        "meter",
        &format!("{unit} invoiced"),
        &format!("{unit} logged"),
        "drift",
        "$ invoiced",
        "$ logged",
        "drift",
        "unpriced calls",
    ];
    let all = told.lines.iter().chain(&told.meters).chain([&told.total]);
    text += &render(&head, all.map(|line| row(line, invoice.has)));
    text.push('\n');
    // Writing to a String cannot fail.
    if told.beyond.is_empty() {
        let _ = writeln!(text, "within {} %", tolerance * 100.0);
    } else {
        let _ = writeln!(text, "more than {} % apart:", tolerance * 100.0);
        for line in &told.beyond {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn row(line: &Line, (has_units, has_money): (bool, bool)) -> Vec<String> {
    let none = || "-".to_owned();
    let sums = |of: Option<Sums>, shown: bool, tell: fn(Sums) -> String| of.filter(|_| shown).map_or_else(none, tell);
    let percent = |drift: Option<f64>, shown: bool| drift.filter(|_| shown).map_or_else(none, |drift| format!("{:+.2} %", drift * 100.0));
    let (units, paid) = line.drift();
    vec![
        line.day.map_or_else(|| "all".to_owned(), |day| utc(Time::from_nanos(day * DAY)).chars().take(10).collect()),
        line.meter.clone().unwrap_or_else(|| "all".to_owned()),
        sums(line.invoice, has_units, |sums| sums.units.to_string()),
        sums(line.logged, true, |sums| sums.units.to_string()),
        percent(units, has_units),
        sums(line.invoice, has_money, |sums| money(sums.nanos).to_string()),
        sums(line.logged, true, |sums| money(sums.nanos).to_string()),
        percent(paid, has_money),
        line.logged.map_or_else(none, |sums| sums.unpriced.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use farthing_contract::log::CallRow;
    use farthing_ledger::{LogConfig, LogWriter};
    use farthing_types::RealClock;

    use super::*;

    /// 2026-11-01 00:00 UTC.
    const START: i64 = 20_758 * DAY;

    fn log(dir: &Path) {
        let writer = LogWriter::open(dir, LogConfig::default(), Arc::new(RealClock::default())).unwrap();
        for (hour, target, tokens, cost) in [
            (1, Some("gpt-4o-mini"), 1_000, Some(150_000)),
            (2, Some("gpt-4o-mini-2024-07-18"), 500, Some(75_000)),
            (25, Some("gpt-4o-mini"), 2_000, None),
            (26, Some("o9"), 10, Some(9_000_000)),
            (50, Some("gpt-4o-mini"), 9_999, Some(9_999)), // after the invoice's days
        ] {
            writer.handle().write(CallRow {
                ts_ns: START + hour * DAY / 24,
                provider: "openai".into(),
                target: target.map(Into::into),
                sent: true,
                tokens_input: Some(tokens),
                cost_nanousd: cost,
                ..CallRow::default()
            });
        }
        writer.handle().write(CallRow { ts_ns: START, provider: "maps".into(), sent: true, cost_nanousd: Some(1), ..CallRow::default() });
        writer.close();
    }

    const USAGE: &str = "date,model,input_tokens,output_tokens,cost\n\
        2026-11-01,gpt-4o-mini-2024-07-18,1500,0,0.000225\n2026-11-02,gpt-4o-mini-2024-07-18,2000,0,0.0003\n2026-11-02,whisper,7,0,0.009\n";

    const TOLD: &str = "\
invoice: date from `date`, meter from `model`, units from `input_tokens+output_tokens`, amount from `cost`; days are those of UTC

DAY         METER        TOKENS INVOICED  TOKENS LOGGED  DRIFT     $ INVOICED  $ LOGGED  DRIFT      UNPRICED CALLS
2026-11-01  gpt-4o-mini  1500             1500           +0.00 %   0.000225    0.000225  +0.00 %    0
2026-11-02  gpt-4o-mini  2000             2000           +0.00 %   0.0003      0         -100.00 %  1
2026-11-02  o9           -                10             -         -           0.009     -          0
2026-11-02  whisper      7                -              -100.00 %  0.009       -         -100.00 %  -
all         gpt-4o-mini  3500             3500           +0.00 %   0.000525    0.000225  -57.14 %   1
all         o9           -                10             -         -           0.009     -          0
all         whisper      7                -              -100.00 %  0.009       -         -100.00 %  -
all         all          3507             3510           +0.09 %   0.009525    0.009225  -3.15 %    1

more than 1 % apart:
  gpt-4o-mini: money -57.14 %
  o9: in the log only
  whisper: in the invoice only
  all meters: money -3.15 %
";

    fn args(dir: &Path, invoice: &str, more: &[&str]) -> Args {
        #[derive(clap::Parser)]
        struct Whole {
            #[command(flatten)]
            args: Args,
        }
        std::fs::write(dir.join("usage.csv"), invoice).unwrap();
        let (file, logs) = (dir.join("usage.csv").display().to_string(), dir.join("logs").display().to_string());
        let flags = ["x", "--invoice", &file, "--logs", &logs].into_iter().chain(more.iter().copied());
        <Whole as clap::Parser>::try_parse_from(flags).unwrap().args
    }

    #[test]
    fn an_invoice_is_set_against_the_log() {
        let dir = tempfile::tempdir().unwrap();
        log(&dir.path().join("logs"));
        let mapping = Mapping::default();
        let invoice = Invoice::read(USAGE, &mapping).unwrap();
        let ours = logged(&dir.path().join("logs"), invoice.span().unwrap(), Some("openai"), (false, &mapping)).unwrap();
        let told = table(&invoice, &compare(&invoice.days, &ours, invoice.has, 0.01), 0.01);
        let plain = |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        assert_eq!(plain(&told), plain(TOLD), "{told}");
        let code = |more: &[&str]| format!("{:?}", run(&args(dir.path(), USAGE, more)).unwrap());
        assert_eq!(code(&["--provider", "openai"]), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(&["--provider", "openai", "--alias", "whisper=o9", "--tolerance", "60%"]), format!("{:?}", ExitCode::SUCCESS));
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        let error = |invoice: &str| format!("{:#}", run(&args(dir.path(), invoice, &[])).unwrap_err());
        assert!(error("date,cost\n").contains("has a head and no rows"));
        assert!(error("when,cost\n2026-11-01,1\n").contains("no column of days"), "{}", error("when,cost\n2026-11-01,1\n"));
        assert!(share("2").is_err() && share("200%").is_err() && share("0.5%") == Ok(0.005));
    }
}
