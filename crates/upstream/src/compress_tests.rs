use farthing_types::call::NoSink;
use farthing_types::{Body, CallId, CallReport, FailureKind, Purpose};
use http::{HeaderName, Method};

use super::*;
use crate::coding::tests::decoded;

/// Notes the bodies and codings that come; answers 415 to the codings that it is told not to take.
#[derive(Default)]
struct Server {
    refuses: bool,
    always: bool,
    came: Mutex<Vec<(Option<String>, Bytes)>>,
}

impl Origin for Arc<Server> {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let coding = call.headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned());
        let status = if self.always || (self.refuses && coding.is_some()) { 415 } else { 200 };
        self.came.lock().push((coding, call.body.as_full().unwrap_or_default()));
        let status = StatusCode::from_u16(status).unwrap();
        call.sink.waited(Span::from_millis(1));
        call.sink.attempt(CallReport::only(&call, "u", Some(status)));
        std::future::ready(Ok(Reply { status, headers: HeaderMap::new(), body: Body::empty() })).boxed()
    }
}

#[derive(Default)]
struct Numbers(Mutex<Vec<u16>>, Mutex<u32>);
impl CallSink for Numbers {
    fn attempt(&self, report: CallReport) {
        self.0.lock().push(report.attempt);
    }
    fn waited(&self, _span: Span) {
        *self.1.lock() += 1;
    }
}

fn call(body: Bytes, fields: &[(&'static str, &'static str)]) -> Call {
    Call {
        id: CallId(7),
        route: "r".into(),
        payer: "t".into(),
        purpose: Purpose::User,
        key: None,
        method: Method::POST,
        target: "/a".parse().unwrap(),
        headers: fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect(),
        body: Body::full(body),
        repeatable: false,
        deadline: Span::from_secs(60),
        claim: farthing_types::Claim::default(),
        batch: None,
        routing: None,
        sink: Arc::new(NoSink),
    }
}

fn long() -> Bytes {
    "words that come again, ".repeat(400).into()
}

fn random(length: u64) -> Bytes {
    let draw = farthing_types::Draw::new(7);
    (0..length).map(|i| (draw.uniform(farthing_types::DrawKind::Jitter, "body", i.into(), 0) * 256.0) as u8).collect()
}

fn compress(server: &Arc<Server>, coding: Coding) -> (Compress, Arc<Traffic>) {
    let traffic = Arc::new(Traffic::default());
    (Compress::new(Arc::new(Arc::clone(server)), CompressSpec { min: 1_000, coding }, Arc::clone(&traffic)), traffic)
}

