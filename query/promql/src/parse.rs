//! Tokens to syntax tree: one function per construct, operators by precedence. Depth and length are bounded, so that no
//! text can exhaust the stack.

use std::sync::Arc;

use model::{METRIC_NAME, MatchOp, Matcher};
use query_exec::{BinaryOp, Cardinality, Grouping, Matching};

use crate::ParseError;
use crate::functions::function;
use crate::lex::{AGGREGATORS, Span, Tok, Token, tokens};
use crate::syntax::{
    Aggregate, At, Binary, Call, Duration, DurationExpr, Edges, Expr, Kind, Number, Range, Selector, Shift, Subquery,
    Unary,
};

/// Longest query, bytes.
const TEXT_BYTES_MAX: usize = 128 << 10;
/// Most expressions inside one another.
const NESTING_MAX: usize = 120;
/// Most binary operators: a chain of them is as deep a tree as it is long.
const OPERATORS_MAX: usize = 1500;
/// Most subqueries.
const SUBQUERIES_MAX: usize = 32;

/// Parses an expression; its types are not checked yet.
pub(crate) fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text)?;
    if parser.peek().tok == Tok::End {
        return Err(ParseError {
            message: "unknown position: parse error: no expression found in input".to_owned(),
        });
    }
    let expr = parser.expr(0)?;
    parser.end()?;
    Ok(expr)
}

/// Parses one selector without modifiers.
pub(crate) fn parse_selector(text: &str) -> Result<Arc<[Matcher]>, ParseError> {
    let mut parser = Parser::new(text)?;
    let selector = match parser.peek().tok {
        Tok::Punct("{") => parser.selector(None)?,
        Tok::Name | Tok::MetricName => parser.selector_by_name()?,
        _ => return Err(parser.unexpected("", "")),
    };
    parser.end()?;
    match selector.kind {
        Kind::Selector(selector) => {
            crate::check::selector(text, &selector, selector_span(text))?;
            Ok(selector.matchers)
        }
        _ => Err(parser.unexpected("", "")),
    }
}

fn selector_span(text: &str) -> Span {
    Span {
        start: text.len() - text.trim_start().len(),
        end: text.len(),
    }
}

/// `line:column: parse error: what`, both counted from 1.
pub(crate) fn fault(text: &str, at: usize, what: impl std::fmt::Display) -> ParseError {
    let (line, column) = line_column(text, at);
    ParseError {
        message: format!("{line}:{column}: parse error: {what}"),
    }
}

