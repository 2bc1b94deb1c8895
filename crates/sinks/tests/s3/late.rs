//! What comes late, and what comes between: a forgotten tenant stays away.

use std::sync::Arc;

use super::*;
use tokio_util::sync::CancellationToken;

/// A request that nobody waits for any more arrives after the tenant was forgotten, with its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_late_does_not_bring_a_forgotten_tenant_back() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    let id = log(dir.path());
    let sink = sink_with(&between.endpoint(), Span::from_secs(1));
    let released = CancellationToken::new();
    let until = released.clone();
    between.decide(move |_| Fate::Wait(until.clone()));
    let files = [file_of(dir.path(), Request::TABLE), file_of(dir.path(), CallRow::TABLE)];
    for file in &files {
        assert_eq!(sink.ship(&id, file).await.unwrap_err().reason, FaultReason::Timeout);
    }
    // One is written anew without it, the other is gone.
    farthing_ledger::archive::forget(dir.path(), CANARY).unwrap();
    std::fs::remove_file(&files[1].path).unwrap();
    between.decide(|_| Fate::Pass);
    sink.forget(CANARY).await.unwrap();
    let before = between.done().len();
    released.cancel();
    while between.done().len() < before + 2 {
        tokio::time::sleep(Span::from_millis(5)).await;
    }
    assert!(between.done()[before..].iter().all(|(method, status)| *method == Method::PUT && *status == 412), "{:?}", between.done());
    assert_eq!((store.rows(Request::TABLE).len(), store.rows(CallRow::TABLE).len()), (2, 0));
    assert!(store.rows(Request::TABLE).iter().flatten().all(|cell| !cell.contains(CANARY)));
    assert_eq!(sink.ship(&id, &files[0]).await.unwrap(), Shipment::Held);
}

/// Forgetting waits for a file that is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_under_way_does_not_bring_a_forgotten_tenant_back() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    let id = log(dir.path());
    let sink = sink(&between.endpoint());
    let (released, (asked, mut comes)) = (CancellationToken::new(), tokio::sync::mpsc::unbounded_channel());
    let until = released.clone();
    between.decide(move |seen| {
        asked.send(()).unwrap();
        if seen.method == Method::PUT { Fate::Wait(until.clone()) } else { Fate::Pass }
    });
    let file = file_of(dir.path(), Request::TABLE);
    let (shipping, of) = (sink.clone(), id.clone());
    let shipping = tokio::spawn(async move { shipping.ship(&of, &file).await });
    comes.recv().await.unwrap();
    farthing_ledger::archive::forget(dir.path(), CANARY).unwrap();
    let forgetting = sink.clone();
    let forgetting = tokio::spawn(async move { forgetting.forget(CANARY).await });
    tokio::task::yield_now().await;
    assert!(comes.try_recv().is_err(), "nothing is asked before the file is there");
    between.decide(|_| Fate::Pass);
    released.cancel();
    assert_eq!(shipping.await.unwrap().unwrap(), Shipment::Shipped { rows: 4, altered: 0 });
    assert_eq!(forgetting.await.unwrap().unwrap().rows["requests"], 2, "after the file, not before it");
    assert_eq!(store.rows(Request::TABLE).len(), 2);
    assert!(store.rows(Request::TABLE).iter().flatten().all(|cell| cell != CANARY));
}

/// Two instances forget two tenants at once: neither brings back what the other has removed.
#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_are_forgotten_at_once() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let (ours, theirs) = (sink(&between.endpoint()), sink(&store.endpoint()));
    driver(ours.clone(), spec(&store.endpoint()), dir.path()).round().await.unwrap();
    // Before ours puts the first object, the other has forgotten all of the other tenant.
    let runtime = tokio::runtime::Handle::current();
    let mut other: Option<Arc<dyn Fn() + Send + Sync>> = Some(Arc::new(move || drop(runtime.block_on(theirs.forget("acme")).unwrap())));
    let mut gets = 0;
    between.decide(move |seen| {
        gets += u32::from(seen.method == Method::GET && !seen.target.contains('?'));
        // Five steps have read ten objects; this one is got to be written.
        let comes_between = if gets > 10 { other.take() } else { None };
        comes_between.map_or(Fate::Pass, Fate::Then)
    });
    let erased = ours.forget(CANARY).await.unwrap();
    assert!(between.done().iter().any(|(_, status)| *status == 412), "the other came between");
    assert_eq!(erased.rows["requests"], 4);
    for table in ALL {
        let left = store.rows(table);
        assert!(left.iter().flatten().all(|cell| cell != CANARY && cell != "acme"), "{}: {left:?}", table.name);
    }
    assert!(store.rows(Request::TABLE).is_empty() && store.rows(CallRow::TABLE).is_empty());
    assert_eq!(store.names().len(), 8, "all files are still known to be there");
}

/// What cannot be read is named, and all else is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_named_when_a_tenant_is_forgotten() {
    let Some(store) = Store::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let id = log(dir.path());
    let sink = sink(&store.endpoint());
    driver(sink.clone(), spec(&store.endpoint()), dir.path()).round().await.unwrap();
    let bad = format!("{PREFIX}/calls/{}/{id}-damaged.parquet", partition(HOUR));
    store.put(&bad, b"PAR1 no more");
    let fault = sink.forget(CANARY).await.unwrap_err();
    assert!(fault.reason == FaultReason::Unreadable && fault.detail.contains(&bad) && fault.detail.contains("remove them"), "{fault}");
    store.delete(&bad);
    assert!(sink.forget(CANARY).await.unwrap().rows.values().all(|rows| *rows == 0), "it is done already");
    assert_eq!(store.rows(Request::TABLE).len(), 4);
}
