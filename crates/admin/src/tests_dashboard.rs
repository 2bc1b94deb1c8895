//! The page: whole, alone, and in step with the API.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::dashboard::ASSETS;
use crate::openapi;
use crate::tests::{app, request};

/// What stands between `before` and the next `after`, each time.
fn between<'a>(text: &'a str, before: &'a str, after: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
}

#[tokio::test]
async fn the_page_is_served_whole_and_loads_nothing_from_elsewhere() {
    for asset in &ASSETS {
        let answer = app(None).oneshot(request("GET", asset.path, Value::Null)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", asset.path);
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let wanted = [(".js", "text/javascript"), (".css", "text/css"), ("/", "text/html")];
        assert!(wanted.iter().any(|(end, start)| asset.path.ends_with(end) && kind.starts_with(start)), "{} is {kind}", asset.path);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), asset.text);
        let own = asset.text.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains("://"), "{} names another place", asset.path);
        assert!(!own.contains("innerHTML") && !own.contains("eval("), "{}: what comes from the API is text", asset.path);
        for file in between(asset.text, "from './", &['\'']) {
            assert!(ASSETS.iter().any(|other| other.path == format!("/dashboard/{file}")), "{}: {file} is not there", asset.path);
        }
    }
}

#[test]
fn each_question_of_the_page_has_an_endpoint() {
    let document = openapi();
    let mut asked = 0;
    for asset in &ASSETS {
        for path in between(asset.text, "/api/v1/", &['\'', '`', '?']) {
            let path = format!("/api/v1/{path}");
            let path = path.split_once("/${").map_or(path.clone(), |(before, _)| format!("{before}/{{name}}"));
            assert!(document.paths.paths.contains_key(&path), "{} asks for {path}", asset.path);
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked} questions were found");
}

/// A browser cannot send the token before it has the page that asks for it; the figures need it as ever.
#[tokio::test]
async fn the_page_needs_no_token_and_its_figures_do() {
    let status = |token: Option<&'static str>, path: &'static str, peer: [u8; 4]| async move {
        let mut request = request("GET", path, Value::Null);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 5))));
        app(token).oneshot(request).await.unwrap().status()
    };
    let (outside, inside) = ([203, 0, 113, 9], [127, 0, 0, 1]);
    assert_eq!(status(Some("s3cret"), "/", outside).await, StatusCode::OK);
    assert_eq!(status(Some("s3cret"), "/dashboard/main.js", outside).await, StatusCode::OK);
    assert_eq!(status(Some("s3cret"), "/api/v1/status", outside).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Some("s3cret"), "/dashboard/none.js", outside).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(None, "/", outside).await, StatusCode::FORBIDDEN);
    assert_eq!(status(None, "/", inside).await, StatusCode::OK);
}
