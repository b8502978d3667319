//! The endpoints: parameters in, questions asked, answers out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use http::{HeaderMap, StatusCode};
use model::{LabelSet, LabelsBuilder, Matcher, TimeRangeNs, TimestampNs};
use query::{Context, Language, Queries};
use query_logql::{
    Direction, Options, Output, ParseError, Query, Series, Value, detected_fields as find_fields, line_patterns,
    parse_all_matchers, parse_matchers, pretty,
};
use storage::Storage;
use storage_logs::{BlockError, Volume};

use super::deletes;
use super::encode::{self, Labels, json, push_labels, push_list, strings};
use super::errors::ApiError;
use super::legacy;
use super::params;
use super::rules;
use super::status;
use super::tail;
use crate::About;
use crate::form::Form;
use crate::number::push_json;

/// Series that one metric query may return.
const SERIES_MAX: usize = 500;

/// Keys that a volume may have.
const VOLUME_KEYS_MAX: usize = 1000;

/// The interval in which patterns are counted if none is asked for.
const PATTERN_STEP_NS: i64 = 10_000_000_000;

/// What is said where a query is missing.
const NO_QUERY: &str = "parse error : syntax error: unexpected $end";

/// How the answer to a query begins that cannot be formatted.
const INVALID_QUERY: &str = r#"{"status":"invalid-query","error":"#;

/// The version of Loki whose API this is.
const VERSION: &str = "3.5.0";

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    pub queries: Queries,
    pub about: About,
}

/// The Loki HTTP API under `/loki/api/v1/`.
pub fn router(queries: &Queries, about: &About) -> Router {
    let api = Api {
        queries: queries.clone(),
        about: about.clone(),
    };
    let v1 = Router::new()
        .route("/query", both(query))
        .route("/query_range", both(query_range))
        .route("/labels", both(labels))
        .route("/label", both(labels))
        .route("/label/{name}/values", both(label_values))
        .route("/series", both(series))
        .route("/index/stats", both(index_stats))
        .route("/index/volume", both(volume))
        .route("/index/volume_range", both(volume_range))
        .route("/index/shards", both(index_shards))
        .route("/patterns", both(patterns))
        .route("/detected_labels", both(detected_labels))
        .route("/detected_fields", both(detected_fields))
        .route("/detected_field/{name}/values", both(detected_field_values))
        .route("/tail", any(tail::tail))
        .route("/format_query", both(format_query))
        .route("/delete", deletes::methods())
        .route("/drilldown-limits", get(drilldown_limits))
        .route("/status/buildinfo", get(build_info));
    Router::new()
        .nest("/loki/api/v1", v1)
        .merge(status::router())
        .merge(rules::router())
        .merge(legacy::router())
        .with_state(api)
        .merge(crate::web::loki_pages(queries, about))
        .fallback(|| async { ApiError::with_status(StatusCode::NOT_FOUND, "404 page not found\n") })
}

pub(crate) fn both<H, T>(handler: H) -> MethodRouter<Api>
where
    H: axum::handler::Handler<T, Api>,
    T: 'static,
{
    get(handler.clone()).post(handler)
}

/// How the caller wants labels.
pub(crate) fn labels_asked(headers: &HeaderMap, about: &About) -> Labels {
    let flags = headers.get_all("X-Loki-Response-Encoding-Flags");
    let categorize = flags
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|flag| flag.trim() == "categorize-labels");
    if categorize {
        Labels::Categorized
    } else {
        uncategorized(about)
    }
}

/// How callers get labels that ask for nothing.
pub(crate) fn uncategorized(about: &About) -> Labels {
    if about.merge_structured_metadata {
        Labels::Merged
    } else {
        Labels::StreamOnly
    }
}

