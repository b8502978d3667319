//! Rules and alerts. There are none yet; what is asked is checked all the same, as clients rely on the errors.

use axum::extract::Request;
use axum::response::Response;

use super::encode::success;
use super::errors::ApiError;
use super::params::{no_number, read, selectors, switch};

pub(crate) async fn rules(request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let given = |name: &str| form.get(name);
    selectors(&form).map_err(ApiError::bad_data)?;
    if let Some(kind) = given("type").filter(|k| !matches!(k.to_ascii_lowercase().as_str(), "alert" | "record")) {
        return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
    }
    if let Some(text) = given("exclude_alerts") {
        switch(text)
            .map_err(|e| ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {e}")))?;
    }
    if let Some(text) = given("group_limit") {
        let n = text.parse::<i64>().map_err(|e| {
            let why = no_number("ParseInt", text, &e);
            ApiError::parameter("group_limit", format!("group_limit needs to be a valid number: {why}"))
        })?;
        if n <= 0 {
            let what = "group_limit needs to be greater than 0";
            return Err(ApiError::parameter("group_limit", what));
        }
    }
    if let Some(token) = given("group_next_token") {
        let what = match given("group_limit") {
            None => "group_limit needs to be present in order to paginate over the groups".to_owned(),
            // Without groups there is no next one.
            Some(_) => format!("invalid group_next_token '{token}'. were rule groups changed?"),
        };
        return Err(ApiError::parameter("group_next_token", what));
    }
    Ok(success(r#"{"groups":[]}"#))
}

pub(crate) async fn alerts() -> Response {
    success(r#"{"alerts":[]}"#)
}
