//! From syntax tree to what runs: constants folded, patterns compiled, chains of `&&` and `||` laid flat; and what storage
//! need not bring. A condition that is pushed down may let too much through, never too little: a trace is left out only if
//! no span of it can pass.

use std::sync::Arc;

use model::{AttributeValue, BadMatcher, Regex, RegexBudget, RegexUse, TraceId};
use storage_traces::{AttributeScope, Condition, Field as StoredField, Projection, ScanRequest, Test};

use crate::run::{NoSpans, eval};
use crate::seen::Seen;
use crate::spelled::Spelled;
use crate::syntax::Kept;
use crate::syntax::{
    Aggregate, ArithmeticOp, BinaryOp, CompareOp, Expr, Field, Function, Intrinsic, Literal, Pipeline, Scalar, Scope,
    SpansetOp, Spansets, Stage,
};
use crate::value::{Value, calculate};

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Alternatives and conditions that are pushed down; beyond, storage brings more.
const ALTERNATIVES_MAX: usize = 64;

/// An expression over one span, ready to run.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    Field(Field),
    Neg(Box<Node>),
    Not(Box<Node>),
    /// A chain from left to right; true: `&&`.
    Logic(Box<Node>, Vec<(bool, Node)>),
    Compare(CompareOp, Box<Node>, Box<Node>),
    /// Whether there is a value (true) or none (false).
    Exists(Box<Node>, bool),
    /// Text against a pattern; `true`: it must match. No pattern: never.
    Matches(Box<Node>, Option<Regex>, bool),
    Arithmetic(ArithmeticOp, Box<Node>, Box<Node>),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Spansets(Source),
    /// The aggregate, its printed name, and what it is compared with.
    ScalarFilter(Aggregate, Option<Node>, Arc<str>, CompareOp, Value<'static>),
    By(Node, Arc<str>),
    Coalesce,
    Select,
    /// Parses, but does not run.
    Unsupported(Arc<str>),
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Filter(Node),
    Combined(SpansetOp, Box<Source>, Box<Source>),
    Group(Vec<Step>),
}

/// A pipeline ready to run, and what it wants from storage.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Fields that it looks at or selects, each once, in order of appearance.
    pub(crate) fields: Vec<Field>,
    /// What a span of every matching trace shows. `None`: nothing known. Empty: no trace matches.
    pub(crate) any_of: Option<Vec<Vec<Condition>>>,
    /// The only traces that can match, if their ids are asked for (rising).
    pub(crate) trace_ids: Option<Vec<TraceId>>,
    /// What is seen of fields with several values.
    pub(crate) seen: Seen,
}

impl Plan {
    pub(crate) fn of(pipeline: &Pipeline) -> Plan {
        let steps: Vec<Step> = pipeline.stages.iter().map(step).collect();
        let mut fields = Vec::new();
        fields_of_pipeline(pipeline, &mut fields);
        let any_of = conditions_of_steps(&steps);
        let trace_ids = ids_of_steps(&steps);
        let mut selected = Vec::new();
        for stage in &pipeline.stages {
            if let Stage::Select(fields) = stage {
                selected.extend(fields.iter().cloned());
            }
        }
        let seen = Seen::of(&steps, &selected);
        Plan {
            steps,
            fields,
            any_of,
            trace_ids,
            seen,
        }
    }

    /// Wants another field of each span.
    pub(crate) fn also(&mut self, field: &Field) {
        add_field(field, &mut self.fields);
        self.seen.whole(field);
    }

    /// Whether positions in the tree are looked at.
    pub(crate) fn needs_tree(&self) -> bool {
        let field = self.fields.iter().any(|field| {
            matches!(
                field,
                Field::Intrinsic(
                    Intrinsic::NestedSetLeft
                        | Intrinsic::NestedSetRight
                        | Intrinsic::NestedSetParent
                        | Intrinsic::ChildCount
                )
            )
        });
        field || self.steps.iter().any(step_needs_tree)
    }

