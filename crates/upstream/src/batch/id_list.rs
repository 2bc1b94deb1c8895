//! Lists of ids: `GET /users/1` and `GET /users/2` as `GET /users?ids=1,2`, whose items are told apart by the id that each has in it.
//!
//! An id that the list does not have is answered 404, because such lists leave out what there is not; the answer is marked as concluded.
//!
//! A request for a list carries one: an item for each of its ids.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use farthing_policy::batch::Alone;
use farthing_types::Call;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::format::{BatchFormat, Broken, Item, Joined, ListFormat, Part, Piece, slice, text};
use super::headers::of_pieces;
use super::json;

/// See the module.
pub struct IdList {
    /// Path and query of a single call before and after its id.
    pub single: (String, String),
    /// Path and query of a list before and after its ids.
    pub list: (String, String),
    /// What stands between ids.
    pub separator: String,
    /// Where the answer has its items: a pointer to an array, or to an object of them; empty for the whole answer.
    pub items: String,
    /// Where an item has its id.
    pub id: String,
    /// Body of the answer for an id that is not in the list.
    pub missing: Bytes,
    /// A list's answer before and after its items, as it is put together of them.
    pub answer: (String, String),
}

impl BatchFormat for IdList {
    fn part(&self, call: &Call, body: &Bytes) -> Result<Part, Alone> {
        if call.method != Method::GET {
            return Err(Alone::Method);
        }
        if !body.is_empty() {
            return Err(Alone::Body);
        }
        let id = self.id_of(&call.target).ok_or(Alone::Target)?;
        if !self.is_plain(id) {
            return Err(Alone::Target);
        }
        Ok(Part::equal(String::new(), id.to_owned()))
    }

    fn join(&self, _first: &Call, parts: &[&Part]) -> Option<Joined> {
        let mut seen = HashSet::new();
        let ids: Vec<&str> = parts.iter().map(|part| &*part.text).filter(|id| seen.insert(*id)).collect();
        let target = format!("{}{}{}", self.list.0, ids.join(&self.separator), self.list.1).parse().ok()?;
        Some(Joined { method: Method::GET, target, body: None })
    }

    fn split(&self, parts: &[&Part], headers: &HeaderMap, body: &Bytes) -> Result<Vec<Piece>, Broken> {
        let whole = text(body)?;
        let items =
            json::at(whole, &self.items).and_then(values).ok_or_else(|| Broken::new("the answer has no items where they should be"))?;
        let asked: HashSet<&str> = parts.iter().map(|part| &*part.text).collect();
        let mut found: HashMap<String, &str> = HashMap::with_capacity(items.len());
        for item in items {
            let id = json::at(item, &self.id).and_then(json::id).ok_or_else(|| Broken::new("an item has no id where it should be"))?;
            if !asked.contains(&*id) {
                return Err(Broken::new("an item that was not asked for"));
            }
            if found.insert(id, item).is_some() {
                return Err(Broken::new("two items with one id"));
            }
        }
        let mut headers = of_pieces(headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let piece = |part: &&Part| match found.get(&part.text) {
            Some(item) => Piece { status: StatusCode::OK, headers: headers.clone(), body: slice(body, item), concluded: false },
            None => Piece { status: StatusCode::NOT_FOUND, headers: headers.clone(), body: self.missing.clone(), concluded: true },
        };
        Ok(parts.iter().map(piece).collect())
    }

    fn lists(&self) -> Option<&dyn ListFormat> {
        Some(self)
    }
}

impl ListFormat for IdList {
    fn items(&self, method: &Method, request: &Item) -> Option<Vec<Item>> {
        if method != Method::GET || !request.body.is_empty() {
            return None;
        }
        let target = request.target.path_and_query()?.as_str();
        let ids = target.strip_prefix(&*self.list.0)?.strip_suffix(&*self.list.1)?;
        let single = |id: &str| {
            let target = self.is_plain(id).then(|| format!("{}{id}{}", self.single.0, self.single.1))?.parse().ok()?;
            Some(Item { target, body: Bytes::new() })
        };
        ids.split(&*self.separator).map(single).collect()
    }

    fn only(&self, _request: &Item, items: &[&Item]) -> Option<Item> {
        let ids: Vec<&str> = items.iter().map(|item| self.id_of(&item.target)).collect::<Option<_>>()?;
        let target = format!("{}{}{}", self.list.0, ids.join(&self.separator), self.list.1).parse().ok()?;
        Some(Item { target, body: Bytes::new() })
    }

    /// Such lists leave out what there is not.
    fn leaves_out(&self, status: StatusCode) -> bool {
        status == StatusCode::NOT_FOUND
    }

    fn assemble(&self, answers: &[Bytes]) -> Result<Bytes, Broken> {
        let items: Vec<&str> = answers.iter().map(text).collect::<Result<_, _>>()?;
        if items.iter().any(|item| json::at(item, &self.id).and_then(json::id).is_none()) {
            return Err(Broken::new("an item has no id where it should be"));
        }
        let (before, after) = &self.answer;
        Ok(format!("{before}{}{after}", items.join(",")).into())
    }
}

impl IdList {
    /// Whether an id can be read in one way only: what is encoded, or means something in a URL or a list, could be read in more.
    fn is_plain(&self, id: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~:@".contains(&b);
        let dots = id.bytes().all(|b| b == b'.');
        !dots && !id.is_empty() && id.bytes().all(plain) && !id.contains(&*self.separator)
    }

    /// The id of a single call.
    fn id_of<'a>(&self, target: &'a Uri) -> Option<&'a str> {
        let target = target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        target.strip_prefix(&*self.single.0).and_then(|rest| rest.strip_suffix(&*self.single.1))
    }
}

/// The elements of an array, or the values of an object.
fn values(text: &str) -> Option<Vec<&str>> {
    match text.trim_start().as_bytes().first()? {
        b'[' => json::elements(text).map(|elements| elements.into_iter().map(|element| element.get()).collect()),
        _ => json::Object::read(text).map(|object| object.0.into_iter().map(|(_, value)| value.get()).collect()),
    }
}
