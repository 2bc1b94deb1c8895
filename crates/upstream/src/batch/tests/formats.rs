//! E3: what batches look like, and how their answers are taken apart.

use std::sync::Arc;

use bytes::Bytes;
use farthing_policy::batch::Alone;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::provider::*;
use crate::batch::*;

fn world(format: Arc<dyn BatchFormat>) -> World {
    World::new(format, rule(), 1, Provider::new(|_, seen| echo(seen)))
}

pub fn users() -> IdList {
    IdList {
        single: ("/users/".to_owned(), String::new()),
        list: ("/users?ids=".to_owned(), "&full=1".to_owned()),
        separator: ",".to_owned(),
        items: "/users".to_owned(),
        id: "/id".to_owned(),
        missing: Bytes::from_static(b"{}"),
        answer: ("[".to_owned(), "]".to_owned()),
    }
}

/// The parts of these calls, and their request.
fn joined(format: &dyn BatchFormat, calls: &[(Method, &str, &str)]) -> (Vec<Part>, Joined) {
    let world = world(rest());
    let calls: Vec<_> = calls.iter().map(|(method, target, body)| world.call(method.clone(), target, body).0).collect();
    let parts: Vec<Part> = calls.iter().map(|call| format.part(call, &call.body.as_full().unwrap()).unwrap()).collect();
    let joined = format.join(&calls[0], &parts.iter().collect::<Vec<_>>()).unwrap();
    (parts, joined)
}

fn alone(format: &dyn BatchFormat, method: Method, target: &str, body: &str) -> Alone {
    let call = world(rest()).call(method, target, body).0;
    format.part(&call, &call.body.as_full().unwrap()).unwrap_err()
}

fn split(format: &dyn BatchFormat, parts: &[Part], answer: &str) -> Result<Vec<(u16, String)>, String> {
    let body = Bytes::from(answer.to_owned());
    let mut headers = HeaderMap::from_iter([("set-cookie".parse().unwrap(), HeaderValue::from_static("a=1"))]);
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let pieces = format.split(&parts.iter().collect::<Vec<_>>(), &headers, &body).map_err(|broken| broken.0.to_string())?;
    assert!(pieces.iter().all(|piece| !piece.headers.contains_key("set-cookie")));
    Ok(pieces.into_iter().map(|piece| (piece.status.as_u16(), String::from_utf8(piece.body.to_vec()).unwrap())).collect())
}

#[test]
fn an_envelope_is_taken_apart_by_its_ids_whatever_their_order() {
    let format = Rest { target: "/v1/batch".parse().unwrap() };
    let (parts, joined) =
        joined(&format, &[(Method::GET, "/a?b=%2F", ""), (Method::DELETE, "/c", ""), (Method::PUT, "/d", "{\"x\": 1.0}")]);
    assert_eq!((joined.method, joined.target.to_string()), (Method::POST, "/v1/batch".to_owned()));
    assert_eq!(
        &joined.body.unwrap()[..],
        br#"{"requests":[{"id":"0","method":"GET","url":"/a?b=%2F"},{"id":"1","method":"DELETE","url":"/c"},{"id":"2","method":"PUT","url":"/d","body":{"x": 1.0}}]}"#
    );
    let answer = r#"{"x":1,"responses":[{"id":2,"status":201,"headers":{"Location":"/d"},"body":{ "n" : 1.50 }},
        {"id":"1","status":204,"body":null},{"id":"0","status":200,"headers":{"content-type":"text/plain"},"body":"h\u00e9"}]}"#;
    assert_eq!(
        split(&format, &parts, answer),
        Ok(vec![(200, "hé".to_owned()), (204, String::new()), (201, "{ \"n\" : 1.50 }".to_owned())])
    );
}

