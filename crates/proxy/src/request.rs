//! The upper half up to the plan: Received, Identified, Asked, Planned. Each stage consumes the one before.

mod again;
mod through;
mod tunnel;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use farthing_freshness::semantics::{conditional, hop, restrict};
use farthing_freshness::{KeyParts, Profile, RequestFacts, Subject};
use farthing_policy::plan::{RequestKind, Steps};
use farthing_types::{BatchTerms, Body, KeyHash, Priority, Purpose, RequestId, Span, Time, UncachedReason};
use farthing_upstream::{Item, is_repeatable};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, HOST, TRAILER};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, Version, request};
use http_body::Body as _;

use crate::asking;
use crate::bounded::{declared, read_body};
use crate::edge::{Early, RawHead};
use crate::experiments::Asking;
pub use crate::experiments::Variant;
use crate::identify::{self, Deployment, Identity, KEY_HEADER};
use crate::lifecycle::CHALLENGER;
use crate::load::{Load, Loaded};
use crate::problem::{Dialect, Problem};
use crate::purging;
use crate::route::RouteState;
use crate::settle::Account;
use crate::state::State;
use crate::switches::{Laps, OwnPart};
use crate::trace;
use crate::wishes::{Wishes, own_fields};
use crate::writes;
pub use farthing_freshness::semantics::CacheControl;
pub use through::Through;

/// A request with its route.
pub struct Received {
    /// Its id.
    pub id: RequestId,
    /// When its head was read, on the proxy's clock.
    pub at: Time,
    /// The same in real time, for latencies.
    pub started: Time,
    /// Its route.
    pub route: Arc<RouteState>,
    /// Its head.
    pub head: request::Parts,
    /// Its body.
    pub body: Body,
    /// Its connection is to go on as a WebSocket: the body is what comes over that, and never ends before the answer begins.
    pub tunnel: bool,
    /// How long its stages take.
    pub laps: Laps,
    /// Takes interim answers to its client, where that can have some.
    pub early: Option<Early>,
}

/// A request whose client is known.
pub struct Identified {
    /// The request.
    pub received: Received,
    /// The client.
    pub identity: Identity,
}

/// A request that knows what is to be done with it.
pub struct Planned {
    /// Who asks for what, as it is settled.
    pub account: Account,
    /// Its caching facts.
    pub facts: RequestFacts,
    /// Its own headers as they came, for conditional answers.
    pub headers: HeaderMap,
    /// What goes upstream.
    pub outbound: Outbound,
    /// Answer from and fill the cache, or why not.
    pub cache: Result<(), UncachedReason>,
    /// Join concurrent identical requests, or why not.
    pub dedupe: Result<(), UncachedReason>,
    /// Make its call together with others, or why not.
    pub batch: Result<(), UncachedReason>,
    /// What the client asks of the cache.
    pub control: CacheControl,
    /// How long it may take.
    pub deadline: Span,
    /// Whether and why it waits for the provider's batch endpoint.
    pub waits: crate::defer::Waiting,
    /// How much it matters.
    pub priority: Priority,
    /// The client wants to see more.
    pub debug: bool,
    /// The name of its head's bytes, where it was met before.
    pub raw: Option<RawHead>,
    /// Who answers its call instead of the route, once.
    pub through: Option<Through>,
    /// Its connection is to go on as a WebSocket.
    pub tunnel: bool,
    /// Takes interim answers to its client, once.
    pub early: Option<Early>,
}

/// What goes upstream.
pub struct Outbound {
    /// Path and query.
    pub target: Uri,
    /// The body.
    pub body: Body,
    /// Whose words it is in.
    pub dialect: Dialect,
    /// What a held body tells of usage and price, once it was asked for.
    facts: OnceCell<farthing_ledger::RequestFacts>,
}

impl Outbound {
    /// What body and path tell of usage and price; `None` where the body is not held. Read once.
    pub fn facts(&self) -> Option<&farthing_ledger::RequestFacts> {
        let body = self.body.as_full()?;
        Some(self.facts.get_or_init(|| {
            let facts = farthing_ledger::RequestFacts::read(&body);
            if self.dialect == Dialect::Gemini { facts.named_by(self.target.path()) } else { facts }
        }))
    }
}

