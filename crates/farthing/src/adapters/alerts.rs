//! Alerts about money, and where the month will end.

use farthing_admin::{AlertInfo, AlertsView, MonthForecast};
use farthing_ledger::costs::utc;
use farthing_ledger::watch::Told;
use serde_json::Value;

use super::Running;

impl AlertsView for Running {
    fn alerts(&self) -> Vec<AlertInfo> {
        self.proxy.alerts().list().into_iter().map(info).collect()
    }

    fn month(&self, tenant: Option<&str>) -> Option<MonthForecast> {
        let told = self.proxy.alerts().forecast(tenant)?;
        let [p10_usd, p50_usd, p90_usd] = told.quantiles;
        Some(MonthForecast { month: told.month, so_far_usd: told.so_far, p10_usd, p50_usd, p90_usd, over: told.over })
    }
}

fn info(told: Told) -> AlertInfo {
    let Told { number, alert, delivery } = told;
    AlertInfo {
        id: alert.id.to_string(),
        number,
        kind: alert.kind.as_str().to_owned(),
        at: utc(alert.at),
        subject: alert.subject.to_string(),
        summary: alert.summary.to_string(),
        details: alert.details,
        delivery: serde_json::to_value(delivery).unwrap_or(Value::Null),
    }
}
