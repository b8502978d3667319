//! Annotations: things that are probably wrong (warnings) or worth knowing (infos), each with its place in the text.

use std::collections::BTreeSet;
use std::sync::Mutex;

pub(crate) use query_exec::go_number as go_float;
use query_exec::{Added, Remark, Remarks};

use crate::lex::Span;
use crate::parse::line_column;

/// Annotations of one kind that are kept; a client shows ten, so more are of no use.
const NOTES_MAX: usize = 1000;

/// Collects annotations; equal ones are kept once.
pub(crate) struct Notes<'a> {
    text: &'a str,
    seen: Mutex<(BTreeSet<String>, BTreeSet<String>)>,
}

impl<'a> Notes<'a> {
    pub(crate) fn new(text: &'a str) -> Notes<'a> {
        Notes {
            text,
            seen: Mutex::default(),
        }
    }
    pub(crate) fn warn(&self, span: Span, words: impl std::fmt::Display) {
        let text = self.placed("warning", span, words);
        put(&mut self.lock().0, text);
    }
    pub(crate) fn info(&self, span: Span, words: impl std::fmt::Display) {
        let text = self.placed("info", span, words);
        put(&mut self.lock().1, text);
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
        (warnings.into_iter().collect(), infos.into_iter().collect())
    }

    fn placed(&self, kind: &str, span: Span, words: impl std::fmt::Display) -> String {
        let (line, column) = line_column(self.text, span.start);
        format!("PromQL {kind}: {words} ({line}:{column})")
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, (BTreeSet<String>, BTreeSet<String>)> {
        // A panic elsewhere leaves the sets whole.
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn put(kept: &mut BTreeSet<String>, text: String) {
    if kept.len() < NOTES_MAX {
        kept.insert(text);
    }
}

fn mixed_schemas(metric: &str) -> String {
    let name = for_metric(metric);
    format!("vector contains a mix of histograms with exponential and custom buckets schemas{name}")
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
        let what = "ignored histograms in a range containing both floats and histograms";
        self.notes.info(self.span, format!("{what}{}", for_metric(self.name)));
    }
    pub(crate) fn mixed_kinds(&self) {
        let what = "encountered a mix of histograms and floats";
        self.notes.warn(self.span, format!("{what}{}", for_metric(self.name)));
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
    /// Of what was done: `addition`, `subtraction`, `aggregation`.
    pub(crate) fn reconciled(&self, added: Added, of: &str) {
        if added.reconciled_bounds {
            self.notes.info(self.span, reconciled_bounds(of));
        }
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
