use std::io::Read;

use futures_util::FutureExt;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;

/// What a client makes of bytes that may be followed by more.
fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // A stream that is not at its end reads as an error after all that it has.
    let _ = match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out),
        Coding::Brotli => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut out),
        Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out),
    };
    out
}

type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>;

fn body(coding: Coding) -> (Sender, Coded, Arc<Compressed>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let counted = Arc::new(Compressed::default());
    let coded = Coded::new(Body::stream(StreamBody::new(stream)), Encoder::new(coding).unwrap(), counted.clone());
    (sender, coded, counted)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_comes_in_whatever_pieces_is_decoded_to_itself(
        pieces in proptest::collection::vec((0..90_000usize, any::<u8>(), any::<bool>()), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for coding in Coding::ALL {
            let (sender, mut coded, counted) = body(*coding);
            let (mut came, mut whole) = (Vec::new(), Vec::new());
            runtime.block_on(async {
                for (length, seed, read) in &pieces {
                    let data: Vec<u8> = (0..*length).map(|i| (i as u8 / 7).wrapping_mul(*seed)).collect();
                    whole.extend_from_slice(&data);
                    sender.send(Ok(Frame::data(data.into()))).unwrap();
                    while *read && decoded(*coding, &came) != whole {
                        // Ends only if all that came is given out without waiting for more.
                        let frame = coded.frame().await.unwrap().unwrap();
                        came.extend_from_slice(frame.data_ref().unwrap());
                    }
                }
                drop(sender);
                came.extend(coded.collect().await.unwrap().to_bytes());
            });
            prop_assert_eq!(decoded(*coding, &came), whole.clone());
            prop_assert_eq!(counted.bytes.get(), (whole.len() as u64, came.len() as u64));
        }
    }
}

#[tokio::test]
async fn each_event_goes_out_before_the_next_is_waited_for_and_trailers_come_last() {
    for coding in Coding::ALL {
        let (sender, mut coded, _) = body(*coding);
        let (mut came, mut sent) = (Vec::new(), String::new());
        for number in 0..20 {
            let event = format!("data: {{\"delta\": \"word {number}\"}}\n\n");
            sent.push_str(&event);
            sender.send(Ok(Frame::data(event.into()))).unwrap();
            while decoded(*coding, &came) != sent.as_bytes() {
                let frame = coded.frame().now_or_never().expect("all that came is given out without waiting");
                came.extend_from_slice(frame.unwrap().unwrap().data_ref().unwrap());
            }
        }
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))]);
        sender.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
        let end = coded.frame().await.unwrap().unwrap();
        came.extend_from_slice(end.data_ref().expect("the end of the coding comes before the trailers"));
        assert!(!coded.is_end_stream());
        assert_eq!(coded.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
        assert!(coded.is_end_stream() && coded.frame().await.is_none());
        assert_eq!(decoded(*coding, &came), sent.as_bytes());
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_breaks_off() {
    let (sender, mut coded, _) = body(Coding::Gzip);
    sender.send(Ok(Frame::data(Bytes::from_static(b"beginning")))).unwrap();
    sender.send(Err(BodyError("cut".into()))).unwrap();
    let mut failed = None;
    while let Some(frame) = coded.frame().await {
        failed = frame.err();
    }
    assert_eq!(failed.unwrap().0, "cut", "no end of the coding hides it");
}

#[tokio::test]
async fn a_long_silence_of_the_encoder_is_ended() {
    let (sender, mut coded, _) = body(Coding::Gzip);
    sender.send(Ok(Frame::data(vec![0; 4 << 20].into()))).unwrap();
    let mut frames = 0;
    drop(sender);
    while coded.frame().await.is_some() {
        frames += 1;
    }
    assert!(frames >= (4 << 20) / SILENT, "{frames}");
}

#[test]
fn vary_is_told_once() {
    let silent = |values: &[&str]| vary_is_silent(values.iter().map(|value| value.as_bytes()));
    assert!(silent(&[]) && silent(&["accept", "accept-language"]));
    assert!(!silent(&["accept, Accept-Encoding"]) && !silent(&["*"]) && !silent(&["accept", "accept-encoding"]));
}
