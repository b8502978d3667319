//! A checked query, ready to run: compiled pipelines, what each range aggregation groups by, and the needles that let
//! storage skip chunks.

use model::{LabelSet, MatchOp, Matcher, Regex};
use query_exec::{BinaryOp, Grouping, Matching};
use storage_logs::Needles;

use crate::ParseError;
use crate::pipeline::Pipeline;
use crate::regexp::Regexes;
use crate::stage::line_filter;
use crate::syntax::{Expr, LabelFilter, LogExpr, MetricExpr, RangeAggregation, RangeOp, Stage, VectorOp, rule};

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Log(Box<LogPlan>),
    Metric(MetricPlan),
}

/// Lines of some streams through a pipeline.
#[derive(Clone, Debug)]
pub(crate) struct LogPlan {
    pub matchers: Vec<Matcher>,
    pub pipeline: Pipeline,
    pub needles: Needles,
    /// Metadata that entries carry where their stream's labels do not have the name (else the filter means the label).
    unless_labelled: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) enum MetricPlan {
    Range(Box<RangePlan>),
    Vector {
        op: VectorOp,
        parameter: Option<u32>,
        grouping: Grouping,
        inner: Box<MetricPlan>,
    },
    Binary {
        op: BinaryOp,
        return_bool: bool,
        matching: Matching,
        left: Box<MetricPlan>,
        right: Box<MetricPlan>,
    },
    Literal(f64),
    VectorOf(f64),
    LabelReplace {
        inner: Box<MetricPlan>,
        dst: String,
        replacement: String,
        src: String,
        regex: Regex,
    },
}

/// A range aggregation.
#[derive(Clone, Debug)]
pub(crate) struct RangePlan {
    pub op: RangeOp,
    /// φ of `quantile_over_time`.
    pub parameter: f64,
    pub log: LogPlan,
    pub unwraps: bool,
    pub range_ns: i64,
    pub offset_ns: i64,
    pub group: Group,
    /// The aggregation over it is done on the way.
    pub is_summed: bool,
    /// Names of the metadata that can matter; `None`: all may.
    pub metadata: Option<Vec<String>>,
}

/// Which labels make a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Group {
    All,
    By(Vec<String>),
    Without(Vec<String>),
}

impl Plan {
    /// Compiles a query.
    pub fn new(expr: &Expr, regexes: &Regexes) -> Result<Plan, ParseError> {
        Ok(match expr {
            Expr::Log(log) => Plan::Log(Box::new(LogPlan::new(
                log,
                Pipeline::new(log, None, regexes)?,
                regexes,
            )?)),
            Expr::Metric(metric) => Plan::Metric(MetricPlan::new(metric, regexes)?),
        })
    }
}

impl LogPlan {
    fn new(log: &LogExpr, pipeline: Pipeline, regexes: &Regexes) -> Result<LogPlan, ParseError> {
        let (needles, unless_labelled) = needles(&log.stages, regexes).map_err(rule)?;
        Ok(LogPlan {
            matchers: log.matchers.clone(),
            pipeline,
            needles,
            unless_labelled,
        })
    }

    /// The needles, given the labels of every stream that may be asked: a filter on metadata is one only where no stream
    /// carries its name as a label.
    pub fn needles(&self, streams: impl FnOnce() -> Option<Vec<LabelSet>>) -> Needles {
        let mut needles = self.needles.clone();
        if self.unless_labelled.is_empty() {
            return needles;
        }
        if let Some(streams) = streams() {
            needles.metadata.extend(
                self.unless_labelled
                    .iter()
                    .filter(|(name, _)| !streams.iter().any(|labels| labels.get(name).is_some()))
                    .cloned(),
            );
        }
        needles
    }
}

impl MetricPlan {
    fn new(expr: &MetricExpr, regexes: &Regexes) -> Result<MetricPlan, ParseError> {
        Ok(match expr {
            MetricExpr::Range(range) => MetricPlan::Range(Box::new(RangePlan::new(range, None, regexes)?)),
            MetricExpr::Vector(vector) => {
                let grouping = vector.grouping.clone().unwrap_or(Grouping::By(Vec::new()));
                if let (VectorOp::Sum, MetricExpr::Range(range)) = (vector.op, &*vector.inner)
                    && adds_up(range)
                {
                    return Ok(MetricPlan::Range(Box::new(RangePlan::new(
                        range,
                        Some(&grouping),
                        regexes,
                    )?)));
                }
                MetricPlan::Vector {
                    op: vector.op,
                    parameter: vector.parameter,
                    grouping,
                    inner: Box::new(MetricPlan::new(&vector.inner, regexes)?),
                }
            }
            MetricExpr::Binary(binary) => MetricPlan::Binary {
                op: binary.op,
                return_bool: binary.return_bool,
                matching: binary.matching.clone().unwrap_or_default(),
                left: Box::new(MetricPlan::new(&binary.left, regexes)?),
                right: Box::new(MetricPlan::new(&binary.right, regexes)?),
            },
            MetricExpr::Literal(v) => MetricPlan::Literal(*v),
            MetricExpr::VectorOf(v) => MetricPlan::VectorOf(*v),
            MetricExpr::LabelReplace(replace) => MetricPlan::LabelReplace {
                inner: Box::new(MetricPlan::new(&replace.inner, regexes)?),
                dst: replace.dst.clone(),
                replacement: replace.replacement.clone(),
                src: replace.src.clone(),
                regex: replace.regex.clone(),
            },
        })
    }
}

/// Whether the sum over series is the same aggregation over all their entries, so that `sum` can be done on the way.
fn adds_up(range: &RangeAggregation) -> bool {
    range.grouping.is_none()
        && matches!(
            range.op,
            RangeOp::Count | RangeOp::Rate | RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Sum
        )
}

