//! Money for people: aligned, with as many digits as say something, and what has no price beside it.

use std::fmt::Write;

use farthing_admin::{CostAnswer, CostFigures, CostRow, StrategyImpact, UnobservedHost};
use farthing_types::Money;
use serde_json::Value;

/// The whole answer as tables.
pub fn table(answer: &CostAnswer) -> String {
    let mut text = format!("{} to {} (UTC), {} rows of {} files\n\n", answer.from, answer.to, answer.rows, answer.files);
    text += &groups(answer);
    if !answer.strategies.is_empty() {
        text.push('\n');
        text += &strategies(&answer.strategies);
    }
    text.push('\n');
    text += &summary(answer);
    text + &unobserved(&answer.unobserved)
}

/// What is in no sum, because it went past all routes.
fn unobserved(hosts: &[UnobservedHost]) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let head = ["unobserved host", "tunnels", "passed", "bytes up", "bytes down"].map(str::to_owned);
    let row = |host: &UnobservedHost| {
        vec![host.host.clone(), host.tunnels.to_string(), host.passed.to_string(), host.bytes_up.to_string(), host.bytes_down.to_string()]
    };
    let rows: Vec<Vec<String>> = hosts.iter().map(row).collect();
    format!("\nsince this instance started, past all routes, cost unknown:\n{}", render(&head, 1, &rows))
}

