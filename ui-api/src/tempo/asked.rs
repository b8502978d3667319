//! What is asked, whichever way it comes: parameters are read and checked once, for the HTTP API and for the streaming one,
//! and asked of the queries.

use std::num::{IntErrorKind, ParseIntError};

use model::{AttributeValue, Span, TimeRangeNs, TimestampNs, TraceId};
use query::{Context, Language, Queries};
use query_traceql::{
    EvalError, Kinship, MetricsOutput, Query, SearchOptions, SearchOutput, TagName, TraceFilter, duration_text,
    float_text, tag_names, tag_values,
};
use storage::Storage;
use storage_traces::AttributeScope;
use tokio::sync::oneshot;

use super::errors::ApiError;
use crate::About;
use crate::form::Form;
use crate::number::{go_duration_ns, prometheus_duration_ns, time_by_digits_ns};
use crate::shared_ids::told_apart;

const SECOND_NS: i64 = 1_000_000_000;

/// Where a range starts when nothing is said, before its end.
const SINCE_NS: i64 = 3_600 * SECOND_NS;

/// Traces found when nothing is said, and at most.
const LIMIT: u64 = 20;
const LIMIT_MAX: u64 = 262_144;

/// Spans shown per spanset when nothing is said, and at most.
const SPANS: u64 = 3;
const SPANS_MAX: u64 = 100;

/// Intervals that a metrics query may have.
const INTERVALS_MAX: i64 = 10_000;

/// Exemplars of a metrics query when nothing is said.
const EXEMPLARS: u64 = 100;

/// Values listed when nothing is said.
const VALUES: u64 = 10_000;

/// The intrinsics that the tag endpoints list; always the same.
const INTRINSICS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

const SCOPES: [(&str, AttributeScope); 5] = [
    ("resource", AttributeScope::Resource),
    ("span", AttributeScope::Span),
    ("event", AttributeScope::Event),
    ("link", AttributeScope::Link),
    ("instrumentation", AttributeScope::Instrumentation),
];

/// What all handlers share.
#[derive(Clone)]
pub(super) struct Api {
    pub queries: Queries,
    pub about: About,
}

/// Tags whose values are words of the language.
const WORDS: [&str; 4] = ["status", "span:status", "kind", "span:kind"];

/// Told when a question has begun to run, for who wants to follow its progress.
pub(super) type Begun = Option<oneshot::Sender<Context>>;

/// A search.
pub(super) struct SearchAsked {
    query: Query,
    text: String,
    /// By `tags=`: spansets are not shown.
    pub by_tags: bool,
    options: SearchOptions,
}

/// A trace by its id, whole or in part.
pub(super) struct TraceAsked {
    id: TraceId,
    range: TimeRangeNs,
    filter: Option<(TraceFilter, Kinship)>,
}

/// Why a trace is not shown whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacking {
    /// A filter left out spans.
    pub filtered: bool,
    /// It has more spans than are shown.
    pub beyond: Option<usize>,
    /// Stored spans could not be read.
    pub damaged: bool,
}

