use farthing_types::{BodyError, Failure, FailureKind, UncachedReason};
use tokio::task::JoinSet;

use super::*;

#[tokio::test]
async fn a_hundred_joins_make_one_lead_and_equal_answers() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut clients = JoinSet::new();
    let mut own = ticket.slot();
    clients.spawn(async move { read(share_of(&mut own).await).await });
    for _ in 1..100 {
        let mut slot = follow(join(&cache, &subject));
        clients.spawn(async move { read(share_of(&mut slot).await).await });
    }
    assert_eq!(ticket.waiting(), 100);
    let mut filling = ticket.share(head(), NOW);
    filling.push("hello".into()).await;
    filling.finish(None).store(entry(&subject, "hello"), NOW).unwrap();
    for body in clients.join_all().await {
        assert_eq!(body.unwrap(), "hello");
    }
    assert_eq!(cache.lookup(subject.key, &HeaderMap::new(), NOW).unwrap().body(), "hello");
    let stats = cache.stats();
    assert_eq!((stats.flights, stats.in_flight_bytes, stats.entries), (0, 0, 1));
}

#[tokio::test]
async fn streamed_answers_are_equal_for_early_and_late_joiners() {
    let (cache, subject) = (cache(config()), subject(1));
    let mut filling = lead(join(&cache, &subject)).share(head(), NOW);
    let mut clients = JoinSet::new();
    let mut whole = String::new();
    for i in 0..100 {
        let mut slot = follow(join(&cache, &subject));
        clients.spawn(async move { read(share_of(&mut slot).await).await });
        whole.push_str(&format!("chunk {i};"));
        filling.push(format!("chunk {i};").into()).await;
        tokio::task::yield_now().await;
    }
    let filled = filling.finish(None);
    assert_eq!(filled.body.as_deref(), Some(whole.as_bytes()));
    // The flight can be joined until the entry is there, so nobody falls in between.
    let mut latest = follow(join(&cache, &subject));
    filled.store(entry(&subject, whole.clone()), NOW).unwrap();
    assert_eq!(read(share_of(&mut latest).await).await.unwrap(), whole);
    assert!(matches!(join(&cache, &subject), Joined::Stored(found) if found.body() == whole));
    for body in clients.join_all().await {
        assert_eq!(body.unwrap(), whole);
    }
}

#[tokio::test]
async fn the_leaders_client_leaving_changes_nothing_for_the_others() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let own = ticket.slot();
    let mut other = follow(join(&cache, &subject));
    drop(own);
    assert_eq!(ticket.waiting(), 1);
    let mut filling = ticket.share(head(), NOW);
    filling.push("a".into()).await;
    let body = share_of(&mut other).await;
    filling.push("b".into()).await;
    drop(filling.finish(None));
    assert_eq!(read(body).await.unwrap(), "ab");
}

#[tokio::test]
async fn a_panic_in_a_fill_hands_over_to_exactly_one_follower() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut slots: Vec<Slot> = std::iter::once(ticket.slot()).chain((0..9).map(|_| follow(join(&cache, &subject)))).collect();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _held = ticket;
        panic!("the fill breaks");
    });
    assert!(tasks.join_next().await.unwrap().unwrap_err().is_panic());
    let mut heirs = Vec::new();
    let mut waiting = Vec::new();
    for mut slot in slots.drain(..) {
        match futures_now(slot.wait(&HeaderMap::new())).await {
            Some(Followed::Lead(ticket)) => heirs.push(ticket),
            Some(other) => panic!("{other:?}"),
            None => waiting.push(slot),
        }
    }
    assert_eq!((heirs.len(), waiting.len()), (1, 9));
    assert!(matches!(join(&cache, &subject), Joined::Follow(_)), "still the same flight");
    let mut filling = heirs.remove(0).share(head(), NOW);
    filling.push("second try".into()).await;
    drop(filling.finish(None));
    for mut slot in waiting {
        assert_eq!(read(share_of(&mut slot).await).await.unwrap(), "second try");
    }
    assert_eq!(cache.stats().handovers, 1);
}

