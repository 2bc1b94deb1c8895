//! Handles on real servers.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use farthing_fleet::{Handle, RedisConfig};
use tokio_util::task::TaskTracker;

/// A deadline that a busy machine keeps.
pub const SOON: Duration = Duration::from_secs(2);

/// A handle that has connected.
pub async fn connected(config: RedisConfig) -> Handle {
    let handle = Handle::start(&config, &TaskTracker::new()).unwrap();
    until("connected", || handle.is_available(b"")).await;
    handle
}

/// For tests of anything but deadlines.
pub fn patient(config: RedisConfig) -> RedisConfig {
    RedisConfig { deadline: SOON, ..config }
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), patience).await.is_ok(), "{what}: not within thirty seconds");
}
