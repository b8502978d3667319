//! The filter of the tag endpoints: what an editor sends while its user is still typing. Comparisons without a right side
//! count as true, a missing brace is supplied, and what still makes no sense filters nothing. Never an error, but for a
//! filter that would expand into too many alternatives.

use crate::ParseError;
use crate::lex::{self, Placed, Token};
use crate::parse::tree_of;
use crate::syntax::{BinaryOp, Body, Expr, Literal, Pipeline, Spansets, Stage, Tree};

/// Alternatives of a filter after `||` is spread out.
const GROUPS_MAX: usize = 100;

/// Tokens that cannot begin a right side.
const ENDS: [&str; 15] = [
    "}", ")", "&&", "||", "=", "!=", "<", "<=", ">", ">=", "=~", "!~", "|", ",", "{",
];
const COMPARISONS: [&str; 8] = ["=", "!=", "<", "<=", ">", ">=", "=~", "!~"];

/// A repaired query; `None`: nothing can be made of it.
pub(crate) fn repaired(text: &str) -> Option<Tree> {
    if text.len() > 131_072 {
        return None;
    }
    let tokens = repair(lex::tokens(text).ok()?);
    tree_of(&tokens).ok()
}

/// Whether nothing is left that would filter.
pub(crate) fn matches_all(tree: &Tree) -> bool {
    let pipeline = match &tree.body {
        Body::Spansets(pipeline) => pipeline,
        Body::Metrics(crate::syntax::Metrics::Function(pipeline, ..)) => pipeline,
        Body::Metrics(_) => return false,
    };
    fn all_true(pipeline: &Pipeline) -> bool {
        pipeline.stages.iter().all(|stage| match stage {
            Stage::Spansets(spansets) => set(spansets),
            Stage::Select(_) | Stage::By(_) | Stage::Coalesce => true,
            Stage::ScalarFilter(..) => false,
        })
    }
    fn set(spansets: &Spansets) -> bool {
        match spansets {
            Spansets::Filter(expr) => is_true(expr),
            Spansets::Group(pipeline) => all_true(pipeline),
            Spansets::Combined(_, left, right) => set(left) && set(right),
        }
    }
    all_true(pipeline)
}

fn is_true(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(Literal::Bool(b)) => *b,
        Expr::Binary(BinaryOp::And | BinaryOp::Or, left, right) => is_true(left) && is_true(right),
        _ => false,
    }
}

/// The alternatives of a filter, each a list of what must hold together. Empty: no filtering.
pub(crate) fn groups(text: &str) -> Result<Vec<Vec<Expr>>, ParseError> {
    let Some(tree) = repaired(text) else {
        return Ok(Vec::new());
    };
    let Body::Spansets(Pipeline { stages }) = &tree.body else {
        return Ok(Vec::new());
    };
    let [Stage::Spansets(Spansets::Filter(expr))] = &stages[..] else {
        return Ok(Vec::new());
    };
    let groups = expand(expr)?;
    // An alternative that says nothing lets everything through.
    if groups.iter().any(Vec::is_empty) {
        return Ok(Vec::new());
    }
    Ok(groups)
}

fn expand(expr: &Expr) -> Result<Vec<Vec<Expr>>, ParseError> {
    let too_many = || ParseError {
        message: format!("the filter has more than {GROUPS_MAX} alternatives; use fewer ||"),
    };
    match expr {
        Expr::Binary(BinaryOp::Or, left, right) => {
            let mut groups = expand(left)?;
            groups.extend(expand(right)?);
            if groups.len() > GROUPS_MAX {
                Err(too_many())
            } else {
                Ok(groups)
            }
        }
        Expr::Binary(BinaryOp::And, left, right) => {
            let (left, right) = (expand(left)?, expand(right)?);
            if left.len() * right.len() > GROUPS_MAX {
                return Err(too_many());
            }
            let pairs = left.iter().flat_map(|l| right.iter().map(move |r| (l, r)));
            Ok(pairs.map(|(l, r)| l.iter().chain(r).cloned().collect()).collect())
        }
        Expr::Literal(Literal::Bool(true)) => Ok(vec![Vec::new()]),
        // Two attributes say nothing about values that could be looked up.
        Expr::Binary(_, left, right) if matches!((&**left, &**right), (Expr::Field(_), Expr::Field(_))) => {
            Ok(vec![Vec::new()])
        }
        other => Ok(vec![vec![other.clone()]]),
    }
}