impl Lacking {
    /// The reasons in words; empty: it is whole.
    pub fn words(&self) -> String {
        let beyond = self
            .beyond
            .map(|most| format!("Trace exceeds maximum size of {most} spans, a partial trace is returned"));
        let reasons = [
            self.filtered.then(|| FILTERED.to_owned()),
            beyond,
            self.damaged.then(|| DAMAGED.to_owned()),
        ];
        reasons.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

const FILTERED: &str = "Trace filtered, only a subset of spans matching the filter is returned";
/// What is said of answers that lack damaged spans.
pub(super) const DAMAGED: &str = "Some stored spans could not be read and were left out";

/// Names of tags.
pub(super) struct TagsAsked {
    scope: Option<AttributeScope>,
    attributes: bool,
    intrinsics: Intrinsics,
    range: TimeRangeNs,
    filter: Option<String>,
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Intrinsics {
    Never,
    IfUsual,
    Always,
}

/// Values of a tag.
pub(super) struct ValuesAsked {
    tag: TagName,
    range: TimeRangeNs,
    filter: Option<String>,
    limit: usize,
}

/// A metrics query.
pub(super) struct MetricsAsked {
    /// Most series shown; 0: all.
    series_max: usize,
    exemplars: usize,
    query: Query,
    text: String,
    range: TimeRangeNs,
    step: i64,
}

/// Names of tags by scope.
pub(super) type Scopes = Vec<(&'static str, Vec<String>)>;

impl Api {
    /// The moment.
    pub fn now(&self) -> TimestampNs {
        self.queries.storage().now()
    }

    /// Finds traces.
    pub async fn search(&self, asked: SearchAsked, begun: Begun) -> Result<SearchOutput, ApiError> {
        let SearchAsked {
            query, text, options, ..
        } = asked;
        let output = self
            .queries
            .run(Language::TraceQl, &text, None, move |context, storage| {
                tell(begun, context);
                query.search(context, storage.traces(), &options)
            })
            .await??;
        Ok(output)
    }

    /// The spans of a trace, and what they lack.
    pub async fn trace(&self, asked: TraceAsked) -> Result<(Vec<Span>, Lacking), ApiError> {
        let TraceAsked { id, range, filter } = asked;
        let found = self
            .queries
            .run(Language::TraceQl, &id.to_string(), None, move |_, storage| {
                let spans_max = trace_spans_max(storage);
                let snapshot = storage.traces().snapshot(range);
                let (spans, cut) = snapshot.trace_up_to(id, spans_max)?;
                let spans = told_apart(spans);
                let lacking = Lacking {
                    filtered: filter.is_some(),
                    beyond: cut.then_some(spans_max),
                    damaged: snapshot.is_incomplete(),
                };
                let spans = match filter {
                    Some((filter, kinship)) => filter.keep(id, spans, kinship),
                    None => spans,
                };
                Ok::<_, storage_traces::BlockError>((spans, lacking))
            })
            .await??;
        Ok(found)
    }

    /// Names of tags by scope, the intrinsics last; where nothing is said of a scope, `usual_intrinsics` tells whether
    /// they are among them.
    pub async fn tags(&self, asked: TagsAsked, usual_intrinsics: bool) -> Result<Scopes, ApiError> {
        let TagsAsked {
            scope,
            attributes,
            intrinsics,
            range,
            filter,
            limit,
        } = asked;
        let mut out: Scopes = Vec::new();
        if attributes {
            let found = self
                .queries
                .run(Language::TraceQl, "tags", None, move |context, storage| {
                    tag_names(context, storage.traces(), range, scope, filter.as_deref())
                })
                .await??;
            for (name, scope) in SCOPES {
                let names = found.iter().filter(|(s, _)| *s == scope).map(|(_, n)| n.clone());
                let tags: Vec<String> = names.take(limit).collect();
                if !tags.is_empty() {
                    out.push((name, tags));
                }
            }
        }
        if intrinsics == Intrinsics::Always || (intrinsics == Intrinsics::IfUsual && usual_intrinsics) {
            out.push(("intrinsic", INTRINSICS.iter().map(|s| (*s).to_owned()).collect()));
        }
        Ok(out)
    }

    /// Names of tags whatever their scope, sorted.
    pub async fn tag_names(&self, asked: TagsAsked) -> Result<Vec<String>, ApiError> {
        let scopes = self.tags(asked, false).await?;
        let mut names: Vec<String> = scopes.into_iter().flat_map(|(_, tags)| tags).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Values of a tag as (type, text).
    pub async fn tag_values(&self, asked: ValuesAsked) -> Result<Vec<(&'static str, String)>, ApiError> {
        let ValuesAsked {
            tag,
            range,
            filter,
            limit,
        } = asked;
        let is_word = matches!(&tag, TagName::Identifier(text) if WORDS.contains(&text.as_str()));
        let found = self
            .queries
            .run(Language::TraceQl, "tag values", None, move |context, storage| {
                tag_values(context, storage.traces(), range, &tag, filter.as_deref(), limit)
            })
            .await?;
        let found = found.map_err(|e| match e {
            EvalError::Parse(e) => ApiError::bad(e.to_string()),
            e => e.into(),
        })?;
        Ok(found.into_iter().filter_map(|v| value_text(v, is_word)).collect())
    }

    /// Series over steps, and what is lacking in words.
    pub async fn metrics_range(&self, asked: MetricsAsked, begun: Begun) -> Result<(MetricsOutput, String), ApiError> {
        let step = asked.step()?;
        let MetricsAsked {
            query,
            text,
            range,
            series_max,
            exemplars,
            ..
        } = asked;
        let mut output = self
            .queries
            .run(Language::TraceQl, &text, None, move |context, storage| {
                tell(begun, context);
                query.metrics_range(context, storage.traces(), range, step, exemplars)
            })
            .await??;
        let lacking = MetricsAsked::shown(series_max, &mut output);
        Ok((output, lacking))
    }

    /// One interval over the whole range, and what is lacking in words.
    pub async fn metrics_instant(
        &self,
        asked: MetricsAsked,
        begun: Begun,
    ) -> Result<(MetricsOutput, String), ApiError> {
        let MetricsAsked {
            query,
            text,
            range,
            series_max,
            ..
        } = asked;
        let mut output = self
            .queries
            .run(Language::TraceQl, &text, None, move |context, storage| {
                tell(begun, context);
                query.metrics_instant(context, storage.traces(), range)
            })
            .await??;
        let lacking = MetricsAsked::shown(series_max, &mut output);
        Ok((output, lacking))
    }
}

/// A trace of this many spans takes about a [`TRACE_SHARE`]th of the memory budget while it is answered.
fn trace_spans_max(storage: &Storage) -> usize {
    let bytes = storage.budget().limit() / TRACE_SHARE;
    usize::try_from(bytes / SPAN_BYTES)
        .unwrap_or(usize::MAX)
        .max(TRACE_SPANS_MIN)
}

/// One trace may take one part in so many of the memory budget.
const TRACE_SHARE: u64 = 8;
/// About what a span takes, decoded and encoded again, bytes.
const SPAN_BYTES: u64 = 2048;
/// Shown however small the budget is.
const TRACE_SPANS_MIN: usize = 10_000;

fn tell(begun: Begun, context: &Context) {
    if let Some(begun) = begun {
        let _ = begun.send(context.clone());
    }
}

impl SearchAsked {
    /// From parameters.
    pub fn read(form: &Form, now: TimestampNs) -> Result<SearchAsked, ApiError> {
        let query = match (form.get("q"), form.get("tags")) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad(
                    "invalid request: can't specify tags and q in the same query",
                ));
            }
            (Some(q), None) => query::read(q, Query::parse)?,
            (None, tags) => Query::from_tags(tags.unwrap_or(""))?,
        };
        let (min, max) = (duration(form, "minDuration")?, duration(form, "maxDuration")?);
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Err(ApiError::bad("invalid maxDuration: must be greater than minDuration"));
        }
        // They belong to `tags`.
        let (min, max) = if form.get("q").is_none() {
            (min, max)
        } else {
            (None, None)
        };
        Ok(SearchAsked {
            query,
            text: form.get("q").or(form.get("tags")).unwrap_or("").to_owned(),
            by_tags: form.get("q").is_none(),
            options: SearchOptions {
                range: search_range(form, now)?,
                limit: number(form, "limit", LIMIT, LIMIT_MAX)? as usize,
                spans_per_spanset: number(form, "spss", SPANS, SPANS_MAX)? as usize,
                min_duration_ns: min,
                max_duration_ns: max,
            },
        })
    }
}

impl TraceAsked {
    /// From an id and parameters.
    pub fn read(id: &str, form: &Form) -> Result<TraceAsked, ApiError> {
        let id = trace_id(id)?;
        // The range only says where to look; without one, everywhere.
        let range = match (time(form, "start", "ParseInt")?, time(form, "end", "ParseInt")?) {
            (Some(start), Some(end)) if end <= start => {
                return Err(not_before(start, end));
            }
            (start, end) => TimeRangeNs {
                start: start.unwrap_or(TimeRangeNs::ALL.start),
                end: end.unwrap_or(TimeRangeNs::ALL.end),
            },
        };
        Ok(TraceAsked {
            id,
            range,
            filter: None,
        })
    }

