//! The snapshot: whose prices hold for a call, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farthing_types::{Meter, MeterSource, Money, PriceSpec, Time, TokenRates};
use sha2::{Digest, Sha256};

use super::schedule::Schedule;
use super::tokens::PromptRates;
use super::volumes::Volumes;
use super::{Amount, Amounts, Billable, PriceError, Priced, Unpriced, check};
use crate::usage::{self, Path};

/// An immutable snapshot of all prices. Share it as `Arc<PriceBook>`, replace it whole.
#[derive(Debug, Default)]
pub struct PriceBook {
    providers: BTreeMap<Arc<str>, Prices>,
    routes: BTreeMap<Arc<str>, Prices>,
    digest: Arc<str>,
}

/// What somebody charges: versions that follow each other.
#[derive(Debug)]
struct Prices {
    /// Latest first.
    versions: Vec<Schedule>,
    reads: Arc<Reads>,
    /// Meters in any version: what each has counted in the month is kept.
    meters: BTreeSet<String>,
}

/// The places of answers that meters read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// JSON pointers.
    pub pointers: Vec<Arc<str>>,
    /// Header names.
    pub headers: Vec<Arc<str>>,
    wanted: Option<Arc<[Path]>>,
}

impl Reads {
    /// These places.
    pub fn new(pointers: Vec<Arc<str>>, headers: Vec<Arc<str>>) -> Self {
        let wanted = (!pointers.is_empty()).then(|| usage::wanted(&pointers));
        Self { pointers, headers, wanted }
    }

    /// Everything an answer is searched for.
    pub(crate) fn wanted(&self) -> Arc<[Path]> {
        self.wanted.clone().unwrap_or_else(|| usage::wanted(&self.pointers))
    }

    /// The amounts that an answer's headers hold.
    pub fn of_headers(&self, headers: &http::HeaderMap) -> Amounts {
        let mut amounts = Amounts::default();
        for name in &self.headers {
            if let Some(amount) = headers.get(&**name).and_then(|value| Amount::parse(value.as_bytes())) {
                amounts.set(name, amount);
            }
        }
        amounts
    }
}

impl PriceBook {
    /// Checks and compiles the specs.
    ///
    /// # Errors
    /// A rate below zero that is no discount, a nameless target or meter, `free` together with rates, an `effective` that is no date,
    /// versions of the same instant, or factors too fine to be exact.
    pub fn new(providers: &BTreeMap<Arc<str>, PriceSpec>, routes: &BTreeMap<Arc<str>, PriceSpec>) -> Result<Self, PriceError> {
        Ok(Self { providers: compile("provider", providers)?, routes: compile("route", routes)?, digest: digest(providers, routes) })
    }

    /// Identifies the prices in the log and in metrics: 16 hexadecimal digits of a SHA-256 over all specs.
    pub fn digest(&self) -> Arc<str> {
        self.digest.clone()
    }

    /// What `call` costs after `volumes` were used in its month.
    ///
    /// The cost is the sum over the spec's meters, exact in 128-bit integers and rounded once, half away from zero.
    /// A meter whose amount is not known (no usage in the answer, no rate for the target) makes the call unpriced;
    /// amounts the spec does not meter are not charged.
    ///
    /// # Errors
    /// Why the price is not known.
    pub fn price(&self, call: &Billable<'_>, volumes: &Volumes) -> Result<Priced, Unpriced> {
        self.schedule((call.route, call.provider), call.at)?.price(call, volumes)
    }

    /// What a plain call of `route` costs before anything is known of its answer: the flat part of the price. `None`
    /// when the price depends on metered amounts or is not known.
    pub fn flat(&self, route: &str, provider: &str, at: Time) -> Option<Money> {
        self.schedule((route, provider), at).ok()?.flat()
    }

    /// What of the price of an answer is charged for the call itself, whatever it brings: flat rates, and at least the minimum. Zero where nothing
    /// is, or no price is known.
    pub fn of_call(&self, route: &str, provider: &str, at: Time) -> Money {
        self.schedule((route, provider), at).map(Schedule::of_call).unwrap_or_default()
    }

    /// Whether a call that failed is billed.
    pub fn bills_errors(&self, route: &str, provider: &str, at: Time) -> bool {
        self.schedule((route, provider), at).is_ok_and(|schedule| schedule.spec.errors_billed)
    }

    /// Where meters of a call look into its answer.
    pub fn reads(&self, route: &str, provider: &str) -> Option<&Arc<Reads>> {
        self.prices(route, provider).map(|prices| &prices.reads)
    }

    /// Whose prices hold for calls of a route: `route:NAME` or `provider:NAME`, as volumes are kept under.
    pub fn owner(&self, route: &str, provider: &str) -> Option<Arc<str>> {
        self.prices(route, provider)?.versions.first().map(|version| version.owner.clone())
    }

