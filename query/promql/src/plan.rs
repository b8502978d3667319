//! Syntax tree to plan: durations and `@` become milliseconds, parentheses go, what depends on no step is marked to be
//! computed once, and it is known which times the query reads.

use std::sync::Arc;

use model::Matcher;
use query_exec::{BinaryOp, Grouping, Matching};

use crate::durations::QueryTimes;
use crate::functions::{Function, Work};
use crate::lex::Span;
use crate::run::data;
use crate::syntax::{At, Binary, Call, Edges, Expr, Kind, Selector, Shift, Type};
use crate::{EvalError, Options, ParseError};

/// A step of evaluation, and where its words stand in the text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) work: NodeWork,
    pub(crate) span: Span,
    /// The same without parentheses around it.
    pub(crate) own: Span,
    pub(crate) returns: Type,
    /// Whether the value is the same at every step.
    steady: bool,
}

impl Node {
    pub(crate) fn new(work: NodeWork, span: Span, returns: Type) -> Node {
        let steady = match &work {
            NodeWork::Number(_) | NodeWork::Text(_) | NodeWork::Once(_) => true,
            NodeWork::Instant(select) | NodeWork::Range { select, .. } => select.shift.at.is_some(),
            NodeWork::Subquery { shift, .. } => shift.at.is_some(),
            NodeWork::Call { function, args } => !function.varies && args.iter().all(|a| a.steady),
            NodeWork::Aggregate { param, inner, .. } => inner.steady && param.as_ref().is_none_or(|p| p.steady),
            NodeWork::Binary { left, right, .. } => left.steady && right.steady,
            NodeWork::Negative(inner) => inner.steady,
        };
        Node {
            work,
            span,
            own: span,
            returns,
            steady,
        }
    }

    /// The same, computed once if that is worth a mark.
    fn once(self) -> Node {
        if !self.steady || !reads_anything(&self) || self.returns == Type::Range {
            return self;
        }
        let (span, returns) = (self.span, self.returns);
        Node::new(NodeWork::Once(Box::new(self)), span, returns)
    }
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
pub(crate) fn plan(expr: &Expr, times: QueryTimes, options: Options) -> Result<Plan, EvalError> {
    let planner = Planner { times, options };
    let root = planner.node(expr, Above::default())?.once();
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
        self.buckets |= op.is_trim();
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

impl Planner {
    fn node(&self, expr: &Expr, above: Above) -> Result<Node, EvalError> {
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
                inner: Box::new(self.node(&s.expr, above.subquery())?.once()),
                range_ms: s.range.positive_ms(&self.times)?,
                step_ms: match &s.step {
                    Some(step) => step.positive_ms(&self.times)?,
                    None => self.options.subquery_step_ms.max(1),
                },
                shift: self.moment(&s.shift)?,
            },
            Kind::Unary(u) if u.negative => match self.node(&u.expr, above)? {
                Node {
                    work: NodeWork::Number(v),
                    ..
                } => NodeWork::Number(-v),
                inner => NodeWork::Negative(Box::new(inner)),
            },
            Kind::Unary(u) => return self.node(&u.expr, above),
            Kind::Call(c) => self.call(c, above)?,
            Kind::Aggregate(a) => {
                let mut parts = self.parts(&a.args, false, above)?.into_iter().map(Box::new).rev();
                let Some(inner) = parts.next() else {
                    return Err(data("an aggregation has nothing to aggregate"));
                };
                NodeWork::Aggregate {
                    op: a.op,
                    grouping: a.grouping.clone(),
                    param: parts.next(),
                    inner,
                }
            }
            Kind::Binary(_) => return self.chain(expr, above),
        };
        Ok(Node::new(work, expr.span, expr.value_type()))
    }

    /// A call; what is known of the query itself is a number already.
    fn call(&self, call: &Call, above: Above) -> Result<NodeWork, EvalError> {
        let function = call.function;
        let seconds = |ms: i64| Ok(NodeWork::Number(ms as f64 / 1000.0));
        match function.work {
            Work::Start => return seconds(self.times.start),
            Work::End => return seconds(self.times.end),
            Work::Range => return seconds(self.times.range()),
            Work::Step => return seconds(self.times.step),
            Work::Pi => return Ok(NodeWork::Number(std::f64::consts::PI)),
            _ => {}
        }
        let args = match function.work {
            Work::Info => self.info(call, above)?,
            _ => self.parts(&call.args, function.varies, above.call(function))?,
        };
        for arg in &args {
            if let NodeWork::Range { select, .. } = &arg.work {
                edges_fit(function, select.edges)?;
            }
        }
        Ok(NodeWork::Call { function, args })
    }

