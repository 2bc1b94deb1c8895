//! Who may have an answer besides whoever asked for it.

use farthing_types::UncachedReason;
use http::StatusCode;

use super::{Bans, Rules};

/// Who gets an answer of those who wait for one to the same key, and what it says of the answers that they would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everybody who waits, or comes while it travels.
    All,
    /// Those who wait and show the same credential; all others would get another one.
    Alike,
    /// Who asked, alone. It says nothing of what others would get, or something of authorised requests only.
    Asker {
        /// Why it is not shared.
        reason: UncachedReason,
        /// Whether it is the request's `Authorization` that makes it so.
        authorized: bool,
    },
    /// Who asked, alone; and no other answer to this key could be shared either.
    Alone(UncachedReason),
}

/// Whether an answer of this status is about who asks, and not about what is asked for: a wrong credential, an account that is empty or in too much of a hurry.
pub const fn is_about_asker(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 402 | 403 | 407 | 429 | 431)
}

/// Who may have an answer that is `kept`, or is not for a reason. An answer that is nobody else's because of what itself says makes the next request for its key
/// go alone, too, so that they do not wait for each other in vain; one that is so because of who asked must not.
pub fn reach((status, bans): (StatusCode, Bans), kept: Result<(), UncachedReason>, rules: &Rules) -> Reach {
    let Err(reason) = kept else { return Reach::All };
    if is_about_asker(status) {
        return match of_one(bans, rules) {
            Some(reason) => Reach::Asker { reason, authorized: false },
            // It is handed on to nobody who has not asked already, with the same credential: that is no storing.
            None if rules.shared => Reach::Alike,
            None => Reach::All,
        };
    }
    match reason {
        reason if reason.joinable() => Reach::All,
        UncachedReason::Private if !bans.private => Reach::Asker { reason, authorized: true },
        reason => Reach::Alone(reason),
    }
}

/// Why an answer is one request's alone, whoever else shows the same credential.
fn of_one(bans: Bans, rules: &Rules) -> Option<UncachedReason> {
    match bans {
        Bans { vary_star: true, .. } => Some(UncachedReason::Vary),
        Bans { set_cookie: true, .. } if rules.obeys() => Some(UncachedReason::SetCookie),
        Bans { private: true, .. } if rules.obeys() && rules.shared => Some(UncachedReason::Private),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::Time;
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, HeaderValue, Method};

    use super::super::oracle::map;
    use super::super::{Mode, Received, RequestFacts, may_store};
    use super::*;

    fn of(status: u16, headers: &[(&str, &str)], (authorized, shared): (bool, bool)) -> Reach {
        let headers = map(headers);
        let status = StatusCode::from_u16(status).unwrap();
        let received = Received { status, headers: &headers, requested_at: Time::ZERO, received_at: Time::ZERO };
        let mut asked = HeaderMap::new();
        if authorized {
            asked.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        }
        let rules = Rules { shared, ..Rules::new(Mode::Learned) };
        let request = RequestFacts::read(&Method::GET, &asked);
        reach((status, Bans::read(&received, &rules)), may_store(&request, &received, &rules).map(|_| ()), &rules)
    }

    #[test]
    fn what_is_about_who_asks_reaches_nobody_else() {
        use UncachedReason::{OriginNoStore, Private, SetCookie};
        let asker = |reason, authorized| Reach::Asker { reason, authorized };
        let (cookie, no_store, private, fresh) =
            (("set-cookie", "a=b"), ("cache-control", "no-store"), ("cache-control", "private"), ("cache-control", "max-age=60"));
        for (status, headers, shared, private_route) in [
            (200, &[fresh][..], Reach::All, Reach::All),
            (200, &[cookie], Reach::Alone(SetCookie), Reach::Alone(SetCookie)),
            (200, &[private], Reach::Alone(Private), Reach::All),
            (500, &[], Reach::All, Reach::All),
            (503, &[no_store], Reach::Alone(OriginNoStore), Reach::Alone(OriginNoStore)),
            (401, &[], Reach::Alike, Reach::All),
            (403, &[no_store], Reach::Alike, Reach::All),
            (429, &[no_store], Reach::Alike, Reach::All),
            (401, &[cookie], asker(SetCookie, false), asker(SetCookie, false)),
            (401, &[cookie, no_store], asker(SetCookie, false), asker(SetCookie, false)),
            (429, &[private], asker(Private, false), Reach::All),
            (416, &[cookie], Reach::Alone(SetCookie), Reach::Alone(SetCookie)),
        ] {
            assert_eq!(of(status, headers, (false, true)), shared, "{status} {headers:?} shared");
            assert_eq!(of(status, headers, (false, false)), private_route, "{status} {headers:?}");
        }
        assert_eq!(of(200, &[fresh], (true, true)), asker(Private, true));
        assert_eq!(of(200, &[("cache-control", "s-maxage=60")], (true, true)), Reach::All);
        assert_eq!(of(200, &[private], (true, true)), Reach::Alone(Private));
        assert_eq!(of(401, &[], (true, true)), Reach::Alike);
        assert_eq!(of(200, &[fresh], (true, false)), Reach::All);
    }
}
