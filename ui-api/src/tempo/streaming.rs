//! `tempopb.StreamingQuerier`: the same questions over gRPC, on the HTTP API's port (h2c). Spoken by hand, as in `ingest`:
//! one message in, frames out, the status in the trailers.
//!
//! ```text
//! request body    = compressed u8 (0) · length u32 big-endian · message
//! response body   = (0 · length u32 big-endian · message)*, then the trailers `grpc-status`, `grpc-message`
//! ```
//!
//! A question that takes long tells its progress every half second; what it tells then is never taken back, for clients
//! keep the first version of a trace or sample that they see. The result itself comes at the end, cut into messages of
//! about a megabyte, because clients refuse large ones. Who hangs up stops the question.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, http};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use query::Context;
use query_traceql::TagName;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::asked::{Api, MetricsAsked, SearchAsked, TagsAsked, ValuesAsked};
use super::errors::ApiError;
use super::messages::{
    QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse, SearchRequest, SearchResponse,
    SearchTagValuesRequest, SearchTagsRequest, found_trace, instant_series, progress, search_metrics, series_metrics,
    tag_names, tag_scopes, tag_values, time_series, typed_tag_values,
};
use crate::form::Form;

/// Largest request message.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// A request's message must be complete after this long.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);
/// About how large the messages of a result are.
const SEGMENT_BYTES: usize = 1 << 20;
/// Between two words about progress.
const RHYTHM: Duration = Duration::from_millis(500);
/// Frames that wait for the network.
const WAITING_MAX: usize = 4;

const FRAME_HEADER_BYTES: usize = 5;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// gRPC's codes, as far as they are used here.
#[derive(Clone, Copy)]
enum Code {
    Ok = 0,
    Canceled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
}

/// The methods of the service.
pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/tempopb.StreamingQuerier/Search", post(search))
        .route("/tempopb.StreamingQuerier/SearchTags", post(search_tags))
        .route("/tempopb.StreamingQuerier/SearchTagsV2", post(search_tags_v2))
        .route("/tempopb.StreamingQuerier/SearchTagValues", post(search_tag_values))
        .route(
            "/tempopb.StreamingQuerier/SearchTagValuesV2",
            post(search_tag_values_v2),
        )
        .route("/tempopb.StreamingQuerier/MetricsQueryRange", post(metrics_range))
        .route("/tempopb.StreamingQuerier/MetricsQueryInstant", post(metrics_instant))
}

async fn search(State(api): State<Api>, request: Request) -> Response {
    answer(request, |message: SearchRequest, sender| async move {
        let asked = SearchAsked::read(&message.form(), api.now())?;
        let spansets = !asked.by_tags;
        let (told, context) = oneshot::channel();
        let telling = |done, parts| SearchResponse {
            traces: Vec::new(),
            metrics: Some(progress(done, parts)),
        };
        let (output, parts) = sender
            .while_running(api.search(asked, Some(told)), context, telling)
            .await?;
        let metrics = Some(search_metrics(&output, parts));
        let traces = output.traces.iter().map(|t| found_trace(t, spansets));
        for traces in segments(traces) {
            sender.send(&SearchResponse { traces, metrics }).await;
        }
        Ok(())
    })
    .await
}

async fn search_tags(State(api): State<Api>, request: Request) -> Response {
    answer(request, |message: SearchTagsRequest, sender| async move {
        let names = api.tag_names(TagsAsked::read(&message.form())?).await?;
        sender.send(&tag_names(names)).await;
        Ok(())
    })
    .await
}

async fn search_tags_v2(State(api): State<Api>, request: Request) -> Response {
    answer(request, |message: SearchTagsRequest, sender| async move {
        let scopes = api.tags(TagsAsked::read(&message.form())?, true).await?;
        sender.send(&tag_scopes(scopes)).await;
        Ok(())
    })
    .await
}