/// A request that was refused before it could cost anything.
pub struct Refused {
    /// Who asked, as far as that is known.
    pub account: Account,
    /// Why.
    pub problem: Problem,
}

/// Finds the route and gives the request an id and a time.
///
/// # Errors
/// 404 when no route takes it; 501 for a WebSocket that its route does not tunnel.
pub fn receive(state: &State, request: Request<Body>) -> Result<Received, Box<(Problem, RequestId)>> {
    let id = RequestId(state.ids.next());
    let (at, started) = (state.clock.now(), state.real_now());
    let (mut head, body) = request.into_parts();
    // The provider gets none of them: whoever decides, identifies, keys or matches `Vary` sees what it sees.
    hop::remove_named(&mut head.headers, is_ours);
    let host = host(&head);
    let live = state.live();
    let found = live.route(&host, head.uri.path(), &head.method);
    // A route's methods are about what goes to its provider.
    let purged = || live.route(&host, head.uri.path(), &Method::GET).filter(|route| purging::takes(route, &head.method));
    let Some(route) = found.or_else(purged) else {
        let known: Vec<String> = live.routes.iter().take(20).map(|r| format!("{} (route {})", r.route.matcher, r.route.name)).collect();
        let detail = format!("no route takes {} {}: there are {}", head.method, head.uri.path(), known.join(", "));
        return Err(Box::new((Problem::new(StatusCode::NOT_FOUND, "no-route", detail), id)));
    };
    let tunnel = tunnel::wanted(&head, route).map_err(|problem| Box::new((problem, id)))?;
    Ok(Received { id, at, started, route: route.clone(), head, body, tunnel, laps: Laps::of(id, started), early: None })
}

fn host(head: &request::Parts) -> Cow<'_, str> {
    let field = || head.headers.get(HOST).and_then(|v| v.to_str().ok()).map(without_port);
    let host = head.uri.host().or_else(field).unwrap_or_default();
    // The dot of a full name changes nothing.
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// The name or address of a `Host`; an address of IPv6 keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

impl Received {
    /// Finds out who asks.
    ///
    /// # Errors
    /// 401, 403, 503: see [`identify::identify`].
    pub fn identify(mut self, state: &State) -> Result<Identified, Box<Refused>> {
        let live = state.live();
        let deployment = Deployment { clients: &live.clients, salt: &state.salt, now: self.at };
        let RouteState { route, provider, credentials, .. } = &*self.route;
        let asked = identify::Asked { route, provider, credentials };
        let identity = || identify::identify(deployment, asked, &self.head.headers, self.head.uri.query());
        match self.may_tunnel().and_then(|()| identity()) {
            Ok(identity) => {
                self.laps.end(OwnPart::Identify, || state.real_now());
                Ok(Identified { received: self, identity })
            }
            Err(problem) => {
                live.clients.counts.note(&problem);
                Err(self.refused(problem, Identity::unknown()))
            }
        }
    }

    /// Whether the call can be made again, or compressed, if its body is held. One without a length may be half of a conversation, and
    /// never end before its answer begins; trailers would be lost.
    fn call_needs_body(&self) -> bool {
        let upstream = &self.route.provider.upstream;
        let fields = &self.head.headers;
        let again = || self.route.route.idempotent || is_repeatable(&self.head.method, fields);
        let whole = fields.contains_key(CONTENT_LENGTH) && !fields.contains_key(TRAILER);
        whole && (self.route.routing.is_some() || self.route.compresses_requests() || (upstream.attempts > 1 && again()))
    }

    fn refused(&self, problem: Problem, who: Identity) -> Box<Refused> {
        Box::new(Refused { account: Account::early(self, who), problem })
    }
}

