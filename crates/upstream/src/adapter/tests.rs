use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use proptest::prelude::*;

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Arc<str>, Arc<str>)> {
    pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect()
}

fn request() -> RequestMap {
    RequestMap {
        path: Some("/current/{city}".into()),
        to: Some("/v2/{country}/{city}/now".into()),
        rename_query: pairs(&[("units", "u")]),
        set_query: pairs(&[("format", "json 1")]),
        drop_query: vec!["lang".into()],
        ..RequestMap::default()
    }
}

fn asked(map: &RequestMap, target: &str) -> Result<String, Unfit> {
    map.apply((&Method::GET, &target.parse::<Uri>().unwrap()), Some(&Bytes::new())).map(|adapted| adapted.target.to_string())
}

#[test]
fn a_path_is_taken_apart_and_put_together() {
    let map = request();
    let golden = "/v2/no/troms%C3%B8/now?u=metric&raw=%2b+&format=json%201";
    assert_eq!(asked(&map, "/current/troms%C3%B8?units=metric&country=no&lang=en&raw=%2b+&format=xml").as_deref(), Ok(golden));
    for (target, why) in [
        ("/current/a/b?country=no", Unfit::Path),
        ("/forecast/oslo?country=no", Unfit::Path),
        ("/current/..?country=no", Unfit::Path),
        ("/current/%2e%2E?country=no", Unfit::Path),
        ("/current/a%2F..?country=no", Unfit::Path),
        ("/current/oslo", Unfit::Field),
        ("/current/oslo?country=", Unfit::Field),
        ("/current/oslo?country=..%2Fadmin", Unfit::Field),
    ] {
        assert_eq!(asked(&map, target), Err(why), "{target}");
    }
    assert_eq!(asked(&RequestMap::default(), "/a%2f?b&c=%7e").as_deref(), Ok("/a%2f?b&c=%7e"));
}