/// Polls a future once.
async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! { biased; out = future => Some(out), () = std::future::ready(()) => None }
}

#[tokio::test]
async fn hand_overs_are_bounded_and_then_everyone_is_told() {
    let (cache, subject) = (cache(CacheConfig { max_handovers: 2, ..config() }), subject(1));
    let mut ticket = Some(lead(join(&cache, &subject)));
    let mut slots: Vec<Slot> = (0..5).map(|_| follow(join(&cache, &subject))).collect();
    for _ in 0..2 {
        drop(ticket.take());
        let mut slot = slots.remove(0);
        ticket = match outcome(&mut slot).await {
            Followed::Lead(ticket) => Some(ticket),
            other => panic!("{other:?}"),
        };
    }
    drop(ticket);
    for mut slot in slots {
        assert!(matches!(outcome(&mut slot).await, Followed::Failed(f) if f.kind == FailureKind::LeaderGone));
    }
    assert_eq!(cache.stats().flights, 0);
    drop(lead(join(&cache, &subject)));
}

#[tokio::test]
async fn an_heir_that_has_left_passes_the_ticket_on() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let first = follow(join(&cache, &subject));
    let mut second = follow(join(&cache, &subject));
    drop(ticket);
    // The ticket lies in the first one's channel, unread.
    drop(first);
    assert!(matches!(outcome(&mut second).await, Followed::Lead(_)));
}

#[tokio::test]
async fn a_ticket_without_followers_leaves_no_trace() {
    let (cache, subject) = (cache(config()), subject(1));
    drop(lead(join(&cache, &subject)));
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test]
async fn a_break_after_the_head_is_seen_by_all() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut slots = [ticket.slot(), follow(join(&cache, &subject))];
    let mut filling = ticket.share(head(), NOW);
    filling.push("begin".into()).await;
    let bodies = [share_of(&mut slots[0]).await, share_of(&mut slots[1]).await];
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _held = filling;
        panic!("the fill breaks");
    });
    assert!(tasks.join_next().await.unwrap().is_err());
    for mut body in bodies {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begin");
        assert!(body.frame().await.unwrap().is_err());
    }
    lead(join(&cache, &subject)).fail(Failure::unsent(FailureKind::Connect, "x"));
    let filling = lead(join(&cache, &subject)).share(head(), NOW);
    let mut late = follow(join(&cache, &subject));
    filling.abort(BodyError("reset".to_owned()));
    assert_eq!(read(share_of(&mut late).await).await.unwrap_err().0, "reset");
}

#[tokio::test]
async fn an_answer_for_the_leader_alone_reaches_its_client_only() {
    let (cache, subject) = (cache(CacheConfig { hit_for_miss: Span::from_secs(5), ..config() }), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut own = ticket.slot();
    let mut other = follow(join(&cache, &subject));
    let mut filling = ticket.alone(UncachedReason::SetCookie, head(), NOW);
    filling.push("private".into()).await;
    let filled = filling.finish(None);
    assert_eq!(filled.body, None);
    assert_eq!(filled.store(entry(&subject, "private"), NOW).unwrap_err(), UncachedReason::SetCookie);
    assert_eq!(read(share_of(&mut own).await).await.unwrap(), "private");
    assert!(matches!(outcome(&mut other).await, Followed::Alone(UncachedReason::SetCookie)));
    // For a while nobody queues for the key.
    let soon = NOW + Span::from_secs(4);
    assert!(matches!(join_with(&cache, &subject, &HeaderMap::new(), soon), Joined::Alone(UncachedReason::SetCookie)));
    let later = NOW + Span::from_secs(5);
    drop(lead(join_with(&cache, &subject, &HeaderMap::new(), later)));
    assert!(cache.peek(subject.key, &HeaderMap::new()).is_none());
}

#[tokio::test]
async fn markers_are_bounded() {
    let cache = cache(CacheConfig { l1_bytes: 1 << 20, ..config() });
    for n in 0..3000 {
        drop(lead(join(&cache, &subject(n))).alone(UncachedReason::Status, head(), NOW));
    }
    assert_eq!(cache.stats().flights, 1024);
}

#[tokio::test]
async fn a_failure_is_everyones() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut slots = [ticket.slot(), follow(join(&cache, &subject))];
    ticket.fail(Failure::sent(FailureKind::Timeout, "no head in 5s"));
    for slot in &mut slots {
        assert!(matches!(outcome(slot).await, Followed::Failed(f) if f.kind == FailureKind::Timeout && f.sent));
    }
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test]
async fn a_wait_may_time_out_and_go_on() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut slot = follow(join(&cache, &subject));
    assert!(futures_now(outcome(&mut slot)).await.is_none());
    let mut filling = ticket.share(head(), NOW);
    filling.push("x".into()).await;
    drop(filling.finish(None));
    assert_eq!(read(share_of(&mut slot).await).await.unwrap(), "x");
    assert!(matches!(outcome(&mut slot).await, Followed::Failed(_)), "an outcome is given once");
}

