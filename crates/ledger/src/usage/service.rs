//! What stands for the service tier of a call: the tier, and whatever else makes its tokens cost other rates, joined by `+`: `priority`, `audio`,
//! `batch+us`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

/// Names of the service tier whose rates are the usual ones.
pub(crate) const USUAL: [&str; 4] = ["default", "standard", "auto", "standard_only"];
/// The tier of what came out of the provider's batch endpoint, as prices name it.
pub const BATCH: &str = "batch";

/// Something beside the tier for which tokens cost other rates, or which is charged beside them. None of them is charged as if it were not:
/// the call is unpriced unless the prices have the name that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    /// Anthropic's fast mode.
    Fast,
    /// A speed that is not known.
    Speed,
    /// Bound to the United States.
    Us,
    /// Bound to a region that is not known.
    Geo,
    /// Sound was heard or spoken.
    Audio,
    /// Images were made.
    Image,
    /// Images were looked at, by a model that counts their tokens apart.
    ImageInput,
    /// The provider has searched the web.
    Grounded,
    /// Tools of the provider's own that are charged by the use.
    Tools,
    /// Another model had a part.
    Mixed,
}

impl Extra {
    /// Every value, in the order in which names are joined.
    const ALL: [Self; 10] = [
        Self::Fast,
        Self::Speed,
        Self::Us,
        Self::Geo,
        Self::Audio,
        Self::Image,
        Self::ImageInput,
        Self::Grounded,
        Self::Tools,
        Self::Mixed,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Speed => "speed",
            Self::Us => "us",
            Self::Geo => "geo",
            Self::Audio => "audio",
            Self::Image => "image",
            Self::ImageInput => "image-input",
            Self::Grounded => "grounded",
            Self::Tools => "tools",
            Self::Mixed => "mixed",
        }
    }

    /// Parts of the pointers by which meters of the prices count it.
    const fn counted_at(self) -> &'static [&'static str] {
        match self {
            Self::Audio => &["audio_tokens"],
            Self::Image => &["output_tokens_details/image_tokens", "completion_tokens_details/image_tokens"],
            Self::ImageInput => &["input_tokens_details/image_tokens"],
            Self::Grounded => &["web_search"],
            _ => &[],
        }
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extras(u16);

impl Extras {
    /// None of them.
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn add(&mut self, extra: Extra) {
        self.0 |= 1 << extra as u16;
    }

    #[must_use]
    pub(super) const fn with(mut self, extra: Extra, is: bool) -> Self {
        if is {
            self.add(extra);
        }
        self
    }

    #[must_use]
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, extra: Extra) -> bool {
        self.0 & (1 << extra as u16) != 0
    }

    /// Without what meters at these pointers count.
    #[must_use]
    pub(super) fn but_counted(self, pointers: &[Arc<str>]) -> Self {
        let counted = |extra: &Extra| pointers.iter().any(|pointer| extra.counted_at().iter().any(|part| pointer.contains(part)));
        Extra::ALL.into_iter().filter(|extra| self.has(*extra) && !counted(extra)).fold(Self::NONE, |all, extra| all.with(extra, true))
    }

    /// The tier and these.
    pub(super) fn joined(self, tier: Option<Arc<str>>) -> Option<Arc<str>> {
        if self == Self::NONE {
            return tier;
        }
        let tier = tier.as_deref().filter(|tier| !USUAL.contains(tier)).into_iter();
        let extras = Extra::ALL.iter().filter(|extra| self.has(**extra)).map(|extra| extra.as_str());
        join(tier.chain(extras))
    }
}

fn join<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Arc<str>> {
    let parts: Vec<&str> = parts.collect();
    (!parts.is_empty()).then(|| parts.join("+").into())
}

fn parts(told: Option<&str>) -> impl Iterator<Item = &str> {
    told.into_iter().flat_map(|told| told.split('+'))
}

/// What stands for the tier of an answer out of the provider's batch endpoint, which told this: what the provider bills for its batches it need
/// not say in their answers.
pub fn in_batch(told: Option<&str>) -> Option<Arc<str>> {
    let extras = parts(told).filter(|part| Extra::ALL.iter().any(|extra| extra.as_str() == *part));
    join(std::iter::once(BATCH).chain(extras))
}

/// The same without the batch endpoint.
pub fn directly(told: Option<&str>) -> Option<Arc<str>> {
    join(parts(told).filter(|part| *part != BATCH))
}

/// How fast the provider worked, or is to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Speed(pub(super) Option<Extra>);

impl Speed {
    /// What a request's text asks for.
    pub(super) fn read(text: &[u8]) -> Option<Extra> {
        serde_json::from_slice::<Self>(text).ok()?.0
    }
}

impl Geo {
    /// What a request's text asks for.
    pub(super) fn read(text: &[u8]) -> Option<Extra> {
        serde_json::from_slice::<Self>(text).ok()?.0
    }
}

impl From<Value> for Speed {
    fn from(value: Value) -> Self {
        Self(value.as_str().and_then(|speed| match speed {
            "standard" => None,
            "fast" => Some(Extra::Fast),
            _ => Some(Extra::Speed),
        }))
    }
}

/// Where the provider worked, or is to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Geo(pub(super) Option<Extra>);

impl From<Value> for Geo {
    fn from(value: Value) -> Self {
        Self(value.as_str().and_then(|geo| match geo {
            "global" | "not_available" | "" => None,
            "us" => Some(Extra::Us),
            _ => Some(Extra::Geo),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_extra_has_a_place_and_a_name_of_its_own() {
        for (place, extra) in Extra::ALL.into_iter().enumerate() {
            assert_eq!(extra as usize, place);
            assert_eq!(Extra::ALL.iter().filter(|other| other.as_str() == extra.as_str()).count(), 1);
        }
    }

    #[test]
    fn names_are_joined_in_one_order_and_the_usual_tier_is_none() {
        let extras = Extras::NONE.with(Extra::Us, true).with(Extra::Fast, true).with(Extra::Audio, false);
        for (tier, joined) in [(None, "fast+us"), (Some("standard"), "fast+us"), (Some("priority"), "priority+fast+us")] {
            assert_eq!(extras.joined(tier.map(Into::into)).as_deref(), Some(joined));
        }
        assert_eq!(Extras::NONE.joined(Some("default".into())).as_deref(), Some("default"), "as the provider names it");
    }

    #[test]
    fn a_batch_takes_the_place_of_the_tier_and_leaves_the_rest() {
        for (told, batch, direct) in [
            (None, "batch", None),
            (Some("standard"), "batch", Some("standard")),
            (Some("batch"), "batch", None),
            (Some("grounded"), "batch+grounded", Some("grounded")),
            (Some("batch+us"), "batch+us", Some("us")),
        ] {
            assert_eq!((in_batch(told).as_deref(), directly(told).as_deref()), (Some(batch), direct));
        }
    }
}
