//! The query endpoints: `query`, `query_range`, `query_exemplars`, and what is said of a query without running it.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::{TimeRangeMs, TimestampMs};
use query::{Context, Language, Usage};
use query_promql::{EvalError, Options, Output, Query, SampleCounts, Value};
use storage::Storage;

use super::encode::{self, list, success};
use super::errors::ApiError;
use super::params::{duration_ns, limit, range, read, time, truncate};
use super::results;
use super::routes::Api;
use super::series::ask;
use crate::form::Form;
use crate::number::{push_json, time_ms};

/// A range query may have one point more than this many.
const POINTS_MAX: i64 = 11_000;

pub(crate) async fn query(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let now = api.queries.storage().now().floor_ms();
    let at = TimestampMs(time(&form, "time")?.unwrap_or(now.0));
    let asked = Asked::from(&form, api.about.promql)?;
    let options = asked.options;
    asked
        .run(&api, move |query, context, storage| {
            query.instant(context, storage.metrics(), at, options)
        })
        .await
}

pub(crate) async fn query_range(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
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
    let step_ns = duration_ns(step_text).map_err(|e| ApiError::parameter("step", e))?;
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
    let asked = Asked::from(&form, api.about.promql)?;
    let options = asked.options;
    let (start, end) = (TimestampMs(start), TimestampMs(end));
    asked
        .run(&api, move |query, context, storage| {
            query.range(context, storage.metrics(), start, end, step, options)
        })
        .await
}

/// What `query` and `query_range` share.
struct Asked {
    text: String,
    timeout: Option<Duration>,
    limit: usize,
    stats: bool,
    warnings: Vec<String>,
    options: Options,
}

impl Asked {
    fn from(form: &Form, mut options: Options) -> Result<Asked, ApiError> {
        let duration = |name: &str| -> Result<Option<i64>, ApiError> {
            let Some(text) = form.get(name) else { return Ok(None) };
            duration_ns(text).map(Some).map_err(|e| ApiError::parameter(name, e))
        };
        // As upstream, a lookback that is not positive means the usual one.
        let lookback_ms = match form.get("lookback_delta") {
            Some(text) => {
                duration_ns(text)
                    .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?
                    / 1_000_000
            }
            None => 0,
        };
        let stats = form.get("stats");
        let deprecated = stats.filter(|s| !matches!(*s, "true" | "all")).map(|s| {
            format!(
                "value {s:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \
                 \"true\" or \"all\""
            )
        });
        options.count_samples = stats.is_some();
        if lookback_ms > 0 {
            options.lookback_ms = lookback_ms;
        }
        Ok(Asked {
            text: form.get("query").unwrap_or("").to_owned(),
            timeout: duration("timeout")?.map(|ns| Duration::from_nanos(ns.max(0).unsigned_abs())),
            limit: limit(form)?,
            stats: stats.is_some(),
            warnings: deprecated.into_iter().collect(),
            options,
        })
    }

    async fn run(
        mut self,
        api: &Api,
        evaluate: impl FnOnce(&Query, &Context, &Storage) -> Result<Output, EvalError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let since = Instant::now();
        let text = self.text.clone();
        let (mut output, figures) = api
            .queries
            .run(Language::PromQl, &self.text, self.timeout, move |context, storage| {
                let begun = Instant::now();
                let query = Query::parse(&text)?;
                let parsed = Instant::now();
                let output = evaluate(&query, context, storage)?;
                let figures = Figures {
                    waited: begun - since,
                    parse: parsed - begun,
                    evaluation: parsed.elapsed(),
                    usage: context.usage(),
                    samples: output.samples,
                };
                Ok::<_, EvalError>((output, figures))
            })
            .await??;
        if let Value::Vector(rows) | Value::Matrix(rows) = &mut output.value {
            output.warnings.extend(truncate(rows, self.limit));
        }
        output.warnings.append(&mut self.warnings);
        let stats = self.stats.then(|| figures.json());
        Ok(results::answer(output, stats.as_deref()))
    }
}

/// What a query took.
struct Figures {
    waited: Duration,
    parse: Duration,
    evaluation: Duration,
    usage: Usage,
    samples: SampleCounts,
}

impl Figures {
    fn json(&self) -> String {
        let [waited, parse, inner] = [self.waited, self.parse, self.evaluation].map(|d| d.as_secs_f64());
        let all = parse + inner;
        let Usage { samples_peak: peak, .. } = self.usage;
        let SampleCounts { queryable, read } = self.samples;
        format!(
            r#"{{"timings":{{"evalTotalTime":{all},"resultSortTime":0,"queryPreparationTime":{parse},"innerEvalTime":{inner},"execQueueTime":{waited},"execTotalTime":{all}}},"samples":{{"totalQueryableSamples":{queryable},"samplesRead":{read},"peakSamples":{peak}}}}}"#,
        )
    }
}

pub(crate) async fn query_exemplars(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let range: TimeRangeMs = range(&form)?;
    if range.end < range.start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let text = form.get("query").unwrap_or("").to_owned();
    let selectors = query::read(&text, Query::parse)
        .map_err(|e| ApiError::bad_data(e.message))?
        .selectors();
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let found = ask(&api, &text, move |s| {
        s.metrics().snapshot(range).exemplars(&selectors, range)
    })
    .await?;
    Ok(list(found, &[], |out, series| encode::exemplars(out, &series)))
}

/// The query as the canonical printer writes it.
pub(crate) async fn format_query(request: Request) -> Result<Response, ApiError> {
    let query = parsed(request).await?;
    let mut data = String::new();
    push_json(&mut data, &query.format());
    Ok(success(&data))
}

/// The query's syntax tree.
pub(crate) async fn parse_query(request: Request) -> Result<Response, ApiError> {
    let query = parsed(request).await?;
    let mut data = String::new();
    query.tree().write_json(&mut data);
    Ok(success(&data))
}

async fn parsed(request: Request) -> Result<Query, ApiError> {
    let form = read(request).await?;
    query::read(form.get("query").unwrap_or(""), Query::parse).map_err(|e| ApiError::parameter("query", e))
}
