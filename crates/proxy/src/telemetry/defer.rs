//! Figures of calls that could wait.

use super::Family;
use crate::defer::DeferReport;

/// Families of the routes that defer; of the others there is nothing to tell.
pub fn families(reports: &[DeferReport]) -> [Family<'_>; 13] {
    let mut decided = Family::counter("defer_requests", "Requests whose clients said how long they wait, by what was decided");
    let mut ended = Family::counter("defer_calls", "Deferred calls by how far they came and how they ended");
    let mut asked = Family::counter("defer_provider_calls", "What the provider was asked for batches; none of it is billed");
    let mut batches = Family::counter("defer_batches", "Batches that were ordered");
    let mut unsettled = Family::counter("defer_unsettled", "Batches and answers whose bill could not be learned");
    let mut saved = Family::counter("defer_saved", "Saved by calls that were answered out of a batch").usd();
    let mut wasted = Family::counter("defer_wasted", "Paid for answers out of batches that nobody waited for any more").usd();
    let mut waiting = Family::gauge("defer_waiting", "Requests that wait, in queues or for batches");
    let mut bytes = Family::gauge("defer_waiting_bytes", "Bytes of their bodies");
    let mut queued = Family::gauge("defer_queued", "Requests whose batch is not sent yet");
    let mut under_way = Family::gauge("defer_batches_under_way", "Batches at the provider");
    let mut time = Family::gauge("defer_batch_time_seconds", "What the next batch is thought to take, of the slowest target");
    let mut on = Family::gauge("defer_on", "1 where calls are deferred, 0 while that rests because it has cost more than it has saved");
    for report in reports {
        let (stats, route) = (&report.stats, || ("route", &*report.route));
        for (why, count) in &stats.decided {
            decided.add(vec![route(), ("decision", why.as_str())], *count as f64);
        }
        let ends = [
            ("submitted", stats.submitted),
            ("delivered", stats.delivered),
            ("last-moment", stats.last_moment),
            ("unanswered", stats.unanswered),
            ("withdrawn", stats.withdrawn),
            ("wasted", stats.unused),
        ];
        for (what, count) in ends {
            ended.add(vec![route(), ("what", what)], count as f64);
        }
        for (step, well, count) in &stats.asked {
            asked.add(vec![route(), ("what", step.as_str()), ("result", if *well { "ok" } else { "failed" })], *count as f64);
        }
        batches.add(vec![route()], stats.batches as f64);
        unsettled.add(vec![route()], stats.unsettled as f64);
        saved.add(vec![route()], stats.saved.as_usd_f64());
        wasted.add(vec![route()], stats.wasted.as_usd_f64());
        waiting.add(vec![route()], report.waiting as f64);
        bytes.add(vec![route()], report.waiting_bytes as f64);
        queued.add(vec![route()], report.queued as f64);
        under_way.add(vec![route()], report.under_way as f64);
        on.add(vec![route()], f64::from(u8::from(report.on)));
        time.add(vec![route()], report.batch_time.as_secs_f64());
    }
    [decided, ended, asked, batches, unsettled, saved, wasted, waiting, bytes, queued, under_way, time, on]
}