    /// What is enriched, and a selector of what it is enriched with (without matchers, if none is written): it looks at
    /// the time that the first selector of the former looks at.
    fn info(&self, call: &Call, above: Above) -> Result<Vec<Node>, EvalError> {
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
        nodes.push(Node::new(
            NodeWork::Instant(select),
            labels.map_or(Span::default(), |l| l.span),
            Type::Vector,
        ));
        Ok(nodes)
    }

    /// Chains of operators may be long: they are planned along, not down.
    fn chain(&self, expr: &Expr, mut above: Above) -> Result<Node, EvalError> {
        let mut links = Vec::new();
        let mut at = expr;
        while let Kind::Binary(binary) = &at.kind {
            above = above.operator(binary.op);
            links.push((binary, at.span, above));
            at = &binary.left;
        }
        let mut left = self.node(at, above)?;
        for (binary, span, above) in links.into_iter().rev() {
            let right = self.node(&binary.right, above)?;
            left = joined(binary, left, right, span);
        }
        Ok(left)
    }

    /// Plans arguments; those that alone are the same at every step are computed once, if the rest is not.
    fn parts(&self, args: &[Expr], varies: bool, above: Above) -> Result<Vec<Node>, EvalError> {
        let nodes = args
            .iter()
            .map(|a| self.node(a, above))
            .collect::<Result<Vec<_>, _>>()?;
        if !varies && nodes.iter().all(|n| n.steady) {
            return Ok(nodes);
        }
        Ok(nodes.into_iter().map(Node::once).collect())
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
            let (before, after) = select.edges.beyond(self.options.lookback_ms);
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

/// One operator on two operands. Numbers are computed at once; of two operands of which only one is the same at every step,
/// that one is computed once.
fn joined(binary: &Binary, left: Node, right: Node, span: Span) -> Node {
    let (op, return_bool) = (binary.op, binary.return_bool);
    if let (NodeWork::Number(l), NodeWork::Number(r)) = (&left.work, &right.work)
        && !op.is_trim()
    {
        let value = query_exec::apply(op, *l, *r, query_exec::PROMQL);
        return Node::new(NodeWork::Number(value), span, Type::Scalar);
    }
    let vector = left.returns == Type::Vector || right.returns == Type::Vector;
    let (left, right) = match (left.steady, right.steady) {
        (true, false) => (left.once(), right),
        (false, true) => (left, right.once()),
        _ => (left, right),
    };
    let work = NodeWork::Binary {
        op,
        return_bool,
        matching: binary.matching.clone(),
        left: Box::new(left),
        right: Box::new(right),
    };
    Node::new(work, span, if vector { Type::Vector } else { Type::Scalar })
}

/// Only some functions know what to do with what stands at the edges of windows.
fn edges_fit(function: &Function, edges: Edges) -> Result<(), EvalError> {
    const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
    const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];
    let (word, fit): (_, &[&str]) = match edges {
        Edges::Plain => return Ok(()),
        Edges::Anchored => ("anchored", &ANCHORED),
        Edges::Smoothed => ("smoothed", &SMOOTHED),
    };
    if fit.contains(&function.name) {
        return Ok(());
    }
    let (name, fit) = (function.name, fit.join(", "));
    Err(data(format!(
        "{word} modifier can only be used with: {fit} - not with {name}"
    )))
}

/// Whether computing a node costs anything, so that doing it once is worth a mark.
fn reads_anything(node: &Node) -> bool {
    match &node.work {
        NodeWork::Number(_) | NodeWork::Text(_) | NodeWork::Once(_) => false,
        NodeWork::Instant(_) | NodeWork::Range { .. } | NodeWork::Subquery { .. } => true,
        NodeWork::Call { args, .. } => args.iter().any(reads_anything),
        NodeWork::Aggregate { inner, .. } | NodeWork::Negative(inner) => reads_anything(inner),
        // A long chain of what is the same at every step has been looked through link by link.
        NodeWork::Binary { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The work of a node, shortly.
    fn words(node: &Node) -> String {
        let select = |s: &Select, window: String| {
            let name = s.matchers.last().map_or("", Matcher::value);
            let stats = if s.stats_only { " stats" } else { "" };
            let at = s.shift.at.map_or(String::new(), |at| format!(" @{at}"));
            let offset = match s.shift.offset_ms {
                0 => String::new(),
                ms => format!(" -{ms}"),
            };
            format!("{name}{window}{stats}{at}{offset}")
        };
        match &node.work {
            NodeWork::Number(v) => v.to_string(),
            NodeWork::Text(_) => "text".to_owned(),
            NodeWork::Instant(s) => select(s, String::new()),
            NodeWork::Range { select: s, range_ms } => select(s, format!("[{range_ms}]")),
            NodeWork::Subquery {
                inner,
                range_ms,
                step_ms,
                ..
            } => format!("{}[{range_ms}:{step_ms}]", words(inner)),
            NodeWork::Call { function, args } => {
                let args: Vec<_> = args.iter().map(words).collect();
                format!("{}({})", function.name, args.join(", "))
            }
            NodeWork::Aggregate { op, param, inner, .. } => {
                let param = param.as_ref().map_or(String::new(), |p| format!("{}, ", words(p)));
                format!("{op}({param}{})", words(inner))
            }
            NodeWork::Binary { op, left, right, .. } => {
                format!("({} {} {})", words(left), op.as_str(), words(right))
            }
            NodeWork::Negative(inner) => format!("-{}", words(inner)),
            NodeWork::Once(inner) => format!("once {{{}}}", words(inner)),
        }
    }

    fn planned(text: &str) -> Result<Plan, String> {
        let expr = crate::parse::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let times = QueryTimes {
            start: 1_000_000,
            end: 1_600_000,
            step: 60_000,
        };
        let options = Options {
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            ..Options::default()
        };
        plan(&expr, times, options).map_err(|e| e.to_string())
    }

    fn check(text: &str, want: &str) {
        let found = planned(text).map_or_else(|e| e, |plan| words(&plan.root));
        assert_eq!(found, want, "{text}");
    }

    #[test]
    fn what_is_the_same_at_every_step_is_computed_once() {
        check("x + x @ 5", "(x + once {x @5000})");
        check("sum(rate(x[5m] @ end()))", "once {sum(rate(x[300000] @1600000))}");
        check("rate(x[5m] @ 5) > y", "(once {rate(x[300000] @5000)} > y)");
        check("topk(scalar(k @ 1), x)", "topk(once {scalar(k @1000)}, x)");
        check("timestamp(x @ 5)", "timestamp(once {x @5000})");
        check(
            "max_over_time((x @ 5)[10m:])",
            "max_over_time(once {x @5000}[600000:60000])",
        );
    }

    #[test]
    fn numbers_are_computed_when_planning() {
        check("x * -(2 + 3 * 2 ^ 2)", "(x * -14)");
        check("x > bool end() - start()", "(x > 600)");
        check("step() + range() * pi()", "1944.9555921538758");
        check("x[step() * 2]", "x[120000]");
        check("x offset (range() / 2)", "x -300000");
    }

    #[test]
    fn buckets_are_read_only_where_something_looks_into_them() {
        check("histogram_count(sum(x))", "histogram_count(sum(x stats))");
        check(
            "histogram_avg(rate(x[1m]) + y)",
            "histogram_avg((rate(x[60000] stats) + y stats))",
        );
        check(
            "histogram_quantile(0.9, x) + histogram_sum(y)",
            "(histogram_quantile(0.9, x) + histogram_sum(y stats))",
        );
        check("histogram_count(x >/ 2)", "histogram_count((x >/ 2))");
        check(
            "max_over_time(histogram_sum(x)[5m:])",
            "max_over_time(histogram_sum(x)[300000:60000])",
        );
        check(
            "histogram_count(histogram_fraction(0, 1, x))",
            "histogram_count(histogram_fraction(0, 1, x))",
        );
    }

    #[test]
    fn durations_that_cannot_be_are_refused_where_they_stand() {
        check("x[5m-5m]", "2:7: duration must be greater than 0");
        check("x[5m:step()-1h]", "5:14: duration must be greater than 0");
        check("x offset (1h/(step()-60))", "10:23: division by zero");
        check("x offset (10^300)", "10:16: duration is out of range");
        check(
            "deriv(x[5m] anchored)",
            "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with deriv",
        );
        check(
            "changes((x[5m] smoothed))",
            "smoothed modifier can only be used with: delta, increase, rate - not with changes",
        );
    }

    #[test]
    fn reads_are_what_any_step_may_look_at() {
        for (text, want) in [
            ("x", (700_000, 1_600_000)),
            ("x[1m]", (940_000, 1_600_000)),
            ("x[1m] anchored", (640_000, 1_600_000)),
            ("x smoothed", (400_000, 1_900_000)),
            ("x offset -1m", (760_000, 1_660_000)),
            ("max_over_time(x[10m:1m] offset 1m)", (40_000, 1_540_000)),
            ("x @ 100 + y", (-200_000, 1_600_000)),
            ("info(rate(x[1m] offset 1h))", (-2_900_000, -2_000_000)),
            ("1", (1_000_000, 1_600_000)),
        ] {
            let reads = planned(text).map(|plan| plan.reads);
            assert_eq!(reads, Ok(want), "{text}");
        }
    }
}
