//! Prices in force, and reading them again.

use std::sync::Arc;

use farthing_admin::{ControlError, MonthlyVolume, PricesControl, PricesReport, UnpricedTarget};
use farthing_config::Config;
use farthing_proxy::Proxy;

use super::Running;

/// Reads the configuration again as it was read at the start; the error tells everything that is wrong.
pub type Reread = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Puts the prices of the configuration in force as it is now on disk, all or nothing.
///
/// # Errors
/// What is wrong; the old prices stay in force.
pub fn reload(proxy: &Proxy, reread: &Reread) -> Result<Arc<str>, String> {
    let config = reread().inspect_err(|_| proxy.refuse_prices())?;
    proxy.reload_prices(&config).map_err(|error| error.to_string())
}

impl PricesControl for Running {
    fn prices(&self) -> PricesReport {
        let stats = self.proxy.pricing_stats();
        let unpriced = stats.unpriced.iter().map(|(provider, target, reason, attempts)| UnpricedTarget {
            provider: provider.to_string(),
            target: target.to_string(),
            reason: reason.to_string(),
            remedy: reason.remedy().to_owned(),
            attempts: *attempts,
        });
        let volumes = stats.volumes.iter().map(|(owner, meter, month, amount)| MonthlyVolume {
            owner: owner.to_string(),
            meter: meter.to_string(),
            month: month.clone(),
            amount: *amount,
        });
        PricesReport {
            digest: self.proxy.price_digest().to_string(),
            unpriced: unpriced.collect(),
            volumes: volumes.collect(),
            estimated: stats.estimated,
            contradictory: stats.contradictory,
        }
    }

    fn reload(&self) -> Result<PricesReport, ControlError> {
        let reread = self.reread.as_ref().ok_or_else(|| ControlError::Unavailable("there is no configuration to read again".to_owned()))?;
        reload(&self.proxy, reread).map_err(ControlError::Refused)?;
        Ok(self.prices())
    }
}
