//! The text of a query over several lines: what fits the width stays on one, the rest is broken at its commas, stages and
//! operators.

use std::fmt::Write;

use query_exec::Grouping;

use super::tree::*;
use crate::units::{print_duration, quote};

/// The query in lines of at most `width` characters, where it can be broken so far.
pub(crate) fn pretty(expr: &Expr, width: usize) -> String {
    let printer = Printer { width };
    match expr {
        Expr::Log(log) => printer.log(log, None, 0),
        Expr::Metric(metric) => printer.metric(metric, 0),
    }
}

struct Printer {
    width: usize,
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

impl Printer {
    /// Whether a text fits one line; what it is indented by does not count.
    fn fits(&self, text: &str) -> bool {
        text.len() <= self.width
    }

    /// The selector, and each stage on a line of its own.
    fn log(&self, log: &LogExpr, unwrap: Option<&Unwrap>, level: usize) -> String {
        let pad = indent(level);
        let selector = LogExpr {
            matchers: log.matchers.clone(),
            stages: Vec::new(),
        };
        let whole = log.to_string();
        let mut out = format!("{pad}{whole}");
        if !log.stages.is_empty() && !self.fits(&whole) {
            out = format!("{pad}{selector}");
            let inner = indent(level + 1);
            let mut rest = &log.stages[..];
            while let Some(first) = rest.first() {
                let lines = rest.iter().take_while(|s| matches!(s, Stage::LineFilter(_))).count();
                let (group, after) = rest.split_at(lines.max(1));
                rest = after;
                let texts: Vec<String> = group.iter().map(Stage::to_string).collect();
                let joined = texts.join(" ");
                match first {
                    // As Loki prints it.
                    Stage::Decolorize => drop(write!(out, "\n{joined}")),
                    Stage::LineFilter(_) if !self.fits(&joined) => {
                        for stage in group {
                            let _ = write!(out, "\n{inner}{}", without_alternatives(stage));
                        }
                    }
                    _ => drop(write!(out, "\n{inner}{joined}")),
                }
            }
        }
        if let Some(unwrap) = unwrap {
            let bare = Unwrap {
                filters: Vec::new(),
                ..unwrap.clone()
            };
            let _ = write!(out, "\n{}{bare}", indent(level + 1));
            for filter in &unwrap.filters {
                let _ = write!(out, "\n{}| {filter}", indent(level + 1));
            }
        }
        out
    }

    fn metric(&self, metric: &MetricExpr, level: usize) -> String {
        let pad = indent(level);
        let text = metric.to_string();
        let whole = format!("{pad}{text}");
        if self.fits(&text) {
            return whole;
        }
        match metric {
            MetricExpr::Literal(_) | MetricExpr::VectorOf(_) => whole,
            MetricExpr::Range(range) => {
                let mut out = format!("{pad}{}(\n", range.op.as_str());
                if let Some(phi) = range.parameter {
                    let _ = writeln!(out, "{}{phi},", indent(level + 1));
                }
                out.push_str(&self.log(&range.log, range.unwrap.as_ref(), level + 1));
                let _ = write!(out, " [{}]", print_duration(range.range_ns));
                if range.offset_ns != 0 {
                    let _ = write!(out, " offset {}", print_duration(range.offset_ns));
                }
                let _ = write!(out, "\n{pad})");
                if let Some(grouping) = &range.grouping {
                    let _ = write!(out, " {}", groups(grouping));
                }
                out
            }
            MetricExpr::Vector(vector) => {
                let mut out = format!("{pad}{}", vector.op.as_str());
                if let Some(grouping) = &vector.grouping {
                    let _ = write!(out, " {}", groups(grouping));
                }
                out.push_str("(\n");
                if let Some(k) = vector.parameter {
                    let _ = writeln!(out, "{}{k},", indent(level + 1));
                }
                let _ = write!(out, "{}\n{pad})", self.metric(&vector.inner, level + 1));
                out
            }
            MetricExpr::LabelReplace(replace) => {
                let mut out = format!("{pad}label_replace(\n{}", self.metric(&replace.inner, level + 1));
                for text in [&replace.dst, &replace.replacement, &replace.src, replace.regex.as_str()] {
                    let _ = write!(out, ",\n{}{}", indent(level + 1), quote(text));
                }
                let _ = write!(out, "\n{pad})");
                out
            }
            MetricExpr::Binary(binary) => {
                let mut out = format!("{}\n{pad}{}", self.metric(&binary.left, level + 1), binary.op.as_str());
                if binary.return_bool {
                    out.push_str(" bool");
                }
                if let Some(matching) = &binary.matching {
                    let word = if matching.on { "on" } else { "ignoring" };
                    if !matching.labels.is_empty() {
                        let labels = matching.labels.join(", ");
                        let _ = write!(out, " {word} ({labels}) {}", side(matching, ", "));
                    }
                }
                let _ = write!(out, "\n{}", self.metric(&binary.right, level + 1));
                out
            }
        }
    }
}

/// A line filter with its first text alone: of one that is broken Loki prints no more.
fn without_alternatives(stage: &Stage) -> String {
    match stage {
        Stage::LineFilter(filter) => LineFilter {
            op: filter.op,
            values: filter.values.first().cloned().into_iter().collect(),
        }
        .to_string(),
        other => other.to_string(),
    }
}

fn groups(grouping: &Grouping) -> String {
    match grouping {
        Grouping::By(names) => format!("by ({})", names.join(", ")),
        Grouping::Without(names) => format!("without ({})", names.join(", ")),
    }
}
