//! The table `[l2]`.

use std::path::PathBuf;

use farthing_types::Span;

use super::instance::secret;
use super::section::Section;
use super::values as v;
use crate::{L2Config, L2Redis, L2Store};

const GB: u64 = 1_000_000_000;
/// How long looks may take unless configured: a disk waits for its turn, and either is far below what a call takes.
const DISK_DEADLINE: Span = Span::from_millis(50);
const REDIS_DEADLINE: Span = Span::from_millis(5);
/// The largest value unless configured. In Redis a larger one would hold up what shares its connection for longer than a deadline.
const DISK_MAX_VALUE: u64 = 1_000_000;
const REDIS_MAX_VALUE: u64 = 256_000;
/// A shorter secret can be guessed.
const SHORTEST_SECRET: usize = 32;

/// Reads the table.
pub(crate) fn read(s: &Section<'_, '_>) -> L2Config {
    let redis = s.opt("kind", v::word(&[("disk", false), ("redis", true)])).unwrap_or(false);
    let (disk, server) = (disk(s), if redis { reached(s) } else { server(s) });
    only_for(s, redis);
    let (deadline, max_value) = if redis { (REDIS_DEADLINE, REDIS_MAX_VALUE) } else { (DISK_DEADLINE, DISK_MAX_VALUE) };
    let mut out = L2Config {
        store: if redis { L2Store::Redis(server) } else { disk },
        deadline,
        max_value,
        queue_bytes: 16_000_000,
        encrypt: secret(s, "encrypt"),
    };
    s.set("deadline", v::positive_span, &mut out.deadline);
    s.set("max_value", v::size(1_000..=GB), &mut out.max_value);
    s.set("queue_bytes", v::size(1_000..=100 * GB), &mut out.queue_bytes);
    if out.encrypt.as_ref().is_some_and(|secret| secret.expose().len() < SHORTEST_SECRET) {
        s.wrong("encrypt", "a secret of fewer than 32 characters", "make one with `openssl rand -hex 32`");
    }
    out
}

fn disk(s: &Section<'_, '_>) -> L2Store {
    let (mut dir, mut max_bytes) = (PathBuf::from(".farthing/l2"), 1 << 30);
    s.set("dir", v::path, &mut dir);
    s.set("max_bytes", v::size(1_048_576..=100_000 * GB), &mut max_bytes);
    L2Store::Disk { dir, max_bytes }
}

/// How to reach a Redis that is needed; the keys are the same wherever it is reached.
pub(crate) fn reached(s: &Section<'_, '_>) -> L2Redis {
    let server = server(s);
    if server.addresses.is_empty() {
        s.wrong("addresses", "missing", "write addresses = [\"redis://host:6379\"]");
    }
    if server.addresses.len() > 1 && !server.cluster {
        s.wrong("addresses", format!("{} addresses of one server", server.addresses.len()), "set cluster = true, or give one address");
    }
    server
}

fn server(s: &Section<'_, '_>) -> L2Redis {
    let mut out = L2Redis { password: secret(s, "password"), ..L2Redis::default() };
    s.set("addresses", v::list(v::text), &mut out.addresses);
    s.set("cluster", v::flag, &mut out.cluster);
    s.set_opt("user", v::text, &mut out.user);
    out.authorities = authorities(s);
    if let Some(at) = out.addresses.iter().position(|address| !is_address(address)) {
        // Not shown: a password may stand in it.
        s.wrong("addresses", format!("address {} is none", at + 1), "write \"redis://host:6379\", or \"rediss://host:6379\" for TLS");
    }
    out
}

/// Certificates to trust in place of the public ones.
pub(crate) fn authorities(s: &Section<'_, '_>) -> Option<String> {
    let path = s.opt("authorities", v::path)?;
    let read = s.doc.surroundings.file(&path.to_string_lossy());
    read.inspect_err(|error| {
        s.wrong("authorities", format!("{} cannot be read: {error}", path.display()), "name a file of certificates (PEM)");
    })
    .ok()
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.ends_with('@') && !rest.contains(char::is_whitespace))
}

/// Keys that belong to the other kind would be ignored: nobody means that.
fn only_for(s: &Section<'_, '_>, redis: bool) {
    let (others, kind): (&[&str], _) =
        if redis { (&["dir", "max_bytes"], "disk") } else { (&["addresses", "user", "password", "authorities"], "redis") };
    for key in others.iter().filter(|key| s.has(key)) {
        s.wrong(key, format!("only for kind = \"{kind}\""), format!("remove it, or set kind = \"{kind}\""));
    }
    if !redis && s.opt("cluster", v::flag).unwrap_or(false) {
        s.wrong("cluster", "only for kind = \"redis\"", "remove it, or set kind = \"redis\"");
    }
}
