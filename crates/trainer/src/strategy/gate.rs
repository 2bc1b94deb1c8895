//! Evidence for kind `strategy`: the held-out time under the candidate, the present champion and the rules. Costs hold staleness and waiting at
//! their prices, so nothing is exchanged on top.

use farthing_replay::Trace;
use farthing_replay::strategies::{Model, Run};
use farthing_types::Money;

use super::judge::played;
use super::learn::Learned;
use crate::gate::{Amount, Block, Champion, Evidence, Judgement, Opponent, Rival, Setting, Size, judge};
use crate::learn::Examples;

/// Judges what was learned from the events before number `at.1` by what it and the rules made of the others.
pub fn judgement(
    at: (&Trace, usize),
    model: &Model,
    learned: &Learned,
    (ours, rule): (&Run, &Run),
    (champion, seed): (Result<&Champion, &str>, u64),
) -> Judgement {
    let rival = |opponent, setting: &str, run: &Run| Rival { opponent, setting: setting.to_owned(), amounts: amounts(run, model) };
    let mut rivals = vec![rival(Opponent::Rules, "rules", rule)];
    if let Ok(champion) = champion {
        rivals.push(rival(Opponent::Champion, &champion.name, &played(at, model, &champion.levels)));
    }
    let rows = learned.rows.len().max(1);
    let evidence = Evidence {
        routes: at.0.routes.iter().map(|r| r.name.clone()).collect(),
        blocks: blocks(ours, model),
        ours: amounts(ours, model),
        rivals,
        no_champion: champion.err().unwrap_or_default().to_owned(),
        size: Size::of(&learned.model, |n, row| row.copy_from_slice(learned.rows.row(n % rows))),
        ..Evidence::default()
    };
    judge(&evidence, &Setting { seed, ..Setting::default() })
}

/// Blocks of time and route in the order of [`amounts`]; all runs have the same, for the requests are the same.
fn blocks(run: &Run, model: &Model) -> Vec<Block> {
    run.costs(model).map(|(block, route, _)| Block { key: block as u64, route: route as u32, day: 0 }).collect()
}

fn amounts(run: &Run, model: &Model) -> Vec<Amount> {
    let of = |(block, route, nanos): (usize, usize, i64)| Amount {
        requests: run.blocks[block][route].requests,
        money: Money::from_nanos(nanos),
        stale: 0,
    };
    run.costs(model).map(of).collect()
}
