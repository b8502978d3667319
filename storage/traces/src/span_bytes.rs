//! Spans as bytes: the compact form that the WAL record and the head share.
//!
//! Little-endian. `uv` = LEB128, `iv` = zigzag LEB128, `str` and `bytes` = len uv · data.
//!
//! ```text
//! body        = parent · trace state str · flags uv · name sym · status u8 · message str
//!             · attributes · dropped attributes uv · events · dropped events uv · links · dropped links uv
//! parent      = 0 u8 | 1 u8 · span id [8]
//! attributes  = count uv · (key sym · value)*
//! events      = count uv · (t - span start iv · name sym · attributes · dropped attributes uv)*
//! links       = count uv · (trace id [16] · span id [8] · trace state str · attributes · dropped attributes uv · flags uv)*
//! value       = 0 | 1 · str | 2 (false) | 3 (true) | 4 · iv | 5 · f64 | 6 · bytes | 7 · count uv · value* | 8 · attributes
//! resource    = schema url str · dropped attributes uv · attributes
//! scope       = name str · version str · schema url str · dropped attributes uv · attributes
//! sym         = 0 uv · str | n uv (the n-th string of a table that lies elsewhere, from 1)
//! ```
//!
//! Where the string table lies is the user's affair: in a WAL record before the spans, in the head beside them. Ids and
//! times stand outside the body because the head compares them without decoding.
//!
//! Reading takes foreign bytes: counts are bounded by what is left, nesting by [`VALUE_DEPTH_MAX`].

use std::ops::Range;

use model::{AttributeValue, Event, KeyValue, Link, Resource, Scope, Span, SpanId, StatusCode, TimestampNs, TraceId};
use storage_codec::{Malformed, Reader, put_bytes, put_iv, put_uv};

/// Arrays and maps nest this deep at most; what lies deeper is written as an empty value. Decoders of OTLP stop
/// earlier, so that this bounds recursion and loses nothing.
pub(crate) const VALUE_DEPTH_MAX: usize = 96;

/// Where a string that is likely to repeat occurs; tells the head's table which names are attribute names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Name of a span or event, key within a map.
    Other,
    /// Key of a span's attribute.
    SpanAttribute,
    /// Key of an event's attribute.
    EventAttribute,
    /// Key of a link's attribute.
    LinkAttribute,
}

impl Place {
    /// How many there are.
    pub(crate) const COUNT: usize = 4;
}

/// Turns strings that are likely to repeat into numbers.
pub(crate) trait PutSymbols {
    /// The number (from 1) of `text`, or 0 to have it written in place.
    fn number(&mut self, text: &str, place: Place) -> u64;
}

/// Turns numbers back into strings.
pub(crate) trait GetSymbols {
    /// The string with a number (from 1).
    fn text(&self, number: u64) -> Option<&str>;
}

/// No table: every string is written in place.
pub(crate) struct InPlace;

impl PutSymbols for InPlace {
    fn number(&mut self, _text: &str, _place: Place) -> u64 {
        0
    }
}

impl GetSymbols for InPlace {
    fn text(&self, _number: u64) -> Option<&str> {
        None
    }
}

/// Appends all of a span but its ids, kind, times, resource and scope.
pub(crate) fn put_body(out: &mut Vec<u8>, span: &Span, symbols: &mut impl PutSymbols) {
    match span.parent_span_id {
        None => out.push(0),
        Some(parent) => {
            out.push(1);
            out.extend_from_slice(&parent.to_bytes());
        }
    }
    put_bytes(out, span.trace_state.as_bytes());
    put_uv(out, u64::from(span.flags));
    put_symbol(out, &span.name, Place::Other, symbols);
    out.push(span.status as u8);
    put_bytes(out, span.status_message.as_bytes());
    put_attributes(out, &span.attributes, Place::SpanAttribute, symbols);
    put_uv(out, u64::from(span.dropped_attributes));
    put_uv(out, span.events.len() as u64);
    for event in &span.events {
        put_iv(out, event.t.0.wrapping_sub(span.start.0));
        put_symbol(out, &event.name, Place::Other, symbols);
        put_attributes(out, &event.attributes, Place::EventAttribute, symbols);
        put_uv(out, u64::from(event.dropped_attributes));
    }
    put_uv(out, u64::from(span.dropped_events));
    put_uv(out, span.links.len() as u64);
    for link in &span.links {
        out.extend_from_slice(&link.trace_id.to_bytes());
        out.extend_from_slice(&link.span_id.to_bytes());
        put_bytes(out, link.trace_state.as_bytes());
        put_attributes(out, &link.attributes, Place::LinkAttribute, symbols);
        put_uv(out, u64::from(link.dropped_attributes));
        put_uv(out, u64::from(link.flags));
    }
    put_uv(out, u64::from(span.dropped_links));
}

