//! Syntax tree to plan: durations and `@` become milliseconds, parentheses go, what depends on no step is marked to be
//! computed once, and it is known which times the query reads.

use std::sync::Arc;

use model::Matcher;
use query_exec::{BinaryOp, Grouping, Matching};

use crate::durations::QueryTimes;
use crate::functions::{Function, Work};
use crate::lex::Span;
use crate::parse::fault;
use crate::syntax::{At, Duration, Expr, Kind, Selector, Shift, Type};
use crate::{Options, ParseError};

/// A step of evaluation, and where its words stand in the text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) work: NodeWork,
    pub(crate) span: Span,
    pub(crate) returns: Type,
}

#[derive(Debug)]
pub(crate) enum NodeWork {
    Number(f64),
    Text(Vec<u8>),
    /// The newest sample at each step, not older than the lookback.
    Instant(Select),
    /// Samples of a window; only below a call, or on top.
    Range {
        select: Select,
        range_ms: i64,
    },
    /// Like a range, over the values of an expression.
    Subquery {
        inner: Box<Node>,
        range_ms: i64,
        step_ms: i64,
        shift: Moment,
    },
    Call {
        function: &'static Function,
        args: Vec<Node>,
    },
    Aggregate {
        op: &'static str,
        grouping: Grouping,
        param: Option<Box<Node>>,
        inner: Box<Node>,
    },
    Binary {
        op: BinaryOp,
        return_bool: bool,
        matching: Matching,
        left: Box<Node>,
        right: Box<Node>,
    },
    Negative(Box<Node>),
    /// The same at every step: computed once.
    Once(Box<Node>),
}

/// Which series, and from when.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) matchers: Arc<[Matcher]>,
    pub(crate) shift: Moment,
}

/// The time that is looked at when the step is `t`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Instead of the step.
    pub(crate) at: Option<i64>,
    pub(crate) offset_ms: i64,
}

impl Moment {
    pub(crate) fn of(&self, step: i64) -> i64 {
        self.at.unwrap_or(step).saturating_sub(self.offset_ms)
    }
}

/// The plan of a query and the times it reads.
pub(crate) struct Plan {
    pub(crate) root: Node,
    /// First and last ms of any sample that may matter.
    pub(crate) reads: (i64, i64),
}

/// Plans `expr` for steps as `times` has them.
pub(crate) fn plan(text: &str, expr: &Expr, times: QueryTimes, options: Options) -> Result<Plan, ParseError> {
    let planner = Planner { text, times, options };
    let root = planner.node(expr)?;
    let root = if planner.invariant(&root) && reads_anything(&root) {
        once(root)
    } else {
        root
    };
    let mut reads: Option<(i64, i64)> = None;
    planner.reads(&root, (times.start, times.end), &mut reads);
    Ok(Plan {
        root,
        reads: reads.unwrap_or((times.start, times.end)),
    })
}

struct Planner<'a> {
    text: &'a str,
    times: QueryTimes,
    options: Options,
}

fn once(node: Node) -> Node {
    let (span, returns) = (node.span, node.returns);
    Node {
        work: NodeWork::Once(Box::new(node)),
        span,
        returns,
    }
}

