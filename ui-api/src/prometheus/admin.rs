//! What changes the stored data: deleting series, cleaning up after it, and snapshots. Refused unless turned on.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use storage::Storage;

use super::encode::success;
use super::errors::ApiError;
use super::params::{range, read, selectors_or_none, switch};
use super::routes::Api;
use crate::number::push_json;

pub(crate) async fn delete_series(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    allowed(&api)?;
    let form = read(request).await?;
    if form.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = range(&form)?;
    let selectors = selectors_or_none(&form).map_err(|e| ApiError::parameter("match[]", e))?;
    work(&api, move |s| s.metrics().delete(&selectors, range)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn clean_tombstones(State(api): State<Api>) -> Result<Response, ApiError> {
    allowed(&api)?;
    work(&api, |s| s.metrics().clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn snapshot(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    allowed(&api)?;
    let form = read(request).await?;
    let skip_head = match form.get("skip_head") {
        Some(text) => {
            switch(text).map_err(|e| ApiError::parameter("skip_head", format!("unable to parse boolean: {e}")))?
        }
        None => false,
    };
    let name = work(&api, move |s| s.snapshot(skip_head)).await?;
    let mut data = String::from("{\"name\":");
    push_json(&mut data, &name);
    data.push('}');
    Ok(success(&data))
}

/// Runs what writes files, and may take longer than a query may.
async fn work<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    api: &Api,
    job: impl FnOnce(&Storage) -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    let storage = api.queries.storage().clone();
    let done = tokio::task::spawn_blocking(move || job(&storage)).await;
    done.map_err(|e| ApiError::internal(e.to_string()))?
        .map_err(|e| ApiError::internal(e.to_string()))
}

fn allowed(api: &Api) -> Result<(), ApiError> {
    if api.about.admin_api {
        Ok(())
    } else {
        Err(ApiError::unavailable("admin APIs disabled"))
    }
}
