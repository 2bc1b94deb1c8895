//! Figures of the cache, and purging.

use farthing_admin::{
    CacheControl, CacheStats, ControlError, FleetTold, PurgeReport, PurgeRequest, WarmReport, WarmRequest, WarmedTarget, Warming,
};
use farthing_cache::Purge;
use farthing_proxy::{WarmOrder, WarmRefused};
use farthing_types::Span;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Running;

impl CacheControl for Running {
    fn stats(&self) -> CacheStats {
        let stats = self.proxy.cache_stats();
        CacheStats {
            entries: stats.entries as u64,
            bytes: stats.bytes as u64,
            capacity_bytes: self.proxy.config().cache.l1_bytes,
            flights: stats.flights as u64,
            in_flight_bytes: stats.in_flight_bytes as u64,
            evictions: stats.evicted,
            stored: stats.stored,
        }
    }

    fn purge(&self, request: &PurgeRequest) -> Result<PurgeReport, ControlError> {
        if let Some(route) = request.route.as_deref().filter(|route| self.proxy.config().route(route).is_none()) {
            return Err(ControlError::NotFound(format!("no route is called `{route}`")));
        }
        let mut report = PurgeReport { dry_run: request.dry_run, ..PurgeReport::default() };
        for purge in purges(request)? {
            if request.dry_run {
                report.entries += self.proxy.purge_dry_run(&purge) as u64;
            } else {
                let purged = self.proxy.purge(&purge, request.soft);
                report.entries += purged.entries as u64;
                report.flights += purged.flights as u64;
            }
        }
        if !request.dry_run {
            report.fleet = self.proxy.is_told().map(|told| if told { FleetTold::Told } else { FleetTold::Untold });
        }
        Ok(report)
    }

    fn warm(&self, request: WarmRequest) -> Warming {
        let proxy = self.proxy.clone();
        Box::pin(async move {
            let report = proxy.warm(order(request)?).await.map_err(|refused| match refused {
                WarmRefused::NoRoute(_) => ControlError::NotFound(refused.to_string()),
                WarmRefused::Order(_) => ControlError::Refused(refused.to_string()),
            })?;
            let told = |warmed: farthing_proxy::Warmed| WarmedTarget {
                target: warmed.target,
                outcome: warmed.outcome.as_str().to_owned(),
                cost_usd: warmed.cost,
                rate: warmed.rate,
            };
            Ok(WarmReport {
                warmed: report.warmed.into_iter().map(told).collect(),
                spent_usd: report.spent,
                price_usd: report.price,
                limit_reached: report.limit_reached,
            })
        })
    }
}

/// How long an order may begin calls; it ends after twice as long, within the API's deadline.
const WARMING: Span = Span::from_secs(10);

fn order(request: WarmRequest) -> Result<WarmOrder, ControlError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let own = name.starts_with("x-farthing-") || name == "authorization" || name == "cookie";
        let pair = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::try_from(value.as_str()).ok()).filter(|_| !own);
        let (name, value) = pair.ok_or_else(|| {
            ControlError::Refused(format!("`{name}` cannot be sent: name headers for which answers vary, and no credentials"))
        })?;
        headers.insert(name, value);
    }
    Ok(WarmOrder {
        route: request.route,
        targets: request.targets,
        tenant: request.tenant,
        headers,
        limit: request.limit_usd,
        rate: request.rate,
        unpriced_ok: request.unpriced_ok,
        dry_run: request.dry_run,
        within: WARMING,
    })
}

/// The purges a request names; all are understood before the first is done.
fn purges(request: &PurgeRequest) -> Result<Vec<Purge>, ControlError> {
    if request.all {
        return Ok(vec![Purge::All]);
    }
    let mut purges: Vec<Purge> = request.tags.iter().map(|tag| Purge::Tag(tag.as_str().into())).collect();
    for key in &request.keys {
        let hash = key.parse().map_err(|wanted| ControlError::Refused(format!("`{key}` is not a key's digest: {wanted}")))?;
        purges.push(Purge::Key(hash));
    }
    if request.route.is_some() || request.prefix.is_some() {
        let route = request.route.as_deref().map(Into::into);
        purges.push(Purge::Prefix { route, path: request.prefix.as_deref().unwrap_or_default().into() });
    }
    purges.extend(request.tenant.as_deref().map(|tenant| Purge::Tenant(tenant.into())));
    Ok(purges)
}

#[cfg(test)]
mod tests {
    use farthing_types::KeyHash;

    use super::*;

    #[test]
    fn a_request_names_its_purges() {
        let request = PurgeRequest {
            tags: vec!["a".to_owned()],
            keys: vec!["000000000000000000000000000000ff".to_owned()],
            route: Some("geo".to_owned()),
            prefix: Some("/v1".to_owned()),
            ..PurgeRequest::default()
        };
        let prefix = Purge::Prefix { route: Some("geo".into()), path: "/v1".into() };
        assert_eq!(purges(&request), Ok(vec![Purge::Tag("a".into()), Purge::Key(KeyHash(255)), prefix]));
        assert_eq!(purges(&PurgeRequest { all: true, ..request }), Ok(vec![Purge::All]));
        let bad = PurgeRequest { keys: vec!["ff".to_owned()], ..PurgeRequest::default() };
        assert!(matches!(purges(&bad), Err(ControlError::Refused(_))));
    }
}
