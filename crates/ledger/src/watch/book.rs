//! What has been told: so that the same is not told again and again, also after a restart, and that what became of it can be looked up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use farthing_types::{Span, Time};
use serde::{Deserialize, Serialize};

use super::alert::{Alert, AlertKind};

/// Alerts that are kept to be looked up.
const KEPT: usize = 500;
/// Matters that are remembered, the longest untold forgotten first.
const MATTERS: usize = 10_000;

/// What became of an alert on its way to the webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Delivery {
    /// There is no webhook.
    #[default]
    None,
    /// It waits, or is being tried.
    Pending {
        /// Attempts so far.
        attempts: u32,
        /// Why the last one failed.
        problem: Option<String>,
    },
    /// It was taken.
    Delivered {
        /// Attempts that it took.
        attempts: u32,
        /// When, ns since 1970 UTC.
        at: Time,
    },
    /// It was given up.
    GivenUp {
        /// Attempts that were made.
        attempts: u32,
        /// Why the last one failed, or why there was none.
        problem: String,
    },
}

/// An alert and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Its number: one more for each alert. Together with the id it names this telling.
    pub number: u64,
    /// The alert.
    pub alert: Alert,
    /// What became of it.
    pub delivery: Delivery,
}

/// Counts since the book was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookCounts {
    /// Alerts that were told.
    pub told: u64,
    /// Alerts that had been told already, within the time in which they are not told again.
    pub repeated: u64,
}

/// The book of alerts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    /// Which release's form it has; for readers to come.
    version: u32,
    next: u64,
    told: VecDeque<Told>,
    matters: BTreeMap<Arc<str>, Time>,
    counts: BTreeMap<AlertKind, BookCounts>,
}

impl Book {
    /// Form of the saved book.
    const VERSION: u32 = 1;

    /// The book that was saved.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let book: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if book.version > Self::VERSION {
            return Err(format!("it has form {}, this build reads up to {}", book.version, Self::VERSION));
        }
        Ok(book)
    }

    /// The book as it is saved.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(&Self { version: Self::VERSION, ..self.clone() }).unwrap_or_default()
    }

    /// Enters an alert; `None` when the same matter was told within `repeat`. `posted`: there is a webhook to take it to.
    pub fn raise(&mut self, alert: Alert, repeat: Span, posted: bool) -> Option<Told> {
        let counts = self.counts.entry(alert.kind).or_default();
        if self.matters.get(&alert.id).is_some_and(|before| alert.at.since(*before) < repeat) {
            counts.repeated += 1;
            return None;
        }
        counts.told += 1;
        self.matters.insert(alert.id.clone(), alert.at);
        self.forget();
        self.next += 1;
        let delivery = if posted { Delivery::Pending { attempts: 0, problem: None } } else { Delivery::None };
        let told = Told { number: self.next, alert, delivery };
        self.told.push_back(told.clone());
        if self.told.len() > KEPT {
            self.told.pop_front();
        }
        Some(told)
    }

    fn forget(&mut self) {
        if self.matters.len() > MATTERS
            && let Some(oldest) = self.matters.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone())
        {
            self.matters.remove(&oldest);
        }
    }

    /// Notes what became of an alert; one that is not kept any more changes nothing.
    pub fn note(&mut self, number: u64, delivery: Delivery) {
        if let Some(told) = self.told.iter_mut().find(|told| told.number == number) {
            told.delivery = delivery;
        }
    }

    /// Alerts that are still on their way, oldest first.
    pub fn pending(&self) -> Vec<Told> {
        self.told.iter().filter(|told| matches!(told.delivery, Delivery::Pending { .. })).cloned().collect()
    }

    /// The alerts that are kept, newest first.
    pub fn list(&self) -> Vec<Told> {
        self.told.iter().rev().cloned().collect()
    }

    /// Forgets every alert about a tenant; answers how many. Whether its matters were told is forgotten with them.
    pub fn forget_tenant(&mut self, tenant: &str) -> usize {
        let before = self.told.len();
        let matters = &mut self.matters;
        self.told.retain(|told| {
            let about = told.alert.details["tenant"] == tenant;
            if about {
                matters.remove(&told.alert.id);
            }
            !about
        });
        before - self.told.len()
    }

    /// Counts of a kind.
    pub fn counts(&self, kind: AlertKind) -> BookCounts {
        self.counts.get(&kind).copied().unwrap_or_default()
    }
}

