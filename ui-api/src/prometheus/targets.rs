//! Who is scraped: `targets`, `targets/metadata`, `scrape_pools`, and what relabelling does to labels.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use model::LabelSet;
use query_promql::parse_selector;

use super::encode::{join, label_set, list, success};
use super::errors::ApiError;
use super::params::{count, read};
use super::routes::Api;
use super::status::rfc3339;
use crate::number::push_json;
use crate::{DroppedTarget, Target};

pub(crate) async fn targets(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let state = form.get("state").unwrap_or("").to_ascii_lowercase();
    let pool = form.get("scrapePool");
    let wanted = |name: &str| pool.is_none_or(|p| p == name);
    let is_any = matches!(state.as_str(), "" | "any");
    let mut data = String::from("{\"activeTargets\":[");
    if is_any || state == "active" {
        let active = api.about.targets.active();
        join(&mut data, active.iter().filter(|t| wanted(&t.pool)), active_target);
    }
    data.push_str("],\"droppedTargets\":[");
    let dropped = api.about.targets.dropped();
    let with_dropped = is_any || state == "dropped";
    if with_dropped {
        join(&mut data, dropped.iter().filter(|t| wanted(&t.pool)), dropped_target);
    }
    data.push_str("],\"droppedTargetCounts\":");
    if with_dropped {
        dropped_counts(&mut data, &api);
    } else {
        data.push_str("null");
    }
    data.push('}');
    Ok(success(&data))
}

fn active_target(out: &mut String, t: &Target) {
    out.push_str("{\"discoveredLabels\":");
    label_set(out, &t.discovered);
    out.push_str(",\"labels\":");
    label_set(out, &t.labels);
    for (key, text) in [
        ("scrapePool", t.pool.as_str()),
        ("scrapeUrl", &t.url),
        ("globalUrl", &t.global_url),
        ("lastError", &t.last_error),
        // What Go prints of a time that never was.
        (
            "lastScrape",
            &t.last_scrape
                .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| rfc3339(t.0)),
        ),
    ] {
        member(out, key, text);
    }
    let _ = write!(out, ",\"lastScrapeDuration\":{}", t.last_duration.as_secs_f64());
    member(out, "health", t.health().as_str());
    member(out, "scrapeInterval", &duration_text(t.interval));
    member(out, "scrapeTimeout", &duration_text(t.timeout));
    out.push('}');
}

fn member(out: &mut String, key: &str, text: &str) {
    let _ = write!(out, ",\"{key}\":");
    push_json(out, text);
}

fn dropped_target(out: &mut String, t: &DroppedTarget) {
    out.push_str("{\"discoveredLabels\":");
    label_set(out, &t.discovered);
    member(out, "scrapePool", &t.pool);
    out.push('}');
}

fn dropped_counts(out: &mut String, api: &Api) {
    let counts: BTreeMap<String, u64> = api.about.targets.dropped_counts().into_iter().collect();
    out.push('{');
    join(out, counts.iter(), |out, (pool, n)| {
        push_json(out, pool);
        let _ = write!(out, ":{n}");
    });
    out.push('}');
}

/// A length of time as Prometheus prints it: `1m30s`, `15s`, `500ms`.
fn duration_text(d: Duration) -> String {
    let mut ms = d.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if ms >= size {
            let _ = write!(out, "{}{unit}", ms / size);
            ms %= size;
        }
    }
    out
}

pub(crate) async fn metadata(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let limit = count(&form, "limit")?;
    let matchers = match form.get("match_target") {
        Some(text) => query::read(text, parse_selector).map_err(|e| ApiError::parameter("match_target", e))?,
        None => Vec::new(),
    };
    let metric = form.get("metric");
    let passes = |labels: &LabelSet| matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")));
    let mut found = Vec::new();
    for target in api.about.targets.active().iter().filter(|t| passes(&t.labels)) {
        let families = api.about.targets.metadata(target).into_iter();
        let families = families.filter(|(name, _)| metric.is_none_or(|m| m == name));
        found.extend(families.map(|family| (target.labels.clone(), family)));
    }
    found.truncate(limit);
    let with_name = metric.is_none();
    Ok(list(found, &[], move |out, (target, (name, m))| {
        out.push_str("{\"target\":");
        label_set(out, &target);
        if with_name {
            member(out, "metric", &name);
        }
        member(out, "type", m.kind.as_str());
        member(out, "help", &m.help);
        member(out, "unit", &m.unit);
        out.push('}');
    }))
}

pub(crate) async fn scrape_pools(State(api): State<Api>) -> Response {
    let pools = api.about.targets.pools();
    let mut data = String::from("{\"scrapePools\":[");
    join(&mut data, pools.iter(), |out, pool| push_json(out, &pool.name));
    data.push_str("]}");
    success(&data)
}

pub(crate) async fn scrape_pool_config(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let name = form.get("scrapePool").unwrap_or("");
    let pools = api.about.targets.pools();
    let Some(pool) = pools.iter().find(|p| p.name == name) else {
        return Err(ApiError::not_found(format!("scrape pool {name:?} not found")));
    };
    let mut data = String::from("{\"yaml\":");
    push_json(&mut data, &pool.yaml);
    data.push('}');
    Ok(success(&data))
}

/// What each relabelling rule makes of labels.
pub(crate) async fn relabel_steps(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let given = |name: &str| form.get(name);
    let Some(name) = given("scrapePool") else {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    };
    let Some(labels) = given("labels") else {
        return Err(ApiError::bad_data("no labels parameter provided"));
    };
    let labels: Result<BTreeMap<String, String>, _> = serde_json::from_str(labels);
    let labels = labels.map_err(|e| ApiError::bad_data(format!("error parsing labels: {e}")))?;
    let labels: Vec<(String, String)> = labels.into_iter().collect();
    let Some(steps) = api.about.targets.relabel_steps(name, &labels) else {
        let what = format!("error retrieving scrape config: scrape pool {name:?} not found");
        return Err(ApiError::bad_data(what));
    };
    let mut data = String::from("{\"steps\":[");
    join(&mut data, steps.iter(), |out, step| {
        let _ = write!(out, "{{\"rule\":{},\"output\":", step.rule);
        label_set(out, &step.output);
        let _ = write!(out, ",\"keep\":{}}}", step.keep);
    });
    data.push_str("]}");
    Ok(success(&data))
}

/// Who is told of alerts.
pub(crate) async fn alertmanagers(State(api): State<Api>) -> Response {
    let (active, dropped) = api.about.targets.alertmanagers();
    let mut data = String::new();
    for (member, urls) in [
        ("{\"activeAlertmanagers\":[", active),
        ("],\"droppedAlertmanagers\":[", dropped),
    ] {
        data.push_str(member);
        join(&mut data, urls.iter(), |out, url| {
            out.push_str("{\"url\":");
            push_json(out, url);
            out.push('}');
        });
    }
    data.push_str("]}");
    success(&data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_printed_by_unit() {
        for (ms, text) in [
            (15_000, "15s"),
            (90_000, "1m30s"),
            (60_000, "1m"),
            (500, "500ms"),
            (90_061_001, "1d1h1m1s1ms"),
            (0, "0s"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(ms)), text);
        }
    }
}
