//! A tree as text again, in the canonical form: on one line ([`line`], what messages and re-written queries use), or over
//! several where a line would be long ([`pretty`]). Parsing what was printed gives the same tree.
//!
//! Single blanks, `, ` between arguments, matchers sorted, then `@`, then `offset`; groupings before the parentheses;
//! names that are no plain words in quotes; numbers without exponents, durations in the longest units that fit.

use std::fmt::{self, Write};

use model::{METRIC_NAME, MatchOp, Matcher};
use query_exec::{BinaryOp, Cardinality, Grouping};

use crate::literals::{DurationMs, go_decimal, go_quoted};
use crate::notes::go_float;
use crate::syntax::{
    Aggregate, At, Binary, Duration, DurationExpr, Edges, Expr, Kind, Number, Range, Selector, Shift, Subquery,
};

/// Longest line that is not broken, bytes.
const LINE_BYTES_MAX: usize = 100;

/// The expression on one line.
pub(crate) fn line(expr: &Expr) -> String {
    let mut out = String::new();
    // Writing to a String never fails.
    let _ = write_expr(&mut out, expr, Next::Other);
    out
}

/// The expression, broken and indented where a line would be longer than 100 bytes.
pub(crate) fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    let _ = write_pretty(&mut out, expr, 0, Next::Other);
    out
}

/// What follows an expression. `x @ 1 offset (5m) + 2` would add 2 to the offset, so before such an operator an offset that
/// begins with a parenthesis is not left to stand last; and the sign of `+Inf ^ 2` would be one of the whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Power,
    /// Another operator that durations know as well.
    Arithmetic,
    Other,
}

impl Next {
    fn of(binary: &Binary) -> Next {
        use BinaryOp::*;
        match binary.op {
            Pow => Next::Power,
            Add | Sub | Mul | Div | Mod => Next::Arithmetic,
            _ => Next::Other,
        }
    }
}

fn write_expr(out: &mut dyn Write, expr: &Expr, next: Next) -> fmt::Result {
    match &expr.kind {
        Kind::Number(n) if n.value == f64::INFINITY && next == Next::Power => out.write_str("Inf"),
        Kind::Number(n) => write_number(out, n),
        Kind::Text(bytes) => out.write_str(&go_quoted(bytes)),
        Kind::Selector(s) => {
            write_selector(out, s)?;
            write_modifiers(out, &s.shift, s.edges, next, [Part::At, Part::Edges, Part::Offset])
        }
        Kind::Range(r) => write_range(out, r, next),
        Kind::Subquery(s) => {
            write_expr(out, &s.expr, Next::Other)?;
            write_window(out, s, next)
        }
        Kind::Call(c) => {
            write!(out, "{}(", c.function.name)?;
            write_args(out, &c.args)?;
            out.write_char(')')
        }
        Kind::Aggregate(a) => {
            write_aggregation(out, a)?;
            out.write_char('(')?;
            write_args(out, &a.args)?;
            out.write_char(')')
        }
        Kind::Unary(u) => {
            out.write_char(if u.negative { '-' } else { '+' })?;
            write_expr(out, &u.expr, next)
        }
        Kind::Paren(inner) => {
            out.write_char('(')?;
            write_expr(out, inner, Next::Other)?;
            out.write_char(')')
        }
        Kind::Binary(_) => {
            let (first, links) = chain(expr);
            let mut links = links.into_iter().peekable();
            write_expr(out, first, links.peek().map_or(next, |link| Next::of(link)))?;
            while let Some(link) = links.next() {
                out.write_char(' ')?;
                write_operator(out, link)?;
                out.write_char(' ')?;
                write_expr(out, &link.right, links.peek().map_or(next, |link| Next::of(link)))?;
            }
            Ok(())
        }
    }
}

/// Operators of one chain, from the left, after what stands first; a chain may be long, so it is no recursion.
fn chain(expr: &Expr) -> (&Expr, Vec<&Binary>) {
    let mut links = Vec::new();
    let mut first = expr;
    while let Kind::Binary(binary) = &first.kind {
        links.push(&**binary);
        first = &binary.left;
    }
    links.reverse();
    (first, links)
}

fn write_args(out: &mut dyn Write, args: &[Expr]) -> fmt::Result {
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.write_str(", ")?;
        }
        write_expr(out, arg, Next::Other)?;
    }
    Ok(())
}

fn write_number(out: &mut dyn Write, number: &Number) -> fmt::Result {
    if number.duration {
        if number.value == 0.0 && number.value.is_sign_negative() {
            out.write_char('-')?;
        }
        write!(out, "{}", DurationMs((number.value * 1000.0).round() as i64))
    } else {
        out.write_str(&go_decimal(number.value))
    }
}

