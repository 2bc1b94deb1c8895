//! Where a foreign log keeps what we need: a TOML file from our fields to JSON pointers (`json-lines`) or column names (`columns`).

use std::collections::BTreeMap;
use std::path::Path;

use farthing_types::Money;
use serde::Deserialize;

use super::time::TimeFormat;
use crate::error::TrainError;

/// A unit of time of a latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    #[default]
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl Unit {
    /// Microseconds in one unit.
    pub const fn micros(self) -> f64 {
        match self {
            Self::S => 1e6,
            Self::Ms => 1e3,
            Self::Us => 1.0,
            Self::Ns => 1e-3,
        }
    }
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $field:ident $name:literal,)+) => {
        /// What may be mapped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[doc = $doc])+ $field,)+ }

        impl Field {
            /// Every field, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$field,)+];
            /// Its key in the mapping file.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$field => $name,)+ }
            }
            /// What it is.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$field => concat!($($doc),+),)+ }
            }
        }
    };
}

fields! {
    /// When the request came. Needed.
    Time "time",
    /// HTTP method; GET when absent.
    Method "method",
    /// URL, or path with query. This or `endpoint` is needed.
    Url "url",
    /// Host, where the URL has none.
    Host "host",
    /// Path template, where the log names one itself.
    Endpoint "endpoint",
    /// What tells the answers of an endpoint apart; without it each of its requests is like no other.
    Key "key",
    /// Who bills.
    Provider "provider",
    /// Status of the answer; 200 when absent.
    Status "status",
    /// Body bytes of the answer.
    Bytes "bytes",
    /// Time to the answer, in `latency_unit`.
    Latency "latency",
    /// What the call cost, dollars.
    Cost "cost",
    /// Who asked; only a salted digest is kept.
    Client "client",
    /// Digest of the answer's body, in any form.
    BodyHash "body_hash",
    /// `ETag` of the answer.
    Etag "etag",
    /// `Last-Modified` of the answer, in `time_format` or as an HTTP date.
    LastModified "last_modified",
    /// `Cache-Control` of the answer.
    CacheControl "cache_control",
    /// Explicit freshness lifetime, seconds.
    TtlS "ttl_s",
    /// Body of the request, or its digest: part of the key of requests other than GET and HEAD.
    RequestBody "request_body",
    /// Input tokens, cached ones included.
    TokensInput "tokens_input",
    /// Of these, tokens read from the provider's cache.
    TokensCachedInput "tokens_cached_input",
    /// Output tokens.
    TokensOutput "tokens_output",
    /// LLM or other target.
    Model "model",
    /// True: from here on the key's answer is another one. With a status the row is a request as well.
    IsWrite "is_write",
    /// True: another cache answered, no call was made. Such rows are skipped.
    Cached "served_from_cache",
}

/// A checked mapping.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping {
    pub(super) places: Vec<Option<String>>,
    /// How times are written.
    pub time_format: TimeFormat,
    /// Unit of latencies.
    pub latency_unit: Unit,
    /// Prices of a call by path prefix or endpoint, for rows without a cost; the longest prefix counts.
    pub prices: BTreeMap<String, Money>,
}

/// The file as it stands; keys that are fields are looked at one by one.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    time_format: TimeFormat,
    #[serde(default)]
    latency_unit: Unit,
    #[serde(default)]
    prices: BTreeMap<String, Money>,
    #[serde(flatten)]
    fields: BTreeMap<String, toml::Value>,
}

impl Mapping {
    /// Fields at these places.
    pub fn of(pairs: &[(Field, &str)]) -> Self {
        let mut mapping = Self { places: vec![None; Field::ALL.len()], ..Self::default() };
        for (field, place) in pairs {
            mapping.set(*field, Some((*place).to_owned()));
        }
        mapping
    }

    fn set(&mut self, field: Field, place: Option<String>) {
        self.places.resize(Field::ALL.len(), None);
        if let Some(slot) = self.places.get_mut(field as usize) {
            *slot = place;
        }
    }

