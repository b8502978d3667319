//! The Jaeger API's voice when something is wrong: a status, and the envelope with `errors` instead of `data`.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use query::{ExecError, RunError};
use query_traceql::EvalError;

use super::encode::envelope_of_errors;
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
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// HTTP's status and what is wrong.
    pub fn parts(self) -> (StatusCode, String) {
        (self.status, self.message)
    }

    /// With any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
        }
    }
}

impl From<BadForm> for ApiError {
    fn from(bad: BadForm) -> Self {
        ApiError::new(bad.status, bad.message)
    }
}

impl From<RunError> for ApiError {
    fn from(e: RunError) -> Self {
        let status = match e {
            RunError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            RunError::Panicked(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, e.to_string())
    }
}

impl From<EvalError> for ApiError {
    fn from(e: EvalError) -> Self {
        let status = match &e {
            EvalError::Exec(ExecError::TimedOut(_)) => StatusCode::GATEWAY_TIMEOUT,
            EvalError::Parse(_) | EvalError::Exec(_) => StatusCode::BAD_REQUEST,
            EvalError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let errors = [(self.status.as_u16(), self.message, None)];
        let body = envelope_of_errors(&errors);
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
