use std::collections::BTreeMap;
use std::io;

use farthing_types::{Money, Rate, Span};

use super::registry::{Kind, TABLES, Table};
use super::*;
use crate::*;

/// An environment and files that exist in the test only.
#[derive(Default)]
struct Fake {
    vars: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, &'static str>,
}

impl Surroundings for Fake {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(ToString::to_string)
    }
    fn file(&self, path: &str) -> io::Result<String> {
        self.files.get(path).map(ToString::to_string).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn fake() -> Fake {
    Fake {
        vars: [
            ("TOKEN", "secret-token"),
            ("OPENAI", "sk-1"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
            ("EMPTY", " "),
            ("TWO", "a\nb"),
            ("TWO_WORDS", "two words of salt"),
            ("HOOK", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"),
        ]
        .into(),
        files: [("/run/token", "from-file\n"), (".farthing/salt", "0123456789abcdef0123456789abcdef\n")].into(),
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "test.toml", &Flags::default(), &fake())
}

pub(super) fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|e| panic!("{e}\nin\n{text}"))
}

pub(super) fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, got {other:?}\nin\n{text}"),
    }
}

pub(super) const GEO: &str = "[providers.geo]\nbase_url = \"https://maps.example.com\"\n";

#[test]
fn keys_hold_the_headers_where_no_vary_can_tell() {
    let of = |keys: &str| good(&format!("{GEO}[routes.geo]\n{keys}")).route("geo").unwrap().profile;
    assert_eq!((of(""), of("mode = \"respect\"\n")), (Profile::Http, Profile::Http));
    for keys in ["mode = \"override\"\n", "idempotent = true\n"] {
        assert_eq!(of(keys), Profile::Api, "{keys}");
        assert_eq!(of(&format!("{keys}profile = \"http\"\n")), Profile::Http);
    }
}

#[test]
fn the_smallest_file_is_enough() {
    let config = good(&format!("[providers.openai]\n{GEO}price = \"0.002\"\n"));
    assert_eq!(config.data, ListenConfig::default());
    assert_eq!(config.routes.iter().map(|r| &*r.name).collect::<Vec<_>>(), ["openai", "geo"]);
    let geo = config.route("geo").unwrap();
    assert_eq!((&*geo.matcher.path_prefix, &*geo.strip_prefix, geo.mode), ("/r/geo", "/r/geo", Mode::Learned));
    assert_eq!(config.provider("geo").unwrap().prices, Some(Prices::per_call("0.002".parse().unwrap())));
    let openai = config.route("openai").unwrap();
    assert_eq!((&*openai.matcher.path_prefix, &*openai.strip_prefix), ("/openai", "/openai"));
    assert!(openai.volatile.iter().any(|p| &**p == "/created"));
    let provider = config.provider("openai").unwrap();
    assert_eq!(provider.dialect, Dialect::OpenAi);
    assert_eq!(provider.prices.as_ref().unwrap().targets["gpt-4o-mini"].input, Some("0.00000015".parse::<Rate>().unwrap()));
}

#[test]
fn flags_are_enough() {
    let flags = Flags {
        upstreams: vec!["openai".to_owned(), "geo=https://maps.example.com/".to_owned()],
        prices: vec!["0.002".to_owned()],
        mode: Some(Mode::Observe),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        log_dir: Some("/var/log/farthing".into()),
        ..Flags::default()
    };
    let config = Config::build(None, &flags, &fake()).unwrap();
    assert!(config.routes.iter().all(|route| route.mode == Mode::Observe));
    assert_eq!(config.data.addr.port(), 0);
    assert_eq!(config.log.dir, Path::new("/var/log/farthing"));
    assert_eq!(config.provider("geo").unwrap().prices.as_ref().unwrap().per_call, Some(Rate::per_unit("0.002".parse().unwrap())));
    assert_eq!(config.provider("openai").unwrap().prices.as_ref().unwrap().per_call, None, "a known price is left alone");
}

