//! GraphQL: merged queries are held against a real server, which answers them merged and apart.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use farthing_policy::batch::Alone;
use farthing_types::Call;
use http::{HeaderMap, Method};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::provider::*;
use crate::batch::*;

fn call(body: &str) -> Call {
    World::new(rest(), rule(), 1, Provider::new(|_, seen| echo(seen))).call(Method::POST, "/graphql", body).0
}

fn part(format: &dyn BatchFormat, body: &str) -> Result<Part, Alone> {
    let call = call(body);
    format.part(&call, &call.body.as_full().unwrap())
}

fn join(format: &dyn BatchFormat, parts: &[Part]) -> String {
    let joined = format.join(&call("{}"), &parts.iter().collect::<Vec<_>>()).unwrap();
    String::from_utf8(joined.body.unwrap().to_vec()).unwrap()
}

fn split(format: &dyn BatchFormat, parts: &[Part], answer: &str) -> Result<Vec<String>, String> {
    let pieces = format.split(&parts.iter().collect::<Vec<_>>(), &HeaderMap::new(), &Bytes::from(answer.to_owned()));
    let text = |piece: Piece| String::from_utf8(piece.body.to_vec()).unwrap();
    pieces.map(|pieces| pieces.into_iter().map(text).collect()).map_err(|broken| broken.0.to_string())
}

