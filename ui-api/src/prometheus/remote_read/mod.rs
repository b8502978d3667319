//! Remote read: raw samples for another Prometheus, as one message of samples or as a stream of chunks.
//!
//! `wire.rs` has the messages, `chunks.rs` makes chunks of samples, `bits.rs` writes their bits.
//!
//! A stream is made as the client reads it, one piece at a time on a blocking thread, so that a slow reader holds neither
//! memory nor one of the threads that queries run on.

mod bits;
mod chunks;
pub(super) mod wire;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use model::{LabelSet, MatchOp, Matcher, RegexBudget, TimeRangeMs, TimestampMs};
use prost::Message;
use query::Language;
use storage_metrics::{BlockError, Samples, Series};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::routes::Api;
use wire::{ChunkedReadResponse, ChunkedSeries, Label, ReadRequest, Sample, TimeSeries, WireHistogram};

/// Requests answered at once; more wait.
const CONCURRENT_MAX: usize = 10;

/// Most samples in an answer that is one message.
const SAMPLES_MAX: usize = 50_000_000;

/// Largest message of a stream, bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Frames are sent in pieces of about this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Largest request, before and after decompression, bytes.
const REQUEST_BYTES_MAX: usize = 32 << 20;

const SAMPLES: i32 = 0;
const STREAMED_XOR_CHUNKS: i32 = 1;

/// Places for those who read.
#[derive(Clone)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Semaphore::new(CONCURRENT_MAX)))
    }
}

/// Why there is no answer: a status, and a text.
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(what: impl ToString) -> Refusal {
        Refusal(StatusCode::BAD_REQUEST, what.to_string())
    }

    fn internal(what: impl ToString) -> Refusal {
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, what.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1 + "\n").into_response()
    }
}

/// One query: what it selects and when.
struct Selection {
    matchers: Vec<Matcher>,
    range: TimeRangeMs,
}