#[test]
fn bad_flags_say_what_to_write() {
    let flags = |upstream: &str, price: &str| {
        let flags = Flags { upstreams: vec![upstream.to_owned()], prices: vec![price.to_owned()], ..Flags::default() };
        Config::build(None, &flags, &fake()).unwrap_err().to_string()
    };
    assert!(flags("opanai", "1").contains("did you mean \"openai\"?"));
    assert!(flags("geo=maps.example.com", "1").contains("a URL with http or https"));
    assert!(flags("a b=http://x", "1").contains("command line: --upstream"));
    assert!(flags("geo=http://x", "cheap").contains("write dollars per call"));
    assert!(flags("geo=http://x", "gee=1").contains("no provider is called \"gee\""));
    let none = Config::build(None, &Flags::default(), &fake()).unwrap_err().to_string();
    assert!(none.contains("--upstream NAME=URL"), "{none}");
}

#[test]
fn an_unknown_key_names_line_and_nearest() {
    let text = format!("{GEO}\n[routes.geo]\nmax_tll = \"1h\"\n");
    assert_eq!(problems(&text), ["test.toml:5: routes.geo.max_tll: unknown key; did you mean `max_ttl`?"]);
    let far = problems(&format!("zzz = 1\n{GEO}"));
    assert!(far[0].contains("test.toml:1: zzz: unknown key; known here: state_dir"), "{far:?}");
}

#[test]
fn all_problems_come_together_in_order() {
    let text = "[data]\nlisten = 8787\nidle_timeout = \"soon\"\n[cache]\nl1_bytes = \"much\"\n[providers.geo]\nbase_url = \"maps\"\nprice = 0.002\n[routes.geo]\nprovider = \"gep\"\n";
    let found = problems(text);
    let lines: Vec<&str> = found.iter().map(|p| p.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["test.toml:2:", "test.toml:3:", "test.toml:5:", "test.toml:7:", "test.toml:8:", "test.toml:10:"], "{found:#?}");
    assert!(found[4].contains("providers.geo.price: found 0.002; write dollars as a text"), "{found:#?}");
    assert!(found[5].contains("did you mean \"geo\"?"), "{found:#?}");
}

#[test]
fn what_is_not_toml_is_one_problem_with_its_line() {
    let found = problems(&format!("{GEO}price = cheap\n"));
    assert!(found.iter().any(|p| p.starts_with("test.toml:3: not TOML")), "{found:?}");
}

