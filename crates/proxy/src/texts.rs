//! Texts that most rows of the log have in common: each thread has its own, for together they would fight for the counts of references.

use std::cell::RefCell;
use std::sync::Arc;

use farthing_types::By;
use http::Method;

/// The usual methods without an allocation.
pub fn method_text(method: &Method) -> Arc<str> {
    thread_local! {
        static GET: Arc<str> = "GET".into();
        static POST: Arc<str> = "POST".into();
    }
    match *method {
        Method::GET => GET.with(Arc::clone),
        Method::POST => POST.with(Arc::clone),
        ref other => other.as_str().into(),
    }
}

/// The text of a decider. Few different ones make all the hits, so each thread remembers some; together they would fight for
/// the count of references.
pub fn text_of(by: &By) -> Arc<str> {
    const KNOWN: usize = 16;
    thread_local! {
        static TEXTS: RefCell<Vec<(By, Arc<str>)>> = const { RefCell::new(Vec::new()) };
    }
    TEXTS.with_borrow_mut(|texts| {
        if let Some((_, text)) = texts.iter().find(|(known, _)| known == by) {
            return text.clone();
        }
        let text: Arc<str> = by.to_string().into();
        if texts.len() == KNOWN {
            texts.clear();
        }
        texts.push((by.clone(), text.clone()));
        text
    })
}
