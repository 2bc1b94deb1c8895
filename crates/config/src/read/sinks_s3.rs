//! Keys of sinks of the kind `s3`, and of the object store of predictors.

use farthing_types::Span;

use super::instance::secret;
use super::section::Section;
use super::values as v;
use crate::{ModelStoreConfig, S3Config, S3Key};

/// Keys that no other kind has.
pub(super) const KEYS: &[&str] =
    &["bucket", "prefix", "region", "endpoint", "path_style", "access_key_id", "secret_access_key", "session_token"];
/// Within it an order is carried out or refused, and a rollback goes on by itself.
const MODEL_DEADLINE: Span = Span::from_secs(3);
/// What other stores than AWS are content with.
const REGION: &str = "us-east-1";
/// By these the platforms say who a machine is.
const MACHINE: &[&str] = &[
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

pub(super) fn read(s: &Section<'_, '_>) -> S3Config {
    let bucket = s.need("bucket", v::text, "write bucket = \"NAME\"").unwrap_or_default();
    if s.has("bucket") && !is_bucket(&bucket) {
        s.wrong("bucket", format!("found \"{bucket}\""), "write 3 to 63 small letters, digits, '-' and '.': the name alone, without s3://");
    }
    let endpoint = endpoint(s);
    if endpoint.is_none() && !s.has("endpoint") && !s.has("region") {
        s.wrong(
            "region",
            "missing",
            "write the region of the bucket, such as region = \"eu-central-1\", or the endpoint of a store other than AWS",
        );
    }
    let region = s.opt("region", v::text).unwrap_or_else(|| REGION.to_owned());
    if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        s.wrong("region", format!("found \"{region}\""), "write letters, digits and '-', such as \"eu-central-1\"");
    }
    let path_style = s.opt("path_style", v::flag).unwrap_or(s.has("endpoint"));
    let key = key(s);
    let vars = MACHINE.iter().filter_map(|name| Some((*name, s.doc.surroundings.var(name).filter(|value| !value.is_empty())?)));
    let machine = if key.is_some() { Vec::new() } else { vars.collect() };
    S3Config { bucket, prefix: prefix(s), region, endpoint, path_style, key, machine, authorities: super::l2::authorities(s) }
}

/// The table `[models.store]`.
pub(super) fn model_store(s: &Section<'_, '_>) -> ModelStoreConfig {
    let mut store = ModelStoreConfig { bucket: read(s), deadline: MODEL_DEADLINE };
    s.set("deadline", v::positive_span, &mut store.deadline);
    store
}

fn is_bucket(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let ends = |c: char| c.is_ascii_alphanumeric();
    (3..=63).contains(&name.len()) && name.bytes().all(plain) && name.starts_with(ends) && name.ends_with(ends) && !name.contains("..")
}

fn prefix(s: &Section<'_, '_>) -> String {
    let prefix = s.opt("prefix", v::text).unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.=".contains(&b);
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain);
    if !prefix.is_empty() && !prefix.split('/').all(is_part) {
        s.wrong(
            "prefix",
            format!("found \"{prefix}\""),
            "write letters, digits, '-', '_', '.' and '=' between single '/', without one at its begin or end",
        );
    }
    prefix
}

fn endpoint(s: &Section<'_, '_>) -> Option<String> {
    const HOW: &str = "write endpoint = \"https://host:port\", without a path";
    let text = s.opt("endpoint", v::text)?;
    // Not shown where somebody may have pasted a key.
    match v::parse_base_url(&text) {
        Some(url) if url.path() == "/" && url.query().is_none() => Some(text.trim_end_matches('/').to_owned()),
        _ => {
            s.wrong("endpoint", "no URL of a server", HOW);
            None
        }
    }
}

