//! A shop that is asked by one route.

use std::sync::Arc;

use farthing_config::{Config, Mode, Prices, Provider, Route, TtlBy};
use farthing_types::{Money, Span, Time};

pub const START: Time = Time::from_millis(1_764_201_600_000);
pub const PRICE: Money = Money::from_nanos(1_000_000);

pub fn config() -> Config {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "shop".into(), base_url: "http://shop.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(PRICE));
    let mut route = Route { name: "shop".into(), provider: "shop".into(), mode: Mode::Override, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Span::from_secs(60)), Span::from_secs(10));
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

pub fn changed(mut config: Config, change: impl FnOnce(&mut Route)) -> Config {
    let mut route = (*config.routes[0]).clone();
    change(&mut route);
    config.routes[0] = Arc::new(route);
    config
}
