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

#[tokio::test(start_paused = true)]
async fn mooncakes_bill_falls_when_the_strategy_acts() {
    let Some(path) = trace() else {
        return skip("optional: the bill of Mooncake's chats: FARTHING_DATA names no folder with llm_mooncake_conv.parquet");
    };
    let chats = chats(&path);
    let rate = |text: &str| text.parse().unwrap();
    // The trace's price rule: kept input at half the price, and nothing for writing.
    let half = PromptPrices {
        input: rate("0.0000025"),
        read: rate("0.00000125"),
        write: rate("0.0000025"),
        write_1h: rate("0.0000025"),
        output: rate("0.00001"),
    };
    for (name, prices, least, most) in [
        ("half price, free writes, from 512 tokens", half, 512, 0.88),
        ("half price, free writes, from 1024 tokens", half, 1_024, 0.90),
        ("Anthropic's proportions, from 512 tokens", anthropic(), 512, 0.95),
        ("Anthropic's proportions, from 1024 tokens", anthropic(), 1_024, 0.95),
    ] {
        let marks = PromptCacheConfig { ttl: PromptTtl::FiveMinutes, min_tokens: u32::try_from(least / SCALE).unwrap() };
        let (counted, late, whole) = play(&chats, prices, Some(marks)).await;
        println!("mooncake, {name}: bill / base {late:.4} in the last 40 % of the time, {whole:.4} in all; {counted:?}");
        assert!(late <= most && counted.refused == 0, "{name}: {late}");
    }
}

/// The same with a provider that keeps prompts by itself, each block of them, at half the price: with Farthing's keys and without.
#[tokio::test(start_paused = true)]
async fn mooncakes_bill_is_below_087_where_the_provider_keeps_prompts_itself() {
    let Some(path) = trace() else {
        return skip("optional: the bill of Mooncake's chats with keys: FARTHING_DATA names no folder with llm_mooncake_conv.parquet");
    };
    let chats = chats(&path);
    let mut shares = Vec::new();
    for (name, keys, least) in [("with keys", true, 512), ("without", false, 512), ("with keys, from 1024 tokens", true, 1_024)] {
        let keys = keys.then_some(PromptCacheConfig { min_tokens: u32::try_from(least / SCALE).unwrap(), ..PromptCacheConfig::default() });
        let chat = Chat::new(keys, (BLOCK, least / SCALE));
        let (first, last) = (chats[0].at_ms, chats[chats.len() - 1].at_ms);
        let cut = first + (last - first) * 6 / 10;
        let mut early = None;
        for one in &chats {
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
        println!("mooncake, kept by the provider itself, {name}: bill / base {share:.4} in the last 40 % of the time; {counted:?}");
        shares.push(share);
    }
    assert!(shares[0] <= 0.87 && shares[0] < shares[1] && shares[2] <= 0.89, "{shares:?}");
}
