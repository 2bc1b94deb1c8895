//! Charges in the columns of the FinOps Open Cost and Usage Specification (FOCUS) 1.0: one row for what one tenant's calls to one target of one
//! provider have cost in a day.
//!
//! Unpriced calls have no row, because their cost is not known and a row must have one; they are counted in the manifest.

use std::collections::BTreeMap;
use std::io::{self, Write};

use farthing_contract::log::Value;
use farthing_types::{Money, Time, civil, day_number};

use super::export::csv_line;
use crate::costs::utc;

/// Most bytes of charges that are held at once; beyond it the time is to be divided.
const MOST: usize = 512 << 20;
/// Bytes of one beside its texts: itself, its sums, and its part of the tree's nodes, which are half full at the worst.
const CHARGE: usize = 2 * (size_of::<Charge>() + size_of::<Sums>());

/// A column, and what a row has in it.
type Column = (&'static str, fn(&Line<'_>) -> Option<String>);

/// The columns, in the order of the specification; those with `x_` are ours, as it asks.
///
/// What one call costs is made of many prices (of tokens, tiers, quotas), so that no unit price is told; the contracted, listed and effective
/// costs are the billed one, by the prices in force.
const COLUMNS: [Column; 53] = [
    ("AvailabilityZone", |_| None),
    ("BilledCost", |line| Some(line.cost())),
    ("BillingAccountId", |line| Some(line.charge.provider.clone())),
    ("BillingAccountName", |_| None),
    ("BillingCurrency", |_| Some("USD".to_owned())),
    ("BillingPeriodEnd", |line| Some(line.month(1))),
    ("BillingPeriodStart", |line| Some(line.month(0))),
    ("ChargeCategory", |_| Some("Usage".to_owned())),
    ("ChargeClass", |_| None),
    ("ChargeDescription", |line| Some(format!("{} calls to {} of {}", line.charge.purpose, line.sku(), line.charge.provider))),
    ("ChargeFrequency", |_| Some("Usage-Based".to_owned())),
    ("ChargePeriodEnd", |line| Some(day(line.charge.day + 1))),
    ("ChargePeriodStart", |line| Some(day(line.charge.day))),
    ("CommitmentDiscountCategory", |_| None),
    ("CommitmentDiscountId", |_| None),
    ("CommitmentDiscountName", |_| None),
    ("CommitmentDiscountStatus", |_| None),
    ("CommitmentDiscountType", |_| None),
    ("ConsumedQuantity", |line| Some(line.sums.calls.to_string())),
    ("ConsumedUnit", |_| Some("Calls".to_owned())),
    ("ContractedCost", |line| Some(line.cost())),
    ("ContractedUnitPrice", |_| None),
    ("EffectiveCost", |line| Some(line.cost())),
    ("InvoiceIssuerName", |line| Some(line.charge.provider.clone())),
    ("ListCost", |line| Some(line.cost())),
    ("ListUnitPrice", |_| None),
    ("PricingCategory", |_| Some("Standard".to_owned())),
    ("PricingQuantity", |line| Some(line.sums.calls.to_string())),
    ("PricingUnit", |_| Some("Calls".to_owned())),
    ("ProviderName", |line| Some(line.charge.provider.clone())),
    ("PublisherName", |line| Some(line.charge.provider.clone())),
    ("RegionId", |_| None),
    ("RegionName", |_| None),
    ("ResourceId", |_| None),
    ("ResourceName", |_| None),
    ("ResourceType", |_| None),
    ("ServiceCategory", |line| Some(line.category().to_owned())),
    ("ServiceName", |line| Some(line.charge.route.clone())),
    ("SkuId", |line| Some(line.sku().to_owned())),
    ("SkuPriceId", |line| Some(format!("{}/{}", line.charge.price_book.as_ref()?, line.sku()))),
    ("SubAccountId", |line| Some(line.charge.tenant.clone())),
    ("SubAccountName", |line| Some(line.charge.tenant.clone())),
    ("Tags", |line| line.tags()),
    ("x_Route", |line| Some(line.charge.route.clone())),
    ("x_Purpose", |line| Some(line.charge.purpose.clone())),
    ("x_ServiceTier", |line| line.charge.tier.clone()),
    ("x_TokensInput", |line| line.tokens(0)),
    ("x_TokensCachedInput", |line| line.tokens(1)),
    ("x_TokensCacheWrite", |line| line.tokens(2)),
    ("x_TokensOutput", |line| line.tokens(3)),
    ("x_TokensReasoning", |line| line.tokens(4)),
    ("x_FirstCallNs", |line| Some(line.sums.first_ns.to_string())),
    ("x_LastCallNs", |line| Some(line.sums.last_ns.to_string())),
];

