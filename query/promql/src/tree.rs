//! The syntax tree as clients are told of it (`/api/v1/parse_query`): nodes of Prometheus' shapes and names.

use std::fmt::Write;

use model::Matcher;
use query_exec::{Cardinality, Grouping};

use crate::functions::Function;
use crate::literals::go_decimal;
use crate::parse::takes_a_parameter;
use crate::syntax::{At, Binary, Duration, DurationExpr, Edges, Expr, Kind, Number, Selector, Shift};

/// A node of a syntax tree, or a part of one: what JSON can say.
///
/// Objects that are nodes have a `type` (`vectorSelector`, `binaryExpr`, ...); their fields come in alphabetical order.
/// Times and lengths of time are whole milliseconds, numbers of the query are text (`numberLiteral` `val`).
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing: there is no such part.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number; JSON has no word for those that are not finite, they become null.
    Number(f64),
    /// A text.
    Text(String),
    /// Several.
    List(Vec<Tree>),
    /// Named parts.
    Object(Vec<(&'static str, Tree)>),
}

impl Tree {
    /// The part of that name; none, where this is no object or has no such part.
    pub fn get(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Object(parts) => parts.iter().find(|(n, _)| *n == name).map(|(_, part)| part),
            _ => None,
        }
    }
    /// Appends the tree as JSON.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Tree::Null => out.push_str("null"),
            Tree::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Tree::Int(n) => out.push_str(&n.to_string()),
            Tree::Number(v) if v.is_finite() => out.push_str(&v.to_string()),
            Tree::Number(_) => out.push_str("null"),
            Tree::Text(text) => write_json_text(out, text),
            Tree::List(parts) => {
                out.push('[');
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    part.write_json(out);
                }
                out.push(']');
            }
            Tree::Object(parts) => {
                out.push('{');
                for (i, (name, part)) in parts.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_json_text(out, name);
                    out.push(':');
                    part.write_json(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                // Writing to a String never fails.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The tree of an expression.
pub(crate) fn tree(expr: &Expr) -> Tree {
    match &expr.kind {
        Kind::Number(n) => number(n, false),
        Kind::Text(bytes) => Tree::Object(vec![("type", text("stringLiteral")), ("val", lossy(bytes))]),
        Kind::Selector(s) => selector("vectorSelector", s, Vec::new()),
        Kind::Range(r) => selector(
            "matrixSelector",
            &r.selector,
            vec![("range", ms(Some(&r.range))), ("rangeExpr", computed(Some(&r.range)))],
        ),
        Kind::Subquery(s) => {
            let mut fields = shift(&s.shift);
            fields.extend([
                ("expr", tree(&s.expr)),
                ("range", ms(Some(&s.range))),
                ("rangeExpr", computed(Some(&s.range))),
                ("step", ms(s.step.as_ref())),
                ("stepExpr", computed(s.step.as_ref())),
            ]);
            node("subquery", fields)
        }
        Kind::Call(c) => node(
            "call",
            vec![
                ("args", Tree::List(c.args.iter().map(tree).collect())),
                ("func", function(c.function)),
            ],
        ),
        Kind::Aggregate(a) => {
            let (grouping, without) = match &a.grouping {
                Grouping::By(names) => (names, false),
                Grouping::Without(names) => (names, true),
            };
            let param = a.args.first().filter(|_| takes_a_parameter(a.op));
            node(
                "aggregation",
                vec![
                    ("expr", a.args.last().map_or(Tree::Null, tree)),
                    ("grouping", texts(grouping)),
                    ("op", text(a.op)),
                    ("param", param.map_or(Tree::Null, tree)),
                    ("without", Tree::Bool(without)),
                ],
            )
        }
        Kind::Unary(u) => {
            let op = text(if u.negative { "-" } else { "+" });
            node("unaryExpr", vec![("expr", tree(&u.expr)), ("op", op)])
        }
        Kind::Paren(inner) => node("parenExpr", vec![("expr", tree(inner))]),
        Kind::Binary(_) => chain(expr),
    }
}

/// A chain of operators from the left; it may be long, so it is no recursion.
fn chain(expr: &Expr) -> Tree {
    let mut links = Vec::new();
    let mut first = expr;
    while let Kind::Binary(binary) = &first.kind {
        links.push(binary);
        first = &binary.left;
    }
    let mut left = tree(first);
    for binary in links.into_iter().rev() {
        left = node(
            "binaryExpr",
            vec![
                ("bool", Tree::Bool(binary.return_bool)),
                ("lhs", left),
                ("matching", matching(binary)),
                ("op", text(binary.op.as_str())),
                ("rhs", tree(&binary.right)),
            ],
        );
    }
    left
}

fn matching(binary: &Binary) -> Tree {
    let Some(matching) = binary.matched() else {
        return Tree::Null;
    };
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    let fill = |value: Option<f64>| value.map_or(Tree::Null, Tree::Number);
    Tree::Object(vec![
        ("card", text(card)),
        (
            "fillValues",
            Tree::Object(vec![
                ("lhs", fill(matching.fill_left)),
                ("rhs", fill(matching.fill_right)),
            ]),
        ),
        ("include", texts(&matching.include)),
        ("labels", texts(&matching.labels)),
        ("on", Tree::Bool(matching.on)),
    ])
}

fn function(function: &Function) -> Tree {
    Tree::Object(vec![
        (
            "argTypes",
            Tree::List(function.args.iter().map(|t| text(t.short())).collect()),
        ),
        ("name", text(function.name)),
        ("returnType", text(function.returns.short())),
        ("variadic", Tree::Int(function.variadic.into())),
    ])
}

fn selector(kind: &'static str, selector: &Selector, mut fields: Vec<(&'static str, Tree)>) -> Tree {
    fields.extend(shift(&selector.shift));
    fields.extend([
        ("anchored", Tree::Bool(selector.edges == Edges::Anchored)),
        ("matchers", Tree::List(selector.matchers.iter().map(matcher).collect())),
        ("name", text(selector.name.as_deref().unwrap_or_default())),
        ("smoothed", Tree::Bool(selector.edges == Edges::Smoothed)),
    ]);
    node(kind, fields)
}

fn matcher(matcher: &Matcher) -> Tree {
    Tree::Object(vec![
        ("name", text(matcher.name())),
        ("type", text(matcher.op().as_str())),
        ("value", text(matcher.value())),
    ])
}

fn shift(shift: &Shift) -> Vec<(&'static str, Tree)> {
    let (timestamp, start_or_end) = match shift.at {
        None => (Tree::Null, Tree::Null),
        Some(At::Time(ms)) => (Tree::Int(ms), Tree::Null),
        Some(At::Start) => (Tree::Null, text("start")),
        Some(At::End) => (Tree::Null, text("end")),
    };
    vec![
        ("offset", ms(shift.offset.as_ref())),
        ("offsetExpr", computed(shift.offset.as_ref())),
        ("startOrEnd", start_or_end),
        ("timestamp", timestamp),
    ]
}

/// A duration that is written plainly; 0, where there is none or it is computed.
fn ms(duration: Option<&Duration>) -> Tree {
    Tree::Int(duration.and_then(Duration::written_ms).unwrap_or(0))
}

/// A duration that is computed.
fn computed(duration: Option<&Duration>) -> Tree {
    match duration {
        Some(d) if d.written_ms().is_none() => duration_tree(&d.expr),
        _ => Tree::Null,
    }
}

fn duration_tree(expr: &DurationExpr) -> Tree {
    let made = |op: &str, lhs: Tree, rhs: Tree| {
        node(
            "durationExpr",
            vec![
                ("lhs", lhs),
                ("op", text(op)),
                ("rhs", rhs),
                ("wrapped", Tree::Bool(false)),
            ],
        )
    };
    match expr {
        DurationExpr::Seconds(n) => number(n, true),
        DurationExpr::Step => made("step", Tree::Null, Tree::Null),
        DurationExpr::Range => made("range", Tree::Null, Tree::Null),
        DurationExpr::Negative(inner) => made("-", Tree::Null, duration_tree(&inner.expr)),
        DurationExpr::Min(a, b) => made("min_of", duration_tree(&a.expr), duration_tree(&b.expr)),
        DurationExpr::Max(a, b) => made("max_of", duration_tree(&a.expr), duration_tree(&b.expr)),
        DurationExpr::Binary(op, a, b) => made(op.as_str(), duration_tree(&a.expr), duration_tree(&b.expr)),
        DurationExpr::Paren(inner) => {
            let mut wrapped = match &inner.expr {
                // A number has no place for the mark, so a plus is put before it.
                DurationExpr::Seconds(n) => made("+", Tree::Null, number(n, true)),
                other => duration_tree(other),
            };
            if let Tree::Object(parts) = &mut wrapped {
                for (name, part) in parts {
                    if *name == "wrapped" {
                        *part = Tree::Bool(true);
                    }
                }
            }
            wrapped
        }
    }
}

fn number(number: &Number, in_duration: bool) -> Tree {
    let mut fields = vec![("val", text(&go_decimal(number.value)))];
    if in_duration {
        fields.push(("duration", Tree::Bool(number.duration)));
    }
    node("numberLiteral", fields)
}

fn node(kind: &'static str, mut fields: Vec<(&'static str, Tree)>) -> Tree {
    fields.push(("type", text(kind)));
    fields.sort_unstable_by_key(|(name, _)| *name);
    Tree::Object(fields)
}

fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

fn lossy(bytes: &[u8]) -> Tree {
    Tree::Text(String::from_utf8_lossy(bytes).into_owned())
}

fn texts(names: &[String]) -> Tree {
    Tree::List(names.iter().map(|n| text(n)).collect())
}
