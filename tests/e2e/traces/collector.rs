//! A collector of traces: decodes what it is sent by messages of its own, and hands out spans.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::OtlpConfig;
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::{Origin, Setup};
use http::{Response, StatusCode};
use prost::Message;
use std::time::Duration;

#[derive(Clone, PartialEq, Message)]
pub struct Delivery {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    pub schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Of", tags = "1, 2, 3")]
    pub of: Option<Of>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Of {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
}

pub const SERVER: i32 = 2;
pub const CLIENT: i32 = 3;
pub const INTERNAL: i32 = 1;

impl Span {
    pub fn id(&self) -> String {
        hex(&self.span_id)
    }
    pub fn trace(&self) -> String {
        hex(&self.trace_id)
    }
    pub fn parent(&self) -> String {
        hex(&self.parent_span_id)
    }
    /// As the `traceparent` of a recorded span.
    pub fn as_parent(&self) -> String {
        format!("00-{}-{}-01", self.trace(), self.id())
    }
    /// An attribute as text; empty where there is none.
    pub fn of(&self, key: &str) -> String {
        let found = self.attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_ref()?.of.as_ref());
        match found {
            Some(Of::Text(text)) => text.clone(),
            Some(Of::Number(number)) => number.to_string(),
            Some(Of::Flag(flag)) => flag.to_string(),
            None => String::new(),
        }
    }
    /// Trace and span of what it is linked with.
    pub fn linked(&self) -> Vec<(String, String)> {
        self.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect()
    }
    pub fn failed(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector that takes all.
pub struct Collector(pub Origin);

impl Collector {
    pub async fn start() -> Self {
        Self(Origin::simple(|_, _| ok("")).await)
    }

    /// One that never answers.
    pub async fn hanging() -> Self {
        Self(Origin::start(Arc::new(|_, _| Box::pin(std::future::pending()))).await)
    }

    /// One that refuses.
    pub async fn refusing(status: StatusCode) -> Self {
        Self(Origin::simple(move |_, _| -> Response<_> { answer_of(status, &[], "") }).await)
    }

    pub fn config(&self) -> OtlpConfig {
        OtlpConfig {
            endpoint: format!("http://{}/v1/traces", self.0.addr).parse().unwrap(),
            headers: vec![("x-collector".parse().unwrap(), farthing_config::Secret::new("open-sesame"))],
            sample: 1.0,
            attributes: vec![("service.name".into(), "gateway".into()), ("zone".into(), "b".into())],
            interval: Duration::from_millis(10),
            deadline: Duration::from_secs(10),
            queue_bytes: 1 << 20,
            authorities: None,
        }
    }

    /// What was delivered so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        let seen = self.0.seen();
        for one in &seen {
            assert_eq!((one.method.as_str(), &*one.target), ("POST", "/v1/traces"));
            assert_eq!(one.headers["content-type"], "application/x-protobuf");
            assert_eq!(one.headers["x-collector"], "open-sesame");
        }
        seen.iter().map(|one| Delivery::decode(one.body.clone()).unwrap()).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let scopes = self.deliveries().into_iter().flat_map(|delivery| delivery.resource_spans).flat_map(|of| of.scope_spans);
        let spans: Vec<Span> = scopes.flat_map(|scope| scope.spans).collect();
        let mut seen: BTreeMap<(String, String), &Span> = BTreeMap::new();
        for span in &spans {
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
            assert_eq!((span.trace_id.len(), span.span_id.len(), span.flags & 1), (16, 8, 1), "{span:?}");
            assert!(seen.insert((span.trace(), span.id()), span).is_none(), "twice: {span:?}");
        }
        spans
    }
}

/// A proxy that tells `collector` of what it does.
pub fn told(mut setup: Setup, collector: &Collector) -> Setup {
    setup.config.telemetry.otlp = Some(collector.config());
    setup
}
