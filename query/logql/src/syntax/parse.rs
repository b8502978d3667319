//! Tokens to syntax tree, by recursive descent with operator precedence.
//!
//! Error texts follow those of Loki's generated parser: `syntax error: unexpected X, expecting A or B`, the latter only
//! where at most four tokens could stand. Nesting is bounded by [`DEPTH_MAX`], so that no query exhausts the stack.

use model::{MatchOp, Matcher};
use query_exec::{BinaryOp, Cardinality, Grouping, LOGQL, Matching, apply};

use super::lex::{Tok, Token, tokens};
use super::tree::*;
use crate::ParseError;
use crate::regexp::Regexes;
use crate::units;

/// Most levels of parentheses and calls.
const DEPTH_MAX: usize = 100;
/// Most binary operators; a chain of them is as deep as it is long.
const OPERATORS_MAX: usize = 500;

/// Parses a query. Its expressions are compiled with `regexes`.
pub(crate) fn parse(text: &str, regexes: &Regexes) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, regexes)?;
    let expr = parser.expr(0)?;
    parser.end()?;
    match &expr {
        Expr::Log(log) => check_selector(&log.matchers)?,
        Expr::Metric(metric) => {
            let mut result = Ok(());
            metric.for_each_range(&mut |range| {
                if result.is_ok() {
                    result = check_selector(&range.log.matchers);
                }
            });
            result?;
        }
    }
    Ok(expr)
}

/// Parses a stream selector and nothing else.
pub(crate) fn parse_selector(text: &str, regexes: &Regexes) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text, regexes)?;
    let matchers = parser.selector()?;
    parser.end()?;
    Ok(matchers)
}

/// A fault without a place.
pub(crate) fn rule(message: impl std::fmt::Display) -> ParseError {
    ParseError {
        message: format!("parse error : {message}"),
        line: 0,
        col: 0,
    }
}

fn check_selector(matchers: &[Matcher]) -> Result<(), ParseError> {
    if matchers.iter().all(Matcher::matches_empty) {
        return Err(rule(
            "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For \
             instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
        ));
    }
    Ok(())
}

struct Parser<'r> {
    tokens: Vec<Token>,
    regexes: &'r Regexes,
    at: usize,
    depth: usize,
    operators: usize,
}

type Parsed<T> = Result<T, ParseError>;

/// A log expression inside a range aggregation, with what may already have followed it.
struct LogRange {
    log: LogExpr,
    unwrap: Option<Unwrap>,
    range: Option<(i64, i64)>,
}

impl<'r> Parser<'r> {
    fn new(text: &str, regexes: &'r Regexes) -> Parsed<Parser<'r>> {
        Ok(Parser {
            tokens: tokens(text)?,
            regexes,
            at: 0,
            depth: 0,
            operators: 0,
        })
    }

    // --- tokens ---

    fn peek(&self) -> &Tok {
        &self.tokens[self.at].tok
    }

    fn peek_second(&self) -> &Tok {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].tok
    }

    fn advance(&mut self) -> Tok {
        let tok = self.tokens[self.at].tok.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        tok
    }