#[tokio::test]
async fn too_many_followers_are_refused() {
    let (cache, subject) = (cache(CacheConfig { max_followers: 2, ..config() }), subject(1));
    let ticket = lead(join(&cache, &subject));
    let slots = [follow(join(&cache, &subject)), follow(join(&cache, &subject))];
    assert!(matches!(join(&cache, &subject), Joined::Refused(f) if f.kind == FailureKind::Refused));
    let filling = ticket.share(head(), NOW);
    assert!(matches!(join(&cache, &subject), Joined::Refused(_)), "readers count too");
    drop(slots);
    follow(join(&cache, &subject));
    drop(filling);
}

#[tokio::test]
async fn an_answer_that_varies_is_shared_with_those_it_selects() {
    let (cache, subject) = (cache(config()), subject(1));
    let (en, de) = (headers(&[("accept-language", "en")]), headers(&[("accept-language", "de")]));
    let ticket = lead(join_with(&cache, &subject, &en, NOW));
    let mut same = follow(join_with(&cache, &subject, &en, NOW));
    let mut other = follow(join_with(&cache, &subject, &de, NOW));
    let varying = || SharedHead::new(StatusCode::OK, headers(&[("vary", "Accept-Language")]), CallId(1));
    let filling = ticket.share(varying(), NOW);
    let filled = filling.finish(None);
    assert!(matches!(same.wait(&en).await, Followed::Share(..)));
    assert!(matches!(other.wait(&de).await, Followed::Alone(UncachedReason::Vary)));
    filled.store(entry(&subject, "english"), NOW).unwrap();
    assert_eq!(cache.lookup(subject.key, &en, NOW).unwrap().body(), "english");
    assert!(cache.lookup(subject.key, &de, NOW).is_none());
    // Now that the names are known, each variant has flights of its own.
    let german = lead(join_with(&cache, &subject, &de, NOW));
    assert!(matches!(join_with(&cache, &subject, &en, NOW), Joined::Stored(_)));
    let filled = german.share(varying(), NOW).finish(None);
    filled.store(entry(&subject, "deutsch"), NOW).unwrap();
    assert_eq!(cache.lookup(subject.key, &en, NOW).unwrap().body(), "english");
    assert_eq!(cache.lookup(subject.key, &de, NOW).unwrap().body(), "deutsch");
    assert_eq!(cache.purge(&Purge::Key(subject.key), false, NOW).entries, 2);
}

#[tokio::test]
async fn a_handed_over_ticket_selects_by_the_heirs_headers() {
    let (cache, subject) = (cache(config()), subject(1));
    let (en, de) = (headers(&[("accept-language", "en")]), headers(&[("accept-language", "de")]));
    let first = lead(join_with(&cache, &subject, &en, NOW));
    let mut heir = follow(join_with(&cache, &subject, &de, NOW));
    drop(first);
    let Followed::Lead(ticket) = heir.wait(&de).await else { panic!("no ticket") };
    let varying = SharedHead::new(StatusCode::OK, headers(&[("vary", "Accept-Language")]), CallId(1));
    ticket.share(varying, NOW).finish(None).store(entry(&subject, "deutsch"), NOW).unwrap();
    assert!(cache.lookup(subject.key, &en, NOW).is_none());
    assert_eq!(cache.lookup(subject.key, &de, NOW).unwrap().body(), "deutsch");
}

