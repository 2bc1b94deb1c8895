//! Forgetting tenants.

use farthing_admin::{ForgetControl, ForgetReport, ForgetRunning};
use farthing_types::Span;

use super::Running;

/// How long an answer may take; the work goes on. Within the API's deadline.
const PATIENCE: Span = Span::from_secs(20);

impl ForgetControl for Running {
    fn forget(&self, tenant: String) -> ForgetRunning {
        let proxy = self.proxy.clone();
        Box::pin(async move { told(proxy.forget(&tenant, PATIENCE).await) })
    }
}

/// The report as the API has it.
pub fn told(report: farthing_proxy::forget::ForgetReport) -> ForgetReport {
    ForgetReport {
        finished: report.finished,
        cache_entries: report.cache_entries,
        l2_values: report.l2_values,
        log_rows: report.log_rows.into_iter().map(|(table, rows)| (table.to_owned(), rows)).collect(),
        log_files: report.log_files,
        sink_rows: report.sink_rows,
        key_statistics: report.key_statistics,
        totals: report.totals,
        budget_counters: report.budget_counters,
        left: report.left,
    }
}
