//! Annotations: things that are probably wrong (warnings) or worth knowing (infos), each with its place in the text.

use std::collections::BTreeMap;
use std::sync::Mutex;

pub(crate) use query_exec::go_number as go_float;
use query_exec::{Added, MixedSchemas, Remark, Remarks};

use crate::functions::{Fixed, Work, function};
use crate::lex::Span;
use crate::parse::line_column;

/// Annotations of one kind that are kept; a client shows ten, so more are of no use.
const NOTES_MAX: usize = 1000;

/// Collects annotations. Of those in the same words the last one is kept, as Prometheus does, wherever it points.
pub(crate) struct Notes<'a> {
    text: &'a str,
    seen: Mutex<(Kept, Kept)>,
}

/// Annotations of one kind by their words.
type Kept = BTreeMap<String, Note>;

struct Note {
    span: Span,
    fixes: Option<Fixes>,
}

/// What was done to classic histograms that were not monotonic, at how many places, and when.
#[derive(Clone, Copy)]
struct Fixes {
    fixed: Fixed,
    times: usize,
    first_ms: i64,
    last_ms: i64,
}

impl std::fmt::Display for Fixes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lowest, highest) = (go_float(self.fixed.lowest), go_float(self.fixed.highest));
        let (by, times) = (two_digits(self.fixed.by), self.times);
        let (first, last) = (rfc3339(self.first_ms), rfc3339(self.last_ms));
        write!(
            f,
            ", from buckets {lowest} to {highest}, with a max diff of {by}, over {times} samples from {first} to {last}"
        )
    }
}

impl<'a> Notes<'a> {
    pub(crate) fn new(text: &'a str) -> Notes<'a> {
        Notes {
            text,
            seen: Mutex::default(),
        }
    }
    pub(crate) fn warn(&self, span: Span, words: impl std::fmt::Display) {
        put(&mut self.lock().0, words.to_string(), span);
    }
    pub(crate) fn info(&self, span: Span, words: impl std::fmt::Display) {
        put(&mut self.lock().1, words.to_string(), span);
    }
    /// A classic histogram was not monotonic at a time; `name` is its metric's.
    pub(crate) fn fixed_histogram(&self, span: Span, name: &str, fixed: Fixed, at_ms: i64) {
        let words = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/\
             latest/querying/functions/#histogram_quantile){}",
            for_metric(name)
        );
        let one = Fixes {
            fixed,
            times: 1,
            first_ms: at_ms,
            last_ms: at_ms,
        };
        let mut seen = self.lock();
        if let Some(Note { fixes: Some(all), .. }) = seen.1.get_mut(&words) {
            all.fixed.lowest = all.fixed.lowest.min(fixed.lowest);
            all.fixed.highest = all.fixed.highest.max(fixed.highest);
            all.fixed.by = all.fixed.by.max(fixed.by);
            all.times += 1;
            (all.first_ms, all.last_ms) = (all.first_ms.min(at_ms), all.last_ms.max(at_ms));
        } else if seen.1.len() < NOTES_MAX {
            let note = Note { span, fixes: Some(one) };
            seen.1.insert(words, note);
        }
    }
    /// What an aggregation met; `name` is the aggregation's.
    pub(crate) fn of_aggregation(&self, span: Span, name: &str, remarks: Remarks) {
        for remark in remarks {
            match remark {
                Remark::MixedKinds => self.warn(span, "encountered a mix of histograms and floats for aggregation"),
                Remark::IgnoredHistograms => self.info(span, format!("ignored histogram in {name} aggregation")),
                Remark::MixedSchemas(metric) => self.warn(span, mixed_schemas(&metric)),
                Remark::ConflictingResets => self.warn(span, conflicting_resets("aggregation")),
                Remark::ReconciledBounds => self.info(span, reconciled_bounds("aggregation")),
                Remark::IncompatibleLayouts | Remark::IncompatibleKinds(..) => {}
            }
        }
    }
    /// What an operator met, which is written `op`.
    pub(crate) fn of_operator(&self, span: Span, op: &str, remarks: Remarks) {
        let word = if op == "-" { "subtraction" } else { "addition" };
        for remark in remarks {
            match remark {
                Remark::IncompatibleLayouts => {
                    let what = format!("incompatible bucket layout encountered for binary operator {op}");
                    self.warn(span, what);
                }
                Remark::IncompatibleKinds(left, right) => {
                    let what = "incompatible sample types encountered for binary operator";
                    self.info(span, format!("{what} {op:?}: {left} {op} {right}"));
                }
                Remark::ConflictingResets => self.warn(span, conflicting_resets(word)),
                Remark::ReconciledBounds => self.info(span, reconciled_bounds(word)),
                Remark::MixedKinds | Remark::IgnoredHistograms | Remark::MixedSchemas(_) => {}
            }
        }
    }
    /// All warnings, all infos.
    pub(crate) fn take(&self) -> (Vec<String>, Vec<String>) {
        let mut seen = self.lock();
        let (warnings, infos) = std::mem::take(&mut *seen);
        (self.placed("warning", warnings), self.placed("info", infos))
    }