fn write_selector(out: &mut dyn Write, selector: &Selector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or_default();
    let is_name = |m: &Matcher| m.name() == METRIC_NAME && m.op() == MatchOp::Equal && m.value() == name;
    let others = selector.matchers.iter().filter(|m| name.is_empty() || !is_name(m));
    let mut others: Vec<String> = others.map(matcher).collect();
    others.sort_unstable();
    out.write_str(name)?;
    if others.is_empty() && !name.is_empty() {
        return Ok(());
    }
    write!(out, "{{{}}}", others.join(","))
}

fn matcher(matcher: &Matcher) -> String {
    let value = go_quoted(matcher.value().as_bytes());
    format!("{}{}{value}", label(matcher.name()), matcher.op().as_str())
}

/// A label's name, in quotes if it is no plain word.
fn label(name: &str) -> String {
    let plain = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain {
        name.to_owned()
    } else {
        go_quoted(name.as_bytes())
    }
}

fn labels(names: &[String]) -> String {
    names.iter().map(|n| label(n)).collect::<Vec<_>>().join(", ")
}

fn write_range(out: &mut dyn Write, range: &Range, next: Next) -> fmt::Result {
    write_selector(out, &range.selector)?;
    out.write_char('[')?;
    write_duration(out, &range.range)?;
    out.write_char(']')?;
    let (shift, edges) = (&range.selector.shift, range.selector.edges);
    write_modifiers(out, shift, edges, next, [Part::Edges, Part::At, Part::Offset])
}

/// `[range:step] @ t offset d`
fn write_window(out: &mut dyn Write, subquery: &Subquery, next: Next) -> fmt::Result {
    out.write_char('[')?;
    write_duration(out, &subquery.range)?;
    out.write_char(':')?;
    if let Some(step) = &subquery.step {
        write_duration(out, step)?;
    }
    out.write_char(']')?;
    let order = [Part::Edges, Part::At, Part::Offset];
    write_modifiers(out, &subquery.shift, Edges::Plain, next, order)
}

/// A modifier of a selector.
#[derive(Clone, Copy)]
enum Part {
    At,
    Edges,
    Offset,
}

/// Modifiers in `order`, unless the offset must not come last.
fn write_modifiers(out: &mut dyn Write, shift: &Shift, edges: Edges, next: Next, order: [Part; 3]) -> fmt::Result {
    let order = if shift.offset_first(next) {
        [Part::Offset, Part::At, Part::Edges]
    } else {
        order
    };
    for part in order {
        match part {
            Part::At => write_at(out, shift)?,
            Part::Offset => write_offset(out, shift)?,
            Part::Edges => out.write_str(match edges {
                Edges::Plain => "",
                Edges::Anchored => " anchored",
                Edges::Smoothed => " smoothed",
            })?,
        }
    }
    Ok(())
}

impl Shift {
    /// Whether the offset must not come last, and need not.
    fn offset_first(&self, next: Next) -> bool {
        next != Next::Other && self.offset.as_ref().is_some_and(|offset| offset.expr.opens())
    }
}

impl DurationExpr {
    /// Whether it begins in a way that lets an operator after it belong to it: with a parenthesis, or two signs.
    fn opens(&self) -> bool {
        match self {
            DurationExpr::Paren(_) => true,
            DurationExpr::Negative(inner) => matches!(inner.expr, DurationExpr::Negative(_)),
            DurationExpr::Binary(_, left, _) => left.expr.opens(),
            _ => false,
        }
    }
}

