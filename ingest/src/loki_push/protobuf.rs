//! The protobuf form of a push, read in place.
//!
//!     PushRequest    1 streams*
//!     StreamAdapter  1 labels text, 2 entries*
//!     EntryAdapter   1 timestamp {1 seconds, 2 nanos}, 2 line, 3 structuredMetadata* {1 name, 2 value}
//!
//! Senders are written in Go and do not check their text: what is not UTF-8 becomes U+FFFD.

use std::borrow::Cow;

use model::TimestampNs;

use super::decode::{Pair, Push};
use super::label_text;
use crate::entry_limits::METADATA_PAIRS_MAX;
use crate::refusal::Refusal;
use crate::wire::{BadWire, Fields};

/// Pairs of one entry that are looked at; more than the limit, so that its words can be said.
const PAIRS_READ_MAX: usize = METADATA_PAIRS_MAX * 8;

/// Reads a `PushRequest`.
pub(crate) fn read(request: &[u8], push: &mut Push) -> Result<(), Refusal> {
    let mut pairs = Vec::new();
    for field in Fields::new(request) {
        let field = field?;
        if field.number == 1 {
            read_stream(field.bytes()?, push, &mut pairs)?;
        }
    }
    Ok(())
}

fn read_stream<'a>(message: &'a [u8], push: &mut Push, pairs: &mut Vec<Pair<'a>>) -> Result<(), Refusal> {
    let mut text = Cow::Borrowed("");
    for field in Fields::new(message) {
        let field = field?;
        if field.number == 1 {
            text = field.text()?;
        }
    }
    let labels = label_text::parse(&text).map_err(|why| Refusal::Bad(format!("couldn't parse labels: {why}")))?;
    let mut stream = push.open(labels.iter().map(|(n, v)| (*n, v.as_ref())));
    for field in Fields::new(message) {
        let field = field?;
        if field.number != 2 {
            continue;
        }
        pairs.clear();
        let mut t = TimestampNs(0);
        let mut line = Cow::Borrowed("");
        for field in Fields::new(field.bytes()?) {
            let field = field?;
            match field.number {
                1 => t = read_timestamp(field.bytes()?)?,
                2 => line = field.text()?,
                3 if pairs.len() < PAIRS_READ_MAX => pairs.push(read_pair(field.bytes()?)?),
                _ => {}
            }
        }
        push.entry(&mut stream, t, &line, pairs)?;
    }
    Ok(())
}

fn read_timestamp(message: &[u8]) -> Result<TimestampNs, BadWire> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = i64::from(field.int32()?),
            _ => {}
        }
    }
    Ok(TimestampNs(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

fn read_pair(message: &[u8]) -> Result<Pair<'_>, BadWire> {
    let (mut name, mut value) = (Cow::Borrowed(""), Cow::Borrowed(""));
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}