#[tokio::test]
async fn vary_star_is_for_the_leader_alone() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let (mut own, mut other) = (ticket.slot(), follow(join(&cache, &subject)));
    let star = SharedHead::new(StatusCode::OK, headers(&[("vary", "*")]), CallId(1));
    let filled = ticket.share(star, NOW).finish(None);
    assert_eq!(filled.store(entry(&subject, ""), NOW).unwrap_err(), UncachedReason::Vary);
    assert!(matches!(outcome(&mut own).await, Followed::Share(..)));
    assert!(matches!(outcome(&mut other).await, Followed::Alone(UncachedReason::Vary)));
}

#[tokio::test]
async fn a_coding_that_a_follower_cannot_read_is_not_shared_with_it() {
    let (cache, subject) = (cache(config()), subject(1));
    let (br, gzip) = (headers(&[("accept-encoding", "br")]), headers(&[("accept-encoding", "gzip")]));
    let ticket = lead(join_with(&cache, &subject, &HeaderMap::new(), NOW));
    let mut own = ticket.slot();
    let mut readers = [follow(join_with(&cache, &subject, &br, NOW)), follow(join_with(&cache, &subject, &gzip, NOW))];
    let coded = SharedHead::new(StatusCode::OK, headers(&[("content-encoding", "br")]), CallId(1));
    let filled = ticket.share(coded, NOW).finish(None);
    assert!(matches!(own.wait(&HeaderMap::new()).await, Followed::Share(..)), "what the origin sent its client");
    assert!(matches!(readers[0].wait(&br).await, Followed::Share(..)));
    assert!(matches!(readers[1].wait(&gzip).await, Followed::Alone(UncachedReason::Vary)));
    let coded = Entry { headers: headers(&[("content-encoding", "br")]).into(), ..entry(&subject, "x") };
    filled.store(coded, NOW).unwrap();
    assert!(matches!(join_with(&cache, &subject, &br, NOW), Joined::Stored(_)));
    assert!(matches!(join_with(&cache, &subject, &gzip, NOW), Joined::Lead(_)), "an entry it cannot read is no entry for it");
}

/// Real threads: whoever comes first, there is one call.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_requests_make_one_call_per_key() {
    let cache = cache(config());
    let calls = Arc::new(Mutex::new(std::collections::HashMap::<u64, u32>::new()));
    let mut clients = JoinSet::new();
    for i in 0..1000u64 {
        let (cache, calls) = (cache.clone(), Arc::clone(&calls));
        clients.spawn(async move { one_request(&cache, &calls, i % 10).await });
    }
    for body in clients.join_all().await {
        assert_eq!(body, "answer");
    }
    let calls = calls.lock();
    assert_eq!((calls.len(), calls.values().max()), (10, Some(&1)));
}

async fn one_request(cache: &Cache, calls: &Mutex<std::collections::HashMap<u64, u32>>, n: u64) -> Bytes {
    let subject = subject(n);
    if let Some(found) = cache.lookup(subject.key, &HeaderMap::new(), NOW) {
        return found.body();
    }
    match join(cache, &subject) {
        Joined::Stored(found) => found.body(),
        Joined::Follow(mut slot) => read(share_of(&mut slot).await).await.unwrap(),
        Joined::Lead(ticket) => {
            *calls.lock().entry(n).or_default() += 1;
            let mut own = ticket.slot();
            tokio::task::yield_now().await;
            let mut filling = ticket.share(head(), NOW);
            for part in ["ans", "wer"] {
                filling.push(part.into()).await;
                tokio::task::yield_now().await;
            }
            filling.finish(None).store(entry(&subject, "answer"), NOW).unwrap();
            read(share_of(&mut own).await).await.unwrap()
        }
        other => panic!("{other:?}"),
    }
}
