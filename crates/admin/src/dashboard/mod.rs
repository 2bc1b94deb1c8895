//! The dashboard: a page that shows what the API says, and changes nothing. Its files are in the program; it loads nothing from elsewhere.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, header};

/// A file of the page.
pub struct Asset {
    pub(crate) path: &'static str,
    kind: &'static str,
    pub(crate) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// All of them.
pub const ASSETS: [Asset; 12] = [
    Asset { path: "/", kind: HTML, text: include_str!("index.html") },
    Asset { path: "/dashboard/style.css", kind: CSS, text: include_str!("style.css") },
    Asset { path: "/dashboard/main.js", kind: JS, text: include_str!("main.js") },
    Asset { path: "/dashboard/api.js", kind: JS, text: include_str!("api.js") },
    Asset { path: "/dashboard/dom.js", kind: JS, text: include_str!("dom.js") },
    Asset { path: "/dashboard/charts.js", kind: JS, text: include_str!("charts.js") },
    Asset { path: "/dashboard/overview.js", kind: JS, text: include_str!("overview.js") },
    Asset { path: "/dashboard/money.js", kind: JS, text: include_str!("money.js") },
    Asset { path: "/dashboard/routes.js", kind: JS, text: include_str!("routes.js") },
    Asset { path: "/dashboard/experiments.js", kind: JS, text: include_str!("experiments.js") },
    Asset { path: "/dashboard/models.js", kind: JS, text: include_str!("models.js") },
    Asset { path: "/dashboard/bounds.js", kind: JS, text: include_str!("bounds.js") },
];

/// Nothing from elsewhere is loaded, run or asked, and no other page may show this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether `path` is a file of the page. They hold no figures: those come from the API, which asks for the token.
pub fn is_asset(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

/// The same router with the page.
pub fn with_page<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    ASSETS.iter().fold(router, |router, asset| router.route(asset.path, get(|| async { serve(asset) })))
}

fn serve(asset: &'static Asset) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, asset.kind),
        // A new release must not run with files of the old one.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, asset.text).into_response()
}
