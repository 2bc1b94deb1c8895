//! The binary as an operator meets it: serve, ask, change, end, look into the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "cli/starts.rs"]
mod starts;
#[path = "cli/switches.rs"]
mod switches;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use farthing_contract::log::{Decision, Row};
use farthing_ledger::read;
use farthing_types::{Clock, RealClock};
use ring::hmac;
use serde_json::Value;

/// A provider that answers each call with its number.
fn upstream() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let counter = calls.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = format!("{{\"call\":{}}}", counter.fetch_add(1, Ordering::SeqCst) + 1);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (addr, calls)
}

/// One request over its own connection: head and body.
fn get(addr: &str, path: &str) -> (String, String) {
    get_with(addr, path, "")
}

/// As [`get`], with lines of the head.
fn get_with(addr: &str, path: &str, lines: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\n{lines}Connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    (head.to_lowercase(), body.to_owned())
}

fn farthing(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
    command.args(args).current_dir(dir).env_remove("FARTHING_CONFIG").env_remove("FARTHING_ADMIN").env_remove("FARTHING_ADMIN_TOKEN");
    command
}

fn output(dir: &Path, args: &[&str]) -> Output {
    farthing(dir, args).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A running `farthing serve`, ended with the test.
struct Serving {
    child: Child,
    data: String,
    admin: String,
}

impl Serving {
    fn start(dir: &Path, args: &[&str], token: Option<&str>) -> Self {
        let mut command = farthing(dir, &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        if let Some(token) = token {
            command.env("TEST_TOKEN", token);
        }
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let after = |mark: &str| {
            let rest = line.split_once(mark).unwrap_or_else(|| panic!("no greeting: {line:?}")).1;
            rest.split([';', '\n', ' ']).next().unwrap().trim_start_matches("http://").to_owned()
        };
        let (data, admin) = (after("answers at "), after("admin API at "));
        Self { child, data, admin: format!("http://{admin}") }
    }

    /// Asks it to end, and waits until it has.
    fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status once all `requests` are settled, which happens after their last byte has been sent.
fn settled(dir: &Path, admin: &str, requests: u64) -> Value {
    for _ in 0..200 {
        let shown = output(dir, &["status", "--json", "--admin", admin]);
        assert!(shown.status.success(), "{}", text(&shown));
        let view: Value = serde_json::from_slice(&shown.stdout).unwrap();
        if view["status"]["total"]["requests"].as_u64() >= Some(requests) {
            return view;
        }
    }
    panic!("{requests} requests were never settled");
}

#[test]
fn serve_ask_change_end_and_read_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, calls) = upstream();
    let serving =
        Serving::start(dir.path(), &["--upstream", &format!("geo=http://{addr}"), "--price", "0.002", "--models", "models"], None);
    let (head, first) = get(&serving.data, "/r/geo/places?q=1");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("cache-status: farthing"), "{head}");
    let (_, second) = get(&serving.data, "/r/geo/places?q=1");
    assert_eq!((first.as_str(), second.as_str()), ("{\"call\":1}", "{\"call\":1}"));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the second answer comes from the cache");

    let view = settled(dir.path(), &serving.admin, 2);
    assert_eq!(view["status"]["total"]["bill_usd"], "0.002");
    assert_eq!(view["status"]["total"]["base_usd"], "0.004");
    assert_eq!(view["routes"][0]["name"], "geo");
    let table = text(&output(dir.path(), &["status", "--admin", &serving.admin]));
    assert!(table.contains("ROUTE") && table.contains("/r/geo") && table.contains("50.0 %"), "{table}");

    let models = output(dir.path(), &["models", "list", "--admin", &serving.admin]);
    assert!(models.status.success() && text(&models).contains("KIND"), "{}", text(&models));
    let refused = output(dir.path(), &["models", "promote", "ttl", "99", "--admin", &serving.admin]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("ttl version 99 does not exist"), "{}", text(&refused));
    let none = output(dir.path(), &["experiments", "show", "none", "--admin", &serving.admin]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none));
    let (head, metrics) = get(serving.admin.trim_start_matches("http://"), "/metrics");
    assert!(head.starts_with("http/1.1 200") && metrics.contains("farthing_bill_usd"), "{head}\n{metrics}");
    let (head, ready) = get(serving.admin.trim_start_matches("http://"), "/readyz");
    assert!(head.starts_with("http/1.1 200") && ready.contains("\"models\""), "{head}\n{ready}");

    assert_eq!(serving.end(), Some(0));
    let logs = output(dir.path(), &["logs", "ls", "--json"]);
    assert!(logs.status.success(), "{}", text(&logs));
    let tables: Value = serde_json::from_slice(&logs.stdout).unwrap();
    let rows = |name: &str| tables["tables"].as_array().unwrap().iter().find(|t| t["table"] == name).unwrap()["rows"].as_u64();
    assert_eq!((rows("requests"), rows("calls")), (Some(2), Some(1)), "{tables}");
    assert!(dir.path().join(".farthing/salt").exists(), "the salt is kept for the next start");
}

