//! `[data.tls]` and `[admin.tls]`: the files are read here already, so that what is wrong with them is told beside all else.

use std::path::Path;

use super::registry;
use super::section::Section;
use super::values as v;
use crate::{CertificateFiles, TlsConfig};

/// The table `tls` of a listener.
pub(crate) fn read(listener: &Section<'_, '_>) -> Option<TlsConfig> {
    let path = listener.full("tls");
    let s = Section::open(listener.doc, listener.table("tls")?, &path, registry::TLS);
    let more = listener.full("tls.more");
    let more = s.array("more").into_iter().map(|table| files(&Section::open(s.doc, table, &more, registry::CERTIFICATE)));
    let more: Vec<_> = more.collect();
    let client_ca = s.opt("client_ca", v::path);
    let config = TlsConfig { first: files(&s)?, more: more.into_iter().collect::<Option<_>>()?, client_ca };
    let surroundings = s.doc.surroundings;
    let file = |path: &Path| surroundings.file(&path.to_string_lossy());
    if let Err(fault) = config.load(&file, surroundings.now()) {
        s.wrong(fault.key, format!("{}: {}", fault.file.display(), fault.found), fault.remedy);
    }
    Some(config)
}

fn files(s: &Section<'_, '_>) -> Option<CertificateFiles> {
    let cert = s.need("cert", v::path, "name the PEM file of the certificate and those up to its authority");
    let key = s.need("key", v::path, "name the PEM file of the certificate's private key");
    Some(CertificateFiles { cert: cert?, key: key? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use farthing_types::Time;

    use crate::{Config, ConfigError, Flags, Surroundings};

    struct Files(BTreeMap<&'static str, String>, Time);
    impl Surroundings for Files {
        fn var(&self, _name: &str) -> Option<String> {
            Some("s".repeat(64))
        }
        fn file(&self, path: &str) -> std::io::Result<String> {
            self.0.get(path).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
        }
        fn now(&self) -> Time {
            self.1
        }
    }

    /// A certificate for 2026 and 2027, and its key.
    fn pair(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2028, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn files(now_s: i64) -> Files {
        let ((cert, key), (other_cert, other_key)) = (pair("a.test"), pair("b.test"));
        let ca = cert.clone();
        let all =
            [("c.pem", cert), ("k.pem", key), ("c2.pem", other_cert), ("k2.pem", other_key), ("ca.pem", ca), ("empty.pem", String::new())];
        Files(all.into_iter().collect(), Time::from_millis(now_s * 1_000))
    }

    fn read(tls: &str, now_s: i64) -> Result<Config, Vec<String>> {
        let text = format!("salt = {{ env = \"SALT\" }}\n{tls}\n[providers.geo]\nbase_url = \"https://maps.example.com\"\n");
        Config::parse(&text, "test.toml", &Flags::default(), &files(now_s)).map_err(|error| match error {
            ConfigError::Problems(problems) => problems.iter().map(ToString::to_string).collect(),
            other => vec![other.to_string()],
        })
    }

    const MID_2026: i64 = 1_780_000_000;

    #[test]
    fn certificates_are_read_with_the_configuration() {
        let config = read(
            "[data.tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\nclient_ca = \"ca.pem\"\n[[data.tls.more]]\ncert = \"c2.pem\"\nkey = \"k2.pem\"\n\
             [admin.tls]\ncert = \"c2.pem\"\nkey = \"k2.pem\"",
            MID_2026,
        );
        let config = config.unwrap();
        let tls = config.data.tls.unwrap();
        assert_eq!((tls.more.len(), tls.client_ca.is_some(), config.admin.tls.is_some()), (1, true, true));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_key_place_and_remedy() {
        let cases = [
            ("cert = \"c.pem\"", MID_2026, "test.toml:3: data.tls.key: missing", "private key"),
            ("cert = \"gone.pem\"\nkey = \"k.pem\"", MID_2026, "test.toml:3: data.tls.cert: gone.pem:", "may read"),
            ("cert = \"c.pem\"\nkey = \"gone.pem\"", MID_2026, "test.toml:4: data.tls.key: gone.pem:", "may read"),
            ("cert = \"c.pem\"\nkey = \"k2.pem\"", MID_2026, "test.toml:4: data.tls.key: k2.pem: not the key of c.pem", "was made for"),
            (
                "cert = \"k.pem\"\nkey = \"k.pem\"",
                MID_2026,
                "test.toml:3: data.tls.cert: k.pem: no certificate in PEM",
                "BEGIN CERTIFICATE",
            ),
            ("cert = \"c.pem\"\nkey = \"c.pem\"", MID_2026, "test.toml:4: data.tls.key: c.pem: no private key", "BEGIN PRIVATE KEY"),
            ("cert = \"c.pem\"\nkey = \"k.pem\"", 1_900_000_000, "test.toml:3: data.tls.cert: c.pem: expired on 2028-01-01", "renew it"),
            ("cert = \"c.pem\"\nkey = \"k.pem\"", 1_700_000_000, "test.toml:3: data.tls.cert: c.pem: not valid before 2026-01-01", "clock"),
            (
                "cert = \"c.pem\"\nkey = \"k.pem\"\nclient_ca = \"empty.pem\"",
                MID_2026,
                "test.toml:5: data.tls.client_ca: empty.pem: no certificate",
                "BEGIN CERTIFICATE",
            ),
            ("cert = \"c.pem\"\nkey = \"k.pem\"\nciphers = \"x\"", MID_2026, "test.toml:5: data.tls.ciphers: unknown key", "known here"),
        ];
        for (keys, now, start, remedy) in cases {
            let found = read(&format!("[data.tls]\n{keys}"), now).unwrap_err();
            assert!(found.len() == 1 && found[0].starts_with(start) && found[0].contains(remedy), "{keys}\n{found:#?}");
        }
    }
}
