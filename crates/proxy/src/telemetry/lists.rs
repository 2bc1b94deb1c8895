//! Figures of requests that carry lists.

use farthing_policy::batch::Whole;

use super::Family;
use crate::batching::BatchReport;
use crate::items::Source;

/// Families of the routes that split lists; of the others there is nothing to tell.
pub fn families(reports: &[BatchReport]) -> Vec<Family<'_>> {
    let mut answered = Family::counter("lists", "Requests with lists that were answered item by item");
    let mut items = Family::counter("list_items", "Items of these lists, by where they came from");
    let mut whole = Family::counter("list_whole", "Requests with lists that went whole although their route splits them, by reason");
    for (route, stats) in reports.iter().filter_map(|report| Some((&*report.route, report.lists.as_ref()?))) {
        answered.add(vec![("route", route)], stats.lists() as f64);
        for source in Source::ALL {
            items.add(vec![("route", route), ("source", source.as_str())], stats.items(*source) as f64);
        }
        for reason in Whole::ALL {
            whole.add(vec![("route", route), ("reason", reason.as_str())], stats.went_whole(*reason) as f64);
        }
    }
    vec![answered, items, whole]
}
