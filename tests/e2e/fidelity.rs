//! A1, A4: what we do not understand passes byte-true. Random requests go once straight to a recording origin and once through a proxy with
//! every strategy off; what the origin recorded must be the same, apart from what `crates/upstream/src/lib.rs` documents: the case of header
//! names, the order of fields with different names, `Host`, hop-by-hop fields, and the framing of bodies.

use std::net::SocketAddr;

use farthing_config::Mode;
use farthing_tests::Setup;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const REQUESTS: usize = 5_000;

/// A request as recorded from the wire: method, target, fields sorted by name with the order of equal names kept, body without framing.
#[derive(Debug, PartialEq, Eq)]
struct Recorded {
    method: Vec<u8>,
    target: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

struct Message {
    line: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await.ok()?);
        if bytes.ends_with(b"\r\n") {
            bytes.truncate(bytes.len() - 2);
            return Some(bytes);
        }
    }
}

fn field<'a>(fields: &'a [(Vec<u8>, Vec<u8>)], name: &[u8]) -> Option<&'a [u8]> {
    fields.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
}

/// Reads one message, request or answer.
async fn message(stream: &mut BufReader<TcpStream>) -> Option<Message> {
    let first = line(stream).await?;
    let mut fields = Vec::new();
    loop {
        let text = line(stream).await?;
        if text.is_empty() {
            break;
        }
        let colon = text.iter().position(|b| *b == b':')?;
        let (name, value) = (text[..colon].to_ascii_lowercase(), text[colon + 1..].trim_ascii().to_vec());
        fields.push((name, value));
    }
    let body = body(stream, &fields).await?;
    Some(Message { line: first, fields, body })
}

async fn body(stream: &mut BufReader<TcpStream>, fields: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if field(fields, b"transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(std::str::from_utf8(&line(stream).await?).ok()?, 16).ok()?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..]).await.ok()?;
            line(stream).await?;
            if size == 0 {
                return Some(body);
            }
        }
    }
    let length: usize = field(fields, b"content-length").map_or(Some(0), |v| std::str::from_utf8(v).ok()?.parse().ok())?;
    body.resize(length, 0);
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

fn recorded(message: Message) -> Recorded {
    const NOT_COMPARED: [&[u8]; 5] = [b"host", b"connection", b"content-length", b"transfer-encoding", b"te"];
    let mut parts = message.line.splitn(3, |b| *b == b' ').map(<[u8]>::to_vec);
    let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
    let mut fields: Vec<_> = message.fields.into_iter().filter(|(n, _)| !NOT_COMPARED.contains(&&**n)).collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    Recorded { method, target, fields, body: message.body }
}

/// Records every request and answers 200 without a body.
async fn recorder() -> (SocketAddr, mpsc::UnboundedReceiver<Recorded>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tx, rx) = mpsc::unbounded_channel();
    tokio::task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tx = tx.clone();
            tokio::task::spawn(async move {
                let mut stream = BufReader::new(stream);
                while let Some(message) = message(&mut stream).await {
                    let _ = tx.send(recorded(message));
                    if stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (addr, rx)
}

fn text(rng: &mut StdRng, alphabet: &[u8], lengths: std::ops::Range<usize>) -> Vec<u8> {
    let length = rng.random_range(lengths);
    (0..length).map(|_| *alphabet.choose(rng).unwrap()).collect()
}

fn target(rng: &mut StdRng) -> Vec<u8> {
    const PATH: &[u8] = b"abcXYZ019-._~!$&'()*+,;=:@";
    const QUERY: &[u8] = b"abcXYZ019-._~!$'()*+,;:@/?";
    let mut out = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        out.push(b'/');
        out.extend(text(rng, PATH, 0..8));
        if rng.random_bool(0.3) {
            out.extend(format!("%{:02x}%{:02X}", rng.random::<u8>(), rng.random::<u8>()).bytes());
        }
    }
    // Two slashes at the start would read as an authority.
    if out.starts_with(b"//") {
        out.insert(1, b'a');
    }
    if rng.random_bool(0.5) {
        out.push(b'?');
        for n in 0..rng.random_range(0..4) {
            if n > 0 {
                out.push(b'&');
            }
            out.extend(text(rng, QUERY, 0..6));
            if rng.random_bool(0.7) {
                out.push(b'=');
                out.extend(text(rng, QUERY, 0..6));
            }
        }
    }
    out
}

fn value(rng: &mut StdRng) -> Vec<u8> {
    let odd: Vec<u8> = (0x21..0x7f).chain(0x80..=0xff).collect();
    let mut out = text(rng, &odd, 1..30);
    if out.len() > 3 && rng.random_bool(0.3) {
        let at = rng.random_range(1..out.len() - 1);
        out[at] = *[b' ', b'\t'].choose(rng).unwrap();
    }
    out
}

/// The head without Host, and the framed body.
fn request(rng: &mut StdRng) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    const TOKEN: &[u8] = b"abcdefgXYZ0123456789!#$%&'*+.^_`|~-";
    let method = *[&b"GET"[..], b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PROPFIND", b"QUERY", b"X-ODD!"].choose(rng).unwrap();
    let mut fields = Vec::new();
    for _ in 0..rng.random_range(0..8) {
        let name = [b"q-".to_vec(), text(rng, TOKEN, 1..12)].concat();
        for _ in 0..if rng.random_bool(0.2) { 2 } else { 1 } {
            fields.extend([&name[..], b": ", &value(rng)[..], b"\r\n"].concat());
        }
    }
    let content = (0..rng.random_range(0..600)).map(|_| rng.random()).collect::<Vec<u8>>();
    let body = match rng.random_range(0..3) {
        0 => Vec::new(),
        1 => {
            fields.extend(format!("Content-Length: {}\r\n", content.len()).bytes());
            content
        }
        _ => {
            fields.extend(b"Transfer-Encoding: chunked\r\n");
            let size = rng.random_range(1..200);
            let mut framed: Vec<u8> =
                content.chunks(size).flat_map(|c| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat()).collect();
            framed.extend(b"0\r\n\r\n");
            framed
        }
    };
    (method.to_vec(), fields, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_random_requests_pass_byte_true() {
    let (origin, mut records) = recorder().await;
    let setup = Setup::new(origin).route(|r| {
        (r.mode, r.cache, r.dedupe) = (Mode::Observe, false, false);
    });
    let started = setup.start().await;
    let mut direct = BufReader::new(TcpStream::connect(origin).await.unwrap());
    let mut through = BufReader::new(TcpStream::connect(started.client.addr).await.unwrap());
    let mut rng = StdRng::seed_from_u64(7);
    for n in 0..REQUESTS {
        let (method, fields, body) = request(&mut rng);
        let target = target(&mut rng);
        let mut pair = Vec::new();
        for (stream, prefix) in [(&mut direct, &b""[..]), (&mut through, b"/api")] {
            let head = [&method[..], b" ", prefix, &target, b" HTTP/1.1\r\nHost: paid.example\r\n", &fields, b"\r\n"].concat();
            stream.get_mut().write_all(&[head.clone(), body.clone()].concat()).await.unwrap();
            let answer = message(stream).await;
            let status = answer.map(|a| String::from_utf8_lossy(&a.line).into_owned()).unwrap_or_default();
            assert!(status.contains(" 200 "), "request {n}: {status}\n{}", String::from_utf8_lossy(&head));
            pair.push(records.recv().await.unwrap());
        }
        assert_eq!(pair[0], pair[1], "request {n}");
    }
}