    /// Also which of its spans are wanted.
    pub fn filtered(mut self, form: &Form) -> Result<TraceAsked, ApiError> {
        let kinship = Kinship {
            ancestors: match form.get("keep_hierarchy") {
                Some("true" | "1") => levels(form, "ancestor_depth", usize::MAX)?,
                _ => 0,
            },
            descendants: levels(form, "match_depth", 0)?,
        };
        if let Some(q) = form.get("q") {
            let filter = TraceFilter::parse(q).map_err(|e| ApiError::bad(e.to_string()))?;
            self.filter = Some((filter, kinship));
        }
        Ok(self)
    }
}

/// A depth; -1 is all.
fn levels(form: &Form, name: &str, default: usize) -> Result<usize, ApiError> {
    match form.get(name).map(str::parse::<i64>) {
        None => Ok(default),
        Some(Ok(-1)) => Ok(usize::MAX),
        Some(Ok(n)) if n >= 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        Some(Ok(_)) => Err(ApiError::bad(format!("invalid value for {name}: must be >= -1"))),
        Some(Err(e)) => Err(ApiError::bad(format!(
            "invalid value for {name}: {}",
            go_number_error("Atoi", form.get(name).unwrap_or_default(), &e)
        ))),
    }
}

fn not_before(start: TimestampNs, end: TimestampNs) -> ApiError {
    ApiError::bad(format!(
        "http parameter start must be before end. received start={} end={}",
        start.0.div_euclid(SECOND_NS),
        end.0.div_euclid(SECOND_NS)
    ))
}

/// What Go says of a text that is no whole number.
fn go_number_error(function: &str, text: &str, e: &ParseIntError) -> String {
    let why = match e.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

impl TagsAsked {
    /// From parameters.
    pub fn read(form: &Form) -> Result<TagsAsked, ApiError> {
        let asked = form.get("scope").unwrap_or("none");
        let scope = SCOPES.iter().find(|(name, _)| *name == asked).map(|(_, s)| *s);
        if scope.is_none() && !["none", "intrinsic", "trace"].contains(&asked) {
            return Err(ApiError::bad(format!("invalid scope: {asked}")));
        }
        Ok(TagsAsked {
            scope,
            attributes: scope.is_some() || asked == "none",
            intrinsics: match asked {
                "intrinsic" => Intrinsics::Always,
                "none" => Intrinsics::IfUsual,
                _ => Intrinsics::Never,
            },
            range: tags_range(form)?,
            filter: form.get("q").map(str::to_owned),
            limit: number(form, "limit", u64::MAX, u64::MAX)? as usize,
        })
    }
}

impl ValuesAsked {
    /// From the tag's name and parameters.
    pub fn read(tag: TagName, form: &Form) -> Result<ValuesAsked, ApiError> {
        Ok(ValuesAsked {
            tag,
            range: tags_range(form)?,
            filter: form.get("q").map(str::to_owned),
            limit: number(form, "limit", VALUES, u64::MAX)? as usize,
        })
    }
}

impl MetricsAsked {
    /// From parameters.
    pub fn read(form: &Form, now: TimestampNs) -> Result<MetricsAsked, ApiError> {
        // What Tempo's parts say to each other of these is heard by the client as well.
        let invalid = |what: String| ApiError::bad(format!("rpc error: code = Code(400) desc = {what}"));
        let time = |name: &str| time(form, name, "ParseInt");
        let unparsed = |name: &str, e: ApiError| {
            let why = e
                .message()
                .strip_prefix(&format!("invalid {name}: "))
                .unwrap_or_default()
                .to_owned();
            invalid(format!("could not parse '{name}' parameter: {why}"))
        };
        let end = time("end").map_err(|e| unparsed("end", e))?.unwrap_or(now);
        let since = match form.get("since") {
            Some(text) => prometheus_duration_ns(text).ok_or_else(|| {
                invalid(format!(
                    "could not parse 'since' parameter: not a valid duration string: {text:?}"
                ))
            })?,
            None => SINCE_NS,
        };
        let start = time("start").map_err(|e| unparsed("start", e))?;
        let start = start.unwrap_or(TimestampNs(end.0.saturating_sub(since)));
        let step = match form.get("step") {
            Some(step) => {
                let (magnitude, negative) = step.strip_prefix('-').map_or((step, false), |rest| (rest, true));
                let ns = go_duration_ns(magnitude).or_else(|| prometheus_duration_ns(magnitude));
                let ns = ns.ok_or_else(|| invalid(format!("cannot parse {step:?} to a valid duration")))?;
                if negative && ns > 0 {
                    return Err(invalid(format!("cannot parse {step:?}: step must be positive")));
                }
                ns
            }
            None => default_step(end.0.saturating_sub(start.0)),
        };
        if end <= start {
            return Err(ApiError::bad("end must be greater than start"));
        }
        let text = form.get("q").or(form.get("query")).unwrap_or_default().to_owned();
        let query = query::read(&text, Query::parse).map_err(|e| ApiError::of_metrics(&e))?;
        if !query.is_metrics() {
            return Err(ApiError::bad("not a metrics query"));
        }
        let range = TimeRangeNs { start, end };
        Ok(MetricsAsked {
            series_max: number(form, "maxSeries", 0, u64::MAX)? as usize,
            // What is no number says nothing, and neither does 0; `with(exemplars=false)` wants none.
            exemplars: number(form, "exemplars", EXEMPLARS, u64::MAX).unwrap_or(EXEMPLARS) as usize,
            query,
            text,
            range,
            step,
        })
    }

    /// What is shown of a result, and what it lacks in words; empty: nothing.
    pub fn shown(series_max: usize, output: &mut MetricsOutput) -> String {
        let mut reasons = Vec::new();
        if series_max > 0 && output.series.len() > series_max {
            output.series.truncate(series_max);
            reasons.push(format!(
                "Response exceeds maximum of {series_max} series, a partial response is returned"
            ));
        }
        if output.incomplete {
            reasons.push(DAMAGED.to_owned());
        }
        reasons.join("; ")
    }

    /// The step, unless it makes too many intervals.
    fn step(&self) -> Result<i64, ApiError> {
        let length = self.range.end.0.saturating_sub(self.range.start.0);
        if self.step == 0 || length / self.step > INTERVALS_MAX {
            return Err(ApiError::bad(format!(
                "step of {} is too small, minimum step for given range is {}",
                duration_text(self.step),
                duration_text(length / INTERVALS_MAX)
            )));
        }
        Ok(self.step)
    }
}

fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(ApiError::bad(format!(
            "trace IDs can only contain hex characters: invalid character '{c}' at position {}",
            at + 1
        )));
    }
    text.parse()
        .map_err(|_| ApiError::bad("trace IDs can't be larger than 128 bits"))
}

