//! What is delivered, read by the messages of OpenTelemetry's own package.

use std::io::Write;
use std::process::{Command, Stdio};

use farthing_tests::skip::skip;
use farthing_tests::{Origin, Setup};
use serde_json::Value;

use super::collector::{Collector, told};
use crate::clients::python;

const SCRIPT: &str = "
import json, sys
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
read = ExportTraceServiceRequest.FromString(sys.stdin.buffer.read())
from google.protobuf.unknown_fields import UnknownFieldSet
def unknown(message):
    return len(UnknownFieldSet(message)) + sum(unknown(m) for f, v in message.ListFields() if f.message_type for m in (v if f.is_repeated else [v]))
json.dump({'unknown': unknown(read), 'read': MessageToDict(read)}, sys.stdout)
";

#[tokio::test]
async fn opentelemetrys_own_messages_read_it() {
    let Some(python) = python() else { return skip("OpenTelemetry's messages: no target/venv (make deps)") };
    let there = Command::new(&python).args(["-c", "import opentelemetry.proto"]).stderr(Stdio::null()).status().unwrap();
    if !there.success() {
        return skip("OpenTelemetry's messages: not in target/venv (make deps)");
    }
    let origin = Origin::simple(|_, _| farthing_tests::origin::ok("{}")).await;
    let collector = Collector::start().await;
    let started = told(Setup::new(origin.addr), &collector).start().await;
    started.client.get("/api/1", &[("traceparent", super::PARENT)]).await;
    started.proxy.shutdown().await;
    let mut spans = Vec::new();
    for seen in collector.0.seen() {
        let mut child = Command::new(&python).args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&seen.body).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let read: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(read["unknown"], 0, "each field is one that it knows: {read}");
        let of = &read["read"]["resourceSpans"][0];
        assert_eq!(of["resource"]["attributes"][0]["value"]["stringValue"], "gateway");
        spans.extend(of["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    let own = collector.spans();
    assert_eq!(spans.len(), 2);
    for (theirs, ours) in spans.iter().zip(&own) {
        assert_eq!(theirs["name"], *ours.name);
        assert_eq!(theirs["kind"], if ours.kind == 2 { "SPAN_KIND_SERVER" } else { "SPAN_KIND_CLIENT" });
        assert_eq!(theirs["startTimeUnixNano"], ours.start_time_unix_nano.to_string());
        assert_eq!(theirs["attributes"].as_array().unwrap().len(), ours.attributes.len());
    }
}