fn key(s: &Section<'_, '_>) -> Option<S3Key> {
    for other in ["secret_access_key", "session_token"] {
        if s.has(other) && !s.has("access_key_id") {
            s.wrong(other, "without `access_key_id`", "add access_key_id = { env = \"NAME\" } or { file = \"path\" }");
        }
    }
    if !s.has("access_key_id") {
        return None;
    }
    if !s.has("secret_access_key") {
        s.wrong("secret_access_key", "missing", "write secret_access_key = { env = \"NAME\" } or { file = \"path\" }");
    }
    let session_token = secret(s, "session_token");
    Some(S3Key { id: secret(s, "access_key_id")?, secret: secret(s, "secret_access_key")?, session_token })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GEO, good, problems};
    use super::KEYS;
    use crate::*;

    fn sink(lines: &str) -> String {
        format!("{GEO}[[sinks]]\nname = \"lake\"\nkind = \"s3\"\n{lines}\n")
    }

    fn s3(lines: &str) -> S3Config {
        let config = good(&sink(lines));
        let SinkTarget::S3(s3) = config.sinks[0].target.clone() else { panic!("{config:?}") };
        assert!(!format!("{config:?}").contains("secret-token"));
        s3
    }

    #[test]
    fn a_bucket_is_read() {
        let aws = s3("bucket = \"spend-logs\"\nregion = \"eu-central-1\"");
        assert_eq!((&*aws.bucket, &*aws.prefix, &*aws.region, aws.path_style), ("spend-logs", "", "eu-central-1", false));
        assert_eq!((aws.endpoint, aws.key), (None, None));
        assert_eq!(aws.machine, [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials".to_owned())]);
        let key = "access_key_id = { env = \"TOKEN\" }\nsecret_access_key = { env = \"TOKEN\" }";
        let minio = s3(&format!("bucket = \"logs\"\nprefix = \"a/b_c=1\"\nendpoint = \"http://minio:9000/\"\n{key}"));
        assert_eq!((&*minio.prefix, &*minio.region, minio.path_style), ("a/b_c=1", "us-east-1", true));
        assert!(minio.machine.is_empty());
        assert_eq!((minio.endpoint.as_deref(), minio.key.unwrap().secret.expose()), (Some("http://minio:9000"), "secret-token"));
        let hosts = s3("bucket = \"logs\"\nendpoint = \"https://s3.example.com\"\npath_style = false\nregion = \"auto\"");
        assert_eq!((&*hosts.region, hosts.path_style), ("auto", false));
    }

    #[test]
    fn what_is_wrong_with_a_bucket_is_said_with_its_remedy() {
        const GOOD: &str = "bucket = \"logs\"\nregion = \"us-east-1\"";
        for (lines, says) in [
            ("region = \"us-east-1\"", "sinks.bucket: missing; write bucket = \"NAME\""),
            ("bucket = \"s3://logs\"\nregion = \"us-east-1\"", "sinks.bucket: found \"s3://logs\"; write 3 to 63"),
            ("bucket = \"logs\"", "sinks.region: missing; write the region"),
            ("bucket = \"logs\"\nregion = \"eu central\"", "sinks.region: found \"eu central\""),
            (&format!("{GOOD}\nprefix = \"/a\""), "sinks.prefix: found \"/a\""),
            (&format!("{GOOD}\nprefix = \"a/../b\""), "sinks.prefix: found"),
            (&format!("{GOOD}\nprefix = \"a b\""), "sinks.prefix: found"),
            (&format!("{GOOD}\nendpoint = \"minio:9000\""), "sinks.endpoint: no URL of a server; write endpoint = "),
            (&format!("{GOOD}\nendpoint = \"https://h/logs\""), "sinks.endpoint: no URL of a server"),
            (&format!("{GOOD}\naccess_key_id = {{ env = \"TOKEN\" }}"), "sinks.secret_access_key: missing"),
            (&format!("{GOOD}\nsecret_access_key = {{ env = \"TOKEN\" }}"), "sinks.secret_access_key: without `access_key_id`"),
            (&format!("{GOOD}\nsession_token = {{ env = \"TOKEN\" }}"), "sinks.session_token: without `access_key_id`"),
            (&format!("{GOOD}\naccess_key_id = \"AKIAhunter2\"\nsecret_access_key = \"hunter2\""), "no reference to a secret"),
            (&format!("{GOOD}\nurl = \"postgres://h/d\""), "sinks.url: only for kind = \"postgres\""),
            (&format!("{GOOD}\nauthorities = \"none.pem\""), "none.pem cannot be read"),
            (&format!("{GOOD}\npath-style = true"), "did you mean `path_style`?"),
        ] {
            let found = problems(&sink(lines)).join("\n");
            assert!(found.contains(says), "{lines}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }

    #[test]
    fn the_store_of_predictors_is_read() {
        let text = |lines: &str| format!("{GEO}[models.store]\n{lines}\n");
        let store =
            good(&text("bucket = \"models\"\nprefix = \"prod\"\nregion = \"eu-central-1\"\ndeadline = \"1s\"")).models.store.unwrap();
        assert_eq!((&*store.bucket.bucket, &*store.bucket.prefix, store.deadline.as_secs()), ("models", "prod", 1));
        assert_eq!(good(&text("bucket = \"models\"\nregion = \"x\"")).models.store.unwrap().deadline.as_secs(), 3);
        for (lines, says) in [
            ("region = \"x\"", "models.store.bucket: missing; write bucket = \"NAME\""),
            ("bucket = \"models\"", "models.store.region: missing"),
            ("bucket = \"models\"\nregion = \"x\"\nbuckets = 1", "did you mean `bucket`?"),
        ] {
            let found = problems(&text(lines)).join("\n");
            assert!(found.contains(says), "{lines}: {found}");
        }
    }

    #[test]
    fn each_key_of_the_kind_is_documented() {
        for key in KEYS {
            assert!(super::super::registry::SINK.iter().any(|known| known.name == *key && known.doc.starts_with("`s3`")), "{key}");
        }
    }
}