impl Identified {
    /// Decides what may be done, as far as the head tells.
    ///
    /// # Errors
    /// 400 when the target is none below the route's prefix.
    pub fn ask(self) -> Result<Asked, Box<Refused>> {
        let Self { received, identity } = self;
        let route = &*received.route;
        let mut facts = RequestFacts::read(&received.head.method, &received.head.headers);
        // What stands there never reaches the provider where its own credential goes out, which is the same for all.
        facts.authorization &= !identity.swap;
        let wishes = Wishes::read(own_fields(&received.head.headers), route, identity.grant.as_deref());
        let planned = route.plan.steps(route.kind(&facts.method));
        let bypassed = route.switches.is_bypassed(received.at);
        let Steps { cache, dedupe, batch } = if bypassed { planned.bypassed() } else { route.switches.chosen(planned) };
        let off = wishes.control == CacheControl::Off;
        let (cache, dedupe) = restrict((cache, dedupe), &facts, off, &route.rules);
        let steps = Steps { cache, dedupe, batch: if off { Err(UncachedReason::RequestDirective) } else { batch } };
        // Nothing of a tunnel is like anything else.
        let steps = if received.tunnel { Steps::none(UncachedReason::PassThrough) } else { steps };
        match route.target(&received.head.uri) {
            Some(target) => Ok(Asked { received, identity, facts, wishes, steps, target, body: Bytes::new(), load: None }),
            None => Err(received.refused(bad_target(), identity)),
        }
    }
}

/// A request with what it asks for, and what its route and the rules of HTTP leave of it.
pub struct Asked {
    received: Received,
    identity: Identity,
    facts: RequestFacts,
    wishes: Wishes,
    steps: Steps,
    target: Uri,
    /// The whole body, where it is held.
    body: Bytes,
    load: Option<Arc<Loaded>>,
}

/// Whether a request's body has to be waited for. Most have none, and make no room for waiting.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and is taken apart at once")]
pub enum Upload {
    /// There is none.
    None(Asked),
    /// It is read where the key needs it; 413 when it is larger than the route allows, 400 when it breaks off.
    Coming(BoxFuture<'static, Result<Asked, Box<Refused>>>),
}

impl Asked {
    /// The request with its body.
    pub fn upload(mut self) -> Upload {
        match (self.received.tunnel, self.received.body.is_end_stream()) {
            (false, false) => return Upload::Coming(self.hold().boxed()),
            (false, true) => self.received.body = Body::empty(),
            (true, _) => {}
        }
        Upload::None(self)
    }

    /// Counts a request with a body in the load of the process, before anything of it is held.
    ///
    /// # Errors
    /// 503 when too much is under way.
    pub fn weigh(mut self, load: &Arc<Load>) -> Result<Self, Box<Refused>> {
        if self.received.body.is_end_stream() {
            return Ok(self);
        }
        let who = (&*self.identity.tenant, self.wishes.priority);
        match load.enter(who, self.bytes_held()) {
            Ok(loaded) => self.load = Some(Arc::new(loaded)),
            Err(problem) => return Err(self.received.refused(problem, self.identity)),
        }
        Ok(self)
    }

    /// Whether the body is needed whole.
    fn holds(&self) -> bool {
        let received = &self.received;
        let keyed = self.steps.cache.is_ok() || self.steps.dedupe.is_ok();
        keyed
            || self.steps.batch.is_ok()
            || writes::needs_body(&received.route, &received.head.method)
            || asking::needs_body(&received.route)
            || received.call_needs_body()
    }

    /// So much of it is held as is known before; where nobody tells, it is counted as it comes.
    fn bytes_held(&self) -> u64 {
        let held = declared(&self.received.head.headers).filter(|_| self.holds());
        held.filter(|bytes| *bytes <= self.received.route.route.buffer_limit).unwrap_or(0)
    }

    async fn hold(mut self) -> Result<Self, Box<Refused>> {
        let keyed = self.steps.cache.is_ok() || self.steps.dedupe.is_ok();
        let wanted = self.holds();
        let received = &mut self.received;
        match read_body(&mut received.body, &received.head.headers, (&received.route, self.load.as_deref()), wanted).await {
            Ok(Some(body)) => self.body = body,
            Ok(None) if keyed => self.steps = Steps::none(UncachedReason::TooLarge),
            Ok(None) => {}
            Err(problem) => return Err(self.received.refused(problem, self.identity)),
        }
        Ok(self)
    }