/// `start` and `end`, both or neither; by default the last hour. The end is inclusive for the caller.
fn search_range(form: &Form, now: TimestampNs) -> Result<TimeRangeNs, ApiError> {
    if let Some(since) = form.get("since") {
        let since = prometheus_duration_ns(since)
            .filter(|ns| *ns > 0)
            .ok_or_else(|| ApiError::bad(format!("invalid since: cannot parse {since:?} to a valid duration")))?;
        return Ok(back_from(now, since));
    }
    match (time(form, "start", "ParseUint")?, time(form, "end", "ParseUint")?) {
        (None, None) => Ok(back_from(now, SINCE_NS)),
        (Some(start), Some(end)) if start < end => Ok(TimeRangeNs {
            start,
            end: TimestampNs(end.0.saturating_add(1)),
        }),
        (Some(start), end) => Err(not_before(start, end.unwrap_or(TimestampNs(0)))),
        (None, Some(_)) => Err(ApiError::bad(
            "error parsing date range: only one of start and end provided: must provide both or neither",
        )),
    }
}

/// The range that ends now; a little beyond, for senders whose clocks are ahead.
fn back_from(now: TimestampNs, since: i64) -> TimeRangeNs {
    TimeRangeNs {
        start: TimestampNs(now.0.saturating_sub(since)),
        end: TimestampNs(now.0.saturating_add(600 * SECOND_NS)),
    }
}

