//! Tokens to syntax tree. One expression grammar reads everything outside braces (spansets, scalars, metrics share their
//! operators and parentheses); what an operator means, or that it means nothing, follows from what its sides turn out to be.

use model::{SpanKind, StatusCode};

use crate::ParseError;
use crate::lex::{self, Fault, Placed, Token};
use crate::refusal::refusal;
use crate::syntax::precedence::{COMPARE, LOGIC, NOT, POWER, PRODUCT, SUM};
use crate::syntax::{
    Aggregate, ArithmeticOp, BinaryOp, Body, CompareOp, Expr, Field, Function, Kept, Literal, Metrics, Operand,
    OverTime, Pipeline, Rank, Relation, Scalar, SpansetOp, Spansets, Stage, Tree,
};

/// The longest text of a query, in bytes.
const TEXT_BYTES_MAX: usize = 131_072;

/// Parentheses, signs and the like within one another.
const NESTING_MAX: usize = 100;

/// Operators of a query.
const OPERATORS_MAX: usize = 1_000;

/// Patterns of a query. Each is bounded in memory, and so are all.
const PATTERNS_MAX: usize = 64;

/// Operators of a query that take stack when it runs, one frame each: all but the `&&` and `||` of field expressions, whose
/// chains are laid flat, and lone comparisons.
const STACKED_MAX: usize = 200;

/// Parses a whole query; what it means is not checked. The grammar here is a little wider than Tempo's, which has the last
/// word.
pub(crate) fn parse(text: &str) -> Result<Tree, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return read(text);
    }
    match refusal(text) {
        Some(message) => Err(ParseError { message }),
        None => read(text),
    }
}

/// Parses a whole query, also one that only Tempo would refuse.
pub(crate) fn read(text: &str) -> Result<Tree, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ParseError {
            message: format!("query of {} bytes exceeds the maximum of {TEXT_BYTES_MAX}", text.len()),
        });
    }
    tree(text).map_err(|fault| placed(text, &fault))
}

/// Parses what must be a single attribute or intrinsic.
pub(crate) fn field(text: &str) -> Result<Field, ParseError> {
    let tokens = lex::tokens(text).map_err(|fault| placed(text, &fault))?;
    match &tokens[..] {
        [
            Placed {
                token: Token::Field(field),
                ..
            },
            Placed { token: Token::End, .. },
        ] => Ok(field.clone()),
        _ => Err(ParseError {
            message: format!(
                "not an attribute or intrinsic: {:?}",
                text.chars().take(100).collect::<String>()
            ),
        }),
    }
}