    /// Its route.
    pub fn route(&self) -> &Arc<RouteState> {
        &self.received.route
    }

    /// Its head.
    pub const fn head(&self) -> &request::Parts {
        &self.received.head
    }

    /// Whether the provider's credential goes out.
    pub const fn swaps(&self) -> bool {
        self.identity.swap
    }

    /// What it counts for in the load of the process.
    pub fn load(&self) -> Option<Arc<Loaded>> {
        self.load.clone()
    }

    /// What it asks for.
    pub fn item(&self) -> Item {
        Item { target: self.target.clone(), body: self.body.clone() }
    }

    /// Makes the key and draws the variant.
    pub fn plan(self, state: &State) -> Planned {
        let Self { received, identity, facts, wishes, steps, target, body: held, load } = self;
        let Received { id, at, started, route, head, body, tunnel, mut laps, early } = received;
        laps.begin(|| state.real_now());
        let dialect = route.dialect;
        let steps = route.personal.restrict(steps, (&target, &head.headers, &held), &route.content);
        let key = key(state, &route, &identity, (&facts, &head.headers, &target), &held);
        let asking = Asking { route: &route, identity: &identity, headers: &head.headers, path: target.path(), key };
        let (of_variant, variant) = variant(state, &asking, route.kind(&facts.method), at);
        let measured = steps.cache.is_ok();
        let compared = variant.as_ref().is_some_and(|variant| variant.compares(&route, steps, at));
        let holdout = measured && state.proof.holds(&state.draw, &route.route.name, key, at);
        laps.end(OwnPart::Plan, || state.real_now());
        let off = |step: Result<(), UncachedReason>| if holdout { Err(UncachedReason::Holdout) } else { step };
        Planned {
            cache: off(steps.cache.and(of_variant.cache)).and_then(|()| state.cached(&route, key)),
            dedupe: off(steps.dedupe.and(of_variant.dedupe)),
            batch: off(steps.batch.and(of_variant.batch)),
            control: wishes.control,
            deadline: wishes.deadline,
            waits: crate::defer::Waiting::of(wishes.patient),
            priority: wishes.priority,
            debug: wishes.debug,
            raw: head.extensions.get::<RawHead>().copied().filter(|_| head.version == Version::HTTP_11),
            through: None,
            tunnel,
            early,
            account: Account {
                plan: route.planning.id(),
                asked: facts.noted(wishes.control).map(Arc::from),
                invalidates: None,
                load,
                priority: Some(wishes.priority),
                sla: wishes.sla,
                queued: Span::ZERO,
                failed: Span::ZERO,
                elsewhere: Span::ZERO,
                l2: Span::ZERO,
                looked: None,
                laps,
                slice: None,
                trace: trace::of(&head.headers),
                tags: wishes.tags,
                method: head.method,
                noted: None,
                id,
                at,
                started,
                side: if variant.as_ref().and_then(Variant::keeps).is_none() { state.side(&route, key, at) } else { None },
                route,
                identity,
                key,
                variant,
                holdout,
                measured,
                compared,
                part: None,
            },
            facts,
            headers: head.headers,
            outbound: Outbound { target, body, dialect, facts: OnceCell::new() },
        }
    }
}

fn bad_target() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-target", "the path below the route's prefix is not a valid target")
}

/// Whether a field is for Farthing, and never goes on.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-farthing-")
}

/// End-to-end headers without Host (the upstream's goes out) and without ours.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut out = headers.clone();
    hop::remove(&mut out);
    out.remove(HOST);
    let ours: Vec<_> = out.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in ours {
        out.remove(name);
    }
    debug_assert!(!out.contains_key(KEY_HEADER));
    out
}

/// Whose entries a request may see; nobody's in particular on shared routes.
pub fn owner<'a>(route: &RouteState, identity: &'a Identity) -> &'a str {
    if route.route.shared { "" } else { &identity.principal }
}

