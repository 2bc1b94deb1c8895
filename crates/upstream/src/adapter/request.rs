//! A request of the route as one of its providers wants it.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Uri};

use super::tree::{Node, steps};
use super::{RequestMap, Unfit};
use crate::target::{decoded, encoded, is_named, with_parameter};

/// What goes to the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapted {
    /// Path and query.
    pub target: Uri,
    /// The body; `None`: as it is.
    pub body: Option<Bytes>,
}

/// Fields of a path with their values, percent-encoded.
type Fields<'a> = Vec<(&'a str, &'a str)>;

impl RequestMap {
    /// A request for a target with `body`, which is `None` where it is not held, as the provider wants it.
    ///
    /// # Errors
    /// Why this provider cannot be asked.
    pub fn apply(&self, (method, target): (&Method, &Uri), body: Option<&Bytes>) -> Result<Adapted, Unfit> {
        let (path, query) = (target.path(), target.query().unwrap_or_default());
        let fields = match &self.path {
            Some(template) => matched(template, path).ok_or(Unfit::Path)?,
            None => Vec::new(),
        };
        let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        let path = match &self.to {
            Some(template) => filled(template, &fields, &mut pairs)?,
            None => path.to_owned(),
        };
        let text = self.query(path, &pairs);
        let target = text.parse::<PathAndQuery>().map_err(|_| Unfit::Target)?;
        Ok(Adapted { target: Uri::from(target), body: self.body(method, body)? })
    }

    /// `path` with the query as the provider wants it.
    fn query(&self, path: String, pairs: &[&str]) -> String {
        let gone = |pair: &str| {
            let dropped = self.drop_query.iter().any(|name| is_named(pair, name));
            dropped || self.set_query.iter().any(|(name, _)| is_named(pair, name))
        };
        let mut text = path;
        let mut mark = '?';
        for pair in pairs.iter().filter(|pair| !gone(pair)) {
            text.push(mark);
            mark = '&';
            let renamed = self.rename_query.iter().find(|(ours, _)| is_named(pair, ours));
            match (renamed, pair.split_once('=')) {
                (None, _) => text.push_str(pair),
                (Some((_, theirs)), None) => text.push_str(&encoded(theirs.as_bytes())),
                (Some((_, theirs)), Some((_, value))) => {
                    text.push_str(&encoded(theirs.as_bytes()));
                    text.push('=');
                    text.push_str(value);
                }
            }
        }
        self.set_query.iter().fold(text, |text, (name, value)| with_parameter(text, &encoded(name.as_bytes()), value))
    }

    fn body(&self, method: &Method, body: Option<&Bytes>) -> Result<Option<Bytes>, Unfit> {
        if self.rename_body.is_empty() && self.set_body.is_empty() {
            return Ok(None);
        }
        let body = body.ok_or(Unfit::Body)?;
        // A body where HTTP gives it no meaning is what servers and those between refuse (RFC 9110, 9.3.1).
        let stays = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS);
        if body.is_empty() && (stays || self.set_body.is_empty()) {
            return Ok(None);
        }
        let text = std::str::from_utf8(body).map_err(|_| Unfit::Body)?;
        let mut tree = if text.is_empty() { Node::Nothing } else { Node::Raw(text.trim().into()) };
        let moved: Vec<_> = self.rename_body.iter().map(|(ours, theirs)| (theirs, tree.take(&steps(ours)))).collect();
        for (theirs, value) in moved {
            if value.is_some_and(|value| !tree.set(&steps(theirs), &[], value)) {
                return Err(Unfit::Body);
            }
        }
        for (place, constant) in &self.set_body {
            let place = steps(place);
            drop(tree.take(&place));
            if !tree.set(&place, &[], Node::Raw(constant.clone())) {
                return Err(Unfit::Body);
            }
        }
        let mut out = String::with_capacity(body.len() + 64);
        tree.write(&mut out);
        Ok(Some(out.into()))
    }
}

/// The fields of a path that a template of whole segments takes.
fn matched<'a>(template: &'a str, path: &'a str) -> Option<Fields<'a>> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut fields = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(fields),
            (Some(wanted), Some(given)) => match wanted.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if is_plain(given) => fields.push((name, given)),
                None if wanted == given => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

/// Whether a segment stands for itself: one of dots would lead elsewhere in the provider's paths.
fn is_plain(segment: &str) -> bool {
    let text = decoded(segment);
    !text.is_empty() && text != b"." && text != b".." && !text.contains(&b'/') && !text.contains(&b'\\')
}

/// A path with the values of its fields; what comes from the query is taken out of it.
fn filled(template: &str, fields: &Fields<'_>, pairs: &mut Vec<&str>) -> Result<String, Unfit> {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, later) = after.split_once('}').ok_or(Unfit::Target)?;
        out.push_str(before);
        match fields.iter().find(|(field, _)| *field == name) {
            Some((_, value)) => out.push_str(value),
            None => {
                let place = pairs.iter().position(|pair| is_named(pair, name)).ok_or(Unfit::Field)?;
                let pair = pairs.remove(place);
                let value = pair.split_once('=').map_or("", |(_, value)| value);
                if !is_plain(value) {
                    return Err(Unfit::Field);
                }
                out.push_str(&encoded(&decoded(value)));
            }
        }
        rest = later;
    }
    out.push_str(rest);
    Ok(out)
}
