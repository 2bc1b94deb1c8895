use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 1_024, headers: 10, target: 100, connect: true };

/// Shows `input` in pieces ending at `cuts`, as the guard does. What passed in all, and the refusal.
fn feed(input: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<Refusal>, u64) {
    let mut scanner = Scanner::new(LIMITS);
    let (mut held, mut passed, mut from) = (Vec::new(), Vec::new(), 0);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).chain([input.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        held.extend_from_slice(&input[from..end]);
        from = end;
        let Scanned { pass, refused } = scanner.scan(&held);
        passed.extend(held.drain(..pass));
        if let Some((refusal, _)) = refused {
            return (passed, Some(refusal), scanner.heads());
        }
    }
    (passed, None, scanner.heads())
}

fn refusal(input: &[u8]) -> Option<Refusal> {
    feed(input, &[]).1
}

#[test]
fn follows_pipelined_messages() {
    let input = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /\
        POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n00a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n\
        \r\nGET http://H:80/d HTTP/1.1\r\nHost: h\r\n\r\n\
        GET /e HTTP/1.0\r\n\r\n";
    assert_eq!(feed(input, &[]), (input.to_vec(), None, 5));
}

#[test]
fn a_fault_in_a_body_that_came_with_its_head_refuses_the_whole_message() {
    let good = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".as_slice();
    let bad = b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX".as_slice();
    let both = [good, bad].concat();
    assert_eq!(feed(&both, &[]), (good.to_vec(), Some(Refusal::ChunkEnd), 1));
    let head = both.len() - 8;
    let (passed, refused, heads) = feed(&both, &[head]);
    assert_eq!((passed.len(), refused, heads), (both.len() - 8, Some(Refusal::ChunkEnd), 2));
}

#[test]
fn nothing_passes_after_connect() {
    let connect = b"CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\n\r\n".as_slice();
    let early = [connect, b"\x16\x03\x01GET / HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
    for cut in 0..early.len() {
        assert_eq!(feed(&early, &[cut]), (connect.to_vec(), None, 1));
    }
    for (head, expected) in [
        ("CONNECT h.test:443 HTTP/1.0\r\n\r\n", None),
        ("CONNECT h.test:443 HTTP/1.1\r\nHost: H.test\r\n\r\n", None),
        ("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nContent-Length: 0\r\n\r\n", None),
        ("CONNECT h.test:443 HTTP/1.1\r\n\r\n", Some(Refusal::NoHost)),
        ("CONNECT h.test:443 HTTP/1.1\r\nHost: i.test:443\r\n\r\n", Some(Refusal::HostMismatch)),
        ("CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:80\r\n\r\n", Some(Refusal::HostMismatch)),
        ("CONNECT h.test HTTP/1.1\r\nHost: h.test\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT h.test: HTTP/1.1\r\nHost: h.test\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT h.test:0 HTTP/1.1\r\nHost: h.test\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT me@h.test:443 HTTP/1.1\r\nHost: h.test\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT http://h.test:443 HTTP/1.1\r\nHost: h.test:443\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT /a HTTP/1.1\r\nHost: h.test:443\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT h.test:443/a HTTP/1.1\r\nHost: h.test:443\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT * HTTP/1.1\r\nHost: h.test:443\r\n\r\n", Some(Refusal::Target)),
        ("CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\nContent-Length: 5\r\n\r\nhello", Some(Refusal::ConnectBody)),
        ("CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Refusal::ConnectBody)),
    ] {
        assert_eq!(refusal(head.as_bytes()), expected, "{head}");
    }
}

#[test]
fn bounds_hold_before_the_head_is_complete() {
    let long_target = [b"GET /".as_slice(), &[b'a'; 200]].concat();
    assert_eq!(refusal(&long_target), Some(Refusal::LongTarget));
    let complete = [&long_target[..], b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
    assert_eq!(refusal(&complete), Some(Refusal::LongTarget));
    let large = [b"GET / HTTP/1.1\r\nHost: h\r\nX: ".as_slice(), &[b'a'; 2_000]].concat();
    assert_eq!(refusal(&large), Some(Refusal::LargeHead));
    let many = [b"GET / HTTP/1.1\r\nHost: h\r\n".as_slice(), &b"X: y\r\n".repeat(10)].concat();
    assert_eq!(refusal(&many), Some(Refusal::ManyHeaders));
    let trailers = [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ".as_slice(), &[b'a'; 2_000]].concat();
    assert_eq!(refusal(&trailers), Some(Refusal::LargeHead));
    let extensions = [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;".as_slice(), &[b'a'; 5_000]].concat();
    assert_eq!(refusal(&extensions), Some(Refusal::ChunkExtension));
}

#[test]
fn other_protocols_are_refused_at_once() {
    assert_eq!(refusal(b"\x16\x03\x01\x02\x00\x01\x00"), Some(Refusal::Method));
    assert_eq!(refusal(b"GET\r/ HTTP/1.1"), Some(Refusal::BareCr));
    assert_eq!(refusal(b"G"), None);
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    (0..3, "/[a-z0-9%?=&]{0,20}", body).prop_map(|(kind, target, body)| {
        let head = format!("POST {target} HTTP/1.1\r\nhost: example.com:8080\r\nx-a: \t b c \r\n");
        let mut message = head.into_bytes();
        match kind {
            0 => message.extend_from_slice(b"\r\n"),
            1 => {
                message.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                message.extend_from_slice(&body);
            }
            _ => {
                message.extend_from_slice(b"transfer-encoding: Chunked\r\n\r\n");
                for chunk in body.chunks(7) {
                    message.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                    message.extend_from_slice(chunk);
                    message.extend_from_slice(b"\r\n");
                }
                message.extend_from_slice(b"0\r\n\r\n");
            }
        }
        message
    })
}

proptest! {
    #[test]
    fn lawful_streams_pass_whole_however_they_are_cut(
        messages in prop::collection::vec(message(), 1..5),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let input = messages.concat();
        prop_assert_eq!(feed(&input, &cuts), (input, None, messages.len() as u64));
    }

    #[test]
    fn one_changed_byte_gives_the_same_verdict_however_it_is_cut(
        messages in prop::collection::vec(message(), 1..3),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut input = messages.concat();
        let at = at.index(input.len());
        input[at] = byte;
        let (whole, whole_refusal, _) = feed(&input, &[]);
        let (cut, cut_refusal, _) = feed(&input, &cuts);
        // A cut may only bring the refusal earlier (a line that is already hopeless) or let a prefix of the body pass.
        prop_assert_eq!(whole_refusal.is_some(), cut_refusal.is_some());
        if whole_refusal.is_none() {
            prop_assert_eq!(whole, cut);
        } else {
            prop_assert!(input.starts_with(&cut));
        }
    }

    #[test]
    fn noise_never_panics(input in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), any::<u8>()], 0..300),
        cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let prefixed = [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice(), &input].concat();
        for input in [&input, &prefixed] {
            let (passed, _, _) = feed(input, &cuts);
            prop_assert!(input.starts_with(&passed));
        }
    }
}
