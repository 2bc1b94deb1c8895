//! Sinks of the log.

use farthing_admin::{SinkInfo, SinksView};
use farthing_proxy::sinks::SinkState;
use farthing_types::{Clock, Time};

use super::Running;

impl SinksView for Running {
    fn sinks(&self) -> Vec<SinkInfo> {
        let now = self.real.now();
        self.proxy.sinks().iter().map(|state| info(state, now)).collect()
    }
}

fn info(state: &SinkState, now: Time) -> SinkInfo {
    let (stats, problem) = (state.stats(), state.problem());
    SinkInfo {
        name: state.name.to_string(),
        kind: state.kind.to_owned(),
        files: stats.files,
        rows: stats.rows,
        bytes: stats.bytes,
        repeated: stats.repeated,
        altered: stats.altered,
        waiting: stats.waiting,
        lag_s: stats.lag(now).as_secs_f64(),
        missed: stats.missed,
        set_aside: stats.set_aside,
        expired_days: stats.expired_days,
        faults: stats.faults.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect(),
        breaker_open: stats.open,
        last_fault: stats.last_fault.as_ref().map(|(fault, _)| fault.to_string()),
        last_fault_ns: stats.last_fault.as_ref().map(|(_, at)| at.nanos()),
        complete_ns: stats.complete.map(Time::nanos),
        problem,
    }
}