#[tokio::test(start_paused = true)]
async fn a_long_body_goes_out_compressed_and_is_the_same() {
    for coding in Coding::ALL {
        let server = Arc::new(Server::default());
        let (origin, traffic) = compress(&server, *coding);
        let large: Bytes = long().repeat(20).into();
        for body in [long(), large] {
            assert_eq!(origin.fetch(call(body.clone(), &[("content-length", "9200")])).await.unwrap().status, 200);
            let (name, came) = server.came.lock().pop().unwrap();
            assert_eq!((name.as_deref(), decoded(*coding, &came)), (Some(coding.as_str()), body.to_vec()));
        }
        assert_eq!(traffic.squeezed(Squeezed::Sent), 2);
        let (before, after) = traffic.requests.get();
        assert!(before == 9_200 * 21 && after < before / 10, "{before} {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_saves_too_little_or_may_not_be_changed_goes_out_as_it_is() {
    let server = Arc::new(Server::default());
    let (origin, traffic) = compress(&server, Coding::Gzip);
    let half: Bytes = [random(4_000), vec![b'a'; 800].into()].concat().into();
    for (body, fields) in [
        (long().slice(..999), [].as_slice()),
        (random(5_000), &[]),
        (half, &[]),
        (long(), &[("content-encoding", "br")]),
        (long(), &[("content-encoding", "identity")]),
        (long(), &[("content-type", "application/grpc+proto")]),
        (long(), &[("content-md5", "x")]),
        (long(), &[("content-digest", "x")]),
        (long(), &[("digest", "x")]),
        (long(), &[("signature-input", "x")]),
        (long(), &[("x-hub-signature-256", "sha256=x")]),
        (long(), &[("authorization", "AWS4-HMAC-SHA256 Credential=x")]),
        (long(), &[("authorization", "Signature keyId=x")]),
        (long(), &[("cache-control", "no-cache, no-transform")]),
    ] {
        drop(origin.fetch(call(body.clone(), fields)).await);
        let (name, came) = server.came.lock().pop().unwrap();
        let told = fields.iter().find(|(name, _)| *name == "content-encoding").map(|(_, value)| *value);
        assert_eq!((name.as_deref(), came), (told, body), "{fields:?}");
    }
    assert_eq!((traffic.squeezed(Squeezed::Sent), traffic.squeezed(Squeezed::NotWorth)), (0, 2));
    assert_eq!(traffic.requests.get(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_left_alone() {
    let server = Arc::new(Server::default());
    let (origin, _) = compress(&server, Coding::Gzip);
    drop(origin.fetch(Call { body: Body::stream(Body::full(long())), ..call(long(), &[]) }).await);
    assert_eq!(server.came.lock()[0].0, None);
}

#[tokio::test(start_paused = true)]
async fn a_415_is_asked_again_once_uncompressed_and_ends_compression_for_a_while() {
    let server = Arc::new(Server { refuses: true, ..Server::default() });
    let (origin, traffic) = compress(&server, Coding::Gzip);
    let numbers = Arc::new(Numbers::default());
    let codings = || server.came.lock().drain(..).map(|(coding, _)| coding.is_some()).collect::<Vec<_>>();
    let answer = origin.fetch(Call { sink: numbers.clone(), ..call(long(), &[]) }).await.unwrap();
    assert_eq!((answer.status, codings()), (StatusCode::OK, vec![true, false]));
    assert_eq!(*numbers.0.lock(), [0, 1], "attempts are numbered on");
    assert_eq!(*numbers.1.lock(), 2, "and so are their waits for a turn told");
    assert_eq!(origin.fetch(call(long(), &[])).await.unwrap().status, 200);
    assert_eq!((codings(), traffic.squeezed(Squeezed::Resting), traffic.squeezed(Squeezed::Unsupported)), (vec![false], 1, 1));
    tokio::time::advance(REST).await;
    assert_eq!((origin.fetch(call(long(), &[])).await.unwrap().status, codings()), (StatusCode::OK, vec![true, false]));
}

#[tokio::test(start_paused = true)]
async fn a_415_about_something_else_is_handed_on_and_ends_nothing() {
    let server = Arc::new(Server { always: true, ..Server::default() });
    let (origin, traffic) = compress(&server, Coding::Zstd);
    assert_eq!(origin.fetch(call(long(), &[])).await.unwrap().status, 415);
    assert_eq!((server.came.lock().len(), traffic.squeezed(Squeezed::Unsupported)), (2, 0));
    drop(origin.fetch(call(long(), &[])).await);
    assert_eq!(server.came.lock()[2].0.as_deref(), Some("zstd"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_no_415_and_is_not_repeated_here() {
    struct Broken(Mutex<u32>);
    impl Origin for Broken {
        fn fetch(&self, _call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
            *self.0.lock() += 1;
            std::future::ready(Err(Failure::sent(FailureKind::Broken, "x"))).boxed()
        }
    }
    let inner = Arc::new(Broken(Mutex::new(0)));
    let origin = Compress::new(Arc::clone(&inner) as Arc<dyn Origin>, CompressSpec { min: 0, coding: Coding::Gzip }, Arc::default());
    assert_eq!(origin.fetch(call(long(), &[])).await.unwrap_err().kind, FailureKind::Broken);
    assert_eq!(*inner.0.lock(), 1);
}
