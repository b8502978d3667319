//! `/loki/api/v1/delete`: requests to delete entries are made, listed and cancelled. Their parameters are read from the
//! URL alone, as Loki reads them.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{StatusCode, header};
use model::TimestampNs;
use storage_logs::{DeleteError, DeleteRequest, DeleteState};

use super::encode::push_list;
use super::errors::ApiError;
use super::params::SECOND_NS;
use super::routes::Api;
use crate::form::Form;
use crate::number::{go_duration_ns, push_json, time_by_digits_ns};

const MS_NS: i64 = 1_000_000;
/// The longest piece in which Loki carries a request out; here it bounds only what `max_interval` may say.
const INTERVAL_MAX_NS: i64 = 24 * 3_600 * SECOND_NS;

/// All methods of the endpoint.
pub(crate) fn methods() -> MethodRouter<Api> {
    get(list).post(create).put(create).delete(cancel)
}

async fn create(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = allowed(&api, &request)?;
    let now = now_ms(&api);
    let text = form.get("query").ok_or_else(|| bad("query not set"))?.to_owned();
    let meant = query::read(&text, query_logql::meant_by_delete).map_err(|_| bad("invalid query expression"))?;
    let first = time(&form, "start")?.ok_or_else(|| bad("start time not set"))?;
    let last = time(&form, "end")?.unwrap_or(now);
    if last > now {
        return Err(bad("deletes in the future are not allowed"));
    }
    if first >= last {
        return Err(bad("start time can't be greater than or equal to end time"));
    }
    if meant.filter.is_some() {
        check_interval(&form, last.0.saturating_sub(first.0))?;
    }
    let storage = api.queries.storage().clone();
    let id = tokio::task::spawn_blocking(move || storage.logs().delete(&text, first, last, now)).await;
    let id = id.map_err(|e| ApiError::with_status(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))??;
    Ok((StatusCode::NO_CONTENT, [("X-Delete-Request-ID", id)]).into_response())
}

async fn list(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = allowed(&api, &request)?;
    let mut requests = api.queries.storage().logs().delete_requests();
    if let (Some(start), Some(end)) = (time(&form, "start")?, time(&form, "end")?) {
        requests.retain(|r| r.first <= end && start <= r.last);
    }
    requests.sort_by_key(|r| r.created);
    let mut out = String::new();
    push_list(&mut out, requests.iter(), push_request);
    out.push('\n');
    Ok(([(header::CONTENT_TYPE, "application/json")], out).into_response())
}

async fn cancel(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = allowed(&api, &request)?;
    let logs = api.queries.storage().logs().clone();
    let id = form.get("request_id").unwrap_or("").to_owned();
    let unknown = || ApiError::with_status(StatusCode::NOT_FOUND, "could not find delete request with given id");
    let known = logs
        .delete_requests()
        .into_iter()
        .find(|r| r.id == id)
        .ok_or_else(unknown)?;
    if known.state == DeleteState::Processed {
        return Err(bad(
            "deletion of request which is in process or already processed is not allowed",
        ));
    }
    let too_late = known.created.0.saturating_add(logs.cancel_ns()) < now_ms(&api).0;
    if (known.state != DeleteState::Received || too_late) && form.get("force") != Some("true") {
        return Err(bad(format!(
            "Cancellation of partially completed delete request or delete request past the deadline of {} since its \
             creation is not allowed. To force, use the ?force query parameter",
            go_hours(logs.cancel_ns())
        )));
    }
    let cancelled = tokio::task::spawn_blocking(move || logs.cancel_delete(&id)).await;
    match cancelled {
        Ok(Ok(true)) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Ok(false)) => Err(unknown()),
        Ok(Err(e)) => Err(e.into()),
        Err(e) => Err(ApiError::with_status(StatusCode::INTERNAL_SERVER_ERROR, e.to_string())),
    }
}

impl From<DeleteError> for ApiError {
    fn from(e: DeleteError) -> Self {
        match e {
            DeleteError::Meaningless(_) => bad("invalid query expression"),
            DeleteError::TooMany | DeleteError::TooLarge => {
                ApiError::with_status(StatusCode::TOO_MANY_REQUESTS, e.to_string())
            }
            DeleteError::Block(e) => e.into(),
        }
    }
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::bad(message)
}