async fn query(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let how = labels_asked(request.headers(), &api.about);
    let partial = is_drilldown(request.headers());
    let form = Form::read(request).await?;
    let text = required_query(&form)?;
    let at = params::instant(&form, api.queries.storage().now())?;
    let options = options(&form, true)?;
    let parsed = query::read(&text, Query::parse_instant)?;
    let since = Instant::now();
    let mut output = api
        .queries
        .run(Language::LogQl, &text, None, move |context, storage| {
            parsed.instant(context, storage.logs(), at, options)
        })
        .await??;
    let warnings = warnings(&mut output, partial)?;
    Ok(encode::query(&output, how, &warnings, since.elapsed().as_secs_f64()))
}

async fn query_range(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let how = labels_asked(request.headers(), &api.about);
    let partial = is_drilldown(request.headers());
    let form = Form::read(request).await?;
    let text = required_query(&form)?;
    let mut range = params::range(&form, api.queries.storage().now())?;
    let step = params::step_ns(&form, range)?;
    let interval = params::interval_ns(&form)?;
    options(&form, true)?;
    let parsed = query::read(&text, Query::parse)?;
    let options = options(&form, parsed.is_metric())?;
    if parsed.is_metric() {
        range = align(range, step);
    }
    let since = Instant::now();
    let mut output = api
        .queries
        .run(Language::LogQl, &text, None, move |context, storage| {
            parsed.range(context, storage.logs(), range.start, range.end, step, options)
        })
        .await??;
    let warnings = warnings(&mut output, partial)?;
    if interval > 0 {
        thin_out(&mut output.value, interval, options.direction);
    }
    Ok(encode::query(&output, how, &warnings, since.elapsed().as_secs_f64()))
}

/// Start down, end up, to multiples of the step: points of a metric query stand at the same times however it is cut.
fn align(range: TimeRangeNs, step: i64) -> TimeRangeNs {
    let down = |t: i64| t.saturating_sub(t.rem_euclid(step));
    let end = range.end.0;
    let up = if end.rem_euclid(step) == 0 {
        end
    } else {
        down(end).saturating_add(step)
    };
    TimeRangeNs {
        start: TimestampNs(down(range.start.0)),
        end: TimestampNs(up),
    }
}

pub(crate) fn options(form: &Form, is_metric: bool) -> Result<Options, ApiError> {
    Ok(Options {
        limit: params::entries_limit(form, is_metric)?,
        direction: params::direction(form)?,
    })
}

pub(crate) fn required_query(form: &Form) -> Result<String, ApiError> {
    match form.get("query") {
        Some(text) => Ok(text.to_owned()),
        None => Err(ApiError::bad(NO_QUERY)),
    }
}

/// Whether Grafana's Logs Drilldown asks: it prefers some series and a warning to an error.
fn is_drilldown(headers: &HeaderMap) -> bool {
    let tags = headers.get("X-Query-Tags").and_then(|v| v.to_str().ok());
    tags.is_some_and(|tags| {
        tags.split(',')
            .any(|tag| tag.trim().eq_ignore_ascii_case("source=grafana-lokiexplore-app"))
    })
}

/// What the caller should know of the answer, which is cut where it is too large.
fn warnings(output: &mut Output, partial: bool) -> Result<Vec<String>, ApiError> {
    let mut warnings: Vec<String> = limit_series(&mut output.value, partial)?.into_iter().collect();
    match output.stats.damaged_chunks {
        0 => {}
        n => warnings.push(format!(
            "{n} chunks of stored logs are damaged and were left out; the server's log names their files"
        )),
    }
    Ok(warnings)
}

/// Too many series are an error, or with `partial` cut; then the warning says so.
fn limit_series(value: &mut Value, partial: bool) -> Result<Option<String>, ApiError> {
    let (Value::Matrix(series) | Value::Vector(series)) = value else {
        return Ok(None);
    };
    if series.len() <= SERIES_MAX {
        return Ok(None);
    }
    let reached = format!("maximum number of series ({SERIES_MAX}) reached for a single query; ");
    if partial {
        series.truncate(SERIES_MAX);
        return Ok(Some(reached + "returning partial results"));
    }
    Err(ApiError::bad(
        reached
            + "consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or \
               aggregating results with functions like sum(), count() or topk()",
    ))
}

