//! The providers' usage objects, made into disjoint buckets.

use farthing_types::Usage;
use serde::Deserialize;

use super::service::{Extra, Extras, Geo, Speed};

/// The usage object of any of the known shapes; of a stream, what its events have said so far.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawUsage {
    // OpenAI: chat completions, embeddings.
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    // OpenAI: responses. Anthropic: messages.
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
    // Anthropic; beside `input_tokens`, not part of it.
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    server_tool_use: Option<ServerTools>,
    speed: Option<Speed>,
    inference_geo: Option<Geo>,
    iterations: Option<Iterations>,
    total_tokens: Option<u64>,
}

/// What was written to the prompt cache, by how long it is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

/// Samplings beside those that the counts at the top are the sum of: a conversation that was made shorter before it was answered.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(from = "Option<Vec<Iteration>>")]
struct Iterations {
    usage: Usage,
    /// One is of a kind that is not known: another model may have had a part.
    mixed: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Iteration {
    r#type: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

impl From<Option<Vec<Iteration>>> for Iterations {
    fn from(all: Option<Vec<Iteration>>) -> Self {
        let beside = all.iter().flatten().filter(|one| one.r#type.as_deref() != Some("message"));
        beside.fold(Self::default(), |Self { usage, mixed }, one| {
            let (cache_write, cache_write_1h) = writes(one.cache_creation_input_tokens, one.cache_creation);
            let usage = Usage {
                input: both(usage.input, one.input_tokens),
                cached_input: both(usage.cached_input, one.cache_read_input_tokens),
                cache_write: both(usage.cache_write, cache_write),
                cache_write_1h: both(usage.cache_write_1h, cache_write_1h),
                output: both(usage.output, one.output_tokens),
                ..usage
            };
            Self { usage, mixed: mixed || one.r#type.as_deref() != Some("compaction") }
        })
    }
}

/// Tools of the provider's own that are charged beside tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<u64>,
    /// OpenAI: part of the input, as what was read from the cache is.
    cache_write_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

impl RawUsage {
    /// Takes over what a later event says; what it does not mention stays.
    pub(super) fn update(&mut self, later: Self) {
        macro_rules! take {
            ($($field:ident),+) => { $(self.$field = later.$field.or(self.$field);)+ };
        }
        take!(prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details);
        take!(input_tokens, output_tokens, input_tokens_details, output_tokens_details);
        take!(cache_read_input_tokens, cache_creation_input_tokens, cache_creation, server_tool_use, total_tokens);
        take!(speed, inference_geo, iterations);
    }

    /// Disjoint buckets; `None` when the object holds no count.
    pub(super) fn buckets(&self) -> Option<Usage> {
        let (usage, beside) = (self.top()?, self.iterations.unwrap_or_default().usage);
        Some(Usage {
            input: both(usage.input, beside.input),
            cached_input: both(usage.cached_input, beside.cached_input),
            cache_write: both(usage.cache_write, beside.cache_write),
            cache_write_1h: both(usage.cache_write_1h, beside.cache_write_1h),
            output: both(usage.output, beside.output),
            ..usage
        })
    }

    /// Those of the counts at the top.
    fn top(&self) -> Option<Usage> {
        let input = self.prompt_tokens.or(self.input_tokens);
        let output = self.completion_tokens.or(self.output_tokens);
        if input.is_none() && output.is_none() {
            return None;
        }
        let of_input = self.of_input();
        let reasoning = self.of_output().reasoning_tokens;
        let (input, cached_input) = without(input, of_input.cached_tokens);
        let (input, written) = without(input, of_input.cache_write_tokens);
        let (output, reasoning) = if self.reasoning_is_extra(reasoning) { (output, reasoning) } else { without(output, reasoning) };
        let (cache_write, cache_write_1h) = writes(self.cache_creation_input_tokens, self.cache_creation);
        Some(Usage {
            input,
            cached_input: cached_input.or(self.cache_read_input_tokens),
            cache_write: cache_write.or(written),
            cache_write_1h,
            output,
            reasoning,
            units: None,
        })
    }

    fn of_input(&self) -> InputDetails {
        self.prompt_tokens_details.or(self.input_tokens_details).unwrap_or_default()
    }

    fn of_output(&self) -> OutputDetails {
        self.completion_tokens_details.or(self.output_tokens_details).unwrap_or_default()
    }

    /// What makes its tokens cost other than the usual rates, or is charged beside them.
    pub(super) fn extras(&self) -> Extras {
        let some = |tokens: Option<u64>| tokens.is_some_and(|tokens| tokens > 0);
        let (heard, spoken) = (self.of_input().audio_tokens, self.of_output().audio_tokens);
        // A chat counts images that it looks at as it counts text; who has two rates for them tells it here.
        let seen = self.input_tokens_details.and_then(|details| details.image_tokens);
        let searches = self.server_tool_use.and_then(|tools| tools.web_search_requests);
        let named = [self.speed.unwrap_or_default().0, self.inference_geo.unwrap_or_default().0];
        let extras = named.into_iter().flatten().fold(Extras::NONE, |all, extra| all.with(extra, true));
        extras
            .with(Extra::Audio, some(heard) || some(spoken))
            .with(Extra::Image, some(self.of_output().image_tokens))
            .with(Extra::ImageInput, some(seen))
            .with(Extra::Grounded, some(searches))
            .with(Extra::Mixed, self.iterations.unwrap_or_default().mixed)
    }

    /// Whether the provider contradicts itself: the buckets do not sum to its total, or a part is larger than its whole.
    pub(super) fn contradicts(&self) -> bool {
        let usage = self.top().unwrap_or_default();
        let all = [usage.input, usage.cached_input, usage.cache_write, usage.cache_write_1h, usage.output, usage.reasoning];
        let buckets = all.into_iter().flatten().fold(0u64, u64::saturating_add);
        let (InputDetails { cached_tokens, cache_write_tokens, .. }, output_parts) = (self.of_input(), self.of_output().reasoning_tokens);
        let input_parts = [cached_tokens, cache_write_tokens].into_iter().flatten().reduce(u64::saturating_add);
        let larger = |part: Option<u64>, whole: Option<u64>| part.zip(whole).is_some_and(|(part, whole)| part > whole);
        let split = self
            .cache_creation
            .map(|split| split.ephemeral_5m_input_tokens.unwrap_or(0).saturating_add(split.ephemeral_1h_input_tokens.unwrap_or(0)));
        self.total_tokens.is_some_and(|total| total != buckets)
            || larger(input_parts, self.prompt_tokens.or(self.input_tokens))
            || (!self.reasoning_is_extra(output_parts) && larger(output_parts, self.completion_tokens.or(self.output_tokens)))
            || self.cache_creation_input_tokens.zip(split).is_some_and(|(all, split)| all != split)
    }

    /// Some providers of the OpenAI shape report reasoning beside the completion; their total tells.
    fn reasoning_is_extra(&self, reasoning: Option<u64>) -> bool {
        let (Some(prompt), Some(completion), Some(reasoning), Some(total)) =
            (self.prompt_tokens.or(self.input_tokens), self.completion_tokens.or(self.output_tokens), reasoning, self.total_tokens)
        else {
            return false;
        };
        reasoning > 0 && prompt.saturating_add(completion).saturating_add(reasoning) == total
    }
}

/// Writes to the prompt cache: for the usual lifetime, and for an hour.
fn writes(all: Option<u64>, split: Option<CacheCreation>) -> (Option<u64>, Option<u64>) {
    let Some(split) = split else { return (all, None) };
    let hour = split.ephemeral_1h_input_tokens.filter(|hour| *hour > 0);
    match (all, hour) {
        (None, _) => (split.ephemeral_5m_input_tokens, hour),
        (all, None) => (all, None),
        (all, hour) => without(all, hour),
    }
}

/// What is known of two counts together.
fn both(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().reduce(u64::saturating_add)
}

/// Takes `part` out of `whole`. A part larger than its whole is not believed: the whole stands alone.
fn without(whole: Option<u64>, part: Option<u64>) -> (Option<u64>, Option<u64>) {
    match (whole, part) {
        (Some(all), Some(some)) => all.checked_sub(some).map_or((whole, None), |rest| (Some(rest), part)),
        (whole, _) => (whole, None),
    }
}
