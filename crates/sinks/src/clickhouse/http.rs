//! Questions and rows over ClickHouse's HTTP interface.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use farthing_types::Span;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;

use super::ClickhouseSpec;
use super::fault::{answered, failed};
use crate::client::{HttpClient, client};
use crate::{Fault, FaultReason};

/// Longest answer that is read: the names of a day's files.
const LONGEST: usize = 64 << 20;
/// Connections that nobody uses stay so long; servers close them after three seconds or ten.
const IDLE: Span = Span::from_secs(2);
/// All rows of a file are one block, so that they become one part: there as a whole or not at all. Settings that a server does not know are left out, for it refuses them.
const SETTINGS: [(&str, &str); 9] = [
    ("max_insert_block_size", "1000000000"),
    ("min_insert_block_size_rows", "1000000000"),
    ("min_insert_block_size_bytes", "0"),
    ("max_insert_block_size_bytes", "0"),
    ("max_partitions_per_insert_block", "0"),
    ("async_insert", "0"),
    // What deletes rows is over when all replicas have done it.
    ("mutations_sync", "2"),
    ("allow_nondeterministic_mutations", "1"),
    // Of servers where these types were new.
    ("allow_experimental_low_cardinality_type", "1"),
];

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A server.
pub struct Server {
    client: HttpClient<Body>,
    url: String,
    user: HeaderValue,
    password: Option<HeaderValue>,
    /// Those of [`SETTINGS`] that the server knows, as part of a query string.
    settings: Mutex<Arc<str>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Of a description; what is wrong with it, without the password.
    pub fn new(spec: &ClickhouseSpec, deadline: Span) -> Result<Self, String> {
        let url = spec.url.trim_end_matches('/').to_owned();
        url.parse::<Uri>().map_err(|error| format!("the URL cannot be read: {error}"))?;
        let user = HeaderValue::from_str(&spec.user).map_err(|_| "the user's name cannot stand in a header".to_owned())?;
        let password = spec.password.as_deref().map(|password| {
            let mut value = HeaderValue::from_str(password).map_err(|_| "the password cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let client = client(spec.authorities.as_deref(), deadline, IDLE)?;
        Ok(Self { client, url, user, password: password.transpose()?, settings: Mutex::new("".into()) })
    }

    /// Asks which settings the server knows.
    pub async fn learn_settings(&self) -> Result<(), Fault> {
        let names: Vec<String> = SETTINGS.iter().map(|(name, _)| format!("'{name}'")).collect();
        let known = self.ask(&format!("SELECT name FROM system.settings WHERE name IN ({})", names.join(", "))).await?;
        let known: Vec<&String> = known.iter().filter_map(|row| row.first()).collect();
        let used = SETTINGS.iter().filter(|(name, _)| known.iter().any(|known| known == name));
        let query: String = used.map(|(name, value)| format!("&{name}={value}")).collect();
        *self.settings.lock() = query.into();
        Ok(())
    }

    /// The rows that answer a question, or none of a statement. Without a deadline: whoever asks has one.
    pub async fn ask(&self, sql: &str) -> Result<Vec<Vec<String>>, Fault> {
        let body = Full::new(Bytes::from(sql.to_owned())).boxed_unsync();
        let text = self.send("", body).await?;
        Ok(text.lines().map(|line| line.split('\t').map(unescaped).collect()).collect())
    }

    /// The one number that answers a question.
    pub async fn number(&self, sql: &str) -> Result<u64, Fault> {
        let rows = self.ask(sql).await?;
        let number = rows.first().and_then(|row| row.first()).and_then(|cell| cell.parse().ok());
        number.ok_or_else(|| Fault::new(FaultReason::Unavailable, "the server did not answer with a number"))
    }

    /// Sends data that a statement takes.
    pub async fn insert(&self, sql: &str, id: &str, data: Vec<Bytes>) -> Result<(), Fault> {
        let frames = data.into_iter().map(|bytes| Ok(Frame::data(bytes)));
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        self.send(&format!("&query_id={id}&query={}", encoded(sql)), body).await.map(drop)
    }

    async fn send(&self, query: &str, body: Body) -> Result<String, Fault> {
        let settings = self.settings.lock().clone();
        // The head of an answer tells how it ended only when it comes last.
        let uri = format!("{}/?wait_end_of_query=1{settings}{query}", self.url);
        let mut request = Request::post(uri).header("x-clickhouse-user", &self.user);
        if let Some(password) = &self.password {
            request = request.header("x-clickhouse-key", password);
        }
        let request = request.body(body).map_err(|error| Fault::new(FaultReason::Refused, error.to_string()))?;
        let (head, body) = self.client.request(request).await.map_err(|error| failed(&error))?.into_parts();
        let bytes = Limited::new(body, LONGEST).collect().await.map_err(|error| failed(&*error))?.to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if head.status == StatusCode::OK { Ok(text) } else { Err(answered(head.status, &text)) }
    }
}

/// A cell as `TabSeparated` has it.
fn unescaped(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    let mut chars = cell.chars();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.next() } else { None };
        text.push(match next {
            None => c,
            Some('t') => '\t',
            Some('n') => '\n',
            Some('0') => '\0',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(other) => other,
        });
    }
    text
}

/// A text within a query string.
fn encoded(text: &str) -> String {
    let byte = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_and_queries_come_as_they_were() {
        assert_eq!(unescaped("a\\tb\\\\c\\'d\\N"), "a\tb\\c'dN");
        assert_eq!(encoded("a \"b\","), "a%20%22b%22%2C");
    }

    #[test]
    fn what_cannot_work_is_said_without_the_password() {
        let spec = |user: &str, password: &str| ClickhouseSpec {
            url: "http://h:8123".to_owned(),
            user: user.to_owned(),
            password: Some(password.into()),
            ..ClickhouseSpec::default()
        };
        let wrong = |spec: ClickhouseSpec| Server::new(&spec, Span::from_secs(1)).err().unwrap();
        assert!(wrong(spec("a\nb", "x")).contains("user's name"));
        let said = wrong(spec("a", "hunter2\n"));
        assert!(said.contains("password cannot") && !said.contains("hunter2"));
        let authorities = ClickhouseSpec { authorities: Some("none".to_owned()), ..spec("a", "b") };
        assert!(wrong(authorities).contains("no certificate"));
    }
}
