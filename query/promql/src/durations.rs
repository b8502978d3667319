//! Durations that are computed: `[2*5m]`, `[5m:step()*2]`, `offset -(1h-step())`. Units are seconds; results are
//! truncated to milliseconds.

use query_exec::BinaryOp;

use crate::syntax::{Duration, DurationExpr};

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

impl Duration {
    /// The duration in ms, if it does not depend on the query.
    pub(crate) fn constant_ms(&self) -> Option<Result<i64, String>> {
        (!self.expr.depends_on_query()).then(|| {
            self.ms(&QueryTimes {
                start: 0,
                end: 0,
                step: 0,
            })
        })
    }

    /// The duration in ms.
    pub(crate) fn ms(&self, times: &QueryTimes) -> Result<i64, String> {
        let ms = self.expr.seconds(times)? * 1000.0;
        // Written durations are whole milliseconds that the way over seconds may have left a hair short.
        let ms = if (ms - ms.round()).abs() < 1e-6 {
            ms.round()
        } else {
            ms.trunc()
        };
        if ms.abs() < i64::MAX as f64 / 4.0 {
            Ok(ms as i64)
        } else {
            Err("duration out of range".to_owned())
        }
    }
}

impl DurationExpr {
    fn depends_on_query(&self) -> bool {
        match self {
            DurationExpr::Seconds(_) => false,
            DurationExpr::Step | DurationExpr::Range => true,
            DurationExpr::Negative(a) | DurationExpr::Paren(a) => a.depends_on_query(),
            DurationExpr::Binary(_, a, b) | DurationExpr::Min(a, b) | DurationExpr::Max(a, b) => {
                a.depends_on_query() || b.depends_on_query()
            }
        }
    }

    fn seconds(&self, times: &QueryTimes) -> Result<f64, String> {
        Ok(match self {
            DurationExpr::Seconds(s) => s.value,
            DurationExpr::Step => times.step as f64 / 1000.0,
            DurationExpr::Range => times.range() as f64 / 1000.0,
            DurationExpr::Negative(a) => -a.seconds(times)?,
            DurationExpr::Paren(a) => a.seconds(times)?,
            DurationExpr::Min(a, b) => a.seconds(times)?.min(b.seconds(times)?),
            DurationExpr::Max(a, b) => a.seconds(times)?.max(b.seconds(times)?),
            DurationExpr::Binary(op, a, b) => {
                let (a, b) = (a.seconds(times)?, b.seconds(times)?);
                match op {
                    BinaryOp::Div if b == 0.0 => return Err("division by zero".to_owned()),
                    BinaryOp::Mod if b == 0.0 => return Err("modulo by zero".to_owned()),
                    op => query_exec::apply(*op, a, b, query_exec::PROMQL),
                }
            }
        })
    }
}
