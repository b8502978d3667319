//! The syntax tree, and its canonical text (`Display`), which parses to the same tree again.

use std::fmt::{self, Display, Formatter};

use model::{Matcher, Regex};
use query_exec::{BinaryOp, Cardinality, Grouping, Matching};

use crate::units::{print_bytes, print_duration, print_go_duration, print_number, quote};

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Log(LogExpr),
    Metric(MetricExpr),
}

/// A stream selector and its stages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogExpr {
    pub matchers: Vec<Matcher>,
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    LineFilter(LineFilter),
    /// Without extractions: all fields.
    Json(Vec<Extraction>),
    Logfmt {
        strict: bool,
        keep_empty: bool,
        extractions: Vec<Extraction>,
    },
    Regexp(String),
    Pattern(String),
    Unpack,
    LabelFilter(LabelFilter),
    LineFormat(String),
    LabelFormat(Vec<LabelFormat>),
    Decolorize,
    Drop(Vec<Pick>),
    Keep(Vec<Pick>),
}

/// `|= "a" or ip("b")`. A negative chain is kept as one filter per operand, for that is what it means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LineFilter {
    pub op: LineOp,
    /// Any of them; never empty.
    pub values: Vec<LineValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineOp {
    Contains,
    NotContains,
    Regex,
    NotRegex,
    Pattern,
    NotPattern,
}

impl LineOp {
    pub fn as_str(self) -> &'static str {
        match self {
            LineOp::Contains => "|=",
            LineOp::NotContains => "!=",
            LineOp::Regex => "|~",
            LineOp::NotRegex => "!~",
            LineOp::Pattern => "|>",
            LineOp::NotPattern => "!>",
        }
    }

    pub fn is_negative(self) -> bool {
        matches!(self, LineOp::NotContains | LineOp::NotRegex | LineOp::NotPattern)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LineValue {
    Text(String),
    Ip(String),
}

/// `name="path"` of `json` and `logfmt`; a bare name is its own path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extraction {
    pub name: String,
    pub path: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LabelFilter {
    Text(Matcher),
    Number {
        name: String,
        op: Compare,
        value: f64,
    },
    /// In nanoseconds.
    Duration {
        name: String,
        op: Compare,
        value: i64,
    },
    Bytes {
        name: String,
        op: Compare,
        value: u64,
    },
    Ip {
        name: String,
        negated: bool,
        pattern: String,
    },
    /// All, from the left; every one is looked at.
    And(Vec<LabelFilter>),
    /// Any, from the left; stops at the first.
    Or(Vec<LabelFilter>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Compare {
    pub fn as_str(self) -> &'static str {
        match self {
            Compare::Equal => "==",
            Compare::NotEqual => "!=",
            Compare::Greater => ">",
            Compare::GreaterOrEqual => ">=",
            Compare::Less => "<",
            Compare::LessOrEqual => "<=",
        }
    }

    pub fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Compare::Equal => left == right,
            Compare::NotEqual => left != right,
            Compare::Greater => left > right,
            Compare::GreaterOrEqual => left >= right,
            Compare::Less => left < right,
            Compare::LessOrEqual => left <= right,
        }
    }
}

/// One item of `label_format`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LabelFormat {
    pub name: String,
    pub from: FormatFrom,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FormatFrom {
    /// Renames this label.
    Label(String),
    Template(String),
}

/// One item of `drop` and `keep`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pick {
    Name(String),
    Matching(Matcher),
}

