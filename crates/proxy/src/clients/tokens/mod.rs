//! Tokens (JWT) of configured issuers: which are ours to judge, whether they are good, and who holds them.

mod claims;
mod fetch;
mod keyset;
mod signature;
mod source;
mod verify;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use farthing_config::{JwtIssuer, JwtKeys};
use farthing_freshness::index::{Index, Weighed};
use farthing_types::{Clock, KeyHash, Span, Time};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use claims::Bearer;
pub use source::Watched;

use super::grant::KeysInForce;
use super::{IdentityRefusal, Tenants, Validity, refused};
use crate::StartError;
use crate::problem::Problem;
use keyset::KeySet;
use verify::Refused;

/// Longer tokens are not looked at.
const LONGEST: usize = 8 * 1024;
/// Bytes that all remembered holders together take.
const REMEMBERED: usize = 8 << 20;
const SHARDS: usize = 16;

/// Tokens of configured issuers.
pub struct Tokens {
    issuers: Arc<Vec<Issuer>>,
    tenants: Arc<Tenants>,
    /// Holders of tokens that were good, by digest.
    known: Box<[Mutex<Index<Known>>]>,
    digest_key: [u8; 32],
    /// Signatures that were checked.
    pub checked: Arc<AtomicU64>,
}

struct Issuer {
    config: JwtIssuer,
    ring: Ring,
}

/// The keys of an issuer.
enum Ring {
    Fixed(Arc<KeySet>),
    Watched(Arc<Watched>),
}

fn nobody() -> Box<[Mutex<Index<Known>>]> {
    (0..SHARDS).map(|_| Mutex::new(Index::new(REMEMBERED / SHARDS))).collect()
}

struct Known(Arc<Bearer>);

impl Weighed for Known {
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
    fn worth(&self, _now: Time) -> f64 {
        1.0
    }
}

impl Tokens {
    /// Those of the configured issuers.
    ///
    /// # Errors
    /// A key that cannot be read.
    pub fn new(issuers: &[JwtIssuer], tenants: Arc<Tenants>, salt: &[u8; 32]) -> Result<Self, StartError> {
        if !issuers.is_empty() {
            signature::install();
        }
        let issuers = issuers.iter().map(Issuer::new).collect::<Result<_, _>>()?;
        Ok(Self {
            issuers: Arc::new(issuers),
            tenants,
            known: nobody(),
            digest_key: blake3::derive_key("farthing tokens 1", salt),
            checked: Arc::default(),
        })
    }

    /// The same issuers, where tenants may do this. Nobody is known yet: what was judged before, and is being judged, is by what tenants might do before.
    #[must_use]
    pub fn under(&self, tenants: Arc<Tenants>) -> Self {
        let (issuers, checked) = (self.issuers.clone(), self.checked.clone());
        Self { issuers, tenants, known: nobody(), digest_key: self.digest_key, checked }
    }

    /// Whether no issuer is configured.
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// The sets of keys that are read, by issuer.
    pub fn watched(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Watched>)> {
        self.issuers.iter().filter_map(|issuer| match &issuer.ring {
            Ring::Watched(watched) => Some((&issuer.config.name, watched)),
            Ring::Fixed(_) => None,
        })
    }

    /// Starts to read the sets of keys.
    ///
    /// # Errors
    /// A URL that cannot be called.
    pub fn start(&self, tasks: &TaskTracker, clock: &Arc<dyn Clock>, stop: &CancellationToken) -> Result<(), StartError> {
        for issuer in self.issuers.iter() {
            let (Ring::Watched(watched), JwtKeys::Set(source)) = (&issuer.ring, &issuer.config.keys) else { continue };
            let fetch =
                fetch::at(&source.place, clock.clone()).map_err(|reason| StartError::Jwt { name: issuer.config.name.clone(), reason })?;
            tasks.spawn(watched.clone().run(fetch, clock.clone(), stop.clone()));
        }
        Ok(())
    }

    /// Waits until every set was read, or `patience` is over: a start shall refuse nobody whose keys are there.
    pub async fn first_reading(&self, patience: Span) {
        let all = join_all(self.watched().map(|(_, watched)| watched.tried()));
        let _some_are_late = tokio::time::timeout(patience, all).await;
    }

    /// Forgets all holders: their next requests are checked anew.
    pub fn forget(&self) {
        self.known.iter().for_each(|shard| *shard.lock() = Index::new(REMEMBERED / SHARDS));
    }