    /// The meters of a route's prices, in any of their versions.
    pub(super) fn meters(&self, route: &str, provider: &str) -> Option<&BTreeSet<String>> {
        self.prices(route, provider).map(|prices| &prices.meters)
    }

    /// Whether there is any meter, whose volume of the month is to be known.
    pub fn has_meters(&self) -> bool {
        self.providers.values().chain(self.routes.values()).any(|prices| !prices.meters.is_empty())
    }

    /// Whether calls of this target are charged by the token at that time, so that usage must be known.
    pub fn by_token(&self, (route, provider): (&str, &str), target: &str, at: Time) -> bool {
        self.schedule((route, provider), at).is_ok_and(|schedule| schedule.targets.find(target).is_some_and(super::tokens::has_rates))
    }

    /// What input of a target costs plain, written to the provider's prompt cache, and read from it, as calls of its usual service tier and
    /// length are billed. `None` where that is not known.
    pub fn prompt(&self, (route, provider): (&str, &str), target: &str, at: Time) -> Option<PromptRates> {
        super::tokens::prompt(self.schedule((route, provider), at).ok()?.targets.find(target)?)
    }

    pub(super) fn schedule(&self, (route, provider): (&str, &str), at: Time) -> Result<&Schedule, Unpriced> {
        let prices = self.prices(route, provider).ok_or(Unpriced::NoPrices)?;
        let holds = |version: &&Schedule| version.from.is_none_or(|from| from <= at);
        prices.versions.iter().find(holds).ok_or(Unpriced::NotYetEffective)
    }

    fn prices(&self, route: &str, provider: &str) -> Option<&Prices> {
        self.routes.get(route).or_else(|| self.providers.get(provider))
    }
}

fn compile(kind: &str, specs: &BTreeMap<Arc<str>, PriceSpec>) -> Result<BTreeMap<Arc<str>, Prices>, PriceError> {
    let one = |(name, spec): (&Arc<str>, &PriceSpec)| {
        let owner: Arc<str> = format!("{kind}:{name}").into();
        let prices = versions(&owner, spec).map_err(|what| PriceError { owner: format!("{kind} `{name}`"), what })?;
        Ok((name.clone(), prices))
    };
    specs.iter().map(one).collect()
}

fn versions(owner: &Arc<str>, spec: &PriceSpec) -> Result<Prices, String> {
    let all = || std::iter::once(spec).chain(&spec.versions);
    let mut versions = Vec::new();
    for version in all() {
        check::check(version)?;
        let from = version.effective.as_deref().map(check::from).transpose()?;
        if from.is_none() && !versions.is_empty() {
            return Err("a version without `effective`: say from when it holds".to_owned());
        }
        versions.push(Schedule::new(owner.clone(), from, version)?);
    }
    versions.sort_by_key(|version| std::cmp::Reverse(version.from));
    if let Some(pair) = versions.windows(2).find(|pair| pair[0].from == pair[1].from) {
        return Err(format!(
            "two versions hold from `effective = \"{}\"`: keep one",
            pair[0].spec.effective.as_deref().unwrap_or_default()
        ));
    }
    let meters = all().flat_map(meters).map(|meter| meter.name.clone()).collect();
    Ok(Prices { versions, reads: Arc::new(reads(all())), meters })
}

fn reads<'a>(specs: impl Iterator<Item = &'a PriceSpec>) -> Reads {
    let (mut pointers, mut headers) = (BTreeSet::new(), BTreeSet::new());
    for meter in specs.flat_map(meters) {
        match &meter.source {
            MeterSource::Pointer(pointer) => _ = pointers.insert(Arc::from(pointer.as_str())),
            MeterSource::Header(name) => _ = headers.insert(Arc::from(name.as_str())),
            MeterSource::Call | MeterSource::Bytes => {}
        }
    }
    Reads::new(pointers.into_iter().collect(), headers.into_iter().collect())
}

fn meters(spec: &PriceSpec) -> impl Iterator<Item = &Meter> {
    fn of(rates: &TokenRates) -> impl Iterator<Item = &Meter> {
        rates.meters.iter()
    }
    spec.meters.iter().chain(spec.targets.values().flat_map(of))
}

fn digest(providers: &BTreeMap<Arc<str>, PriceSpec>, routes: &BTreeMap<Arc<str>, PriceSpec>) -> Arc<str> {
    // Sorted maps and fixed field order make the JSON text canonical; it holds strings, whole numbers and flags only.
    let text = serde_json::to_vec(&(providers, routes)).unwrap_or_default();
    let hash = Sha256::digest(&text);
    hex::encode(&hash[..8]).into()
}