#[test]
fn secrets_come_by_reference_only() {
    let config = good(&format!("[admin]\ntoken = {{ env = \"TOKEN\" }}\n{GEO}"));
    assert!(config.admin.token.unwrap().matches("secret-token"));
    let config = good(&format!("[admin]\ntoken = {{ file = \"/run/token\" }}\nlisten = \"0.0.0.0:8788\"\n{GEO}"));
    assert!(config.admin.token.unwrap().matches("from-file"));
    for (value, says) in [
        ("\"hunter2\"", "write { env"),
        ("{ env = \"NONE\" }", "no variable NONE"),
        ("{ env = \"sk-hunter2\" }", "no variable of that name"),
        ("{ env = \"AIzaSyhunter2\" }", "no variable of that name"),
        ("{ file = \"fth_hunter2\" }", "the file cannot be read"),
        ("{ env = \"EMPTY\" }", "EMPTY is empty"),
        ("{ env = \"TWO\" }", "more than one line"),
        ("{ file = \"/none\" }", "/none cannot be read"),
        ("{ env = \"TOKEN\", file = \"x\" }", "write { env"),
        ("{ vault = \"x\" }", "write { env"),
    ] {
        let found = problems(&format!("[admin]\ntoken = {value}\n{GEO}"));
        assert!(found.len() == 1 && found[0].contains(says) && !found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_refusal_shows_nothing_that_may_be_a_secret() {
    let key = "[[keys]]\ntenant = \"a\"\n";
    for (text, says) in [
        ("[providers.geo]\nbase_url = \"https://user:hunter2@maps.example.com\"\n".to_owned(), "found a URL with a user or password"),
        ("[providers.geo]\nbase_url = \"https://u:hunter2/x@maps.example.com\"\n".to_owned(), "found a URL with a user or password"),
        ("[providers.geo]\nbase_url = \"https://maps.example.com?key=hunter2\"\n".to_owned(), "found a URL with a query"),
        (format!("{GEO}{key}id = \"aaaaaaaaaaaa\"\nsha256 = \"hunter2\"\n"), "found something that is no SHA-256"),
        (format!("{GEO}{key}id = \"fth-aaaaaaaaaaaahunter2\"\nsha256 = \"{}\"\n", "0".repeat(64)), "found more than an id"),
    ] {
        let found = problems(&text).join("\n");
        assert!(found.contains(says) && !found.contains("hunter2"), "{found}");
    }
    let flags = Flags { upstreams: vec!["geo=https://u:hunter2@h?x".to_owned()], ..Flags::default() };
    let told = Config::parse("", "test.toml", &flags, &fake()).unwrap_err().to_string();
    assert!(told.contains("a URL with a user") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_credential_that_cannot_be_had_is_one_problem() {
    let route = "[routes.geo]\nprovider = \"geo\"\ncredential = \"swap\"\n";
    let place = "credential_place = \"bearer\"\n";
    let found = problems(&format!("{GEO}{place}credential = {{ env = \"NONE\" }}\n{route}"));
    assert!(found.len() == 1 && found[0].contains("no variable NONE"), "{found:?}");
    let found = problems(&format!("{GEO}{place}{route}"));
    assert!(found.len() == 1 && found[0].contains("the provider has no credential"), "{found:?}");
}

#[test]
fn a_configuration_prints_without_its_secrets() {
    let config = good(&format!(
        "salt = {{ env = \"TWO_WORDS\" }}\n[admin]\ntoken = {{ env = \"TOKEN\" }}\n[providers.openai]\ncredential = {{ env = \"OPENAI\" }}\n{GEO}"
    ));
    let text = format!("{config:?}");
    for secret in ["secret-token", "sk-1", "two words"] {
        assert!(!text.contains(secret), "{secret} is printed");
    }
}

#[test]
fn an_admin_port_for_all_needs_a_token() {
    let found = problems(&format!("[admin]\nlisten = \"0.0.0.0:8788\"\n{GEO}"));
    assert!(found[0].contains("test.toml:2: admin.listen") && found[0].contains("set admin.token"), "{found:?}");
    let flags = Flags { admin: Some("0.0.0.0:1".parse().unwrap()), ..Flags::default() };
    assert!(Config::parse(GEO, "t", &flags, &fake()).unwrap_err().to_string().contains("--admin"));
}

#[test]
fn a_preset_gives_way_to_the_table() {
    let config = good(
        "[providers.openai]\nbase_url = \"http://127.0.0.1:9/\"\ncredential = { env = \"OPENAI\" }\n\
         [routes.embeddings]\nprovider = \"openai\"\npath_prefix = \"/openai/v1/embeddings\"\nidempotent = true\nmode = \"override\"\ncredential = \"swap\"\n\
         [routes.chat]\nprovider = \"openai\"\n",
    );
    assert_eq!(config.provider("openai").unwrap().base_url.to_string(), "http://127.0.0.1:9/");
    let embeddings = config.route("embeddings").unwrap();
    assert_eq!((&*embeddings.strip_prefix, embeddings.credential, embeddings.mode), ("/openai", CredentialMode::Swap, Mode::Override));
    assert_eq!(embeddings.deadline, Span::from_secs(900), "from the preset");
    assert_eq!(&*config.route("chat").unwrap().matcher.path_prefix, "/openai");
}

#[test]
fn terms_cut_routes() {
    let config = good("[providers.google-geocoding]\n[routes.geo]\nprovider = \"google-geocoding\"\nmax_ttl = \"60d\"\n");
    let geo = config.route("geo").unwrap();
    assert_eq!((geo.max_ttl, geo.max_store), (Span::from_secs(30 * 86_400), Some(Span::from_secs(30 * 86_400))));
    assert!(geo.strip_query.iter().any(|name| &**name == "key"), "the credential in the query is in no key and no log");
    let config = good(&format!("{GEO}[providers.geo.terms]\nstorable = false\n"));
    assert!(!config.route("geo").unwrap().cache);
    let found = problems("[providers.openai]\n[routes.o]\nprovider = \"openai\"\nshared = true\n");
    assert!(found[0].contains("routes.o.shared: true, but the terms of \"openai\" forbid it"), "{found:?}");
}

#[test]
fn what_was_given_must_agree_and_defaults_give_way() {
    let found = problems(&format!("{GEO}[routes.geo]\nbase_ttl = \"2h\"\nmax_ttl = \"1h\"\n"));
    assert!(found[0].contains("routes.geo.base_ttl: longer than max_ttl"), "{found:?}");
    let config = good(&format!("{GEO}[routes.geo]\nmax_ttl = \"30s\"\n"));
    assert_eq!(config.route("geo").unwrap().base_ttl, Span::from_secs(30));
    let found = problems(&format!("{GEO}[routes.geo]\ncredential = \"swap\"\n"));
    assert!(found[0].contains("the provider has no credential"), "{found:?}");
    let found = problems(&format!("{GEO}credential = {{ env = \"TOKEN\" }}\n"));
    assert!(found[0].contains("credential_place is \"none\""), "{found:?}");
    let found = problems(&format!("{GEO}price = \"1\"\nprices = {{ per_call = \"1\" }}\n"));
    assert!(found[0].contains("stands beside a table"), "{found:?}");
    let found = problems(&format!("[data]\nlisten = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:1\"\n{GEO}"));
    assert!(found[0].contains("give them different ports"), "{found:?}");
}

#[test]
fn experiments_are_checked() {
    let text = |variants: &str| format!("{GEO}[experiments.ttl]\nhypothesis = \"the model is cheaper\"\nroutes = [\"geo\"]\n{variants}");
    let two = "[[experiments.ttl.variants]]\nname = \"rule\"\nttl = \"rule\"\n[[experiments.ttl.variants]]\nname = \"model\"\nttl = \"fixed:90s\"\n";
    let config = good(&text(two));
    let experiment = &config.experiments[0];
    assert_eq!(experiment.variants.iter().map(|v| v.share).collect::<Vec<_>>(), [0.5, 0.5]);
    assert_eq!(experiment.variants[1].overrides.ttl.as_deref(), Some("fixed:90"));
    let variant = |lines: &str| format!("[[experiments.ttl.variants]]\n{lines}\n");
    for (variants, says) in [
        (variant("name = \"a\""), "1 variants"),
        (variant("name = \"a\"") + &variant("name = \"a\""), "a second variant is called \"a\""),
        (variant("name = \"a\"\nshare = 0.5") + &variant("name = \"b\"\nshare = 0.6"), "the shares sum to 1.1"),
        (variant("name = \"a\"\nshare = 0.5") + &variant("name = \"b\""), "some have a share"),
        (variant("name = \"a\"\nttl = \"soon\"") + &variant("name = \"b\""), "write \"model\", \"table\""),
        (variant("ttl = \"rule\"") + &variant("name = \"b\""), "name the variant"),
    ] {
        let found = problems(&text(&variants));
        assert!(found[0].contains(says), "{found:?}");
    }
    let second = text(two) + &text(two).replace(GEO, "").replace("experiments.ttl", "experiments.other");
    assert!(problems(&second)[0].contains("shares a route with experiment"), "{:?}", problems(&second));
    let part = |text: String, lines: &str| text.replacen("[[experiments", &format!("{lines}\n[[experiments"), 1);
    let layered = |from: &str| {
        let other = text(two).replace(GEO, "").replace("experiments.ttl", "experiments.other");
        part(text(two), "layer = \"l\"\nlayer_upto = 0.5") + &part(other, &format!("layer = \"l\"\nlayer_from = {from}"))
    };
    assert_eq!(good(&layered("0.5")).experiments.len(), 2);
    assert!(problems(&layered("0.4"))[0].contains("shares a route with experiment"), "they overlap");
    assert_eq!(good(&part(text(two), "allocation = \"thompson\"")).experiments[0].thompson, Some(0.2));
    for (lines, says) in [
        ("floor = 0.1", "the shares are fixed"),
        ("ramp = [0.5, 0.1]", "steps that do not grow"),
        ("layer_from = 0.1", "without its name"),
        ("layer = \"l\"\nlayer_from = 0.5\nlayer_upto = 0.5", "a part from"),
        ("unit = \"request\"", "experiments.ttl.unit"),
    ] {
        let found = problems(&part(text(two), lines));
        assert!(found[0].contains(says), "{lines}: {found:?}");
    }
    let found = problems(&text(two).replace("[\"geo\"]", "[\"gea\"]"));
    assert!(found[0].contains("no route is called \"gea\"; did you mean \"geo\"?"), "{found:?}");
}

#[test]
fn keys_are_read_and_unique() {
    let (text, key) = FarthingKey::generate("acme").unwrap();
    let table = format!("[[keys]]\nid = \"{}\"\nsha256 = \"{}\"\ntenant = \"acme\"\nteam = \"search\"\n", key.id, hex::encode(key.sha256));
    let config = good(&format!("{GEO}{table}"));
    assert!(config.keys[0].accepts(text.expose()) && config.keys[0].team.as_deref() == Some("search"));
    assert!(problems(&format!("{GEO}{table}{table}"))[0].contains("a second time"));
    let short = problems(&format!("{GEO}[[keys]]\nid = \"x\"\nsha256 = \"00\"\ntenant = \"acme\"\n"));
    assert!(short[0].contains("64 hexadecimal digits"), "{short:?}");
}

#[test]
fn the_salt_is_kept_and_seeds() {
    let kept = good(GEO);
    assert!(kept.salt.secret.matches("0123456789abcdef0123456789abcdef") && !kept.salt.fresh);
    assert_eq!(kept.seed, good(GEO).seed);
    assert_eq!(good(&format!("seed = 7\n{GEO}")).seed, 7);
    let none = Fake::default();
    let fresh = |text: &str| Config::parse(text, "t", &Flags::default(), &none).unwrap();
    assert_ne!(fresh(GEO).salt.secret, fresh(GEO).salt.secret);
    let dir = tempfile::tempdir().unwrap();
    let text = format!("state_dir = \"{}\"\n{GEO}", dir.path().join("state").display());
    let first = Config::parse(&text, "t", &Flags::default(), &System).unwrap();
    assert!(first.salt.fresh);
    let rival = Config::parse(&text, "t", &Flags::default(), &System).unwrap();
    first.persist_salt().unwrap();
    assert!(matches!(rival.persist_salt(), Err(ConfigError::SaltTaken { .. })), "a second instance must not go on with another salt");
    let second = Config::parse(&text, "t", &Flags::default(), &System).unwrap();
    assert_eq!((second.salt.secret, second.salt.fresh, second.seed), (first.salt.secret, false, first.seed));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/no/such/farthing.toml")).unwrap_err().to_string();
    assert!(error.contains("/no/such/farthing.toml") && error.contains("--config"), "{error}");
}

#[test]
fn prices_of_ones_own_stand_beside_those_of_the_preset() {
    let target = "[providers.openai.prices.targets.\"gpt-4o\"]\ninput_per_million = \"2\"\n\
                  [providers.openai.prices.targets.\"tuned\"]\ninput_per_million = \"3\"\n";
    let of = |text: &str| good(text).provider("openai").unwrap().prices.clone().unwrap();
    let (listed, merged) = (of("[providers.openai]\n"), of(target));
    assert_eq!(merged.targets.len(), listed.targets.len() + 1);
    assert_eq!(merged.targets["gpt-4o-mini"], listed.targets["gpt-4o-mini"]);
    assert_eq!(merged.targets["tuned"].input.unwrap().cost(1_000_000), "3".parse::<Money>().unwrap());
    let own = &merged.targets["gpt-4o"];
    assert_eq!((own.input.unwrap().cost(1_000_000), own.output), ("2".parse::<Money>().unwrap(), None), "a target is replaced as a whole");
    assert_eq!((&merged.source, &merged.read), (&listed.source, &listed.read));

    let billed = of("[providers.openai.prices]\nerrors_billed = true\nsource = \"contract\"\n");
    assert!(billed.errors_billed && billed.targets == listed.targets && billed.source.as_deref() == Some("contract"));
    let free = of("[providers.openai.prices]\nfree = true\n");
    assert!(free.free && free.targets.is_empty());
    let flat = of("[providers.openai]\nprice = \"1\"\n");
    assert!(flat.targets.is_empty() && flat.per_call.is_some(), "the short form replaces all");
}

#[test]
fn prices_are_exact() {
    let config = good(&format!(
        "{GEO}[providers.geo.prices]\nper_call = \"0.0005\"\nper_kb = \"0.00001\"\neffective = 2026-01-31\n[providers.geo.prices.targets.\"x*\"]\ninput_per_million = \"0.1\"\n"
    ));
    let prices = config.provider("geo").unwrap().prices.clone().unwrap();
    assert_eq!(prices.per_call.unwrap().cost(2), "0.001".parse::<Money>().unwrap());
    assert_eq!(prices.targets["x*"].input.unwrap().cost(1_000_000), "0.1".parse::<Money>().unwrap());
    assert_eq!(prices.effective.as_deref(), Some("2026-01-31"));
    assert!(problems(&format!("{GEO}prices = {{ free = true, per_call = \"1\" }}\n"))[0].contains("true beside rates"));
    assert!(problems(&format!("{GEO}refill = 1.0\n"))[0].contains("from 1.1 to 1000, or 0"));
    assert!(problems(&format!("{GEO}refill_wait = \"0s\"\n"))[0].contains("longer than zero"));
    assert!(problems(&format!("{GEO}prices = {{ errors_billed = true }}\n"))[0].contains("prices without a rate"));
}

#[test]
fn rules_about_content_are_read() {
    let text = "[routes.geo]\npii = [\"query:email\", \"header:X-User\", \"request:/a/b\", \"answer:/c\"]\n\
                [[routes.geo.cacheable_if]]\npointer = \"/status\"\nis = [\"OK\", 1, true]\nnot = [0.5]\n";
    let config = good(&format!("{GEO}terms = {{ storable_fields = [\"/id\"] }}\n{text}"));
    let route = config.route("geo").unwrap();
    assert_eq!(route.pii.len(), 4);
    assert_eq!(route.pii[1], crate::PersonalField::Header(http::HeaderName::from_static("x-user")));
    let condition = &route.cacheable_if[0];
    assert_eq!((&condition.is, &condition.not), (&vec!["OK".into(), "1".into(), "true".into()], &vec!["0.5".into()]));
    assert_eq!(config.provider("geo").unwrap().terms.storable_fields.len(), 1);
    for wrong in ["email", "query:", "cookie:a", "answer:email", "header:a b"] {
        assert!(problems(&format!("{GEO}[routes.geo]\npii = [\"{wrong}\"]\n"))[0].contains("routes.geo.pii"), "{wrong}");
    }
}

const LEG: &str = "[[routes.geo.providers]]\nprovider = \"geo\"\n";

/// A document that holds `line` in the table of `heading`, and nothing else that could be wrong.
fn document(table: &Table, line: &str) -> String {
    let (base, heading) = match table.heading {
        "(top)" => return format!("{line}\n{GEO}"),
        "[providers.NAME]" if line.starts_with("base_url") => return format!("[providers.geo]\n{line}\n"),
        "[providers.NAME]" => return format!("{GEO}{line}\n"),
        "[[keys]]" => ("", "[[keys]]".to_owned()),
        "[[experiments.NAME.variants]]" => ("[experiments.e]\nhypothesis = \"h\"\n", "[[experiments.e.variants]]".to_owned()),
        "[[providers.NAME.prices.meters.tiers]]" => {
            ("[[providers.geo.prices.meters]]\n", "[[providers.geo.prices.meters.tiers]]".to_owned())
        }
        "[jwt.claims]" => ("[[jwt]]\n", "[jwt.claims]".to_owned()),
        "[routes.NAME.weights.PRIORITY]" => (LEG, "[routes.geo.weights.low]".to_owned()),
        other if other.contains("providers.adapter") => (LEG, other.replace("NAME", "geo")),
        other if other.starts_with("[experiments") => ("", "[experiments.e]".to_owned()),
        other => ("", other.replace("NAME", "geo")),
    };
    format!("{GEO}{base}{heading}\n{line}\n")
}

/// Every key of the registry is read: a value of no possible form is refused by name.
#[test]
fn every_key_is_read() {
    for table in TABLES {
        for key in table.keys {
            let text = document(table, &format!("{} = [[]]", key.name));
            let found = problems(&text);
            let hit = found.iter().any(|p| {
                let place = p.split(": ").nth(1).unwrap_or_default();
                place.rsplit('.').next() == Some(key.name) && !p.contains("unknown key")
            });
            assert!(hit, "{} {}: {found:?}", table.heading, key.name);
        }
    }
}

const KEY: &str = "id = \"abcdefabcdef\"\ntenant = \"acme\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"";

#[test]
fn who_may_purge_is_checked() {
    let route = |lines: &str| format!("{GEO}[routes.geo]\n{lines}\n");
    assert_eq!(good(&route("")).routes[0].purge_by, PurgeBy::Nobody);
    assert_eq!(good(&route("purge_by = \"own\"")).routes[0].purge_by, PurgeBy::Own);
    let shared = problems(&route("shared = true\npurge_by = \"own\""));
    assert!(shared[0].contains("test.toml:5: routes.geo.purge_by") && shared[0].contains("write \"key\""), "{shared:?}");
    let nobody = problems(&format!("{}[[keys]]\n{KEY}\n", route("purge_by = \"key\"")));
    assert!(nobody[0].contains("routes.geo.purge_by: \"key\", but no key may purge; set purge = true"), "{nobody:?}");
    let config = good(&format!("{}[[keys]]\n{KEY}\npurge = true\n", route("purge_by = \"key\"\nshared = true")));
    assert!(config.keys[0].purge);
}

#[test]
fn rules_about_writes_are_read_and_checked() {
    let rule = |lines: &str| format!("{GEO}[providers.shop]\nbase_url = \"http://shop\"\n[routes.geo]\n[[routes.geo.purges]]\n{lines}\n");
    let config = good(&rule(
        "methods = [\"PUT\"]\nbelow = \"/items\"\nroute = \"shop\"\ntags = [\"item-{path.2}\", \"items\"]\npaths = [\"/items/{body:/id}\"]\nsoft = true",
    ));
    let found = &config.route("geo").unwrap().purges[0];
    assert_eq!((&*found.route, &*found.below, found.purges.tags.len(), found.purges.soft), ("shop", "/items", 2, true));
    assert!(found.is_about(&http::Method::PUT, "/items/7") && !found.is_about(&http::Method::PUT, "/itemsets"));
    assert!(!found.is_about(&http::Method::POST, "/items/7"));
    let only = |lines: &str| {
        let found = problems(&rule(lines));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    assert!(only("tags = [\"item-{id}\"]").contains("test.toml:7: routes.geo.purges.tags: found \"item-{id}\"; fields are {path.1}"));
    assert!(only("paths = [\"items\"]").contains("begin it with a slash"));
    assert!(only("prefixes = [\"{path.1}\"]").contains("begin it with a slash"));
    assert!(only("below = \"/a\"").contains("say what is purged"));
    assert!(only("tags = [\"a\"]\nroute = \"shpo\"").contains("did you mean \"shop\"?"));
    assert!(only("tags = [\"a\"]\nmethods = [\"GET\"]").contains("GET is no write"));
    assert!(only("tags = [\"a\"]\nkeys = [\"a\"]").contains("unknown key"));
    let idempotent = problems(&rule("tags = [\"a\"]").replace("[routes.geo]\n", "[routes.geo]\nidempotent = true\n"));
    assert!(idempotent[0].contains("no request is a write"), "{idempotent:?}");
}

/// The defaults of the reference page are those of the code: a document of all of them changes nothing.
#[test]
fn documented_defaults_are_the_defaults() {
    for table in TABLES {
        for key in table.keys.iter().filter(|key| matches!(key.kind, Kind::Value(_)) && !key.default.is_empty()) {
            if table.heading.starts_with("[experiments") {
                continue;
            }
            // Prices without a rate are refused, and conditions on nothing.
            let beside = match table.heading {
                "[prices]" => "",
                heading if heading.ends_with("prices.meters]]") => "name = \"m\"\ncount = \"call\"\nrate = \"1\"",
                heading if heading.ends_with("prices]") => "per_call = \"1\"",
                // Their defaults are read in `events_tests`: a source needs a route.
                heading if heading.contains("events.") => continue,
                // And here in `sinks` and `fleet`: the beside would repeat a key.
                "[[sinks]]" | "[fleet]" => continue,
                heading if heading.ends_with("cacheable_if]]") => "pointer = \"/status\"",
                heading if heading.ends_with("purges]]") => "tags = [\"all\"]",
                "[[keys]]" => KEY,
                "[[limits]]" => "name = \"l\"\nscope = \"tenant\"\nrequests = \"10/s\"",
                "[routes.NAME.batch]" if matches!(key.name, "separator" | "id" | "missing" | "answer") => {
                    "format = \"id-list\"\nsingle = \"/a/{id}\"\nlist = \"/a?ids={ids}\""
                }
                "[routes.NAME.batch]" => "format = \"rest\"",
                "[routes.NAME]" if matches!(key.name, "quality_floor" | "required" | "complete") => LEG,
                "[[routes.NAME.providers]]" => "provider = \"geo\"",
                heading if heading.ends_with("error_if]]") => "pointer = \"/status\"",
                // Nothing but defaults would count nothing.
                heading if heading.starts_with("[routes.NAME.weights") => continue,
                "[[jwt]]" => "name = \"i\"\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"f\"",
                // Read in `identity_tests`, and beside their reader.
                "[jwt.claims]" | "[routes.NAME.prompt_cache]" | "[routes.NAME.defer]" | "[routes.NAME.tune]" => continue,
                // And beside its reader: a route must be shared.
                "[routes.NAME.warm]" => continue,
                "[telemetry.otlp]" => "endpoint = \"http://collector\"",
                "[models.store]" => "bucket = \"models\"\nregion = \"eu-central-1\"",
                "[budgets.NAME]" => "limit = \"1\"\nwindow = \"ever\"",
                _ => "",
            };
            let text = document(table, &format!("{} = {}\n{beside}", key.name, key.default));
            assert_eq!(good(&text), good(&document(table, beside)), "{} {} = {}", table.heading, key.name, key.default);
        }
    }
    let two = "[[experiments.e.variants]]\nname = \"a\"\n[[experiments.e.variants]]\nname = \"b\"\n";
    let experiment = |lines: &str| good(&format!("{GEO}[experiments.e]\nhypothesis = \"h\"\n{lines}\n{two}"));
    let table = TABLES.iter().find(|table| table.heading == "[experiments.NAME]").unwrap();
    for key in table.keys.iter().filter(|key| !key.default.is_empty()) {
        assert_eq!(experiment(&format!("{} = {}", key.name, key.default)), experiment(""), "{}", key.name);
    }
}

/// `UPDATE_DOCS=1 cargo test -p farthing-config` writes the page anew.
#[test]
fn the_reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), reference(), "run with UPDATE_DOCS=1");
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    /// A document with every kind of table.
    const WHOLE: &str = "seed = 1\n[data]\nlisten = \"127.0.0.1:0\"\n[cache]\nl1_bytes = \"1MB\"\n[providers.geo]\nbase_url = \"http://h\"\n\
        prices = { per_call = \"0.1\", targets = { x = { input_per_million = \"1\" } } }\n[routes.geo]\nmax_ttl = \"1h\"\nhosts = [\"a\"]\n\
        [[keys]]\nid = \"abcdefabcdef\"\n[experiments.e]\nvariants = [{ name = \"a\" }, { name = \"b\", ttl = \"rule\" }]\n";

    proptest! {
        #[test]
        fn damaged_documents_are_refused_with_a_place(at in 0..WHOLE.len(), cut in 0usize..12, put in "[ -~\n]{0,6}") {
            let mut text = WHOLE.to_owned();
            text.replace_range(at..(at + cut).min(WHOLE.len()), &put);
            if let Err(error) = parse(&text) {
                let ConfigError::Problems(problems) = error else { panic!("{error}") };
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|p| !p.remedy.is_empty() && p.line.is_none_or(|line| line <= text.lines().count() + 1)));
            }
        }
    }
}