#[tokio::test]
async fn an_array_is_answered_in_order_or_not_at_all() {
    let bodies = [r#"{"query":"{ a }","variables":null}"#, r#" {"query":"query B { b }","operationName":"B","extensions":{}} "#];
    let parts: Vec<Part> = bodies.iter().map(|body| part(&GraphqlArray, body).unwrap()).collect();
    assert!(parts.iter().all(|part| part.repeatable));
    assert_eq!(join(&GraphqlArray, &parts), format!("[{},{}]", bodies[0], bodies[1].trim()));
    let answer = r#"[{"data":{"a":1.0}}, {"errors":[{"message":"no"}]}]"#;
    assert_eq!(split(&GraphqlArray, &parts, answer).unwrap(), [r#"{"data":{"a":1.0}}"#, r#"{"errors":[{"message":"no"}]}"#]);
    for wrong in [r#"[{"data":1}]"#, r#"{"errors":[]}"#, r#"[{"data":1},{"x":1}]"#, r#"[{"data":1},{"data":1},{"data":1}]"#] {
        assert!(split(&GraphqlArray, &parts, wrong).is_err(), "{wrong}");
    }
    for body in [r#"{"query":"mutation { a }"}"#, r#"{"id":"x"}"#, r#"{"query":7}"#, "[]", r#"{"query":"{ a"}"#] {
        assert_eq!(part(&GraphqlArray, body), Err(Alone::Body), "{body}");
    }
}

#[tokio::test]
async fn merged_fields_and_errors_go_back_to_whom_they_belong() {
    let bodies = [
        r#"{"query":"query($id: ID) { u: user(id: $id) { ...F } } fragment F on User { name }","variables":{"id":"7"}}"#,
        r##"{"query":"{ u # a comment\n fails }"}"##,
    ];
    let parts: Vec<Part> = bodies.iter().map(|body| part(&GraphqlMerge, body).unwrap()).collect();
    let merged: Value = serde_json::from_str(&join(&GraphqlMerge, &parts)).unwrap();
    let query = merged["query"].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        query,
        "query($m0_id: ID ){ m0_u: user(id: $m0_id) { ...m0_F } m1_u: u # a comment m1_fails: fails } fragment m0_F on User { name }"
    );
    assert_eq!(merged["variables"], json!({ "m0_id": "7" }));
    let answer = r#"{"data":{"m0_u":{"name":"x"},"m1_u":1.50,"m1_fails":null},"extensions":{"t":1},
        "errors":[{"message":"no","locations":[{"line":1}],"path":["m1_fails",0,"a"],"extensions":{"code":"X"}}]}"#;
    let expected = [
        r#"{"data":{"u":{"name":"x"}}}"#,
        r#"{"errors":[{"message":"no","path":["fails",0,"a"],"extensions":{"code":"X"}}],"data":{"u":1.50,"fails":null}}"#,
    ];
    assert_eq!(split(&GraphqlMerge, &parts, answer).unwrap(), expected);
    for wrong in [
        r#"{"errors":[{"message":"syntax"}]}"#,
        r#"{"data":null,"errors":[{"message":"x","path":["m1_fails"]}]}"#,
        r#"{"data":{"m0_u":1},"errors":[{"message":"of the whole"}]}"#,
        r#"{"data":{"m2_u":1}}"#,
        r#"{"data":{"u":1}}"#,
        r#"{"data":{"m01_u":1}}"#,
    ] {
        assert!(split(&GraphqlMerge, &parts, wrong).is_err(), "{wrong}");
    }
    for body in [
        r#"{"query":"mutation { a }"}"#,
        r#"{"query":"{ a }","extensions":{"persistedQuery":{}}}"#,
        r#"{"query":"{ a }","variables":[]}"#,
        r#"{"query":"{ a }","variables":{"a\"b":1}}"#,
        r#"{"query":"{ a(x: \"\u0002\") }"}"#,
        r#"{"query":"query A { a }","operationName":"B"}"#,
    ] {
        assert_eq!(part(&GraphqlMerge, body), Err(Alone::Body), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_query_that_cannot_be_answered_costs_the_others_nothing_but_a_call() {
    let provider = Provider::new(|number, _| match number {
        0 => Answer::Reply(400, r#"{"errors":[{"message":"unknown field"}]}"#.to_owned()),
        _ => Answer::Reply(200, r#"{"data":{"a":1}}"#.to_owned()),
    });
    let world = World::new(Arc::new(GraphqlMerge), rule(), 2, provider);
    let asked =
        ["{ a }", "{ wrong }"].map(|query| world.ask(world.call(Method::POST, "/graphql", &json!({ "query": query }).to_string()).0));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|(status, _)| *status == 200)), "{answers:?}");
    assert_eq!(world.provider.calls(), 3);
}

/// The server of `tests/graphql_server.py`.
struct Server {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../../target/venv/bin/python");
        let has = Command::new(&python).args(["-c", "import graphql"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !has {
            skipped("no graphql-core for the server of GraphQL; `make deps` installs it");
            return None;
        }
        let mut command = Command::new(python);
        command.arg(root.join("tests/graphql_server.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, to, from })
    }

    fn ask(&mut self, request: &str) -> String {
        // The server reads lines.
        let line = serde_json::from_str::<Value>(request).unwrap().to_string();
        writeln!(self.to, "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        answer
    }
}

fn skipped(what: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "SKIPPED: {what}");
    let list = std::env::var_os("FARTHING_SKIPPED").and_then(|list| std::fs::OpenOptions::new().append(true).create(true).open(list).ok());
    if let Some(mut list) = list {
        writeln!(list, "{what}").unwrap();
    }
}

/// A random query with its variables: valid, though what it asks for may fail.
fn random(rng: &mut StdRng) -> String {
    let mut variables = serde_json::Map::new();
    let (mut declared, mut fragments) = (Vec::new(), String::new());
    let mut declare = |name: &str, kind: &str, value: Value| {
        if !variables.contains_key(name) {
            declared.push(format!("${name}: {kind}"));
            variables.insert(name.to_owned(), value);
        }
        format!("${name}")
    };
    let mut fields = Vec::new();
    for n in 0..rng.random_range(1..5) {
        let id = ["a", "b1", "c2", "i1", "i2"][rng.random_range(0..5)];
        let alias = ["", "x: ", "user: ", "m1_x: ", "type: "][if n == 0 { rng.random_range(0..5) } else { 0 }];
        let alias = if alias.is_empty() { format!("f{n}: ") } else { alias.to_owned() };
        let inner =
            ["id name", "id ...F", "__typename friends(first: 2) { id broken }", "n: name broken", "...F ...G"][rng.random_range(0..5)];
        let field = match rng.random_range(0..7) {
            0 => format!("user(id: {}) {{ {inner} }}", declare("id", "ID!", json!(id))),
            1 => format!("user(id: \"{id}\") {{ {inner} strict }}"),
            2 => format!("node(id: \"{id}\") {{ id ... on User {{ {inner} }} ... on Item {{ price owner {{ ...F }} }} }}"),
            3 => {
                format!("echo(text: \"$id # {id}\", filter: {{ text: {}, sizes: [1, 2] }})", declare("text", "String = \"d\"", json!("t")))
            }
            4 => format!("fails(code: {})", rng.random_range(0..6)),
            5 => format!("fails(code: 1) @include(if: {})", declare("flag", "Boolean!", json!(rng.random_bool(0.5)))),
            _ => format!("needed(fail: {})", rng.random_bool(0.1)),
        };
        let comment = if rng.random_bool(0.2) { "# } { \"\n" } else { "" };
        fields.push(format!("{alias}{field} {comment}"));
    }
    let body = fields.join("\n ");
    if body.contains("...F") || body.contains("...G") {
        fragments.push_str(" fragment F on User { name friends { ...H } } fragment H on User { id }");
    }
    if body.contains("...G") {
        fragments.push_str("\nfragment G on User { g: id broken }");
    }
    let head = if declared.is_empty() { String::new() } else { format!("query Q({})", declared.join(", ")) };
    json!({ "query": format!("{head} {{ {body} }}{fragments}"), "variables": variables }).to_string()
}

/// An answer as it is compared: where in a text an error was is told only apart.
fn compared(answer: &str) -> Value {
    let mut answer: Value = serde_json::from_str(answer).unwrap();
    for error in answer["errors"].as_array_mut().into_iter().flatten() {
        error.as_object_mut().unwrap().remove("locations");
    }
    if answer["errors"].is_null() {
        answer.as_object_mut().unwrap().remove("errors");
    }
    answer
}

fn merged_is_as_apart(sets: u64) {
    let Some(mut server) = Server::start() else { return };
    let (mut merged, mut with_errors, mut whole) = (0, 0, 0);
    for seed in 0..sets {
        let mut rng = StdRng::seed_from_u64(seed);
        let bodies: Vec<String> = (0..rng.random_range(2..7)).map(|_| random(&mut rng)).collect();
        let apart: Vec<Value> = bodies.iter().map(|body| compared(&server.ask(body))).collect();
        assert!(
            apart.iter().all(|answer| answer.get("data").is_some()),
            "seed {seed}: the test asks for what is not valid: {bodies:?} {apart:?}"
        );
        let parts: Vec<Part> = bodies.iter().map(|body| part(&GraphqlMerge, body).unwrap()).collect();
        let answer = server.ask(&join(&GraphqlMerge, &parts));
        match split(&GraphqlMerge, &parts, &answer) {
            Ok(pieces) => {
                for ((piece, apart), body) in pieces.iter().zip(&apart).zip(&bodies) {
                    assert_eq!(compared(piece), *apart, "seed {seed}: {body}");
                    merged += 1;
                    with_errors += usize::from(apart.get("errors").is_some());
                }
            }
            // Only where somebody's error leaves nobody any data.
            Err(reason) => {
                assert!(apart.iter().any(|answer| answer["data"].is_null()), "seed {seed}: {reason}: {answer}");
                whole += 1;
            }
        }
    }
    println!("{sets} sets: {merged} queries answered merged, {with_errors} of them with errors; {whole} sets went apart");
    assert!(merged as u64 > sets && with_errors * 20 > merged && whole > 0);
}

#[tokio::test]
async fn a_real_server_answers_merged_queries_as_it_does_apart() {
    merged_is_as_apart(100);
}

#[tokio::test]
#[ignore = "1e4 sets of queries; `make simulate` runs it"]
async fn a_real_server_answers_1e4_sets_of_merged_queries_as_it_does_apart() {
    merged_is_as_apart(10_000);
}
