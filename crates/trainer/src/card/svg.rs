//! Small charts as SVG: lines and points over two axes, and bars. One look for light and dark pages: colours come from a style sheet within the
//! file that follows the reader's preference. Numbers are rounded, so equal data give equal bytes.

use std::fmt::Write as _;

/// Width and height of the picture.
const SIZE: (f64, f64) = (680.0, 400.0);
/// Room around the drawing: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (72.0, 20.0, 74.0, 56.0);
/// Most series that can be told apart.
pub const SERIES: usize = 6;

const STYLE: &str = "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}\
.h{font-size:15px;font-weight:600}.m{fill:#59636e}.bg{fill:#fff}.g{stroke:#d8dee4;stroke-width:1}.a{stroke:#6e7781;stroke-width:1}\
.n{stroke:#6e7781;stroke-width:1;stroke-dasharray:4 4;fill:none}.b{fill:#6e7781;opacity:.14}.l{fill:none;stroke-width:2}\
.s0{stroke:#0969da}.f0{fill:#0969da}.s1{stroke:#bc4c00}.f1{fill:#bc4c00}.s2{stroke:#1a7f37}.f2{fill:#1a7f37}\
.s3{stroke:#8250df}.f3{fill:#8250df}.s4{stroke:#bf3989}.f4{fill:#bf3989}.s5{stroke:#6e7781}.f5{fill:#6e7781}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.m{fill:#9198a1}.bg{fill:#0d1117}.g{stroke:#2b313a}.a,.n{stroke:#8b949e}.b{fill:#8b949e}\
.s0{stroke:#58a6ff}.f0{fill:#58a6ff}.s1{stroke:#f0883e}.f1{fill:#f0883e}.s2{stroke:#3fb950}.f2{fill:#3fb950}\
.s3{stroke:#bc8cff}.f3{fill:#bc8cff}.s4{stroke:#f778ba}.f4{fill:#f778ba}.s5{stroke:#8b949e}.f5{fill:#8b949e}}";

