//! Live tail over WebSocket: first the newest history, then entries as they come.

use std::collections::HashSet;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use model::{Entry, LabelSet, TimeRangeNs, TimestampNs};
use query::Language;
use query_logql::{Direction, Options, Query, Stream, Value};
use tokio::time::{Instant, MissedTickBehavior};

use super::encode::{Labels, push_entries, push_list};
use super::errors::ApiError;
use super::legacy;
use super::params;
use super::routes::{Api, labels_asked};
use crate::form::Form;

/// Most entries in one frame.
const FRAME_ENTRIES_MAX: usize = 100;

/// Entries that may wait for their frame; more stay in the subscription's queue, which counts what it must drop.
const WAITING_MAX: usize = 10_000;

/// How long the first entry of a frame waits for others.
const GATHER: Duration = Duration::from_millis(50);

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
    // A frame has one object for each entry, so that merging splits no stream.
    let how = match labels_asked(request.headers(), &api.about) {
        Labels::StreamOnly => Labels::Merged,
        asked => asked,
    };
    begin(
        api,
        upgrade,
        request,
        Shape {
            labels: how,
            legacy: false,
        },
    )
    .await
}

/// `GET /api/prom/tail`: the same in frames of the old form.
pub(crate) async fn legacy_tail(State(api): State<Api>, upgrade: WebSocketUpgrade, request: Request) -> Response {
    let labels = Labels::Merged;
    begin(api, upgrade, request, Shape { labels, legacy: true }).await
}

/// What frames look like.
#[derive(Clone, Copy)]
struct Shape {
    labels: Labels,
    legacy: bool,
}

async fn begin(api: Api, upgrade: WebSocketUpgrade, request: Request, shape: Shape) -> Response {
    match prepare(&api, request).await {
        Ok(asked) => upgrade.on_upgrade(move |socket| run(api, socket, asked, shape)),
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
    let query = query::read(&text, Query::parse)?;
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

async fn run(api: Api, socket: WebSocket, asked: Asked, shape: Shape) {
    let (mut sender, mut receiver) = socket.split();
    let work = async {
        // Listening starts before history is read, so that nothing falls between the two; what both bring is sent once.
        let mut live = api.queries.storage().logs().subscribe(asked.query.matchers().to_vec());
        let history = history(&api, &asked).await?;
        let mut seen: HashSet<Key> = history.iter().filter_map(key).collect();
        if !send(&mut sender, &history, 0, shape).await {
            return Ok(None);
        }
        drop(history);
        let mut waiting = Waiting::default();
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = live.recv(), if waiting.streams.len() < WAITING_MAX => match heard {
                    Some((labels, entry, lost)) => {
                        let passed = pass(&asked, &labels, &entry);
                        let new = passed.filter(|s| seen.is_empty() || key(s).is_none_or(|k| !seen.remove(&k)));
                        waiting.add(new, lost, asked.delay.max(GATHER));
                    }
                    None => return Ok(Some("the server is stopping")),
                },
                () = waiting.due() => {
                    let Waiting { streams, lost, .. } = std::mem::take(&mut waiting);
                    if !send(&mut sender, &streams, lost, shape).await {
                        return Ok(None);
                    }
                }
                _ = ping.tick() => {
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

/// What an entry is known by: its stream, time and line, as they are sent.
type Key = (LabelSet, TimestampNs, String);

fn key(stream: &Stream) -> Option<Key> {
    let line = stream.lines.first()?;
    Some((stream.labels.clone(), line.entry.t, line.entry.line.clone()))
}

/// Entries on their way to the client. They wait outside of the loop's `select!`, which drops what it does not finish.
#[derive(Default)]
struct Waiting {
    streams: Vec<Stream>,
    lost: u64,
    due: Option<Instant>,
}

impl Waiting {
    fn add(&mut self, stream: Option<Stream>, lost: u64, delay: Duration) {
        self.streams.extend(stream);
        self.lost += lost;
        if self.due.is_none() && (self.lost > 0 || !self.streams.is_empty()) {
            self.due = Some(Instant::now() + delay);
        }
    }

    /// Ends when it is time to send; never while nothing waits.
    async fn due(&self) {
        match self.due {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Sends entries in frames. False: the client is gone.
async fn send(sender: &mut SplitSink<WebSocket, Message>, streams: &[Stream], lost: u64, shape: Shape) -> bool {
    let frames = streams.len().div_ceil(FRAME_ENTRIES_MAX).max(usize::from(lost > 0));
    for i in 0..frames {
        let rest = streams.get(i * FRAME_ENTRIES_MAX..).unwrap_or_default();
        let text = frame(
            &rest[..rest.len().min(FRAME_ENTRIES_MAX)],
            if i == 0 { lost } else { 0 },
            shape,
        );
        let sent = tokio::time::timeout(SEND_TIMEOUT, sender.send(Message::text(text))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return false;
        }
    }
    true
}

/// The newest entries, one stream each, oldest first.
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
    let Value::Streams(streams) = output.value else {
        return Ok(Vec::new());
    };
    let each = |s: Stream| {
        let labels = s.labels;
        s.lines.into_iter().rev().map(move |line| Stream {
            labels: labels.clone(),
            lines: vec![line],
        })
    };
    let mut entries: Vec<Stream> = streams.into_iter().flat_map(each).collect();
    entries.sort_by_key(|s| s.lines.first().map(|l| l.entry.t));
    Ok(entries)
}

fn pass(asked: &Asked, labels: &LabelSet, entry: &Entry) -> Option<Stream> {
    let (labels, line) = asked.query.process(labels, entry)?;
    Some(Stream {
        labels,
        lines: vec![line],
    })
}

/// A text frame.
fn frame(streams: &[Stream], lost: u64, shape: Shape) -> String {
    let mut out = String::from("{\"streams\":");
    if shape.legacy {
        legacy::push_entries(&mut out, streams, shape.labels);
    } else {
        push_entries(&mut out, streams, shape.labels);
    }
    if lost > 0 {
        let empty = if shape.legacy { r#""{}""# } else { "{}" };
        out.push_str(",\"dropped_entries\":");
        push_list(&mut out, 0..lost.min(1000), |out, _| {
            out.push_str(&format!(r#"{{"labels":{empty},"timestamp":"0"}}"#));
        });
    } else if shape.legacy {
        out.push_str(",\"dropped_entries\":null");
    }
    if shape.labels == Labels::Categorized {
        out.push_str(r#","encodingFlags":["categorize-labels"]"#);
    }
    out.push('}');
    out
}
