//! `farthing prices reload` and `farthing prices unpriced`.

use std::process::ExitCode;

use farthing_admin::PricesReport;
use http::Method;

use super::{AdminFlags, ask, print};

/// Has a running proxy read its prices again.
pub fn reload(admin: &AdminFlags) -> anyhow::Result<ExitCode> {
    ask(admin, async |client| {
        let report: PricesReport = client.call(Method::POST, "/api/v1/prices/reload", &serde_json::json!({})).await?;
        print(admin, &report, |report| format!("prices {} are in force\n", report.digest));
        Ok(ExitCode::SUCCESS)
    })
}

/// Shows what a running proxy could not price.
pub fn unpriced(admin: &AdminFlags) -> anyhow::Result<ExitCode> {
    ask(admin, async |client| {
        let report: PricesReport = client.get("/api/v1/prices").await?;
        print(admin, &report, told);
        Ok(ExitCode::SUCCESS)
    })
}

fn told(report: &PricesReport) -> String {
    let mut text = format!("prices {}\n", report.digest);
    if report.unpriced.is_empty() {
        text += "every attempt so far has a price\n";
    } else {
        let rows = report
            .unpriced
            .iter()
            .map(|one| vec![one.provider.clone(), one.target.clone(), one.reason.clone(), one.attempts.to_string(), one.remedy.clone()]);
        text += &crate::table::render(&["provider", "target", "reason", "attempts", "remedy"], rows);
    }
    if report.estimated > 0 {
        text += &format!("usage of {} calls was estimated: their answers reported none, or broke off\n", report.estimated);
    }
    if report.contradictory > 0 {
        text += &format!("usage of {} answers contradicts itself\n", report.contradictory);
    }
    if !report.volumes.is_empty() {
        let rows = report.volumes.iter().map(|one| vec![one.owner.clone(), one.meter.clone(), one.month.clone(), one.amount.to_string()]);
        text += &crate::table::render(&["prices of", "meter", "month", "amount"], rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_price_is_said_with_its_remedy() {
        let one = farthing_admin::UnpricedTarget {
            provider: "openai".to_owned(),
            target: "gpt-9".to_owned(),
            reason: "unknown-target".to_owned(),
            remedy: "add the target".to_owned(),
            attempts: 7,
        };
        let text = told(&PricesReport { unpriced: vec![one], estimated: 2, ..PricesReport::default() });
        assert!(["gpt-9", "unknown-target", "7", "add the target", "usage of 2 calls"].iter().all(|part| text.contains(part)), "{text}");
        assert!(told(&PricesReport::default()).contains("every attempt so far has a price"));
    }
}
