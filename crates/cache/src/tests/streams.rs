use http_body::Body as _;

use super::*;

fn small(share_buffer_bytes: usize) -> CacheConfig {
    CacheConfig { share_buffer_bytes, reader_grace: Span::from_secs(2), ..config() }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_cut_and_the_others_get_everything() {
    let (cache, subject) = (cache(small(10)), subject(1));
    let ticket = lead(join(&cache, &subject));
    let (mut fast, mut slow) = (ticket.slot(), follow(join(&cache, &subject)));
    let mut filling = ticket.share(head(), NOW);
    let fast = share_of(&mut fast).await;
    let mut slow = share_of(&mut slow).await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(read(fast));
    let before = tokio::time::Instant::now();
    for _ in 0..10 {
        filling.push("12345".into()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(before.elapsed(), Span::from_secs(2), "one reader, one grace");
    let filled = filling.finish(None);
    assert_eq!(filled.body, None, "byte 0 is gone");
    drop(filled);
    assert_eq!(tasks.join_next().await.unwrap().unwrap().unwrap(), "12345".repeat(10));
    assert!(slow.frame().await.unwrap().is_err(), "cut, not short");
    assert_eq!(cache.stats().cut, 1);
    assert_eq!(cache.stats().in_flight_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_keeps_up_is_waited_for() {
    let (cache, subject) = (cache(small(10)), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut own = ticket.slot();
    let mut filling = ticket.share(head(), NOW);
    let mut body = share_of(&mut own).await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
            tokio::time::sleep(Span::from_secs(1)).await;
        }
        all
    });
    for _ in 0..10 {
        filling.push("12345".into()).await;
    }
    drop(filling.finish(None));
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), "12345".repeat(10).into_bytes());
    assert_eq!(cache.stats().cut, 0);
}

#[tokio::test(start_paused = true)]
async fn who_holds_up_nobody_is_waited_for() {
    let (cache, subject) = (cache(small(10)), subject(1));
    let ticket = lead(join(&cache, &subject));
    let (mut own, mut second) = (ticket.slot(), follow(join(&cache, &subject)));
    let mut filling = ticket.share(head(), NOW);
    let (mut first, mut second) = (share_of(&mut own).await, share_of(&mut second).await);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for part in ["12345", "67890", "abcde", "fghij"] {
            filling.push(part.into()).await;
        }
        drop(filling.finish(None));
    });
    tokio::time::sleep(Span::from_secs(3600)).await;
    assert_eq!(cache.stats().cut, 0, "both stand still");
    // One goes on and finds the other in its way, whose grace is long over.
    let mut all = Vec::new();
    while let Some(frame) = first.frame().await {
        all.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert_eq!(all, b"1234567890abcdefghij");
    assert!(second.frame().await.unwrap().is_err());
    assert_eq!(cache.stats().cut, 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_attaches_after_byte_0_was_let_go() {
    let (cache, subject) = (cache(small(10)), subject(1));
    let mut filling = lead(join(&cache, &subject)).share(head(), NOW);
    filling.push("1234567890".into()).await;
    follow(join(&cache, &subject));
    filling.push("x".into()).await;
    assert!(matches!(join(&cache, &subject), Joined::Alone(farthing_types::UncachedReason::TooLarge)));
    drop(filling);
    drop(lead(join(&cache, &subject)));
}

#[tokio::test]
async fn without_readers_a_long_body_is_not_held() {
    let (cache, subject) = (cache(small(100)), subject(1));
    let mut filling = lead(join(&cache, &subject)).share(head(), NOW);
    for _ in 0..1000 {
        filling.push(Bytes::from(vec![0; 60])).await;
        assert!(cache.stats().in_flight_bytes <= 100);
    }
    drop(filling);
    assert_eq!(cache.stats().in_flight_bytes, 0);
}

#[tokio::test]
async fn a_chunk_larger_than_the_bound_still_passes() {
    let (cache, subject) = (cache(small(10)), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut own = ticket.slot();
    let mut filling = ticket.share(head(), NOW);
    filling.push(Bytes::from(vec![1; 1000])).await;
    let filled = filling.finish(None);
    assert_eq!(filled.body, None);
    assert_eq!(read(share_of(&mut own).await).await.unwrap().len(), 1000);
    drop((filled, own));
    assert_eq!(cache.stats().in_flight_bytes, 0);
}

#[tokio::test]
async fn idle_resolves_when_the_last_reader_leaves() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let (own, mut other) = (ticket.slot(), follow(join(&cache, &subject)));
    let mut idle = tokio_test_task(ticket.idle());
    assert!(!idle.is_done().await);
    drop(own);
    assert!(!idle.is_done().await);
    let filling = ticket.share(head(), NOW);
    assert_eq!(filling.readers(), 1);
    let mut idle = tokio_test_task(filling.idle());
    let body = share_of(&mut other).await;
    drop(other);
    assert!(!idle.is_done().await, "the body is read, the slot is not needed");
    drop(body);
    assert!(idle.is_done().await);
    assert_eq!(filling.readers(), 0);
    // Someone may still come.
    follow(join(&cache, &subject));
}

struct Task(tokio::task::JoinSet<()>);

fn tokio_test_task(future: impl Future<Output = ()> + Send + 'static) -> Task {
    let mut set = tokio::task::JoinSet::new();
    set.spawn(future);
    Task(set)
}

impl Task {
    async fn is_done(&mut self) -> bool {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        self.0.try_join_next().is_some()
    }
}

#[tokio::test]
async fn idle_of_a_ticket_resolves_when_nobody_waits() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let own = ticket.slot();
    let mut idle = tokio_test_task(ticket.idle());
    assert!(!idle.is_done().await);
    drop(own);
    assert!(idle.is_done().await);
    drop(ticket);
}

#[tokio::test]
async fn trailers_and_sizes_are_told() {
    let (cache, subject) = (cache(config()), subject(1));
    let ticket = lead(join(&cache, &subject));
    let mut own = ticket.slot();
    let mut filling = ticket.share(head(), NOW);
    filling.push(Bytes::new()).await;
    filling.push("abc".into()).await;
    let mut body = share_of(&mut own).await;
    assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (3, None));
    let filled = filling.finish(Some(headers(&[("x-sum", "1")])));
    assert_eq!(filled.trailers.as_ref().unwrap().get("x-sum").unwrap(), "1");
    assert_eq!(body.size_hint().exact(), Some(3));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap().len(), 1);
    assert!(body.is_end_stream() && body.frame().await.is_none());
}