pub(crate) async fn read(State(api): State<Api>, request: Request) -> Response {
    match answer(api, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer(api: Api, request: Request) -> Result<Response, Refusal> {
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let body = body.map_err(Refusal::bad)?.to_bytes();
    let request = decode(&body)?;
    let external = api.about.external_labels();
    let patterns = request.queries.iter().flat_map(|q| &q.matchers);
    let patterns: String = patterns.filter(|m| m.kind > 1).flat_map(|m| ["~", &m.value]).collect();
    let selections = query::read(&patterns, |_| {
        let regexes = RegexBudget::default();
        let selected = request.queries.iter().map(|q| selection(q, &external, &regexes));
        selected.collect::<Result<Vec<Selection>, Refusal>>()
    })?;
    let wanted = &request.accepted_response_types;
    let known = wanted
        .iter()
        .copied()
        .find(|t| [SAMPLES, STREAMED_XOR_CHUNKS].contains(t));
    let kind = match known {
        Some(kind) => kind,
        None if wanted.is_empty() => SAMPLES,
        None => {
            let what = format!("none of the accepted response types {wanted:?} is supported; 0 and 1 are");
            return Err(Refusal::bad(what));
        }
    };
    let place = api.reads.0.clone().acquire_owned().await.map_err(Refusal::internal)?;
    if kind == SAMPLES {
        samples(&api, selections, external).await
    } else {
        streamed(&api, selections, external, place).await
    }
}

fn decode(body: &[u8]) -> Result<ReadRequest, Refusal> {
    let corrupt = |_| Refusal::bad("snappy: corrupt input");
    if snap::raw::decompress_len(body).map_err(corrupt)? > REQUEST_BYTES_MAX {
        return Err(Refusal::bad(format!("request of more than {REQUEST_BYTES_MAX} bytes")));
    }
    let message = snap::raw::Decoder::new().decompress_vec(body).map_err(corrupt)?;
    ReadRequest::decode(&message[..]).map_err(Refusal::bad)
}

fn selection(query: &wire::Query, external: &LabelSet, regexes: &RegexBudget) -> Result<Selection, Refusal> {
    let mut matchers = Vec::with_capacity(query.matchers.len());
    for m in &query.matchers {
        let op = match m.kind {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            other => return Err(Refusal::bad(format!("invalid matcher type: {other}"))),
        };
        // All that is here has these labels, whether or not it is written at the series.
        if op == MatchOp::Equal && !m.value.is_empty() && external.get(&m.name) == Some(&m.value) {
            continue;
        }
        matchers.push(Matcher::within(regexes, m.name.as_str(), op, m.value.as_str()).map_err(Refusal::bad)?);
    }
    let range = TimeRangeMs {
        start: TimestampMs(query.start_timestamp_ms),
        end: TimestampMs(query.end_timestamp_ms),
    };
    Ok(Selection { matchers, range })
}

/// The answer in one message.
async fn samples(api: &Api, selections: Vec<Selection>, external: LabelSet) -> Result<Response, Refusal> {
    let message = api
        .queries
        .run(Language::PromQl, "remote read", None, move |context, storage| {
            let mut out = Vec::new();
            let mut left = SAMPLES_MAX;
            for Selection { matchers, range } in selections {
                let mut result = Vec::new();
                let found = storage.metrics().snapshot(range).select(&matchers, range);
                for series in found.map_err(Refusal::internal)? {
                    context
                        .check("remote read")
                        .map_err(|e| Refusal(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
                    let series = time_series(&series, range, &external).map_err(Refusal::internal)?;
                    let Some(series) = series else { continue };
                    left = left
                        .checked_sub(series.samples.len() + series.histograms.len())
                        .ok_or_else(|| Refusal::bad(format!("exceeded sample limit ({SAMPLES_MAX})")))?;
                    put_field(&mut result, &series.encode_to_vec());
                }
                put_field(&mut out, &result);
            }
            snap::raw::Encoder::new().compress_vec(&out).map_err(Refusal::internal)
        })
        .await
        .map_err(|e| Refusal(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))??;
    let mut response = message.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    Ok(response)
}

/// Field 1 of a message, which is a message: series of a result, results of a response.
fn put_field(out: &mut Vec<u8>, message: &[u8]) {
    out.push(1 << 3 | 2);
    put_uvarint(out, message.len() as u64);
    out.extend_from_slice(message);
}

fn put_uvarint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// `None`: it has no sample in the range.
fn time_series(series: &Series, range: TimeRangeMs, external: &LabelSet) -> Result<Option<TimeSeries>, BlockError> {
    let mut samples = Samples::default();
    series.read(range, &mut samples)?;
    if samples.t.is_empty() && samples.histograms.t.is_empty() {
        return Ok(None);
    }
    let floats = samples.t.iter().zip(&samples.v);
    let histograms = samples.histograms.t.iter().zip(&samples.histograms.h);
    Ok(Some(TimeSeries {
        labels: labels(series.labels(), external),
        samples: floats.map(|(&timestamp, &value)| Sample { value, timestamp }).collect(),
        histograms: histograms.map(|(&t, h)| WireHistogram::of(t, h)).collect(),
    }))
}

/// With the labels that tell this server from others, where the series has none of that name.
fn labels(labels: &LabelSet, external: &LabelSet) -> Vec<Label> {
    let own = external.iter().filter(|(name, _)| labels.get(name).is_none());
    let mut all: Vec<Label> = labels
        .iter()
        .chain(own)
        .map(|(name, value)| Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The answer in chunks.
async fn streamed(
    api: &Api,
    selections: Vec<Selection>,
    external: LabelSet,
    place: OwnedSemaphorePermit,
) -> Result<Response, Refusal> {
    let found = api
        .queries
        .run(Language::PromQl, "remote read", None, move |_, storage| {
            let mut all = Vec::new();
            for (index, Selection { matchers, range }) in selections.into_iter().enumerate() {
                let found = storage.metrics().snapshot(range).select(&matchers, range)?;
                all.extend(found.into_iter().map(|series| (index as i64, range, series)));
            }
            Ok::<_, BlockError>(all)
        })
        .await
        .map_err(|e| Refusal(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?
        .map_err(Refusal::internal)?;
    let stream = Frames {
        series: found.into_iter(),
        external,
        _place: place,
    };
    // What fails at once is an error; what fails later can only end the connection.
    let (first, rest) = next_piece(stream).await.map_err(Refusal::internal)?;
    let pieces = stream::try_unfold(rest, |stream| async {
        let Some(stream) = stream else { return Ok(None) };
        let (piece, rest) = next_piece(stream).await?;
        Ok::<_, std::io::Error>(Some((piece, rest)))
    });
    use futures_util::StreamExt;
    let body = Body::from_stream(stream::once(async { Ok(first) }).chain(pieces));
    let mut response = body.into_response();
    let kind = HeaderValue::from_static("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// What is left to be sent.
struct Frames {
    series: std::vec::IntoIter<(i64, TimeRangeMs, Series)>,
    external: LabelSet,
    _place: OwnedSemaphorePermit,
}

/// Some frames, and what is left after them.
async fn next_piece(mut frames: Frames) -> Result<(Bytes, Option<Frames>), std::io::Error> {
    let made = tokio::task::spawn_blocking(move || {
        let mut out = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        let mut samples = Samples::default();
        while out.len() < PIECE_BYTES {
            let Some((index, range, series)) = frames.series.next() else {
                return Ok((out, None));
            };
            samples = Samples::default();
            series.read(range, &mut samples)?;
            put_frames(&mut out, index, &labels(series.labels(), &frames.external), &samples);
        }
        drop(samples);
        Ok::<_, BlockError>((out, Some(frames)))
    });
    let (out, rest) = made.await?.map_err(std::io::Error::other)?;
    Ok((out.into(), rest))
}

/// The frames of one series.
fn put_frames(out: &mut Vec<u8>, query_index: i64, labels: &[Label], samples: &Samples) {
    let head: usize = labels.iter().map(|l| l.encoded_len() + 4).sum::<usize>() + 32;
    let mut chunks = Vec::new();
    let mut bytes = head;
    let mut flush = |chunks: &mut Vec<wire::Chunk>| {
        let series = ChunkedSeries {
            labels: labels.to_vec(),
            chunks: std::mem::take(chunks),
        };
        let message = ChunkedReadResponse {
            chunked_series: vec![series],
            query_index,
        }
        .encode_to_vec();
        put_uvarint(out, message.len() as u64);
        out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
        out.extend_from_slice(&message);
    };
    for chunk in chunks::chunks(samples) {
        let more = chunk.encoded_len() + 8;
        if bytes + more > FRAME_BYTES_MAX && !chunks.is_empty() {
            flush(&mut chunks);
            bytes = head;
        }
        bytes += more;
        chunks.push(chunk);
    }
    if !chunks.is_empty() {
        flush(&mut chunks);
    }
}
