//! The time of day and week in features, UTC.

/// Seconds of a day.
pub(super) const DAY_S: f64 = 86_400.0;

/// How much of its present period of `length` seconds has passed at `now_s` seconds since 1970, as an angle.
pub(super) fn turn(now_s: f64, length: f64) -> f64 {
    now_s.rem_euclid(length) / length * std::f64::consts::TAU
}

/// Whether it is Saturday or Sunday; the first of January 1970 was a Thursday.
pub(super) fn is_weekend(now_s: f64) -> bool {
    matches!((now_s / DAY_S).floor().rem_euclid(7.0) as u8, 2 | 3)
}