impl Pick {
    pub fn name(&self) -> &str {
        match self {
            Pick::Name(name) => name,
            Pick::Matching(matcher) => matcher.name(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MetricExpr {
    Range(RangeAggregation),
    Vector(VectorAggregation),
    Binary(Box<Binary>),
    Literal(f64),
    VectorOf(f64),
    LabelReplace(Box<LabelReplace>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RangeAggregation {
    pub op: RangeOp,
    /// φ of `quantile_over_time`.
    pub parameter: Option<f64>,
    pub log: LogExpr,
    pub unwrap: Option<Unwrap>,
    pub range_ns: i64,
    pub offset_ns: i64,
    pub grouping: Option<Grouping>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unwrap {
    pub label: String,
    pub conversion: Conversion,
    pub filters: Vec<LabelFilter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conversion {
    Float,
    Bytes,
    Duration,
    DurationSeconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeOp {
    Rate,
    RateCounter,
    Count,
    BytesRate,
    Bytes,
    Avg,
    Sum,
    Min,
    Max,
    Stdvar,
    Stddev,
    Quantile,
    First,
    Last,
    Absent,
}

impl RangeOp {
    pub fn as_str(self) -> &'static str {
        match self {
            RangeOp::Rate => "rate",
            RangeOp::RateCounter => "rate_counter",
            RangeOp::Count => "count_over_time",
            RangeOp::BytesRate => "bytes_rate",
            RangeOp::Bytes => "bytes_over_time",
            RangeOp::Avg => "avg_over_time",
            RangeOp::Sum => "sum_over_time",
            RangeOp::Min => "min_over_time",
            RangeOp::Max => "max_over_time",
            RangeOp::Stdvar => "stdvar_over_time",
            RangeOp::Stddev => "stddev_over_time",
            RangeOp::Quantile => "quantile_over_time",
            RangeOp::First => "first_over_time",
            RangeOp::Last => "last_over_time",
            RangeOp::Absent => "absent_over_time",
        }
    }

    pub fn from_str(name: &str) -> Option<RangeOp> {
        use RangeOp::*;
        [
            Rate,
            RateCounter,
            Count,
            BytesRate,
            Bytes,
            Avg,
            Sum,
            Min,
            Max,
            Stdvar,
            Stddev,
            Quantile,
            First,
            Last,
            Absent,
        ]
        .into_iter()
        .find(|op| op.as_str() == name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VectorAggregation {
    pub op: VectorOp,
    /// k of `topk` and `bottomk`.
    pub parameter: Option<u32>,
    pub inner: Box<MetricExpr>,
    pub grouping: Option<Grouping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VectorOp {
    Sum,
    Avg,
    Max,
    Min,
    Count,
    Stddev,
    Stdvar,
    BottomK,
    TopK,
    ApproxTopK,
    Sort,
    SortDesc,
}

impl VectorOp {
    pub fn as_str(self) -> &'static str {
        match self {
            VectorOp::Sum => "sum",
            VectorOp::Avg => "avg",
            VectorOp::Max => "max",
            VectorOp::Min => "min",
            VectorOp::Count => "count",
            VectorOp::Stddev => "stddev",
            VectorOp::Stdvar => "stdvar",
            VectorOp::BottomK => "bottomk",
            VectorOp::TopK => "topk",
            VectorOp::ApproxTopK => "approx_topk",
            VectorOp::Sort => "sort",
            VectorOp::SortDesc => "sort_desc",
        }
    }

    pub fn from_str(name: &str) -> Option<VectorOp> {
        use VectorOp::*;
        [
            Sum, Avg, Max, Min, Count, Stddev, Stdvar, BottomK, TopK, ApproxTopK, Sort, SortDesc,
        ]
        .into_iter()
        .find(|op| op.as_str() == name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Binary {
    pub op: BinaryOp,
    pub return_bool: bool,
    pub matching: Option<Matching>,
    pub left: MetricExpr,
    pub right: MetricExpr,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LabelReplace {
    pub inner: MetricExpr,
    pub dst: String,
    pub replacement: String,
    pub src: String,
    pub regex: Regex,
}

pub(crate) fn binary_str(op: BinaryOp) -> &'static str {
    op.as_str()
}

impl Expr {
    /// The node's name in error texts of binary operators.
    pub fn go_type(&self) -> &'static str {
        match self {
            Expr::Log(log) if log.stages.is_empty() => "*syntax.MatchersExpr",
            Expr::Log(_) => "*syntax.PipelineExpr",
            Expr::Metric(_) => "syntax.SampleExpr",
        }
    }
}

impl MetricExpr {
    /// Calls `visit` with each range aggregation, from the left.
    pub fn for_each_range<'a>(&'a self, visit: &mut impl FnMut(&'a RangeAggregation)) {
        match self {
            MetricExpr::Range(range) => visit(range),
            MetricExpr::Vector(vector) => vector.inner.for_each_range(visit),
            MetricExpr::Binary(binary) => {
                binary.left.for_each_range(visit);
                binary.right.for_each_range(visit);
            }
            MetricExpr::Literal(_) | MetricExpr::VectorOf(_) => {}
            MetricExpr::LabelReplace(replace) => replace.inner.for_each_range(visit),
        }
    }

    /// Whether `sort` or `sort_desc` stands anywhere.
    pub fn sorts(&self) -> bool {
        match self {
            MetricExpr::Range(_) | MetricExpr::Literal(_) | MetricExpr::VectorOf(_) => false,
            MetricExpr::Vector(v) => matches!(v.op, VectorOp::Sort | VectorOp::SortDesc) || v.inner.sorts(),
            MetricExpr::Binary(b) => b.left.sorts() || b.right.sorts(),
            MetricExpr::LabelReplace(r) => r.inner.sorts(),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Log(log) => log.fmt(f),
            Expr::Metric(metric) => metric.fmt(f),
        }
    }
}

/// `{a="b", c!="d"}`
pub(crate) fn fmt_matchers(matchers: &[Matcher], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("{")?;
    for (i, m) in matchers.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}{}", Pair(m))?;
    }
    f.write_str("}")
}

struct Pair<'a>(&'a Matcher);

impl Display for Pair<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Pair(m) = self;
        write!(f, "{}{}{}", m.name(), m.op().as_str(), quote(m.value()))
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt_matchers(&self.matchers, f)?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stage::LineFilter(filter) => filter.fmt(f),
            Stage::Json(extractions) => {
                f.write_str("| json")?;
                fmt_extractions(extractions, f)
            }
            Stage::Logfmt {
                strict,
                keep_empty,
                extractions,
            } => {
                f.write_str("| logfmt")?;
                f.write_str(if *strict { " --strict" } else { "" })?;
                f.write_str(if *keep_empty { " --keep-empty" } else { "" })?;
                fmt_extractions(extractions, f)
            }
            Stage::Regexp(pattern) => write!(f, "| regexp {}", quote(pattern)),
            Stage::Pattern(pattern) => write!(f, "| pattern {}", quote(pattern)),
            Stage::Unpack => f.write_str("| unpack"),
            Stage::LabelFilter(filter) => write!(f, "| {filter}"),
            Stage::LineFormat(template) => write!(f, "| line_format {}", quote(template)),
            Stage::LabelFormat(items) => {
                f.write_str("| label_format")?;
                for (i, item) in items.iter().enumerate() {
                    let comma = if i == 0 { " " } else { "," };
                    match &item.from {
                        FormatFrom::Label(from) => write!(f, "{comma}{}={from}", item.name)?,
                        FormatFrom::Template(t) => write!(f, "{comma}{}={}", item.name, quote(t))?,
                    }
                }
                Ok(())
            }
            Stage::Decolorize => f.write_str("| decolorize"),
            Stage::Drop(picks) => fmt_picks("drop", picks, f),
            Stage::Keep(picks) => fmt_picks("keep", picks, f),
        }
    }
}

fn fmt_extractions(extractions: &[Extraction], f: &mut Formatter<'_>) -> fmt::Result {
    for (i, e) in extractions.iter().enumerate() {
        let comma = if i == 0 { " " } else { "," };
        write!(f, "{comma}{}={}", e.name, quote(&e.path))?;
    }
    Ok(())
}

fn fmt_picks(keyword: &str, picks: &[Pick], f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "| {keyword}")?;
    for (i, pick) in picks.iter().enumerate() {
        let comma = if i == 0 { " " } else { "," };
        match pick {
            Pick::Name(name) => write!(f, "{comma}{name}")?,
            Pick::Matching(m) => write!(f, "{comma}{}", Pair(m))?,
        }
    }
    Ok(())
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        for (i, value) in self.values.iter().enumerate() {
            f.write_str(if i == 0 { " " } else { " or " })?;
            match value {
                LineValue::Text(text) => f.write_str(&quote(text))?,
                LineValue::Ip(pattern) => write!(f, "ip({})", quote(pattern))?,
            }
        }
        Ok(())
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LabelFilter::Text(m) => Pair(m).fmt(f),
            LabelFilter::Number { name, op, value } => write!(f, "{name}{}{value}", op.as_str()),
            LabelFilter::Duration { name, op, value } => {
                write!(f, "{name}{}{}", op.as_str(), print_go_duration(*value))
            }
            LabelFilter::Bytes { name, op, value } => write!(f, "{name}{}{}", op.as_str(), print_bytes(*value)),
            LabelFilter::Ip { name, negated, pattern } => {
                write!(f, "{name}{}ip({})", if *negated { "!=" } else { "=" }, quote(pattern))
            }
            LabelFilter::And(all) => fmt_chain(all, " , ", f),
            LabelFilter::Or(any) => fmt_chain(any, " or ", f),
        }
    }
}

/// As a tree that leans left: `( ( a , b ) , c )`.
fn fmt_chain(filters: &[LabelFilter], joint: &str, f: &mut Formatter<'_>) -> fmt::Result {
    for _ in 1..filters.len() {
        f.write_str("( ")?;
    }
    for (i, filter) in filters.iter().enumerate() {
        if i > 0 {
            write!(f, "{joint}{filter} )")?;
        } else {
            filter.fmt(f)?;
        }
    }
    Ok(())
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let label = &self.label;
        match self.conversion {
            Conversion::Float => write!(f, "| unwrap {label}")?,
            Conversion::Bytes => write!(f, "| unwrap bytes({label})")?,
            Conversion::Duration => write!(f, "| unwrap duration({label})")?,
            Conversion::DurationSeconds => write!(f, "| unwrap duration_seconds({label})")?,
        }
        for filter in &self.filters {
            write!(f, " | {filter}")?;
        }
        Ok(())
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MetricExpr::Range(range) => range.fmt(f),
            MetricExpr::Vector(vector) => {
                f.write_str(vector.op.as_str())?;
                if let Some(grouping) = &vector.grouping {
                    fmt_grouping(grouping, f)?;
                }
                match vector.parameter {
                    Some(k) => write!(f, "({k},{})", vector.inner),
                    None => write!(f, "({})", vector.inner),
                }
            }
            MetricExpr::Binary(b) => {
                write!(f, "({} {}", b.left, binary_str(b.op))?;
                if b.return_bool {
                    f.write_str(" bool")?;
                }
                if let Some(m) = &b.matching {
                    let word = if m.on { "on" } else { "ignoring" };
                    write!(f, " {word} ({}) {}", m.labels.join(","), side(m, ","))?;
                }
                write!(f, " {})", b.right)
            }
            MetricExpr::Literal(v) => f.write_str(&print_number(*v)),
            MetricExpr::VectorOf(v) => {
                let fixed = format!("{v:.6}");
                match fixed.parse() == Ok(*v) {
                    true => write!(f, "vector({fixed})"),
                    false => write!(f, "vector({v})"),
                }
            }
            MetricExpr::LabelReplace(r) => write!(
                f,
                "label_replace({},{},{},{},{})",
                r.inner,
                quote(&r.dst),
                quote(&r.replacement),
                quote(&r.src),
                quote(r.regex.as_str())
            ),
        }
    }
}

/// Which side of a match has many, and what it takes over; nothing if neither has.
pub(crate) fn side(matching: &Matching, comma: &str) -> String {
    let word = match matching.cardinality {
        Cardinality::ManyToOne => "group_left",
        Cardinality::OneToMany => "group_right",
        Cardinality::OneToOne | Cardinality::ManyToMany => return String::new(),
    };
    match matching.include.is_empty() {
        true => word.to_owned(),
        false => format!("{word} ({})", matching.include.join(comma)),
    }
}

fn fmt_grouping(grouping: &Grouping, f: &mut Formatter<'_>) -> fmt::Result {
    match grouping {
        Grouping::By(names) => write!(f, " by ({})", names.join(",")),
        Grouping::Without(names) => write!(f, " without ({})", names.join(",")),
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(phi) = self.parameter {
            write!(f, "{phi},")?;
        }
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "[{}]", print_duration(self.range_ns))?;
        if self.offset_ns != 0 {
            write!(f, " offset {}", print_go_duration(self.offset_ns))?;
        }
        f.write_str(")")?;
        if let Some(grouping) = &self.grouping {
            fmt_grouping(grouping, f)?;
        }
        Ok(())
    }
}