impl RangePlan {
    fn new(range: &RangeAggregation, outer: Option<&Grouping>, regexes: &Regexes) -> Result<RangePlan, ParseError> {
        let log = &without_idle_formats(range);
        let mut pipeline = Pipeline::new(log, range.unwrap.as_ref(), regexes)?;
        let group = match outer.or(range.grouping.as_ref()) {
            _ if range.op == RangeOp::Absent => Group::By(Vec::new()),
            Some(Grouping::By(names)) => Group::By(names.clone()),
            Some(Grouping::Without(names)) => Group::Without(names.clone()),
            None => Group::All,
        };
        if let Group::By(names) = &group {
            pipeline.keep_only(names);
        }
        Ok(RangePlan {
            op: range.op,
            parameter: range.parameter.unwrap_or(0.0),
            unwraps: range.unwrap.is_some(),
            metadata: pipeline.metadata_names(),
            log: LogPlan::new(log, pipeline, regexes)?,
            range_ns: range.range_ns,
            offset_ns: range.offset_ns,
            group,
            is_summed: outer.is_some(),
        })
    }

    /// Labels of `absent_over_time`: what the equality matchers say, less names used twice.
    pub fn absent_labels(&self) -> LabelSet {
        let matchers = &self.log.matchers;
        LabelSet::from_pairs(
            matchers
                .iter()
                .filter(|m| m.op() == MatchOp::Equal && matchers.iter().filter(|n| n.name() == m.name()).count() == 1)
                .map(|m| (m.name(), m.value())),
        )
    }
}

/// The stages less the `line_format`s whose line nothing looks at.
fn without_idle_formats(range: &RangeAggregation) -> LogExpr {
    let mut log = range.log.clone();
    if matches!(range.op, RangeOp::Bytes | RangeOp::BytesRate) {
        return log;
    }
    let reads_line = |stage: &Stage| {
        matches!(
            stage,
            Stage::Json(_)
                | Stage::Logfmt { .. }
                | Stage::Regexp(_)
                | Stage::Pattern(_)
                | Stage::Unpack
                | Stage::LineFilter(_)
        )
    };
    let last = log.stages.iter().rposition(reads_line);
    let mut place = 0..;
    log.stages.retain(|stage| {
        let at = place.next();
        !matches!(stage, Stage::LineFormat(_)) || at < last
    });
    log
}

/// What must stand in the stored lines, and metadata that entries must carry unless a label has the name. Only stages
/// that see the line (and the labels) as stored count.
fn needles(stages: &[Stage], regexes: &Regexes) -> Result<(Needles, Vec<(String, String)>), String> {
    let mut needles = Needles::default();
    let mut metadata = Vec::new();
    let (mut line_is_stored, mut labels_are_stored) = (true, true);
    for stage in stages {
        match stage {
            Stage::LineFilter(filter) if line_is_stored => {
                line_filter::needles(filter, regexes, &mut needles.contains)?;
            }
            Stage::LabelFilter(filter) if labels_are_stored => metadata_needles(filter, &mut metadata),
            Stage::LineFilter(_) | Stage::LabelFilter(_) => {}
            Stage::Json(_) | Stage::Logfmt { .. } | Stage::Regexp(_) | Stage::Pattern(_) | Stage::LabelFormat(_) => {
                labels_are_stored = false;
            }
            Stage::Unpack => (line_is_stored, labels_are_stored) = (false, false),
            Stage::LineFormat(_) | Stage::Decolorize => line_is_stored = false,
            Stage::Drop(_) | Stage::Keep(_) => labels_are_stored = false,
        }
    }
    Ok((needles, metadata))
}

fn metadata_needles(filter: &LabelFilter, out: &mut Vec<(String, String)>) {
    match filter {
        LabelFilter::Text(m) if m.op() == MatchOp::Equal && !m.value().is_empty() && is_plain(m.name()) => {
            out.push((m.name().to_owned(), m.value().to_owned()));
        }
        LabelFilter::And(all) => all.iter().for_each(|f| metadata_needles(f, out)),
        _ => {}
    }
}

/// Errors are no metadata, and a suffixed name may be another's.
fn is_plain(name: &str) -> bool {
    !name.starts_with("__") && !name.ends_with("_extracted")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, contains: &[&str], metadata: &[(&str, &str)]) {
        let Ok(Expr::Log(log)) = crate::syntax::parse(query, &Regexes::default()) else {
            panic!("{query}");
        };
        let (needles, unless) = needles(&log.stages, &Regexes::default()).unwrap();
        assert_eq!(needles.contains, contains, "{query}");
        let unless: Vec<(&str, &str)> = unless.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(unless, metadata, "{query}");
    }

    #[test]
    fn needles_are_what_every_wanted_entry_holds() {
        check(r#"{a="b"} |= "x" != "y" |~ "foo.*ba""#, &["x", "foo"], &[]);
        check(r#"{a="b"} |= "x" or "y""#, &[], &[]);
        check(r#"{a="b"} |> "<_> foo <_>""#, &[" foo "], &[]);
        check(r#"{a="b"} | line_format "x" |= "x""#, &[], &[]);
        check(r#"{a="b"} | json |= "x""#, &["x"], &[]);
        check(r#"{a="b"} | trace_id="1" , x!="2""#, &[], &[("trace_id", "1")]);
        check(r#"{a="b"} | trace_id="1" or x="2""#, &[], &[]);
        check(r#"{a="b"} | json | trace_id="1""#, &[], &[]);
        check(r#"{a="b"} | drop trace_id | trace_id="1""#, &[], &[]);
    }
}
