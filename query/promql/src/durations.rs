//! What durations are worth, once the query's times are known. Units are seconds; results are truncated to milliseconds.

use query_exec::BinaryOp;

use crate::ParseError;
use crate::lex::Span;
use crate::syntax::{Duration, DurationExpr, Number};

/// The query's own figures, which a duration may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryTimes {
    /// First and last step, ms.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Distance of steps, ms; 0 for an instant query.
    pub(crate) step: i64,
}

impl QueryTimes {
    pub(crate) fn range(&self) -> i64 {
        self.end.saturating_sub(self.start)
    }
}

/// Longest duration that 63 bits of nanoseconds hold, seconds.
pub(crate) const SECONDS_MAX: f64 = 9_223_372_036.854_776;

impl Duration {
    /// The duration in ms; negative ones too.
    pub(crate) fn ms(&self, times: &QueryTimes) -> Result<i64, ParseError> {
        if let Some(ms) = self.written_ms() {
            return Ok(ms);
        }
        let seconds = self.seconds(times)?;
        match () {
            () if !seconds.is_finite() => Err(fault(self.span, "duration is NaN or infinite")),
            () if seconds.abs() > SECONDS_MAX => Err(fault(self.span, "duration is out of range")),
            () => Ok((seconds * 1000.0) as i64),
        }
    }

    /// The duration in ms, which must be more than nothing.
    pub(crate) fn positive_ms(&self, times: &QueryTimes) -> Result<i64, ParseError> {
        match self.ms(times)? {
            ms if ms > 0 => Ok(ms),
            _ => Err(fault(self.span, "duration must be greater than 0")),
        }
    }

    /// The duration in ms, if it is written plainly, as one number.
    pub(crate) fn written_ms(&self) -> Option<i64> {
        match self.expr {
            // Over nanoseconds, as seconds in a float may lie a hair beside the milliseconds that were written.
            DurationExpr::Seconds(n) => Some(((n.value * 1e9).round() / 1e6) as i64),
            _ => None,
        }
    }

    /// The same with a number that is written plainly cut to whole milliseconds, which is all that it is worth.
    pub(crate) fn settled(mut self) -> Duration {
        if let (Some(ms), DurationExpr::Seconds(n)) = (self.written_ms(), &mut self.expr) {
            n.value = ms as f64 / 1000.0;
        }
        self
    }

    fn seconds(&self, times: &QueryTimes) -> Result<f64, ParseError> {
        Ok(match &self.expr {
            DurationExpr::Seconds(Number { value, .. }) => *value,
            DurationExpr::Step => times.step as f64 / 1000.0,
            DurationExpr::Range => times.range() as f64 / 1000.0,
            DurationExpr::Negative(a) => -a.seconds(times)?,
            DurationExpr::Paren(a) => a.seconds(times)?,
            DurationExpr::Min(a, b) => lesser(a.seconds(times)?, b.seconds(times)?),
            DurationExpr::Max(a, b) => -lesser(-a.seconds(times)?, -b.seconds(times)?),
            DurationExpr::Binary(op, a, b) => {
                let (a, b) = (a.seconds(times)?, b.seconds(times)?);
                match op {
                    BinaryOp::Div if b == 0.0 => return Err(fault(self.span, "division by zero")),
                    BinaryOp::Mod if b == 0.0 => return Err(fault(self.span, "modulo by zero")),
                    op => query_exec::apply(*op, a, b, query_exec::PROMQL),
                }
            }
        })
    }
}

/// The lesser of two; not a number, if one is not.
fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Computed durations fail when the query's times are known. Prometheus then names first and last byte of the duration.
fn fault(span: Span, what: &str) -> ParseError {
    ParseError {
        message: format!("{}:{}: {what}", span.start, span.end),
    }
}
