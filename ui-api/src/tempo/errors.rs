//! The Tempo API's voice when something is wrong: plain text with a status.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use query::{ExecError, RunError};
use query_traceql::EvalError;

use crate::form::BadForm;

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    /// 400.
    pub fn bad(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    /// 422.
    pub fn unprocessable(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            message: message.into(),
        }
    }

    /// HTTP's status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A metrics query that is refused; Tempo says so in other words than of a search.
    pub fn of_metrics(e: &query_traceql::ParseError) -> ApiError {
        ApiError::bad(match e.is_syntax() {
            true => e.to_string(),
            false => format!("compiling query: {e}"),
        })
    }

    fn internal(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: message.into(),
        }
    }
}

impl From<BadForm> for ApiError {
    fn from(bad: BadForm) -> Self {
        ApiError {
            status: bad.status,
            message: bad.message,
        }
    }
}

impl From<RunError> for ApiError {
    fn from(e: RunError) -> Self {
        match e {
            RunError::Busy(_) => ApiError {
                status: StatusCode::TOO_MANY_REQUESTS,
                message: e.to_string(),
            },
            RunError::Panicked(_) => ApiError::internal(e.to_string()),
        }
    }
}

impl From<query_traceql::ParseError> for ApiError {
    fn from(e: query_traceql::ParseError) -> Self {
        ApiError::bad(format!("invalid TraceQL query: {e}"))
    }
}

impl From<EvalError> for ApiError {
    fn from(e: EvalError) -> Self {
        match e {
            EvalError::Parse(e) => e.into(),
            EvalError::Exec(ExecError::TimedOut(_)) => ApiError {
                status: StatusCode::GATEWAY_TIMEOUT,
                message: e.to_string(),
            },
            EvalError::Exec(ExecError::Cancelled(_)) => ApiError {
                status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
                message: e.to_string(),
            },
            EvalError::Exec(e) => ApiError::bad(e.to_string()),
            EvalError::Storage(e) => e.into(),
        }
    }
}

impl From<storage_traces::BlockError> for ApiError {
    fn from(e: storage_traces::BlockError) -> Self {
        ApiError::internal(e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (
            self.status,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            self.message,
        )
            .into_response()
    }
}