    fn is(&self, word: &str) -> bool {
        matches!(self.peek(), Tok::Word(w) if *w == word)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.advance();
        }
        found
    }

    fn want(&mut self, word: &str) -> Parsed<()> {
        self.want_or(word, &[word])
    }

    fn want_or(&mut self, word: &str, expecting: &[&str]) -> Parsed<()> {
        if self.take(word) {
            Ok(())
        } else {
            Err(self.unexpected(expecting))
        }
    }

    fn string(&mut self) -> Parsed<String> {
        match self.peek() {
            Tok::Str(_) => match self.advance() {
                Tok::Str(s) => Ok(s),
                _ => Err(self.unexpected(&["STRING"])),
            },
            _ => Err(self.unexpected(&["STRING"])),
        }
    }

    fn name(&mut self) -> Parsed<String> {
        match self.peek() {
            Tok::Ident(_) => match self.advance() {
                Tok::Ident(s) => Ok(s),
                _ => Err(self.unexpected(&["IDENTIFIER"])),
            },
            _ => Err(self.unexpected(&["IDENTIFIER"])),
        }
    }

    fn end(&mut self) -> Parsed<()> {
        match self.peek() {
            Tok::End => Ok(()),
            _ => Err(self.unexpected(&[])),
        }
    }

    /// The error at the token that comes next. A lexical fault speaks for itself.
    fn unexpected(&self, expecting: &[&str]) -> ParseError {
        let token = &self.tokens[self.at];
        let what = match &token.tok {
            Tok::End => "$end".to_owned(),
            Tok::Ident(_) => "IDENTIFIER".into(),
            Tok::Str(_) => "STRING".into(),
            Tok::Number(_) => "NUMBER".into(),
            Tok::Duration(_) => "DURATION".into(),
            Tok::Bytes(_) => "BYTES".into(),
            Tok::Range(_) => "RANGE".into(),
            Tok::Flag(_) => "FUNCTION_FLAG".into(),
            Tok::Function(name @ ("bytes" | "duration" | "duration_seconds")) => {
                format!("{}_CONV", name.to_uppercase())
            }
            Tok::Function(name) => name.to_uppercase(),
            Tok::Word(word) => (*word).into(),
            Tok::Bad(message) => return self.at_token(token, message),
        };
        let mut message = format!("syntax error: unexpected {what}");
        for (i, expected) in expecting.iter().enumerate() {
            message.push_str(if i == 0 { ", expecting " } else { " or " });
            message.push_str(expected);
        }
        self.at_token(token, &message)
    }

    fn at_token(&self, token: &Token, message: &str) -> ParseError {
        let (line, col) = (token.line, token.col);
        ParseError {
            message: format!("parse error at line {line}, col {col}: {message}"),
            line,
            col,
        }
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Parser<'r>) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return Err(rule(format_args!("the query nests deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    // --- expressions ---

    /// Binary operators that bind at least as tight as `min`.
    fn expr(&mut self, min: u8) -> Parsed<Expr> {
        let mut left = self.nested(Parser::operand)?;
        while let Tok::Word(word) = *self.peek() {
            let Some((op, level)) = operator(word) else { break };
            if level < min {
                break;
            }
            self.advance();
            self.operators += 1;
            if self.operators > OPERATORS_MAX {
                return Err(rule(format_args!(
                    "the query has more than {OPERATORS_MAX} binary operators"
                )));
            }
            let (return_bool, matching) = self.modifiers()?;
            let next = if op == BinaryOp::Pow { level } else { level + 1 };
            let right = self.nested(|p| p.expr(next))?;
            left = Expr::Metric(binary(op, return_bool, matching, left, right)?);
        }
        Ok(left)
    }

    fn operand(&mut self) -> Parsed<Expr> {
        match self.peek() {
            Tok::Word("(") => {
                self.advance();
                let inner = self.expr(0)?;
                self.want_or(")", &[])?;
                Ok(inner)
            }
            Tok::Word("{") => {
                let matchers = self.selector()?;
                let mut log = LogExpr {
                    matchers,
                    stages: Vec::new(),
                };
                self.stages(&mut log, None)?;
                Ok(Expr::Log(log))
            }
            Tok::Word("+" | "-") | Tok::Number(_) => {
                let sign = if self.take("-") {
                    -1.0
                } else {
                    self.take("+");
                    1.0
                };
                match self.peek() {
                    Tok::Number(_) => Ok(Expr::Metric(MetricExpr::Literal(sign * self.number()?))),
                    _ => Err(self.unexpected(&["NUMBER"])),
                }
            }
            Tok::Function("vector") => {
                self.advance();
                self.want("(")?;
                if !matches!(self.peek(), Tok::Number(_)) {
                    return Err(self.unexpected(&["NUMBER"]));
                }
                let value = self.number()?;
                self.want(")")?;
                Ok(Expr::Metric(MetricExpr::VectorOf(value)))
            }
            Tok::Function("label_replace") => {
                self.advance();
                self.label_replace()
            }
            Tok::Function(name) => {
                let name = *name;
                if let Some(op) = RangeOp::from_str(name) {
                    self.advance();
                    self.range_aggregation(op)
                } else if let Some(op) = VectorOp::from_str(name) {
                    self.advance();
                    self.vector_aggregation(op)
                } else {
                    Err(self.unexpected(&[]))
                }
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    /// An expression that must be a metric: after a log expression something is missing.
    fn metric(&mut self) -> Parsed<MetricExpr> {
        match self.expr(0)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(_) => Err(self.unexpected(&[])),
        }
    }

    fn number(&mut self) -> Parsed<f64> {
        match self.advance() {
            Tok::Number(text) => number(&text),
            _ => Err(self.unexpected(&["NUMBER"])),
        }
    }

    fn modifiers(&mut self) -> Parsed<(bool, Option<Matching>)> {
        let return_bool = self.take("bool");
        let on = self.is("on");
        if !on && !self.is("ignoring") {
            return Ok((return_bool, None));
        }
        self.advance();
        let mut matching = Matching {
            on,
            labels: self.names()?,
            ..Matching::default()
        };
        let left = self.is("group_left");
        if left || self.is("group_right") {
            self.advance();
            matching.cardinality = if left {
                Cardinality::ManyToOne
            } else {
                Cardinality::OneToMany
            };
            // `group_left (a + b)` has an operand in parentheses, not a list of labels.
            if self.is("(") && self.is_name_list() {
                matching.include = self.names()?;
            }
        }
        Ok((return_bool, Some(matching)))
    }

    /// Whether the parentheses that open here hold nothing but names.
    fn is_name_list(&self) -> bool {
        for token in &self.tokens[self.at + 1..] {
            match &token.tok {
                Tok::Ident(_) | Tok::Word(",") => {}
                Tok::Word(")") => return true,
                _ => return false,
            }
        }
        false
    }

    /// `(a, b)`, possibly empty.
    fn names(&mut self) -> Parsed<Vec<String>> {
        self.want("(")?;
        let mut names = Vec::new();
        if self.take(")") {
            return Ok(names);
        }
        loop {
            if names.is_empty() && !matches!(self.peek(), Tok::Ident(_)) {
                return Err(self.unexpected(&["IDENTIFIER", ")"]));
            }
            names.push(self.name()?);
            if self.take(")") {
                return Ok(names);
            }
            self.want_or(",", &[",", ")"])?;
        }
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        if self.take("by") {
            Ok(Some(Grouping::By(self.names()?)))
        } else if self.take("without") {
            Ok(Some(Grouping::Without(self.names()?)))
        } else {
            Ok(None)
        }
    }

    fn label_replace(&mut self) -> Parsed<Expr> {
        self.want("(")?;
        let inner = self.nested(Parser::metric)?;
        let mut texts = Vec::with_capacity(4);
        for i in 0..4 {
            self.want_or(",", if i == 0 { &[] } else { &[","] })?;
            texts.push(self.string()?);
        }
        self.want(")")?;
        let [dst, replacement, src, regex] = <[String; 4]>::try_from(texts).unwrap_or_default();
        // Its fault is told as it is compiled, with anchors.
        let regex = self.regexes.whole_groups(&regex).map_err(|e| {
            let anchored = e.replace(&format!("`{regex}`"), &format!("`^(?:{regex})$`"));
            rule(format_args!("invalid regex in label_replace: {anchored}"))
        })?;
        Ok(Expr::Metric(MetricExpr::LabelReplace(Box::new(LabelReplace {
            inner,
            dst,
            replacement,
            src,
            regex,
        }))))
    }

    fn vector_aggregation(&mut self, op: VectorOp) -> Parsed<Expr> {
        let mut grouping = self.grouping()?;
        self.want("(")?;
        let mut parameter = None;
        if matches!(self.peek(), Tok::Number(_)) && matches!(self.peek_second(), Tok::Word(",")) {
            if let Tok::Number(text) = self.advance() {
                parameter = Some(text);
            }
            self.want(",")?;
        }
        let inner = self.nested(Parser::metric)?;
        self.want_or(")", &[])?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let name = op.as_str();
        let parameter = match (op, parameter) {
            (VectorOp::TopK | VectorOp::BottomK | VectorOp::ApproxTopK, Some(text)) => match text.parse::<u32>() {
                Ok(0) => {
                    return Err(rule(format_args!(
                        "invalid parameter (must be greater than 0) {name}({text}"
                    )));
                }
                Ok(k) => Some(k),
                Err(_) => return Err(rule(format_args!("invalid parameter {name}({text},"))),
            },
            (VectorOp::TopK | VectorOp::BottomK | VectorOp::ApproxTopK, None) => {
                return Err(rule(format_args!("parameter required for operation {name}")));
            }
            (_, Some(text)) => {
                return Err(rule(format_args!("unsupported parameter for operation {name}({text},")));
            }
            (_, None) => None,
        };
        if grouping.is_some() {
            match op {
                VectorOp::Sort | VectorOp::SortDesc => {
                    return Err(rule("sort and sort_desc doesn't allow grouping by "));
                }
                VectorOp::ApproxTopK => return Err(rule("grouping not allowed for approx_topk aggregation")),
                _ => {}
            }
        }
        Ok(Expr::Metric(MetricExpr::Vector(VectorAggregation {
            op,
            parameter,
            inner: Box::new(inner),
            grouping,
        })))
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Parsed<Expr> {
        self.want("(")?;
        let mut parameter = None;
        match self.peek() {
            Tok::Number(_) => {
                if let Tok::Number(text) = self.advance() {
                    parameter = Some(text);
                }
                self.want(",")?;
                if !self.is("{") && !self.is("(") {
                    return Err(self.unexpected(&["{", "("]));
                }
            }
            Tok::Word("{" | "(") => {}
            _ => return Err(self.unexpected(&["NUMBER", "{", "("])),
        }
        let inner = self.log_range()?;
        let Some((range_ns, offset_ns)) = inner.range else {
            return Err(self.unexpected(if inner.unwrap.is_some() { &["RANGE", "|"] } else { &[] }));
        };
        self.want(")")?;
        let grouping = self.grouping()?;
        let name = op.as_str();
        let parameter = match (op, parameter) {
            (RangeOp::Quantile, Some(text)) => Some(number(&text)?),
            (RangeOp::Quantile, None) => {
                return Err(rule(format_args!("parameter required for operation {name}")));
            }
            (_, Some(text)) => {
                return Err(rule(format_args!(
                    "parameter {text} not supported for operation {name}"
                )));
            }
            (_, None) => None,
        };
        use RangeOp::*;
        let groups = matches!(op, Avg | Stddev | Stdvar | Quantile | Max | Min | First | Last);
        if grouping.is_some() && !groups {
            return Err(rule(format_args!("grouping not allowed for {name} aggregation")));
        }
        match inner.unwrap {
            Some(_) if matches!(op, Count | Bytes | BytesRate) => {
                return Err(rule(format_args!("invalid aggregation {name} with unwrap")));
            }
            None if !matches!(op, Count | Bytes | BytesRate | Rate | Absent) => {
                return Err(rule(format_args!("invalid aggregation {name} without unwrap")));
            }
            _ => {}
        }
        Ok(Expr::Metric(MetricExpr::Range(RangeAggregation {
            op,
            parameter,
            log: inner.log,
            unwrap: inner.unwrap,
            range_ns,
            offset_ns,
            grouping,
        })))
    }

    fn log_range(&mut self) -> Parsed<LogRange> {
        if self.take("(") {
            let mut inner = self.nested(Parser::log_range)?;
            self.want(")")?;
            if inner.range.is_none() {
                inner.range = self.range()?;
            }
            return Ok(inner);
        }
        if !self.is("{") {
            return Err(self.unexpected(&["{", "("]));
        }
        let mut out = LogRange {
            log: LogExpr {
                matchers: self.selector()?,
                stages: Vec::new(),
            },
            unwrap: None,
            range: self.range()?,
        };
        self.stages(&mut out.log, Some(&mut out.unwrap))?;
        if out.range.is_none() {
            out.range = self.range()?;
        }
        Ok(out)
    }

    /// `[5m] offset 1h`, if it stands here.
    fn range(&mut self) -> Parsed<Option<(i64, i64)>> {
        let Tok::Range(range) = *self.peek() else {
            return Ok(None);
        };
        self.advance();
        if !self.take("offset") {
            return Ok(Some((range, 0)));
        }
        match *self.peek() {
            Tok::Duration(offset) => {
                self.advance();
                Ok(Some((range, offset)))
            }
            _ => Err(self.unexpected(&["DURATION"])),
        }
    }

    // --- selectors and stages ---

    fn selector(&mut self) -> Parsed<Vec<Matcher>> {
        self.want("{")?;
        let mut matchers = Vec::new();
        if self.take("}") {
            return Ok(matchers);
        }
        loop {
            if !matches!(self.peek(), Tok::Ident(_)) {
                let expecting: &[&str] = if matchers.is_empty() {
                    &["IDENTIFIER", "}"]
                } else {
                    &["IDENTIFIER"]
                };
                return Err(self.unexpected(expecting));
            }
            let name = self.name()?;
            matchers.push(self.matcher(name)?);
            if self.take("}") {
                return Ok(matchers);
            }
            self.want_or(",", &["}", ","])?;
        }
    }

    /// `= "value"` after a name.
    fn matcher(&mut self, name: String) -> Parsed<Matcher> {
        let op = match self.peek() {
            Tok::Word("=") => MatchOp::Equal,
            Tok::Word("!=") => MatchOp::NotEqual,
            Tok::Word("=~") => MatchOp::Regex,
            Tok::Word("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected(&["=", "=~", "!~", "!="])),
        };
        self.advance();
        let value = self.string()?;
        self.made_matcher(name, op, value)
    }

    fn made_matcher(&self, name: String, op: MatchOp, value: String) -> Parsed<Matcher> {
        self.regexes.matcher(name, op, value).map_err(rule)
    }

    fn stages(&mut self, log: &mut LogExpr, mut unwrap: Option<&mut Option<Unwrap>>) -> Parsed<()> {
        loop {
            let unwrapped = unwrap.as_deref().is_some_and(Option::is_some);
            match *self.peek() {
                Tok::Word(word) if !unwrapped && line_op(word).is_some() => {
                    let op = line_op(word).unwrap_or(LineOp::Contains);
                    self.advance();
                    self.line_filter(op, &mut log.stages)?;
                }
                Tok::Word("|") => {
                    self.advance();
                    if self.is("unwrap")
                        && !unwrapped
                        && let Some(slot) = unwrap.as_deref_mut()
                    {
                        self.advance();
                        *slot = Some(self.unwrap()?);
                    } else if unwrapped {
                        let filter = self.label_filters()?;
                        if let Some(Some(u)) = unwrap.as_deref_mut() {
                            u.filters.push(filter);
                        }
                    } else {
                        let stage = self.stage()?;
                        log.stages.push(stage);
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn unwrap(&mut self) -> Parsed<Unwrap> {
        let conversion = match self.peek() {
            Tok::Function("bytes") => Conversion::Bytes,
            Tok::Function("duration") => Conversion::Duration,
            Tok::Function("duration_seconds") => Conversion::DurationSeconds,
            _ => Conversion::Float,
        };
        let label = if conversion == Conversion::Float {
            if !matches!(self.peek(), Tok::Ident(_)) {
                return Err(self.unexpected(&["IDENTIFIER", "BYTES_CONV", "DURATION_CONV", "DURATION_SECONDS_CONV"]));
            }
            self.name()?
        } else {
            self.advance();
            self.want("(")?;
            let label = self.name()?;
            self.want(")")?;
            label
        };
        Ok(Unwrap {
            label,
            conversion,
            filters: Vec::new(),
        })
    }

    fn line_filter(&mut self, op: LineOp, stages: &mut Vec<Stage>) -> Parsed<()> {
        let mut values = vec![self.line_value()?];
        while self.take("or") {
            values.push(self.line_value()?);
        }
        if op.is_negative() {
            for value in values {
                stages.push(Stage::LineFilter(LineFilter {
                    op,
                    values: vec![value],
                }));
            }
        } else {
            stages.push(Stage::LineFilter(LineFilter { op, values }));
        }
        Ok(())
    }

    fn line_value(&mut self) -> Parsed<LineValue> {
        if self.take("ip") {
            self.want("(")?;
            let pattern = self.string()?;
            self.want(")")?;
            return Ok(LineValue::Ip(pattern));
        }
        match self.peek() {
            Tok::Str(_) => Ok(LineValue::Text(self.string()?)),
            _ => Err(self.unexpected(&["STRING", "ip"])),
        }
    }

    /// A stage after its `|`.
    fn stage(&mut self) -> Parsed<Stage> {
        let word = match self.peek() {
            Tok::Word(word) => *word,
            Tok::Ident(_) => return Ok(Stage::LabelFilter(self.label_filters()?)),
            _ => return Err(self.unexpected(&[])),
        };
        match word {
            "(" => Ok(Stage::LabelFilter(self.label_filters()?)),
            "json" => {
                self.advance();
                Ok(Stage::Json(self.extractions()?))
            }
            "logfmt" => {
                self.advance();
                let (mut strict, mut keep_empty) = (false, false);
                while let Tok::Flag(flag) = self.peek() {
                    match flag.as_str() {
                        "--strict" => strict = true,
                        _ => keep_empty = true,
                    }
                    self.advance();
                }
                Ok(Stage::Logfmt {
                    strict,
                    keep_empty,
                    extractions: self.extractions()?,
                })
            }
            "regexp" => {
                self.advance();
                Ok(Stage::Regexp(self.string()?))
            }
            "pattern" => {
                self.advance();
                Ok(Stage::Pattern(self.string()?))
            }
            "unpack" => {
                self.advance();
                Ok(Stage::Unpack)
            }
            "line_format" => {
                self.advance();
                Ok(Stage::LineFormat(self.string()?))
            }
            "label_format" => {
                self.advance();
                Ok(Stage::LabelFormat(self.label_formats()?))
            }
            "decolorize" => {
                self.advance();
                Ok(Stage::Decolorize)
            }
            "drop" => {
                self.advance();
                Ok(Stage::Drop(self.picks()?))
            }
            "keep" => {
                self.advance();
                Ok(Stage::Keep(self.picks()?))
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    fn extractions(&mut self) -> Parsed<Vec<Extraction>> {
        let mut out = Vec::new();
        if !self.is_extraction() {
            return Ok(out);
        }
        loop {
            let name = match *self.peek() {
                Tok::Word(keyword) if self.is_extraction() => {
                    self.advance();
                    keyword.to_owned()
                }
                _ => self.name()?,
            };
            let path = if self.take("=") { self.string()? } else { name.clone() };
            out.push(Extraction { name, path });
            if !self.take(",") {
                return Ok(out);
            }
        }
    }

    /// Whether an extraction begins here; a keyword is a name if `=` follows.
    fn is_extraction(&self) -> bool {
        match self.peek() {
            Tok::Ident(_) => true,
            Tok::Word(word) => {
                word.starts_with(|c: char| c.is_ascii_alphabetic()) && matches!(self.peek_second(), Tok::Word("="))
            }
            _ => false,
        }
    }

    fn label_formats(&mut self) -> Parsed<Vec<LabelFormat>> {
        let mut out: Vec<LabelFormat> = Vec::new();
        loop {
            let name = self.name()?;
            self.want("=")?;
            let from = match self.peek() {
                Tok::Ident(_) => FormatFrom::Label(self.name()?),
                Tok::Str(_) => FormatFrom::Template(self.string()?),
                _ => return Err(self.unexpected(&["IDENTIFIER", "STRING"])),
            };
            out.push(LabelFormat { name, from });
            if !self.take(",") {
                return Ok(out);
            }
        }
    }

    fn picks(&mut self) -> Parsed<Vec<Pick>> {
        let mut out = Vec::new();
        loop {
            let name = self.name()?;
            out.push(match self.peek() {
                Tok::Word("=" | "!=" | "=~" | "!~") => Pick::Matching(self.matcher(name)?),
                _ => Pick::Name(name),
            });
            if !self.take(",") {
                return Ok(out);
            }
        }
    }

    /// Filters joined by `and`, `or`, a comma or nothing. A comma (or nothing) takes the filter before it and all that
    /// follows it in the stage.
    fn label_filters(&mut self) -> Parsed<LabelFilter> {
        struct Segment {
            any: Vec<LabelFilter>,
            all: Vec<LabelFilter>,
        }
        let mut segments = vec![Segment {
            any: Vec::new(),
            all: vec![self.label_filter()?],
        }];
        loop {
            let comma = self.is(",");
            if comma || self.is("and") || self.is("or") {
                let word = self.advance();
                let filter = self.label_filter()?;
                if let Some(segment) = segments.last_mut() {
                    match word {
                        Tok::Word("and") => segment.all.push(filter),
                        Tok::Word("or") => {
                            let all = std::mem::replace(&mut segment.all, vec![filter]);
                            segment.any.push(and(all));
                        }
                        _ => segments.push(Segment {
                            any: Vec::new(),
                            all: vec![filter],
                        }),
                    }
                }
            } else if matches!(self.peek(), Tok::Ident(_) | Tok::Word("(")) {
                let filter = self.label_filter()?;
                segments.push(Segment {
                    any: Vec::new(),
                    all: vec![filter],
                });
            } else {
                break;
            }
        }
        let mut rest: Option<LabelFilter> = None;
        for mut segment in segments.into_iter().rev() {
            if let Some(rest) = rest.take() {
                // What follows a comma is one with the filter before it, not with those before that.
                let last = segment.all.pop();
                segment.all.push(and(last.into_iter().chain([rest]).collect()));
            }
            segment.any.push(and(segment.all));
            rest = Some(or(segment.any));
        }
        Ok(rest.unwrap_or(LabelFilter::And(Vec::new())))
    }

    fn label_filter(&mut self) -> Parsed<LabelFilter> {
        if self.take("(") {
            let inner = self.nested(Parser::label_filters)?;
            self.want_or(")", &[])?;
            return Ok(inner);
        }
        let name = match self.peek() {
            Tok::Ident(_) => self.name()?,
            _ => return Err(self.unexpected(&["IDENTIFIER", "("])),
        };
        let Tok::Word(op) = *self.peek() else {
            return Err(self.unexpected(&[]));
        };
        let compare = match op {
            "=" | "==" => Compare::Equal,
            "!=" => Compare::NotEqual,
            ">" => Compare::Greater,
            ">=" => Compare::GreaterOrEqual,
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            "=~" | "!~" => return Ok(LabelFilter::Text(self.matcher(name)?)),
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        let filter = match *self.peek() {
            Tok::Str(_) if matches!(op, "=" | "!=") => {
                let value = self.string()?;
                let op = if op == "=" { MatchOp::Equal } else { MatchOp::NotEqual };
                return Ok(LabelFilter::Text(self.made_matcher(name, op, value)?));
            }
            Tok::Word("ip") if matches!(op, "=" | "!=") => {
                self.advance();
                self.want("(")?;
                let pattern = self.string()?;
                self.want(")")?;
                return Ok(LabelFilter::Ip {
                    name,
                    negated: op == "!=",
                    pattern,
                });
            }
            Tok::Duration(value) => LabelFilter::Duration {
                name,
                op: compare,
                value,
            },
            Tok::Bytes(value) => LabelFilter::Bytes {
                name,
                op: compare,
                value,
            },
            Tok::Number(_) => {
                return Ok(LabelFilter::Number {
                    name,
                    op: compare,
                    value: self.number()?,
                });
            }
            Tok::Word(sign @ ("-" | "+")) => {
                self.advance();
                if !matches!(self.peek(), Tok::Number(_)) {
                    return Err(self.unexpected(&["NUMBER"]));
                }
                let value = self.number()?;
                return Ok(LabelFilter::Number {
                    name,
                    op: compare,
                    value: if sign == "-" { -value } else { value },
                });
            }
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        Ok(filter)
    }
}

/// All of them; nested chains are one chain.
fn and(filters: Vec<LabelFilter>) -> LabelFilter {
    let mut flat = Vec::with_capacity(filters.len());
    for filter in filters {
        match filter {
            LabelFilter::And(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match flat.pop() {
        Some(only) if flat.is_empty() => only,
        Some(last) => {
            flat.push(last);
            LabelFilter::And(flat)
        }
        None => LabelFilter::And(flat),
    }
}

/// Any of them; nested chains are one chain.
fn or(filters: Vec<LabelFilter>) -> LabelFilter {
    let mut flat = Vec::with_capacity(filters.len());
    for filter in filters {
        match filter {
            LabelFilter::Or(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match flat.pop() {
        Some(only) if flat.is_empty() => only,
        Some(last) => {
            flat.push(last);
            LabelFilter::Or(flat)
        }
        None => LabelFilter::Or(flat),
    }
}

fn number(text: &str) -> Parsed<f64> {
    let read = match without_underscores(text) {
        Some(digits) => units::go_float(&digits).map_err(|e| e.replace(&digits, text)),
        None => units::go_float(text),
    };
    read.map_err(|e| rule(format_args!("unable to parse literal as a float: {e}")))
}

/// The number without the underscores that part its digits; `None` if there are none or they stand elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let parts = |(at, byte): (usize, &u8)| *byte != b'_' || at > 0 && is_digit(at - 1) && is_digit(at + 1);
    (text.contains('_') && bytes.iter().enumerate().all(parts)).then(|| text.replace('_', ""))
}

fn line_op(word: &str) -> Option<LineOp> {
    Some(match word {
        "|=" => LineOp::Contains,
        "!=" => LineOp::NotContains,
        "|~" => LineOp::Regex,
        "!~" => LineOp::NotRegex,
        "|>" => LineOp::Pattern,
        "!>" => LineOp::NotPattern,
        _ => return None,
    })
}

/// The operator and how tight it binds.
fn operator(word: &str) -> Option<(BinaryOp, u8)> {
    Some(match word {
        "or" => (BinaryOp::Or, 1),
        "and" => (BinaryOp::And, 2),
        "unless" => (BinaryOp::Unless, 2),
        "==" => (BinaryOp::Eq, 3),
        "!=" => (BinaryOp::Ne, 3),
        ">" => (BinaryOp::Gt, 3),
        ">=" => (BinaryOp::Ge, 3),
        "<" => (BinaryOp::Lt, 3),
        "<=" => (BinaryOp::Le, 3),
        "+" => (BinaryOp::Add, 4),
        "-" => (BinaryOp::Sub, 4),
        "*" => (BinaryOp::Mul, 5),
        "/" => (BinaryOp::Div, 5),
        "%" => (BinaryOp::Mod, 5),
        "^" => (BinaryOp::Pow, 6),
        _ => return None,
    })
}

/// Checks the operands; folds literals.
fn binary(op: BinaryOp, return_bool: bool, matching: Option<Matching>, left: Expr, right: Expr) -> Parsed<MetricExpr> {
    let name = binary_str(op);
    let metric = |expr: Expr, leg: &str| match expr {
        Expr::Metric(metric) => Ok(metric),
        log @ Expr::Log(_) => Err(rule(format_args!(
            "unexpected type for {leg} leg of binary operation ({name}): {}",
            log.go_type()
        ))),
    };
    let left = metric(left, "left")?;
    let right = metric(right, "right")?;
    if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) {
        for (leg, side) in [("left", &left), ("right", &right)] {
            if let MetricExpr::Literal(v) = side {
                return Err(rule(format_args!(
                    "unexpected literal for {leg} leg of logical/set binary operation ({name}): {v:.6}"
                )));
            }
        }
    }
    if let (MetricExpr::Literal(l), MetricExpr::Literal(r)) = (&left, &right) {
        return Ok(MetricExpr::Literal(apply(op, *l, *r, LOGQL)));
    }
    Ok(MetricExpr::Binary(Box::new(Binary {
        op,
        return_bool,
        matching,
        left,
        right,
    })))
}
