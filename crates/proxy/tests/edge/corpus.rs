//! Ambiguous, malicious and odd but lawful requests, and what must become of each.

/// What must become of a request.
pub enum Expect {
    /// Answered with this status as a problem document, the connection closed, no byte at the origin.
    Refused(u16),
    /// Exactly these requests at the origin: request line, a space and the body.
    Passed(&'static [&'static str]),
}
use Expect::{Passed, Refused};

pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub expect: Expect,
}

fn case(name: &'static str, bytes: impl AsRef<[u8]>, expect: Expect) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), expect }
}

/// A GET whose header lines (each with its line end) are `lines`.
fn get(lines: &str) -> Vec<u8> {
    format!("GET /a HTTP/1.1\r\n{lines}\r\n").into_bytes()
}

/// A POST with a Host, these header lines and this body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A request for `target`.
fn target(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

const GET: &[&str] = &["GET /a HTTP/1.1 "];
const HELLO: &[&str] = &["POST /a HTTP/1.1 hello"];
const EMPTY: &[&str] = &["POST /a HTTP/1.1 "];

pub fn cases() -> Vec<Case> {
    [request_lines(), targets(), hosts(), lines(), lengths(), codings(), chunks(), trailers(), sizes(), pipelines()]
        .into_iter()
        .flatten()
        .collect()
}

fn request_lines() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nHost: h\r\n\r\n");
    vec![
        case("plain get", get("Host: h\r\n"), Passed(GET)),
        case("unknown method", line("BREW /a HTTP/1.1"), Passed(&["BREW /a HTTP/1.1 "])),
        case("lower-case method is another method", line("get /a HTTP/1.1"), Passed(&["get /a HTTP/1.1 "])),
        case("http/1.0", line("GET /a HTTP/1.0"), Passed(GET)),
        case("one empty line before", b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", Passed(GET)),
        case("two empty lines before", b"\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", Refused(400)),
        case("bare lf before", b"\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", Refused(400)),
        case("http/0.9", b"GET /a\r\n\r\n", Refused(400)),
        case("http/0.9 with headers", b"GET /a\r\nHost: h\r\n\r\n", Refused(400)),
        case("http/1.2", line("GET /a HTTP/1.2"), Refused(505)),
        case("http/2.0 in text", line("GET /a HTTP/2.0"), Refused(505)),
        case("http/0.9 spelled out", line("GET /a HTTP/0.9"), Refused(505)),
        case("http/1.10", line("GET /a HTTP/1.10"), Refused(400)),
        case("lower-case version", line("GET /a http/1.1"), Refused(400)),
        case("version of something else", line("GET /a ICAP/1.1"), Refused(400)),
        case("no method", line(" /a HTTP/1.1"), Refused(400)),
        case("two spaces before the target", line("GET  /a HTTP/1.1"), Refused(400)),
        case("two spaces before the version", line("GET /a  HTTP/1.1"), Refused(400)),
        case("space after the version", line("GET /a HTTP/1.1 "), Refused(400)),
        case("space before the method", line(" GET /a HTTP/1.1"), Refused(400)),
        case("tab instead of space", line("GET\t/a\tHTTP/1.1"), Refused(400)),
        case("space within the target", line("GET /a b HTTP/1.1"), Refused(400)),
        case("method with a colon", line("GE:T /a HTTP/1.1"), Refused(400)),
        case("method with a bracket", line("GET( /a HTTP/1.1"), Refused(400)),
        case("method with a control character", line("GE\x01T /a HTTP/1.1"), Refused(400)),
        case("method too long for any", line(&format!("{} /a HTTP/1.1", "M".repeat(40))), Refused(501)),
        case("cr within the request line", line("GET /a\rb HTTP/1.1"), Refused(400)),
        case("request line ends in lf", b"GET /a HTTP/1.1\nHost: h\r\n\r\n", Refused(400)),
        case("request line ends in cr", b"GET /a HTTP/1.1\rHost: h\r\r", Refused(400)),
        case("tls client hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Refused(400)),
        case("http/2 preface that breaks off", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Refused(505)),
        case("connect", b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", Refused(501)),
        case("websocket", get("Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"), Refused(501)),
        case(
            "offer of h2c is ignored",
            get("Host: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"),
            Passed(GET),
        ),
    ]
}

fn targets() -> Vec<Case> {
    vec![
        case("query and escapes untouched", target("/a%2Fb/../c?x=%7e&y=+&&"), Passed(&["GET /a%2Fb/../c?x=%7e&y=+&& HTTP/1.1 "])),
        case("double slash", target("//a//b"), Passed(&["GET //a//b HTTP/1.1 "])),
        case("fragment", target("/a#b"), Refused(400)),
        case("fragment in the query", target("/a?b#c"), Refused(400)),
        case("nul in the target", target("/a\0b"), Refused(400)),
        case("del in the target", target("/a\x7fb"), Refused(400)),
        case("tab in the target", target("/a\tb"), Refused(400)),
        case("vertical tab in the target", target("/a\x0bb"), Refused(400)),
        case("angle bracket", target("/<a>"), Refused(400)),
        case("bytes that are no text", b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n", Refused(400)),
        case("relative target", target("a"), Refused(400)),
        case("query only", target("?a"), Refused(400)),
        case("asterisk with get", target("*"), Refused(400)),
        case("asterisk with options", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Passed(&["OPTIONS * HTTP/1.1 "])),
        case("absolute", target("http://h/a"), Passed(GET)),
        case("absolute, case and default port", b"GET http://EXAMPLE.com:80/a HTTP/1.1\r\nHost: example.COM\r\n\r\n", Passed(GET)),
        case("absolute with another host", target("http://evil/a"), Refused(400)),
        case("absolute with another port", target("http://h:81/a"), Refused(400)),
        case("absolute with user", target("http://me@h/a"), Refused(400)),
        case("absolute with another scheme", target("file://h/a"), Refused(400)),
        case("absolute without host", target("http:///a"), Refused(400)),
        case("absolute without host header", b"GET http://h/a HTTP/1.1\r\n\r\n", Refused(400)),
        case("authority form with get", target("h:80"), Refused(400)),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |value: &str| get(&format!("Host:{value}\r\n"));
    vec![
        case("no host", get("X: y\r\n"), Refused(400)),
        case("no host in http/1.0", b"GET /a HTTP/1.0\r\n\r\n", Passed(GET)),
        case("two hosts", get("Host: h\r\nHost: g\r\n"), Refused(400)),
        case("the same host twice", get("Host: h\r\nHost: h\r\n"), Refused(400)),
        case("two hosts in http/1.0", b"GET /a HTTP/1.0\r\nHost: h\r\nhost: g\r\n\r\n", Refused(400)),
        case("empty host", host(""), Refused(400)),
        case("host with port", host(" h:8080"), Passed(GET)),
        case("host v6", host(" [::1]:80"), Passed(GET)),
        case("host v6 without bracket", host(" ::1"), Refused(400)),
        case("host v6 malformed", host(" [::g]"), Refused(400)),
        case("host with path", host(" h/a"), Refused(400)),
        case("host with user", host(" me@h"), Refused(400)),
        case("host with space", host(" h g"), Refused(400)),
        case("host list", host(" h, g"), Refused(400)),
        case("host with query", host(" h?a"), Refused(400)),
        case("host with backslash", host(" h\\a"), Refused(400)),
        case("host with escape", host(" h%00"), Refused(400)),
        case("port that is no number", host(" h:80a"), Refused(400)),
        case("port too large", host(" h:65536"), Refused(400)),
        case("empty port", host(" h:"), Refused(400)),
    ]
}

fn lines() -> Vec<Case> {
    vec![
        case("header ends in lf", b"GET /a HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", Refused(400)),
        case("head ends in lf", b"GET /a HTTP/1.1\r\nHost: h\r\n\n", Refused(400)),
        case("folded header", get("Host: h\r\nX: a\r\n b\r\n"), Refused(400)),
        case("folded with tab", get("Host: h\r\nX: a\r\n\tb\r\n"), Refused(400)),
        case("folded coding", get("Host: h\r\nTransfer-Encoding:\r\n chunked\r\n"), Refused(501)),
        case("first line folded", get(" Host: h\r\n"), Refused(400)),
        case("space before colon", get("Host : h\r\n"), Refused(400)),
        case("tab before colon", get("Host: h\r\nContent-Length\t: 5\r\n"), Refused(400)),
        case("no colon", get("Host: h\r\nX\r\n"), Refused(400)),
        case("empty name", get("Host: h\r\n: y\r\n"), Refused(400)),
        case("space in name", get("Host: h\r\nX Y: z\r\n"), Refused(400)),
        case("bracket in name", get("Host: h\r\nX(: z\r\n"), Refused(400)),
        case("nul in name", get("Host: h\r\nX\0: z\r\n"), Refused(400)),
        case("high byte in name", b"GET /a HTTP/1.1\r\nHost: h\r\nX\xe9: y\r\n\r\n", Refused(400)),
        case("high byte in value", b"GET /a HTTP/1.1\r\nHost: h\r\nX: \xe9\r\n\r\n", Passed(GET)),
        case("nul in value", get("Host: h\r\nX: a\0b\r\n"), Refused(400)),
        case("cr in value", get("Host: h\r\nX: a\rY: b\r\n"), Refused(400)),
        case("cr cr lf", b"GET /a HTTP/1.1\r\nHost: h\r\r\n\r\n", Refused(400)),
        case("escape in value", get("Host: h\r\nX: a\x1bb\r\n"), Refused(400)),
        case("del in value", get("Host: h\r\nX: a\x7fb\r\n"), Refused(400)),
        case("tab in value", get("Host: h\r\nX: a\tb\r\n"), Passed(GET)),
        case("empty value", get("Host: h\r\nX:\r\n"), Passed(GET)),
        case("odd but lawful name", get("Host: h\r\n!#$%&'*+-.^_`|~: y\r\n"), Passed(GET)),
        case("the same header twice", get("Host: h\r\nX: 1\r\nX: 2\r\n"), Passed(GET)),
    ]
}

fn lengths() -> Vec<Case> {
    let length = |value: &str| post(&format!("Content-Length:{value}\r\n"), "hello");
    vec![
        case("length", length(" 5"), Passed(HELLO)),
        case("length without space", length("5"), Passed(HELLO)),
        case("length zero", post("Content-Length: 0\r\n", ""), Passed(EMPTY)),
        case(
            "length with get",
            get("Host: h\r\nContent-Length: 5\r\n").into_iter().chain(*b"hello").collect::<Vec<_>>(),
            Passed(&["GET /a HTTP/1.1 hello"]),
        ),
        case("length with plus", length(" +5"), Refused(400)),
        case("length negative", length(" -5"), Refused(400)),
        case("length hexadecimal", length(" 0x5"), Refused(400)),
        case("length list", length(" 5, 5"), Refused(400)),
        case("length list with another", length(" 5,6"), Refused(400)),
        case("length with fraction", length(" 5.0"), Refused(400)),
        case("length with space inside", length(" 5 5"), Refused(400)),
        case("length with leading zero", length(" 05"), Refused(400)),
        case("length empty", length(""), Refused(400)),
        case("length beyond 64 bits", length(" 18446744073709551621"), Refused(400)),
        case("length larger than allowed", length(" 99999999999999"), Refused(413)),
        case("length with letter", length(" 5a"), Refused(400)),
        case("length with other digits", post("Content-Length: \u{ff15}\r\n", "hello"), Refused(400)),
        case("length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), Refused(400)),
        case("length twice, differing", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), Refused(400)),
        case("length twice, in another case", post("Content-Length: 5\r\ncontent-length: 0\r\n", "hello"), Refused(400)),
        case("length with vertical tab", length(" 5\x0b"), Refused(400)),
    ]
}

fn codings() -> Vec<Case> {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let coding = |value: &str| post(&format!("Transfer-Encoding:{value}\r\n"), body);
    vec![
        case("chunked", coding(" chunked"), Passed(HELLO)),
        case("chunked in another case", coding(" Chunked"), Passed(HELLO)),
        case("chunked after a tab", coding("\tchunked"), Passed(HELLO)),
        case("length then coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", body), Refused(400)),
        case("coding then length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", body), Refused(400)),
        case("coding and length zero", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", body), Refused(400)),
        case("coding twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body), Refused(400)),
        case("coding twice, one unknown", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", body), Refused(400)),
        case("xchunked", coding(" xchunked"), Refused(501)),
        case("chunked with parameter", coding(" chunked;q=1"), Refused(501)),
        case("chunked in quotes", coding(" \"chunked\""), Refused(501)),
        case("chunked chunked", coding(" chunked, chunked"), Refused(501)),
        case("gzip, chunked", coding(" gzip, chunked"), Refused(501)),
        case("chunked, identity", coding(" chunked, identity"), Refused(501)),
        case("identity", coding(" identity"), Refused(501)),
        case("empty coding", coding(""), Refused(501)),
        case("comma before chunked", coding(" ,chunked"), Refused(501)),
        case("chunked after vertical tab", coding(" \x0bchunked"), Refused(400)),
        case("chunked with nul", coding(" chunked\0"), Refused(400)),
        case("coding with space before colon", post("Transfer-Encoding : chunked\r\n", body), Refused(400)),
        case("coding in http/1.0", format!("POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), Refused(400)),
        case("coding after a header with cr", post("X: y\rTransfer-Encoding: chunked\r\n", body), Refused(400)),
        case("coding in a smuggled line", post("X: y\nTransfer-Encoding: chunked\r\n", body), Refused(400)),
    ]
}

fn chunks() -> Vec<Case> {
    vec![
        case("several chunks", chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), Passed(HELLO)),
        case("leading zeros", chunked("0005\r\nhello\r\n0\r\n\r\n"), Passed(HELLO)),
        case("several zeros at the end", chunked("5\r\nhello\r\n000\r\n\r\n"), Passed(HELLO)),
        case("extension", chunked("5;a=\"b\"\r\nhello\r\n0;z\r\n\r\n"), Passed(HELLO)),
        case("chunked and empty", chunked("0\r\n\r\n"), Passed(EMPTY)),
        case("size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size with plus", chunked("+5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size negative", chunked("-5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size empty", chunked("\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size with leading space", chunked(" 5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size with trailing space", chunked("5 \r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size with underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size with letter", chunked("g\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size overflows", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size with too many zeros", chunked("00000000000000005\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("extension only", chunked(";a\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("extension with lf", chunked("5;a\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("extension with nul", chunked("5;a\0\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("extension without end", chunked(&format!("5;{}", "a".repeat(5_000))), Refused(400)),
        case("size ends in lf", chunked("5\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("size ends in cr", chunked("5\rhello\r\n0\r\n\r\n"), Refused(400)),
        case("data without end", chunked("5\r\nhello0\r\n\r\n"), Refused(400)),
        case("data end in lf", chunked("5\r\nhello\n0\r\n\r\n"), Refused(400)),
        case("data end in cr", chunked("5\r\nhello\r0\r\n\r\n"), Refused(400)),
        case("data longer than said", chunked("4\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        case("data shorter than said", chunked("6\r\nhello\r\n0\r\n\r\nGET /"), Refused(400)),
    ]
}

fn trailers() -> Vec<Case> {
    let with = |trailers: &str| chunked(&format!("5\r\nhello\r\n0\r\n{trailers}\r\n"));
    vec![
        case("trailer", with("X-Sum: 1\r\n"), Passed(HELLO)),
        case("length in the trailer", with("Content-Length: 5\r\n"), Refused(400)),
        case("coding in the trailer", with("Transfer-Encoding: chunked\r\n"), Refused(400)),
        case("host in the trailer", with("Host: g\r\n"), Refused(400)),
        case("credential in the trailer", with("Authorization: Bearer x\r\n"), Refused(400)),
        case("trailer without colon", with("X\r\n"), Refused(400)),
        case("trailer with lf", with("X: y\n"), Refused(400)),
        case("trailer with nul", with("X: \0\r\n"), Refused(400)),
        case("request in the trailer", with("GET /b HTTP/1.1\r\nHost: h\r\n"), Refused(400)),
    ]
}

fn sizes() -> Vec<Case> {
    let headers = |count: usize| get(&format!("Host: h\r\n{}", "X: y\r\n".repeat(count - 1)));
    vec![
        case("as many headers as allowed", headers(100), Passed(GET)),
        case("one header too many", headers(101), Refused(431)),
        case("header larger than allowed", get(&format!("Host: h\r\nX: {}\r\n", "y".repeat(70_000))), Refused(431)),
        case("large header within bounds", get(&format!("Host: h\r\nX: {}\r\n", "y".repeat(60_000))), Passed(GET)),
        case(
            "many bytes of small headers",
            get(&format!("Host: h\r\n{}", format!("X: {}\r\n", "y".repeat(1_000)).repeat(80))),
            Refused(431),
        ),
        case("header without end", format!("GET /a HTTP/1.1\r\nHost: h\r\nX: {}", "y".repeat(70_000)), Refused(431)),
        case("target larger than allowed", target(&format!("/{}", "a".repeat(17_000))), Refused(414)),
        case("target without end", format!("GET /{}", "a".repeat(17_000)), Refused(414)),
    ]
}

fn pipelines() -> Vec<Case> {
    let two = |first: Vec<u8>, second: &[u8]| [&first[..], second].concat();
    let b = b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    vec![
        case("two gets", two(get("Host: h\r\n"), b), Passed(&["GET /a HTTP/1.1 ", "GET /b HTTP/1.1 "])),
        case("post and get", two(post("Content-Length: 5\r\n", "hello"), b), Passed(&["POST /a HTTP/1.1 hello", "GET /b HTTP/1.1 "])),
        case("chunked and get", two(chunked("5\r\nhello\r\n0\r\n\r\n"), b), Passed(&["POST /a HTTP/1.1 hello", "GET /b HTTP/1.1 "])),
        case("a request as a body is a body", post("Content-Length: 7\r\n", "GET /b "), Passed(&["POST /a HTTP/1.1 GET /b "])),
        case("body longer than its length", two(post("Content-Length: 4\r\n", "hell"), b"o"), Passed(&["POST /a HTTP/1.1 hell"])),
        case(
            "hidden request behind length and coding",
            two(post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), b),
            Refused(400),
        ),
        case("hidden request behind a lying chunk", chunked("3\r\nabcGET /b HTTP/1.1\r\nHost: h\r\n\r\n"), Refused(400)),
    ]
}