/// Reads into `span` what [`put_body`] wrote; `span.start` must be set already.
pub(crate) fn get_body(r: &mut Reader<'_>, span: &mut Span, symbols: &impl GetSymbols) -> Result<(), Malformed> {
    let head = get_head(r, symbols)?;
    span.parent_span_id = head.parent;
    span.trace_state = head.trace_state.to_owned();
    span.flags = head.flags;
    span.name = head.name.to_owned();
    span.status = StatusCode::from_number(i32::from(head.status));
    span.status_message = head.status_message.to_owned();
    span.attributes = get_attributes(r, symbols)?;
    get_tail(r, span, symbols)
}

/// The start of a body, read in place. What follows are the attributes, see [`skim_attributes`], then [`get_tail`].
pub(crate) struct BodyHead<'a> {
    /// As in the span.
    pub parent: Option<SpanId>,
    /// As in the span.
    pub trace_state: &'a str,
    /// As in the span.
    pub flags: u32,
    /// As in the span.
    pub name: &'a str,
    /// OTLP's number.
    pub status: u8,
    /// As in the span.
    pub status_message: &'a str,
}

/// Reads the start of what [`put_body`] wrote.
pub(crate) fn get_head<'s, 'r: 's>(
    r: &mut Reader<'r>,
    symbols: &'s impl GetSymbols,
) -> Result<BodyHead<'s>, Malformed> {
    Ok(BodyHead {
        parent: parent(r)?,
        trace_state: r.str()?,
        flags: u32_of(r)?,
        name: symbol(r, symbols)?,
        status: r.u8()?,
        status_message: r.str()?,
    })
}

/// An attribute, still bytes of the body.
#[derive(Clone, Debug)]
pub(crate) struct Skimmed {
    /// The number of its key; 0: it has none.
    pub symbol: u64,
    /// The type of its value: place among the types with columns, as [`crate::columns::Kind`] counts; 4 for all others.
    pub kind: usize,
    /// Where its value is in the body.
    pub value: Range<usize>,
}

/// Reads attributes as far as to know where they are.
pub(crate) fn skim_attributes(r: &mut Reader<'_>, out: &mut Vec<Skimmed>) -> Result<(), Malformed> {
    out.clear();
    for _ in 0..r.count(2)? {
        let symbol = r.uv()?;
        if symbol == 0 {
            r.bytes()?;
        }
        let start = r.position();
        let kind = skip_value(r, 0)?;
        out.push(Skimmed {
            symbol,
            kind,
            value: start..r.position(),
        });
    }
    Ok(())
}

/// Reads what follows a body's attributes.
pub(crate) fn get_tail(r: &mut Reader<'_>, span: &mut Span, symbols: &impl GetSymbols) -> Result<(), Malformed> {
    span.dropped_attributes = u32_of(r)?;
    let events = r.count(4)?;
    span.events = Vec::with_capacity(events);
    for _ in 0..events {
        span.events.push(Event {
            t: TimestampNs(r.iv()?.wrapping_add(span.start.0)),
            name: symbol(r, symbols)?.to_owned(),
            attributes: get_attributes(r, symbols)?,
            dropped_attributes: u32_of(r)?,
        });
    }
    span.dropped_events = u32_of(r)?;
    let links = r.count(28)?;
    span.links = Vec::with_capacity(links);
    for _ in 0..links {
        span.links.push(Link {
            trace_id: trace_id(r)?,
            span_id: span_id(r)?,
            trace_state: r.str()?.to_owned(),
            attributes: get_attributes(r, symbols)?,
            dropped_attributes: u32_of(r)?,
            flags: u32_of(r)?,
        });
    }
    span.dropped_links = u32_of(r)?;
    Ok(())
}