/// Leaves out entries that lie less than `interval` from the last one kept, counted over all streams together.
fn thin_out(value: &mut Value, interval: i64, direction: Direction) {
    let Value::Streams(streams) = value else { return };
    let mut order: Vec<(i64, usize, usize)> = Vec::new();
    for (s, stream) in streams.iter().enumerate() {
        order.extend(stream.lines.iter().enumerate().map(|(l, line)| (line.entry.t.0, s, l)));
    }
    order.sort_unstable_by_key(|(t, s, l)| (if direction == Direction::Forward { *t } else { -*t }, *s, *l));
    let mut kept = BTreeSet::new();
    let mut last: Option<i64> = None;
    for (t, s, l) in order {
        if last.is_none_or(|last| t.abs_diff(last) >= interval.unsigned_abs()) {
            last = Some(t);
            kept.insert((s, l));
        }
    }
    for (s, stream) in streams.iter_mut().enumerate() {
        let mut l = 0;
        stream.lines.retain(|_| {
            l += 1;
            kept.contains(&(s, l - 1))
        });
    }
    streams.retain(|s| !s.lines.is_empty());
}

pub(crate) async fn labels(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let range = params::range(&form, api.queries.storage().now())?;
    let selectors = query_selector(&form)?;
    let found = ask(&api, "labels", move |s| {
        s.logs().snapshot(range).label_names(&selectors, range)
    })
    .await?;
    Ok(strings(&found))
}

pub(crate) async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let range = params::range(&form, api.queries.storage().now())?;
    let selectors = query_selector(&form)?;
    let find = move |s: &Storage| s.logs().snapshot(range).label_values(&name, &selectors, range);
    Ok(strings(&ask(&api, "label values", find).await?))
}

pub(crate) async fn series(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let range = params::range(&form, api.queries.storage().now())?;
    let texts: Vec<&str> = form
        .all("match[]")
        .chain(form.all("match"))
        .filter(|t| !t.is_empty())
        .collect();
    let selectors = if texts.iter().all(|t| is_everything(t)) {
        Vec::new()
    } else {
        query::read(&texts.concat(), |_| selectors(&texts))?
    };
    let found = ask(&api, "series", move |s| {
        s.logs().snapshot(range).series(&selectors, range)
    })
    .await?;
    let mut out = String::from("{\"status\":\"success\",\"data\":");
    push_list(&mut out, found.iter(), push_labels);
    out.push('}');
    Ok(json(out))
}

fn is_everything(text: &str) -> bool {
    text.chars().filter(|c| !c.is_whitespace()).eq("{}".chars())
}

/// The `query` of the label endpoints: a plain selector, empty for everything.
fn query_selector(form: &Form) -> Result<Vec<Vec<Matcher>>, ApiError> {
    match form.get("query") {
        Some(text) if !text.is_empty() => Ok(vec![selector(text)?]),
        _ => Ok(Vec::new()),
    }
}

/// A selector that says what it wants: one matcher at least that the empty text does not pass.
fn selector(text: &str) -> Result<Vec<Matcher>, ApiError> {
    let mut selectors = query::read(text, |text| selectors(&[text]))?;
    Ok(selectors.pop().unwrap_or_default())
}

/// The same of several, which share a budget for their expressions.
fn selectors(texts: &[&str]) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let found = parse_all_matchers(texts).map_err(|(text, e)| not_a_selector(text, e))?;
    for (text, matchers) in texts.iter().zip(&found) {
        if matchers.iter().all(Matcher::matches_empty) {
            Query::parse(text)?;
        }
    }
    Ok(found)
}

fn any_selector(text: &str) -> Result<Vec<Matcher>, ApiError> {
    query::read(text, parse_matchers).map_err(|e| not_a_selector(text, e))
}

fn not_a_selector(text: &str, error: ParseError) -> ApiError {
    match query::read(text, Query::parse) {
        Ok(_) => ApiError::bad("only label matchers are supported"),
        Err(_) => error.into(),
    }
}