async fn search_tag_values(State(api): State<Api>, request: Request) -> Response {
    answer(request, |message: SearchTagValuesRequest, sender| async move {
        let values = api.tag_values(message.asked(TagName::Bare)?).await?;
        sender.send(&tag_values(values)).await;
        Ok(())
    })
    .await
}

async fn search_tag_values_v2(State(api): State<Api>, request: Request) -> Response {
    answer(request, |message: SearchTagValuesRequest, sender| async move {
        let values = api.tag_values(message.asked(TagName::Identifier)?).await?;
        sender.send(&typed_tag_values(values)).await;
        Ok(())
    })
    .await
}

async fn metrics_range(State(api): State<Api>, request: Request) -> Response {
    answer(request, |message: QueryRangeRequest, sender| async move {
        let asked = MetricsAsked::read(&message.form(), api.now())?;
        let (told, context) = oneshot::channel();
        let telling = |done, parts| QueryRangeResponse {
            metrics: Some(progress(done, parts)),
            ..QueryRangeResponse::default()
        };
        let running = api.metrics_range(asked, Some(told));
        let ((output, lacking), parts) = sender.while_running(running, context, telling).await?;
        let metrics = Some(series_metrics(&output, parts));
        let mut segments = segments(output.series.iter().map(time_series)).into_iter().peekable();
        while let Some(series) = segments.next() {
            let mut message = QueryRangeResponse {
                series,
                metrics,
                ..QueryRangeResponse::default()
            };
            if segments.peek().is_none() {
                message.status = partial_status(&lacking);
                message.message = lacking.clone();
            }
            sender.send(&message).await;
        }
        Ok(())
    })
    .await
}

async fn metrics_instant(State(api): State<Api>, request: Request) -> Response {
    answer(request, |message: QueryInstantRequest, sender| async move {
        let asked = MetricsAsked::read(&message.form(), api.now())?;
        let (told, context) = oneshot::channel();
        let telling = |done, parts| QueryInstantResponse {
            metrics: Some(progress(done, parts)),
            ..QueryInstantResponse::default()
        };
        let running = api.metrics_instant(asked, Some(told));
        let ((output, lacking), parts) = sender.while_running(running, context, telling).await?;
        // In one message: each replaces the one before.
        let message = QueryInstantResponse {
            series: output.series.iter().map(instant_series).collect(),
            metrics: Some(series_metrics(&output, parts)),
            status: partial_status(&lacking),
            message: lacking,
        };
        sender.send(&message).await;
        Ok(())
    })
    .await
}

/// What no path leads to.
pub(super) async fn unknown(request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    trailers_only(Code::Unimplemented, &format!("unknown method {}", request.uri().path()))
}

/// `PartialStatus`: 0 complete, 1 partial.
fn partial_status(lacking: &str) -> i32 {
    i32::from(!lacking.is_empty())
}

impl SearchRequest {
    fn form(self) -> Form {
        let mut tags: Vec<(String, String)> = self.tags.into_iter().collect();
        tags.sort();
        // As the HTTP API takes them.
        let tags: Vec<String> = tags
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
            .collect();
        let ms = |ms: u32| match ms {
            0 => String::new(),
            ms => format!("{ms}ms"),
        };
        Form::of([
            ("q", self.query),
            ("tags", tags.join(" ")),
            ("minDuration", ms(self.min_duration_ms)),
            ("maxDuration", ms(self.max_duration_ms)),
            ("limit", unless_zero(self.limit)),
            ("spss", unless_zero(self.spans_per_span_set)),
            ("start", unless_zero(self.start)),
            ("end", unless_zero(self.end)),
        ])
    }
}

impl SearchTagsRequest {
    fn form(self) -> Form {
        Form::of([
            ("scope", self.scope),
            ("q", self.query),
            ("start", unless_zero(self.start)),
            ("end", unless_zero(self.end)),
            ("limit", unless_zero(self.max_tags_per_scope)),
        ])
    }
}