/// The key; a request without a usable one still has one, for the log.
fn key(state: &State, route: &RouteState, identity: &Identity, request: (&RequestFacts, &HeaderMap, &Uri), body: &[u8]) -> KeyHash {
    let (facts, headers, target) = request;
    // Only this profile looks at them.
    let headers = if route.key_spec.profile == Profile::Api { Cow::Owned(forwarded(headers)) } else { Cow::Borrowed(headers) };
    let parts = KeyParts {
        tenant: owner(route, identity),
        route: &route.route.name,
        // A GET entry answers HEAD.
        method: if facts.method == Method::HEAD { &Method::GET } else { &facts.method },
        authority: &route.place,
        target,
        headers: &headers,
        body,
    };
    state.keyer.primary(&route.key_spec, &parts)
}

/// The steps of the plan in force for a request, and the experiment's draw.
fn variant(state: &State, asking: &Asking<'_>, kind: RequestKind, at: Time) -> (Steps, Option<Variant>) {
    let variant = state.draw_variant(asking, at);
    let plan = variant.as_ref().and_then(Variant::plan).unwrap_or(&asking.route.plan);
    (plan.steps(kind), variant)
}

impl Planned {
    /// Whose entries it may see.
    pub fn owner(&self) -> &str {
        owner(&self.account.route, &self.account.identity)
    }

    /// What it is about.
    pub fn subject(&self) -> Arc<Subject> {
        let Account { route, identity, key, .. } = &self.account;
        let tenant = if route.route.shared { self.owner().into() } else { identity.principal.clone() };
        Arc::new(Subject { key: *key, tenant, route: route.route.name.clone(), path: self.outbound.target.path().into() })
    }

    /// Headers of a call: end-to-end ones of the client, without ours.
    pub fn forwarded(&self, state: &State) -> HeaderMap {
        let mut headers = forwarded(&self.headers);
        let route = &self.account.route;
        // Where one stands in the place of a credential, that is replaced.
        identify::strip_ours(&state.live().clients, &mut headers);
        // Where the provider wants no credential there is none to put in their place: ours never goes on, and no entry tells the others apart.
        if self.account.identity.swap && route.swap.is_none() {
            identify::strip_credentials(&route.provider, &mut headers);
        }
        headers
    }

    /// Headers of a call under a ticket: without the client's own conditions, which its answer is measured against later.
    pub fn unconditional(&self, state: &State) -> HeaderMap {
        let mut headers = self.forwarded(state);
        conditional::strip_conditions(&mut headers);
        headers
    }

    /// It has waited for a call that was for another request: that was the provider's time, and a call of its own has what is left.
    pub fn waited_in_vain(&mut self, waited: Span) {
        self.account.failed += waited;
        self.deadline = self.deadline.saturating_sub(waited);
    }

    /// Under which terms its call may be made together with others. Nobody waits for one of the background: it has the route's time.
    pub fn batch_terms(&self, purpose: Purpose) -> Option<BatchTerms> {
        let promised = self.account.sla.map_or(self.deadline, |sla| sla.min(self.deadline));
        let patience = if purpose.is_waited_for() { promised } else { self.account.route.route.deadline };
        let own = || self.account.variant.as_ref().and_then(Variant::plan).and_then(|plan| plan.batch_window);
        let window = || own().or_else(|| self.account.route.tuned.batch_window());
        let lasts = self.deadline.max(self.account.route.route.deadline);
        self.batch.is_ok().then(|| BatchTerms { owner: self.owner().into(), patience, lasts, window: window() })
    }

    /// The body for a call: a held one can be had again and again, a streaming one once.
    pub fn take_body(&mut self) -> Body {
        match self.outbound.body.as_full() {
            Some(bytes) => Body::full(bytes),
            None => std::mem::take(&mut self.outbound.body),
        }
    }

    /// The name under which entries keep this request's TTL.
    pub fn variant_name(&self) -> &str {
        let challenger = self.account.side.is_some_and(|side| side.challenger);
        let own = || self.account.variant.as_ref().and_then(Variant::keeps);
        if challenger { CHALLENGER } else { own().map_or("", |name| name) }
    }
}
