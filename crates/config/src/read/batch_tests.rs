use farthing_types::Span;

use crate::read::{Flags, Surroundings};
use crate::{BatchConfig, BatchFormat, BatchWindow, Config};

struct Salted;
impl Surroundings for Salted {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }
    fn file(&self, _path: &str) -> std::io::Result<String> {
        Ok("x".repeat(64))
    }
}

fn read(keys: &str) -> Result<BatchConfig, String> {
    let text = format!("salt = {{ file = \"salt\" }}\n[providers.api]\nbase_url = \"https://api.test\"\n[routes.api.batch]\n{keys}");
    let config = Config::parse(&text, "f.toml", &Flags::default(), &Salted).map_err(|error| error.to_string())?;
    Ok(config.route("api").unwrap().batch.clone().unwrap())
}

#[test]
fn formats_have_their_own_keys() {
    assert_eq!(read("format = \"rest\"").unwrap(), BatchConfig::new(BatchFormat::Rest { path: "/batch".into() }));
    assert_eq!(read("format = \"rest\"\npath = \"/v1/$batch?x=1\"").unwrap().format, BatchFormat::Rest { path: "/v1/$batch?x=1".into() });
    let list =
        read("format = \"id-list\"\nsingle = \"/users/{id}?full=1\"\nlist = \"/users?ids={ids}&full=1\"\nitems = \"/users\"").unwrap();
    let BatchFormat::IdList(ids) = list.format else { panic!("{:?}", list.format) };
    assert_eq!((&*ids.single.0, &*ids.single.1, &*ids.list.0, &*ids.list.1), ("/users/", "?full=1", "/users?ids=", "&full=1"));
    assert_eq!((&*ids.items, &*ids.id, &*ids.separator, list.max_bytes), ("/users", "/id", ",", 6_000));
    assert!(!list.split && (&*ids.answer.0, &*ids.answer.1) == ("[", "]"));
    let list = "format = \"id-list\"\nsingle = \"/u/{id}\"\nlist = \"/u?ids={ids}\"\nsplit = true\nanswer = '{\"users\": [{items}]}'";
    let split = read(list).unwrap();
    let BatchFormat::IdList(ids) = &split.format else { panic!("{:?}", split.format) };
    assert!(split.split && (&*ids.answer.0, &*ids.answer.1) == ("{\"users\": [", "]}"));
    let other =
        read("format = \"embeddings\"\nwindow = \"learned\"\nmax_size = 2048\nmin_rate = 0\ntimeout = \"2s\"\nmax_answer = \"1MB\"")
            .unwrap();
    assert_eq!((other.window, other.max_size, other.min_rate, other.timeout), (BatchWindow::Learned, 2_048, 0.0, Span::from_secs(2)));
    assert_eq!(read("format = \"graphql-array\"\nwindow = \"35ms\"").unwrap().window, BatchWindow::Fixed(Span::from_millis(35)));
}

#[test]
fn what_cannot_be_is_named_with_its_remedy() {
    let list = "format = \"id-list\"\nlist = \"/users?ids={ids}\"\n";
    for (keys, expected) in [
        ("max_size = 3".to_owned(), "routes.api.batch.format: missing; write what batches look like"),
        ("format = \"soap\"".to_owned(), "routes.api.batch.format: found \"soap\"; write one of \"rest\""),
        ("format = \"embeddings\"\npath = \"/b\"".to_owned(), "routes.api.batch.path: means something for format = \"rest\" alone"),
        ("format = \"rest\"\npath = \"b\"".to_owned(), "write a path that starts with '/'"),
        (list.to_owned(), "routes.api.batch.single: missing; write path and query of a single call"),
        (format!("{list}single = \"/users/7\""), "with {id} once"),
        (format!("{list}single = \"/users/{{id}}/{{id}}\""), "with {id} once"),
        (format!("{list}single = \"/u/{{id}}\"\nid = \"id\""), "write a JSON pointer"),
        (format!("{list}single = \"/u/{{id}}\"\nmissing = \"nothing\""), "write JSON in single quotes"),
        (format!("{list}single = \"/u/{{id}}\"\nmax_bytes = \"7kB\""), "from 100 to 6000 bytes"),
        (format!("{list}single = \"/u/{{id}}\"\nseparator = \" \""), "write what stands between two ids"),
        ("format = \"rest\"\nwindow = \"11s\"".to_owned(), "write \"auto\", \"learned\", or a time from 1ms to 10s"),
        (format!("{list}single = \"/u/{{id}}\"\nanswer = \"{{}}\""), "write a list's answer with {items} once"),
        ("format = \"rest\"\nsplit = true".to_owned(), "routes.api.batch.split: a format whose requests carry no lists"),
        ("format = \"rest\"\nmax_size = 1".to_owned(), "write a whole number from 2 to 2048"),
        ("format = \"rest\"\nmax_sise = 9".to_owned(), "did you mean `max_size`?"),
        ("format = \"rest\"\n[routes.api]\non_disconnect = \"cancel\"".to_owned(), "a call for many is not broken off for one client"),
    ] {
        let problem = read(&keys).unwrap_err();
        assert!(problem.contains(expected), "{keys}\n{problem}");
    }
}

#[test]
fn flags_for_all_routes_turn_off_what_a_route_has_on() {
    let text = |flags: &str| {
        format!(
            "salt = {{ file = \"salt\" }}\n{flags}\n[providers.api]\nbase_url = \"https://api.test\"\n[routes.api]\ndedupe = false\n\
             [routes.api.batch]\nformat = \"rest\""
        )
    };
    let route = |flags: &str| {
        let config = Config::parse(&text(flags), "f.toml", &Flags::default(), &Salted).unwrap();
        let route = config.route("api").unwrap();
        (route.cache, route.dedupe, route.batch.is_some(), route.prefetch == crate::Prefetch::Auto)
    };
    assert_eq!(route(""), (true, false, true, true));
    assert_eq!(route("[strategies]\ndedupe = true"), (true, false, true, true), "they allow; they turn nothing on");
    assert_eq!(route("[strategies]\ncache = false\nbatch = false\nprefetch = false"), (false, false, false, false));
    let wrong = Config::parse(&text("[strategies]\nbach = false"), "f.toml", &Flags::default(), &Salted).unwrap_err().to_string();
    assert!(wrong.contains("strategies.bach") && wrong.contains("batch"), "{wrong}");
}
