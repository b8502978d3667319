//! Syntax tree to plan: durations and `@` become milliseconds, parentheses go, what depends on no step is marked to be
//! computed once, and it is known which times the query reads.

use std::sync::Arc;

use model::Matcher;
use query_exec::{BinaryOp, Grouping, Matching};

use crate::durations::QueryTimes;
use crate::functions::{Function, Work};
use crate::lex::Span;
use crate::syntax::{At, Call, Edges, Expr, Kind, Selector, Shift, Type};
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
    /// An anchored selector reads the lookback before its window as well, a smoothed one also the lookback after it.
    pub(crate) edges: Edges,
    /// Nothing above looks into buckets: of histograms only count, sum, schema and hint are wanted, and a hint that the
    /// storage does not know is found by looking at the sample before.
    pub(crate) stats_only: bool,
    pub(crate) shift: Moment,
}

/// The time that is looked at when the step is `t`.
#[derive(Clone, Copy, Debug, Default)]
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
pub(crate) fn plan(expr: &Expr, times: QueryTimes, options: Options) -> Result<Plan, ParseError> {
    let planner = Planner { times, options };
    let root = planner.node(expr, Above::default())?;
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

/// What the operators above a selector want to know of histograms.
#[derive(Clone, Copy, Default)]
struct Above {
    /// One asks for count, sum or average only.
    stats: bool,
    /// One looks into buckets, or finds counter resets by them.
    buckets: bool,
}

impl Above {
    fn call(mut self, function: &Function) -> Above {
        match function.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => self.stats = true,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => self.buckets = true,
            _ => {}
        }
        self
    }
    fn operator(mut self, op: BinaryOp) -> Above {
        self.buckets |= matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        self
    }
    fn subquery(self) -> Above {
        Above { buckets: true, ..self }
    }
}

struct Planner {
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

impl Planner {
    fn node(&self, expr: &Expr, above: Above) -> Result<Node, ParseError> {
        let work = match &expr.kind {
            Kind::Number(v) => NodeWork::Number(v.value),
            Kind::Text(t) => NodeWork::Text(t.clone()),
            Kind::Paren(inner) => {
                return Ok(Node {
                    span: expr.span,
                    ..self.node(inner, above)?
                });
            }
            Kind::Selector(s) => NodeWork::Instant(self.select(s, above)?),
            Kind::Range(r) => NodeWork::Range {
                select: self.select(&r.selector, above)?,
                range_ms: r.range.positive_ms(&self.times)?,
            },
            Kind::Subquery(s) => NodeWork::Subquery {
                inner: Box::new(self.node(&s.expr, above.subquery())?),
                range_ms: s.range.positive_ms(&self.times)?,
                step_ms: match &s.step {
                    Some(step) => step.positive_ms(&self.times)?,
                    None => self.options.subquery_step_ms.max(1),
                },
                shift: self.moment(&s.shift)?,
            },
            Kind::Unary(u) if u.negative => NodeWork::Negative(Box::new(self.node(&u.expr, above)?)),
            Kind::Unary(u) => return self.node(&u.expr, above),
            Kind::Call(c) => NodeWork::Call {
                function: c.function,
                args: match c.function.work {
                    Work::Info => self.info(c, above)?,
                    _ => self.parts(&c.args, c.function.varies, above.call(c.function))?,
                },
            },
            Kind::Aggregate(a) => {
                let mut parts = self.parts(&a.args, false, above)?;
                let inner = Box::new(parts.remove(parts.len() - 1));
                NodeWork::Aggregate {
                    op: a.op,
                    grouping: a.grouping.clone(),
                    param: parts.pop().map(Box::new),
                    inner,
                }
            }
            Kind::Binary(_) => return self.chain(expr, above),
        };
        Ok(Node {
            work,
            span: expr.span,
            returns: expr.value_type(),
        })
    }

    /// What is enriched, and a selector of what it is enriched with (without matchers, if none is written): it looks at
    /// the time that the first selector of the former looks at.
    fn info(&self, call: &Call, above: Above) -> Result<Vec<Node>, ParseError> {
        let shift = call
            .args
            .first()
            .and_then(Expr::first_shift)
            .cloned()
            .unwrap_or_default();
        let labels = call.args.get(1);
        let matchers = match labels.map(|l| &l.kind) {
            Some(Kind::Selector(s)) => s.matchers.clone(),
            _ => Arc::from([]),
        };
        let select = Select {
            matchers,
            edges: Edges::Plain,
            stats_only: false,
            shift: self.moment(&shift)?,
        };
        let mut nodes = self.parts(call.args.get(..1).unwrap_or_default(), false, above)?;
        nodes.push(Node {
            work: NodeWork::Instant(select),
            span: labels.map_or(Span::default(), |l| l.span),
            returns: Type::Vector,
        });
        Ok(nodes)
    }

    /// Chains of operators may be long: they are planned along, not down.
    fn chain(&self, expr: &Expr, mut above: Above) -> Result<Node, ParseError> {
        let mut links = Vec::new();
        let mut at = expr;
        while let Kind::Binary(binary) = &at.kind {
            above = above.operator(binary.op);
            links.push((binary, at.span, above));
            at = &binary.left;
        }
        let mut left = self.node(at, above)?;
        for (binary, span, above) in links.into_iter().rev() {
            let mut right = self.node(&binary.right, above)?;
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
    fn parts(&self, args: &[Expr], varies: bool, above: Above) -> Result<Vec<Node>, ParseError> {
        let nodes = args
            .iter()
            .map(|a| self.node(a, above))
            .collect::<Result<Vec<_>, _>>()?;
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

    fn select(&self, selector: &Selector, above: Above) -> Result<Select, ParseError> {
        Ok(Select {
            matchers: selector.matchers.clone(),
            edges: selector.edges,
            stats_only: above.stats && !above.buckets,
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
            offset_ms: shift.offset.as_ref().map_or(Ok(0), |d| d.ms(&self.times))?,
        })
    }

    /// Widens `reads` by what `node` reads when its steps lie in `steps`.
    fn reads(&self, node: &Node, steps: (i64, i64), reads: &mut Option<(i64, i64)>) {
        let mut window = |select: &Select, range: i64| {
            let lookback = self.options.lookback_ms;
            let (before, after) = match select.edges {
                Edges::Plain => (0, 0),
                Edges::Anchored => (lookback, 0),
                Edges::Smoothed => (lookback, lookback),
            };
            let first = select.shift.of(steps.0).saturating_sub(range).saturating_sub(before);
            let last = select.shift.of(steps.1).saturating_add(after);
            let (min, max) = reads.unwrap_or((first, last));
            *reads = Some((min.min(first), max.max(last)));
        };
        match &node.work {
            NodeWork::Number(_) | NodeWork::Text(_) => {}
            NodeWork::Instant(select) => window(select, self.options.lookback_ms),
            NodeWork::Range { select, range_ms } => window(select, *range_ms),
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