/// Line and column of a byte, both counted from 1.
pub(crate) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    (line, column)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    operators: usize,
    subqueries: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parsed<Parser<'a>> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseError {
                message: format!(
                    "1:1: parse error: the query has {} bytes, at most {TEXT_BYTES_MAX} are allowed",
                    text.len()
                ),
            });
        }
        Ok(Parser {
            text,
            tokens: tokens(text),
            at: 0,
            depth: 0,
            operators: 0,
            subqueries: 0,
        })
    }

    fn peek(&self) -> &Token<'a> {
        self.ahead(0)
    }
    fn ahead(&self, n: usize) -> &Token<'a> {
        // The last token is the end or a fault, and nothing goes past it.
        &self.tokens[(self.at + n).min(self.tokens.len() - 1)]
    }
    fn take(&mut self) -> Token<'a> {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }
    fn accept(&mut self, punct: &str) -> bool {
        let found = matches!(self.peek().tok, Tok::Punct(p) if p == punct);
        if found {
            self.take();
        }
        found
    }
    fn is_word(&self, word: &str) -> bool {
        self.peek().tok == Tok::Name && self.peek().text.eq_ignore_ascii_case(word)
    }
    fn is_punct(&self, n: usize, punct: &str) -> bool {
        matches!(self.ahead(n).tok, Tok::Punct(p) if p == punct)
    }
    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.take();
        }
        found
    }
    fn end(&self) -> Parsed<()> {
        if self.peek().tok == Tok::End {
            Ok(())
        } else {
            Err(self.unexpected("", ""))
        }
    }
    fn behind(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |i| self.tokens[i].span.end)
    }
    fn since(&self, start: usize) -> Span {
        Span {
            start,
            end: self.behind(),
        }
    }

    fn fault(&self, at: usize, what: impl std::fmt::Display) -> ParseError {
        fault(self.text, at, what)
    }
    /// The next token has no place here: `unexpected X in CONTEXT, expected WHAT`.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.peek();
        if let Tok::Fault(words) = &token.tok {
            return self.fault(token.span.start, words);
        }
        let context = if context.is_empty() {
            String::new()
        } else {
            format!(" in {context}")
        };
        let expected = if expected.is_empty() {
            String::new()
        } else {
            format!(", expected {expected}")
        };
        self.fault(token.span.start, format!("unexpected {token}{context}{expected}"))
    }
    fn expect(&mut self, punct: &'static str, context: &str) -> Parsed<()> {
        if self.accept(punct) {
            Ok(())
        } else {
            Err(self.unexpected(context, &format!("{punct:?}")))
        }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= NESTING_MAX {
            return Err(self.fault(
                self.peek().span.start,
                format!("expressions are nested more than {NESTING_MAX} deep"),
            ));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn count_operator(&mut self) -> Parsed<()> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(self.fault(self.peek().span.start, format!("more than {OPERATORS_MAX} operators")));
        }
        Ok(())
    }

    fn expr(&mut self, weakest: u8) -> Parsed<Expr> {
        self.deeper(|p| {
            let mut left = p.unary()?;
            while let Some((op, strength)) = p.operator().filter(|(_, strength)| *strength >= weakest) {
                p.count_operator()?;
                left = p.binary(left, op, strength)?;
            }
            Ok(left)
        })
    }

    /// The operator that comes next, and how strongly it binds.
    fn operator(&self) -> Option<(BinaryOp, u8)> {
        use BinaryOp::*;
        let token = self.peek();
        let word = token.text.to_ascii_lowercase();
        Some(match &token.tok {
            Tok::Op("^") => (Pow, POWER),
            Tok::Op("*") => (Mul, 5),
            Tok::Op("/") => (Div, 5),
            Tok::Op("%") => (Mod, 5),
            Tok::Op("+") => (Add, 4),
            Tok::Op("-") => (Sub, 4),
            Tok::Op("==") => (Eq, 3),
            Tok::Op("!=") => (Ne, 3),
            Tok::Op(">") => (Gt, 3),
            Tok::Op("<") => (Lt, 3),
            Tok::Op(">=") => (Ge, 3),
            Tok::Op("<=") => (Le, 3),
            Tok::Op("</") => (TrimUpper, 3),
            Tok::Op(">/") => (TrimLower, 3),
            Tok::Name if word == "atan2" => (Atan2, 5),
            Tok::Name if word == "and" => (And, 2),
            Tok::Name if word == "unless" => (Unless, 2),
            Tok::Name if word == "or" => (Or, 1),
            _ => return None,
        })
    }

    fn binary(&mut self, left: Expr, op: BinaryOp, strength: u8) -> Parsed<Expr> {
        let op_span = self.take().span;
        let return_bool = self.accept_word("bool");
        let mut matching = Matching::default();
        let mut explicit = false;
        if self.is_word("on") || self.is_word("ignoring") {
            matching.on = self.take().text.eq_ignore_ascii_case("on");
            matching.labels = self.label_names()?;
            explicit = true;
            if self.is_word("group_left") || self.is_word("group_right") {
                let left = self.take().text.eq_ignore_ascii_case("group_left");
                matching.cardinality = if left {
                    Cardinality::ManyToOne
                } else {
                    Cardinality::OneToMany
                };
                if self.is_punct(0, "(") {
                    matching.include = self.label_names()?;
                }
            }
        }
        for word in ["fill", "fill_left", "fill_right"] {
            if self.is_word(word) && self.is_punct(1, "(") {
                self.take();
                let value = self.fill_value()?;
                if word != "fill_right" {
                    matching.fill_left = Some(value);
                }
                if word != "fill_left" {
                    matching.fill_right = Some(value);
                }
            }
        }
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        // Right-associative: the same strength goes on to the right.
        let right = self.expr(if op == BinaryOp::Pow { strength } else { strength + 1 })?;
        let span = Span {
            start: left.span.start,
            end: right.span.end,
        };
        let binary = Binary {
            op,
            op_span,
            return_bool,
            explicit,
            matching,
            left,
            right,
        };
        Ok(Expr {
            kind: Kind::Binary(Box::new(binary)),
            span,
        })
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect("(", "fill")?;
        let negative = match self.peek().tok {
            Tok::Op("-") => Some(true),
            Tok::Op("+") => Some(false),
            _ => None,
        };
        if negative.is_some() {
            self.take();
        }
        let (Tok::Number(value) | Tok::Duration(value)) = self.peek().tok else {
            return Err(self.unexpected("fill", "number"));
        };
        self.take();
        self.expect(")", "fill")?;
        Ok(if negative == Some(true) { -value } else { value })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let start = self.peek().span.start;
        let negative = match self.peek().tok {
            Tok::Op("-") => true,
            Tok::Op("+") => false,
            _ => return self.postfix(),
        };
        self.take();
        let expr = self.expr(POWER)?;
        let kind = match expr.kind {
            Kind::Number(n) => Kind::Number(Number {
                value: if negative { -n.value } else { n.value },
                ..n
            }),
            _ => Kind::Unary(Box::new(Unary { negative, expr })),
        };
        Ok(Expr {
            kind,
            span: self.since(start),
        })
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            let start = expr.span.start;
            if self.is_punct(0, "[") {
                expr = self.brackets(expr)?;
            } else if self.is_word("anchored") || self.is_word("smoothed") {
                let word = self.take().text.to_ascii_lowercase();
                let edges = match &mut expr.kind {
                    Kind::Selector(selector) => &mut selector.edges,
                    Kind::Range(range) => &mut range.selector.edges,
                    Kind::Subquery(_) => {
                        return Err(self.fault(start, format!("{word} modifier is not supported for subqueries")));
                    }
                    _ => return Err(self.fault(start, format!("{word} modifier not implemented"))),
                };
                let wanted = if word == "anchored" {
                    Edges::Anchored
                } else {
                    Edges::Smoothed
                };
                if *edges != Edges::Plain && *edges != wanted {
                    let what = "anchored and smoothed modifiers cannot be used together";
                    return Err(self.fault(start, what));
                }
                *edges = wanted;
            } else if self.is_word("offset") {
                let at = self.take().span.start;
                let offset = self.offset()?;
                let shift = self.shift_of(&mut expr, at, "offset modifier")?;
                if shift.offset.replace(offset).is_some() {
                    return Err(self.fault(start, "offset may not be set multiple times"));
                }
            } else if self.is_punct(0, "@") {
                let at_start = self.take().span.start;
                let at = self.at()?;
                let shift = self.shift_of(&mut expr, at_start, "@ modifier")?;
                if shift.at.replace(at).is_some() {
                    return Err(self.fault(start, "@ <timestamp> may not be set multiple times"));
                }
            } else {
                return Ok(expr);
            }
            expr.span = self.since(start);
        }
    }

    fn shift_of<'e>(&self, expr: &'e mut Expr, _at: usize, what: &str) -> Parsed<&'e mut Shift> {
        let start = expr.span.start;
        match &mut expr.kind {
            Kind::Selector(selector) => Ok(&mut selector.shift),
            Kind::Range(range) => Ok(&mut range.selector.shift),
            Kind::Subquery(subquery) => Ok(&mut subquery.shift),
            _ => Err(self.fault(
                start,
                format!("{what} must be preceded by an instant vector selector or range vector selector or a subquery"),
            )),
        }
    }

    fn brackets(&mut self, expr: Expr) -> Parsed<Expr> {
        let start = expr.span.start;
        let open = self.take().span.start;
        let range = self.duration(0)?;
        if self.accept(":") {
            self.subqueries += 1;
            if self.subqueries > SUBQUERIES_MAX {
                return Err(self.fault(open, format!("more than {SUBQUERIES_MAX} subqueries")));
            }
            let step = if self.is_punct(0, "]") {
                None
            } else {
                Some(self.duration(0)?)
            };
            self.expect("]", "subquery selector")?;
            let subquery = Subquery {
                expr,
                range,
                step,
                shift: Shift::default(),
            };
            return Ok(Expr {
                kind: Kind::Subquery(Box::new(subquery)),
                span: self.since(start),
            });
        }
        if !self.accept("]") {
            return Err(self.unexpected("subquery or range selector", r#""]""#));
        }
        let Kind::Selector(selector) = expr.kind else {
            return Err(self.fault(open, "ranges only allowed for vector selectors"));
        };
        if selector.shift.offset.is_some() {
            return Err(self.fault(open, "no offset modifiers allowed before range"));
        }
        if selector.shift.at.is_some() {
            return Err(self.fault(open, "no @ modifiers allowed before range"));
        }
        Ok(Expr {
            kind: Kind::Range(Box::new(Range { selector, range })),
            span: self.since(start),
        })
    }

    fn at(&mut self) -> Parsed<At> {
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.is_word(word) && self.is_punct(1, "(") {
                self.take();
                self.take();
                self.expect(")", "@")?;
                return Ok(at);
            }
        }
        let negative = match self.peek().tok {
            Tok::Op("-") => Some(true),
            Tok::Op("+") => Some(false),
            _ => None,
        };
        if negative.is_some() {
            self.take();
        }
        let (Tok::Number(seconds) | Tok::Duration(seconds)) = self.peek().tok else {
            return Err(self.unexpected("@", "timestamp"));
        };
        let at = self.take().span.start;
        let ms = (seconds * 1000.0).round() * if negative == Some(true) { -1.0 } else { 1.0 };
        if ms.abs() < i64::MAX as f64 {
            return Ok(At::Time(ms as i64));
        }
        Err(self.fault(at, format!("timestamp out of bounds for @ modifier: {seconds:.6}")))
    }

    /// After `offset`: one term, or an expression in parentheses.
    fn offset(&mut self) -> Parsed<Duration> {
        let start = self.peek().span.start;
        let expr = self.duration_term("offset")?;
        Ok(Duration {
            expr,
            span: self.since(start),
        })
    }

    fn duration(&mut self, weakest: u8) -> Parsed<Duration> {
        let start = self.peek().span.start;
        let expr = self.duration_expr(weakest)?;
        Ok(Duration {
            expr,
            span: self.since(start),
        })
    }

    fn duration_expr(&mut self, weakest: u8) -> Parsed<DurationExpr> {
        self.deeper(|p| {
            let mut left = p.duration_term("range or subquery selector")?;
            while let Some((op, strength)) = p.operator().filter(|(op, s)| *s >= weakest && !op.is_set() && *s > 3) {
                p.count_operator()?;
                if op == BinaryOp::Atan2 {
                    return Err(p.unexpected("duration expression", ""));
                }
                p.take();
                let right = p.duration_expr(if op == BinaryOp::Pow { strength } else { strength + 1 })?;
                left = DurationExpr::Binary(op, Box::new(left), Box::new(right));
            }
            Ok(left)
        })
    }

    fn duration_term(&mut self, context: &str) -> Parsed<DurationExpr> {
        match self.peek().tok {
            Tok::Op("-") => {
                self.take();
                let inner = self.deeper(|p| p.duration_power(context))?;
                Ok(DurationExpr::Negative(Box::new(inner)))
            }
            Tok::Op("+") => {
                self.take();
                self.deeper(|p| p.duration_power(context))
            }
            Tok::Number(value) | Tok::Duration(value) => {
                let duration = matches!(self.take().tok, Tok::Duration(_));
                Ok(DurationExpr::Seconds(Number { value, duration }))
            }
            Tok::Punct("(") => {
                self.take();
                let inner = self.duration_expr(0)?;
                self.expect(")", "duration expression")?;
                Ok(DurationExpr::Paren(Box::new(inner)))
            }
            Tok::Name if self.is_punct(1, "(") => self.duration_call(context),
            _ => Err(self.unexpected(context, "number, duration, step(), or range()")),
        }
    }

    fn duration_power(&mut self, context: &str) -> Parsed<DurationExpr> {
        let base = self.duration_term(context)?;
        if context != "offset" && self.peek().tok == Tok::Op("^") {
            self.take();
            let exponent = self.duration_expr(POWER)?;
            return Ok(DurationExpr::Binary(BinaryOp::Pow, Box::new(base), Box::new(exponent)));
        }
        Ok(base)
    }

    fn duration_call(&mut self, context: &str) -> Parsed<DurationExpr> {
        let name = self.peek().text.to_ascii_lowercase();
        if !["step", "range", "min_of", "max_of"].contains(&name.as_str()) {
            return Err(self.unexpected(context, "number, duration, step(), or range()"));
        }
        self.take();
        self.expect("(", "duration expression")?;
        let result = match name.as_str() {
            "step" => DurationExpr::Step,
            "range" => DurationExpr::Range,
            _ => {
                let a = Box::new(self.duration_expr(0)?);
                self.expect(",", "duration expression")?;
                let b = Box::new(self.duration_expr(0)?);
                if name == "min_of" {
                    DurationExpr::Min(a, b)
                } else {
                    DurationExpr::Max(a, b)
                }
            }
        };
        self.expect(")", "duration expression")?;
        Ok(result)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let Token { tok, text, span } = self.peek().clone();
        match tok {
            Tok::Number(value) | Tok::Duration(value) => {
                let duration = matches!(self.take().tok, Tok::Duration(_));
                Ok(Expr {
                    kind: Kind::Number(Number { value, duration }),
                    span,
                })
            }
            Tok::Text(bytes) => {
                self.take();
                Ok(Expr {
                    kind: Kind::Text(bytes),
                    span,
                })
            }
            Tok::Punct("(") => {
                self.take();
                let inner = self.expr(0)?;
                self.expect(")", "parenthesized expression")?;
                Ok(Expr {
                    kind: Kind::Paren(Box::new(inner)),
                    span: self.since(span.start),
                })
            }
            Tok::Punct("{") => self.selector(None),
            Tok::MetricName => self.selector_by_name(),
            Tok::Name => {
                let word = text.to_ascii_lowercase();
                let aggregator = AGGREGATORS.iter().find(|a| **a == word);
                let next = self.ahead(1);
                let grouped =
                    next.tok == Tok::Name && ["by", "without"].iter().any(|w| next.text.eq_ignore_ascii_case(w));
                match aggregator {
                    Some(op) if grouped || self.is_punct(1, "(") => self.aggregate(op),
                    None if self.is_punct(1, "(") && !RESERVED.contains(&word.as_str()) => self.call(),
                    _ => self.selector_by_name(),
                }
            }
            _ => Err(self.unexpected("", "")),
        }
    }

    fn call(&mut self) -> Parsed<Expr> {
        let Token { text, span, .. } = self.take();
        let Some(function) = function(text) else {
            return Err(self.fault(span.start, format!("unknown function with name {text:?}")));
        };
        let args = self.arguments("function call")?;
        Ok(Expr {
            kind: Kind::Call(Box::new(Call { function, args })),
            span: self.since(span.start),
        })
    }

    fn arguments(&mut self, context: &str) -> Parsed<Vec<Expr>> {
        self.expect("(", context)?;
        let mut args = Vec::new();
        if self.accept(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            if self.accept(")") {
                return Ok(args);
            }
            if !self.accept(",") {
                return Err(self.unexpected(context, r#""," or ")""#));
            }
            if self.is_punct(0, ")") {
                return Err(self.fault(
                    self.peek().span.start,
                    "trailing commas not allowed in function call args",
                ));
            }
        }
    }

    fn aggregate(&mut self, op: &'static str) -> Parsed<Expr> {
        let start = self.take().span.start;
        let mut grouping = self.grouping()?;
        if !self.is_punct(0, "(") {
            return Err(self.unexpected("aggregation", ""));
        }
        let args = self.arguments("aggregation")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        Ok(Expr {
            kind: Kind::Aggregate(Box::new(Aggregate {
                op,
                args,
                grouping: grouping.unwrap_or(Grouping::By(Vec::new())),
            })),
            span: self.since(start),
        })
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        if self.accept_word("by") {
            return Ok(Some(Grouping::By(self.label_names()?)));
        }
        if self.accept_word("without") {
            return Ok(Some(Grouping::Without(self.label_names()?)));
        }
        Ok(None)
    }

    fn label_names(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        self.expect("(", CONTEXT)?;
        let mut names = Vec::new();
        loop {
            if self.accept(")") {
                return Ok(names);
            }
            let token = self.peek();
            let name = match &token.tok {
                Tok::Name => token.text.to_owned(),
                Tok::Number(_) if token.text.starts_with(|c: char| c.is_ascii_alphabetic()) => token.text.to_owned(),
                Tok::Text(bytes) => match String::from_utf8(bytes.clone()) {
                    Ok(name) if !name.is_empty() => name,
                    _ => {
                        let what = format!("invalid label name {}", go_quoted(bytes));
                        return Err(self.fault(token.span.start, what));
                    }
                },
                _ => return Err(self.unexpected(CONTEXT, "label")),
            };
            self.take();
            names.push(name);
            if !self.is_punct(0, ")") && !self.accept(",") {
                return Err(self.unexpected(CONTEXT, r#""," or ")""#));
            }
        }
    }

    fn selector_by_name(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let lower = token.text.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) {
            return Err(self.unexpected("", ""));
        }
        let Token { text, span, .. } = self.take();
        if self.is_punct(0, "{") {
            let mut expr = self.selector(Some(text))?;
            expr.span.start = span.start;
            return Ok(expr);
        }
        let selector = Selector {
            name: Some(text.into()),
            edges: Edges::Plain,
            matchers: Arc::from([Matcher::equal(METRIC_NAME, text)]),
            shift: Shift::default(),
        };
        Ok(Expr {
            kind: Kind::Selector(selector),
            span,
        })
    }

    /// `{...}`, after the metric's name if there is one.
    fn selector(&mut self, name: Option<&str>) -> Parsed<Expr> {
        const CONTEXT: &str = "label matching";
        let start = self.take().span.start;
        let mut name = name.map(str::to_owned);
        let mut matchers = Vec::new();
        loop {
            if self.accept("}") {
                break;
            }
            let token = self.peek().clone();
            match &token.tok {
                Tok::Name => {
                    self.take();
                    matchers.push(self.matcher(token.text.to_owned(), token.span.start)?);
                }
                Tok::Text(bytes) => {
                    self.take();
                    let text = String::from_utf8(bytes.clone()).map_err(|_| {
                        self.fault(token.span.start, format!("invalid UTF-8 in name {}", go_quoted(bytes)))
                    })?;
                    if matches!(self.peek().tok, Tok::Op(_)) || self.is_punct(0, "=") {
                        matchers.push(self.matcher(text, token.span.start)?);
                    } else if let Some(first) = name.replace(text.clone()) {
                        let what = format!("metric name must not be set twice: {first:?} or {text:?}");
                        return Err(self.fault(start, what));
                    }
                }
                _ => return Err(self.unexpected(CONTEXT, r#"identifier or "}""#)),
            }
            if !self.is_punct(0, "}") && !self.accept(",") {
                return Err(self.unexpected(CONTEXT, r#""," or "}""#));
            }
        }
        let mut printed = None;
        if let Some(name) = name {
            let twice = matchers
                .iter()
                .find(|m: &&Matcher| m.name() == METRIC_NAME && m.op() == MatchOp::Equal);
            if let Some(twice) = twice {
                let what = format!("metric name must not be set twice: {name:?} or {:?}", twice.value());
                return Err(self.fault(start, what));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
            printed = Some(name.into());
        }
        let selector = Selector {
            name: printed,
            edges: Edges::Plain,
            matchers: matchers.into(),
            shift: Shift::default(),
        };
        Ok(Expr {
            kind: Kind::Selector(selector),
            span: self.since(start),
        })
    }

    fn matcher(&mut self, label: String, at: usize) -> Parsed<Matcher> {
        const CONTEXT: &str = "label matching";
        let op = match self.peek().tok {
            Tok::Punct("=") => MatchOp::Equal,
            Tok::Op("!=") => MatchOp::NotEqual,
            Tok::Op("=~") => MatchOp::Regex,
            Tok::Op("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
        };
        self.take();
        let Tok::Text(bytes) = self.peek().tok.clone() else {
            return Err(self.unexpected(CONTEXT, "string"));
        };
        self.take();
        // Labels are UTF-8, so other bytes can only be compared as something that no label is.
        let value = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Matcher::new(label, op, value.clone()).map_err(|e| {
            let reason = e
                .message
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            self.fault(at, format!("error parsing regexp: {reason}: `{value}`"))
        })
    }
}

/// How strongly `^` binds; unary minus binds less.
const POWER: u8 = 7;
/// Words that name no metric and no function.
const RESERVED: [&str; 6] = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];

/// Bytes as Go quotes them.
pub(crate) fn go_quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out.push('"');
    out
}
