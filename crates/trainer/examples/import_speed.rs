//! How fast an access log is imported: `cargo run -p farthing-trainer --example import_speed -- [lines] [share of new URLs]`.
//! Writes a log of that many lines into a temporary folder, imports it, and prints lines per second.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::fs::File;
use std::io::{BufWriter, Write};

use farthing_trainer::import::format::by_name;
use farthing_trainer::import::mapping::Mapping;
use farthing_trainer::import::{Import, import};
use farthing_trainer::learn::Unwatched;
use farthing_types::{Clock, Draw, DrawKind, Money, RealClock};

const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let lines: u64 = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let new: f64 = arguments.next().map_or(Ok(0.1), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("access.log");
    write(&path, lines, new)?;
    let bytes = std::fs::metadata(&path)?.len();
    let mapping = Mapping::default();
    let what = Import {
        format: by_name("combined").ok_or("combined")?,
        inputs: &[path],
        mapping: &mapping,
        out: &dir.path().join("log"),
        salt: [1; 16],
        price: Some(Money::from_nanos(2_000_000)),
        private: false,
    };
    let clock = RealClock::default();
    let start = clock.now();
    let report = import(&what, &Unwatched)?;
    let seconds = clock.now().since(start).as_secs_f64();
    println!(
        "{} lines ({:.0} MB) in {seconds:.2} s: {:.0} lines/s; {} files",
        report.requests,
        bytes as f64 / 1e6,
        report.requests as f64 / seconds,
        report.files
    );
    Ok(())
}

/// Ten requests per second; a share of the URLs is new, the rest is of fifty thousand.
fn write(path: &std::path::Path, lines: u64, new: f64) -> std::io::Result<()> {
    let draw = Draw::new(1);
    let mut out = BufWriter::new(File::create(path)?);
    for n in 0..lines {
        let u = |what: &str| draw.uniform(DrawKind::Sample, what, u128::from(n), 0);
        let key = if u("new") < new { 1_000_000 + n } else { (u("key").powi(3) * 50_000.0) as u64 };
        let (day, second) = (1 + n / 864_000 % 28, n / 10 % 86_400);
        writeln!(
            out,
            "10.0.{}.{} - - [{day:02}/May/2024:{:02}:{:02}:{:02} +0000] \"GET /v1/users/{key}/orders?limit=10 HTTP/1.1\" 200 {} \"https://example.com/p/{}\" \"{AGENT}\" 0.{:03}",
            key % 256,
            n % 7,
            second / 3_600,
            second / 60 % 60,
            second % 60,
            100 + key % 5_000,
            key % 100,
            n % 1_000
        )?;
    }
    out.flush()
}