impl SearchTagValuesRequest {
    /// `name` says how the tag is named.
    fn asked(self, name: fn(String) -> TagName) -> Result<ValuesAsked, ApiError> {
        let form = Form::of([
            ("q", self.query),
            ("start", unless_zero(self.start)),
            ("end", unless_zero(self.end)),
            ("limit", unless_zero(self.max_tag_values)),
        ]);
        ValuesAsked::read(name(self.tag_name), &form)
    }
}

impl QueryRangeRequest {
    fn form(self) -> Form {
        let step = match self.step {
            0 => String::new(),
            ns => format!("{ns}ns"),
        };
        Form::of([
            ("q", self.query),
            ("start", nanos(self.start)),
            ("end", nanos(self.end)),
            ("step", step),
            ("exemplars", unless_zero(self.exemplars)),
            ("maxSeries", unless_zero(self.max_series)),
        ])
    }
}

impl QueryInstantRequest {
    fn form(self) -> Form {
        Form::of([
            ("q", self.query),
            ("start", nanos(self.start)),
            ("end", nanos(self.end)),
        ])
    }
}

fn unless_zero(n: u32) -> String {
    match n {
        0 => String::new(),
        n => n.to_string(),
    }
}

/// A time in ns in the form that the HTTP API takes for ns: more than ten digits.
fn nanos(ns: u64) -> String {
    match ns {
        0 => String::new(),
        ns => format!("{ns:011}"),
    }
}

/// Where the messages of an answer go.
struct Sender {
    frames: mpsc::Sender<Frame<Bytes>>,
}

impl Sender {
    /// Sends a message. Nobody may be listening any more; then the question is stopped elsewhere.
    async fn send(&self, message: &impl Message) {
        let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + message.encoded_len());
        frame.put_u8(0);
        frame.put_u32(message.encoded_len() as u32);
        if message.encode(&mut frame).is_ok() {
            let _ = self.frames.send(Frame::data(frame.freeze())).await;
        }
    }

    /// Waits for a question and tells its progress meanwhile. The number is that of the parts that were done in all.
    async fn while_running<T, M: Message>(
        &self,
        running: impl Future<Output = Result<T, ApiError>>,
        mut context: oneshot::Receiver<Context>,
        telling: impl Fn(u64, u64) -> M,
    ) -> Result<(T, u64), ApiError> {
        let mut running = std::pin::pin!(running);
        let mut known: Option<Context> = None;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + RHYTHM, RHYTHM);
        loop {
            tokio::select! {
                done = &mut running => {
                    known = known.or_else(|| context.try_recv().ok());
                    let parts = known.map_or(1, |context| context.progress().1.max(1));
                    return Ok((done?, parts));
                }
                _ = ticks.tick() => {
                    known = known.or_else(|| context.try_recv().ok());
                    if let Some((done, parts)) = known.as_ref().map(Context::progress) {
                        self.send(&telling(done, parts)).await;
                    }
                }
            }
        }
    }
}

/// Items in groups of about [`SEGMENT_BYTES`]; at least one group.
fn segments<M: Message>(items: impl Iterator<Item = M>) -> Vec<Vec<M>> {
    let mut out = vec![Vec::new()];
    let mut bytes = 0;
    for item in items {
        let len = item.encoded_len();
        if bytes > 0 && bytes + len > SEGMENT_BYTES {
            out.push(Vec::new());
            bytes = 0;
        }
        bytes += len;
        if let Some(group) = out.last_mut() {
            group.push(item);
        }
    }
    out
}

