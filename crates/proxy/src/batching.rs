//! Batchers of a route, from its configuration, and what is told of them.

use std::sync::Arc;

use farthing_config::{BatchConfig, BatchFormat as Configured, BatchWindow, IdListConfig, Route};
use farthing_policy::batch::{BatchRule, Window};
use farthing_types::RouteName;
use farthing_upstream::{
    BatchFormat, BatchSpec, BatchStats, Batcher, Embeddings, GraphqlArray, GraphqlMerge, IdList, Origin, Rest, Upstream,
};
use http::Uri;

use crate::StartError;
use crate::items::ListStats;

/// What stands in front of a route's upstreams where calls are made together.
pub struct Batching {
    pass: Arc<Batcher>,
    swap: Option<Arc<Batcher>>,
    /// What both of them did.
    pub stats: Arc<BatchStats>,
    /// What became of requests that carry lists; `None` where they go whole.
    pub lists: Option<Arc<ListStats>>,
}

/// What a route's batches did.
#[derive(Clone)]
pub struct BatchReport {
    /// The route.
    pub route: RouteName,
    /// The counts.
    pub stats: Arc<BatchStats>,
    /// Those of requests that carry lists, where they are split.
    pub lists: Option<Arc<ListStats>>,
}

impl Batching {
    /// Those of a route; `None` where calls are not made together. They count on where those `before` ended.
    ///
    /// # Errors
    /// A configuration that was not checked.
    pub fn of(
        route: &Route,
        (pass, swap): (&Arc<Upstream>, Option<&Arc<Upstream>>),
        before: Option<&Self>,
    ) -> Result<Option<Self>, StartError> {
        let Some(config) = &route.batch else { return Ok(None) };
        let stats = before.map_or_else(Arc::default, |before| before.stats.clone());
        let format = format(&config.format).ok_or_else(|| StartError::Batch { route: route.name.clone() })?;
        let spec = BatchSpec { format, rule: rule(config), max_answer: config.max_answer };
        let in_front = |upstream: &Arc<Upstream>| Arc::new(Batcher::new(upstream.ways(config.timeout), spec.clone(), stats.clone()));
        let lists = config.split.then(|| before.and_then(|before| before.lists.clone()).unwrap_or_default());
        Ok(Some(Self { pass: in_front(pass), swap: swap.map(in_front), stats, lists }))
    }

    /// Who answers calls, see [`crate::route::RouteState::origin`].
    pub fn origin(&self, swap: bool) -> Arc<dyn Origin> {
        self.batcher(swap).clone()
    }

    /// The same, for calls that know of each other.
    pub fn batcher(&self, swap: bool) -> &Arc<Batcher> {
        self.swap.as_ref().filter(|_| swap).unwrap_or(&self.pass)
    }
}

/// When its batches are sent.
pub fn rule(config: &BatchConfig) -> BatchRule {
    BatchRule {
        window: match config.window {
            BatchWindow::Auto => Window::Auto,
            BatchWindow::Learned => Window::Learned,
            BatchWindow::Fixed(window) => Window::Fixed(window),
        },
        max_size: config.max_size,
        max_bytes: config.max_bytes,
        min_rate: config.min_rate,
    }
}

fn format(configured: &Configured) -> Option<Arc<dyn BatchFormat>> {
    Some(match configured {
        Configured::Rest { path } => Arc::new(Rest { target: path.parse::<Uri>().ok()? }),
        Configured::IdList(ids) => Arc::new(id_list(ids)),
        Configured::Embeddings => Arc::new(Embeddings),
        Configured::GraphqlArray => Arc::new(GraphqlArray),
        Configured::GraphqlMerge => Arc::new(GraphqlMerge),
    })
}

fn id_list(ids: &IdListConfig) -> IdList {
    let owned = |(before, after): &(Arc<str>, Arc<str>)| (before.to_string(), after.to_string());
    IdList {
        single: owned(&ids.single),
        list: owned(&ids.list),
        separator: ids.separator.to_string(),
        items: ids.items.to_string(),
        id: ids.id.to_string(),
        missing: ids.missing.as_bytes().to_vec().into(),
        answer: owned(&ids.answer),
    }
}
