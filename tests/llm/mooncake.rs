//! Chats of a real service (Mooncake), with the 512-token blocks of their prompts: what their bill becomes when the strategy acts, on the very path
//! that serves. `FARTHING_DATA` names a folder with `llm_mooncake_conv.parquet`.

use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use farthing_config::{PromptCacheConfig, PromptTtl};
use farthing_sim::prompts::PromptPrices;
use farthing_tests::skip::skip;
use farthing_types::{Money, Span};
use http::StatusCode;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::openai::Chat;
use crate::world::{Counted, START, World, anthropic};

/// Tokens of the trace for one of ours: bodies stay short, proportions stay.
const SCALE: u64 = 16;
const BLOCK: u64 = 512 / SCALE;

struct Row {
    at_ms: i64,
    input: u64,
    output: u64,
    blocks: Vec<i64>,
}

fn trace() -> Option<PathBuf> {
    let path = std::env::var_os("FARTHING_DATA").map(PathBuf::from)?.join("llm_mooncake_conv.parquet");
    path.exists().then_some(path)
}

fn chats(path: &Path) -> Vec<Row> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap().build().unwrap();
    let mut chats = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let numbers = |name: &str| cast(batch.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
        let (at, input, output) = (numbers("ts_ms"), numbers("tokens_in"), numbers("tokens_out"));
        let prefix = batch.column_by_name("prefix").unwrap();
        let lists = cast(prefix, &DataType::new_list(DataType::Int64, true)).unwrap();
        for row in 0..batch.num_rows() {
            let count = |column: &dyn Array| u64::try_from(column.as_primitive::<Int64Type>().value(row)).unwrap();
            let blocks = lists.as_list::<i32>().value(row).as_primitive::<Int64Type>().values().to_vec();
            chats.push(Row { at_ms: at.as_primitive::<Int64Type>().value(row), input: count(&input), output: count(&output), blocks });
        }
    }
    chats
}

impl Row {
    /// The first block is the same in all: the system prompt. Each other is a turn of its own: the trace does not tell where turns end.
    fn body(&self) -> Value {
        let input = self.input.div_ceil(SCALE);
        let last = self.blocks.len().saturating_sub(1) as u64;
        let text = |(place, id): (usize, &i64)| {
            let words = if place as u64 == last { input.saturating_sub(last * BLOCK).clamp(1, BLOCK) } else { BLOCK };
            format!("{id:>3}{}", " wrd".repeat(usize::try_from(words).unwrap() - 1))
        };
        let mut texts = self.blocks.iter().enumerate().map(text);
        let system = texts.next().unwrap_or_default();
        let turns: Vec<Value> = texts.map(|text| json!({"role": "user", "content": text})).collect();
        let output = self.output.div_ceil(SCALE);
        json!({"model": "m", "max_tokens": 4_096, "metadata": {"output": output}, "system": system, "messages": turns})
    }
}