impl Planner<'_> {
    fn node(&self, expr: &Expr) -> Result<Node, ParseError> {
        let work = match &expr.kind {
            Kind::Number(v) => NodeWork::Number(*v),
            Kind::Text(t) => NodeWork::Text(t.clone()),
            Kind::Paren(inner) => {
                return Ok(Node {
                    span: expr.span,
                    ..self.node(inner)?
                });
            }
            Kind::Selector(s) => NodeWork::Instant(self.select(s)?),
            Kind::Range(r) => NodeWork::Range {
                select: self.select(&r.selector)?,
                range_ms: self.positive(&r.range)?,
            },
            Kind::Subquery(s) => NodeWork::Subquery {
                inner: Box::new(self.node(&s.expr)?),
                range_ms: self.positive(&s.range)?,
                step_ms: match &s.step {
                    Some(step) => self.positive(step)?,
                    None => self.options.subquery_step_ms.max(1),
                },
                shift: self.moment(&s.shift)?,
            },
            Kind::Unary(u) if u.negative => NodeWork::Negative(Box::new(self.node(&u.expr)?)),
            Kind::Unary(u) => return self.node(&u.expr),
            Kind::Call(c) => NodeWork::Call {
                function: c.function,
                args: self.parts(&c.args, c.function.varies)?,
            },
            Kind::Aggregate(a) => {
                let mut parts = self.parts(&a.args, false)?;
                let inner = Box::new(parts.remove(parts.len() - 1));
                NodeWork::Aggregate {
                    op: a.op,
                    grouping: a.grouping.clone(),
                    param: parts.pop().map(Box::new),
                    inner,
                }
            }
            Kind::Binary(_) => return self.chain(expr),
        };
        Ok(Node {
            work,
            span: expr.span,
            returns: expr.value_type(),
        })
    }

    /// Chains of operators may be long: they are planned along, not down.
    fn chain(&self, expr: &Expr) -> Result<Node, ParseError> {
        let mut links = Vec::new();
        let mut at = expr;
        while let Kind::Binary(binary) = &at.kind {
            links.push((binary, at.span));
            at = &binary.left;
        }
        let mut left = self.node(at)?;
        for (binary, span) in links.into_iter().rev() {
            let mut right = self.node(&binary.right)?;
            (left, right) = match (self.invariant(&left), self.invariant(&right)) {
                (true, false) if reads_anything(&left) => (once(left), right),
                (false, true) if reads_anything(&right) => (left, once(right)),
                _ => (left, right),
            };
            let vector = left.returns == Type::Vector || right.returns == Type::Vector;
            left = Node {
                work: NodeWork::Binary {
                    op: binary.op,
                    return_bool: binary.return_bool,
                    matching: binary.matching.clone(),
                    left: Box::new(left),
                    right: Box::new(right),
                },
                span,
                returns: if vector { Type::Vector } else { Type::Scalar },
            };
        }
        Ok(left)
    }

    /// Plans arguments; those that alone are the same at every step are computed once, if the rest is not.
    fn parts(&self, args: &[Expr], varies: bool) -> Result<Vec<Node>, ParseError> {
        let nodes = args.iter().map(|a| self.node(a)).collect::<Result<Vec<_>, _>>()?;
        if !varies && nodes.iter().all(|n| self.invariant(n)) {
            return Ok(nodes);
        }
        let wrap = |n: Node| {
            if self.invariant(&n) && reads_anything(&n) && n.returns != Type::Range {
                once(n)
            } else {
                n
            }
        };
        Ok(nodes.into_iter().map(wrap).collect())
    }

    /// Whether a node's value is the same at every step.
    fn invariant(&self, node: &Node) -> bool {
        match &node.work {
            NodeWork::Number(_) | NodeWork::Text(_) | NodeWork::Once(_) => true,
            NodeWork::Instant(select) | NodeWork::Range { select, .. } => select.shift.at.is_some(),
            NodeWork::Subquery { shift, .. } => shift.at.is_some(),
            NodeWork::Call { function, args } => !function.varies && args.iter().all(|a| self.invariant(a)),
            NodeWork::Aggregate { param, inner, .. } => {
                self.invariant(inner) && param.as_ref().is_none_or(|p| self.invariant(p))
            }
            // What varied below was wrapped when the link was planned, so one look is enough.
            NodeWork::Binary { left, right, .. } => {
                let (mut left, mut steady) = (left, self.invariant(right));
                while let (true, NodeWork::Binary { left: l, right: r, .. }) = (steady, &left.work) {
                    steady = self.invariant(r);
                    left = l;
                }
                steady && self.invariant(left)
            }
            NodeWork::Negative(inner) => self.invariant(inner),
        }
    }

    fn select(&self, selector: &Selector) -> Result<Select, ParseError> {
        Ok(Select {
            matchers: selector.matchers.clone(),
            shift: self.moment(&selector.shift)?,
        })
    }

    fn moment(&self, shift: &Shift) -> Result<Moment, ParseError> {
        Ok(Moment {
            at: shift.at.map(|at| match at {
                At::Time(ms) => ms,
                At::Start => self.times.start,
                At::End => self.times.end,
            }),
            offset_ms: shift.offset.as_ref().map_or(Ok(0), |d| self.ms(d))?,
        })
    }

    fn ms(&self, duration: &Duration) -> Result<i64, ParseError> {
        (duration.ms(&self.times)).map_err(|what| fault(self.text, duration.span.start, what))
    }

    fn positive(&self, duration: &Duration) -> Result<i64, ParseError> {
        match self.ms(duration)? {
            ms if ms > 0 => Ok(ms),
            _ => Err(fault(self.text, duration.span.start, "duration must be greater than 0")),
        }
    }

    /// Widens `reads` by what `node` reads when its steps lie in `steps`.
    fn reads(&self, node: &Node, steps: (i64, i64), reads: &mut Option<(i64, i64)>) {
        let mut window = |shift: &Moment, range: i64| {
            let (first, last) = (shift.of(steps.0).saturating_sub(range), shift.of(steps.1));
            let (min, max) = reads.unwrap_or((first, last));
            *reads = Some((min.min(first), max.max(last)));
        };
        match &node.work {
            NodeWork::Number(_) | NodeWork::Text(_) => {}
            NodeWork::Instant(select) => window(&select.shift, self.options.lookback_ms),
            NodeWork::Range { select, range_ms } => window(&select.shift, *range_ms),
            NodeWork::Subquery {
                inner, range_ms, shift, ..
            } => {
                let first = shift.of(steps.0).saturating_sub(*range_ms);
                self.reads(inner, (first, shift.of(steps.1)), reads);
            }
            NodeWork::Call { args, .. } => args.iter().for_each(|a| self.reads(a, steps, reads)),
            NodeWork::Aggregate { param, inner, .. } => {
                param.iter().chain([inner]).for_each(|n| self.reads(n, steps, reads));
            }
            NodeWork::Binary { left, right, .. } => {
                self.reads(left, steps, reads);
                self.reads(right, steps, reads);
            }
            NodeWork::Negative(inner) | NodeWork::Once(inner) => self.reads(inner, steps, reads),
        }
    }
}

/// Whether computing a node costs anything, so that doing it once is worth a mark.
fn reads_anything(node: &Node) -> bool {
    match &node.work {
        NodeWork::Number(_) | NodeWork::Text(_) | NodeWork::Once(_) => false,
        NodeWork::Call { function, args } => !matches!(function.work, Work::Time) && args.iter().any(reads_anything),
        _ => node.returns == Type::Vector,
    }
}