#[test]
fn a_body_keeps_its_numbers_and_moves_its_members() {
    let map = RequestMap {
        rename_body: pairs(&[("/text", "/input/content"), ("/none", "/other")]),
        set_body: pairs(&[("/version", "\"2\""), ("/input/kind", "1")]),
        ..RequestMap::default()
    };
    let at = |body: &'static str| {
        map.apply((&Method::POST, &"/".parse().unwrap()), Some(&Bytes::from(body))).map(|adapted| adapted.body.unwrap())
    };
    let golden = r#"{"x":1.500,"n":12345678901234567890123,"input":{"content":[1, 2],"kind":1},"version":"2"}"#;
    assert_eq!(at(r#"{"text":[1, 2],"x":1.500,"n":12345678901234567890123,"version":7}"#).unwrap(), golden);
    for body in ["[1]", "text", r#"{"input":3,"text":1}"#, r#"{"a":1,"a":2}"#] {
        assert_eq!(at(body), Err(Unfit::Body), "{body}");
    }
    let sent = |method: Method, body| map.apply((&method, &"/".parse().unwrap()), body).map(|adapted| adapted.body);
    assert_eq!(sent(Method::POST, None), Err(Unfit::Body));
    let (empty, none, set) = (Bytes::from("{}"), Bytes::new(), Bytes::from(r#"{"version":"2","input":{"kind":1}}"#));
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        assert_eq!(sent(method.clone(), Some(&none)), Ok(None), "{method}");
        assert_eq!(sent(method.clone(), Some(&empty)), Ok(Some(set.clone())), "{method}");
    }
    assert_eq!(sent(Method::POST, Some(&none)), Ok(Some(set)));
}

fn answers() -> AnswerMap {
    AnswerMap {
        fields: pairs(&[("/temp", "/current/temp_c"), ("/days/*/high", "/forecast/*/t/max"), ("/days/*/name", "/forecast/*/label")]),
        constants: pairs(&[("/unit", "\"C\"")]),
        errors: pairs(&[("/error/message", "/fault/info")]),
        error_if: vec![ErrorIf { pointer: "/state".into(), is: vec!["gone".into()], status: StatusCode::NOT_FOUND }],
        required: vec!["/temp".into(), "/days/*/high".into()],
        complete: 1.0,
        max_bytes: 1_000_000,
    }
}

fn read(map: &AnswerMap, status: u16, body: &'static str) -> Result<(u16, String), (Unmapped, Option<f64>)> {
    let mapped = map.apply(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &Bytes::from(body))?;
    Ok((mapped.status.as_u16(), String::from_utf8(mapped.body.to_vec()).unwrap()))
}

#[test]
fn answers_come_into_the_shape_of_the_route() {
    let map = answers();
    let golden = r#"{"temp":-3.50,"days":[{"high":1e2,"name":"Mo"},{"high":2}],"unit":"C"}"#;
    let body = r#"{"current":{"temp_c": -3.50},"forecast":[{"t":{"max":1e2},"label":"Mo"},{"t":{"max":2}}],"more":1}"#;
    assert_eq!(read(&map, 200, body), Ok((200, golden.to_owned())));
    let none = r#"{"current":{"temp_c":1},"forecast":[]}"#;
    assert_eq!(read(&map, 200, none), Ok((200, r#"{"temp":1,"days":[],"unit":"C"}"#.to_owned())));
}

#[test]
fn what_lacks_something_is_not_delivered() {
    let mut map = answers();
    let half = r#"{"current":{"temp_c":1},"forecast":[{"t":{"max":1}},{"t":{}}]}"#;
    assert_eq!(read(&map, 200, half), Err((Unmapped::Incomplete, Some(0.75))));
    assert_eq!(read(&map, 200, r#"{"current":{"temp_c":null},"forecast":[]}"#), Err((Unmapped::Incomplete, Some(0.5))));
    assert_eq!(read(&map, 200, "<html>"), Err((Unmapped::NotJson, Some(0.0))));
    assert_eq!(read(&map, 304, ""), Err((Unmapped::NotModified, None)));
    map.complete = 0.7;
    let golden = r#"{"temp":1,"days":[{"high":1},{}],"unit":"C"}"#;
    assert_eq!(read(&map, 200, half), Ok((200, golden.to_owned())), "no element is lost");
}

#[test]
fn errors_have_the_routes_shape_or_are_none() {
    let map = answers();
    let body = r#"{"state":"gone","fault":{"info":"no such place"}}"#;
    let golden = r#"{"error":{"message":"no such place"}}"#.to_owned();
    assert_eq!(read(&map, 200, body), Ok((404, golden.clone())), "an error that calls itself a success");
    assert_eq!(read(&map, 500, body), Ok((404, golden.clone())));
    assert_eq!(read(&map, 503, r#"{"fault":{"info":"no such place"}}"#), Ok((503, golden)));
    assert_eq!(read(&map, 503, r#"{"other":1}"#), Err((Unmapped::Shape, None)));
    assert_eq!(read(&map, 503, "busy"), Err((Unmapped::NotJson, None)));
    // Without a map of errors or answers the provider has the route's shape.
    assert_eq!(read(&AnswerMap { required: vec!["/a".into()], ..AnswerMap::default() }, 503, "busy"), Ok((503, "busy".to_owned())));
}

#[test]
fn one_place_is_not_filled_twice() {
    let map = AnswerMap { fields: pairs(&[("/a", "/x"), ("/a/b", "/y")]), ..AnswerMap::default() };
    assert_eq!(read(&map, 200, r#"{"x":1,"y":2}"#), Err((Unmapped::Shape, None)));
}

proptest! {
    /// No answer and no request, however broken, ends in a panic, and what comes out is JSON with the route's names alone.
    #[test]
    fn whatever_comes_is_mapped_or_refused(body in "[ -~]{0,80}|\\{\"current\":\\{\"temp_c\":[0-9]{1,30}(\\.[0-9]{1,9})?\\},\"forecast\":\\[(\\{\"t\":\\{\"max\":[0-9]\\}\\}(,\\{\"t\":\\{\"max\":[0-9]\\}\\}){0,3})?\\]\\}", status in 100u16..600) {
        let map = answers();
        if let Ok(mapped) = map.apply(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &Bytes::from(body)) {
            let value: serde_json::Value = serde_json::from_slice(&mapped.body).unwrap();
            let known = ["temp", "days", "unit", "error"];
            prop_assert!(value.as_object().unwrap().keys().all(|name| known.contains(&name.as_str())));
        }
    }

    /// A number is handed on digit by digit.
    #[test]
    fn numbers_keep_their_digits(number in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?") {
        let map = AnswerMap { fields: pairs(&[("/a", "/b/0/c")]), ..AnswerMap::default() };
        let mapped = map.apply(StatusCode::OK, &HeaderMap::new(), &Bytes::from(format!("{{\"b\":[{{\"c\": {number} }}]}}"))).unwrap();
        prop_assert_eq!(mapped.body, Bytes::from(format!("{{\"a\":{number}}}")));
    }

    /// No request leads out of the template, whatever stands in its fields.
    #[test]
    fn a_field_stays_in_its_segment(city in "[ -~]{0,20}", country in "[ -~]{0,20}") {
        let target = format!("/current/{}?country={}", crate::target::encoded(city.as_bytes()), crate::target::encoded(country.as_bytes()));
        if let Ok(adapted) = request().apply((&Method::GET, &target.parse().unwrap()), Some(&Bytes::new())) {
            let segments: Vec<&str> = adapted.target.path().split('/').collect();
            prop_assert_eq!(segments.len(), 5);
            prop_assert_eq!((segments[1], segments[4]), ("v2", "now"));
            prop_assert!(segments.iter().all(|segment| *segment != ".." && *segment != "."));
        }
    }
}
