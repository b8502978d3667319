//! Annotations: things that are probably wrong (warnings) or worth knowing (infos), each with its place in the text.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::lex::Span;
use crate::parse::line_column;

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
        self.lock().0.insert(text);
    }
    pub(crate) fn info(&self, span: Span, words: impl std::fmt::Display) {
        let text = self.placed("info", span, words);
        self.lock().1.insert(text);
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

/// ` for metric name "x"`, or nothing where there is no name.
pub(crate) fn for_metric(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" for metric name {name:?}")
    }
}

/// A number as Go's `%g` prints it.
pub(crate) fn go_float(v: f64) -> String {
    if v.is_infinite() {
        return (if v > 0.0 { "+Inf" } else { "-Inf" }).to_owned();
    }
    let magnitude = v.abs();
    if v != 0.0 && v.is_finite() && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{v:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    v.to_string()
}
