use http::StatusCode;
use serde_json::{Value, json};

use crate::tests::{Fake, call};
use crate::*;

impl CostsView for Fake {
    fn ask(&self, question: &CostQuestion) -> Result<CostAnswer, ControlError> {
        match question.aggregate.as_deref() {
            Some("model") => Err(ControlError::Refused("aggregate: there is no name `model`; use tenant".to_owned())),
            by => Ok(CostAnswer {
                from: question.window.clone().unwrap_or_default(),
                to: String::new(),
                by: by.map(str::to_owned).into_iter().collect(),
                groups: Vec::new(),
                groups_in_all: 0,
                total: CostFigures::default(),
                series: Vec::new(),
                strategies: Vec::new(),
                prefetch_waste_usd: None,
                net: None,
                proved: None,
                rows: 0,
                files: 0,
                unreadable: Vec::new(),
                unobserved: Vec::new(),
            }),
        }
    }
}
impl AlertsView for Fake {
    fn alerts(&self) -> Vec<AlertInfo> {
        Vec::new()
    }
    fn month(&self, tenant: Option<&str>) -> Option<MonthForecast> {
        let month = MonthForecast {
            month: "2026-11".to_owned(),
            so_far_usd: farthing_types::Money::ZERO,
            p10_usd: 1.0,
            p50_usd: 2.0,
            p90_usd: 3.0,
            over: None,
        };
        tenant.is_none_or(|tenant| tenant == "acme").then_some(month)
    }
}

impl BudgetsControl for Fake {
    fn budgets(&self) -> BudgetsView {
        let budget = BudgetRow { name: "acme".to_owned(), limit_usd: "500".parse().unwrap(), ..BudgetRow::default() };
        BudgetsView { budgets: vec![budget], ..BudgetsView::default() }
    }
    fn refusals(&self, request: Option<&str>, _budget: Option<&str>) -> Vec<RefusalView> {
        vec![RefusalView { request: request.unwrap_or_default().to_owned(), ..RefusalView::default() }]
    }
    fn raise(&self, budget: String, raise: RaiseRequest) -> Raising {
        let known = budget == "acme";
        Box::pin(async move {
            let raised = CounterRow { limit_usd: raise.by_usd, ..CounterRow::default() };
            if known { Ok(raised) } else { Err(ControlError::NotFound("no budget is called so".to_owned())) }
        })
    }
    fn write_off(&self, member: String) -> WritingOff {
        Box::pin(async move { if member == "i1" { Ok(()) } else { Err(ControlError::Refused("nobody waits for it".to_owned())) } })
    }
}

#[tokio::test]
async fn questions_about_money_are_read_and_bad_ones_answered_with_good_ones() {
    let (status, answer) = call("GET", "/api/v1/costs?window=24h&aggregate=team&filter=provider:openai&top=5&step=1h", Value::Null).await;
    assert_eq!((status, &answer["from"], &answer["by"][0]), (StatusCode::OK, &json!("24h"), &json!("team")));
    let (status, problem) = call("GET", "/api/v1/costs?aggregate=model", Value::Null).await;
    assert_eq!((status, &problem["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("aggregate: there is no name `model`; use tenant")));
    let (status, problem) = call("GET", "/api/v1/costs?agregate=team", Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem["detail"].as_str().unwrap().contains("expected one of `window`, `aggregate`"), "{problem}");
}

#[tokio::test]
async fn a_forecast_is_of_all_or_of_a_tenant() {
    let (status, told) = call("GET", "/api/v1/costs/forecast?tenant=acme", Value::Null).await;
    assert_eq!((status, &told["p90_usd"]), (StatusCode::OK, &json!(3.0)));
    assert_eq!(call("GET", "/api/v1/costs/forecast?tenant=nobody", Value::Null).await.0, StatusCode::NOT_FOUND);
}

impl LimitsControl for Fake {
    fn limits(&self) -> LimitsView {
        let limit = LimitRow { name: "acme".to_owned(), names: vec!["acme".to_owned()], waiting: 3, ..LimitRow::default() };
        LimitsView { limits: vec![limit], ..LimitsView::default() }
    }
}

#[tokio::test]
async fn limits_are_shown() {
    let (status, body) = call("GET", "/api/v1/limits", Value::Null).await;
    assert_eq!((status, &body["limits"][0]["match"][0], &body["limits"][0]["waiting"]), (StatusCode::OK, &json!("acme"), &json!(3)));
}

#[tokio::test]
async fn budgets_are_shown_and_raised() {
    let (status, body) = call("GET", "/api/v1/budgets", Value::Null).await;
    assert_eq!((status, &body["budgets"][0]["limit_usd"]), (StatusCode::OK, &json!("500")));
    let (_, body) = call("GET", "/api/v1/budgets/refusals?request=0123456789abcdef", Value::Null).await;
    assert_eq!(body[0]["request"], "0123456789abcdef");
    assert_eq!(call("GET", "/api/v1/budgets/refusals?id=1", Value::Null).await.0, StatusCode::BAD_REQUEST);
    for (name, body, status) in [
        ("acme", json!({"by_usd": "50"}), StatusCode::OK),
        ("acme", json!({"by_usd": "0"}), StatusCode::BAD_REQUEST),
        ("acme", json!({"by": "50"}), StatusCode::UNPROCESSABLE_ENTITY),
        ("other", json!({"by_usd": "50"}), StatusCode::NOT_FOUND),
    ] {
        let (got, said) = call("POST", &format!("/api/v1/budgets/{name}/raise"), body.clone()).await;
        assert_eq!(got, status, "{name} {body}: {said}");
    }
    for (name, status) in [("i1", StatusCode::OK), ("i2", StatusCode::UNPROCESSABLE_ENTITY)] {
        let (got, said) = call("POST", &format!("/api/v1/budgets/members/{name}/write-off"), Value::Null).await;
        assert_eq!(got, status, "{name}: {said}");
    }
}
