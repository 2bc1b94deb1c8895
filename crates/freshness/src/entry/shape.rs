//! What many entries have in common: kept once for all of them.

use std::sync::Arc;

use farthing_types::{By, RouteName, Tenant};
use http::HeaderName;

use super::Entry;

/// Whose an entry is, by which fields it was selected, and who chose its TTLs: words, of which a deployment has few combinations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The tenant who owns the answer; empty on shared routes.
    pub tenant: Tenant,
    /// The route.
    pub route: RouteName,
    /// The fields by which it was selected, when the answer had a `Vary`.
    pub selected_by: Option<Arc<[HeaderName]>>,
    /// The variants that have a TTL of their own, and who decided it, in the entry's order.
    pub variants: Box<[(Arc<str>, By)]>,
}

impl Shape {
    /// The shape of an entry.
    pub fn of(entry: &Entry) -> Self {
        Self {
            tenant: Arc::clone(&entry.subject.tenant),
            route: Arc::clone(&entry.subject.route),
            selected_by: entry.selected.as_ref().map(|selected| Arc::clone(&selected.names)),
            variants: entry.variants.iter().map(|v| (Arc::clone(&v.variant), v.by.clone())).collect(),
        }
    }

    /// Bytes that it and its words occupy.
    pub fn bytes(&self) -> usize {
        let by = |by: &By| if let By::Override(who) = by { who.len() + 16 } else { 0 };
        let variants = self.variants.iter().map(|(name, decided)| size_of::<(Arc<str>, By)>() + name.len() + 16 + by(decided));
        let names = self.selected_by.iter().flat_map(|names| names.iter()).map(|name| size_of::<HeaderName>() + name.as_str().len());
        size_of::<Self>() + 16 + self.tenant.len() + self.route.len() + variants.sum::<usize>() + names.sum::<usize>()
    }
}