/// The `query` of the volume endpoints: a selector; `{}` is everything.
fn index_matchers(form: &Form) -> Result<Vec<Matcher>, ApiError> {
    let text = required_query(form)?;
    if is_everything(&text) {
        Ok(Vec::new())
    } else {
        any_selector(&text)
    }
}

async fn index_stats(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    Ok(json(stats_of(&api, &form).await?))
}

/// How a query might be split: one shard, since one process answers.
async fn index_shards(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let target = form.get("targetBytesPerShard").unwrap_or("");
    if !is_positive_size(target) {
        return Err(ApiError::bad("targetBytesPerShard must be a positive value"));
    }
    let stats = stats_of(&api, &form).await?;
    Ok(json(format!(
        r#"{{"shards":[{{"bounds":{{"min":0,"max":{}}},"stats":{stats}}}],"statistics":{{}},"chunkGroups":[]}}"#,
        u64::MAX
    )))
}

/// Whether a text is a size such as `500MB`, of at least a byte.
fn is_positive_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    digits.trim().parse::<f64>().is_ok_and(|n| n > 0.0 && n.is_finite())
}

/// How much a selector has in a range, as an object.
async fn stats_of(api: &Api, form: &Form) -> Result<String, ApiError> {
    let range = params::range(form, api.queries.storage().now())?;
    let matchers = selector(&required_query(form)?)?;
    let volumes = ask(api, "index stats", move |s| {
        s.logs().snapshot(range).volumes(&matchers, range)
    })
    .await?;
    let sum = |value: fn(&Volume) -> u64| volumes.iter().map(value).sum::<u64>();
    Ok(format!(
        r#"{{"streams":{},"chunks":{},"bytes":{},"entries":{}}}"#,
        volumes.len(),
        sum(|v| v.chunks),
        sum(|v| v.bytes),
        sum(|v| v.entries)
    ))
}