/// What is read of a call, in this order.
pub(super) const READ: [&str; 21] = [
    "ts_ns",
    "provider",
    "target",
    "route",
    "tenant",
    "team",
    "service",
    "tags",
    "purpose",
    "service_tier",
    "price_book",
    "cost_nanousd",
    "tokens_input",
    "tokens_cached_input",
    "tokens_cache_write",
    "tokens_cache_write_1h",
    "tokens_output",
    "tokens_reasoning",
    "sent",
    "call_id",
    "batch_id",
];

/// Bytes that the allocator takes for a text beside it.
const ALLOCATED: usize = 16;
/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400_000_000_000;

/// What the calls of a row have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Charge {
    day: i64,
    provider: String,
    target: Option<String>,
    route: String,
    tenant: String,
    team: Option<String>,
    service: Option<String>,
    tags: Option<String>,
    purpose: String,
    tier: Option<String>,
    price_book: Option<String>,
}

/// Their sums.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    calls: u64,
    cost: i64,
    /// Input, cached, written, output, reasoning; `None` where no call has reported any.
    tokens: [Option<i64>; 5],
    first_ns: i64,
    last_ns: i64,
}

/// Charges of the calls that were read so far.
#[derive(Debug)]
pub(super) struct Focus {
    charges: BTreeMap<Charge, Sums>,
    /// Bytes of them, and the most of these.
    bytes: (usize, usize),
    /// Calls without a price, each member of a batch for itself.
    pub(super) unpriced: u64,
}

impl Default for Focus {
    fn default() -> Self {
        Self { charges: BTreeMap::new(), bytes: (0, MOST), unpriced: 0 }
    }
}

impl Charge {
    /// Bytes that it takes while it is held.
    fn bytes(&self) -> usize {
        let optional = [&self.target, &self.team, &self.service, &self.tags, &self.tier, &self.price_book];
        let texts = [&self.provider, &self.route, &self.tenant, &self.purpose].into_iter().chain(optional.into_iter().flatten());
        CHARGE + texts.map(|text| text.capacity() + ALLOCATED).sum::<usize>()
    }
}

impl Focus {
    /// Adds a call, of the columns [`READ`].
    ///
    /// # Errors
    /// There are more charges than are held at once.
    pub(super) fn add(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        let cell = |place: usize| values.get(place).unwrap_or(&Value::Null);
        let text = |place: usize| if let Value::Text(text) = cell(place) { Some((*text).to_owned()) } else { None };
        let number = |place: usize| if let Value::I64(number) = cell(place) { Some(*number) } else { None };
        // What was not sent is no charge.
        if let Value::Bool(false) = cell(18) {
            return Ok(());
        }
        let Some(cost) = number(11) else {
            self.unpriced += 1;
            return Ok(());
        };
        let at = number(0).unwrap_or_default();
        let charge = Charge {
            day: at.div_euclid(DAY_NS),
            provider: text(1).unwrap_or_default(),
            target: text(2),
            route: text(3).unwrap_or_default(),
            tenant: text(4).unwrap_or_default(),
            team: text(5),
            service: text(6),
            tags: text(7),
            purpose: text(8).unwrap_or_default(),
            tier: text(9),
            price_book: text(10),
        };
        if !self.charges.contains_key(&charge) {
            let (held, most) = self.bytes;
            self.bytes.0 = held + charge.bytes();
            if self.bytes.0 > most {
                let charges = self.charges.len();
                let told =
                    format!("{charges} charges take {} MiB and there are more: export a shorter time (--since, --until)", most >> 20);
                return Err(io::Error::other(told));
            }
        }
        let written = [number(14), number(15)].into_iter().flatten().reduce(i64::saturating_add);
        let sums = self.charges.entry(charge).or_insert(Sums { first_ns: at, last_ns: at, ..Sums::default() });
        // A call that was made for several has a row for each: the first stands for it.
        sums.calls += u64::from(matches!(cell(20), Value::Null) || cell(20) == cell(19));
        sums.cost = sums.cost.saturating_add(cost);
        for (sum, tokens) in sums.tokens.iter_mut().zip([number(12), number(13), written, number(16), number(17)]) {
            *sum = [*sum, tokens].into_iter().flatten().reduce(i64::saturating_add);
        }
        (sums.first_ns, sums.last_ns) = (sums.first_ns.min(at), sums.last_ns.max(at));
        Ok(())
    }

