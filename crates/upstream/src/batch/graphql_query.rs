//! GraphQL documents: whether one only reads, and the pieces of it from which several become one.

use std::ops::Range;

use apollo_parser::cst::{
    CstNode, Definition, Document, Field, FragmentDefinition, FragmentSpread, Name, OperationDefinition, Selection, Variable,
};
use apollo_parser::{Parser, SyntaxNode};

/// Stands for a member's prefix; cannot occur in a document that is taken.
pub const PREFIX: char = '\u{1}';
/// Nesting beyond which a document is not read.
const MAX_DEPTH: usize = 100;
/// Tokens beyond which a document is not read.
const MAX_TOKENS: usize = 20_000;

fn parse(source: &str) -> Option<Document> {
    if source.contains(PREFIX) {
        return None;
    }
    let tree = Parser::new(source).recursion_limit(MAX_DEPTH).token_limit(MAX_TOKENS).parse();
    (tree.errors().len() == 0).then(|| tree.document())
}

/// Whether all operations of a document only read, and there is one. What they read changes nothing (GraphQL specification, section 2.3).
pub fn only_reads(source: &str) -> bool {
    let Some(document) = parse(source) else { return false };
    let mut operations = 0;
    for definition in document.definitions() {
        match definition {
            Definition::OperationDefinition(operation) if is_query(&operation) => operations += 1,
            Definition::FragmentDefinition(_) => {}
            _ => return false,
        }
    }
    operations > 0 && !has_parts_later(document.syntax())
}

fn is_query(operation: &OperationDefinition) -> bool {
    operation.operation_type().is_none_or(|kind| kind.query_token().is_some())
}

/// `@defer` and `@stream` are answered in several parts.
fn has_parts_later(node: &SyntaxNode) -> bool {
    let directives = node.descendants().filter_map(apollo_parser::cst::Directive::cast);
    directives.filter_map(|directive| directive.name()).any(|name| matches!(&*name.text(), "defer" | "stream"))
}

/// The pieces of a query, in which everything whose name could meet another member's has [`PREFIX`] before it: variables, fragments, and
/// the keys under which its fields answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// What it declares.
    pub variables: String,
    /// What it selects.
    pub selections: String,
    /// Its fragments.
    pub fragments: String,
}

/// Takes a query apart; `operation` is the name that the request gives. `None` when it cannot be proved that it answers the same beside others.
pub fn pieces(source: &str, operation: Option<&str>) -> Option<Pieces> {
    let document = parse(source)?;
    let (mut query, mut fragments) = (None, Vec::new());
    for definition in document.definitions() {
        match definition {
            Definition::OperationDefinition(found) if is_query(&found) && query.is_none() => query = Some(found),
            Definition::FragmentDefinition(fragment) => fragments.push(fragment),
            _ => return None,
        }
    }
    let query = query?;
    let name = query.name().map(|name| name.text().to_string());
    let named = operation.is_none_or(|wanted| name.as_deref() == Some(wanted));
    if !named || query.directives().is_some() || has_parts_later(document.syntax()) {
        return None;
    }
    let set = query.selection_set()?;
    let mut edits = renames(document.syntax())?;
    for selection in set.selections() {
        // A fragment here would put keys of its own beside those of others.
        let Selection::Field(field) = selection else { return None };
        edits.push(key(&field)?);
    }
    edits.sort_by_key(|(at, _)| *at);
    let within = |range: Range<usize>| edited(source, range, &edits);
    let variables = match query.variable_definitions() {
        Some(declared) => within(end(&declared.l_paren_token()?)..start(&declared.r_paren_token()?)),
        None => String::new(),
    };
    let selections = within(end(&set.l_curly_token()?)..start(&set.r_curly_token()?));
    let fragments: Vec<String> = fragments.iter().map(|fragment| within(whole(fragment))).collect();
    Some(Pieces { variables, selections, fragments: fragments.join("\n") })
}

/// Where something is put in, and what.
type Edit = (usize, String);

/// The prefix before every variable and every fragment's name.
fn renames(document: &SyntaxNode) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    for node in document.descendants() {
        let name = if let Some(variable) = Variable::cast(node.clone()) {
            variable.name()
        } else if let Some(spread) = FragmentSpread::cast(node.clone()) {
            spread.fragment_name()?.name()
        } else if let Some(fragment) = FragmentDefinition::cast(node) {
            fragment.fragment_name()?.name()
        } else {
            continue;
        };
        edits.push((place(&name?)?, PREFIX.to_string()));
    }
    Some(edits)
}