/// The parameters, if deleting is not switched off.
fn allowed(api: &Api, request: &Request) -> Result<Form, ApiError> {
    if !api.about.log_deletes {
        return Err(ApiError::with_status(
            StatusCode::FORBIDDEN,
            "deletion is not available for this tenant",
        ));
    }
    Ok(Form::of_url(request.uri())?)
}

/// Requests are stamped in milliseconds.
fn now_ms(api: &Api) -> TimestampNs {
    let now = api.queries.storage().now().0;
    TimestampNs(now - now.rem_euclid(MS_NS))
}

/// Ten digits of seconds, or RFC 3339; milliseconds count.
fn time(form: &Form, name: &str) -> Result<Option<TimestampNs>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let parsed = (text.len() == 10 || text.contains('T'))
        .then(|| time_by_digits_ns(text))
        .flatten()
        .ok_or_else(|| bad(format!("invalid {name} time: require unix seconds or RFC3339 format")))?;
    Ok(Some(TimestampNs(parsed.div_euclid(MS_NS).saturating_mul(MS_NS))))
}

/// `max_interval` says how Loki cuts a request with filters up; it must make sense, and means nothing here.
fn check_interval(form: &Form, whole: i64) -> Result<(), ApiError> {
    let Some(text) = form.get("max_interval") else {
        return Ok(());
    };
    let interval = go_duration_ns(text).filter(|ns| *ns >= SECOND_NS);
    let interval = interval.ok_or_else(|| bad("invalid max_interval: valid time units are 's', 'm', 'h'"))?;
    if interval > INTERVAL_MAX_NS {
        return Err(bad(format!(
            "max_interval can't be greater than {}",
            go_hours(INTERVAL_MAX_NS)
        )));
    }
    if interval > whole {
        return Err(bad(format!(
            "max_interval can't be greater than the interval to be deleted ({})",
            go_hours(whole)
        )));
    }
    Ok(())
}

/// A duration of whole milliseconds as Go prints it: `24h0m0s`, `1m30s`, `1.5s`, `20ms`.
fn go_hours(ns: i64) -> String {
    if ns < SECOND_NS {
        return if ns == 0 {
            "0s".to_owned()
        } else {
            format!("{}ms", ns / MS_NS)
        };
    }
    let (h, m) = (ns / (3_600 * SECOND_NS), ns / (60 * SECOND_NS) % 60);
    let seconds = (ns % (60 * SECOND_NS)) as f64 / SECOND_NS as f64;
    match (h, m) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

fn push_request(out: &mut String, r: &DeleteRequest) {
    let status = match r.state {
        DeleteState::Received => "received".to_owned(),
        DeleteState::Partly(percent) => format!("{percent}% Complete"),
        DeleteState::Processed => "processed".to_owned(),
    };
    out.push_str("{\"request_id\":");
    push_json(out, &r.id);
    for (name, t) in [("start_time", r.first), ("end_time", r.last)] {
        out.push_str(&format!(",\"{name}\":"));
        out.push_str(&seconds(t));
    }
    out.push_str(",\"query\":");
    push_json(out, &r.text);
    out.push_str(",\"status\":");
    push_json(out, &status);
    out.push_str(",\"created_at\":");
    out.push_str(&seconds(r.created));
    out.push_str(",\"user_id\":\"\"}");
}

/// Unix seconds with as much of a fraction as there is.
fn seconds(t: TimestampNs) -> String {
    ((t.0 / MS_NS) as f64 / 1000.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        for (ms, text) in [
            (0, "0s"),
            (20, "20ms"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (86_400_000, "24h0m0s"),
            (90_061_250, "25h1m1.25s"),
        ] {
            assert_eq!(go_hours(ms * MS_NS), text);
        }
    }

    #[test]
    fn times_are_ten_digits_or_rfc_3339() {
        let check = |text: &str| {
            let form = Form::of([("start", text.to_owned())]);
            time(&form, "start").ok().flatten().map(|t| t.0 / MS_NS)
        };
        assert_eq!(check("1700000000"), Some(1_700_000_000_000));
        assert_eq!(check("2023-11-14T22:13:20.5Z"), Some(1_700_000_000_500));
        assert_eq!(check("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
        assert!(check("0001-01-01T00:00:00Z").is_none_or(|ms| ms < 0));
        assert_eq!(check("1700000000000"), None);
        assert_eq!(check("17000000"), None);
        assert_eq!(check("yesterday!"), None);
    }
}