/// Columns of figures: numbers stand at the right, so that their places do.
fn render(head: &[String], names: usize, rows: &[Vec<String>]) -> String {
    let lines: Vec<Vec<String>> =
        std::iter::once(head.iter().map(|cell| cell.to_uppercase()).collect()).chain(rows.iter().cloned()).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cell = |(column, (cell, width)): (usize, (&String, &usize))| {
            if column < names { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        };
        text += line.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A column of money with the same digits after the point everywhere: those that its largest amount needs.
fn dollars(amounts: &[Option<Money>]) -> Vec<String> {
    let largest = amounts.iter().flatten().map(|amount| amount.nanos().unsigned_abs()).max().unwrap_or(0);
    let digits = match largest {
        0 | 1_000_000_000.. => 2,
        10_000_000.. => 4,
        100_000.. => 6,
        _ => 9,
    };
    amounts.iter().map(|amount| amount.map_or_else(|| "-".to_owned(), |amount| rounded(amount, digits))).collect()
}

/// An amount to so many digits, the last one rounded half away from zero.
fn rounded(amount: Money, digits: u32) -> String {
    let unit = 10u64.pow(9 - digits.min(9));
    let units = (amount.nanos().unsigned_abs() + unit / 2) / unit;
    let whole = 10u64.pow(digits.min(9));
    let sign = if amount.nanos() < 0 && units > 0 { "-" } else { "" };
    format!("{sign}{}.{:0width$}", units / whole, units % whole, width = digits.min(9) as usize)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn groups(answer: &CostAnswer) -> String {
    let all: Vec<&CostFigures> = answer.groups.iter().map(|row| &row.figures).chain([&answer.total]).collect();
    let column = |pick: fn(&CostFigures) -> Option<Money>| dollars(&all.iter().map(|figures| pick(figures)).collect::<Vec<_>>());
    let (bill, base, saved) = (column(|f| f.bill_usd), column(|f| f.base_usd), column(|f| f.saved_usd));
    let names = answer.by.len().max(1);
    let name = |row: &CostRow, by: &String| match row.names.get(by) {
        _ if row.others => "(others)".to_owned(),
        Some(Some(name)) => name.clone(),
        _ => "-".to_owned(),
    };
    let titles = answer.groups.iter().map(|row| answer.by.iter().map(|by| name(row, by)).collect::<Vec<_>>());
    let total = std::iter::once("all".to_owned()).chain(std::iter::repeat_n(String::new(), names - 1)).collect();
    // Without names the only group is that of all rows.
    let titles: Vec<Vec<String>> = if answer.by.is_empty() { vec![total] } else { titles.chain([total]).collect() };
    let skipped = all.len() - titles.len();
    let rows: Vec<Vec<String>> = titles
        .into_iter()
        .enumerate()
        .map(|(index, mut row)| {
            let index = index + skipped;
            let figures = all.get(index).copied().copied().unwrap_or_default();
            let money = |column: &[String]| column.get(index).cloned().unwrap_or_default();
            row.extend([money(&bill), money(&base), percent(figures.saving_share), money(&saved), count(figures.requests)]);
            row.extend([percent(figures.hit_ratio), count(figures.calls), count(figures.unpriced_requests), count(figures.unpriced_calls)]);
            row
        })
        .collect();
    let head = if answer.by.is_empty() { vec![String::new()] } else { answer.by.clone() };
    let figures = ["bill $", "without $", "saving", "credited $", "requests", "hits", "calls", "unpriced req.", "unpriced calls"];
    let head: Vec<String> = head.into_iter().chain(figures.map(str::to_owned)).collect();
    render(&head, names, &rows)
}

fn strategies(strategies: &[StrategyImpact]) -> String {
    let column = |pick: fn(&StrategyImpact) -> Money| dollars(&strategies.iter().map(|s| Some(pick(s))).collect::<Vec<_>>());
    let (saved, bill, net) = (column(|s| s.saved_usd), column(|s| s.bill_usd), column(|s| s.net_usd));
    let rows: Vec<Vec<String>> = strategies
        .iter()
        .zip(saved.into_iter().zip(bill).zip(net))
        .map(|(s, ((saved, bill), net))| {
            let (avoided, unpriced) = (s.calls_avoided.to_string(), s.unpriced.to_string());
            vec![s.name.clone(), saved, percent(s.share_of_base), avoided, s.calls.to_string(), bill, net, unpriced]
        })
        .collect();
    let head = ["strategy", "saved $", "of base", "calls avoided", "own calls", "own bill $", "net $", "unpriced"].map(str::to_owned);
    render(&head, 1, &rows)
}

fn summary(answer: &CostAnswer) -> String {
    let one = |amount: Money| dollars(&[Some(amount)]).concat();
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(waste) = answer.prefetch_waste_usd.filter(|waste| *waste > Money::ZERO) {
        let _ = writeln!(text, "fetched ahead and not used: {} $", one(waste));
    }
    if let Some(net) = &answer.net {
        let returned = net.return_on_cost.map_or_else(String::new, |factor| format!(", {factor:.1} $ saved for each $ that it costs"));
        let _ = writeln!(text, "net of Farthing's own cost of {} $: {} ${returned}", one(net.self_cost_usd), one(net.net_usd));
    } else {
        let _ = writeln!(text, "net: unknown; say what Farthing costs with [self_cost], and ask without a filter");
    }
    text + &proved(answer.proved.as_ref())
}

/// What is claimed beside what is proved, of the same time: since the record of the saving began.
fn proved(report: Option<&Value>) -> String {
    let Some(report) = report else { return "proved: ask a running proxy\n".to_owned() };
    let part = |name: &str| report["saving"][name].as_f64();
    let usd = |name: &str| report[name].as_f64().unwrap_or_default();
    let claimed = (usd("claimed_base_usd") > 0.0).then(|| 1.0 - usd("bill_usd") / usd("claimed_base_usd"));
    let proved = match (part("point"), part("low"), part("high")) {
        (Some(point), Some(low), Some(high)) => format!(
            "so far: claimed saving {}, proved {} ({} to {}, 95 %, at any time)\n",
            percent(claimed),
            percent(Some(point)),
            percent(Some(low)),
            percent(Some(high))
        ),
        _ => {
            format!("so far: claimed saving {}, proved: not yet ({})\n", percent(claimed), report["note"].as_str().unwrap_or("no interval"))
        }
    };
    proved + &super::status::holdout(report)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use farthing_admin::NetSaving;
    use serde_json::json;

    use super::*;

    fn figures(bill: &str, base: Option<&str>) -> CostFigures {
        CostFigures {
            bill_usd: Some(bill.parse().unwrap()),
            base_usd: base.map(|base| base.parse().unwrap()),
            requests: base.map(|_| 12_345),
            calls: Some(7),
            unpriced_calls: Some(2),
            ..CostFigures::default()
        }
    }

    fn answer() -> CostAnswer {
        let row = |team: Option<&str>, figures| CostRow {
            names: BTreeMap::from([("team".to_owned(), team.map(str::to_owned))]),
            figures,
            ..CostRow::default()
        };
        CostAnswer {
            from: "2026-11-01T00:00:00Z".to_owned(),
            to: "2026-11-08T00:00:00Z".to_owned(),
            by: vec!["team".to_owned()],
            groups: vec![row(Some("maps"), figures("1234.5", Some("4000"))), row(None, figures("0.004", None))],
            groups_in_all: 2,
            total: CostFigures { saving_share: Some(0.69137), hit_ratio: Some(0.5), ..figures("1234.504", Some("4000")) },
            series: Vec::new(),
            strategies: vec![StrategyImpact { name: "l1".to_owned(), saved_usd: "0.00002".parse().unwrap(), ..StrategyImpact::default() }],
            prefetch_waste_usd: Some(Money::ZERO),
            net: Some(NetSaving { self_cost_usd: "120".parse().unwrap(), net_usd: "-3.5".parse().unwrap(), return_on_cost: Some(0.97) }),
            proved: Some(json!({"saving": {"point": 0.6, "low": 0.55, "high": 0.65}, "bill_usd": 1.0, "claimed_base_usd": 4.0})),
            rows: 3,
            files: 1,
            unreadable: Vec::new(),
            unobserved: vec![UnobservedHost { host: "h.test".to_owned(), tunnels: 3, passed: 1, bytes_up: 10, bytes_down: 2_000 }],
        }
    }

    #[test]
    fn numbers_line_up_and_units_are_said() {
        let text = table(&answer());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "2026-11-01T00:00:00Z to 2026-11-08T00:00:00Z (UTC), 3 rows of 1 files");
        assert_eq!(
            lines[2..6],
            [
                "TEAM   BILL $  WITHOUT $  SAVING  CREDITED $  REQUESTS    HITS  CALLS  UNPRICED REQ.  UNPRICED CALLS",
                "maps  1234.50    4000.00       -           -     12345       -      7              -               2",
                "-        0.00          -       -           -         -       -      7              -               2",
                "all   1234.50    4000.00  69.1 %           -     12345  50.0 %      7              -               2",
            ]
        );
        assert!(text.contains("l1        0.000020000"), "{text}");
        assert!(text.contains("cost unknown:\nUNOBSERVED HOST  TUNNELS  PASSED  BYTES UP  BYTES DOWN\nh.test                 3       1        10        2000\n"), "{text}");
        assert!(text.contains("net of Farthing's own cost of 120.00 $: -3.50 $, 1.0 $ saved for each $ that it costs"), "{text}");
        assert!(text.contains("claimed saving 75.0 %, proved 60.0 % (55.0 % to 65.0 %, 95 %, at any time)"), "{text}");
    }

    #[test]
    fn without_names_there_is_one_line_and_nothing_is_made_up() {
        let mut one = CostAnswer { by: Vec::new(), net: None, proved: None, strategies: Vec::new(), ..answer() };
        one.groups = vec![CostRow { figures: one.total, ..CostRow::default() }];
        let text = table(&one);
        assert_eq!(text.lines().filter(|line| line.starts_with("all ")).count(), 1, "{text}");
        assert!(
            text.contains("net: unknown; say what Farthing costs with [self_cost]") && text.contains("proved: ask a running proxy"),
            "{text}"
        );
    }

    #[test]
    fn amounts_are_rounded_half_away_from_zero() {
        for (nanos, digits, text) in [
            (5_000_000, 2, "0.01"),
            (4_999_999, 2, "0.00"),
            (-5_000_000, 2, "-0.01"),
            (-1, 2, "0.00"),
            (1_999_999_999, 2, "2.00"),
            (1, 9, "0.000000001"),
            (i64::MIN, 2, "-9223372036.85"),
        ] {
            assert_eq!(rounded(Money::from_nanos(nanos), digits), text);
        }
    }
}
