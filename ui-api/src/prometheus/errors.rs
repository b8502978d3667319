//! The Prometheus API's voice when something is wrong: error types, statuses and words.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use query::{ExecError, RunError};
use query_promql::EvalError;

use crate::form::BadForm;
use crate::number::push_json;

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl ApiError {
    /// 400: parameters, parse errors.
    pub fn bad_data(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::BAD_REQUEST,
            kind: "bad_data",
            message: message.into(),
        }
    }

    /// 400 for one parameter.
    pub fn parameter(name: &str, what: impl std::fmt::Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: {what}"))
    }

    /// 422: evaluation.
    pub fn execution(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            kind: "execution",
            message: message.into(),
        }
    }

    /// 404: no such pool and the like.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::NOT_FOUND,
            kind: "not_found",
            message: message.into(),
        }
    }

    /// 500: turned off.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "unavailable",
            message: message.into(),
        }
    }

    fn timeout(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "timeout",
            message: message.into(),
        }
    }

    /// 500: what is stored cannot be read or changed.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "internal",
            message: message.into(),
        }
    }
}

impl ApiError {
    /// The same outside of the JSON API: the text alone.
    pub fn into_plain_response(self) -> Response {
        (self.status, self.message + "\n").into_response()
    }
}

impl From<BadForm> for ApiError {
    fn from(bad: BadForm) -> Self {
        ApiError {
            status: bad.status,
            kind: "bad_data",
            message: bad.message,
        }
    }
}

impl From<RunError> for ApiError {
    fn from(e: RunError) -> Self {
        match e {
            RunError::Busy(_) => ApiError::timeout("query timed out in query queue"),
            RunError::Panicked(_) => ApiError::internal(e.to_string()),
        }
    }
}

impl From<EvalError> for ApiError {
    fn from(e: EvalError) -> Self {
        match e {
            EvalError::Parse(e) => ApiError::parameter("query", e),
            EvalError::Exec(ExecError::TimedOut(_)) => ApiError::timeout("query timed out in expression evaluation"),
            EvalError::Exec(ExecError::Cancelled(at)) => ApiError {
                status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
                kind: "canceled",
                message: format!("query was canceled in {at}"),
            },
            EvalError::Exec(e) => ApiError::execution(e.to_string()),
            EvalError::Storage(e) => ApiError::internal(e.to_string()),
        }
    }
}

impl From<storage_metrics::BlockError> for ApiError {
    fn from(e: storage_metrics::BlockError) -> Self {
        ApiError::internal(e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = format!(r#"{{"status":"error","errorType":"{}","error":"#, self.kind);
        push_json(&mut body, &self.message);
        body.push('}');
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