/// Appends a body with other numbers for its strings: `number` turns each into its new one, or 0 to have it written in place.
pub(crate) fn renumber(
    body: &[u8],
    strings: &impl GetSymbols,
    number: &mut impl FnMut(u64, Place) -> u64,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut copy = Renumbering {
        body,
        r: Reader::new(body),
        copied: 0,
        strings,
        number,
        out,
    };
    parent(&mut copy.r)?;
    copy.r.bytes()?;
    copy.r.uv()?;
    copy.symbol(Place::Other)?;
    copy.r.u8()?;
    copy.r.bytes()?;
    copy.attributes(Place::SpanAttribute, 0)?;
    copy.r.uv()?;
    for _ in 0..copy.r.count(4)? {
        copy.r.iv()?;
        copy.symbol(Place::Other)?;
        copy.attributes(Place::EventAttribute, 0)?;
        copy.r.uv()?;
    }
    copy.r.uv()?;
    for _ in 0..copy.r.count(28)? {
        copy.r.take(24)?;
        copy.r.bytes()?;
        copy.attributes(Place::LinkAttribute, 0)?;
        copy.r.uv()?;
        copy.r.uv()?;
    }
    copy.r.uv()?;
    copy.out.extend_from_slice(&body[copy.copied..]);
    Ok(())
}

struct Renumbering<'a, S, N> {
    body: &'a [u8],
    r: Reader<'a>,
    /// Up to here the body has been copied.
    copied: usize,
    strings: &'a S,
    number: &'a mut N,
    out: &'a mut Vec<u8>,
}

impl<S: GetSymbols, N: FnMut(u64, Place) -> u64> Renumbering<'_, S, N> {
    fn symbol(&mut self, place: Place) -> Result<(), Malformed> {
        let at = self.r.position();
        let old = self.r.uv()?;
        if old == 0 {
            self.r.bytes()?;
            return Ok(());
        }
        self.out.extend_from_slice(&self.body[self.copied..at]);
        self.copied = self.r.position();
        let new = (self.number)(old, place);
        put_uv(self.out, new);
        if new == 0 {
            let text = self.strings.text(old);
            let text = text.ok_or_else(|| malformed(&self.r, "string number beyond the table"))?;
            put_bytes(self.out, text.as_bytes());
        }
        Ok(())
    }

    fn attributes(&mut self, place: Place, depth: usize) -> Result<(), Malformed> {
        for _ in 0..self.r.count(2)? {
            self.symbol(place)?;
            self.value(depth)?;
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        match self.body.get(self.r.position()) {
            Some(&ARRAY) if depth <= VALUE_DEPTH_MAX => {
                self.r.u8()?;
                for _ in 0..self.r.count(1)? {
                    self.value(depth + 1)?;
                }
            }
            Some(&MAP) if depth <= VALUE_DEPTH_MAX => {
                self.r.u8()?;
                self.attributes(Place::Other, depth + 1)?;
            }
            _ => {
                skip_value(&mut self.r, depth)?;
            }
        }
        Ok(())
    }
}

/// The parent that a body begins with.
pub(crate) fn parent(r: &mut Reader<'_>) -> Result<Option<SpanId>, Malformed> {
    match r.u8()? {
        0 => Ok(None),
        1 => Ok(Some(span_id(r)?)),
        _ => Err(malformed(r, "parent flag")),
    }
}

/// Appends a resource.
pub(crate) fn put_resource(out: &mut Vec<u8>, resource: &Resource, symbols: &mut impl PutSymbols) {
    put_bytes(out, resource.schema_url.as_bytes());
    put_uv(out, u64::from(resource.dropped_attributes));
    put_attributes(out, &resource.attributes, Place::Other, symbols);
}

/// Reads what [`put_resource`] wrote.
pub(crate) fn get_resource(r: &mut Reader<'_>, symbols: &impl GetSymbols) -> Result<Resource, Malformed> {
    Ok(Resource {
        schema_url: r.str()?.to_owned(),
        dropped_attributes: u32_of(r)?,
        attributes: get_attributes(r, symbols)?,
    })
}