/// The range of the tag endpoints: everything, unless one is given.
fn tags_range(form: &Form) -> Result<TimeRangeNs, ApiError> {
    let time = |name: &str| {
        time(form, name, "ParseInt").map_err(|e| {
            let why = e
                .message()
                .strip_prefix(&format!("invalid {name}: "))
                .unwrap_or_default()
                .to_owned();
            ApiError::bad(format!(
                "error parsing date range: could not parse '{name}' parameter: {why}"
            ))
        })
    };
    Ok(TimeRangeNs {
        start: time("start")?.unwrap_or(TimeRangeNs::ALL.start),
        end: time("end")?.unwrap_or(TimeRangeNs::ALL.end),
    })
}

/// A time; of one that cannot be read it is said with which of Go's functions.
fn time(form: &Form, name: &str, function: &str) -> Result<Option<TimestampNs>, ApiError> {
    let Some(text) = form.get(name).filter(|t| *t != "0") else {
        return Ok(None);
    };
    let ns = time_by_digits_ns(text).ok_or_else(|| {
        ApiError::bad(format!(
            "invalid {name}: strconv.{function}: parsing {text:?}: invalid syntax"
        ))
    })?;
    Ok(Some(TimestampNs(ns)))
}

fn duration(form: &Form, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let ns = go_duration_ns(text)
        .ok_or_else(|| ApiError::bad(format!("invalid {name}: time: invalid duration {text:?}")))?;
    Ok(Some(ns.unsigned_abs()))
}