    /// `None`: no trace can match.
    pub(crate) fn request(&self) -> Option<ScanRequest> {
        request(&self.fields, self.any_of.clone())
    }
}

/// What is asked of storage to see these fields of traces that may match.
pub(crate) fn request(fields: &[Field], any_of: Option<Vec<Vec<Condition>>>) -> Option<ScanRequest> {
    if any_of.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    let wants = |scope: Scope, intrinsics: &[Intrinsic]| {
        fields.iter().any(|field| match field {
            Field::Intrinsic(intrinsic) => intrinsics.contains(intrinsic),
            Field::Attribute { scope: s, .. } => *s == scope,
        })
    };
    let attributes = fields.iter().filter_map(|field| match field {
        Field::Attribute {
            parent: false,
            scope,
            name,
        } => Some((stored_scope(*scope), name.clone())),
        _ => None,
    });
    Some(ScanRequest {
        any_of: any_of.unwrap_or_default(),
        attributes: Projection::Only(attributes.collect()),
        events: wants(Scope::Event, &[Intrinsic::EventName, Intrinsic::EventTimeSinceStart]),
        links: wants(Scope::Link, &[Intrinsic::LinkTraceId, Intrinsic::LinkSpanId]),
        lean: !wants(
            Scope::Instrumentation,
            &[
                Intrinsic::StatusMessage,
                Intrinsic::InstrumentationName,
                Intrinsic::InstrumentationVersion,
            ],
        ),
    })
}

pub(crate) fn stored_scope(scope: Scope) -> AttributeScope {
    match scope {
        Scope::None => AttributeScope::Any,
        Scope::Span => AttributeScope::Span,
        Scope::Resource => AttributeScope::Resource,
        Scope::Event => AttributeScope::Event,
        Scope::Link => AttributeScope::Link,
        Scope::Instrumentation => AttributeScope::Instrumentation,
    }
}

fn step(stage: &Stage) -> Step {
    match stage {
        Stage::Spansets(spansets) => Step::Spansets(source(spansets)),
        Stage::By(expr) => Step::By(node(expr), format!("by({})", Spelled(expr)).into()),
        Stage::Coalesce => Step::Coalesce,
        Stage::Select(_) => Step::Select,
        Stage::ScalarFilter(op, left, right) => {
            let simple = |aggregate: &Scalar, op: CompareOp, other: &Scalar| match aggregate {
                Scalar::Aggregate(kind, expr) => Some(Step::ScalarFilter(
                    *kind,
                    expr.as_ref().map(node),
                    match expr {
                        Some(expr) => format!("{}({})", kind.as_str(), Spelled(expr)).into(),
                        None => aggregate.to_string().into(),
                    },
                    op,
                    constant(other)?,
                )),
                _ => None,
            };
            simple(left, *op, right)
                .or_else(|| simple(right, op.swapped(), left))
                .unwrap_or_else(|| Step::Unsupported(stage.to_string().into()))
        }
    }
}

fn source(spansets: &Spansets) -> Source {
    match spansets {
        Spansets::Filter(expr) => Source::Filter(node(expr)),
        Spansets::Group(pipeline) => Source::Group(pipeline.stages.iter().map(step).collect()),
        Spansets::Combined(op, left, right) => Source::Combined(*op, Box::new(source(left)), Box::new(source(right))),
    }
}

fn step_needs_tree(step: &Step) -> bool {
    matches!(step, Step::Spansets(source) if source_needs_tree(source))
}

fn source_needs_tree(source: &Source) -> bool {
    match source {
        Source::Filter(_) => false,
        Source::Group(steps) => steps.iter().any(step_needs_tree),
        Source::Combined(SpansetOp::Related(..), ..) => true,
        Source::Combined(_, left, right) => source_needs_tree(left) || source_needs_tree(right),
    }
}

/// A pattern as the language means it: anchored at both ends.
pub(crate) fn pattern(text: &str) -> Result<Regex, BadMatcher> {
    RegexBudget::of(PATTERN_BYTES_MAX).compile(text, RegexUse::Whole)
}

