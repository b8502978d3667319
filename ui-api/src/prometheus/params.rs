//! Parameters that several endpoints read: times, ranges, limits, switches, selectors.

use axum::body::Body;
use model::{Matcher, RegexBudget, TimeRangeMs, TimestampMs};
use query_promql::parse_selector_within;

use super::errors::ApiError;
use crate::form::Form;
use crate::number::{is_long_duration, prometheus_duration_ns, time_ms};

const TRUNCATED: &str = "results truncated due to limit";

pub(crate) async fn read(request: http::Request<Body>) -> Result<Form, ApiError> {
    Ok(Form::read(request).await?)
}

/// A time in ms; `None` if it is not given.
pub(crate) fn time(form: &Form, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    time_ms(text).map(Some).ok_or_else(|| {
        let what = format!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp");
        ApiError::parameter(name, what)
    })
}

/// A duration in ns; the error is Prometheus'.
pub(crate) fn duration_ns(text: &str) -> Result<i64, String> {
    prometheus_duration_ns(text).ok_or_else(|| {
        let why = if is_long_duration(text) {
            ". It overflows int64"
        } else {
            ""
        };
        format!("cannot parse {text:?} to a valid duration{why}")
    })
}

/// From `start` to `end`; all of time where nothing is said.
pub(crate) fn range(form: &Form) -> Result<TimeRangeMs, ApiError> {
    let start = time(form, "start")?.map_or(TimeRangeMs::ALL.start, TimestampMs);
    let end = time(form, "end")?.map_or(TimeRangeMs::ALL.end, TimestampMs);
    Ok(TimeRangeMs { start, end })
}

/// The most rows wanted; absent and 0 mean all.
pub(crate) fn limit(form: &Form) -> Result<usize, ApiError> {
    let Some(text) = form.get("limit") else {
        return Ok(usize::MAX);
    };
    match text.parse::<i64>() {
        Ok(0) => Ok(usize::MAX),
        Ok(n) if n > 0 => Ok(n as usize),
        Ok(_) => Err(ApiError::parameter("limit", "limit must be non-negative")),
        Err(e) => Err(ApiError::parameter("limit", no_number("Atoi", text, &e))),
    }
}

/// A whole number of a parameter where any negative one means all, as `metadata` has them.
pub(crate) fn count(form: &Form, name: &str) -> Result<usize, ApiError> {
    let parsed = form.get(name).map_or(Ok(-1), str::parse::<i64>);
    let n = parsed.map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// What Go's library says of a text that is no number; scripts know the words.
pub(crate) fn no_number(function: &str, text: &str, e: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let why = match e.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

/// A switch, in the spellings Go accepts; the error is Go's.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// The selectors of `match[]`.
pub(crate) fn selectors(form: &Form) -> Result<Vec<Vec<Matcher>>, String> {
    let texts: Vec<&str> = form.all("match[]").collect();
    parsed(&texts).map_err(|message| {
        let rule = "must contain at least one non-empty matcher";
        // The API has words of its own for this one.
        if message.ends_with(rule) {
            format!("match[] {rule}")
        } else {
            message
        }
    })
}

/// The same where a selector may be empty: it selects nothing.
pub(crate) fn selectors_or_none(form: &Form) -> Result<Vec<Vec<Matcher>>, String> {
    let texts: Vec<&str> = form.all("match[]").filter(|text| !is_empty_selector(text)).collect();
    parsed(&texts)
}

/// Selectors whose expressions share a budget.
fn parsed(texts: &[&str]) -> Result<Vec<Vec<Matcher>>, String> {
    query::read(&texts.concat(), |_| {
        let regexes = RegexBudget::default();
        let parse = |text: &&str| parse_selector_within(text, &regexes).map_err(|e| e.message);
        texts.iter().map(parse).collect()
    })
}

fn is_empty_selector(text: &str) -> bool {
    text.split_whitespace().flat_map(str::chars).eq("{}".chars())
}

/// Cuts to `limit`, and the warning that says so.
pub(crate) fn truncate<T>(found: &mut Vec<T>, limit: usize) -> Vec<String> {
    if found.len() <= limit {
        return Vec::new();
    }
    found.truncate(limit);
    vec![TRUNCATED.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_end_where_prometheus_ends_them() {
        let overflow = |text: &str| Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        assert_eq!(duration_ns("9223372036"), Ok(9_223_372_036_000_000_000));
        assert_eq!(duration_ns("1h30m"), Ok(5_400_000_000_000));
        for text in ["9223372037", "1e15", "-1e300", "Inf", "+Inf"] {
            assert_eq!(duration_ns(text), overflow(text));
        }
        assert_eq!(
            duration_ns("300y"),
            Err("cannot parse \"300y\" to a valid duration".to_owned())
        );
    }

    #[test]
    fn a_limit_of_zero_is_no_limit() {
        let limit = |text: &str| limit(&Form::parse(text).unwrap()).ok();
        assert_eq!(limit("limit=0"), Some(usize::MAX));
        assert_eq!(limit(""), Some(usize::MAX));
        assert_eq!(limit("limit=3"), Some(3));
        assert_eq!(limit("limit=-1"), None);
        assert_eq!(limit("limit=x"), None);
    }
}