/// Strokes that differ also without colour.
const DASHES: [&str; SERIES] = ["", "7 4", "2 3", "9 3 2 3", "12 4", "4 2"];

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As they are.
    Linear,
    /// Square roots: small shares get room, and zero has a place.
    Root,
    /// Logarithms.
    Log,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    label: String,
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with marks at `ticks`, as far as they lie on it.
    pub fn new(label: &str, scale: Scale, (from, to): (f64, f64), ticks: &[(f64, String)]) -> Self {
        let ticks = ticks.iter().filter(|(at, _)| *at >= from && *at <= to).cloned().collect();
        Self { label: label.to_owned(), scale, from, to, ticks }
    }

    /// An axis of shares in percent.
    pub fn percent(label: &str, scale: Scale, range: (f64, f64)) -> Self {
        let marks: &[f64] = match scale {
            Scale::Linear => &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
            Scale::Root => &[0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0],
            Scale::Log => &[0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
        };
        let ticks: Vec<(f64, String)> = marks.iter().map(|m| (*m, format!("{} %", trimmed(100.0 * m)))).collect();
        Self::new(label, scale, range, &ticks)
    }

    /// Place between 0 and 1.
    fn place(&self, value: f64) -> f64 {
        let of = |x: f64| match self.scale {
            Scale::Linear => x,
            Scale::Root => x.max(0.0).sqrt(),
            Scale::Log => x.max(1e-12).ln(),
        };
        let (low, high) = (of(self.from), of(self.to));
        if high > low { ((of(value) - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A chart of lines and points.
pub struct Chart {
    title: String,
    x: Axis,
    y: Axis,
    body: String,
    legend: Vec<(usize, String, bool)>,
}

impl Chart {
    /// An empty chart.
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self { title: title.to_owned(), x, y, body: String::new(), legend: Vec::new() }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (left, right, top, bottom) = MARGIN;
        (left + self.x.place(x) * (SIZE.0 - left - right), SIZE.1 - bottom - self.y.place(y) * (SIZE.1 - top - bottom))
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (i, point) in points.iter().enumerate() {
            let (x, y) = self.at(*point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        }
        path
    }

    /// A shaded strip between two curves.
    pub fn band(&mut self, low: &[(f64, f64)], high: &[(f64, f64)]) {
        let back: Vec<_> = high.iter().rev().copied().collect();
        let path = self.path(&[low, &back].concat());
        let _ = writeln!(self.body, "<path class=\"b\" d=\"{path}Z\"/>");
    }

    /// A thin line that is no data: a diagonal, a bound.
    pub fn guide(&mut self, points: &[(f64, f64)], label: &str) {
        let path = self.path(points);
        let _ = writeln!(self.body, "<path class=\"n\" d=\"{path}\"/>");
        if let Some(last) = points.last().filter(|_| !label.is_empty()) {
            let (x, y) = self.at(*last);
            let _ = writeln!(self.body, "<text class=\"m\" x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 5.0, y + 14.0, escaped(label));
        }
    }

    /// Data joined by a line.
    pub fn line(&mut self, label: &str, points: &[(f64, f64)]) {
        let n = self.legend.len() % SERIES;
        let path = self.path(points);
        let dash = if DASHES[n].is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", DASHES[n]) };
        let _ = writeln!(self.body, "<path class=\"l s{n}\" d=\"{path}\"{dash}/>");
        self.legend.push((n, label.to_owned(), true));
    }

    /// Single data, each with an area that grows with its weight (0 to 1).
    pub fn dots(&mut self, label: &str, points: &[((f64, f64), f64)]) {
        let n = self.legend.len() % SERIES;
        for (point, weight) in points {
            let ((x, y), r) = (self.at(*point), 3.0 + 4.0 * weight.clamp(0.0, 1.0).sqrt());
            let _ = writeln!(self.body, "<circle class=\"f{n}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\" fill-opacity=\".85\"/>");
        }
        self.legend.push((n, label.to_owned(), false));
    }

    /// The file.
    pub fn to_svg(&self) -> String {
        let mut out = head(&self.title, SIZE.1);
        self.axes(&mut out);
        out.push_str(&self.body);
        legend(&mut out, &self.legend);
        out + "</svg>\n"
    }

    fn axes(&self, out: &mut String) {
        let (left, right, top, bottom) = MARGIN;
        let (end, floor) = (SIZE.0 - right, SIZE.1 - bottom);
        for (value, label) in &self.x.ticks {
            let (x, _) = self.at((*value, self.y.from));
            let _ = writeln!(out, "<path class=\"g\" d=\"M{x:.1} {top}V{floor}\"/>");
            let _ =
                writeln!(out, "<text class=\"m\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", floor + 18.0, escaped(label));
        }
        for (value, label) in &self.y.ticks {
            let (_, y) = self.at((self.x.from, *value));
            let _ = writeln!(out, "<path class=\"g\" d=\"M{left} {y:.1}H{end}\"/>");
            let _ = writeln!(
                out,
                "<text class=\"m\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + 4.5,
                escaped(label)
            );
        }
        let _ = writeln!(out, "<path class=\"a\" fill=\"none\" d=\"M{left} {top}V{floor}H{end}\"/>");
        let middle = 0.5 * (left + end);
        let _ =
            writeln!(out, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", SIZE.1 - 14.0, escaped(&self.x.label));
        let turned = 0.5 * (top + floor);
        let _ = writeln!(
            out,
            "<text transform=\"translate(18 {turned:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.y.label)
        );
    }
}

/// Rows of bars, one bar per series in each.
pub struct Bars {
    title: String,
    series: Vec<String>,
    rows: Vec<(String, Vec<(f64, String)>)>,
}

impl Bars {
    /// An empty chart.
    pub fn new(title: &str, series: &[&str]) -> Self {
        Self { title: title.to_owned(), series: series.iter().map(|s| (*s).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row: the length of each bar, and what is written at its end.
    pub fn row(&mut self, name: &str, bars: &[(f64, String)]) {
        self.rows.push((name.to_owned(), bars.to_vec()));
    }

    /// The file.
    pub fn to_svg(&self) -> String {
        const BAR: f64 = 14.0;
        let top = if self.series.len() > 1 { MARGIN.2 } else { 48.0 };
        let step = BAR * self.series.len().max(1) as f64 + 12.0;
        let mut out = head(&self.title, top + step * self.rows.len() as f64 + 12.0);
        let left = 24.0 + 7.2 * self.rows.iter().map(|(name, _)| name.chars().count().min(MAX_NAME)).max().unwrap_or(0) as f64;
        let longest = self.rows.iter().flat_map(|(_, bars)| bars).map(|(v, _)| *v).fold(1e-12, f64::max);
        let room = SIZE.0 - left - 90.0;
        for (i, (name, bars)) in self.rows.iter().enumerate() {
            let y = top + step * i as f64;
            let middle = y + 0.5 * BAR * bars.len() as f64 + 4.5;
            let _ =
                writeln!(out, "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>", left - 8.0, escaped(&shortened(name)));
            for (n, (value, label)) in bars.iter().enumerate() {
                let (at, width) = (y + BAR * n as f64, (room * value.max(0.0) / longest).max(1.0));
                let _ = writeln!(
                    out,
                    "<rect class=\"f{}\" x=\"{left:.1}\" y=\"{at:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                    n % SERIES,
                    BAR - 2.0
                );
                let _ = writeln!(
                    out,
                    "<text class=\"m\" font-size=\"11\" style=\"font-size:11px\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    left + width + 6.0,
                    at + BAR - 3.5,
                    escaped(label)
                );
            }
        }
        if self.series.len() > 1 {
            let entries: Vec<_> = self.series.iter().enumerate().map(|(n, s)| (n % SERIES, s.clone(), false)).collect();
            legend(&mut out, &entries);
        }
        out + "</svg>\n"
    }
}

/// Longest name of a row, in characters.
const MAX_NAME: usize = 30;

fn shortened(name: &str) -> String {
    if name.chars().count() <= MAX_NAME { name.to_owned() } else { name.chars().take(MAX_NAME - 1).chain(['…']).collect() }
}

fn head(title: &str, height: f64) -> String {
    let (width, title) = (SIZE.0, escaped(title));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n<rect class=\"bg\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"h\" x=\"16\" y=\"26\">{title}</text>\n"
    )
}

/// Names of the series below the title.
fn legend(out: &mut String, entries: &[(usize, String, bool)]) {
    let mut x = 16.0;
    for (n, label, line) in entries {
        if *line {
            let dash = if DASHES[*n].is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", DASHES[*n]) };
            let _ = writeln!(out, "<path class=\"l s{n}\" d=\"M{x:.1} 50h24\"{dash}/>");
        } else {
            let _ = writeln!(out, "<rect class=\"f{n}\" x=\"{:.1}\" y=\"44\" width=\"12\" height=\"12\"/>", x + 6.0);
        }
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"54.5\">{}</text>", x + 30.0, escaped(label));
        x += 48.0 + 7.0 * label.chars().count() as f64;
    }
}

/// Safe within text and attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A number without needless zeros.
fn trimmed(x: f64) -> String {
    let text = format!("{x:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_scale_and_stay_within() {
        let root = Axis::percent("p", Scale::Root, (0.0, 1.0));
        assert_eq!((root.place(0.0), root.place(0.25), root.place(9.0)), (0.0, 0.5, 1.0));
        let log = Axis::percent("p", Scale::Log, (0.001, 0.1));
        assert!((log.place(0.01) - 0.5).abs() < 1e-9 && log.place(0.0) == 0.0 && log.place(f64::NAN) >= 0.0);
        assert_eq!(log.ticks.iter().map(|t| t.1.as_str()).collect::<Vec<_>>(), ["0.1 %", "0.2 %", "0.5 %", "1 %", "2 %", "5 %", "10 %"]);
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let mut bars = Bars::new("a <b> & \"c\"", &["one", "two"]);
        bars.row("</text><script>", &[(1.0, "x".to_owned()), (f64::NAN, "<".to_owned())]);
        let svg = bars.to_svg();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;") && svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("prefers-color-scheme:dark"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_chart_holds_what_was_drawn() {
        let mut chart = Chart::new("t", Axis::percent("x", Scale::Linear, (0.0, 1.0)), Axis::percent("y", Scale::Linear, (0.0, 1.0)));
        chart.band(&[(0.0, 0.0), (1.0, 0.9)], &[(0.0, 0.1), (1.0, 1.0)]);
        chart.guide(&[(0.5, 0.0), (0.5, 1.0)], "bound");
        chart.line("ours", &[(0.0, 0.5), (1.0, 0.5)]);
        chart.dots("theirs", &[((0.5, 0.5), 1.0)]);
        let svg = chart.to_svg();
        for part in ["bound", "ours", "theirs", "M72.0 209.0L660.0 209.0", "cx=\"366.0\" cy=\"209.0\" r=\"7.0\""] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        assert_eq!(svg, chart.to_svg());
    }
}