/// The value of a scalar without aggregates; `None` if there is one or it cannot be calculated.
pub(crate) fn constant(scalar: &Scalar) -> Option<Value<'static>> {
    match scalar {
        Scalar::Number(literal) => Some(Value::literal(literal)),
        Scalar::Aggregate(..) | Scalar::Piped(..) => None,
        Scalar::Arithmetic(op, left, right) => calculate(*op, &constant(left)?, &constant(right)?).ok(),
    }
}

pub(crate) fn node(expr: &Expr) -> Node {
    let made = match expr {
        Expr::Literal(literal) => return Node::Constant(Value::literal(literal)),
        Expr::Field(field) => return Node::Field(field.clone()),
        Expr::Neg(inner) => Node::Neg(Box::new(node(inner))),
        Expr::Not(inner) => Node::Not(Box::new(node(inner))),
        Expr::Binary(BinaryOp::And | BinaryOp::Or, ..) => logic(expr),
        Expr::Binary(op, left, right) => {
            let (l, r) = (Box::new(node(left)), Box::new(node(right)));
            match op {
                BinaryOp::Compare(op) => comparison(*op, *l, *r),
                BinaryOp::Arithmetic(op) => Node::Arithmetic(*op, l, r),
                BinaryOp::Matches | BinaryOp::MatchesNot => {
                    let regex = match &**right {
                        Expr::Literal(Literal::Str(text)) => pattern(text).ok(),
                        _ => None,
                    };
                    Node::Matches(l, regex, *op == BinaryOp::Matches)
                }
                BinaryOp::And | BinaryOp::Or => logic(expr),
            }
        }
    };
    folded(made)
}

/// A chain of `&&` and `||`, however long, without going deep.
fn logic(expr: &Expr) -> Node {
    let mut rest = Vec::new();
    let mut first = expr;
    while let Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), left, right) = first {
        rest.push((*op == BinaryOp::And, node(right)));
        first = left;
    }
    rest.reverse();
    Node::Logic(Box::new(node(first)), rest)
}

fn comparison(op: CompareOp, left: Node, right: Node) -> Node {
    let nil = |n: &Node| matches!(n, Node::Constant(Value::Nil));
    let exists = op == CompareOp::Ne;
    match (nil(&left), nil(&right), op) {
        (true, true, _) => Node::Constant(Value::Bool(false)),
        (true, _, CompareOp::Eq | CompareOp::Ne) => Node::Exists(Box::new(right), exists),
        (_, true, CompareOp::Eq | CompareOp::Ne) => Node::Exists(Box::new(left), exists),
        _ => {
            let (left, right) = padded(left, right);
            Node::Compare(op, Box::new(left), Box::new(right))
        }
    }
}

/// Ids are compared as text of fixed width, whatever zeros the literal has in front.
fn padded(left: Node, right: Node) -> (Node, Node) {
    let pad = |field: &Node, literal: Node| {
        let Node::Field(Field::Intrinsic(intrinsic)) = field else {
            return literal;
        };
        let width = match intrinsic {
            Intrinsic::TraceId | Intrinsic::LinkTraceId => 32,
            Intrinsic::SpanId | Intrinsic::ParentId | Intrinsic::LinkSpanId => 16,
            _ => return literal,
        };
        match literal {
            Node::Constant(Value::Str(text)) if !text.is_empty() => {
                let digits = text.trim_start_matches('0');
                Node::Constant(Value::Str(format!("{digits:0>width$}").into()))
            }
            other => other,
        }
    };
    let right = pad(&left, right);
    let left = pad(&right, left);
    (left, right)
}

/// What needs no span is calculated once.
fn folded(node: Node) -> Node {
    let constant = |n: &Node| matches!(n, Node::Constant(_));
    let all = match &node {
        Node::Constant(_) | Node::Field(_) => false,
        Node::Neg(inner) | Node::Not(inner) | Node::Exists(inner, _) | Node::Matches(inner, ..) => constant(inner),
        Node::Logic(first, rest) => constant(first) && rest.iter().all(|(_, n)| constant(n)),
        Node::Compare(_, l, r) | Node::Arithmetic(_, l, r) => constant(l) && constant(r),
    };
    if !all {
        return node;
    }
    match eval(&node, &NoSpans, 0) {
        Ok(value) => Node::Constant(value.into_owned()),
        Err(_) => node,
    }
}