/// How long to wait before the next attempt: anything up to twice as much as before (full jitter), at most five minutes. `uniform` is in
/// [0, 1).
pub fn pause(attempts: u32, uniform: f64) -> Span {
    const LONGEST: f64 = 300.0;
    let most = (2.0_f64.powi(attempts.min(20).cast_signed())).min(LONGEST);
    Span::from_secs_f64(most * uniform.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::alert::billing_at_risk;

    fn alert(what: &str, hour: i64) -> Alert {
        billing_at_risk(what, "the disk is full", Time::from_millis(hour * 3_600_000))
    }

    #[test]
    fn the_same_is_not_told_again_within_its_time_also_after_a_restart() {
        let day = Span::from_secs(24 * 3_600);
        let mut book = Book::default();
        assert_eq!(book.raise(alert("log", 0), day, false).unwrap().number, 1);
        assert!(book.raise(alert("log", 23), day, false).is_none());
        assert!(book.raise(alert("journal", 23), day, true).is_some(), "another matter");
        let mut book = Book::read(&book.write()).unwrap();
        assert!(book.raise(alert("log", 23), day, false).is_none());
        assert_eq!(book.raise(alert("log", 24), day, false).unwrap().number, 3);
        assert_eq!(book.counts(AlertKind::BillingAtRisk), BookCounts { told: 3, repeated: 2 });
        assert_eq!(book.pending().iter().map(|told| told.number).collect::<Vec<_>>(), [2], "what was on its way still is");
        book.note(2, Delivery::Delivered { attempts: 3, at: Time::ZERO });
        assert_eq!((book.pending().len(), book.list()[1].delivery.clone()), (0, Delivery::Delivered { attempts: 3, at: Time::ZERO }));
    }

    #[test]
    fn a_tenant_is_forgotten() {
        let mut book = Book::default();
        let of = |tenant: &str| Alert { id: tenant.into(), details: serde_json::json!({ "tenant": tenant }), ..alert("log", 0) };
        ["acme", "other"].into_iter().for_each(|tenant| drop(book.raise(of(tenant), Span::from_secs(1), false)));
        assert_eq!((book.forget_tenant("acme"), book.forget_tenant("acme"), book.list().len()), (1, 0, 1));
        assert!(!String::from_utf8(book.write()).unwrap().contains("acme"));
    }

    #[test]
    fn it_is_bounded() {
        let mut book = Book::default();
        (0..MATTERS + 50).for_each(|n| drop(book.raise(alert(&format!("n{n}"), n as i64), Span::from_secs(1), false)));
        assert_eq!((book.told.len(), book.matters.len()), (KEPT, MATTERS));
        assert!(!book.matters.contains_key(&alert("n3", 3).id) && book.matters.contains_key(&alert("n60", 60).id));
    }

    #[test]
    fn foreign_books_are_refused() {
        assert!(Book::read(b"{}").is_err() && Book::read(b"no").is_err());
        let newer = String::from_utf8(Book::default().write()).unwrap().replace("\"version\":1", "\"version\":9");
        assert!(Book::read(newer.as_bytes()).unwrap_err().contains("form 9"));
    }

    #[test]
    fn pauses_grow_and_are_drawn() {
        assert_eq!((pause(0, 0.5), pause(3, 0.5), pause(3, 0.0)), (Span::from_millis(500), Span::from_secs(4), Span::ZERO));
        assert!(pause(60, 0.999) < Span::from_secs(300) && pause(60, 0.999) > Span::from_secs(299));
    }
}