/// The prefix before the key under which a field answers.
fn key(field: &Field) -> Option<Edit> {
    match field.alias() {
        Some(alias) => Some((place(&alias.name()?)?, PREFIX.to_string())),
        None => {
            let name = field.name()?;
            Some((place(&name)?, format!("{PREFIX}{}: ", name.text())))
        }
    }
}

fn place(name: &Name) -> Option<usize> {
    Some(start(&name.ident_token()?))
}

fn start(token: &apollo_parser::SyntaxToken) -> usize {
    token.text_range().start().into()
}

fn end(token: &apollo_parser::SyntaxToken) -> usize {
    token.text_range().end().into()
}

fn whole(fragment: &FragmentDefinition) -> Range<usize> {
    let range = fragment.syntax().text_range();
    range.start().into()..range.end().into()
}

/// The text of a range with what belongs into it.
fn edited(source: &str, range: Range<usize>, edits: &[Edit]) -> String {
    let mut text = String::new();
    let mut at = range.start;
    for (place, insert) in edits.iter().filter(|(place, _)| range.contains(place)) {
        text.push_str(source.get(at..*place).unwrap_or_default());
        text.push_str(insert);
        at = *place;
    }
    text.push_str(source.get(at..range.end).unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str, operation: Option<&str>) -> Option<(String, String, String)> {
        let show = |text: String| text.replace(PREFIX, "m_").split_whitespace().collect::<Vec<_>>().join(" ");
        pieces(source, operation).map(|pieces| (show(pieces.variables), show(pieces.selections), show(pieces.fragments)))
    }

    #[test]
    fn names_that_could_meet_get_a_prefix() {
        let source = "query Q($id: ID!, $all: Boolean = true) { a: user(id: $id) { ...F name } items(first: 3) @include(if: $all) { id } }
            fragment F on User { friends(of: $id) { ...G } } fragment G on User { id }";
        let (variables, selections, fragments) = shown(source, Some("Q")).unwrap();
        assert_eq!(variables, "$m_id: ID!, $m_all: Boolean = true");
        assert_eq!(selections, "m_a: user(id: $m_id) { ...m_F name } m_items: items(first: 3) @include(if: $m_all) { id }");
        assert_eq!(fragments, "fragment m_F on User { friends(of: $m_id) { ...m_G } } fragment m_G on User { id }");
    }

    #[test]
    fn texts_and_comments_are_left_alone() {
        let source = "{ search(text: \"$id ...F { }\", block: \"\"\"a $b\"\"\") # $c }\n { __typename } }";
        assert_eq!(
            shown(source, None).unwrap().1,
            "m_search: search(text: \"$id ...F { }\", block: \"\"\"a $b\"\"\") # $c } { __typename }"
        );
        assert_eq!(shown("{ query type: on __typename }", None).unwrap().1, "m_query: query m_type: on m___typename: __typename");
    }

    #[test]
    fn what_is_not_provably_alike_beside_others_is_left_alone() {
        for source in [
            "mutation { a }",
            "subscription { a }",
            "query A { a } query B { b }",
            "{ ...F } fragment F on Query { a }",
            "{ ... on Query { a } }",
            "query @cached { a }",
            "{ a { ...F @defer } } fragment F on A { b }",
            "{ a @stream }",
            "{ a ",
            "",
            "type A { a: Int }",
            "fragment F on A { a }",
            "{ a(x: \"\u{1}\") }",
        ] {
            assert_eq!(pieces(source, None), None, "{source}");
        }
        assert_eq!(pieces("query A { a }", Some("B")), None);
        assert!(pieces("query A { a }", Some("A")).is_some() && pieces("query A { a }", None).is_some());
    }

    #[test]
    fn only_queries_only_read() {
        assert!(only_reads("{ a }") && only_reads("query A { a ...F } query B { b } fragment F on Query { c }"));
        for source in ["mutation { a }", "query A { a } mutation B { b }", "subscription { a }", "{ a", "", "{ a @defer }"] {
            assert!(!only_reads(source), "{source}");
        }
    }
}
