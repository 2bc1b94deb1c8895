//! Gemini's usage object (`usageMetadata`), made into disjoint buckets.
//!
//! Its total is prompt + tool use + candidates + thoughts; the prompt includes what was read from a cache. Each event of a stream tells the sum so far.

use farthing_types::Usage;
use serde::Deserialize;

use super::service::{Extra, Extras};

/// What one answer, or the last event of a stream, says.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GeminiUsage {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    total_token_count: Option<u64>,
    prompt_tokens_details: Modalities,
    candidates_tokens_details: Modalities,
}

/// Tokens of sound and of images, where these cost another rate than all else.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(from = "Option<Vec<Modality>>")]
struct Modalities {
    audio: u64,
    image: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Modality {
    modality: String,
    token_count: u64,
}

impl From<Option<Vec<Modality>>> for Modalities {
    fn from(all: Option<Vec<Modality>>) -> Self {
        let of = |modality: &str| {
            let counts = all.iter().flatten().filter(|one| one.modality == modality).map(|one| one.token_count);
            counts.fold(0, u64::saturating_add)
        };
        Self { audio: of("AUDIO"), image: of("IMAGE") }
    }
}

impl GeminiUsage {
    /// Takes over what a later event says; what it does not mention stays.
    pub(super) fn update(&mut self, later: Self) {
        macro_rules! take {
            ($($field:ident),+) => { $(self.$field = later.$field.or(self.$field);)+ };
        }
        take!(prompt_token_count, cached_content_token_count, tool_use_prompt_token_count);
        take!(candidates_token_count, thoughts_token_count, total_token_count);
        let most = |now: &mut Modalities, later: Modalities| {
            *now = Modalities { audio: now.audio.max(later.audio), image: now.image.max(later.image) };
        };
        most(&mut self.prompt_tokens_details, later.prompt_tokens_details);
        most(&mut self.candidates_tokens_details, later.candidates_tokens_details);
    }

    /// Disjoint buckets; `None` when the object holds no count.
    pub(super) fn buckets(&self) -> Option<Usage> {
        let prompt = self.prompt_token_count.or(self.tool_use_prompt_token_count.map(|_| 0));
        if prompt.is_none() && self.candidates_token_count.is_none() {
            return None;
        }
        // More in the cache than in the prompt is not believed: the prompt stands alone.
        let cached = self.cached_content_token_count.filter(|cached| prompt.is_some_and(|prompt| *cached <= prompt));
        let tools = self.tool_use_prompt_token_count.unwrap_or(0);
        Some(Usage {
            input: prompt.map(|prompt| (prompt - cached.unwrap_or(0)).saturating_add(tools)),
            cached_input: cached,
            output: self.candidates_token_count,
            reasoning: self.thoughts_token_count,
            ..Usage::default()
        })
    }

    /// Whether the provider contradicts itself: the buckets do not sum to its total, or a part is larger than its whole.
    pub(super) fn contradicts(&self, usage: &Usage) -> bool {
        let all = [usage.input, usage.cached_input, usage.output, usage.reasoning];
        let sum = all.into_iter().flatten().fold(0u64, u64::saturating_add);
        self.total_token_count.is_some_and(|total| total != sum)
            || self.cached_content_token_count.is_some_and(|cached| usage.cached_input.is_none() && cached > 0)
    }

    /// What makes its tokens cost other than the usual rates. Images that are looked at cost what text does.
    pub(super) const fn extras(&self) -> Extras {
        let audio = self.prompt_tokens_details.audio > 0 || self.candidates_tokens_details.audio > 0;
        Extras::NONE.with(Extra::Audio, audio).with(Extra::Image, self.candidates_tokens_details.image > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> GeminiUsage {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_prompt_includes_the_cache_and_the_total_includes_tools_and_thoughts() {
        let raw = read(
            r#"{"promptTokenCount":100,"cachedContentTokenCount":60,"toolUsePromptTokenCount":7,"candidatesTokenCount":20,"thoughtsTokenCount":30,"totalTokenCount":157}"#,
        );
        let usage = raw.buckets().unwrap();
        assert_eq!((usage.input, usage.cached_input, usage.output, usage.reasoning), (Some(47), Some(60), Some(20), Some(30)));
        assert!(!raw.contradicts(&usage) && raw.extras() == Extras::NONE);
    }

    #[test]
    fn contradictions_are_seen() {
        for text in [
            r#"{"promptTokenCount":10,"candidatesTokenCount":5,"totalTokenCount":16}"#,
            r#"{"promptTokenCount":10,"cachedContentTokenCount":11,"candidatesTokenCount":5}"#,
        ] {
            let raw = read(text);
            let usage = raw.buckets().unwrap();
            assert_eq!(usage.input, Some(10), "{text}");
            assert!(raw.contradicts(&usage), "{text}");
        }
        assert!(read(r#"{"totalTokenCount":3,"promptTokensDetails":null}"#).buckets().is_none());
    }

    #[test]
    fn sound_is_heard_and_images_that_are_made_are_seen() {
        let extras = |text: &str| read(text).extras();
        let (audio, image) = (Extras::NONE.with(Extra::Audio, true), Extras::NONE.with(Extra::Image, true));
        assert_eq!(extras(r#"{"promptTokensDetails":[{"modality":"TEXT","tokenCount":1},{"modality":"AUDIO","tokenCount":2}]}"#), audio);
        assert_eq!(extras(r#"{"candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":2}]}"#), audio);
        assert_eq!(extras(r#"{"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1290}]}"#), image);
        let looked = r#"{"promptTokensDetails":[{"modality":"AUDIO"},{"modality":"IMAGE","tokenCount":258}]}"#;
        assert_eq!(extras(looked), Extras::NONE);
    }
}
