//! The endpoints: parameters in, questions asked, answers out.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderValue, Method, StatusCode, header};
use model::{Matcher, TimeRangeMs, TimestampMs};
use query::{Language, Queries, Usage};
use query_promql::{EvalError, Options, Output, Query, Value, parse_selector};
use storage::Storage;
use storage_metrics::BlockError;

use super::encode::{self, success};
use super::errors::ApiError;
use super::status;
use crate::About;
use crate::form::Form;
use crate::number::{prometheus_duration_ns, time_ms};

/// How far an instant selector looks back unless the query says otherwise.
const LOOKBACK_MS: i64 = 300_000;

/// Step of subqueries that give none: the default global evaluation interval.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// A range query may have one point more than this many.
const POINTS_MAX: i64 = 11_000;

const TRUNCATED: &str = "results truncated due to limit";

#[derive(Clone)]
pub(crate) struct Api {
    pub queries: Queries,
    pub about: About,
}

/// The Prometheus HTTP API under `/api/v1/`.
pub fn router(queries: &Queries, about: &About) -> Router {
    let api = Api {
        queries: queries.clone(),
        about: about.clone(),
    };
    Router::new()
        .route("/api/v1/query", both(query))
        .route("/api/v1/query_range", both(query_range))
        .route("/api/v1/query_exemplars", both(query_exemplars))
        .route("/api/v1/series", both(series))
        .route("/api/v1/labels", both(labels))
        .route("/api/v1/label/{name}/values", get(label_values).options(no_content))
        .route("/api/v1/metadata", get(metadata).options(no_content))
        .route("/api/v1/status/buildinfo", get(status::build_info).options(no_content))
        .route("/api/v1/status/flags", get(status::flags).options(no_content))
        .route("/api/v1/status/config", get(status::config).options(no_content))
        .route(
            "/api/v1/status/runtimeinfo",
            get(status::runtime_info).options(no_content),
        )
        .route("/api/v1/status/tsdb", get(status::tsdb).options(no_content))
        .route("/api/v1/status/walreplay", get(status::wal_replay).options(no_content))
        .route(
            "/api/v1/rules",
            get(|| async { success(r#"{"groups":[]}"#, &[], &[]) }).options(no_content),
        )
        .route(
            "/api/v1/alerts",
            get(|| async { success(r#"{"alerts":[]}"#, &[], &[]) }).options(no_content),
        )
        .with_state(api)
        .layer(axum::middleware::map_response(vary_on_origin))
        .layer(axum::middleware::from_fn(cors))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
}

fn both<H, T>(handler: H) -> MethodRouter<Api>
where
    H: axum::handler::Handler<T, Api>,
    T: 'static,
{
    get(handler.clone()).post(handler).options(no_content)
}

async fn no_content() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn vary_on_origin(mut response: Response) -> Response {
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("Origin"));
    response
}

/// Any page may read, as Prometheus' default origin pattern allows.
async fn cors(request: Request, next: axum::middleware::Next) -> Response {
    let asked = request.headers().contains_key(header::ORIGIN);
    let mut response = next.run(request).await;
    if asked {
        for (name, value) in [
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Accept, Authorization, Content-Type, Origin",
            ),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

async fn query(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let now = api.queries.storage().now().floor_ms();
    let at = TimestampMs(time(&form, "time")?.unwrap_or(now.0));
    let asked = Asked::from(&form)?;
    let since = Instant::now();
    let text = asked.text.clone();
    let options = asked.options;
    let (output, usage) = api
        .queries
        .run(Language::PromQl, &asked.text, asked.timeout, move |context, storage| {
            let output = Query::parse(&text)?.instant(context, storage.metrics(), at, options)?;
            Ok::<_, EvalError>((output, context.usage()))
        })
        .await??;
    Ok(asked.answer(output, usage, since))
}

async fn query_range(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let required = |name: &'static str| -> Result<i64, ApiError> {
        let text = form.get(name).unwrap_or("");
        time_ms(text).ok_or_else(|| ApiError::parameter(name, format!("cannot parse {text:?} to a valid timestamp")))
    };
    let (start, end) = (required("start")?, required("end")?);
    if end < start {
        return Err(ApiError::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step_text = form.get("step").unwrap_or("");
    let step_ns = prometheus_duration_ns(step_text)
        .ok_or_else(|| ApiError::parameter("step", format!("cannot parse {step_text:?} to a valid duration")))?;
    let step = step_ns / 1_000_000;
    if step <= 0 {
        return Err(ApiError::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if end.saturating_sub(start) / step > POINTS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let asked = Asked::from(&form)?;
    let since = Instant::now();
    let text = asked.text.clone();
    let options = asked.options;
    let (output, usage) = api
        .queries
        .run(Language::PromQl, &asked.text, asked.timeout, move |context, storage| {
            let (start, end) = (TimestampMs(start), TimestampMs(end));
            let output = Query::parse(&text)?.range(context, storage.metrics(), start, end, step, options)?;
            Ok::<_, EvalError>((output, context.usage()))
        })
        .await??;
    Ok(asked.answer(output, usage, since))
}

/// What `query` and `query_range` share.
struct Asked {
    text: String,
    timeout: Option<Duration>,
    limit: usize,
    stats: bool,
    options: Options,
}

impl Asked {
    fn from(form: &Form) -> Result<Asked, ApiError> {
        let duration = |name: &str| -> Result<Option<i64>, ApiError> {
            let Some(text) = form.get(name) else { return Ok(None) };
            let parsed = prometheus_duration_ns(text).filter(|ns| *ns >= 0);
            let bad = || ApiError::parameter(name, format!("cannot parse {text:?} to a valid duration"));
            parsed.map(Some).ok_or_else(bad)
        };
        let lookback_ms = duration("lookback_delta")?.map_or(LOOKBACK_MS, |ns| ns / 1_000_000);
        Ok(Asked {
            text: form.get("query").unwrap_or("").to_owned(),
            timeout: duration("timeout")?.map(|ns| Duration::from_nanos(ns.unsigned_abs())),
            limit: limit(form)?,
            stats: form.get("stats").is_some(),
            options: Options {
                lookback_ms: if lookback_ms == 0 { LOOKBACK_MS } else { lookback_ms },
                subquery_step_ms: SUBQUERY_STEP_MS,
                ..Options::DEFAULT
            },
        })
    }

    fn answer(&self, mut output: Output, usage: Usage, since: Instant) -> Response {
        let rows = match &mut output.value {
            Value::Vector(rows) | Value::Matrix(rows) => Some(rows),
            Value::Scalar(..) | Value::String(..) => None,
        };
        if let Some(rows) = rows
            && rows.len() > self.limit
        {
            rows.truncate(self.limit);
            output.warnings.push(TRUNCATED.to_owned());
        }
        let seconds = since.elapsed().as_secs_f64();
        let stats = format!(
            r#"{{"timings":{{"evalTotalTime":{seconds},"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":{seconds},"execQueueTime":0,"execTotalTime":{seconds}}},"samples":{{"totalQueryableSamples":{},"peakSamples":{},"samplesRead":{}}}}}"#,
            usage.samples_total, usage.samples_peak, usage.samples_total
        );
        let data = encode::query_data(&output, self.stats.then_some(stats.as_str()));
        success(&data, &output.warnings, &output.infos)
    }
}

async fn query_exemplars(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let range = range(&form)?;
    if range.end < range.start {
        return Err(ApiError::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let text = form.get("query").unwrap_or("").to_owned();
    let selectors = Query::parse(&text)
        .map_err(|e| ApiError::parameter("query", e))?
        .selectors();
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let found = ask(&api, &text, move |s| {
        s.metrics().snapshot(range).exemplars(&selectors, range)
    })
    .await?;
    Ok(success(&encode::exemplars(&found), &[], &[]))
}

async fn series(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    if form.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let selectors = selectors(&form).map_err(|e| ApiError::parameter("match[]", e))?;
    let (range, limit) = (range(&form)?, limit(&form)?);
    let mut found = ask(&api, "series", move |s| {
        s.metrics().snapshot(range).series(&selectors, range)
    })
    .await?;
    let warnings = truncate(&mut found, limit);
    Ok(success(&encode::label_sets(&found), &warnings, &[]))
}

async fn labels(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let selectors = selectors(&form).map_err(ApiError::bad_data)?;
    let (range, limit) = (range(&form)?, limit(&form)?);
    let mut found = ask(&api, "labels", move |s| {
        s.metrics().snapshot(range).label_names(&selectors, range)
    })
    .await?;
    let warnings = truncate(&mut found, limit);
    Ok(success(&encode::strings(&found), &warnings, &[]))
}

async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let name = unescape_name(&name).ok_or_else(|| ApiError::bad_data(format!("invalid label name: {name:?}")))?;
    let form = read(request).await?;
    let selectors = selectors(&form).map_err(ApiError::bad_data)?;
    let (range, limit) = (range(&form)?, limit(&form)?);
    let find = move |s: &Storage| s.metrics().snapshot(range).label_values(&name, &selectors, range);
    let mut found = ask(&api, "label values", find).await?;
    let warnings = truncate(&mut found, limit);
    Ok(success(&encode::strings(&found), &warnings, &[]))
}

async fn metadata(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let number = |name: &str| -> Result<usize, ApiError> {
        let parsed = form.get(name).map_or(Ok(-1), str::parse::<i64>);
        let n = parsed.map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
        Ok(usize::try_from(n).unwrap_or(usize::MAX))
    };
    // One entry is known of each family, so that `limit_per_metric` never cuts.
    let (limit, _) = (number("limit")?, number("limit_per_metric")?);
    let all = api.queries.storage().metrics().metadata();
    let wanted = form.get("metric");
    let chosen = all.iter().filter(|(name, _)| wanted.is_none_or(|w| w == name));
    let chosen = chosen.take(limit);
    Ok(success(&encode::metadata(chosen), &[], &[]))
}

/// Runs a question about metadata on the CPU pool.
pub(crate) async fn ask<T: Send + 'static>(
    api: &Api,
    text: &str,
    find: impl FnOnce(&Storage) -> Result<T, BlockError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(api
        .queries
        .run(Language::PromQl, text, None, move |_, storage| find(storage))
        .await??)
}

pub(crate) async fn read(request: http::Request<Body>) -> Result<Form, ApiError> {
    debug_assert!(request.method() != Method::OPTIONS);
    Ok(Form::read(request).await?)
}

fn time(form: &Form, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    time_ms(text).map(Some).ok_or_else(|| {
        let what = format!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp");
        ApiError::parameter(name, what)
    })
}

fn range(form: &Form) -> Result<TimeRangeMs, ApiError> {
    let start = time(form, "start")?.map_or(TimeRangeMs::ALL.start, TimestampMs);
    let end = time(form, "end")?.map_or(TimeRangeMs::ALL.end, TimestampMs);
    Ok(TimeRangeMs { start, end })
}

/// The most rows wanted; absent and 0 mean all.
fn limit(form: &Form) -> Result<usize, ApiError> {
    match form.get("limit").map(str::parse::<i64>) {
        None | Some(Ok(0)) => Ok(usize::MAX),
        Some(Ok(n)) if n > 0 => Ok(n as usize),
        Some(Ok(_)) => Err(ApiError::parameter("limit", "limit must be non-negative")),
        Some(Err(e)) => Err(ApiError::parameter("limit", e)),
    }
}

fn selectors(form: &Form) -> Result<Vec<Vec<Matcher>>, String> {
    form.all("match[]")
        .map(|text| {
            parse_selector(text).map_err(|e| {
                let rule = "must contain at least one non-empty matcher";
                // The API has words of its own for this one.
                if e.message.ends_with(rule) {
                    format!("match[] {rule}")
                } else {
                    e.message
                }
            })
        })
        .collect()
}

fn truncate<T>(found: &mut Vec<T>, limit: usize) -> Vec<String> {
    if found.len() <= limit {
        return Vec::new();
    }
    found.truncate(limit);
    vec![TRUNCATED.to_owned()]
}

/// Decodes `U__http_2e_status` to `http.status`; other names stand for themselves. `None` if it is no label name.
fn unescape_name(name: &str) -> Option<String> {
    let Some(escaped) = name.strip_prefix("U__") else {
        return (!name.is_empty()).then(|| name.to_owned());
    };
    let mut out = String::new();
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('_') {
            out.push('_');
            rest = tail;
        } else {
            let end = rest.find('_').filter(|end| *end <= 6)?;
            out.push(char::from_u32(u32::from_str_radix(&rest[..end], 16).ok()?)?);
            rest = &rest[end + 1..];
        }
    }
    out.push_str(rest);
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_decode() {
        assert_eq!(unescape_name("U__http_2e_status").as_deref(), Some("http.status"));
        assert_eq!(unescape_name("U__a__b").as_deref(), Some("a_b"));
        assert_eq!(unescape_name("job").as_deref(), Some("job"));
        assert_eq!(unescape_name("U__a_zz_").as_deref(), None);
        assert_eq!(unescape_name("").as_deref(), None);
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
