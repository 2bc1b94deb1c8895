//! Several instances over one real Redis.

mod config;
mod events;
mod experiments;
mod link;
mod orders;
mod programs;
mod purges;
mod reload;
mod rounds;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use farthing_config::{FleetConfig, L2Redis};
use farthing_proxy::FleetStats;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::{Clock, RealClock};

use crate::events::until;

/// A fleet through the Redis at an address.
pub fn fleet(url: &str, instance: &str) -> FleetConfig {
    FleetConfig {
        name: "test".into(),
        server: L2Redis { addresses: vec![url.to_owned()], ..L2Redis::default() },
        // A busy machine keeps it.
        deadline: Duration::from_millis(300),
        fill_leases: true,
        bypass_on_partition: true,
        limits_alone: Duration::from_secs(3_600),
        instances: None,
        shared_config: true,
        instance: Some(instance.into()),
    }
}

pub async fn start(origin: &Origin, fleet: FleetConfig, change: impl FnOnce(&mut Setup)) -> Started {
    start_on(origin, fleet, Arc::new(RealClock::default()), change).await
}

async fn start_on(origin: &Origin, fleet: FleetConfig, clock: Arc<dyn Clock>, change: impl FnOnce(&mut Setup)) -> Started {
    let mut setup = Setup::new(origin.addr);
    setup.config.state_dir = PathBuf::new();
    setup.config.fleet = Some(fleet);
    change(&mut setup);
    setup.start_on(clock).await
}

fn stats(proxy: &Started) -> FleetStats {
    proxy.proxy.fleet_stats().unwrap()
}

/// Waits until an instance hears the others.
async fn heard(proxy: &Started) {
    until("the fleet is heard", || !stats(proxy).silent).await;
}

/// The problem of the part `fleet`.
fn problem(proxy: &Started) -> Option<String> {
    proxy.proxy.parts().into_iter().find(|part| part.name == "fleet").unwrap().problem
}
