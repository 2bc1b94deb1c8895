//! The names by which money can be asked about.

use std::fmt;
use std::sync::Arc;

use farthing_contract::log::{CallRow, Request, Row, Table};

/// One name of a request or a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Who pays.
    Tenant,
    /// Team of the tenant.
    Team,
    /// Service of the tenant.
    Service,
    /// Configured route.
    Route,
    /// Provider that bills.
    Provider,
    /// LLM or other target named in the request.
    Target,
    /// Upstream that was tried.
    Upstream,
    /// What a call was made for.
    Purpose,
    /// Experiment that assigned the unit.
    Experiment,
    /// Its variant.
    Variant,
    /// How a request was answered.
    Outcome,
    /// Class of the status, `2xx`: sent to the client, or by the provider.
    Status,
    /// What saved money.
    SavedBy,
    /// A free tag of the request.
    Tag(Arc<str>),
}

/// How a name is read from a table's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The text of a column.
    Text(&'static str),
    /// The class of the status in a column.
    Class(&'static str),
    /// One tag of a column `a=b,c=d`.
    Tag(&'static str, Arc<str>),
}

impl Cell {
    /// The column that is read.
    pub(super) const fn column(&self) -> &'static str {
        match self {
            Self::Text(column) | Self::Class(column) | Self::Tag(column, _) => column,
        }
    }
}

impl Dimension {
    /// Every name but the tags, in the order of the reference.
    pub const ALL: [Self; 13] = [
        Self::Tenant,
        Self::Team,
        Self::Service,
        Self::Route,
        Self::Provider,
        Self::Target,
        Self::Upstream,
        Self::Purpose,
        Self::Experiment,
        Self::Variant,
        Self::Outcome,
        Self::Status,
        Self::SavedBy,
    ];

    /// The stable string; of a tag without its name.
    const fn word(&self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Team => "team",
            Self::Service => "service",
            Self::Route => "route",
            Self::Provider => "provider",
            Self::Target => "target",
            Self::Upstream => "upstream",
            Self::Purpose => "purpose",
            Self::Experiment => "experiment",
            Self::Variant => "variant",
            Self::Outcome => "outcome",
            Self::Status => "status",
            Self::SavedBy => "saved_by",
            Self::Tag(_) => "tag",
        }
    }

    /// The dimension of a stable string; `tag:NAME` for a tag.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("tag", name)) if !name.is_empty() && !name.contains(['=', ',']) => Some(Self::Tag(name.into())),
            Some(_) => None,
            None => Self::ALL.into_iter().find(|known| known.word() == text),
        }
    }

    /// The stable strings, for those who wrote another one.
    pub fn known() -> String {
        Self::ALL.iter().map(Self::word).chain(["tag:NAME"]).collect::<Vec<_>>().join(", ")
    }

    /// Where `table` has the name; `None` where its rows do not know it.
    pub(super) fn cell(&self, table: &Table) -> Option<Cell> {
        let cell = match self {
            Self::Status => Cell::Class("status"),
            Self::Tag(name) => Cell::Tag("tags", name.clone()),
            other => Cell::Text(other.word()),
        };
        table.columns.iter().any(|column| column.name == cell.column()).then_some(cell)
    }

    /// Whether rows of requests and rows of calls know the name.
    pub fn known_in(&self) -> (bool, bool) {
        (self.cell(Request::TABLE).is_some(), self.cell(CallRow::TABLE).is_some())
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(name) => write!(f, "tag:{name}"),
            other => f.write_str(other.word()),
        }
    }
}

/// The value of tag `name` in `a=b,c=d`.
pub(super) fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    tags.split(',').filter_map(|pair| pair.split_once('=')).find(|(known, _)| known.trim() == name).map(|(_, value)| value.trim())
}

/// The class of a status.
pub(super) fn class(status: i32) -> Option<&'static str> {
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    usize::try_from(status / 100 - 1).ok().and_then(|index| classes.get(index)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_some_table_has_it() {
        for dimension in Dimension::ALL.into_iter().chain([Dimension::Tag("city".into())]) {
            assert_eq!(Dimension::parse(&dimension.to_string()), Some(dimension.clone()));
            let (requests, calls) = dimension.known_in();
            assert!(requests || calls, "{dimension}");
        }
        for shared in ["tenant", "team", "service", "route", "provider", "experiment", "variant", "status", "tag:x"] {
            assert_eq!(Dimension::parse(shared).map(|d| d.known_in()), Some((true, true)), "{shared}");
        }
        for bad in ["", "Tenant", "tag", "tag:", "tag:a=b", "team:x", "model"] {
            assert_eq!(Dimension::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn tags_and_classes() {
        assert_eq!(tag("team=maps, city = Zürich", "city"), Some("Zürich"));
        assert_eq!((tag("a=b", "b"), tag("", "a"), tag("a", "a")), (None, None, None));
        assert_eq!((class(204), class(599), class(99), class(600), class(-1)), (Some("2xx"), Some("5xx"), None, None, None));
    }
}