    /// Rows, and the times of the first and of the last call in them.
    pub(super) fn span(&self) -> (u64, Option<i64>, Option<i64>) {
        let first = self.charges.values().map(|sums| sums.first_ns).min();
        (self.charges.len() as u64, first, self.charges.values().map(|sums| sums.last_ns).max())
    }

    /// Writes the head line and the rows, in the order of day, provider, target and so on.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", COLUMNS.map(|(name, _)| name).join(","))?;
        self.charges.iter().try_for_each(|(charge, sums)| Line { charge, sums }.write(out))
    }
}

/// A row.
struct Line<'a> {
    charge: &'a Charge,
    sums: &'a Sums,
}

impl Line<'_> {
    fn cost(&self) -> String {
        Money::from_nanos(self.sums.cost).to_string()
    }

    fn sku(&self) -> &str {
        self.charge.target.as_deref().unwrap_or(&self.charge.route)
    }

    /// Begin of the month of the day, or of a later one.
    fn month(&self, later: i64) -> String {
        let (year, month, _) = civil(self.charge.day);
        let months = year * 12 + month - 1 + later;
        day(day_number(months.div_euclid(12), months.rem_euclid(12) + 1, 1))
    }

    fn category(&self) -> &'static str {
        if self.sums.tokens.iter().any(Option::is_some) { "AI and Machine Learning" } else { "Other" }
    }

    fn tokens(&self, which: usize) -> Option<String> {
        self.sums.tokens.get(which).copied().flatten().map(|tokens| tokens.to_string())
    }

    /// Team, service, and the tags that the request had, as a JSON object; `None` where there are none.
    fn tags(&self) -> Option<String> {
        let given = self.charge.tags.iter().flat_map(|tags| tags.split(',')).filter_map(|tag| tag.split_once('='));
        let ours = [("farthing:team", &self.charge.team), ("farthing:service", &self.charge.service)];
        let ours = ours.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let all: BTreeMap<&str, &str> = given.chain(ours).collect();
        if all.is_empty() { None } else { serde_json::to_string(&all).ok() }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let cells = COLUMNS.map(|(_, cell)| cell(self));
        let values: Vec<Value<'_>> = cells.iter().map(|cell| cell.as_deref().map_or(Value::Null, Value::Text)).collect();
        csv_line(out, &values)
    }
}

/// Its begin.
fn day(day: i64) -> String {
    utc(Time::from_nanos(day.saturating_mul(DAY_NS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few clients with long tags are many bytes in few rows.
    #[test]
    fn charges_are_bounded_in_bytes() {
        let mut focus = Focus { bytes: (0, 1 << 20), ..Focus::default() };
        let tags: Vec<String> = (0..400).map(|n| format!("n={n},text={}", "t".repeat(4_000))).collect();
        let mut add = |tags: &str| {
            let mut call = [const { Value::Null }; READ.len()];
            (call[0], call[4], call[7], call[11]) = (Value::I64(1), Value::Text("t"), Value::Text(tags), Value::I64(5));
            focus.add(&call)
        };
        let refused = tags.iter().position(|tags| add(tags).is_err()).unwrap();
        assert!((200..=260).contains(&refused), "{refused}");
        assert!(add(&tags[0]).is_ok(), "what has a charge adds to it");
        assert!(add("").unwrap_err().to_string().contains("--since"));
    }
}