#[test]
fn a_token_guards_the_admin_port() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _) = upstream();
    let file = format!("[admin]\ntoken = {{ env = \"TEST_TOKEN\" }}\n[providers.geo]\nbase_url = \"http://{addr}\"\n");
    std::fs::write(dir.path().join("farthing.toml"), file).unwrap();
    let serving = Serving::start(dir.path(), &["--config", "farthing.toml"], Some("t0ken"));
    let without = output(dir.path(), &["status", "--admin", &serving.admin]);
    assert_eq!(without.status.code(), Some(1));
    assert!(text(&without).contains("FARTHING_ADMIN_TOKEN"), "{}", text(&without));
    let with = farthing(dir.path(), &["status", "--admin", &serving.admin]).env("FARTHING_ADMIN_TOKEN", "t0ken").output().unwrap();
    assert!(with.status.success(), "{}", text(&with));
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn experiments_and_decisions_can_be_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _) = upstream();
    let variants = "[[experiments.ttl.variants]]\nname = \"rule\"\nttl = \"rule\"\n[[experiments.ttl.variants]]\nname = \"long\"\nttl = \"fixed:1h500ms\"\n";
    let file = format!(
        "[log]\nflush = \"20ms\"\n[models]\ncontrol_interval = \"50ms\"\n[holdout]\nshare = 0\n[providers.geo]\nbase_url = \"http://{addr}\"\n\
         price = \"0.002\"\n[experiments.ttl]\nhypothesis = \"long TTLs are cheaper\"\nslice = 1.0\nramp = [1.0]\n{variants}"
    );
    std::fs::write(dir.path().join("farthing.toml"), file).unwrap();
    let serving = Serving::start(dir.path(), &["--config", "farthing.toml"], None);
    let asked = [get(&serving.data, "/r/geo/a").0, get(&serving.data, "/r/geo/a").0].map(|head| {
        let id = head.lines().find_map(|line| line.strip_prefix("x-farthing-request-id: ")).map(str::to_owned);
        id.unwrap_or_else(|| panic!("{head}"))
    });
    let listed = text(&output(dir.path(), &["experiments", "list", "--admin", &serving.admin]));
    assert!(listed.contains("rule 50 %, long 50 %") && listed.contains("long TTLs are cheaper"), "{listed}");
    let shown = output(dir.path(), &["experiments", "show", "ttl", "--admin", &serving.admin]);
    assert!(shown.status.success() && text(&shown).contains("long against rule"), "{}", text(&shown));
    assert!(text(&shown).starts_with("keep running"), "the verdict comes first: {}", text(&shown));
    let experiments = |words: &[&str]| output(dir.path(), &[&["experiments"], words, &["--admin", &serving.admin]].concat());
    let refused = experiments(&["decide", "ttl", "--variant", "longest", "--reason", "why not"]);
    assert!(refused.status.code() == Some(1) && text(&refused).contains("there are rule, long"), "{}", text(&refused));
    let held = text(&experiments(&["traffic", "ttl", "--percent", "50", "--reason", "it looks good"]));
    assert!(held.contains("ttl is running: 50 % of the slice takes part"), "{held}");
    let audit = text(&experiments(&["audit", "ttl"]));
    assert!(audit.contains("draft -> running") && audit.contains("it looks good"), "{audit}");
    assert!(experiments(&["export", "ttl", "--out", "rows.csv"]).status.success());
    assert!(std::fs::read_to_string(dir.path().join("rows.csv")).unwrap().starts_with("window,unit,variant,p0"));

    let admin = serving.admin.trim_start_matches("http://");
    // Each look takes as long as a program's start; the file is written within the flush time.
    let id = (0..500).find_map(|_| {
        assert!(output(dir.path(), &["status", "--admin", &serving.admin]).status.success());
        let rows = read::tail(&dir.path().join("logs"), Decision::TABLE, &["decision_id", "kind"], 50).unwrap();
        rows.into_iter().find(|row| row[1] == "ttl").map(|mut row| row.swap_remove(0))
    });
    let id = id.expect("a decision is logged");
    let (head, body) = get(admin, &format!("/api/v1/decisions/{id}"));
    assert!(head.starts_with("http/1.1 200"), "{head}\n{body}");
    let decision: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&decision["id"], &decision["route"]), (&Value::String(id), &Value::String("geo".to_owned())), "{body}");
    assert!(decision["value"].as_f64().unwrap() > 0.0, "{body}");

    let explain = |id: &str, args: &[&str]| output(dir.path(), &[&["explain", id, "--admin", &serving.admin], args].concat());
    let told = asked.each_ref().map(|id| {
        let found = (0..500).map(|_| explain(id, &[])).find(|told| told.status.success());
        text(&found.expect("its row is written within the flush time"))
    });
    for part in [
        "GET lead",
        "not answered from it: cold",
        "first requests are paid for",
        "led call",
        "kept for",
        "of ttl, drawn with probability 0.5",
    ] {
        assert!(told[0].contains(part), "{part}: {}", told[0]);
    }
    for part in ["GET hit", "answered from l1", "cost 0 $, without Farthing 0.002 $", "models explain --request"] {
        assert!(told[1].contains(part), "{part}: {}", told[1]);
    }
    // Once it was decided which strategies the route uses, a request tells of that.
    let planned = (0..100).find_map(|_| {
        let (head, _) = get(&serving.data, "/r/geo/a");
        let id = head.lines().find_map(|line| line.strip_prefix("x-farthing-request-id: ")).map(str::to_owned).unwrap();
        let told = (0..500).map(|_| explain(&id, &[])).find(|told| told.status.success()).map(|told| text(&told)).unwrap();
        told.contains("plan  ").then_some(told)
    });
    let planned = planned.expect("a decision within seconds");
    assert!(planned.contains("cache by rule:mix: expected to save") && planned.contains("in shadow, not in force: "), "{planned}");
    let offline = explain(&asked[0], &["--log-dir", "logs", "--json"]);
    let view: Value = serde_json::from_slice(&offline.stdout).unwrap();
    assert_eq!((&view["steps"][0]["what"], &view["steps"][0]["advice"]), (&"cache".into(), &Value::Null), "{view}");
    assert_eq!(explain("0000000000000000", &[]).status.code(), Some(1));
    assert_eq!(explain("1", &[]).status.code(), Some(2));
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn purging_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, calls) = upstream();
    let serving = Serving::start(dir.path(), &["--upstream", &format!("geo=http://{addr}")], None);
    let purge = |args: &[&str]| output(dir.path(), &[&["purge", "--admin", &serving.admin], args].concat());
    let json = |args: &[&str]| -> Value {
        let done = purge(&[args, &["--json"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    };
    get(&serving.data, "/r/geo/a/1");
    get(&serving.data, "/r/geo/b/1");
    assert_eq!(json(&["--route", "geo", "--prefix", "/a", "--dry-run"]), serde_json::json!({"entries": 1, "flights": 0, "dry_run": true}));
    assert_eq!(json(&["--prefix", "/a", "--tag", "none"])["entries"], 1);
    get(&serving.data, "/r/geo/b/1");
    assert_eq!(calls.load(Ordering::SeqCst), 2, "the other one stayed");
    assert!(text(&purge(&["--all", "--soft"])).contains("1 entry made stale"));
    assert_eq!(json(&["--tenant", "nobody"])["entries"], 0, "nothing there is no failure");

    let unknown = purge(&["--route", "gee"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown).contains("no route is called `gee`"), "{}", text(&unknown));
    for (bad, says) in
        [(&[][..], "--tag"), (&["--soft"], "--tag"), (&["--all", "--tag", "x"], "cannot be used"), (&["--key", "ff"], "x-farthing-key")]
    {
        let refused = purge(bad);
        assert_eq!(refused.status.code(), Some(2), "{bad:?}: {}", text(&refused));
        assert!(text(&refused).contains(says), "{bad:?}: {}", text(&refused));
    }
    let admin = serving.admin.clone();
    assert_eq!(serving.end(), Some(0));
    assert_eq!(output(dir.path(), &["purge", "--all", "--admin", &admin]).status.code(), Some(4));
}

/// A POST over its own connection: status and body.
fn post(addr: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: hooks.example.com\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn signed_events_purge_through_the_admin_port() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, calls) = upstream();
    let key = b"0123456789abcdef01234567";
    let file = format!(
        "[admin]\ntoken = {{ env = \"TEST_TOKEN\" }}\n[providers.geo]\nbase_url = \"http://{addr}\"\n[routes.geo]\nevents = \"shop\"\n\
         [events.shop]\nkind = \"webhook\"\nsecrets = [{{ file = \"hook\" }}]\n\
         [[events.shop.purges]]\ntype = \"item.changed\"\npaths = [\"/items/{{subject}}\"]\n"
    );
    std::fs::write(dir.path().join("farthing.toml"), file).unwrap();
    std::fs::write(dir.path().join("hook"), format!("whsec_{}\n", STANDARD.encode(key))).unwrap();
    let serving = Serving::start(dir.path(), &["--config", "farthing.toml"], Some("t0ken"));
    get(&serving.data, "/r/geo/items/7?q=1");
    get(&serving.data, "/r/geo/items/8");

    let admin = serving.admin.trim_start_matches("http://");
    let now = Clock::now(&RealClock::default()).millis().unsigned_abs() / 1_000;
    let body = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"item.changed\",\"subject\":\"7\"}";
    let deliver = |id: &str, time: u64, key: &[u8]| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), format!("{id}.{time}.{body}").as_bytes());
        let (time, signature) = (time.to_string(), format!("v1,{}", STANDARD.encode(tag)));
        let headers = [
            ("content-type", "application/cloudevents+json"),
            ("webhook-id", id),
            ("webhook-timestamp", &time),
            ("webhook-signature", &signature),
        ];
        post(admin, "/api/v1/events/shop", &headers, body)
    };
    assert_eq!(deliver("m1", now, key), (200, serde_json::json!({"events": 1, "entries": 1, "repeated": false})));
    assert_eq!(deliver("m1", now, key), (200, serde_json::json!({"events": 1, "entries": 0, "repeated": true})));
    assert_eq!(deliver("m2", now, b"another key of the same ").0, 401);
    assert_eq!(deliver("m2", now - 400, key).0, 401);
    get(&serving.data, "/r/geo/items/7?q=1");
    get(&serving.data, "/r/geo/items/8");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let metrics =
        farthing(dir.path(), &["status", "--json", "--admin", &serving.admin]).env("FARTHING_ADMIN_TOKEN", "t0ken").output().unwrap();
    assert!(text(&metrics).contains("\"events:shop\""), "{}", text(&metrics));
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = output(dir.path(), &["status", "--admin", &format!("http://{nobody}")]);
    assert_eq!(unreachable.status.code(), Some(4), "{}", text(&unreachable));
    assert!(text(&unreachable).contains("farthing serve"), "{}", text(&unreachable));

    std::fs::write(dir.path().join("bad.toml"), "[data]\nlisten = 8787\n[cahce]\n").unwrap();
    for command in ["check", "serve"] {
        let bad = output(dir.path(), &[command, "--config", "bad.toml"]);
        assert_eq!(bad.status.code(), Some(2), "{}", text(&bad));
        assert!(text(&bad).contains("bad.toml:2: data.listen") && text(&bad).contains("did you mean `cache`?"), "{}", text(&bad));
    }
    let good = output(dir.path(), &["check", "--upstream", "openai"]);
    assert!(good.status.success() && text(&good).contains("https://api.openai.com"), "{}", text(&good));
    assert!(!dir.path().join(".farthing").exists(), "check writes nothing");
    assert_eq!(output(dir.path(), &["logs", "ls"]).status.code(), Some(1));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = taken.local_addr().unwrap().to_string();
    let busy = output(dir.path(), &["serve", "--upstream", "openai", "--listen", "127.0.0.1:0", "--admin", &admin]);
    assert!(busy.status.code() == Some(1) && text(&busy).contains("choose another with --admin"), "{}", text(&busy));
}