fn write_at(out: &mut dyn Write, shift: &Shift) -> fmt::Result {
    match shift.at {
        None => Ok(()),
        Some(At::Time(ms)) => write!(out, " @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => out.write_str(" @ start()"),
        Some(At::End) => out.write_str(" @ end()"),
    }
}

fn write_offset(out: &mut dyn Write, shift: &Shift) -> fmt::Result {
    let Some(offset) = &shift.offset else {
        return Ok(());
    };
    out.write_str(" offset ")?;
    write_duration(out, offset)
}

/// A duration where one stands alone: what is written plainly is shown with units.
fn write_duration(out: &mut dyn Write, duration: &Duration) -> fmt::Result {
    match duration.written_ms() {
        Some(ms) => write!(out, "{}", DurationMs(ms)),
        None => write_duration_expr(out, &duration.expr),
    }
}

fn write_duration_expr(out: &mut dyn Write, expr: &DurationExpr) -> fmt::Result {
    match expr {
        DurationExpr::Seconds(n) => write_number(out, n),
        DurationExpr::Step => out.write_str("step()"),
        DurationExpr::Range => out.write_str("range()"),
        DurationExpr::Negative(inner) => {
            out.write_char('-')?;
            write_duration_expr(out, &inner.expr)
        }
        DurationExpr::Paren(inner) => {
            out.write_char('(')?;
            write_duration_expr(out, &inner.expr)?;
            out.write_char(')')
        }
        DurationExpr::Min(a, b) | DurationExpr::Max(a, b) => {
            let name = match expr {
                DurationExpr::Min(..) => "min_of",
                _ => "max_of",
            };
            write!(out, "{name}(")?;
            write_duration_expr(out, &a.expr)?;
            out.write_str(", ")?;
            write_duration_expr(out, &b.expr)?;
            out.write_char(')')
        }
        DurationExpr::Binary(op, a, b) => {
            write_duration_expr(out, &a.expr)?;
            write!(out, " {} ", op.as_str())?;
            write_duration_expr(out, &b.expr)
        }
    }
}

/// `sum by (a) `, up to the parenthesis.
fn write_aggregation(out: &mut dyn Write, aggregate: &Aggregate) -> fmt::Result {
    out.write_str(aggregate.op)?;
    match &aggregate.grouping {
        Grouping::By(names) if names.is_empty() => Ok(()),
        Grouping::By(names) => write!(out, " by ({}) ", labels(names)),
        Grouping::Without(names) => write!(out, " without ({}) ", labels(names)),
    }
}

/// `== bool on (a) group_left (b) fill (0)`
fn write_operator(out: &mut dyn Write, binary: &Binary) -> fmt::Result {
    out.write_str(binary.op.as_str())?;
    if binary.return_bool {
        out.write_str(" bool")?;
    }
    let Some(matching) = binary.matched() else {
        return Ok(());
    };
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        let how = if matching.on { "on" } else { "ignoring" };
        write!(out, " {how} ({})", labels(&matching.labels))?;
    }
    if let Some(group) = group {
        write!(out, " {group} ({})", labels(&matching.include))?;
    }
    let fill = |out: &mut dyn Write, how: &str, value: f64| write!(out, " {how} ({})", go_float(value));
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right => fill(out, "fill", left),
        (left, right) => {
            if let Some(left) = left {
                fill(out, "fill_left", left)?;
            }
            if let Some(right) = right {
                fill(out, "fill_right", right)?;
            }
            Ok(())
        }
    }
}

/// Whether the expression fits on one line; looks no further than a line is long.
fn fits(expr: &Expr) -> bool {
    struct Line(usize);
    impl Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write_expr(&mut Line(LINE_BYTES_MAX), expr, Next::Other).is_ok()
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn write_pretty(out: &mut String, expr: &Expr, level: usize, next: Next) -> fmt::Result {
    match &expr.kind {
        Kind::Subquery(s) => {
            // Known clients compare with what Prometheus prints, and that does not indent a subquery that fits.
            if fits(expr) {
                return write_expr(out, expr, next);
            }
            write_pretty(out, &s.expr, level, Next::Other)?;
            write_window(out, s, next)
        }
        Kind::Unary(u) => {
            indent(out, level);
            out.write_char(if u.negative { '-' } else { '+' })?;
            let mut inner = String::new();
            write_pretty(&mut inner, &u.expr, level, next)?;
            out.write_str(inner.trim())
        }
        Kind::Call(c) if !fits(expr) => {
            indent(out, level);
            write!(out, "{}", c.function.name)?;
            write_broken(out, &c.args, level)
        }
        Kind::Aggregate(a) if !fits(expr) => {
            indent(out, level);
            write_aggregation(out, a)?;
            write_broken(out, &a.args, level)
        }
        Kind::Paren(inner) if !fits(expr) => {
            indent(out, level);
            write_broken(out, std::slice::from_ref(&**inner), level)
        }
        Kind::Binary(_) => write_broken_chain(out, expr, level, next),
        _ => {
            indent(out, level);
            write_expr(out, expr, next)
        }
    }
}

/// `(`, each on its own lines, `)`
fn write_broken(out: &mut String, inner: &[Expr], level: usize) -> fmt::Result {
    out.write_str("(\n")?;
    for (i, expr) in inner.iter().enumerate() {
        if i > 0 {
            out.write_str(",\n")?;
        }
        write_pretty(out, expr, level + 1, Next::Other)?;
    }
    out.write_char('\n')?;
    indent(out, level);
    out.write_char(')')
}

/// Operands one level in, operators on lines of their own; along the chain, not down.
fn write_broken_chain(out: &mut String, expr: &Expr, level: usize, next: Next) -> fmt::Result {
    let mut links: Vec<&Binary> = Vec::new();
    let mut first = expr;
    while let Kind::Binary(binary) = &first.kind
        && !fits(first)
    {
        links.push(binary);
        first = &binary.left;
    }
    let innermost = level + links.len();
    let after = links.last().map_or(next, |link| Next::of(link));
    if matches!(first.kind, Kind::Binary(_)) {
        indent(out, innermost);
        write_expr(out, first, after)?;
    } else {
        write_pretty(out, first, innermost, after)?;
    }
    for (outer, binary) in links.iter().enumerate().rev() {
        out.write_char('\n')?;
        indent(out, level + outer);
        write_operator(out, binary)?;
        out.write_char('\n')?;
        let after = outer.checked_sub(1).map_or(next, |further| Next::of(links[further]));
        write_pretty(out, &binary.right, level + outer + 1, after)?;
    }
    Ok(())
}
