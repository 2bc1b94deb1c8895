//! `farthing warm`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use farthing_admin::{WarmReport, WarmRequest, WarmedTarget};
use farthing_types::Money;
use http::Method;
use serde::Serialize;

use super::client::{Client, ClientError};
use super::{AdminFlags, ask, print};
use crate::table::render;

const PATH: &str = "/api/v1/cache/warm";
/// Targets of one question; the API takes no more than a thousand, and a megabyte.
const PART: usize = 200;
/// Rows of the table.
const SHOWN: usize = 40;

/// Flags of `farthing warm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    /// The route.
    #[arg(long)]
    route: String,
    /// A list of URLs or paths, one a line, or a web server's access log (its GET requests).
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Most dollars to spend. No call begins that could go beyond.
    #[arg(long, value_name = "DOLLARS")]
    limit_usd: Option<Money>,
    /// Most calls per second.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Only the hottest so many.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// The tenant whose copies to warm, where the route is private.
    #[arg(long)]
    tenant: Option<String>,
    /// A header as clients send it, where answers vary: 'accept-encoding: gzip'. May be repeated.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Fetch although the price of a call is not known beforehand; no limit can hold then.
    #[arg(long, conflicts_with = "limit_usd")]
    unpriced_ok: bool,
    /// Show what would be fetched, and fetch nothing.
    #[arg(long)]
    dry_run: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches("/s").parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    number.ok_or_else(|| "calls per second, more than 0, such as 5 or 0.5/s".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("NAME: VALUE")?;
    Ok((name.trim().to_lowercase(), value.trim().to_owned()))
}

/// Fetches what a list names into a running proxy's cache, hottest first.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let targets = read(&args.from)?;
    ask(&args.admin, async |client| {
        let view = Order { args, client }.carry_out(targets).await?;
        print(&args.admin, &view, table);
        Ok(if view.limit_reached && view.fetched == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

#[derive(Debug, Default, Serialize)]
struct View {
    dry_run: bool,
    /// Targets of the list, each once.
    listed: usize,
    fetched: usize,
    fresh: usize,
    spent_usd: Money,
    price_usd: Option<Money>,
    /// What all that is wanted costs at most; null when unknown.
    most_usd: Option<Money>,
    limit_reached: bool,
    /// Not come to, because of the limit.
    left: usize,
    outcomes: BTreeMap<String, usize>,
    targets: Vec<WarmedTarget>,
}

struct Order<'a> {
    args: &'a Args,
    client: Client,
}

impl Order<'_> {
    async fn carry_out(&self, targets: Vec<(String, usize)>) -> Result<View, ClientError> {
        let mut view = View { dry_run: self.args.dry_run, listed: targets.len(), ..View::default() };
        let wanted = self.hottest(targets, &mut view).await?;
        if self.args.dry_run {
            view.targets = wanted;
        } else {
            self.fetch(wanted, &mut view).await?;
        }
        for target in &view.targets {
            *view.outcomes.entry(target.outcome.clone()).or_default() += 1;
        }
        view.fetched = view.outcomes.get("fetched").copied().unwrap_or_default();
        Ok(view)
    }

    /// Looks at all targets; those that are wanted, hottest first: by what the proxy has seen of them, then by how often the list names them.
    async fn hottest(&self, targets: Vec<(String, usize)>, view: &mut View) -> Result<Vec<WarmedTarget>, ClientError> {
        let counts: HashMap<&str, usize> = targets.iter().map(|(target, count)| (&**target, *count)).collect();
        let mut wanted = Vec::new();
        for part in targets.chunks(PART) {
            let mut names: Vec<String> = part.iter().map(|(target, _)| target.clone()).collect();
            while !names.is_empty() {
                let report = self.order(names.clone(), None, true).await?;
                view.price_usd = report.price_usd;
                names.drain(..report.warmed.len().clamp(1, names.len()));
                for target in report.warmed {
                    match target.outcome.as_str() {
                        "wanted" => wanted.push(target),
                        other => {
                            view.fresh += usize::from(other == "fresh");
                            view.targets.extend((other != "fresh").then_some(target));
                        }
                    }
                }
            }
        }
        let count = |target: &WarmedTarget| counts.get(&*target.target).copied().unwrap_or_default();
        wanted.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| count(b).cmp(&count(a))));
        wanted.truncate(self.args.top.unwrap_or(usize::MAX));
        view.most_usd = view.price_usd.map(|price| price.times(i64::try_from(wanted.len()).unwrap_or(i64::MAX)));
        Ok(wanted)
    }

    async fn fetch(&self, wanted: Vec<WarmedTarget>, view: &mut View) -> Result<(), ClientError> {
        let mut rest: Vec<String> = wanted.into_iter().map(|target| target.target).collect();
        while !rest.is_empty() && !view.limit_reached {
            let part = rest[..rest.len().min(PART)].to_vec();
            let left = self.args.limit_usd.map(|limit| Money::from_nanos(limit.nanos().saturating_sub(view.spent_usd.nanos())));
            let report = self.order(part, left, false).await?;
            rest.drain(..report.warmed.len().min(rest.len()));
            view.spent_usd += report.spent_usd;
            view.limit_reached = report.limit_reached;
            view.targets.extend(report.warmed);
            eprintln!("farthing: {} of {} done, {} $", view.targets.len(), view.targets.len() + rest.len(), view.spent_usd);
            if let Some(rate) = self.args.rate.filter(|_| !rest.is_empty()) {
                tokio::time::sleep(Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default()).await;
            }
        }
        view.left = rest.len();
        Ok(())
    }

    async fn order(&self, targets: Vec<String>, limit_usd: Option<Money>, dry_run: bool) -> Result<WarmReport, ClientError> {
        let request = WarmRequest {
            route: self.args.route.clone(),
            targets,
            tenant: self.args.tenant.clone(),
            headers: self.args.header.iter().cloned().collect(),
            limit_usd,
            rate: self.args.rate,
            unpriced_ok: self.args.unpriced_ok,
            dry_run,
        };
        self.client.call(Method::POST, PATH, &request).await
    }
}