    fn placed(&self, kind: &str, notes: Kept) -> Vec<String> {
        let place = |(words, note): (String, Note)| {
            let (line, column) = line_column(self.text, note.span.start);
            let fixes = note.fixes.map(|f| f.to_string()).unwrap_or_default();
            format!("PromQL {kind}: {words}{fixes} ({line}:{column})")
        };
        notes.into_iter().map(place).collect()
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, (Kept, Kept)> {
        // A panic elsewhere leaves the sets whole.
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn put(kept: &mut Kept, words: String, span: Span) {
    if kept.len() < NOTES_MAX || kept.contains_key(&words) {
        kept.insert(words, Note { span, fixes: None });
    }
}

fn mixed_schemas(metric: &str) -> String {
    format!(
        "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric:?}"
    )
}

fn conflicting_resets(of: &str) -> String {
    format!("conflicting counter resets during histogram {of}")
}

fn reconciled_bounds(of: &str) -> String {
    format!("mismatched custom buckets were reconciled during {of}")
}

/// Says things about one series' windows: where the range vector stands, and what the metric is called.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) notes: &'a Notes<'a>,
    pub(crate) span: Span,
    pub(crate) name: &'a str,
}

impl About<'_> {
    pub(crate) fn ignored_histograms(&self) {
        let what = "ignored histograms in a range containing both floats and histograms for metric name";
        self.notes.info(self.span, format!("{what} {:?}", self.name));
    }
    pub(crate) fn mixed_kinds(&self) {
        let what = "encountered a mix of histograms and floats";
        self.notes
            .warn(self.span, format!("{what} for metric name {:?}", self.name));
    }
    pub(crate) fn mixed_schemas(&self) {
        self.notes.warn(self.span, mixed_schemas(self.name));
    }
    pub(crate) fn not_a_counter(&self) {
        let what = "this native histogram metric is not a counter";
        self.notes.warn(self.span, format!("{what}: {:?}", self.name));
    }
    pub(crate) fn not_a_gauge(&self) {
        let what = "this native histogram metric is not a gauge";
        self.notes.warn(self.span, format!("{what}: {:?}", self.name));
    }
    pub(crate) fn conflicting_resets(&self) {
        self.notes.warn(self.span, conflicting_resets("aggregation"));
    }
    /// What came of an `addition`, `subtraction` or `aggregation` of histograms; says what was met on the way, or why
    /// there is nothing.
    pub(crate) fn made<T>(&self, made: Result<(T, Added), MixedSchemas>, of: &str) -> Option<T> {
        let Ok((made, added)) = made else {
            self.mixed_schemas();
            return None;
        };
        if added.reconciled_bounds {
            self.notes.info(self.span, reconciled_bounds(of));
        }
        Some(made)
    }
}

/// ` for metric name "x"`, or nothing where there is no name.
pub(crate) fn for_metric(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" for metric name {name:?}")
    }
}

/// A number with two digits that count, as Go's `%.2g` prints it.
fn two_digits(v: f64) -> String {
    let text = format!("{v:.1e}");
    text.parse().map_or(text, go_float_short)
}

/// From a hundred on Go's `%.2g` has no room for the zeros.
fn go_float_short(v: f64) -> String {
    if v.is_finite() && v.abs() >= 100.0 {
        let text = format!("{v:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{mantissa}e+{exponent:0>2}");
    }
    go_float(v)
}

/// A time as RFC 3339 in UTC.
fn rfc3339(ms: i64) -> String {
    let s = ms.div_euclid(1000);
    let part = |name: &str| match function(name).map(|f| f.work) {
        Some(Work::Date(f)) => f(s as f64) as i64,
        _ => 0,
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        part("year"),
        part("month"),
        part("day_of_month"),
        part("hour"),
        part("minute"),
        s.rem_euclid(60)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_as_go_prints_them() {
        let cases = [
            (0.016_666, "0.017"),
            (0.9999, "1"),
            (36.0, "36"),
            (123.0, "1.2e+02"),
            (1.174e-13, "1.2e-13"),
            (f64::INFINITY, "+Inf"),
        ];
        for (v, want) in cases {
            assert_eq!(two_digits(v), want);
        }
    }

    #[test]
    fn of_the_same_words_the_last_place_counts() {
        let notes = Notes::new("a + b");
        let span = |start| Span { start, end: start + 1 };
        notes.warn(span(0), "odd");
        notes.warn(span(4), "odd");
        assert_eq!(notes.take().0, ["PromQL warning: odd (1:5)"]);
    }
}