/// Whether a file below one of the folders has a text in its bytes, or in its decoded rows where it is of the log.
fn anywhere(dir: &Path, folders: &[&str], wanted: &str) -> Option<String> {
    let mut open: Vec<_> = folders.iter().map(|folder| dir.join(folder)).collect();
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if std::fs::read(&path).unwrap().windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes()) {
                return Some(path.display().to_string());
            }
        }
    }
    for table in farthing_contract::log::ALL {
        let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        let mut found = None;
        let looked = read::rows(&dir.join("logs"), table, &names, &mut |cells| {
            if cells.iter().any(|cell| read::text(cell).contains(wanted)) {
                found = Some(table.name.to_owned());
            }
            std::ops::ControlFlow::Continue(())
        });
        looked.unwrap();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// S5: a tenant who is forgotten is nowhere: by a running proxy, and in the folders of one that was killed.
#[test]
fn a_forgotten_tenant_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _) = upstream();
    let folders = ["logs", ".farthing", "l2"];
    let mut file = format!("[l2]\ndir = \"l2\"\n[providers.geo]\nbase_url = \"http://{addr}\"\nprice = \"0.002\"\n");
    file += "[budgets.each]\nper = \"tenant\"\nlimit = \"1\"\nwindow = \"month\"\n";
    file += "[[limits]]\nname = \"each-tenant\"\nscope = \"tenant\"\nrequests = \"100/s\"\nburst = 3\n";
    let tenants = ["canary-7f3a9", "canary-b20c4", "acme"];
    let keys = tenants.map(|tenant| {
        let made = output(dir.path(), &["keys", "new", "--tenant", tenant, "--json"]);
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        file += made["toml"].as_str().unwrap();
        file.push('\n');
        format!("x-farthing-key: {}\r\n", made["key"].as_str().unwrap())
    });
    std::fs::write(dir.path().join("farthing.toml"), file).unwrap();
    let serving = Serving::start(dir.path(), &["--config", "farthing.toml"], None);
    for (tenant, key) in tenants.iter().zip(&keys) {
        for n in [1, 2, 1] {
            get_with(&serving.data, &format!("/r/geo/of-{tenant}/{n}"), key);
        }
    }
    settled(dir.path(), &serving.admin, 9);
    let forget = |args: &[&str]| output(dir.path(), &[&["forget", "--json"], args].concat());
    let done = forget(&["--tenant", tenants[0], "--admin", &serving.admin]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&report["cache_entries"], &report["log_rows"]["requests"], &report["log_rows"]["calls"]),
        (&2.into(), &3.into(), &2.into())
    );
    assert!(report["l2_values"].as_u64() >= Some(2) && report["totals"] == true, "{report}");
    assert_eq!(anywhere(dir.path(), &folders, tenants[0]), None);
    let (_, costs) = get(serving.admin.trim_start_matches("http://"), "/api/v1/costs?aggregate=tenant");
    assert!(costs.contains(tenants[1]) && !costs.contains(tenants[0]), "{costs}");
    assert!(anywhere(dir.path(), &folders, tenants[1]).is_some());

    let refused = forget(&["--tenant", tenants[1], "--offline", "--config", "farthing.toml"]);
    assert!(refused.status.code() == Some(1) && text(&refused).contains("a process writes the log"), "{}", text(&refused));
    // What the journal alone holds when the process is killed is forgotten, too.
    get_with(&serving.data, &format!("/r/geo/of-{}/3", tenants[1]), &keys[1]);
    settled(dir.path(), &serving.admin, 10);
    let journaled = (0..500).any(|_| {
        let held: Value = serde_json::from_slice(&output(dir.path(), &["logs", "ls", "--json"]).stdout).unwrap();
        held["journal"]["rows"].as_u64() > Some(0)
    });
    assert!(journaled, "a row is journaled at once");
    drop(serving);
    let done = forget(&["--tenant", tenants[1], "--offline", "--config", "farthing.toml"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert_eq!(anywhere(dir.path(), &folders, tenants[1]), None);
    assert!(anywhere(dir.path(), &folders, tenants[2]).is_some(), "the others are where they were");
    let nobody = forget(&["--tenant", "acme", "--admin", "http://127.0.0.1:1"]);
    assert!(nobody.status.code() == Some(4) && text(&nobody).contains("--offline"), "{}", text(&nobody));
}

#[test]
fn the_door_to_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, _) = upstream();
    let serving = Serving::start(dir.path(), &["--upstream", &format!("geo=http://{addr}"), "--price", "0.002"], None);
    for n in [1, 2, 1] {
        get(&serving.data, &format!("/r/geo/{n}"));
    }
    settled(dir.path(), &serving.admin, 3);
    assert_eq!(serving.end(), Some(0));
    let schema: Value = serde_json::from_slice(&output(dir.path(), &["logs", "schema", "calls", "--json"]).stdout).unwrap();
    assert_eq!((&schema["tables"][0]["name"], &schema["tables"][0]["columns"][0]["type"]), (&"calls".into(), &"int64".into()));
    assert!(text(&output(dir.path(), &["logs", "schema"])).contains("decision_id"));
    let listed = output(dir.path(), &["logs", "ls", "--hours"]);
    assert!(listed.status.success() && text(&listed).contains("hour="), "{}", text(&listed));
    let exported = output(dir.path(), &["logs", "export", "--out", "copy", "--since", "1h", "--route", "geo", "--json"]);
    assert!(exported.status.success(), "{}", text(&exported));
    let manifest: Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert_eq!((&manifest["rows"]["requests"], &manifest["rows"]["calls"]), (&3.into(), &2.into()), "{manifest}");
    assert_eq!(read::summary(&dir.path().join("copy"))[0].rows, 3);
    for (args, wanted) in [
        (&["logs", "export", "--out", "copy"][..], "is not empty"),
        (&["logs", "export", "--out", "c2", "--since", "yesterday"], "write how long ago"),
        (&["logs", "prune", "--upstream", "openai"], "write [retention]"),
    ] {
        let refused = output(dir.path(), args);
        assert!(refused.status.code() == Some(1) && text(&refused).contains(wanted), "{}", text(&refused));
    }
    std::fs::write(dir.path().join("farthing.toml"), "[retention]\nrequests = \"1h\"\n[providers.geo]\nbase_url = \"http://h\"\n").unwrap();
    let pruned = output(dir.path(), &["logs", "prune", "--config", "farthing.toml", "--dry-run"]);
    assert!(pruned.status.success() && text(&pruned).starts_with("0 rows would be removed"), "{}", text(&pruned));
    let file = read::files(&dir.path().join("logs"), Decision::TABLE).pop();
    let file = file.unwrap_or_else(|| read::files(&dir.path().join("logs"), farthing_contract::log::CallRow::TABLE).remove(0));
    std::fs::write(&file, b"PAR1 no more").unwrap();
    let damaged = output(dir.path(), &["logs", "export", "--out", "c3"]);
    assert!(damaged.status.code() == Some(1) && text(&damaged).contains("unreadable: "), "{}", text(&damaged));
}
