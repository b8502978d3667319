//! Why a request was refused as a whole. Each protocol turns a refusal into its own status and words
//! (`otlp/answer.rs`, `remote_write/routes.rs`, `loki_push/routes.rs`); this is the meaning they share.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use storage::AppendError;

use crate::wire::BadWire;

/// Why nothing of a request was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Undecodable, now and for ever.
    #[error("{0}")]
    Bad(String),
    /// Larger than we take, before or after decompression or decoding.
    #[error("{0}")]
    TooLarge(String),
    /// A content type that is not spoken here.
    #[error("{0}")]
    ContentType(String),
    /// A compression that is not spoken here.
    #[error("{0}")]
    ContentEncoding(String),
    /// The body stopped coming.
    #[error("{0}")]
    Stalled(String),
    /// Not now.
    #[error("{why}")]
    Busy {
        /// What is short.
        why: String,
        /// When to come back, in seconds.
        retry_after_s: u32,
    },
}

impl Refusal {
    /// HTTP's status for it. Never 500: clients drop on that, and every fault of ours may pass.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Bad(_) => StatusCode::BAD_REQUEST,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::ContentType(_) | Refusal::ContentEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Stalled(_) => StatusCode::REQUEST_TIMEOUT,
            Refusal::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// When to come back, in seconds; `None`: never, or at once.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Refusal::Busy { retry_after_s, .. } => Some(*retry_after_s),
            _ => None,
        }
    }

    /// The refusal as a line of plain text under `status`, with `Retry-After` where there is one.
    pub fn in_words(&self, status: StatusCode) -> Response {
        let mut response = (status, format!("{self}\n")).into_response();
        if let Some(seconds) = self.retry_after_s() {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<BadWire> for Refusal {
    fn from(e: BadWire) -> Refusal {
        Refusal::Bad(e.to_string())
    }
}

impl From<AppendError> for Refusal {
    fn from(e: AppendError) -> Refusal {
        let retry_after_s = match &e {
            AppendError::Overloaded(_) => 2,
            AppendError::DiskFull(_) => 30,
            AppendError::Failed(_) => 5,
        };
        Refusal::Busy {
            why: e.to_string(),
            retry_after_s,
        }
    }
}