    /// The holder of a token; `None` where the text is no token of a configured issuer, so that it is not ours to judge.
    pub fn holder(&self, text: &str, now: Time) -> Option<Result<Arc<Bearer>, Problem>> {
        if self.issuers.is_empty() || !looks_like_one(text) {
            return None;
        }
        if text.len() > LONGEST {
            // Whose it is is not looked for: what could be ours must not go on.
            let detail = format!("a token of more than {LONGEST} bytes is not looked at: ask its issuer for a shorter one");
            return Some(Err(refused(IdentityRefusal::TokenTooLong, detail)));
        }
        let name = self.name(text);
        if let Some(bearer) = self.remembered(name, now) {
            return Some(Ok(bearer));
        }
        let issuer = self.issuer(text)?;
        let judged = self.judge(issuer, text, now).map(Arc::new);
        if let Ok(bearer) = &judged {
            let _out = self.shard(name).lock().insert(name, Known(bearer.clone()), now);
        }
        Some(judged.map_err(|(reason, detail)| refused(reason, detail)))
    }

    /// Whether the text is a token of a configured issuer, good or not.
    pub fn are_ours(&self, text: &str) -> bool {
        !self.issuers.is_empty() && looks_like_one(text) && (text.len() > LONGEST || self.issuer(text).is_some())
    }

    fn remembered(&self, name: KeyHash, now: Time) -> Option<Arc<Bearer>> {
        let mut shard = self.shard(name).lock();
        let bearer = shard.get(name)?.0.clone();
        if bearer.holds(now) {
            return Some(bearer);
        }
        shard.remove(name);
        None
    }

    /// A keyed digest: what is remembered tells nobody a token.
    fn name(&self, text: &str) -> KeyHash {
        let digest = blake3::keyed_hash(&self.digest_key, text.as_bytes());
        let (head, _) = digest.as_bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        KeyHash(u128::from_be_bytes(*head))
    }

    fn shard(&self, name: KeyHash) -> &Mutex<Index<Known>> {
        &self.known[(name.0 >> 96) as usize % SHARDS]
    }

    /// The issuer that the token names. Nothing of it is believed yet.
    fn issuer(&self, text: &str) -> Option<&Issuer> {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            iss: Cow<'a, str>,
        }
        // Padded or not: whoever reads more loosely than we do must not be sent what is ours.
        const LOOSE: GeneralPurpose =
            GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
        let payload = LOOSE.decode(text.split('.').nth(1)?).ok()?;
        let named: Named<'_> = serde_json::from_slice(&payload).ok()?;
        self.issuers.iter().find(|issuer| *issuer.config.issuer == *named.iss)
    }

    fn judge(&self, issuer: &Issuer, text: &str, now: Time) -> Result<Bearer, Refused> {
        let config = &issuer.config;
        let header = verify::head(config, text)?;
        // Before the keys are: a change in between counts as one.
        let in_force = issuer.ring.in_force();
        let keys = issuer.ring.keys().ok_or_else(|| unavailable(config, "are not known yet, or not any more"))?;
        if keys.candidates(&header).is_empty() && issuer.ring.ask(now) {
            return Err(unavailable(config, "are being asked for anew: the token names one that is not known"));
        }
        issuer.ring.note_use();
        self.checked.fetch_add(1, Ordering::Relaxed);
        let good = verify::verify(config, &keys, (text, &header), now)?;
        let validity = Validity { until: Some(good.until), keys: in_force };
        claims::bearer(config, &self.tenants, &good.payload, validity)
    }
}

fn unavailable(config: &JwtIssuer, why: &str) -> Refused {
    (IdentityRefusal::KeysUnavailable, format!("the keys of issuer `{}` {why}; try again in a second", config.name))
}

/// Three parts, of which the first begins as every JSON object does in base64.
fn looks_like_one(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Issuer {
    fn new(config: &JwtIssuer) -> Result<Self, StartError> {
        let fixed = KeySet::fixed(&config.keys).map_err(|reason| StartError::Jwt { name: config.name.clone(), reason })?;
        let ring = match (fixed, &config.keys) {
            (None, JwtKeys::Set(source)) => Ring::Watched(Arc::new(Watched::new(config.name.clone(), source.clone()))),
            (keys, _) => Ring::Fixed(Arc::new(keys.unwrap_or_default())),
        };
        Ok(Self { config: config.clone(), ring })
    }
}

impl Ring {
    fn keys(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Fixed(keys) => Some(keys.clone()),
            Self::Watched(watched) => watched.keys(),
        }
    }

    fn in_force(&self) -> Option<KeysInForce> {
        match self {
            Self::Fixed(_) => None,
            Self::Watched(watched) => Some(KeysInForce::of(watched.generation())),
        }
    }

    /// Whether it is worth asking for the keys anew, which is done then.
    fn ask(&self, now: Time) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Watched(watched) => watched.ask(now),
        }
    }

    fn note_use(&self) {
        if let Self::Watched(watched) = self
            && watched.is_troubled()
        {
            watched.by_last_known.fetch_add(1, Ordering::Relaxed);
        }
    }
}