/// Reads the request's message and answers with what `job` sends.
async fn answer<R, F>(request: Request, job: impl FnOnce(R, Sender) -> F) -> Response
where
    R: Message + Default,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    if !is_grpc(request.headers()) {
        return (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this path speaks gRPC (application/grpc)\n",
        )
            .into_response();
    }
    let message = match tokio::time::timeout(REQUEST_WAIT_MAX, read(request)).await {
        Ok(Ok(message)) => message,
        Ok(Err((code, words))) => return trailers_only(code, &words),
        Err(_) => return trailers_only(Code::Canceled, "the request's message did not come"),
    };
    let (frames, receiver) = mpsc::channel(WAITING_MAX);
    let running = job(message, Sender { frames: frames.clone() });
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = running => ended,
            () = frames.closed() => return,
        };
        let trailers = match ended {
            Ok(()) => status(Code::Ok, ""),
            Err(e) => status(code_of(e.status()), e.message()),
        };
        let _ = frames.send(Frame::trailers(trailers)).await;
    });
    let stream = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    grpc_response(Body::new(StreamBody::new(stream)))
}

/// The first message of the body.
async fn read<R: Message + Default>(request: Request) -> Result<R, (Code, String)> {
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    let broken = |words: String| (Code::InvalidArgument, words);
    loop {
        if let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() {
            let [flag, length @ ..] = *header;
            let length = u32::from_be_bytes(length) as usize;
            if length > REQUEST_BYTES_MAX {
                let words = format!("message of {length} bytes is too large: the limit is {REQUEST_BYTES_MAX} bytes");
                return Err((Code::ResourceExhausted, words));
            }
            if flag != 0 {
                return Err((
                    Code::Unimplemented,
                    "compressed messages are not supported here".to_owned(),
                ));
            }
            if let Some(message) = rest.get(..length) {
                return R::decode(message).map_err(|e| broken(format!("malformed message: {e}")));
            }
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
            Some(Err(e)) => return Err(broken(format!("the request could not be read: {e}"))),
            None => {
                return Err(broken(
                    "malformed gRPC frame: the call carries no whole message".to_owned(),
                ));
            }
        }
    }
}

fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::InvalidArgument,
        404 => Code::NotFound,
        413 | 429 => Code::ResourceExhausted,
        499 => Code::Canceled,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|v| v.starts_with(b"application/grpc"))
}

fn grpc_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    response
}

fn trailers_only(code: Code, message: &str) -> Response {
    let mut response = grpc_response(Body::empty());
    response.headers_mut().extend(status(code, message));
    response
}

fn status(code: Code, message: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    if !message.is_empty()
        && let Ok(message) = HeaderValue::from_str(&percent_encoded(message))
    {
        headers.insert(GRPC_MESSAGE, message);
    }
    headers
}

/// Longest text of an error, bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// As `grpc-message` is written: printable ASCII but `%`.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for b in message.bytes().take(MESSAGE_BYTES_MAX) {
        match b {
            b' '..=b'~' if b != b'%' => out.push(b as char),
            _ => {
                out.push('%');
                out.extend(
                    [b >> 4, b & 15].map(|d| char::from_digit(d.into(), 16).unwrap_or('0').to_ascii_uppercase()),
                );
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tempo::messages::TraceSearchMetadata;

    #[test]
    fn large_results_are_cut_into_messages_that_clients_take() {
        let trace = |n: usize| TraceSearchMetadata {
            trace_id: n.to_string(),
            root_trace_name: "x".repeat(300_000),
            ..TraceSearchMetadata::default()
        };
        let groups = segments((0..10).map(trace));
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 1]);
        assert_eq!(segments(std::iter::empty::<TraceSearchMetadata>()), [Vec::new()]);
    }

    #[test]
    fn tags_become_the_form_of_the_http_api() {
        let request = SearchRequest {
            tags: HashMapOf::from([("a".to_owned(), "b \"c\"".to_owned())]),
            min_duration_ms: 5,
            ..SearchRequest::default()
        };
        let form = request.form();
        assert_eq!(form.get("tags"), Some(r#"a="b \"c\"""#));
        assert_eq!(form.get("minDuration"), Some("5ms"));
        assert_eq!(form.get("limit"), None);
    }

    type HashMapOf = std::collections::HashMap<String, String>;
}
