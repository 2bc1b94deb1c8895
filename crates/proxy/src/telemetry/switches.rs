//! Figures of what is switched on and off while the proxy runs.

use farthing_policy::switches::Standing;

use super::Family;
use crate::switches::RouteSwitches;

/// One row for each route, and for each strategy of it that can switch itself off.
pub fn families(routes: &[RouteSwitches]) -> [Family<'_>; 7] {
    let mut bypassed = Family::gauge("bypassed", "1 while an operator lets everything of the route pass by");
    let mut on = Family::gauge("strategy_on", "1 on, 0.5 on trial, 0 switched off by itself");
    let mut off = Family::counter("strategy_switched_off", "Times that a strategy has switched itself off");
    let mut evidence = Family::gauge("strategy_evidence", "Evidence that a strategy's standing should change; 1 is none");
    let mut left_out =
        Family::gauge("own_time_left_out", "1 while what takes this part of own time is left out, because own time is above its limit");
    let mut seconds = Family::counter("own_time_seconds", "Farthing's own time on requests that went to a provider, by part");
    let mut requests =
        Family::counter("own_time_requests", "Requests whose own time has this part; of the first stages one in 64 is measured");
    for of in routes {
        for (part, took, count) in &of.own {
            let labels = || vec![("route", &*of.route), ("part", part.as_str())];
            seconds.add(labels(), took.as_secs_f64());
            requests.add(labels(), *count as f64);
        }
        bypassed.add(vec![("route", &*of.route)], f64::from(u8::from(of.bypass.is_some())));
        for view in &of.strategies {
            let labels = || vec![("route", &*of.route), ("strategy", view.strategy.as_str())];
            let standing = match view.standing {
                Standing::On => 1.0,
                Standing::Trial => 0.5,
                Standing::Off => 0.0,
            };
            on.add(labels(), standing);
            off.add(labels(), view.switched_off as f64);
            evidence.add(labels(), view.evidence);
            for part in &view.left_out {
                left_out.add(vec![("route", &*of.route), ("part", part.as_str())], 1.0);
            }
        }
    }
    [bypassed, on, off, evidence, left_out, seconds, requests]
}
