//! What a fixed TTL can reach in a world at most: one for each key, by its true rates of change and of reading.

use farthing_replay::{Event, FixedCurves, Outcome, Recipe, RecipeError, Trace};
use farthing_types::Span;

/// How many times as long as the world itself the one is in which the TTLs are chosen.
const LENGTH: f64 = 10.0;

/// What comes of the test part of `trace` with the TTLs that are cheapest for each key in the long run: chosen in what the world does after the
/// trace, ten times as long, where each key changes and is read at the same rates as before. So nothing of the test part is known beforehand,
/// and all that could be learned of the keys is.
///
/// # Errors
/// When the recipe is wrong.
pub fn best_per_key(recipe: &Recipe, seed: u64, (trace, cut): (&Trace, usize)) -> Result<Outcome, RecipeError> {
    let mut longer = recipe.clone();
    longer.duration_s *= 1.0 + LENGTH;
    let later = longer.generate(seed)?;
    let end = recipe.start() + Span::from_secs_f64(recipe.duration_s);
    let begin = later.events.partition_point(|event| event.at < end);
    let price = recipe.stale_price.nanos() as f64;
    let chosen = {
        let by_key = by_key(recipe, &later);
        FixedCurves::of(&by_key, &by_key.events[begin..]).at_price(price).ttls
    };
    let by_key = by_key(recipe, trace);
    Ok(FixedCurves::of(&by_key, &by_key.events[cut..]).at(&chosen).outcome)
}

/// The same events, each key as a route of its own.
fn by_key(recipe: &Recipe, trace: &Trace) -> Trace {
    let routes = recipe.routes.iter().zip(&trace.routes).flat_map(|(route, facts)| vec![facts.clone(); route.keys as usize]).collect();
    let number = |event: &Event| u16::try_from(event.key).unwrap_or(u16::MAX);
    Trace { routes, events: trace.events.iter().map(|event| Event { route: number(event), ..*event }).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#"
        seed = 1
        start_s = 1767225600
        duration_s = 200000.0
        rate = 0.05
        zipf = 0.3
        stale_price = "0.01"
        [[routes]]
        name = "one"
        keys = 8
        weight = 1.0
        price = "0.002"
        process = { kind = "informative", mean_interval_s = 7200.0, sigma = 2.0, reads_per_change = 3.0, delay_s = 180.0 }
    "#;

    #[test]
    fn the_truth_is_between_one_ttl_for_all_and_hindsight() {
        let recipe: Recipe = toml::from_str(KEYS).unwrap();
        let trace = recipe.generate(3).unwrap();
        let cut = trace.split(0.5);
        let price = recipe.stale_price;
        let cost = |outcome: &Outcome| outcome.total().money_cost(price).as_usd_f64();
        let at_price = |trace: &Trace| cost(&FixedCurves::of(trace, &trace.events[cut..]).at_price(price.nanos() as f64).outcome);
        let (one, hindsight) = (at_price(&trace), at_price(&by_key(&recipe, &trace)));
        let truth = cost(&best_per_key(&recipe, 3, (&trace, cut)).unwrap());
        assert!(hindsight <= truth && truth < one, "{hindsight} {truth} {one}");
    }
}