/// The targets of a list or an access log, each once with how often it stands there, in order.
fn read(path: &Path) -> anyhow::Result<Vec<(String, usize)>> {
    if path.is_dir() {
        bail!(
            "{} is a directory: the request log holds digests of keys and no URLs, so nothing can be fetched from it. Give a list of URLs or \
             an access log; the proxy knows by itself which of them are hot",
            path.display()
        );
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (mut order, mut counts) = (Vec::new(), HashMap::<&str, usize>::new());
    for target in text.lines().filter_map(target) {
        let count = counts.entry(target).or_default();
        *count += 1;
        if *count == 1 {
            order.push(target);
        }
    }
    if order.is_empty() {
        bail!("{} names nothing: write one URL or path a line, or give an access log with `\"GET /path HTTP/1.1\"`", path.display());
    }
    Ok(order.into_iter().map(|target| (target.to_owned(), counts.get(target).copied().unwrap_or_default())).collect())
}

/// What a line names: the request of an access log's line if it is a GET, else the line.
fn target(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some((_, request)) = line.split_once('"') {
        return request.strip_prefix("GET ")?.split([' ', '"']).next().filter(|target| !target.is_empty());
    }
    (!line.is_empty() && !line.starts_with('#') && !line.contains(char::is_whitespace)).then_some(line)
}

fn table(view: &View) -> String {
    let known = |money: Option<Money>| money.map_or_else(|| "unknown".to_owned(), |money| money.to_string());
    let rows = view.targets.iter().take(SHOWN).map(|target| {
        let rate = if target.rate > 0.0 { format!("{:.4}", target.rate) } else { "-".to_owned() };
        vec![target.target.clone(), target.outcome.clone(), rate, target.cost_usd.map_or_else(|| "-".to_owned(), |cost| cost.to_string())]
    });
    let mut text = render(&["target", "outcome", "asked/s", "cost $"], rows);
    if view.targets.len() > SHOWN {
        text += &format!("... and {} more (--json shows all)\n", view.targets.len() - SHOWN);
    }
    text += &format!("\n{} listed, {} fresh already, ", view.listed, view.fresh);
    text += &if view.dry_run {
        format!("{} would be fetched for at most {} $\n", view.outcomes.get("wanted").unwrap_or(&0), known(view.most_usd))
    } else {
        format!("{} fetched for {} $\n", view.fetched, view.spent_usd)
    };
    if view.limit_reached {
        text += &format!("the limit is reached: {} left\n", view.left);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_an_access_log_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("list");
        std::fs::write(&file, "# hot ones\n/r/geo/a\n\nhttps://maps.example.com/b?q=1\n/r/geo/a\n").unwrap();
        let targets = read(&file).unwrap();
        assert_eq!(targets, [("/r/geo/a".to_owned(), 2), ("https://maps.example.com/b?q=1".to_owned(), 1)]);
        let line = |request: &str| format!("10.0.0.1 - - [26/Nov/2026:10:00:00 +0000] \"{request}\" 200 12 \"-\" \"curl\"\n");
        std::fs::write(&file, line("GET /r/geo/c HTTP/1.1") + &line("POST /r/geo/d HTTP/1.1") + &line("GET /r/geo/c HTTP/1.1")).unwrap();
        assert_eq!(read(&file).unwrap(), [("/r/geo/c".to_owned(), 2)]);
        std::fs::write(&file, "\n").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("one URL or path a line"));
        assert!(read(dir.path()).unwrap_err().to_string().contains("no URLs"));
        assert!(rate("2/s") == Ok(2.0) && rate("0").is_err());
    }
}