fn number(form: &Form, name: &str, default: u64, max: u64) -> Result<u64, ApiError> {
    let Some(text) = form.get(name) else { return Ok(default) };
    match text.parse::<u64>() {
        // Of tags and values, 0 asks for all.
        Ok(0) if name == "spss" || max == u64::MAX => Ok(default),
        Ok(0) => Err(ApiError::bad(format!("invalid {name}: must be a positive number"))),
        Ok(n) if n > max && name == "spss" => {
            Err(ApiError::bad(format!("spans per span set exceeds {max}. received {n}")))
        }
        Ok(n) if n > max => Err(ApiError::bad(format!("{name} {n} exceeds max {name} {max}"))),
        Ok(n) => Ok(n),
        Err(e) => Err(ApiError::bad(format!(
            "invalid {name}: {}",
            go_number_error("ParseUint", text, &e)
        ))),
    }
}

fn value_text(value: AttributeValue, is_word: bool) -> Option<(&'static str, String)> {
    match value {
        AttributeValue::Str(s) => Some((if is_word { "keyword" } else { "string" }, s)),
        AttributeValue::Bool(b) => Some(("bool", b.to_string())),
        AttributeValue::Int(i) => Some(("int", i.to_string())),
        AttributeValue::Double(d) => Some(("float", float_text(d))),
        AttributeValue::Empty | AttributeValue::Bytes(_) | AttributeValue::Array(_) | AttributeValue::Map(_) => None,
    }
}

/// About 240 steps over the range, in round numbers.
fn default_step(length_ns: i64) -> i64 {
    if length_ns < 60 * SECOND_NS {
        let unit = 50_000_000;
        return (length_ns / 240 / unit * unit).max(unit);
    }
    let ideal = length_ns / 240;
    let unit = [3600, 300, 60, 15, 5, 1]
        .iter()
        .map(|s| s * SECOND_NS)
        .find(|unit| *unit < ideal)
        .unwrap_or(SECOND_NS);
    (ideal / unit * unit).max(SECOND_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hex_of_up_to_128_bits() {
        assert_eq!(trace_id("1").ok(), Some(TraceId(1)));
        assert_eq!(trace_id("00000000000000000000000000000001").ok(), Some(TraceId(1)));
        assert!(trace_id("xyz").is_err());
        assert!(trace_id(&"0".repeat(33)).is_err());
    }

    #[test]
    fn steps_are_round_numbers() {
        assert_eq!(default_step(59 * SECOND_NS), 200_000_000);
        for (minutes, seconds) in [
            (15, 3),
            (30, 5),
            (60, 15),
            (180, 45),
            (360, 60),
            (720, 180),
            (1440, 300),
            (10080, 2400),
        ] {
            assert_eq!(
                default_step(minutes * 60 * SECOND_NS),
                seconds * SECOND_NS,
                "{minutes} min"
            );
        }
    }

    #[test]
    fn ranges_need_both_ends_or_neither() {
        let now = TimestampNs(10_000 * SECOND_NS);
        let check = |text: &str| {
            search_range(&Form::parse(text).unwrap(), now)
                .map(|r| (r.start.0, r.end.0))
                .ok()
        };
        assert_eq!(check(""), Some((6_400 * SECOND_NS, 10_600 * SECOND_NS)));
        assert_eq!(check("start=5&end=7"), Some((5 * SECOND_NS, 7 * SECOND_NS + 1)));
        assert_eq!(check("start=5"), None);
        assert_eq!(check("start=7&end=5"), None);
    }
}
