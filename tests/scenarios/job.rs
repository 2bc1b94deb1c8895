//! A job: workers that each ask for the next record as soon as they have an answer. The process may end in the middle; then the job begins anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_types::Span;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::world::{Judgement, Ledger, Stage, Step};

type Answers = Vec<(usize, (Span, Judgement))>;

/// Plays the whole job; `again`: after a first one that ends in the middle, its clients with it.
pub async fn played(stage: &Stage, steps: Vec<Step>, (workers, again): (usize, bool)) -> (Ledger, Vec<(Span, Judgement)>) {
    let (steps, mut ledger) = (Arc::from(steps), Ledger::default());
    if again {
        let half = Arc::clone(&steps);
        let answers = run(stage, (half, steps.len() / 2), workers, &mut ledger).await;
        assert!(answers.iter().all(|(_, (_, judgement))| *judgement == Judgement::Right), "in the first half");
    }
    let all = steps.len();
    let mut answers = run(stage, (steps, all), workers, &mut ledger).await;
    answers.sort_by_key(|(number, _)| *number);
    (ledger, answers.into_iter().map(|(_, answer)| answer).collect())
}

/// One process: it ends when the step `end` would be next, whatever is under way then.
async fn run(stage: &Stage, (steps, end): (Arc<[Step]>, usize), workers: usize, ledger: &mut Ledger) -> Answers {
    let l2 = stage.open_l2();
    let inside = stage.start(l2.clone());
    inside.recall_limits();
    let (next, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Answers::new())));
    let whole = end == steps.len();
    let mut working = JoinSet::new();
    for _ in 0..workers {
        let (asker, steps) = (stage.asker(&inside), steps.clone());
        let (next, answers) = (next.clone(), answers.clone());
        working.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                let answer = asker.ask(steps[number].clone()).await;
                answers.lock().push((number, answer));
            }
        });
    }
    working.join_next().await.unwrap().unwrap();
    if !whole {
        working.abort_all();
    }
    while let Some(ended) = working.join_next().await {
        assert!(ended.is_ok() || !whole);
    }
    inside.settle().await;
    ledger.add(&inside);
    inside.keep_limits();
    Arc::into_inner(inside).unwrap().close().await;
    if let Some(l2) = l2 {
        l2.close().await.unwrap();
    }
    Arc::into_inner(answers).unwrap().into_inner()
}
