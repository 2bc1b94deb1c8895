//! The tables `[[limits]]`, `[overload]` and `[tiers.NAME]`.

use farthing_types::{LimitScope, OnLimit, RateSpec, Span};

use super::tests::{GEO, good, problems};

fn limit(lines: &str) -> String {
    format!("{GEO}[[limits]]\nname = \"l\"\n{lines}\n")
}

#[test]
fn a_limit_is_read_with_the_defaults_of_the_specification() {
    let config = good(&limit("scope = \"provider\"\nmatch = [\"geo\"]\nrequests = \"500/min\"\ntokens = \"90000/min\"\nconcurrency = 20"));
    let limit = &config.limits[0];
    assert_eq!((&*limit.name, limit.scope, &*limit.names[0], limit.shared), ("l", LimitScope::Provider, "geo", false));
    assert_eq!(limit.requests, Some(RateSpec { count: 500, period: Span::from_secs(60), burst: 9 }));
    assert_eq!(limit.tokens, Some(RateSpec { count: 90_000, period: Span::from_secs(60), burst: 1_500 }));
    assert_eq!((limit.concurrency, limit.on_limit), (Some(20), [OnLimit::Pass, OnLimit::Wait, OnLimit::Refuse]));
}

#[test]
fn what_becomes_of_each_priority_can_be_said() {
    let read = |lines: &str| good(&limit(&format!("scope = \"tenant\"\nrequests = \"1/s\"\n{lines}"))).limits[0].on_limit;
    assert_eq!(read("on_limit = \"wait\""), [OnLimit::Wait; 3]);
    assert_eq!(read("on_limit = { low = \"wait\" }\nhard = true"), [OnLimit::Wait; 3]);
    assert_eq!(read("on_limit = { high = \"refuse\" }\nhard = true"), [OnLimit::Refuse, OnLimit::Wait, OnLimit::Refuse]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_remedy() {
    let first = |text: String| problems(&text)[0].clone();
    let tenant = |lines: &str| first(limit(&format!("scope = \"tenant\"\n{lines}")));
    assert!(tenant("").contains("limits.requests: nothing is limited; write requests = \"100/s\""));
    assert!(tenant("requests = 100").contains("write a whole number and a time, such as \"100/s\""));
    assert!(tenant("requests = \"100/week\"").contains("found \"100/week\""));
    assert!(tenant("requests = \"0/s\"").contains("found \"0/s\""));
    assert!(tenant("tokens = \"many\"").contains("such as \"90000/min\""));
    assert!(tenant("requests = \"20000/s\"\nburst = 20").contains("limits.burst: 20 is too little for 20000 in 1s; write at least 21"));
    assert!(tenant("concurrency = 3\nburst = 5").contains("without `requests`"));
    assert!(tenant("requests = \"1/s\"\nhard = true\non_limit = { high = \"pass\" }").contains("while on_limit lets high priority pass"));
    assert!(tenant("requests = \"1/s\"\non_limit = { urgent = \"pass\" }").contains("the priority \"urgent\""));
    assert!(first(limit("requests = \"1/s\"")).contains("limits.scope: missing; write scope = \"tenant\""));
    let provider = limit("scope = \"provider\"\nmatch = [\"geos\"]\nrequests = \"1/s\"");
    assert!(first(provider).contains("limit \"l\": no provider is called \"geos\"; did you mean \"geo\"?"));
    let twice =
        format!("{}[[limits]]\nname = \"l\"\nscope = \"route\"\nconcurrency = 1\n", limit("scope = \"tenant\"\nrequests = \"1/s\""));
    assert!(first(twice).contains("two limits are called \"l\""));
}

#[test]
fn teams_are_checked_against_keys_unless_tokens_may_name_others() {
    let team = limit("scope = \"team\"\nmatch = [\"search\"]\nrequests = \"1/s\"");
    assert!(problems(&team)[0].contains("limit \"l\": no team is called \"search\""), "{:?}", problems(&team));
    let issuer = "[[jwt]]\nname = \"idp\"\nissuer = \"https://idp.test\"\naudience = \"farthing\"\njwks_url = \"https://idp.test/keys\"\n";
    assert_eq!(&*good(&format!("{team}{issuer}")).limits[0].names[0], "search");
}

#[test]
fn tiers_share_what_there_is() {
    let tiers = |lines: &str| format!("{GEO}[overload]\nmax_requests = 100\n{lines}");
    let config = good(&tiers("[tiers.gold]\ntenants = [\"acme\"]\nshare = 0.3\n"));
    assert_eq!((config.overload.max_requests, &*config.overload.tiers[0].tenants[0], config.overload.tiers[0].share), (100, "acme", 0.3));
    let too_much = problems(&tiers("[tiers.a]\ntenants = [\"x\"]\nshare = 0.6\n[tiers.b]\ntenants = [\"y\"]\nshare = 0.4\n"));
    assert!(too_much[0].contains("leave at least 0.1 to everybody else"), "{too_much:?}");
    let both = problems(&tiers("[tiers.a]\ntenants = [\"x\"]\nshare = 0.1\n[tiers.b]\ntenants = [\"x\"]\nshare = 0.1\n"));
    assert!(both[0].contains("\"x\" is in [tiers.a] and [tiers.b]"), "{both:?}");
    let nobody = problems(&tiers("[tiers.a]\ntenants = []\nshare = 0.1\n"));
    assert!(nobody[0].contains("tiers.a.tenants: nobody"), "{nobody:?}");
}