/// Supplies what is missing inside braces.
fn repair(tokens: Vec<Placed>) -> Vec<Placed> {
    let mut out: Vec<Placed> = Vec::with_capacity(tokens.len() + 4);
    // Open brackets, with the place behind each.
    let mut open: Vec<(&'static str, usize)> = Vec::new();
    for placed in tokens {
        let inside = open.first().is_some_and(|(sign, _)| *sign == "{");
        let ends = placed.token == Token::End || ENDS.iter().any(|sign| placed.token.is(sign));
        if inside && ends {
            complete(&mut out, &open);
        }
        let at = placed.at;
        let sign = |sign| Placed {
            token: Token::Sign(sign),
            at,
        };
        match placed.token {
            Token::Sign(bracket @ ("{" | "(")) => {
                out.push(placed);
                open.push((bracket, out.len()));
            }
            Token::Sign("}") => {
                while let Some((bracket, _)) = open.pop() {
                    if bracket == "{" {
                        break;
                    }
                    out.push(sign(")"));
                }
                out.push(placed);
            }
            Token::Sign(")") => {
                if open.last().is_some_and(|(bracket, _)| *bracket == "(") {
                    open.pop();
                }
                out.push(placed);
            }
            Token::End => {
                while let Some((bracket, _)) = open.pop() {
                    out.push(sign(if bracket == "{" { "}" } else { ")" }));
                }
                out.push(placed);
            }
            _ => out.push(placed),
        }
    }
    out
}

/// If the last operator lacks its right side, its comparison becomes `true`.
fn complete(out: &mut Vec<Placed>, open: &[(&'static str, usize)]) {
    let Some(last) = out.last() else { return };
    let at = last.at;
    let is_true = Placed {
        token: Token::Word("true".to_owned()),
        at,
    };
    if last.token.is("&&") || last.token.is("||") {
        out.push(is_true);
        return;
    }
    if !COMPARISONS.iter().any(|sign| last.token.is(sign)) {
        return;
    }
    // Back to where the left side begins: behind a connective or the bracket that is still open.
    let least = open.last().map_or(0, |(_, behind)| *behind);
    let mut depth = 0usize;
    let mut start = least;
    for i in (least..out.len()).rev() {
        let token = &out[i].token;
        if token.is(")") {
            depth += 1;
        } else if token.is("(") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && (token.is("&&") || token.is("||")) {
            start = i + 1;
            break;
        }
    }
    out.truncate(start);
    out.push(is_true);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<&str>) {
        assert_eq!(repaired(text).map(|tree| tree.to_string()).as_deref(), want, "{text}");
    }

    #[test]
    fn what_is_half_typed_is_completed() {
        check("{ .a = }", Some("{ true }"));
        check("{ .a = 1 && .b !~", Some("{ .a = 1 && true }"));
        check("{ (.a = && .b = 2) && name = }", Some("{ true && .b = 2 && true }"));
        check("{ .a = 1 && }", Some("{ .a = 1 && true }"));
        check("{ (.a + .b) * 2 > }", Some("{ true }"));
        check("{ .a = (.b + .c) && .d = }", Some("{ .a = .b + .c && true }"));
        check("{ ((.a = 1", Some("{ .a = 1 }"));
        check("&&", None);
        check("{ invalid syntax }", None);
        check("{ .a = \"", None);
    }

    #[test]
    fn alternatives_are_spread_out() {
        let count = |text: &str| groups(text).map(|g| g.len());
        assert_eq!(count("{ (.a = 1 || .b = 2) && (.c = 3 || .d = 4) }"), Ok(4));
        assert_eq!(count("{ .a = 1 || .b = }"), Ok(0));
        let many = ["(.a = 1 || .b = 2)"; 7].join(" && ");
        assert!(count(&format!("{{ {many} }}")).is_err());
    }
}