fn add_field(field: &Field, out: &mut Vec<Field>) {
    if !out.contains(field) {
        out.push(field.clone());
    }
}

fn fields_of_pipeline(pipeline: &Pipeline, out: &mut Vec<Field>) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spansets(spansets) => fields_of_spansets(spansets, out),
            Stage::By(expr) => fields_of(expr, out),
            Stage::Select(fields) => fields.iter().for_each(|field| add_field(field, out)),
            Stage::ScalarFilter(_, left, right) => {
                fields_of_scalar(left, out);
                fields_of_scalar(right, out);
            }
            Stage::Coalesce => {}
        }
    }
}

fn fields_of_spansets(spansets: &Spansets, out: &mut Vec<Field>) {
    match spansets {
        Spansets::Filter(expr) => fields_of(expr, out),
        Spansets::Group(pipeline) => fields_of_pipeline(pipeline, out),
        Spansets::Combined(_, left, right) => {
            fields_of_spansets(left, out);
            fields_of_spansets(right, out);
        }
    }
}

fn fields_of_scalar(scalar: &Scalar, out: &mut Vec<Field>) {
    match scalar {
        Scalar::Number(_) | Scalar::Aggregate(_, None) => {}
        Scalar::Aggregate(_, Some(expr)) => fields_of(expr, out),
        Scalar::Piped(pipeline, scalar) => {
            fields_of_pipeline(pipeline, out);
            fields_of_scalar(scalar, out);
        }
        Scalar::Arithmetic(_, left, right) => {
            fields_of_scalar(left, out);
            fields_of_scalar(right, out);
        }
    }
}

pub(crate) fn fields_of(expr: &Expr, out: &mut Vec<Field>) {
    match expr {
        Expr::Literal(_) => {}
        Expr::Field(field) => add_field(field, out),
        Expr::Neg(inner) | Expr::Not(inner) => fields_of(inner, out),
        Expr::Binary(_, left, right) => {
            fields_of(left, out);
            fields_of(right, out);
        }
    }
}

/// The fields of a metrics function itself.
pub(crate) fn fields_of_function(function: &Function) -> Vec<Field> {
    let mut out = Vec::new();
    match function {
        Function::Rate | Function::CountOverTime => {}
        Function::OverTime(_, field) | Function::Quantile(field, _) | Function::Histogram(field) => {
            out.push(field.clone());
        }
        Function::Compare { selection, .. } => fields_of(selection, &mut out),
    }
    out
}

type Ids = Option<Vec<TraceId>>;

/// Every stage must leave a span, so its trace is among those of each.
fn ids_of_steps(steps: &[Step]) -> Ids {
    steps.iter().fold(None, |ids, step| match step {
        Step::Spansets(source) => common(ids, ids_of_source(source)),
        _ => ids,
    })
}

fn ids_of_source(source: &Source) -> Ids {
    match source {
        Source::Filter(node) => ids_of_node(node),
        Source::Group(steps) => ids_of_steps(steps),
        Source::Combined(SpansetOp::Or, left, right) => all_ids(ids_of_source(left), ids_of_source(right)),
        Source::Combined(SpansetOp::Related(_, Kept::RightWithout), _, right) => ids_of_source(right),
        Source::Combined(_, left, right) => common(ids_of_source(left), ids_of_source(right)),
    }
}