#[test]
fn an_envelope_that_leaves_a_doubt_is_of_no_use_to_anybody() {
    let format = Rest { target: "/batch".parse().unwrap() };
    let (parts, _) = joined(&format, &[(Method::GET, "/a", ""), (Method::GET, "/b", "")]);
    let one = |id: &str| format!("{{\"id\":{id},\"status\":200,\"body\":1}}");
    let of = |responses: &[String]| split(&format, &parts, &format!("{{\"responses\":[{}]}}", responses.join(",")));
    assert!(of(&[one("0"), one("1")]).is_ok());
    for wrong in [
        vec![one("0")],
        vec![one("0"), one("0")],
        vec![one("0"), one("1"), one("2")],
        vec![one("0"), one("\"01\"")],
        vec![one("0"), one("-1")],
        vec![one("0"), one("1.0")],
        vec![one("0"), "{\"id\":1,\"id\":0,\"status\":200}".to_owned()],
        vec![one("0"), "{\"id\":1,\"body\":1}".to_owned()],
        vec![one("0"), "{\"id\":1,\"status\":100}".to_owned()],
        vec![one("0"), "{\"id\":1,\"status\":200,\"headers\":{\"a b\":\"1\"}}".to_owned()],
        vec![one("0"), "7".to_owned()],
    ] {
        assert!(of(&wrong).is_err(), "{wrong:?}");
    }
    for wrong in ["", "[]", "{}", "{\"responses\":{}}", "{\"responses\":[]", "\u{feff}{\"responses\":[]}"] {
        assert!(split(&format, &parts, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_an_envelope_cannot_hold_goes_alone() {
    let format = Rest { target: "/batch".parse().unwrap() };
    assert_eq!(alone(&format, Method::HEAD, "/a", ""), Alone::Method);
    for body in ["{\"a\":", "{\"a\":\"\\ud800\"}", &("[".repeat(1_000) + &"]".repeat(1_000))] {
        assert_eq!(alone(&format, Method::POST, "/a", body), Alone::Body, "{body}");
    }
    let (mut call, _) = world(rest()).call(Method::POST, "/a", "{}");
    for media in ["text/plain", "application/merge-patch+json", "application/vnd.x.v2+json"] {
        call.headers.insert("content-type", HeaderValue::from_static(media));
        assert_eq!(format.part(&call, &Bytes::from_static(b"{}")), Err(Alone::Body), "{media}");
    }
}

#[test]
fn a_list_is_taken_apart_by_the_ids_in_its_items() {
    let format = users();
    let (parts, joined) = joined(&format, &[(Method::GET, "/users/7", ""), (Method::GET, "/users/x-9", ""), (Method::GET, "/users/7", "")]);
    assert_eq!((joined.target.to_string(), joined.body), ("/users?ids=7,x-9&full=1".to_owned(), None));
    let answer = r#"{"users": [{"id":"x-9", "n": 2.0}, {"id": 7, "n":1}]}"#;
    let seven = (200, "{\"id\": 7, \"n\":1}".to_owned());
    assert_eq!(split(&format, &parts, answer), Ok(vec![seven.clone(), (200, "{\"id\":\"x-9\", \"n\": 2.0}".to_owned()), seven.clone()]));
    // What is not there is not found.
    assert_eq!(split(&format, &parts, r#"{"users":[{"id": 7, "n":1}]}"#), Ok(vec![seven.clone(), (404, "{}".to_owned()), seven]));
    for wrong in [
        r#"{"users":[{"id":7},{"id":8}]}"#,
        r#"{"users":[{"id":7},{"id":"7"}]}"#,
        r#"{"users":[{"id":7},{"n":1}]}"#,
        r#"{"users":[{"id":7},{"id":7.0}]}"#,
        r#"{"users":{"a":3}}"#,
        r#"{"people":[]}"#,
        "",
    ] {
        assert!(split(&format, &parts, wrong).is_err(), "{wrong}");
    }
    let by_id = IdList { items: "/users".to_owned(), ..users() };
    assert_eq!(split(&by_id, &parts[..1], r#"{"users":{"7":{"id":7}}}"#), Ok(vec![(200, "{\"id\":7}".to_owned())]));
}

#[test]
fn an_id_that_could_be_read_in_more_than_one_way_goes_alone() {
    let format = users();
    for target in ["/users/", "/users/1,2", "/users/1/posts", "/users/%31", "/users/1?x=1", "/groups/1", "/users/..", "/users/a&b"] {
        assert_eq!(alone(&format, Method::GET, target, ""), Alone::Target, "{target}");
    }
    assert_eq!(alone(&format, Method::POST, "/users/1", ""), Alone::Method);
    let semicolons = IdList { separator: "~".to_owned(), ..users() };
    assert_eq!(alone(&semicolons, Method::GET, "/users/a~b", ""), Alone::Target);
}

const PATH: &str = "/v1/embeddings";

#[test]
fn embeddings_are_one_array_and_come_back_under_their_own_indexes() {
    let one = r#"{"model":"m","input":"héllo \"x\"","dimensions":2}"#;
    let two = r#"{"dimensions":2,"input":["b","c"],"model":"m"}"#;
    let (parts, joined) = joined(&Embeddings, &[(Method::POST, PATH, one), (Method::POST, PATH, two)]);
    assert_eq!((parts[0].group == parts[1].group, parts[0].units, parts[1].units), (true, 1, 2));
    assert_eq!(std::str::from_utf8(&joined.body.unwrap()).unwrap(), r#"{"input":["héllo \"x\"","b","c"],"model":"m","dimensions":2}"#);
    let answer = r#"{"object":"list","data":[{"object":"embedding","index":2,"embedding":[0.30]},{"embedding":"AACA","index":0},
        {"index":1,"embedding":[0.1,-2e-5]}],"model":"m-1","usage":{"prompt_tokens":10,"total_tokens":10,"cost":0.5}}"#;
    let first = r#"{"object":"list","data":[{"embedding":"AACA","index":0}],"model":"m-1","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    let second = r#"{"object":"list","data":[{"index":0,"embedding":[0.1,-2e-5]},{"object":"embedding","index":1,"embedding":[0.30]}],"model":"m-1","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    assert_eq!(split(&Embeddings, &parts, answer), Ok(vec![(200, first.to_owned()), (200, second.to_owned())]));
    for (was, wrong) in [("\"index\":2", "\"index\":1"), ("\"index\":2", "\"index\":3"), ("\"index\":2,", ""), ("\"data\":", "\"date\":")] {
        assert!(split(&Embeddings, &parts, &answer.replacen(was, wrong, 1)).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_asked_differently_is_not_embedded_together() {
    let group = |body: &str| joined(&Embeddings, &[(Method::POST, PATH, body)]).0[0].group.clone();
    let plain = group(r#"{"model":"m","input":"a"}"#);
    for other in [
        r#"{"model":"n","input":"a"}"#,
        r#"{"model":"m","input":"a","encoding_format":"base64"}"#,
        r#"{"model":"m","input":"a","user":"u"}"#,
        r#"{"model":"m","input":"a","dimensions":3}"#,
        r#"{"model":"m","input":[1,2]}"#,
    ] {
        assert_ne!(plain, group(other), "{other}");
    }
    assert_eq!(group(r#"{"model":"m","input":[1,2]}"#), group(r#"{"model":"m","input":[[3],[4]]}"#));
    for body in
        ["", "[]", "{}", r#"{"input":[]}"#, r#"{"input":["a",1]}"#, r#"{"input":7}"#, r#"{"input":"a","input":"b"}"#, r#"{"input":null}"#]
    {
        assert_eq!(alone(&Embeddings, Method::POST, PATH, body), Alone::Body, "{body}");
    }
    assert_eq!(alone(&Embeddings, Method::POST, "/v1/chat/completions", "{}"), Alone::Target);
    assert_eq!(alone(&Embeddings, Method::GET, PATH, ""), Alone::Method);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lacks_one_is_told_as_such() {
    let provider = Provider::new(|_, _| Answer::Reply(200, "{\"users\":[{\"id\":2}]}".to_owned()));
    let world = World::new(Arc::new(users()), rule(), 1, provider);
    assert_eq!(world.all(&["/users/1", "/users/2"]).await, [Ok((404, "{}".to_owned())), Ok((200, "{\"id\":2}".to_owned()))]);
    assert_eq!((world.stats.answers_concluded(), world.provider.targets()), (1, vec!["/users?ids=1,2&full=1".to_owned()]));
    assert_eq!(StatusCode::NOT_FOUND.as_u16(), 404);
}
