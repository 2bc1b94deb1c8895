//! What is to be purged when something happens: texts with fields that a write or an event fills in.

use std::sync::Arc;

use farthing_types::RouteName;
use http::Method;

/// Most bytes of what one field fills in.
const LONGEST_VALUE: usize = 256;
/// Most bytes of a filled text, and of a template.
const LONGEST: usize = 1024;

/// What a field of a template stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `{path.N}`: the Nth segment, from 1, of a write's path below its route's.
    Path(usize),
    /// `{query.NAME}`: a parameter of a write's query.
    Query(Arc<str>),
    /// `{body:/POINTER}`: a text, number or flag in a write's JSON body.
    Body(Arc<str>),
    /// `{subject}`: an event's subject.
    Subject,
    /// `{subject.N}`: the Nth part, from 1, of an event's subject between slashes.
    SubjectPart(usize),
    /// `{data:/POINTER}`: a text, number or flag in an event's JSON data.
    Data(Arc<str>),
}

/// Who fills a template in, so which fields it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilledBy {
    /// A write on a route.
    Write,
    /// An event of a source.
    Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Arc<str>),
    Field(Field),
}

/// A text with fields in braces; there is no way to write a brace as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str, by: FilledBy) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("write a text of 1 to {LONGEST} bytes"));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (before, opened) = rest.split_once('{').map_or((rest, None), |(before, after)| (before, Some(after)));
            if before.contains('}') {
                return Err("close only braces that were opened; a brace itself cannot be written".to_owned());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let Some(opened) = opened else { break };
            let (name, after) = opened.split_once('}').ok_or("close the brace")?;
            parts.push(Part::Field(field(name, by).ok_or_else(|| fields(by).to_owned())?));
            rest = after;
        }
        Ok(Self(parts))
    }

    /// The text with its fields filled in by `value`. `None` when one has no value, an empty one, a longer one than 256 bytes or one with control
    /// characters, or when the whole is longer than 1,024 bytes: then it names nothing.
    pub fn fill(&self, value: impl Fn(&Field) -> Option<String>) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(field) => {
                    let good = |value: &String| !value.is_empty() && value.len() <= LONGEST_VALUE && !value.chars().any(char::is_control);
                    out.push_str(&value(field).filter(good)?);
                }
            }
        }
        (out.len() <= LONGEST).then_some(out)
    }

    /// Whether a write's body has to be read for it.
    pub fn needs_body(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Field(Field::Body(_))))
    }

    /// Whether it begins with a slash, as paths do.
    pub(crate) fn is_path(&self) -> bool {
        matches!(self.0.first(), Some(Part::Text(text)) if text.starts_with('/'))
    }
}

const fn fields(by: FilledBy) -> &'static str {
    match by {
        FilledBy::Write => "fields are {path.1}, {query.NAME} and {body:/POINTER}",
        FilledBy::Event => "fields are {subject}, {subject.1} and {data:/POINTER}",
    }
}

fn field(name: &str, by: FilledBy) -> Option<Field> {
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=64).contains(n) && text == n.to_string());
    let pointer = |text: &str| text.starts_with('/').then(|| Arc::from(text));
    match (by, name.split_once(['.', ':']), name) {
        (FilledBy::Write, Some(("path", at)), _) if name.starts_with("path.") => number(at).map(Field::Path),
        (FilledBy::Write, Some(("query", of)), _) if name.starts_with("query.") && !of.is_empty() => Some(Field::Query(of.into())),
        (FilledBy::Write, Some(("body", of)), _) if name.starts_with("body:") => pointer(of).map(Field::Body),
        (FilledBy::Event, None, "subject") => Some(Field::Subject),
        (FilledBy::Event, Some(("subject", at)), _) if name.starts_with("subject.") => number(at).map(Field::SubjectPart),
        (FilledBy::Event, Some(("data", of)), _) if name.starts_with("data:") => pointer(of).map(Field::Data),
        _ => None,
    }
}

/// What a rule purges, of everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purges {
    /// Everything with these tags.
    pub tags: Vec<Template>,
    /// Everything of exactly these paths, whatever the query; without the route's prefix.
    pub paths: Vec<Template>,
    /// Everything whose path begins so.
    pub prefixes: Vec<Template>,
    /// Entries by the digests of their keys.
    pub keys: Vec<Template>,
    /// Make stale instead of removing.
    pub soft: bool,
}

impl Purges {
    /// All its templates.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.tags.iter().chain(&self.paths).chain(&self.prefixes).chain(&self.keys)
    }
}

/// What writes on a route purge beside their own target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRule {
    /// Methods of the writes it is about; empty: every method that is not safe.
    pub methods: Vec<Method>,
    /// The writes' paths, below the route's, begin so, at a segment border.
    pub below: Arc<str>,
    /// The route whose entries are purged.
    pub route: RouteName,
    /// What of it.
    pub purges: Purges,
}

impl WriteRule {
    /// Whether it is about writes of this method.
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// Whether it is about a write of this method on this path below the route's.
    pub fn is_about(&self, method: &Method, path: &str) -> bool {
        self.takes(method) && crate::matcher::has_prefix(path, &self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_strictly() {
        for text in ["all", "product-{path.2}", "/a/{query.q}/{body:/a~1b/0}", "größe"] {
            assert!(Template::parse(text, FilledBy::Write).is_ok(), "{text}");
        }
        for text in ["{subject}", "x-{subject.3}-{data:/id}"] {
            assert!(Template::parse(text, FilledBy::Event).is_ok(), "{text}");
        }
        let long = "x".repeat(LONGEST + 1);
        for text in [
            "",
            &long,
            "{",
            "}",
            "a}b{path.1}",
            "{path}",
            "{path.0}",
            "{path.01}",
            "{path.65}",
            "{path:1}",
            "{query.}",
            "{body:id}",
            "{body./id}",
            "{}",
            "{ path.1 }",
            "{subject}",
        ] {
            assert!(Template::parse(text, FilledBy::Write).is_err(), "{text}");
        }
        for text in ["{path.1}", "{subject.}", "{subject:1}", "{type}"] {
            assert!(Template::parse(text, FilledBy::Event).is_err(), "{text}");
        }
    }

    #[test]
    fn a_field_without_a_good_value_leaves_nothing() {
        let template = Template::parse("a-{path.1}-{path.2}", FilledBy::Write).unwrap();
        let with = |second: &str| template.fill(|field| Some(if *field == Field::Path(1) { "x".to_owned() } else { second.to_owned() }));
        assert_eq!(with("y").unwrap(), "a-x-y");
        assert_eq!(with(&"y".repeat(256)).unwrap().len(), 260);
        for bad in ["", "a\nb", &"y".repeat(257)] {
            assert_eq!(with(bad), None);
        }
        assert_eq!(template.fill(|_| None), None);
        let fat = Template::parse(&"{path.1}".repeat(5), FilledBy::Write).unwrap();
        assert_eq!(fat.fill(|_| Some("x".repeat(256))), None);
        assert!(!fat.needs_body() && Template::parse("{body:/a}", FilledBy::Write).unwrap().needs_body());
    }
}