/// Appends a scope.
pub(crate) fn put_scope(out: &mut Vec<u8>, scope: &Scope, symbols: &mut impl PutSymbols) {
    put_bytes(out, scope.name.as_bytes());
    put_bytes(out, scope.version.as_bytes());
    put_bytes(out, scope.schema_url.as_bytes());
    put_uv(out, u64::from(scope.dropped_attributes));
    put_attributes(out, &scope.attributes, Place::Other, symbols);
}

/// Reads what [`put_scope`] wrote.
pub(crate) fn get_scope(r: &mut Reader<'_>, symbols: &impl GetSymbols) -> Result<Scope, Malformed> {
    Ok(Scope {
        name: r.str()?.to_owned(),
        version: r.str()?.to_owned(),
        schema_url: r.str()?.to_owned(),
        dropped_attributes: u32_of(r)?,
        attributes: get_attributes(r, symbols)?,
    })
}

/// Appends one value, every string in place.
pub(crate) fn put_value(out: &mut Vec<u8>, value: &AttributeValue) {
    put_value_at(out, value, 0, &mut InPlace);
}

/// Reads one value; `symbols` are those of the body that it is in.
pub(crate) fn get_value(r: &mut Reader<'_>, symbols: &impl GetSymbols) -> Result<AttributeValue, Malformed> {
    get_value_at(r, 0, symbols)
}

/// A 16-byte trace id.
pub(crate) fn trace_id(r: &mut Reader<'_>) -> Result<TraceId, Malformed> {
    let mut id = [0; 16];
    id.copy_from_slice(r.take(16)?);
    Ok(TraceId(u128::from_be_bytes(id)))
}

/// An 8-byte span id.
pub(crate) fn span_id(r: &mut Reader<'_>) -> Result<SpanId, Malformed> {
    let mut id = [0; 8];
    id.copy_from_slice(r.take(8)?);
    Ok(SpanId(u64::from_be_bytes(id)))
}

/// What is wrong at the reader's place.
pub(crate) fn malformed(r: &Reader<'_>, what: &'static str) -> Malformed {
    Malformed { at: r.position(), what }
}

fn u32_of(r: &mut Reader<'_>) -> Result<u32, Malformed> {
    u32::try_from(r.uv()?).map_err(|_| malformed(r, "number above 32 bits"))
}

fn put_symbol(out: &mut Vec<u8>, text: &str, place: Place, symbols: &mut impl PutSymbols) {
    let n = symbols.number(text, place);
    put_uv(out, n);
    if n == 0 {
        put_bytes(out, text.as_bytes());
    }
}

fn symbol<'s, 'r: 's>(r: &mut Reader<'r>, symbols: &'s impl GetSymbols) -> Result<&'s str, Malformed> {
    match r.uv()? {
        0 => r.str(),
        n => symbols
            .text(n)
            .ok_or_else(|| malformed(r, "string number beyond the table")),
    }
}

fn put_attributes(out: &mut Vec<u8>, attributes: &[KeyValue], place: Place, symbols: &mut impl PutSymbols) {
    put_attributes_at(out, attributes, place, 0, symbols);
}

fn put_attributes_at(
    out: &mut Vec<u8>,
    attributes: &[KeyValue],
    place: Place,
    depth: usize,
    symbols: &mut impl PutSymbols,
) {
    put_uv(out, attributes.len() as u64);
    for kv in attributes {
        put_symbol(out, &kv.key, place, symbols);
        put_value_at(out, &kv.value, depth, symbols);
    }
}

/// Reads attributes.
pub(crate) fn get_attributes(r: &mut Reader<'_>, symbols: &impl GetSymbols) -> Result<Vec<KeyValue>, Malformed> {
    get_attributes_at(r, 0, symbols)
}

