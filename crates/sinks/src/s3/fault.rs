//! What an error of the library means to us.

use std::error::Error as StdError;

use http::StatusCode;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use super::http::{Answered, Late};
use crate::fault::{found, shortened};
use crate::{Fault, FaultReason};

/// The fault that an error is.
pub fn fault(error: Error) -> Fault {
    let why = match &error {
        Error::NotFound { .. } => FaultReason::Refused,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => FaultReason::Refused,
        Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotModified { .. } => FaultReason::Unavailable,
        _ => reason(&error),
    };
    Fault::new(why, said(&error))
}

/// Whether the server knows no such request: of a store without conditional writes.
pub fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. })
        || found::<Answered>(error).is_some_and(|answered| answered.status == StatusCode::NOT_IMPLEMENTED)
}

fn reason(error: &Error) -> FaultReason {
    if found::<Answered>(error).is_some() {
        return FaultReason::Unavailable;
    }
    if found::<Late>(error).is_some() {
        return FaultReason::Timeout;
    }
    if found::<rustls::Error>(error).is_some() {
        return FaultReason::Refused;
    }
    match found::<HttpError>(error).map(HttpError::kind) {
        Some(HttpErrorKind::Timeout) => FaultReason::Timeout,
        Some(_) => FaultReason::Unreachable,
        // An answer of 200 that says that it could not be done.
        None if error.to_string().contains("Server returned error response") => FaultReason::Unavailable,
        None => FaultReason::Refused,
    }
}

/// What was said, without what the library tells of the request and of its own settings.
fn said(error: &Error) -> String {
    const BEFORE: [&str; 3] = ["Server returned non-2xx status code: ", "Server returned error response: ", "HTTP error: "];
    let all = with_causes(error);
    let end = BEFORE.iter().find_map(|before| all.split_once(before)).map_or(&*all, |(_, end)| end);
    shortened(&in_words(end))
}

/// With the causes that the text leaves out.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text += &format!(": {said}");
        }
        next = cause.source();
    }
    text
}

/// Stores answer with XML: of it only what it is called and what it means.
fn in_words(text: &str) -> String {
    let of = |tag: &str| {
        let rest = text.split_once(&format!("<{tag}>"))?.1;
        Some(rest.split_once(&format!("</{tag}>"))?.0)
    };
    let Some(code) = of("Code") else { return text.to_owned() };
    let before = text.split('<').next().unwrap_or_default();
    let means = of("Message").map(|message| format!(": {message}")).unwrap_or_default();
    format!("{before}{code}{means}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let xml =
            "403 Forbidden: <?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No way</Message><HostId>x</HostId></Error>";
        assert_eq!(in_words(xml), "403 Forbidden: AccessDenied: No way");
        assert_eq!(in_words("answered 503: <Error><Code>SlowDown</Code></Error>"), "answered 503: SlowDown");
        assert_eq!(in_words("<html>502</html>"), "<html>502</html>");
    }
}