/// Bills of the whole trace and of the last 40 % of its time, provider and ledger agreeing.
async fn play(chats: &[Row], prices: PromptPrices, marks: Option<PromptCacheConfig>) -> (Counted, f64, f64) {
    let world = World::new(prices, marks, |_, _| ());
    let (first, last) = (chats[0].at_ms, chats[chats.len() - 1].at_ms);
    let cut = first + (last - first) * 6 / 10;
    let mut early = None;
    for chat in chats.iter().filter(|chat| chat.blocks.len() > 1) {
        let at = START + Span::from_millis(u64::try_from(chat.at_ms - first).unwrap());
        world.clock.advance(at.since(farthing_types::Clock::now(&*world.clock)));
        if chat.at_ms >= cut && early.is_none() {
            early = Some(world.vendor.take());
        }
        let (status, body) = world.ask("a", &chat.body()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
    }
    let (counted, logged) = world.end().await;
    logged.agrees(&counted);
    let early = early.unwrap();
    let share = |billed: Money, plain: Money| billed.nanos() as f64 / plain.nanos() as f64;
    (counted, share(counted.billed - early.billed, counted.plain - early.plain), share(counted.billed, counted.plain))
}

/// The trace's price rule: kept input at half the price, and nothing for writing.
fn half() -> PromptPrices {
    let rate = |text: &str| text.parse().unwrap();
    PromptPrices {
        input: rate("0.0000025"),
        read: rate("0.00000125"),
        write: rate("0.0000025"),
        write_1h: rate("0.0000025"),
        output: rate("0.00001"),
    }
}

/// The late share of the bill where marks are put in; `least`: tokens of the shortest prefix that is kept.
async fn by_marks(chats: &[Row], (name, prices): (&str, PromptPrices), least: u64) -> f64 {
    let marks = PromptCacheConfig { ttl: PromptTtl::FiveMinutes, min_tokens: u32::try_from(least / SCALE).unwrap() };
    let (counted, late, whole) = play(chats, prices, Some(marks)).await;
    assert_eq!(counted.refused, 0);
    println!("mooncake, {name}, from {least} tokens: bill / base {late:.4} in the last 40 % of the time, {whole:.4} in all; {counted:?}");
    late
}

/// The same where the provider keeps each block of a prompt by itself, at half the price, with Farthing's keys or without.
async fn by_keys(chats: &[Row], keyed: bool, least: u64) -> f64 {
    let keys = keyed.then_some(PromptCacheConfig { min_tokens: u32::try_from(least / SCALE).unwrap(), ..PromptCacheConfig::default() });
    let chat = Chat::new(keys, (BLOCK, least / SCALE));
    let (first, last) = (chats[0].at_ms, chats[chats.len() - 1].at_ms);
    let cut = first + (last - first) * 6 / 10;
    let mut early = None;
    for one in chats {
        let at = START + Span::from_millis(u64::try_from(one.at_ms - first).unwrap());
        chat.clock.advance(at.since(farthing_types::Clock::now(&*chat.clock)));
        if one.at_ms >= cut && early.is_none() {
            early = Some(chat.counted().await);
        }
        let mut body = one.body();
        let system = json!({"role": "system", "content": body["system"].take()});
        body["messages"].as_array_mut().unwrap().insert(0, system);
        chat.ask(&body).await;
    }
    let (counted, early) = (chat.counted().await, early.unwrap());
    let share = (counted.billed - early.billed).nanos() as f64 / (counted.plain - early.plain).nanos() as f64;
    println!("mooncake, kept by the provider itself, keys {keyed}, from {least} tokens: bill / base {share:.4}; {counted:?}");
    share
}

#[tokio::test(start_paused = true)]
async fn mooncakes_bill_is_below_087_where_the_provider_keeps_prompts_itself() {
    let Some(path) = trace() else {
        return skip("optional: the bill of Mooncake's chats: FARTHING_DATA names no folder with llm_mooncake_conv.parquet");
    };
    let share = by_keys(&chats(&path), true, 512).await;
    assert!(share <= 0.87, "{share}");
}

#[tokio::test(start_paused = true)]
async fn mooncakes_bill_falls_where_the_provider_keeps_what_is_marked() {
    let Some(path) = trace() else {
        return skip("optional: the bill of Mooncake's chats with marks: FARTHING_DATA names no folder with llm_mooncake_conv.parquet");
    };
    let share = by_marks(&chats(&path), ("writes 1.25, reads 0.1", anthropic()), 512).await;
    assert!(share <= 0.93, "{share}");
}

#[tokio::test(start_paused = true)]
#[ignore = "five times the trace; `make simulate` runs it"]
async fn mooncakes_bills_under_all_terms() {
    let Some(path) = trace() else {
        return skip("optional: the bills of Mooncake's chats: FARTHING_DATA names no folder with llm_mooncake_conv.parquet");
    };
    let chats = chats(&path);
    let (without, long) = (by_keys(&chats, false, 512).await, by_keys(&chats, true, 1_024).await);
    assert!(without > 0.94 && long <= 0.89, "{without} {long}");
    for (of, least, most) in [
        (("half the price, free writes", half()), 512, 0.88),
        (("half the price, free writes", half()), 1_024, 0.895),
        (("writes 1.25, reads 0.1", anthropic()), 1_024, 0.95),
    ] {
        let share = by_marks(&chats, of, least).await;
        assert!(share <= most, "{} from {least}: {share}", of.0);
    }
}