fn ids_of_node(node: &Node) -> Ids {
    let is_id = |node: &Node| matches!(node, Node::Field(Field::Intrinsic(Intrinsic::TraceId)));
    match node {
        Node::Logic(first, rest) => rest.iter().fold(ids_of_node(first), |ids, (and, node)| match and {
            true => common(ids, ids_of_node(node)),
            false => all_ids(ids, ids_of_node(node)),
        }),
        Node::Compare(CompareOp::Eq, left, right) => match (&**left, &**right) {
            (id, Node::Constant(Value::Str(text))) | (Node::Constant(Value::Str(text)), id) if is_id(id) => {
                // What is no id, or spelled otherwise than ids are, is the id of no trace.
                let id = text.parse::<TraceId>().ok().filter(|id| id.to_string() == **text);
                Some(id.into_iter().collect())
            }
            _ => None,
        },
        _ => None,
    }
}

fn common(a: Ids, b: Ids) -> Ids {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.retain(|id| b.contains(id));
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

fn all_ids(a: Ids, b: Ids) -> Ids {
    let (mut a, b) = (a?, b?);
    a.extend(b);
    a.sort_unstable();
    a.dedup();
    Some(a)
}

type Alternatives = Option<Vec<Vec<Condition>>>;

/// Every stage must leave a span, so the one that says most is taken.
fn conditions_of_steps(steps: &[Step]) -> Alternatives {
    steps.iter().fold(None, |best, step| match step {
        Step::Spansets(source) => narrower(best, conditions_of_source(source)),
        _ => best,
    })
}

fn conditions_of_source(source: &Source) -> Alternatives {
    match source {
        Source::Filter(node) => conditions(node),
        Source::Group(steps) => conditions_of_steps(steps),
        Source::Combined(op, left, right) => match op {
            SpansetOp::Or => either(conditions_of_source(left), conditions_of_source(right)),
            SpansetOp::Related(_, Kept::RightWithout) => conditions_of_source(right),
            SpansetOp::And | SpansetOp::Related(..) => {
                narrower(conditions_of_source(left), conditions_of_source(right))
            }
        },
    }
}

fn either(a: Alternatives, b: Alternatives) -> Alternatives {
    let (mut a, b) = (a?, b?);
    a.extend(b);
    (a.len() <= ALTERNATIVES_MAX).then_some(a)
}

/// One of two necessary conditions: the one that lets less through, by a guess.
fn narrower(a: Alternatives, b: Alternatives) -> Alternatives {
    let (Some(a), Some(b)) = (&a, &b) else { return a.or(b) };
    let weight = |c: &Condition| match &c.test {
        Test::In(_) => 4,
        Test::Matches(_) => 3,
        Test::AtLeast(_) | Test::AtMost(_) => 2,
        Test::Exists => 1,
    };
    // As selective as its weakest alternative.
    let score = |all: &Vec<Vec<Condition>>| {
        let sums = all.iter().map(|one| one.iter().map(weight).sum::<u32>());
        sums.min().unwrap_or(u32::MAX)
    };
    Some(if score(a) >= score(b) { a.clone() } else { b.clone() })
}

/// Conditions that one span shows together.
fn both(a: Alternatives, b: Alternatives) -> Alternatives {
    let (Some(left), Some(right)) = (&a, &b) else {
        return a.or(b);
    };
    if left.len() * right.len() > ALTERNATIVES_MAX {
        return narrower(a, b);
    }
    let mut out = Vec::with_capacity(left.len() * right.len());
    for l in left {
        for r in right {
            let mut all = l.clone();
            all.extend(r.iter().filter(|c| !l.contains(c)).cloned());
            out.push(all);
        }
    }
    Some(out)
}

/// What a span shows for which an expression is true.
pub(crate) fn conditions(node: &Node) -> Alternatives {
    match node {
        Node::Constant(Value::Bool(true)) => None,
        Node::Constant(_) => Some(Vec::new()),
        Node::Field(field) => one(stored(field)?, Test::In(vec![AttributeValue::Bool(true)])),
        Node::Logic(first, rest) => rest.iter().fold(conditions(first), |left, (and, right)| {
            let right = conditions(right);
            if *and { both(left, right) } else { either(left, right) }
        }),
        Node::Exists(inner, true) => match &**inner {
            Node::Field(field) => one(stored(field)?, Test::Exists),
            _ => None,
        },
        Node::Compare(op, left, right) => match (&**left, &**right) {
            (Node::Field(field), Node::Constant(value)) => compared(field, *op, value),
            (Node::Constant(value), Node::Field(field)) => compared(field, op.swapped(), value),
            (Node::Field(a), Node::Field(b)) => {
                let exists = |field| stored(field).and_then(|f| one(f, Test::Exists));
                both(exists(a), exists(b))
            }
            _ => None,
        },
        Node::Matches(inner, regex, wanted) => match &**inner {
            Node::Field(field) => {
                let stored = stored(field)?;
                match (regex, wanted) {
                    (Some(regex), true) => one(stored, Test::Matches(regex.as_str().to_owned())),
                    _ => one(stored, Test::Exists),
                }
            }
            _ => None,
        },
        Node::Exists(_, false) | Node::Not(_) | Node::Neg(_) | Node::Arithmetic(..) => None,
    }
}

fn one(field: StoredField, test: Test) -> Alternatives {
    // Spans always have these.
    if test == Test::Exists && !matches!(field, StoredField::Attribute(..)) {
        return None;
    }
    Some(vec![vec![Condition { field, test }]])
}

/// The fields that an expression looks at.
pub(crate) fn fields_of_node(node: &Node, out: &mut Vec<Field>) {
    match node {
        Node::Constant(_) => {}
        Node::Field(field) => add_field(field, out),
        Node::Neg(inner) | Node::Not(inner) | Node::Exists(inner, _) | Node::Matches(inner, ..) => {
            fields_of_node(inner, out);
        }
        Node::Logic(first, rest) => {
            fields_of_node(first, out);
            rest.iter().for_each(|(_, node)| fields_of_node(node, out));
        }
        Node::Compare(_, left, right) | Node::Arithmetic(_, left, right) => {
            fields_of_node(left, out);
            fields_of_node(right, out);
        }
    }
}

/// The stored counterpart of a field, if storage can test it.
pub(crate) fn stored(field: &Field) -> Option<StoredField> {
    match field {
        Field::Intrinsic(Intrinsic::Name) => Some(StoredField::Name),
        Field::Intrinsic(Intrinsic::Status) => Some(StoredField::Status),
        Field::Intrinsic(Intrinsic::Kind) => Some(StoredField::Kind),
        Field::Intrinsic(Intrinsic::Duration) => Some(StoredField::Duration),
        Field::Intrinsic(Intrinsic::SpanId) => Some(StoredField::SpanId),
        Field::Attribute {
            parent: false,
            scope,
            name,
        } => Some(StoredField::Attribute(stored_scope(*scope), name.clone())),
        _ => None,
    }
}

fn compared(field: &Field, op: CompareOp, value: &Value<'_>) -> Alternatives {
    let field = stored(field)?;
    let number = value.as_number();
    let stored_value = match value {
        Value::Str(s) => Some(s.as_ref().into()),
        Value::Bool(b) => Some(AttributeValue::Bool(*b)),
        Value::Int(i) | Value::Duration(i) => Some(AttributeValue::Int(*i)),
        Value::Float(d) => Some(AttributeValue::Double(*d)),
        Value::Status(status) => Some(AttributeValue::Int(*status as i64)),
        Value::Kind(kind) => Some(AttributeValue::Int(*kind as i64)),
        Value::Nil | Value::List(_) | Value::Opaque => None,
    };
    // A status or kind is a number in storage, but an attribute never holds one.
    if matches!(value, Value::Status(_) | Value::Kind(_)) != matches!(field, StoredField::Status | StoredField::Kind) {
        return None;
    }
    let test = match (op, number, stored_value) {
        (CompareOp::Eq, _, Some(value)) => Test::In(vec![value]),
        (CompareOp::Lt | CompareOp::Le, Some(n), _) => Test::AtMost(n),
        (CompareOp::Gt | CompareOp::Ge, Some(n), _) => Test::AtLeast(n),
        _ => Test::Exists,
    };
    one(field, test)
}