fn get_attributes_at(r: &mut Reader<'_>, depth: usize, symbols: &impl GetSymbols) -> Result<Vec<KeyValue>, Malformed> {
    let count = r.count(2)?;
    let mut out = Vec::with_capacity(count.min(ALLOCATE_AHEAD_MAX));
    for _ in 0..count {
        let key = symbol(r, symbols)?.to_owned();
        let value = get_value_at(r, depth, symbols)?;
        out.push(KeyValue { key, value });
    }
    Ok(out)
}

/// Elements for which room is made before they are seen: an element in memory is up to 60 times its bytes.
const ALLOCATE_AHEAD_MAX: usize = 256;

const EMPTY: u8 = 0;
const STR: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const DOUBLE: u8 = 5;
const BYTES: u8 = 6;
const ARRAY: u8 = 7;
const MAP: u8 = 8;

fn put_value_at(out: &mut Vec<u8>, value: &AttributeValue, depth: usize, symbols: &mut impl PutSymbols) {
    match value {
        AttributeValue::Empty => out.push(EMPTY),
        AttributeValue::Str(s) => {
            out.push(STR);
            put_bytes(out, s.as_bytes());
        }
        AttributeValue::Bool(b) => out.push(if *b { TRUE } else { FALSE }),
        AttributeValue::Int(i) => {
            out.push(INT);
            put_iv(out, *i);
        }
        AttributeValue::Double(d) => {
            out.push(DOUBLE);
            out.extend_from_slice(&d.to_bits().to_le_bytes());
        }
        AttributeValue::Bytes(b) => {
            out.push(BYTES);
            put_bytes(out, b);
        }
        AttributeValue::Array(_) | AttributeValue::Map(_) if depth >= VALUE_DEPTH_MAX => out.push(EMPTY),
        AttributeValue::Array(values) => {
            out.push(ARRAY);
            put_uv(out, values.len() as u64);
            for v in values {
                put_value_at(out, v, depth + 1, symbols);
            }
        }
        AttributeValue::Map(pairs) => {
            out.push(MAP);
            put_attributes_at(out, pairs, Place::Other, depth + 1, symbols);
        }
    }
}

/// Goes past a value; tells its type as [`Skimmed::kind`] does.
fn skip_value(r: &mut Reader<'_>, depth: usize) -> Result<usize, Malformed> {
    if depth > VALUE_DEPTH_MAX {
        return Err(malformed(r, "values nested too deep"));
    }
    Ok(match r.u8()? {
        STR => {
            r.bytes()?;
            0
        }
        INT => {
            r.iv()?;
            1
        }
        DOUBLE => {
            r.u64()?;
            2
        }
        FALSE | TRUE => 3,
        EMPTY => 4,
        BYTES => {
            r.bytes()?;
            4
        }
        ARRAY => {
            for _ in 0..r.count(1)? {
                skip_value(r, depth + 1)?;
            }
            4
        }
        MAP => {
            for _ in 0..r.count(2)? {
                if r.uv()? == 0 {
                    r.bytes()?;
                }
                skip_value(r, depth + 1)?;
            }
            4
        }
        _ => return Err(malformed(r, "kind of value")),
    })
}

fn get_value_at(r: &mut Reader<'_>, depth: usize, symbols: &impl GetSymbols) -> Result<AttributeValue, Malformed> {
    if depth > VALUE_DEPTH_MAX {
        return Err(malformed(r, "values nested too deep"));
    }
    Ok(match r.u8()? {
        EMPTY => AttributeValue::Empty,
        STR => AttributeValue::Str(r.str()?.to_owned()),
        FALSE => AttributeValue::Bool(false),
        TRUE => AttributeValue::Bool(true),
        INT => AttributeValue::Int(r.iv()?),
        DOUBLE => AttributeValue::Double(f64::from_bits(r.u64()?)),
        BYTES => AttributeValue::Bytes(r.bytes()?.to_vec()),
        ARRAY => {
            let count = r.count(1)?;
            let mut values = Vec::with_capacity(count.min(ALLOCATE_AHEAD_MAX));
            for _ in 0..count {
                values.push(get_value_at(r, depth + 1, symbols)?);
            }
            AttributeValue::Array(values)
        }
        MAP => AttributeValue::Map(get_attributes_at(r, depth + 1, symbols)?),
        _ => return Err(malformed(r, "kind of value")),
    })
}