/// The shapes of the lines that a selector finds; what a query does to the lines does not count.
async fn patterns(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let range = params::range(&form, api.queries.storage().now())?;
    let step = match form.get("step") {
        Some(_) => params::step_ns(&form, range)?,
        None => PATTERN_STEP_NS,
    };
    let text = required_query(&form)?;
    let matchers = query::read(&text, Query::parse)?.matchers().to_vec();
    let found = api
        .queries
        .run(Language::LogQl, &text, None, move |context, storage| {
            line_patterns(context, storage.logs(), &matchers, range, step)
        })
        .await??;
    let mut out = String::from(r#"{"status":"success","data":"#);
    push_list(&mut out, found.iter(), |out, p| {
        out.push_str("{\"pattern\":");
        push_json(out, &p.pattern);
        out.push_str(",\"level\":");
        push_json(out, if p.level.is_empty() { "unknown" } else { &p.level });
        out.push_str(",\"samples\":");
        push_list(out, p.samples.iter(), |out, (t, n)| out.push_str(&format!("[{t},{n}]")));
        out.push('}');
    });
    out.push('}');
    Ok(json(out))
}

/// The set of one label, its name for its value.
fn only(name: &str) -> LabelSet {
    let mut only = LabelsBuilder::default();
    only.set(name, name);
    only.build()
}

/// How volumes are added up.
#[derive(Clone)]
struct Adding {
    matchers: Vec<Matcher>,
    targets: Vec<String>,
    by_label: bool,
    limit: usize,
}

impl Adding {
    fn from(form: &Form) -> Result<Adding, ApiError> {
        let by_label = match form.get("aggregateBy") {
            None | Some("series") => false,
            Some("labels") => true,
            Some(_) => return Err(ApiError::bad("invalid aggregation option")),
        };
        let targets = form.get("targetLabels").unwrap_or("").split(',').map(str::trim);
        let targets: Vec<String> = targets.filter(|t| !t.is_empty()).map(str::to_owned).collect();
        let limit = match form.get("limit") {
            None | Some("0") => 100,
            Some(_) => params::positive(form, "limit", 100)?,
        };
        Ok(Adding {
            matchers: index_matchers(form)?,
            targets,
            by_label,
            limit,
        })
    }

    /// The keys that a stream counts for.
    fn keys(&self, labels: &LabelSet) -> Vec<LabelSet> {
        if self.targets.iter().any(|name| labels.get(name).is_none()) {
            return Vec::new();
        }
        if self.by_label && self.targets.is_empty() {
            return labels.iter().map(|(name, _)| only(name)).collect();
        }
        let named: Vec<&str> = if self.targets.is_empty() {
            self.matchers.iter().map(Matcher::name).collect()
        } else {
            self.targets.iter().map(String::as_str).collect()
        };
        let key = if named.is_empty() {
            labels.clone()
        } else {
            labels.keep(&named)
        };
        if self.by_label {
            return key.iter().map(|(name, _)| only(name)).collect();
        }
        if key.is_empty() { Vec::new() } else { vec![key] }
    }

    /// Bytes by key.
    fn add(&self, volumes: &[Volume]) -> BTreeMap<LabelSet, u64> {
        let mut out: BTreeMap<LabelSet, u64> = BTreeMap::new();
        for v in volumes {
            for key in self.keys(&v.labels) {
                *out.entry(key).or_default() += v.bytes;
            }
        }
        out
    }

    /// The largest first, cut at the limit.
    fn sort(&self, keys: &mut Vec<Series>) -> Result<(), ApiError> {
        if keys.len() > VOLUME_KEYS_MAX {
            return Err(ApiError::bad(format!(
                "the query hit the max number of series limit (limit: {VOLUME_KEYS_MAX} series)"
            )));
        }
        let first = |s: &Series| s.points.first().map_or(0.0, |p| p.1);
        keys.sort_by(|a, b| first(b).total_cmp(&first(a)).then_with(|| a.labels.cmp(&b.labels)));
        keys.truncate(self.limit);
        Ok(())
    }
}

async fn volume(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let range = params::range(&form, api.queries.storage().now())?;
    let adding = Adding::from(&form)?;
    let inside = adding.clone();
    let keys = ask(&api, "volume", move |s| {
        Ok(inside.add(&s.logs().snapshot(range).volumes(&inside.matchers, range)?))
    })
    .await?;
    let t = range.end.floor_ms().0;
    let mut series: Vec<Series> = keys
        .into_iter()
        .map(|(labels, bytes)| Series {
            labels,
            points: vec![(t, bytes as f64)],
        })
        .collect();
    adding.sort(&mut series)?;
    Ok(encode::volumes("vector", &series, adding.by_label))
}

async fn volume_range(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let range = params::range(&form, api.queries.storage().now())?;
    let step = params::step_ns(&form, range)?;
    let adding = Adding::from(&form)?;
    let inside = adding.clone();
    let mut series = api
        .queries
        .run(Language::LogQl, "volume range", None, move |context, storage| {
            volume_steps(context, storage, range, step, &inside)
        })
        .await??;
    adding.sort(&mut series)?;
    let kind = if series.iter().any(|s| s.points.len() > 1) {
        "matrix"
    } else {
        "vector"
    };
    Ok(encode::volumes(kind, &series, adding.by_label))
}

fn volume_steps(
    context: &Context,
    storage: &Storage,
    range: TimeRangeNs,
    step: i64,
    adding: &Adding,
) -> Result<Vec<Series>, query_logql::EvalError> {
    let snapshot = storage.logs().snapshot(range);
    let mut go_on = || context.check("volume").is_ok();
    let volumes = snapshot.volumes_by_step(&adding.matchers, range, step, &mut go_on)?;
    context.check("volume")?;
    let mut keys: BTreeMap<LabelSet, BTreeMap<u64, u64>> = BTreeMap::new();
    for volume in &volumes {
        for key in adding.keys(&volume.labels) {
            let steps = keys.entry(key).or_default();
            for (n, bytes) in &volume.steps {
                *steps.entry(*n).or_default() += bytes;
            }
        }
    }
    // A step counts at its end.
    let end_of = |n: u64| {
        let end = i128::from(range.start.0) + (i128::from(n) + 1) * i128::from(step);
        TimestampNs(i64::try_from(end).unwrap_or(i64::MAX).min(range.end.0))
            .floor_ms()
            .0
    };
    let series = |(labels, steps): (LabelSet, BTreeMap<u64, u64>)| Series {
        labels,
        points: steps.into_iter().map(|(n, bytes)| (end_of(n), bytes as f64)).collect(),
    };
    Ok(keys.into_iter().map(series).collect())
}

async fn detected_labels(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let range = params::range(&form, api.queries.storage().now())?;
    let selectors = query_selector(&form)?;
    let found = ask(&api, "detected labels", move |s| {
        s.logs().snapshot(range).series(&selectors, range)
    })
    .await?;
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in found.iter().flat_map(LabelSet::iter) {
        values.entry(name.to_owned()).or_default().insert(value.to_owned());
    }
    values.retain(|name, values| is_worth_showing(name, values));
    if values.is_empty() {
        return Ok(json("{}".to_owned()));
    }
    let mut out = String::from("{\"detectedLabels\":");
    push_list(&mut out, values.iter(), |out, (name, values)| {
        out.push_str("{\"label\":");
        push_json(out, name);
        out.push_str(&format!(",\"cardinality\":{}}}", values.len()));
    });
    out.push('}');
    Ok(json(out))
}

/// Labels whose values are all numbers or UUIDs tell a person nothing.
fn is_worth_showing(name: &str, values: &BTreeSet<String>) -> bool {
    let is_id = |v: &String| v.parse::<f64>().is_ok() || is_uuid(v);
    let is_flag = values.iter().all(|v| v == "0" || v == "1");
    ["cluster", "namespace", "instance", "pod"].contains(&name) || is_flag || !values.iter().all(is_id)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

async fn detected_fields(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let limit = params::positive(
        &form,
        if form.get("limit").is_some() {
            "limit"
        } else {
            "field_limit"
        },
        1000,
    )?;
    let found = fields(&api, &form, limit).await?;
    if found.is_empty() {
        return Ok(json("{}".to_owned()));
    }
    let mut out = String::from("{\"fields\":");
    push_list(&mut out, found.iter(), |out, f| {
        out.push_str("{\"label\":");
        push_json(out, &f.label);
        out.push_str(&format!(
            ",\"type\":\"{}\",\"cardinality\":{},\"parsers\":",
            f.kind, f.cardinality
        ));
        if f.parsers.is_empty() {
            out.push_str("null");
        } else {
            push_list(out, f.parsers.iter(), |out, p| push_json(out, p));
        }
        if !f.json_path.is_empty() {
            out.push_str(",\"jsonPath\":");
            push_list(out, f.json_path.iter(), |out, p| push_json(out, p));
        }
        out.push('}');
    });
    out.push_str(&format!(",\"limit\":{limit}}}"));
    Ok(json(out))
}

async fn detected_field_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let limit = params::positive(&form, "limit", 1000)?;
    let found = fields(&api, &form, usize::MAX).await?;
    let Some(field) = found.iter().find(|f| f.label == name && !f.values.is_empty()) else {
        return Ok(json("{}".to_owned()));
    };
    let mut out = String::from("{\"values\":");
    push_list(&mut out, field.values.iter().take(limit), |out, v| push_json(out, v));
    out.push_str(&format!(",\"limit\":{limit}}}"));
    Ok(json(out))
}

async fn fields(api: &Api, form: &Form, limit: usize) -> Result<Vec<query_logql::DetectedField>, ApiError> {
    let range = params::range(form, api.queries.storage().now())?;
    let lines = params::positive(form, "line_limit", 100)?.min(5000);
    let text = required_query(form)?;
    let parsed = query::read(&text, Query::parse)?;
    let found = api
        .queries
        .run(Language::LogQl, &text, None, move |context, storage| {
            find_fields(context, storage.logs(), &parsed, range.start, range.end, lines, limit)
        })
        .await??;
    Ok(found)
}

/// The query as a person would write it, in lines of at most 100 characters.
async fn format_query(request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let text = form.get("query").unwrap_or("");
    let (status, key, text) = match query::read(text, |text| pretty(text, 100)) {
        // Without a query there is no place for the error.
        Err(_) if text.is_empty() => (StatusCode::BAD_REQUEST, INVALID_QUERY, NO_QUERY.to_owned()),
        Ok(text) => (StatusCode::OK, r#"{"status":"success","data":"#, text),
        Err(e) => (StatusCode::BAD_REQUEST, INVALID_QUERY, e.to_string()),
    };
    let mut out = String::from(key);
    push_json(&mut out, &text);
    // Go writes what HTML could mistake in escapes.
    for (plain, escaped) in [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")] {
        out = out.replace(plain, escaped);
    }
    out.push('}');
    Ok((status, json(out)).into_response())
}

/// Limits that a client may meet: names and JSON values.
pub(crate) fn limits(api: &Api) -> Vec<(&'static str, String)> {
    let text = |value: &str| {
        let mut out = String::new();
        push_json(&mut out, value);
        out
    };
    let mut list = vec![
        ("discover_log_levels", "true".to_owned()),
        ("max_entries_limit_per_query", params::ENTRIES_MAX.to_string()),
        ("max_query_series", SERIES_MAX.to_string()),
        ("metric_aggregation_enabled", "false".to_owned()),
        ("pattern_persistence_enabled", "false".to_owned()),
        ("query_timeout", text(&format!("{}s", api.queries.timeout().as_secs()))),
    ];
    if let Some((_, retention)) = api.about.flags.iter().find(|(name, _)| name == "retention-logs") {
        list.push(("retention_period", text(retention)));
    }
    list.push(("volume_enabled", "true".to_owned()));
    list.push(("volume_max_series", VOLUME_KEYS_MAX.to_string()));
    list
}

/// What Logs Drilldown may offer.
async fn drilldown_limits(State(api): State<Api>) -> Response {
    let limits: Vec<String> = limits(&api)
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    json(format!(
        r#"{{"limits":{{{}}},"pattern_ingester_enabled":true,"version":"{VERSION}"}}"#,
        limits.join(",")
    ))
}

async fn build_info(State(api): State<Api>) -> Response {
    // Clients compare the version with Loki's own to decide what they may ask.
    let mut out = format!(r#"{{"version":"{VERSION}","revision":"#);
    push_json(&mut out, &api.about.revision);
    out.push_str(r#","branch":"","buildUser":"#);
    push_json(&mut out, &format!("trilobite {}", api.about.version));
    out.push_str(r#","buildDate":"","goVersion":""}"#);
    json(out).into_response()
}

/// Runs a question about labels or volumes on the CPU pool.
async fn ask<T: Send + 'static>(
    api: &Api,
    text: &str,
    find: impl FnOnce(&Storage) -> Result<T, BlockError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(api
        .queries
        .run(Language::LogQl, text, None, move |_, storage| find(storage))
        .await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_align_to_the_step() {
        let check = |start, end| {
            let r = align(
                TimeRangeNs {
                    start: TimestampNs(start),
                    end: TimestampNs(end),
                },
                10,
            );
            (r.start.0, r.end.0)
        };
        assert_eq!(check(11, 19), (10, 20));
        assert_eq!(check(10, 20), (10, 20));
        assert_eq!(check(-11, -1), (-20, 0));
    }

    #[test]
    fn labels_of_ids_are_not_shown() {
        let set = |values: &[&str]| values.iter().map(|v| v.to_string()).collect::<BTreeSet<_>>();
        assert!(!is_worth_showing("id", &set(&["17", "18.5"])));
        assert!(!is_worth_showing("id", &set(&["0b51ab10-1f7d-4c44-8d6c-1f9c1a5f8a3e"])));
        assert!(is_worth_showing("on", &set(&["0", "1"])));
        assert!(is_worth_showing("pod", &set(&["17"])));
        assert!(is_worth_showing("app", &set(&["17", "x"])));
    }

    #[test]
    fn everything_is_an_empty_selector() {
        assert!(is_everything("{}") && is_everything(" { } ") && !is_everything("{a=\"b\"}"));
    }
}
