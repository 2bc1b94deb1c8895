//! What becomes of each member when a batch call has ended (SPEC E4): decided purely.
//!
//! What may have been billed is not bought again unless the call may be repeated, and never more often than the upstream's attempts allow.

use std::sync::Arc;

use bytes::Bytes;
use farthing_policy::batch::Alone;
use farthing_types::{Body, Failure, FailureKind, Reply};
use http::{HeaderMap, StatusCode};

use super::format::{Broken, Piece};

/// Of a batch's members at most this share may have failed for those that did to be made again.
const FEW: f64 = 0.2;

/// How a batch call ended.
#[derive(Debug)]
pub enum Ended {
    /// Its answer was taken apart.
    Split(Vec<Piece>),
    /// It was answered with another status than one of success.
    Refused(StatusCode, HeaderMap, Bytes),
    /// It was answered, and nobody can tell whose is what.
    Broken(Broken),
    /// No whole answer came.
    Failed(Failure),
}

impl Ended {
    /// Whether the batch was of use.
    pub const fn is_well(&self) -> bool {
        matches!(self, Self::Split(_))
    }

    /// It says nothing of batches: each of its members would have been told the same alone, and many calls be made of one that was too many.
    pub const fn is_about_callers(&self) -> bool {
        match self {
            Self::Refused(status, ..) => matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS),
            Self::Failed(failure) => failure.limited.is_some(),
            Self::Split(_) | Self::Broken(_) => false,
        }
    }
}

/// What becomes of a member.
#[derive(Debug)]
pub enum Fate {
    /// It has its answer.
    Answer(Result<Reply, Failure>),
    /// It is made alone, as if there had been no batch: nothing was sent.
    Fresh,
    /// It is made again alone: a further attempt of something that may have been billed. With the status that it had, where it had one.
    Again(Alone, Option<StatusCode>),
}

impl Fate {
    /// The status that a member had within the batch; `None` where it had none of its own.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answer(answer) => answer.as_ref().ok().map(|reply| reply.status),
            Self::Again(_, status) => *status,
            Self::Fresh => None,
        }
    }
}

/// What becomes of each member; `may_repeat` says for each whether a further attempt is allowed after bytes were sent.
pub fn fates(ended: Ended, may_repeat: &[bool]) -> Vec<Fate> {
    let same = ended.is_about_callers();
    match ended {
        Ended::Split(pieces) => split(pieces, may_repeat),
        Ended::Failed(failure) if same => may_repeat.iter().map(|_| Fate::Answer(Err(failure.clone()))).collect(),
        Ended::Failed(failure) if !failure.sent => may_repeat.iter().map(|_| Fate::Fresh).collect(),
        Ended::Failed(failure) => all(may_repeat, || Err(failure.clone())),
        Ended::Broken(Broken(reason)) => all(may_repeat, || Err(unreadable(&reason))),
        Ended::Refused(status, headers, body) => {
            let reply = || Reply { status, headers: headers.clone(), body: Body::full(body.clone()) };
            if same { may_repeat.iter().map(|_| Fate::Answer(Ok(reply()))).collect() } else { all(may_repeat, || Ok(reply())) }
        }
    }
}

/// Each is made again where it may be; else that is its end.
fn all(may_repeat: &[bool], end: impl Fn() -> Result<Reply, Failure>) -> Vec<Fate> {
    may_repeat.iter().map(|may| if *may { Fate::Again(Alone::BatchFailed, None) } else { Fate::Answer(end()) }).collect()
}

fn unreadable(reason: &Arc<str>) -> Failure {
    Failure::sent(FailureKind::Protocol, format!("the batch's answer cannot be taken apart: {reason}"))
}