    /// Where a field is.
    pub fn place(&self, field: Field) -> Option<&str> {
        self.places.get(field as usize)?.as_deref()
    }

    /// Whether the file said nothing about fields.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }

    /// Reads a mapping file.
    ///
    /// # Errors
    /// Names the file, the line, the key and what to write instead.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        Self::parse(&text).map_err(|reason| TrainError::Mapping { path: path.to_path_buf(), reason })
    }

    /// Reads the text of a mapping file.
    ///
    /// # Errors
    /// The line, the key and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|e| e.to_string().trim().replace('\n', " "))?;
        let mut mapping = Self { time_format: raw.time_format, latency_unit: raw.latency_unit, prices: raw.prices, ..Self::default() };
        for (key, value) in raw.fields {
            let line = line_of(text, &key);
            let Some(field) = Field::ALL.iter().find(|f| f.name() == key) else { return Err(unknown(&key, line)) };
            let Some(place) = value.as_str().filter(|p| !p.is_empty()) else {
                return Err(format!("line {line}: {key}: {value}; write a JSON pointer like \"/{key}\" or a column's name"));
            };
            mapping.set(*field, Some(place.to_owned()));
        }
        Ok(mapping)
    }

    /// The price of a call of this path or endpoint.
    pub fn price(&self, path: &str) -> Option<Money> {
        let fits = |prefix: &&String| {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with(['/', '?']))
        };
        self.prices.iter().filter(|(prefix, _)| fits(prefix)).max_by_key(|(prefix, _)| prefix.len()).map(|(_, price)| *price)
    }
}

/// The line that begins with a key, or with its table.
fn line_of(text: &str, key: &str) -> usize {
    let names = |line: &str| {
        let line = line.trim_start().trim_start_matches('[').trim_start_matches(['"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    };
    text.lines().position(names).unwrap_or(0) + 1
}

fn unknown(key: &str, line: usize) -> String {
    let names = || Field::ALL.iter().map(|f| f.name()).chain(["time_format", "latency_unit", "prices"]);
    let near = names().max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    let near = near.filter(|n| strsim::jaro_winkler(key, n) > 0.8);
    let remedy = near.map_or_else(|| format!("known are {}", names().collect::<Vec<_>>().join(", ")), |n| format!("did you mean `{n}`?"));
    format!("line {line}: unknown key `{key}`; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_whole() {
        let text = "time = \"/ts\"\ntime_format = \"epoch_ms\"\nlatency_unit = \"s\"\nurl = \"/req/url\"\n[prices]\n\"/v1\" = \"0.002\"\n\"/v1/big\" = \"0.1\"\n";
        let mapping = Mapping::parse(text).unwrap();
        assert_eq!(
            (mapping.place(Field::Time), mapping.place(Field::Url), mapping.place(Field::Cost)),
            (Some("/ts"), Some("/req/url"), None)
        );
        assert_eq!((mapping.time_format, mapping.latency_unit), (TimeFormat::EpochMs, Unit::S));
        let nanos = |path| mapping.price(path).map(Money::nanos);
        assert_eq!(
            (nanos("/v1/x"), nanos("/v1/big/1"), nanos("/v1/bigger"), nanos("/v2")),
            (Some(2_000_000), Some(100_000_000), Some(2_000_000), None)
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_place_and_remedy() {
        for (text, parts) in [
            ("time = \"/ts\"\nurll = \"/u\"\n", &["line 2", "`urll`", "did you mean `url`?"][..]),
            ("zzz = \"/u\"\n", &["line 1", "`zzz`", "known are time, method"]),
            ("time = 7\n", &["line 1", "time", "JSON pointer"]),
            ("time_format = \"stardate\"\n", &["stardate", "iso8601"]),
            ("[prices]\n\"/a\" = \"cheap\"\n", &["cheap"]),
            ("time = \n", &["line 1"]),
        ] {
            let error = Mapping::parse(text).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    #[test]
    fn fields_are_numbered_as_they_are_listed() {
        assert!(Field::ALL.iter().enumerate().all(|(i, f)| *f as usize == i && !f.doc().is_empty()));
    }
}
