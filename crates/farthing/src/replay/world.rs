//! The scene of a generated world.

use std::path::Path;

use anyhow::Context;
use farthing_config::Config;
use farthing_policy::TtlParams;
use farthing_replay::{Recipe, Trace};

use super::kinds::RouteScene;

/// Reads a recipe and generates its trace.
pub fn generate(path: &Path, seed: Option<u64>) -> anyhow::Result<(Recipe, Trace, u64)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--world {}: cannot be read", path.display()))?;
    let recipe: Recipe = toml::from_str(&text).with_context(|| format!("--world {}: not a recipe (data/README.md)", path.display()))?;
    let seed = seed.unwrap_or(recipe.seed);
    let trace = recipe.generate(seed).with_context(|| format!("--world {}", path.display()))?;
    Ok((recipe, trace, seed))
}

/// The trace's routes as `config` has them under the same names; others have the defaults of a route. A stale answer costs what the
/// configuration says, else what the recipe says.
pub fn routes(trace: &Trace, recipe: Option<&Recipe>, config: Option<&Config>) -> Vec<RouteScene> {
    let of = |name: &str| config.and_then(|config| config.routes.iter().find(|route| &*route.name == name));
    let one = |route: &farthing_replay::TraceRoute| {
        let found = of(&route.name);
        let price_stale = found.and_then(|r| r.price_stale).or(recipe.map(|r| r.stale_price));
        let params = found.map(|r| farthing_proxy::ttl_params(r)).unwrap_or_default();
        let ratio = price_stale.filter(|_| route.price.nanos() > 0).map(|p| p.nanos() as f64 / route.price.nanos() as f64);
        RouteScene { params: TtlParams { stale_price: ratio, ..params }, price_stale }
    };
    trace.routes.iter().map(one).collect()
}