fn split(pieces: Vec<Piece>, may_repeat: &[bool]) -> Vec<Fate> {
    let failed = pieces.iter().filter(|piece| has_failed(piece.status)).count();
    let few = (failed as f64) < FEW * pieces.len() as f64;
    let fate = |(piece, may): (Piece, &bool)| {
        if few && *may && is_passing(piece.status) {
            return Fate::Again(Alone::PartFailed, Some(piece.status));
        }
        Fate::Answer(Ok(Reply { status: piece.status, headers: piece.headers, body: Body::full(piece.body) }))
    };
    pieces.into_iter().zip(may_repeat).map(fate).collect()
}

/// The provider did not do what was asked. That there is no such thing is an answer.
fn has_failed(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// It may go well a moment later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use farthing_types::{LimitWhy, Limited, Priority, Span};

    use super::*;

    fn piece(status: u16) -> Piece {
        Piece { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: Bytes::new(), concluded: false }
    }

    fn split(statuses: &[u16]) -> String {
        let pieces = statuses.iter().map(|status| piece(*status)).collect();
        told(fates(Ended::Split(pieces), &vec![true; statuses.len()]))
    }

    fn told(fates: Vec<Fate>) -> String {
        let one = |fate| match fate {
            Fate::Answer(Ok(reply)) => reply.status.as_str().to_owned(),
            Fate::Answer(Err(failure)) => failure.kind.to_string(),
            Fate::Fresh => "fresh".to_owned(),
            Fate::Again(reason, _) => reason.to_string(),
        };
        fates.into_iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn few_passing_failures_are_made_again_and_others_have_their_own_status() {
        assert_eq!(split(&[200, 200, 200, 200, 200, 503]), "200 200 200 200 200 part-failed");
        assert_eq!(split(&[200, 200, 200, 200, 503]), "200 200 200 200 503", "a fifth is not few");
        assert_eq!(split(&[200, 404, 404, 404, 404, 200, 429]), "200 404 404 404 404 200 part-failed", "that there is none is an answer");
        assert_eq!(split(&[200, 200, 200, 200, 200, 500]), "200 200 200 200 200 500", "a bug does not pass");
        assert_eq!(
            split(&[200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 500, 504]),
            "200 200 200 200 200 200 200 200 200 200 500 part-failed"
        );
    }

    #[test]
    fn what_may_have_been_billed_is_bought_again_only_where_it_may_be_repeated() {
        let may = [true, false];
        let by = Limited { retry_after: Span::from_secs(1), priority: Priority::Medium, patience: Span::ZERO, why: LimitWhy::Exceeded };
        let limited = Failure { limited: Some(by), ..Failure::unsent(FailureKind::RateLimited, "") };
        let refused = |status| Ended::Refused(StatusCode::from_u16(status).unwrap(), HeaderMap::new(), Bytes::new());
        let rows = [
            (Ended::Failed(Failure::unsent(FailureKind::Connect, "")), "fresh fresh"),
            (Ended::Failed(limited), "rate-limited rate-limited"),
            (Ended::Failed(Failure::sent(FailureKind::Timeout, "")), "batch-failed timeout"),
            (Ended::Failed(Failure::sent(FailureKind::Broken, "")), "batch-failed broken"),
            (Ended::Broken(Broken::new("x")), "batch-failed protocol"),
            (refused(503), "batch-failed 503"),
            (refused(404), "batch-failed 404"),
            (refused(429), "429 429"),
            (refused(401), "401 401"),
            (Ended::Split(vec![piece(200), piece(200)]), "200 200"),
        ];
        for (ended, expected) in rows {
            let name = format!("{ended:?}");
            assert_eq!(ended.is_about_callers(), matches!(expected, "rate-limited rate-limited" | "429 429" | "401 401"), "{name}");
            assert_eq!(told(fates(ended, &may)), expected, "{name}");
        }
        let pieces = [200, 200, 200, 200, 200, 503].into_iter().map(piece).collect();
        assert_eq!(told(fates(Ended::Split(pieces), &[false; 6])), "200 200 200 200 200 503");
    }
}
