//! Export to the `dsjson` format of Vowpal Wabbit, one line per decision, for `vw --cb_explore_adf --dsjson` and tools that read it.
//!
//! Fields as VW's parser knows them: `_label_cost`, `_label_probability`, `_label_Action` (from 1), `_labelIndex` (from 0), `Timestamp`,
//! `Version`, `EventId`, `a` (actions from 1, the one taken first), `c` (the context: shared features, and `_multi` with one object per
//! action), `p` (probabilities in the order of `a`), `VWState`. Only eligible actions are written, so numbers count within the line; each
//! action's object names its number in our log.

use farthing_types::civil;
use serde_json::{Map, Value, json};

use super::Decided;

/// One line, without its end; `None` without an outcome, or when the action taken was not eligible. `names` are those of the features; where
/// there are none, they get numbers.
pub fn line(row: &Decided, names: &[&str]) -> Option<String> {
    let cost = row.cost_usd.filter(|c| c.is_finite())?;
    let order: Vec<usize> = (0..row.pmf.len()).filter(|a| row.possible(*a)).collect();
    let index = order.iter().position(|a| *a == row.action)?;
    let multi: Vec<Value> = order.iter().map(|a| json!({"action": {format!("id={a}"): 1}})).collect();
    let mut ranked: Vec<usize> = (0..order.len()).collect();
    ranked.swap(0, index);
    let probabilities: Vec<f32> = ranked.iter().map(|i| row.pmf[order[*i]]).collect();
    let mut context = Map::new();
    context.insert("shared".to_owned(), shared(row, names));
    context.insert("_multi".to_owned(), Value::Array(multi));
    let event = json!({
        "_label_cost": cost,
        "_label_probability": row.pmf[row.action],
        "_label_Action": index + 1,
        "_labelIndex": index,
        "Timestamp": timestamp(row.at_ns),
        "Version": "1",
        "EventId": format!("{:016x}", row.id),
        "a": ranked.iter().map(|i| i + 1).collect::<Vec<_>>(),
        "c": context,
        "p": probabilities,
        "VWState": {"m": row.model_digest.clone().unwrap_or_default()},
    });
    serde_json::to_string(&event).ok()
}

/// The features that all actions share, as one namespace.
fn shared(row: &Decided, names: &[&str]) -> Value {
    let mut features = Map::new();
    features.insert(format!("route={}", row.route), json!(1));
    for (i, value) in row.features.iter().enumerate().filter(|(_, v)| v.is_finite()) {
        let name = names.get(i).map_or_else(|| format!("f{i:02}"), |name| (*name).to_owned());
        features.insert(name, json!(value));
    }
    Value::Object(features)
}

/// `2026-01-31T23:59:59.123456Z`.
fn timestamp(ns: i64) -> String {
    let (seconds, micros) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) / 1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Decided {
        Decided {
            id: 0xab,
            at_ns: 1_795_478_399_000_001_000,
            route: "geo".to_owned(),
            features: vec![0.5, f32::NAN, 2.0],
            eligible: 0b1101,
            pmf: vec![0.5, 0.0, 0.25, 0.25],
            action: 2,
            cost_usd: Some(0.0015),
            model_digest: Some("d".repeat(4)),
            ..Decided::default()
        }
    }

    #[test]
    fn the_fields_are_those_that_vw_knows() {
        let value: Value = serde_json::from_str(&line(&row(), &["size", "age", "rate"]).unwrap()).unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = [
            "EventId",
            "Timestamp",
            "VWState",
            "Version",
            "_labelIndex",
            "_label_Action",
            "_label_cost",
            "_label_probability",
            "a",
            "c",
            "p",
        ];
        wanted.sort_unstable();
        let mut found = keys.clone();
        found.sort_unstable();
        assert_eq!(found, wanted);
        // Actions 0, 2 and 3 are eligible; 2 was taken, the second of the line.
        assert_eq!((value["_labelIndex"].as_u64(), value["_label_Action"].as_u64()), (Some(1), Some(2)));
        assert_eq!((value["a"].to_string(), value["p"].to_string()), ("[2,1,3]".to_owned(), "[0.25,0.5,0.25]".to_owned()));
        assert_eq!((value["_label_cost"].as_f64(), value["_label_probability"].as_f64()), (Some(0.0015), Some(0.25)));
        assert_eq!(value["c"]["_multi"][1]["action"]["id=2"], 1);
        assert_eq!(value["c"]["shared"].to_string(), r#"{"rate":2.0,"route=geo":1,"size":0.5}"#, "what is no number is left out");
        assert_eq!(
            (value["Timestamp"].as_str(), value["EventId"].as_str()),
            (Some("2026-11-23T23:59:59.000001Z"), Some("00000000000000ab"))
        );
        assert!(!line(&row(), &[]).unwrap().contains('\n'));
    }

    #[test]
    fn what_has_no_label_is_left_out() {
        assert_eq!(line(&Decided { cost_usd: None, ..row() }, &[]), None);
        assert_eq!(line(&Decided { action: 1, ..row() }, &[]), None);
        assert_eq!(line(&Decided { action: 9, ..row() }, &[]), None);
    }
}