fn placed(text: &str, fault: &Fault) -> ParseError {
    let before = text.get(..fault.at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    ParseError {
        message: format!("parse error at line {line}, col {column}: {}", fault.what),
    }
}

fn tree(text: &str) -> Result<Tree, Fault> {
    tree_of(&lex::tokens(text)?)
}

/// The tree of tokens that end with [`Token::End`].
pub(crate) fn tree_of(tokens: &[Placed]) -> Result<Tree, Fault> {
    let mut parser = Parser {
        tokens,
        at: 0,
        nesting: 0,
        operators: 0,
        stacked: 0,
    };
    let is_pattern = |p: &Placed| matches!(p.token, Token::Sign("=~" | "!~"));
    if tokens.iter().filter(|p| is_pattern(p)).count() > PATTERNS_MAX {
        return Err(parser.too_deep("too many regular expressions", PATTERNS_MAX));
    }
    let body = match parser.piped()? {
        Loose::Spansets(spansets) => Body::Spansets(Pipeline {
            stages: vec![Stage::Spansets(spansets)],
        }),
        Loose::Pipeline(pipeline) => Body::Spansets(pipeline),
        Loose::Metrics(metrics) => Body::Metrics(metrics),
        Loose::PipedFilter(op, left, right) => Body::Spansets(Pipeline {
            stages: vec![Stage::ScalarFilter(op, left, right)],
        }),
        Loose::Scalar(_) | Loose::Filter(..) => return Err(parser.unexpected()),
    };
    let mut hints = Vec::new();
    while parser.take_word("with") {
        parser.hints(&mut hints)?;
    }
    if parser.peek() != &Token::End {
        return Err(parser.unexpected());
    }
    Ok(Tree { body, hints })
}

/// What an expression outside braces may turn out to be.
enum Loose {
    Spansets(Spansets),
    Pipeline(Pipeline),
    Scalar(Scalar),
    Filter(CompareOp, Scalar, Scalar),
    /// A comparison of pipelines: a whole query, and never part of one.
    PipedFilter(CompareOp, Scalar, Scalar),
    Metrics(Metrics),
}

struct Parser<'a> {
    tokens: &'a [Placed],
    at: usize,
    nesting: usize,
    operators: usize,
    stacked: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |placed| &placed.token)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = self.peek().is(sign);
        self.at += usize::from(is);
        is
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = self.peek().is_word(word);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn unexpected(&self) -> Fault {
        self.unexpected_at(self.at)
    }

    fn unexpected_at(&self, at: usize) -> Fault {
        let last = self.tokens.last().map_or(0, |placed| placed.at);
        let (token, at) = self.tokens.get(at).map_or((&Token::End, last), |p| (&p.token, p.at));
        Fault {
            at,
            what: format!("syntax error: unexpected {token}"),
        }
    }

    fn too_deep(&self, what: &str, max: usize) -> Fault {
        let mut fault = self.unexpected();
        fault.what = format!("{what}: at most {max} are supported");
        fault
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(self.too_deep("expression nested too deep", NESTING_MAX));
        }
        Ok(())
    }

    fn count_operator(&mut self, stacks: bool) -> Result<(), Fault> {
        self.operators += 1;
        self.stacked += usize::from(stacks);
        if self.stacked > STACKED_MAX {
            return Err(self.too_deep("too many operators upon one another", STACKED_MAX));
        }
        if self.operators > OPERATORS_MAX {
            return Err(self.too_deep("too many operators", OPERATORS_MAX));
        }
        Ok(())
    }

    /// `stage | stage | ...`, up to a closing parenthesis or the end.
    fn piped(&mut self) -> Result<Loose, Fault> {
        let mut stages: Vec<Stage> = Vec::new();
        let mut metrics: Option<Metrics> = None;
        loop {
            let at = self.at;
            if let Some(so_far) = metrics.take() {
                self.count_operator(true)?;
                let rank = self.rank()?.ok_or_else(|| self.unexpected())?;
                metrics = Some(self.filters(rank(so_far))?);
            } else if let Some(stage) = self.named_stage()? {
                if stages.is_empty() && stage == Stage::Coalesce {
                    return Err(self.unexpected_at(at));
                }
                stages.push(stage);
            } else if let Some(function) = self.function()? {
                if stages.is_empty() {
                    return Err(self.unexpected_at(at));
                }
                let groups = !matches!(function, Function::Compare { .. });
                let by = if groups && self.take_word("by") {
                    self.fields()?
                } else {
                    Vec::new()
                };
                let pipeline = Pipeline {
                    stages: std::mem::take(&mut stages),
                };
                metrics = Some(self.filters(Metrics::Function(pipeline, function, by))?);
            } else {
                match self.expression(0)? {
                    Loose::Spansets(spansets) => {
                        if stages.is_empty() && !self.peek().is("|") {
                            return Ok(Loose::Spansets(spansets));
                        }
                        stages.push(Stage::Spansets(spansets));
                    }
                    Loose::Pipeline(pipeline) => stages.push(Stage::Spansets(Spansets::Group(pipeline))),
                    Loose::Filter(op, left, right) => stages.push(Stage::ScalarFilter(op, left, right)),
                    Loose::Scalar(scalar) if stages.is_empty() => return Ok(Loose::Scalar(scalar)),
                    Loose::Scalar(scalar @ Scalar::Aggregate(..)) => {
                        return Ok(Loose::Scalar(Scalar::Piped(Pipeline { stages }, Box::new(scalar))));
                    }
                    Loose::Metrics(found) if stages.is_empty() => metrics = Some(found),
                    found @ Loose::PipedFilter(..) if stages.is_empty() && !self.peek().is("|") => return Ok(found),
                    _ => return Err(self.unexpected_at(at)),
                }
            }
            if !self.take("|") {
                return Ok(match metrics {
                    Some(metrics) => Loose::Metrics(metrics),
                    None => Loose::Pipeline(Pipeline { stages }),
                });
            }
        }
    }

    fn named_stage(&mut self) -> Result<Option<Stage>, Fault> {
        if self.take_word("by") {
            self.expect("(")?;
            let by = self.field_expression(0)?;
            self.expect(")")?;
            return Ok(Some(Stage::By(by)));
        }
        if self.take_word("coalesce") {
            self.expect("(")?;
            self.expect(")")?;
            return Ok(Some(Stage::Coalesce));
        }
        if self.take_word("select") {
            return Ok(Some(Stage::Select(self.fields()?)));
        }
        Ok(None)
    }

    fn fields(&mut self) -> Result<Vec<Field>, Fault> {
        self.expect("(")?;
        let mut fields = vec![self.field()?];
        while self.take(",") {
            fields.push(self.field()?);
        }
        self.expect(")")?;
        Ok(fields)
    }

    fn field(&mut self) -> Result<Field, Fault> {
        match self.peek() {
            Token::Field(field) => {
                let field = field.clone();
                self.at += 1;
                Ok(field)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn function(&mut self) -> Result<Option<Function>, Fault> {
        let Token::Word(word) = self.peek() else {
            return Ok(None);
        };
        let over_time = match word.as_str() {
            "min_over_time" => Some(OverTime::Min),
            "max_over_time" => Some(OverTime::Max),
            "sum_over_time" => Some(OverTime::Sum),
            "avg_over_time" => Some(OverTime::Avg),
            "rate" | "count_over_time" | "quantile_over_time" | "histogram_over_time" | "compare" => None,
            _ => return Ok(None),
        };
        let word = word.clone();
        self.at += 1;
        self.expect("(")?;
        let function = match (word.as_str(), over_time) {
            (_, Some(over_time)) => Function::OverTime(over_time, self.field()?),
            ("rate", _) => Function::Rate,
            ("count_over_time", _) => Function::CountOverTime,
            ("histogram_over_time", _) => Function::Histogram(self.field()?),
            ("quantile_over_time", _) => {
                let field = self.field()?;
                let mut quantiles = Vec::new();
                while self.take(",") {
                    quantiles.push(match self.next() {
                        Token::Int(i) => i as f64,
                        Token::Float(d) => d,
                        _ => return Err(self.unexpected_at(self.at - 1)),
                    });
                }
                if quantiles.is_empty() {
                    return Err(self.unexpected());
                }
                Function::Quantile(field, quantiles)
            }
            _ => self.compare()?,
        };
        self.expect(")")?;
        Ok(Some(function))
    }

    fn compare(&mut self) -> Result<Function, Fault> {
        self.expect("{")?;
        let selection = self.filter()?;
        let mut numbers = Vec::new();
        while self.take(",") {
            match self.next() {
                Token::Int(i) => numbers.push(i),
                _ => return Err(self.unexpected_at(self.at - 1)),
            }
        }
        let (top, between) = match numbers[..] {
            [] => (None, None),
            [top] => (Some(top), None),
            [top, start, end] => (Some(top), Some((start, end))),
            _ => return Err(self.unexpected()),
        };
        Ok(Function::Compare {
            selection,
            top,
            between,
        })
    }

    /// `topk(n)` or `bottomk(n)`.
    fn rank(&mut self) -> Result<Option<impl FnOnce(Metrics) -> Metrics + use<>>, Fault> {
        let top = self.peek().is_word("topk");
        if !top && !self.peek().is_word("bottomk") {
            return Ok(None);
        }
        self.at += 1;
        self.expect("(")?;
        let n = match self.next() {
            Token::Int(i) => u32::try_from(i).unwrap_or(u32::MAX),
            _ => return Err(self.unexpected_at(self.at - 1)),
        };
        self.expect(")")?;
        let rank = if top { Rank::Top(n) } else { Rank::Bottom(n) };
        Ok(Some(move |inner| Metrics::Rank(rank, Box::new(inner))))
    }

    /// `> 10`, `<= 20ms`, `< 1 / 2`, one after another.
    fn filters(&mut self, mut metrics: Metrics) -> Result<Metrics, Fault> {
        while let Some(op) = compare_op(self.peek()) {
            self.count_operator(true)?;
            self.at += 1;
            let at = self.at;
            let value = match self.expression(COMPARE + 1)? {
                Loose::Scalar(value) if value.is_number() || matches!(value, Scalar::Number(_)) => value,
                _ => return Err(self.unexpected_at(at)),
            };
            metrics = Metrics::Filter(op, Box::new(metrics), value);
        }
        Ok(metrics)
    }

    /// A number or duration.
    fn number(&mut self) -> Option<Literal> {
        let literal = match self.peek() {
            Token::Int(i) => Literal::Int(*i),
            Token::Float(d) => Literal::Float(*d),
            Token::Duration(ns) => Literal::Duration(*ns),
            _ => return None,
        };
        self.at += 1;
        Some(literal)
    }

    /// Spansets, scalars and metrics with their operators.
    fn expression(&mut self, least: u8) -> Result<Loose, Fault> {
        self.deeper()?;
        let mut left = self.operand()?;
        while let Token::Sign(sign) = self.peek()
            && let Some(binds) = precedence_outside(sign)
            && binds >= least
        {
            let (sign, at) = (*sign, self.at);
            self.count_operator(true)?;
            self.at += 1;
            let right = self.expression(if binds == POWER { binds } else { binds + 1 })?;
            left = combine(sign, left, right).ok_or_else(|| self.unexpected_at(at))?;
        }
        self.nesting -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Loose, Fault> {
        if self.take("{") {
            return Ok(Loose::Spansets(Spansets::Filter(self.filter()?)));
        }
        if self.take("(") {
            self.deeper()?;
            let inner = match self.piped()? {
                // Parentheses that only group leave no trace; those around a pipeline do.
                Loose::Pipeline(pipeline) => Loose::Spansets(Spansets::Group(pipeline)),
                Loose::Filter(..) | Loose::PipedFilter(..) => return Err(self.unexpected()),
                same => same,
            };
            self.expect(")")?;
            self.nesting -= 1;
            return Ok(inner);
        }
        if let Some(number) = self.number() {
            return Ok(Loose::Scalar(Scalar::Number(number)));
        }
        if self.take("-") {
            self.deeper()?;
            let at = self.at;
            let negated = match self.operand()? {
                Loose::Scalar(scalar) => scalar.negated(),
                _ => None,
            };
            self.nesting -= 1;
            return negated.map(Loose::Scalar).ok_or_else(|| self.unexpected_at(at));
        }
        let aggregate = match self.peek() {
            Token::Word(word) => match word.as_str() {
                "count" => Aggregate::Count,
                "min" => Aggregate::Min,
                "max" => Aggregate::Max,
                "sum" => Aggregate::Sum,
                "avg" => Aggregate::Avg,
                _ => return Err(self.unexpected()),
            },
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        self.expect("(")?;
        let of = match aggregate {
            Aggregate::Count => None,
            _ => Some(self.field_expression(0)?),
        };
        self.expect(")")?;
        Ok(Loose::Scalar(Scalar::Aggregate(aggregate, of)))
    }

    /// What stands in braces, behind the opening one.
    fn filter(&mut self) -> Result<Expr, Fault> {
        if self.take("}") {
            return Ok(Expr::Literal(Literal::Bool(true)));
        }
        let expr = self.field_expression(0)?;
        self.expect("}")?;
        Ok(expr)
    }

    fn field_expression(&mut self, least: u8) -> Result<Expr, Fault> {
        self.deeper()?;
        let mut left = self.field_operand()?;
        while let Token::Sign(sign) = self.peek()
            && let Some(op) = binary_op(sign)
            && op.precedence() >= least
        {
            let stacks = match op {
                BinaryOp::And | BinaryOp::Or => false,
                BinaryOp::Arithmetic(_) => true,
                _ => matches!(&left, Expr::Binary(op, ..) if op.precedence() == COMPARE),
            };
            self.count_operator(stacks)?;
            self.at += 1;
            let binds = op.precedence();
            // `nil` is no value that could be calculated with: behind `=` and `!=` it stands alone.
            let right = match is_nil_test(op) && self.take_word("nil") {
                true => Expr::Literal(Literal::Nil),
                false => self.field_expression(if binds == POWER { binds } else { binds + 1 })?,
            };
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
        self.nesting -= 1;
        Ok(left)
    }

    fn field_operand(&mut self) -> Result<Expr, Fault> {
        let at = self.at;
        let literal = match self.next() {
            Token::Int(i) => Literal::Int(i),
            Token::Float(d) => Literal::Float(d),
            Token::Duration(ns) => Literal::Duration(ns),
            Token::Str(s) => Literal::Str(s),
            Token::Field(field) => return Ok(Expr::Field(field)),
            Token::Word(word) if word == "nil" => return self.nil_test(),
            Token::Word(word) => keyword(&word).ok_or_else(|| self.unexpected_at(at))?,
            Token::Sign("-") => return Ok(Expr::Neg(Box::new(self.field_expression(SUM + 1)?))),
            Token::Sign("!") => return Ok(Expr::Not(Box::new(self.field_expression(NOT + 1)?))),
            Token::Sign("(") => {
                let inner = self.field_expression(0)?;
                self.expect(")")?;
                return Ok(inner);
            }
            _ => return Err(self.unexpected_at(at)),
        };
        Ok(Expr::Literal(literal))
    }

    /// `nil = ...` or `nil != ...`, behind the word.
    fn nil_test(&mut self) -> Result<Expr, Fault> {
        let op = match self.peek() {
            Token::Sign(sign) => binary_op(sign).filter(|op| is_nil_test(*op)),
            _ => None,
        };
        let op = op.ok_or_else(|| self.unexpected())?;
        self.count_operator(true)?;
        self.at += 1;
        let right = match self.take_word("nil") {
            true => Expr::Literal(Literal::Nil),
            false => self.field_expression(COMPARE + 1)?,
        };
        Ok(Expr::Binary(op, Box::new(Expr::Literal(Literal::Nil)), Box::new(right)))
    }

    /// `with(name=value, ...)`, behind the word.
    fn hints(&mut self, hints: &mut Vec<(String, Literal)>) -> Result<(), Fault> {
        self.expect("(")?;
        loop {
            let Token::Word(name) = self.next() else {
                return Err(self.unexpected_at(self.at - 1));
            };
            self.expect("=")?;
            let value = match self.next() {
                Token::Int(i) => Some(Literal::Int(i)),
                Token::Float(d) => Some(Literal::Float(d)),
                Token::Duration(ns) => Some(Literal::Duration(ns)),
                Token::Str(s) => Some(Literal::Str(s)),
                Token::Word(word) if word != "nil" => keyword(&word),
                _ => None,
            };
            let value = value.ok_or_else(|| self.unexpected_at(self.at - 1))?;
            hints.push((name, value));
            if !self.take(",") {
                return self.expect(")");
            }
        }
    }
}

fn keyword(word: &str) -> Option<Literal> {
    Some(match word {
        "true" => Literal::Bool(true),
        "false" => Literal::Bool(false),
        "minInt" => Literal::Int(i64::MIN),
        "maxInt" => Literal::Int(i64::MAX),
        "ok" => Literal::Status(StatusCode::Ok),
        "error" => Literal::Status(StatusCode::Error),
        "unset" => Literal::Status(StatusCode::Unset),
        "unspecified" => Literal::Kind(SpanKind::Unspecified),
        "internal" => Literal::Kind(SpanKind::Internal),
        "server" => Literal::Kind(SpanKind::Server),
        "client" => Literal::Kind(SpanKind::Client),
        "producer" => Literal::Kind(SpanKind::Producer),
        "consumer" => Literal::Kind(SpanKind::Consumer),
        _ => return None,
    })
}

/// Whether an operator asks for presence when one side is `nil`.
fn is_nil_test(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Compare(CompareOp::Eq | CompareOp::Ne))
}

fn compare_op(token: &Token) -> Option<CompareOp> {
    let Token::Sign(sign) = token else { return None };
    Some(match *sign {
        "=" => CompareOp::Eq,
        "!=" => CompareOp::Ne,
        "<" => CompareOp::Lt,
        "<=" => CompareOp::Le,
        ">" => CompareOp::Gt,
        ">=" => CompareOp::Ge,
        _ => return None,
    })
}

fn arithmetic_op(sign: &str) -> Option<ArithmeticOp> {
    Some(match sign {
        "+" => ArithmeticOp::Add,
        "-" => ArithmeticOp::Sub,
        "*" => ArithmeticOp::Mul,
        "/" => ArithmeticOp::Div,
        "%" => ArithmeticOp::Mod,
        "^" => ArithmeticOp::Pow,
        _ => return None,
    })
}

fn binary_op(sign: &'static str) -> Option<BinaryOp> {
    Some(match sign {
        "&&" => BinaryOp::And,
        "||" => BinaryOp::Or,
        "=~" => BinaryOp::Matches,
        "!~" => BinaryOp::MatchesNot,
        _ => match arithmetic_op(sign) {
            Some(op) => BinaryOp::Arithmetic(op),
            None => BinaryOp::Compare(compare_op(&Token::Sign(sign))?),
        },
    })
}

fn structural_op(sign: &str) -> Option<SpansetOp> {
    let (kept, relation) = match sign.as_bytes().first() {
        Some(b'!') => (Kept::RightWithout, &sign[1..]),
        Some(b'&') => (Kept::Both, &sign[1..]),
        _ => (Kept::Right, sign),
    };
    let relation = match relation {
        ">" => Relation::Child,
        "<" => Relation::Parent,
        ">>" => Relation::Descendant,
        "<<" => Relation::Ancestor,
        "~" => Relation::Sibling,
        _ => return None,
    };
    Some(SpansetOp::Related(relation, kept))
}

fn precedence_outside(sign: &'static str) -> Option<u8> {
    match sign {
        "&&" | "||" => Some(LOGIC),
        "+" | "-" => Some(SUM),
        "*" | "/" | "%" => Some(PRODUCT),
        "^" => Some(POWER),
        _ if structural_op(sign).is_some() || compare_op(&Token::Sign(sign)).is_some() => Some(COMPARE),
        _ => None,
    }
}

/// What an operator makes of two sides; `None` if it has no meaning there.
fn combine(sign: &'static str, left: Loose, right: Loose) -> Option<Loose> {
    let compare = compare_op(&Token::Sign(sign));
    let arithmetic = arithmetic_op(sign);
    Some(match (left, right) {
        (Loose::Spansets(left), Loose::Spansets(right)) => {
            let op = match sign {
                "&&" => SpansetOp::And,
                "||" => SpansetOp::Or,
                _ => structural_op(sign)?,
            };
            Loose::Spansets(Spansets::Combined(op, Box::new(left), Box::new(right)))
        }
        (Loose::Scalar(left), Loose::Scalar(right)) => match (compare, arithmetic, left.is_piped(), right.is_piped()) {
            (Some(op), _, false, false) if left.is_aggregate() || right.is_aggregate() => {
                Loose::Filter(op, left, right)
            }
            (Some(op), _, true, _) if right.is_piped() || !right.is_aggregate() => Loose::PipedFilter(op, left, right),
            (_, Some(op), a, b) if a == b => {
                let constant = !left.is_aggregate() && !right.is_aggregate();
                if constant && matches!(op, ArithmeticOp::Mod | ArithmeticOp::Pow) {
                    return None;
                }
                Loose::Scalar(Scalar::Arithmetic(op, Box::new(left), Box::new(right)))
            }
            _ => return None,
        },
        (Loose::Metrics(left), Loose::Scalar(right)) => match compare {
            Some(op) => {
                if !right.is_number() && !matches!(right, Scalar::Number(_)) {
                    return None;
                }
                Loose::Metrics(Metrics::Filter(op, Box::new(left), right))
            }
            None => math(arithmetic?, Operand::Series(left), Operand::Number(right))?,
        },
        (Loose::Scalar(left), Loose::Metrics(right)) => {
            math(arithmetic?, Operand::Number(left), Operand::Series(right))?
        }
        (Loose::Metrics(left), Loose::Metrics(right)) => {
            math(arithmetic?, Operand::Series(left), Operand::Series(right))?
        }
        _ => return None,
    })
}

fn math(op: ArithmeticOp, left: Operand, right: Operand) -> Option<Loose> {
    let good = |operand: &Operand| match operand {
        Operand::Series(_) => true,
        Operand::Number(scalar) => scalar.is_number(),
    };
    let known = !matches!(op, ArithmeticOp::Mod | ArithmeticOp::Pow);
    (known && good(&left) && good(&right)).then(|| Loose::Metrics(Metrics::Math(op, Box::new(left), Box::new(right))))
}

impl Scalar {
    /// Whether there is an aggregate in it.
    pub(crate) fn is_aggregate(&self) -> bool {
        match self {
            Scalar::Number(_) => false,
            Scalar::Aggregate(..) | Scalar::Piped(..) => true,
            Scalar::Arithmetic(_, left, right) => left.is_aggregate() || right.is_aggregate(),
        }
    }

    /// A constant with the other sign; `None`: it is none.
    fn negated(self) -> Option<Scalar> {
        Some(match self {
            Scalar::Number(Literal::Int(i)) => Scalar::Number(Literal::Int(i.wrapping_neg())),
            Scalar::Number(Literal::Float(d)) => Scalar::Number(Literal::Float(-d)),
            Scalar::Number(Literal::Duration(ns)) => Scalar::Number(Literal::Duration(ns.wrapping_neg())),
            sum if sum.is_number() => {
                let nothing = Scalar::Number(Literal::Int(0));
                Scalar::Arithmetic(ArithmeticOp::Sub, Box::new(nothing), Box::new(sum))
            }
            _ => return None,
        })
    }

    /// Whether there is a pipeline in it.
    fn is_piped(&self) -> bool {
        match self {
            Scalar::Number(_) | Scalar::Aggregate(..) => false,
            Scalar::Piped(..) => true,
            Scalar::Arithmetic(_, left, right) => left.is_piped() || right.is_piped(),
        }
    }

    /// Whether it is a constant without a unit.
    fn is_number(&self) -> bool {
        match self {
            Scalar::Number(literal) => !matches!(literal, Literal::Duration(_)),
            Scalar::Aggregate(..) | Scalar::Piped(..) => false,
            Scalar::Arithmetic(_, left, right) => left.is_number() && right.is_number(),
        }
    }
}
