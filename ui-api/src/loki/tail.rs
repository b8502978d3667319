//! Live tail over WebSocket: first the newest history, then entries as they come.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use model::{Entry, LabelSet, TimeRangeNs, TimestampNs};
use query::Language;
use query_logql::{Direction, Options, Query, Stream, Value};
use storage_logs::Subscription;

use super::encode::{Labels, push_list, push_streams};
use super::errors::ApiError;
use super::params;
use super::routes::{Api, labels_asked};
use crate::form::Form;

/// Most entries in one frame.
const FRAME_ENTRIES_MAX: usize = 100;

/// Longest delay that may be asked for, s.
const DELAY_MAX: u64 = 5;

/// A tail ends after this; clients open another.
const DURATION_MAX: Duration = Duration::from_secs(3600);

/// How often the client is pinged; proxies cut silent connections.
const PING: Duration = Duration::from_secs(1);

/// A frame that takes longer than this to send belongs to a client that is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// `GET /loki/api/v1/tail`.
pub(crate) async fn tail(State(api): State<Api>, upgrade: WebSocketUpgrade, request: Request) -> Response {
    let how = labels_asked(request.headers(), &api.about);
    match prepare(&api, request).await {
        Ok(asked) => upgrade.on_upgrade(move |socket| run(api, socket, asked, how)),
        Err(e) => e.into_response(),
    }
}

struct Asked {
    text: String,
    query: Query,
    delay: Duration,
    limit: usize,
    range: TimeRangeNs,
}

async fn prepare(api: &Api, request: Request) -> Result<Asked, ApiError> {
    let form = Form::read(request).await?;
    let text = form.get("query").unwrap_or("").to_owned();
    let query = Query::parse(&text)?;
    if query.is_metric() {
        return Err(ApiError::bad("only log queries can be tailed"));
    }
    let delay = match form.get("delay_for").map(str::parse::<u64>) {
        None => 0,
        Some(Ok(s)) if s <= DELAY_MAX => s,
        Some(Ok(_)) => return Err(ApiError::bad("delay_for can't be greater than 5")),
        Some(Err(e)) => return Err(ApiError::bad(format!("delay_for: {e}"))),
    };
    let limit = params::entries_limit(&form, false)?;
    let now = api.queries.storage().now();
    let range = TimeRangeNs {
        start: params::range(&form, now)?.start,
        end: TimestampNs(now.0.saturating_add(1)),
    };
    Ok(Asked {
        text,
        query,
        delay: Duration::from_secs(delay),
        limit,
        range,
    })
}

async fn run(api: Api, socket: WebSocket, asked: Asked, how: Labels) {
    let (mut sender, mut receiver) = socket.split();
    let work = async {
        // Listening starts before history is read, so that nothing falls between the two; what both bring is told apart
        // by the newest time of the history.
        let mut live = api.queries.storage().logs().subscribe(asked.query.matchers().to_vec());
        let history = history(&api, &asked).await?;
        let seen_to = history.iter().flat_map(|s| &s.lines).map(|l| l.entry.t).max();
        let mut frame = frame(&history, 0, how);
        loop {
            if let Some(text) = frame.take() {
                let sent = tokio::time::timeout(SEND_TIMEOUT, sender.send(Message::text(text))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Ok(None);
                }
            }
            tokio::select! {
                next = next_entries(&mut live, &asked, seen_to) => match next {
                    Some((streams, lost)) => frame = self::frame(&streams, lost, how),
                    None => return Ok(Some("the server is stopping")),
                },
                () = tokio::time::sleep(PING) => {
                    if sender.send(Message::Ping(Default::default())).await.is_err() {
                        return Ok(None);
                    }
                }
                message = receiver.next() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
                    Some(Ok(_)) => {}
                },
            }
        }
    };
    let ended: Result<Option<&str>, ApiError> = tokio::time::timeout(DURATION_MAX, work)
        .await
        .unwrap_or(Ok(Some("reached the tail's longest duration")));
    let reason = match ended {
        Ok(None) => return,
        Ok(Some(reason)) => reason.to_owned(),
        Err(e) => e.message().chars().take(100).collect(),
    };
    let close = CloseFrame {
        code: close_code::ERROR,
        reason: reason.into(),
    };
    let _ = sender.send(Message::Close(Some(close))).await;
}

async fn history(api: &Api, asked: &Asked) -> Result<Vec<Stream>, ApiError> {
    let (query, range) = (asked.query.clone(), asked.range);
    let options = Options {
        limit: asked.limit,
        direction: Direction::Backward,
    };
    let output = api
        .queries
        .run(Language::LogQl, &asked.text, None, move |context, storage| {
            query.range(context, storage.logs(), range.start, range.end, 1_000_000_000, options)
        })
        .await??;
    let Value::Streams(mut streams) = output.value else {
        return Ok(Vec::new());
    };
    for s in &mut streams {
        s.lines.reverse();
    }
    Ok(streams)
}

/// Waits for an entry that passes the pipeline, then takes what else is there already, up to a frame's fill. Says how
/// many entries were lost because the client was slow.
async fn next_entries(
    live: &mut Subscription,
    asked: &Asked,
    seen_to: Option<TimestampNs>,
) -> Option<(Vec<Stream>, u64)> {
    let mut streams = Vec::new();
    let mut lost = 0;
    loop {
        let next = if streams.is_empty() {
            Some(live.recv().await?)
        } else {
            // Nothing more within a moment: send what is there.
            tokio::time::timeout(Duration::from_millis(50), live.recv())
                .await
                .ok()
                .flatten()
        };
        let Some((labels, entry, missed)) = next else { break };
        lost += missed;
        if seen_to.is_none_or(|t| entry.t > t) {
            streams.extend(pass(asked, &labels, &entry));
        }
        if streams.len() >= FRAME_ENTRIES_MAX {
            break;
        }
    }
    if !asked.delay.is_zero() {
        tokio::time::sleep(asked.delay).await;
    }
    Some((streams, lost))
}

fn pass(asked: &Asked, labels: &LabelSet, entry: &Entry) -> Option<Stream> {
    let (labels, line) = asked.query.process(labels, entry)?;
    Some(Stream {
        labels,
        lines: vec![line],
    })
}

/// A text frame; `None` if there is nothing to say.
fn frame(streams: &[Stream], lost: u64, how: Labels) -> Option<String> {
    if streams.is_empty() && lost == 0 {
        return None;
    }
    let mut out = String::from("{\"streams\":");
    push_streams(&mut out, streams, how);
    if lost > 0 {
        out.push_str(",\"dropped_entries\":");
        push_list(&mut out, 0..lost.min(1000), |out, _| {
            out.push_str(r#"{"labels":{},"timestamp":"0"}"#)
        });
    }
    if how == Labels::Categorized {
        out.push_str(r#","encodingFlags":["categorize-labels"]"#);
    }
    out.push('}');
    Some(out)
}
