//! `results`: measures every promise of the learners and writes the page.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use farthing_trainer::results::{ALL, Found, Ground, Page, run};

use crate::common::Bar;

#[derive(clap::Args)]
pub struct Results {
    /// Folder of the real traces; sections that need an absent one say so.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The page.
    #[arg(long, default_value = "docs/results.md")]
    out: PathBuf,
    /// The same figures for machines. What is in it and not measured now is kept.
    #[arg(long, default_value = "target/results/learning.json")]
    json: PathBuf,
    /// Sections to measure, by name; all when not given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many seeds: five for the promises, fewer for a quick look.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=5))]
    seeds: u64,
}

/// Exit code when a promise is missed.
const MISSED: u8 = 2;

/// Runs the command.
pub fn results(args: &Results) -> anyhow::Result<ExitCode> {
    let names: Vec<&str> = ALL.iter().map(|s| s.name()).collect();
    if let Some(unknown) = args.only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("--only: no section is called `{unknown}`: give some of {}", names.join(", "));
    }
    // Known before an hour of measuring, not after.
    if let Some(folder) = [&args.out, &args.json].into_iter().find(|path| path.is_dir()) {
        bail!("{} is a folder: give --out and --json the names of files", folder.display());
    }
    let scratch = args.json.parent().map_or_else(PathBuf::new, |folder| folder.join("traces"));
    let python = std::env::var("FARTHING_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut page = Page::read(&args.json)?;
    let bar = Bar::new(false);
    run(&Ground { data: args.data.as_deref(), scratch: &scratch, python: &python, seeds: args.seeds, watch: &bar }, &args.only, &mut page)?;
    drop(bar);
    page.write(&args.out, &args.json, &names)?;
    print(&page);
    Ok(if page.holds() { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}

fn print(page: &Page) {
    for (name, section) in &page.sections {
        match &section.found {
            Found::Absent(why) => println!("{name}: not measured: {why}"),
            Found::Measured(measured) => {
                for bar in &measured.bars {
                    let (verdict, sign) = (if bar.holds() { "holds " } else { "MISSED" }, if bar.at_most { "<=" } else { ">=" });
                    println!("{name}: {verdict} {}: {:.4} ({sign} {})", bar.what, bar.measured, bar.limit);
                }
            }
        }
    }
}
