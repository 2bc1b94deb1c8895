//! Prices in force, and reading them again.

use std::sync::Arc;

use farthing_admin::{ControlError, MonthlyVolume, PricesControl, PricesReport, UnpricedTarget};
use farthing_proxy::Proxy;

use super::Running;
use super::config::Source;

/// Puts the prices of the configuration in force as it is now on disk, all or nothing.
///
/// # Errors
/// What is wrong; the old prices stay in force.
fn reload(proxy: &Proxy, source: &dyn Source) -> Result<Arc<str>, String> {
    let config = source.read(None).config.inspect_err(|_| proxy.refuse_prices())?;
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
        reload(&self.proxy, self.source()?).map_err(ControlError::Refused)?;
        Ok(self.prices())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use farthing_config::{Config, Flags, Surroundings};
    use farthing_types::RealClock;

    use super::super::config::Read;
    use super::*;

    struct Disk(Arc<AtomicUsize>);
    impl Source for Disk {
        fn read(&self, _instead: Option<&str>) -> Read {
            Read { config: config(DISK[self.0.load(Ordering::Relaxed)]), digest: None }
        }
        fn file(&self) -> Option<String> {
            None
        }
    }

    struct Salted;
    impl Surroundings for Salted {
        fn var(&self, _name: &str) -> Option<String> {
            Some("a salt of some length, for tests".to_owned())
        }
        fn file(&self, _path: &str) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    fn config(prices: &str) -> Result<Config, String> {
        let text = format!(
            "salt = {{ env = \"SALT\" }}\ndata = {{ listen = \"127.0.0.1:0\" }}\nlog = {{ enabled = false }}\nmodels = {{ dir = \"none\" }}\n\
             [providers.geo]\nbase_url = \"http://geo.test\"\n{prices}"
        );
        Config::parse(&text, "f.toml", &Flags::default(), &Salted).map_err(|error| error.to_string())
    }

    /// Prices as they are on disk, one after the other: what was read at the start, better ones, two that cannot be meant.
    const DISK: [&str; 4] = [
        "price = \"0.001\"\n",
        "price = \"0.002\"\n",
        "price = 0.003\n",
        "[[providers.geo.prices.versions]]\neffective = 2027-01-01\nper_call = \"1\"\n[providers.geo.prices]\nper_call = \"1\"\neffective = 2027-01-01\n",
    ];

    #[tokio::test]
    async fn prices_are_reloaded_whole_or_not_at_all() {
        let at = Arc::new(AtomicUsize::new(1));
        let proxy = Proxy::start(Arc::new(config(DISK[0]).unwrap()), Arc::new(RealClock::default())).await.unwrap();
        let running = Running::parts(proxy.clone(), Some(Arc::new(Disk(at.clone()))));
        let first = running.prices.prices().digest;
        let second = running.prices.reload().unwrap().digest;
        assert_ne!(first, second);
        for (bad, says) in [(2, "f.toml:7: providers.geo.price: found 0.003"), (3, "prices of provider `geo`: two versions hold from")] {
            at.store(bad, Ordering::Relaxed);
            let error = running.prices.reload().unwrap_err();
            assert!(matches!(&error, ControlError::Refused(text) if text.contains(says)), "{error}");
            assert_eq!(running.prices.prices().digest, second, "nothing has changed");
        }
        let metrics = running.metrics.text();
        for line in [
            format!("farthing_price_book_info{{digest=\"{second}\"}} 1"),
            "farthing_price_reloads_total{outcome=\"applied\"} 1".to_owned(),
            "farthing_price_reloads_total{outcome=\"refused\"} 2".to_owned(),
        ] {
            assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
        }
        let without = Running::parts(proxy.clone(), None);
        assert!(matches!(without.prices.reload(), Err(ControlError::Unavailable(_))));
        proxy.shutdown().await;
    }
}
