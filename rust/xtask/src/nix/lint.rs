//! What statix finds in Nix files, which is in no registry that the test command reaches: its lints that this
//! repository could break, and STYLE's own (no `with`).

use anyhow::{Context as _, Result, ensure};
use rnix::SyntaxKind::{
    NODE_APPLY, NODE_ATTR_SET, NODE_ATTRPATH_VALUE, NODE_BIN_OP, NODE_IDENT, NODE_IDENT_PARAM, NODE_IF_ELSE,
    NODE_INHERIT, NODE_INHERIT_FROM, NODE_LAMBDA, NODE_LEGACY_LET, NODE_LET_IN, NODE_LIST, NODE_LITERAL, NODE_PAREN,
    NODE_PATTERN, NODE_ROOT, NODE_SELECT, NODE_STRING, NODE_WITH, TOKEN_CONCAT, TOKEN_EQUAL, TOKEN_NOT_EQUAL,
    TOKEN_URI,
};
use rnix::{SyntaxKind, SyntaxNode};
use std::fs;
use std::path::{Path, PathBuf};

/// Looks at files; an error names all that was found, by line.
pub fn files(root: &Path, names: &[PathBuf]) -> Result<()> {
    let mut all = Vec::new();
    for name in names {
        let text = fs::read_to_string(root.join(name)).with_context(|| name.display().to_string())?;
        all.extend(found(&text).into_iter().map(|(line, what)| format!("{}:{line}: {what}", name.display())));
    }
    ensure!(all.is_empty(), "{}", all.join("\n"));
    Ok(())
}

/// Lines, and what is there.
fn found(text: &str) -> Vec<(usize, &'static str)> {
    let parsed = rnix::Root::parse(text);
    let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    let mut all = Vec::new();
    if !parsed.errors().is_empty() {
        all.push((1, "it does not parse"));
    }
    for element in parsed.syntax().descendants_with_tokens() {
        let what = match &element {
            rnix::NodeOrToken::Node(node) => judged(node),
            rnix::NodeOrToken::Token(token) => (token.kind() == TOKEN_URI).then_some("a URL without quotes"),
        };
        all.extend(what.map(|what| (line(element.text_range().start().into()), what)));
    }
    all
}

fn judged(node: &SyntaxNode) -> Option<&'static str> {
    let parts: Vec<SyntaxNode> = node.children().collect();
    let kinds: Vec<SyntaxKind> = parts.iter().map(SyntaxNode::kind).collect();
    let text = |n: usize| parts.get(n).map(|part| part.text().to_string()).unwrap_or_default();
    let parent = node.parent().map(|parent| parent.kind());
    match (node.kind(), &kinds[..]) {
        (NODE_WITH, _) => Some("`with`: name what is meant"),
        (NODE_LEGACY_LET, _) => Some("`let { body = …; }`: write let … in"),
        (NODE_LET_IN, [_]) => Some("a `let` that binds nothing"),
        (NODE_LET_IN, [.., NODE_LET_IN]) => Some("a `let` right within a `let`"),
        (NODE_INHERIT, [] | [NODE_INHERIT_FROM]) => Some("`inherit` of nothing"),
        (NODE_ATTRPATH_VALUE, [_, NODE_IDENT]) if text(0) == text(1) => Some("a name that is itself: inherit it"),
        (NODE_ATTRPATH_VALUE, [_, NODE_SELECT]) if text(1).ends_with(&format!(".{}", text(0))) => {
            let select: Vec<SyntaxNode> = parts[1].children().collect();
            let same = select.len() == 2 && select[1].text() == parts[0].text();
            same.then_some("a name that is its own elsewhere: inherit (…) it")
        }
        (NODE_LAMBDA, [NODE_IDENT_PARAM, NODE_APPLY]) => {
            let apply: Vec<SyntaxNode> = parts[1].children().collect();
            let [function, argument] = &apply[..] else { return None };
            let plain = matches!(function.kind(), NODE_IDENT | NODE_SELECT);
            let mut names = function.descendants().filter(|n| n.kind() == NODE_IDENT).map(|n| n.text().to_string());
            let own = argument.kind() == NODE_IDENT && argument.text().to_string() == text(0);
            (plain && own && !names.any(|name| name == text(0))).then_some("`x: f x` is f")
        }
        (NODE_PATTERN, []) if without_space(node) == "{...}" => Some("`{ ... }:` of which nothing is used: write _:"),
        (NODE_PAREN, [inner]) => {
            let one = matches!(inner, NODE_PAREN | NODE_IDENT | NODE_LITERAL | NODE_STRING | NODE_LIST | NODE_ATTR_SET)
                || *inner == NODE_SELECT && parts[0].children().count() == 2;
            let alone = matches!(parent, Some(NODE_ATTRPATH_VALUE | NODE_ROOT | NODE_LET_IN | NODE_IF_ELSE));
            (one && parent != Some(NODE_SELECT) || alone).then_some("parentheses that change nothing")
        }
        (NODE_BIN_OP, [_, _]) if ["true", "false"].iter().any(|b| text(0) == *b || text(1) == *b) => {
            let compares = node.children_with_tokens().any(|t| matches!(t.kind(), TOKEN_EQUAL | TOKEN_NOT_EQUAL));
            compares.then_some("a comparison with true or false")
        }
        (NODE_BIN_OP, [a, b]) if [(a, 0), (b, 1)].iter().any(|(k, n)| **k == NODE_LIST && text(*n) == "[ ]") => {
            let adds = node.children_with_tokens().any(|t| t.kind() == TOKEN_CONCAT);
            adds.then_some("an empty list added")
        }
        (NODE_IDENT, _) if ["isNull", "toPath"].iter().any(|old| node.text() == *old) => Some("it is deprecated"),
        _ => None,
    }
}

fn without_space(node: &SyntaxNode) -> String {
    node.text().to_string().split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_and_its_better_form_is_not() {
        for (bad, good) in [
            ("with lib; map", "lib.map"),
            ("let { body = 1; }", "1"),
            ("let in 1", "let a = 1; in a"),
            ("let a = 1; in let b = a; in b", "let a = 1; b = a; in b"),
            ("{ inherit; }", "{ }"),
            ("a: { a = a; }", "a: { inherit a; }"),
            ("b: { a = b.a; }", "b: { inherit (b) a; c = b.a; d = b.x.d or 1; }"),
            ("map (x: f x) [ ]", "map (x: x x) (map (x: f (x + 1)) [ ])"),
            ("{ ... }: 1", "{ ... }@all: all"),
            ("f (a)", "f (a b) (-1)"),
            ("f (a.b)", "(f a).b (c.d or e)"),
            ("{ a = (f b); }", "{ a = f b; }"),
            ("a == true", "a == b"),
            ("[ ] ++ a", "a ++ b"),
            ("isNull x", "x == null"),
            ("https://example.org", "\"https://example.org\""),
            ("{", "{ }"),
        ] {
            assert_eq!(found(bad).len(), 1, "{bad}: {:?}", found(bad));
            assert_eq!(found(good), [], "{good}");
        }
        assert_eq!(found("{\n  a = 1;\n  b = with a; c;\n}")[0].0, 3);
    }
}
