//! A JSON text that is put together from parts of others, and pointers into it.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::batch::json::{self, Object};

/// One step of a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A member.
    Member(String),
    /// Each element of an array.
    Each,
}

/// The steps of a JSON pointer (RFC 6901), where `*` stands for each element.
pub(super) fn steps(pointer: &str) -> Vec<Step> {
    let step = |segment: &str| match segment {
        "*" => Step::Each,
        text => Step::Member(text.replace("~1", "/").replace("~0", "~")),
    };
    pointer.split('/').skip(1).map(step).collect()
}

/// Something that a pointer found, with the elements that `*` stood for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// Which elements.
    pub at: Vec<usize>,
    /// What.
    pub what: What<'a>,
}

/// What a pointer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// The text of a value.
    Value(&'a str),
    /// An element, whether or not it has what the pointer leads to.
    Element,
    /// An array without elements.
    Empty,
}

/// Everything in `text` that `steps` lead to.
pub(super) fn find<'a>(text: &'a str, steps: &[Step]) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    walk(text, steps, &mut Vec::new(), &mut found);
    found
}

fn walk<'a>(text: &'a str, steps: &[Step], at: &mut Vec<usize>, found: &mut Vec<Found<'a>>) {
    let Some((step, rest)) = steps.split_first() else { return found.push(Found { at: at.clone(), what: What::Value(text) }) };
    match step {
        Step::Member(name) => {
            if let Some(value) = member(text, name) {
                walk(value, rest, at, found);
            }
        }
        Step::Each => {
            let Some(elements) = json::elements(text) else { return };
            if elements.is_empty() {
                found.push(Found { at: at.clone(), what: What::Empty });
            }
            for (index, element) in elements.into_iter().enumerate() {
                at.push(index);
                found.push(Found { at: at.clone(), what: What::Element });
                walk(element.get(), rest, at, found);
                at.pop();
            }
        }
    }
}

/// The member of an object, or the element of an array by its number.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let escaped = name.replace('~', "~0").replace('/', "~1");
    json::at(text, &format!("/{escaped}"))
}

/// A JSON value under construction.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Node {
    /// Nothing yet; prints `null`.
    #[default]
    Nothing,
    /// A value as its text has it.
    Raw(Arc<str>),
    /// An object.
    Object(Vec<(String, Node)>),
    /// An array.
    Array(Vec<Node>),
}

impl Node {
    /// Puts `value` where `steps` lead, making what is missing on the way; `*` takes the elements of `at` in turn. False where something else
    /// stands in the way.
    pub(super) fn set(&mut self, steps: &[Step], at: &[usize], value: Self) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            let free = matches!(self, Self::Nothing);
            if free {
                *self = value;
            }
            return free;
        };
        match step {
            Step::Member(name) => self.object().is_some_and(|members| entry(members, name).set(rest, at, value)),
            Step::Each => {
                let Some((index, later)) = at.split_first() else { return false };
                self.element(*index).is_some_and(|element| element.set(rest, later, value))
            }
        }
    }

    /// Makes the elements of `at` where `steps` lead, and no more; without enough of them an array without elements.
    pub(super) fn touch(&mut self, steps: &[Step], at: &[usize]) -> bool {
        match (steps.split_first(), at.split_first()) {
            (None, _) => true,
            (Some((Step::Each, rest)), Some((index, later))) => self.element(*index).is_some_and(|element| element.touch(rest, later)),
            (Some((Step::Each, _)), None) => self.array().is_some(),
            // Past the last of them: an element that will have members is an object.
            (Some((Step::Member(_), rest)), None) if !rest.contains(&Step::Each) => self.object().is_some(),
            (Some((Step::Member(name), rest)), _) => self.object().is_some_and(|members| entry(members, name).touch(rest, at)),
        }
    }

    fn element(&mut self, index: usize) -> Option<&mut Self> {
        let elements = self.array()?;
        if elements.len() <= index {
            elements.resize(index + 1, Self::Nothing);
        }
        elements.get_mut(index)
    }

    /// Takes out what a pointer without `*` leads to.
    pub(super) fn take(&mut self, steps: &[Step]) -> Option<Self> {
        let (step, rest) = steps.split_first()?;
        let Step::Member(name) = step else { return None };
        if matches!(self, Self::Nothing) {
            return None;
        }
        let members = self.object()?;
        let place = members.iter().position(|(member, _)| member == name)?;
        if rest.is_empty() { Some(members.remove(place).1) } else { members.get_mut(place)?.1.take(rest) }
    }

    /// Its members where it is an object, or nothing yet.
    fn object(&mut self) -> Option<&mut Vec<(String, Self)>> {
        match self {
            Self::Nothing => *self = Self::Object(Vec::new()),
            Self::Raw(text) => {
                let part = |(name, value): (String, &RawValue)| (name, Self::Raw(value.get().into()));
                *self = Self::Object(Object::read(text)?.0.into_iter().map(part).collect());
            }
            _ => {}
        }
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    fn array(&mut self) -> Option<&mut Vec<Self>> {
        if matches!(self, Self::Nothing) {
            *self = Self::Array(Vec::new());
        }
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// Writes its text.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Nothing => out.push_str("null"),
            Self::Raw(text) => out.push_str(text),
            Self::Object(members) => {
                out.push('{');
                for (place, (name, value)) in members.iter().enumerate() {
                    if place > 0 {
                        out.push(',');
                    }
                    out.push_str(&json::string(name));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
            Self::Array(elements) => {
                out.push('[');
                for (place, value) in elements.iter().enumerate() {
                    if place > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
        }
    }
}

fn entry<'a>(members: &'a mut Vec<(String, Node)>, name: &str) -> &'a mut Node {
    let place = members.iter().position(|(member, _)| member == name).unwrap_or_else(|| {
        members.push((name.to_owned(), Node::Nothing));
        members.len() - 1
    });
    &mut members[place].1
}
