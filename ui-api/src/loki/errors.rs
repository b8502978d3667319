//! The Loki API's voice when something is wrong: plain text with a status.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use query::{ExecError, RunError};
use query_logql::EvalError;

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

    /// Any other status.
    pub fn with_status(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
        }
    }

    /// The message alone, for frames that carry it.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn timed_out() -> ApiError {
        ApiError {
            status: StatusCode::GATEWAY_TIMEOUT,
            message:
                "request timed out, decrease the duration of the request or add more label matchers (prefer exact \
                      match over regex match) to reduce the amount of data processed"
                    .to_owned(),
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
            RunError::Busy(_) => ApiError::timed_out(),
            RunError::Panicked(_) => ApiError {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                message: e.to_string(),
            },
        }
    }
}

impl From<query_logql::ParseError> for ApiError {
    fn from(e: query_logql::ParseError) -> Self {
        ApiError::bad(e.to_string())
    }
}

impl From<EvalError> for ApiError {
    fn from(e: EvalError) -> Self {
        match e {
            EvalError::Parse(e) => e.into(),
            EvalError::Exec(ExecError::TimedOut(_)) => ApiError::timed_out(),
            EvalError::Exec(ExecError::Cancelled(_)) => ApiError {
                status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
                message: "the request was cancelled by the client".to_owned(),
            },
            // Loki has no status of its own for vectors that do not match.
            EvalError::Exec(ExecError::Data(message))
                if message.contains("matching") || message.contains("multiple matches") =>
            {
                ApiError {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    message,
                }
            }
            EvalError::NoWay(message) => ApiError::with_status(StatusCode::INTERNAL_SERVER_ERROR, message),
            EvalError::Pipeline(_) | EvalError::Exec(_) => ApiError::bad(e.to_string()),
            EvalError::Storage(e) => e.into(),
        }
    }
}

impl From<storage_logs::BlockError> for ApiError {
    fn from(e: storage_logs::BlockError) -> Self {
        ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: e.to_string(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (self.status, headers, self.message).into_response()
    }
}
