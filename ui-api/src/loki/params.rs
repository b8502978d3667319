//! Parameters as the Loki API reads them: times whose unit depends on their digits, ranges with a default of an hour,
//! steps, limits, directions.

use std::num::IntErrorKind;

use model::{TimeRangeNs, TimestampNs};
use query_logql::Direction;

use super::errors::ApiError;
use crate::form::Form;
use crate::number::{prometheus_duration_ns, time_by_digits_ns};

pub(crate) const SECOND_NS: i64 = 1_000_000_000;

/// What `since` is when nothing says where a range starts.
const SINCE_NS: i64 = 3_600 * SECOND_NS;

/// A range may have this many steps.
const STEPS_MAX: i64 = 11_000;

/// Most entries that may be asked for.
pub(crate) const ENTRIES_MAX: usize = 5_000;

/// Entries returned when nothing is said.
const ENTRIES: usize = 100;

fn time_of(form: &Form, name: &str) -> Result<Option<TimestampNs>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let parsed = time_by_digits_ns(text).ok_or_else(|| {
        ApiError::bad(format!(
            "could not parse '{name}' parameter: strconv.ParseInt: parsing {text:?}: invalid syntax"
        ))
    })?;
    Ok(Some(TimestampNs(parsed)))
}

/// `time`, by default now.
pub(crate) fn instant(form: &Form, now: TimestampNs) -> Result<TimestampNs, ApiError> {
    let Some(text) = form.get("time") else { return Ok(now) };
    let time = time_by_digits_ns(text);
    let time = time.ok_or_else(|| ApiError::bad(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
    Ok(TimestampNs(time))
}

/// `start`, `end`, `since`: the range `[start, end)`.
pub(crate) fn range(form: &Form, now: TimestampNs) -> Result<TimeRangeNs, ApiError> {
    let end = time_of(form, "end")?.unwrap_or(now);
    let since = match form.get("since") {
        Some(text) => prometheus_duration_ns(text).ok_or_else(|| {
            ApiError::bad(format!(
                "could not parse 'since' parameter: not a valid duration string: {text:?}"
            ))
        })?,
        None => SINCE_NS,
    };
    let start = match time_of(form, "start")? {
        Some(start) => start,
        None => TimestampNs(end.min(now).0.saturating_sub(since)),
    };
    if end < start {
        return Err(ApiError::bad("end timestamp must not be before or equal to start time"));
    }
    Ok(TimeRangeNs { start, end })
}

fn duration(text: &str) -> Result<i64, ApiError> {
    prometheus_duration_ns(text).ok_or_else(|| ApiError::bad(format!("cannot parse {text:?} to a valid duration")))
}

/// `step`, by default such that about 250 steps make up the range.
pub(crate) fn step_ns(form: &Form, range: TimeRangeNs) -> Result<i64, ApiError> {
    let length = range.end.0.saturating_sub(range.start.0);
    let step = match form.get("step") {
        Some(text) => duration(text)?,
        None => (length / SECOND_NS / 250).max(1) * SECOND_NS,
    };
    if step <= 0 {
        return Err(ApiError::bad(
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if length / step > STEPS_MAX {
        return Err(ApiError::bad(
            "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter",
        ));
    }
    Ok(step)
}

/// `interval`: least distance of returned entries, ns; 0 is off.
pub(crate) fn interval_ns(form: &Form) -> Result<i64, ApiError> {
    let interval = form.get("interval").map_or(Ok(0), duration)?;
    if interval < 0 {
        Err(ApiError::bad("interval must be >= 0"))
    } else {
        Ok(interval)
    }
}

/// A positive number, with a default.
pub(crate) fn positive(form: &Form, name: &str, default: usize) -> Result<usize, ApiError> {
    let Some(text) = form.get(name) else { return Ok(default) };
    match text.parse::<i64>() {
        Ok(n) if n > 0 => Ok(n as usize),
        Ok(_) => Err(ApiError::bad(format!("{name} must be a positive value"))),
        Err(e) => {
            let too_large = matches!(e.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
            let why = if too_large {
                "value out of range"
            } else {
                "invalid syntax"
            };
            Err(ApiError::bad(format!("strconv.Atoi: parsing {text:?}: {why}")))
        }
    }
}

/// `limit` of a query; log queries may not ask for more than [`ENTRIES_MAX`].
pub(crate) fn entries_limit(form: &Form, is_metric: bool) -> Result<usize, ApiError> {
    let limit = positive(form, "limit", ENTRIES)?;
    if !is_metric && limit > ENTRIES_MAX {
        return Err(ApiError::bad(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {ENTRIES_MAX})"
        )));
    }
    Ok(limit)
}

/// `direction`, by default backward.
pub(crate) fn direction(form: &Form) -> Result<Direction, ApiError> {
    let text = form.get("direction").unwrap_or("backward");
    match text.to_ascii_lowercase().as_str() {
        "backward" => Ok(Direction::Backward),
        "forward" => Ok(Direction::Forward),
        _ => Err(ApiError::bad(format!("invalid direction '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_default_to_the_last_hour() {
        let now = TimestampNs(10_000 * SECOND_NS);
        let check = |text: &str| {
            range(&Form::parse(text).unwrap(), now)
                .map(|r| (r.start.0, r.end.0))
                .ok()
        };
        assert_eq!(check(""), Some((6_400 * SECOND_NS, 10_000 * SECOND_NS)));
        assert_eq!(check("since=10m"), Some((9_400 * SECOND_NS, 10_000 * SECOND_NS)));
        assert_eq!(check("start=5&end=7"), Some((5 * SECOND_NS, 7 * SECOND_NS)));
        assert_eq!(check("start=7&end=5"), None);
    }

    #[test]
    fn steps_and_limits_are_bounded() {
        let range = TimeRangeNs {
            start: TimestampNs(0),
            end: TimestampNs(11_000 * SECOND_NS),
        };
        let step = |text: &str| step_ns(&Form::parse(text).unwrap(), range).ok();
        assert_eq!(step(""), Some(44 * SECOND_NS));
        assert_eq!(step("step=1"), Some(SECOND_NS));
        assert_eq!(step("step=500ms"), None);
        assert_eq!(step("step=0"), None);
        let limit = |text: &str| entries_limit(&Form::parse(text).unwrap(), false).ok();
        assert_eq!(limit(""), Some(100));
        assert_eq!(limit("limit=5000"), Some(5000));
        assert_eq!(limit("limit=5001"), None);
        assert_eq!(limit("limit=0"), None);
    }
}
