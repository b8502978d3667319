//! OTLP/JSON, rewritten as OTLP protobuf.
//!
//! There is one mapping from OTLP to our batches, and it reads protobuf; JSON requests are rewritten first, guided by a
//! table of the messages. The rules beyond plain proto3 JSON: ids are hex in either case, not base64; enums may be
//! numbers or names; 64-bit numbers may be strings or numbers; doubles may be `"NaN"`, `"Infinity"`, `"-Infinity"`;
//! `null` is absent; names may be lowerCamelCase or snake_case; unknown names are ignored, whatever they hold. Nesting
//! is bounded by the JSON parser (128 levels).

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::Signal;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::refusal::Refusal;
use crate::wire::{close_message, open_message, put_bytes, put_fixed32, put_fixed64, put_number};

/// The protobuf form of a JSON export request.
pub(crate) fn to_protobuf(json: &[u8], signal: Signal) -> Result<Vec<u8>, Refusal> {
    let message = match signal {
        Signal::Traces => &EXPORT_TRACES,
        Signal::Metrics => &EXPORT_METRICS,
        Signal::Logs => &EXPORT_LOGS,
    };
    let bad = |e: serde_json::Error| Refusal::Bad(format!("malformed OTLP/JSON: {e}"));
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut parser = serde_json::Deserializer::from_slice(json);
    let seed = Fill { message, out: &mut out };
    seed.deserialize(&mut parser).map_err(bad)?;
    parser.end().map_err(bad)?;
    Ok(out)
}

/// A message: its fields by JSON name.
struct Message {
    name: &'static str,
    fields: &'static [Field],
}

/// A field: lowerCamelCase name, number, type.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    number: u32,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    HexId,
    Base64,
    Bool,
    Uint32,
    Int64,
    Uint64,
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    Enum(&'static [(&'static str, i32)]),
    One(&'static Message),
    Many(&'static Message),
    ManyFixed64,
    ManyUint64,
    ManyDouble,
    ManyText,
}

const fn field(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind }
}

use Kind::{
    Base64, Bool, Double, Enum, Fixed32, Fixed64, HexId, Int64, Many, ManyDouble, ManyFixed64, ManyText, ManyUint64,
    One, Sfixed64, Sint32, Text, Uint32,
};

static EXPORT_TRACES: Message = Message {
    name: "ExportTraceServiceRequest",
    fields: &[field("resourceSpans", 1, Many(&RESOURCE_SPANS))],
};
static EXPORT_METRICS: Message = Message {
    name: "ExportMetricsServiceRequest",
    fields: &[field("resourceMetrics", 1, Many(&RESOURCE_METRICS))],
};
static EXPORT_LOGS: Message = Message {
    name: "ExportLogsServiceRequest",
    fields: &[field("resourceLogs", 1, Many(&RESOURCE_LOGS))],
};

static ANY_VALUE: Message = Message {
    name: "AnyValue",
    fields: &[
        field("stringValue", 1, Text),
        field("boolValue", 2, Bool),
        field("intValue", 3, Int64),
        field("doubleValue", 4, Double),
        field("arrayValue", 5, One(&ARRAY_VALUE)),
        field("kvlistValue", 6, One(&KEY_VALUE_LIST)),
        field("bytesValue", 7, Base64),
    ],
};
static ARRAY_VALUE: Message = Message {
    name: "ArrayValue",
    fields: &[field("values", 1, Many(&ANY_VALUE))],
};
static KEY_VALUE_LIST: Message = Message {
    name: "KeyValueList",
    fields: &[field("values", 1, Many(&KEY_VALUE))],
};
static KEY_VALUE: Message = Message {
    name: "KeyValue",
    fields: &[field("key", 1, Text), field("value", 2, One(&ANY_VALUE))],
};
static RESOURCE: Message = Message {
    name: "Resource",
    fields: &[
        field("attributes", 1, Many(&KEY_VALUE)),
        field("droppedAttributesCount", 2, Uint32),
        field("entityRefs", 3, Many(&ENTITY_REF)),
    ],
};
static ENTITY_REF: Message = Message {
    name: "EntityRef",
    fields: &[
        field("schemaUrl", 1, Text),
        field("type", 2, Text),
        field("idKeys", 3, ManyText),
        field("descriptionKeys", 4, ManyText),
    ],
};
static SCOPE: Message = Message {
    name: "InstrumentationScope",
    fields: &[
        field("name", 1, Text),
        field("version", 2, Text),
        field("attributes", 3, Many(&KEY_VALUE)),
        field("droppedAttributesCount", 4, Uint32),
    ],
};

static RESOURCE_SPANS: Message = Message {
    name: "ResourceSpans",
    fields: &[
        field("resource", 1, One(&RESOURCE)),
        field("scopeSpans", 2, Many(&SCOPE_SPANS)),
        field("schemaUrl", 3, Text),
    ],
};
static SCOPE_SPANS: Message = Message {
    name: "ScopeSpans",
    fields: &[
        field("scope", 1, One(&SCOPE)),
        field("spans", 2, Many(&SPAN)),
        field("schemaUrl", 3, Text),
    ],
};
static SPAN: Message = Message {
    name: "Span",
    fields: &[
        field("traceId", 1, HexId),
        field("spanId", 2, HexId),
        field("traceState", 3, Text),
        field("parentSpanId", 4, HexId),
        field("name", 5, Text),
        field("kind", 6, Enum(SPAN_KINDS)),
        field("startTimeUnixNano", 7, Fixed64),
        field("endTimeUnixNano", 8, Fixed64),
        field("attributes", 9, Many(&KEY_VALUE)),
        field("droppedAttributesCount", 10, Uint32),
        field("events", 11, Many(&EVENT)),
        field("droppedEventsCount", 12, Uint32),
        field("links", 13, Many(&LINK)),
        field("droppedLinksCount", 14, Uint32),
        field("status", 15, One(&STATUS)),
        field("flags", 16, Fixed32),
    ],
};
static EVENT: Message = Message {
    name: "Event",
    fields: &[
        field("timeUnixNano", 1, Fixed64),
        field("name", 2, Text),
        field("attributes", 3, Many(&KEY_VALUE)),
        field("droppedAttributesCount", 4, Uint32),
    ],
};
static LINK: Message = Message {
    name: "Link",
    fields: &[
        field("traceId", 1, HexId),
        field("spanId", 2, HexId),
        field("traceState", 3, Text),
        field("attributes", 4, Many(&KEY_VALUE)),
        field("droppedAttributesCount", 5, Uint32),
        field("flags", 6, Fixed32),
    ],
};
static STATUS: Message = Message {
    name: "Status",
    fields: &[field("message", 2, Text), field("code", 3, Enum(STATUS_CODES))],
};

static RESOURCE_LOGS: Message = Message {
    name: "ResourceLogs",
    fields: &[
        field("resource", 1, One(&RESOURCE)),
        field("scopeLogs", 2, Many(&SCOPE_LOGS)),
        field("schemaUrl", 3, Text),
    ],
};
static SCOPE_LOGS: Message = Message {
    name: "ScopeLogs",
    fields: &[
        field("scope", 1, One(&SCOPE)),
        field("logRecords", 2, Many(&LOG_RECORD)),
        field("schemaUrl", 3, Text),
    ],
};
static LOG_RECORD: Message = Message {
    name: "LogRecord",
    fields: &[
        field("timeUnixNano", 1, Fixed64),
        field("severityNumber", 2, Enum(SEVERITIES)),
        field("severityText", 3, Text),
        field("body", 5, One(&ANY_VALUE)),
        field("attributes", 6, Many(&KEY_VALUE)),
        field("droppedAttributesCount", 7, Uint32),
        field("flags", 8, Fixed32),
        field("traceId", 9, HexId),
        field("spanId", 10, HexId),
        field("observedTimeUnixNano", 11, Fixed64),
        field("eventName", 12, Text),
    ],
};

static RESOURCE_METRICS: Message = Message {
    name: "ResourceMetrics",
    fields: &[
        field("resource", 1, One(&RESOURCE)),
        field("scopeMetrics", 2, Many(&SCOPE_METRICS)),
        field("schemaUrl", 3, Text),
    ],
};
static SCOPE_METRICS: Message = Message {
    name: "ScopeMetrics",
    fields: &[
        field("scope", 1, One(&SCOPE)),
        field("metrics", 2, Many(&METRIC)),
        field("schemaUrl", 3, Text),
    ],
};
static METRIC: Message = Message {
    name: "Metric",
    fields: &[
        field("name", 1, Text),
        field("description", 2, Text),
        field("unit", 3, Text),
        field("gauge", 5, One(&GAUGE)),
        field("sum", 7, One(&SUM)),
        field("histogram", 9, One(&HISTOGRAM)),
        field("exponentialHistogram", 10, One(&EXPONENTIAL_HISTOGRAM)),
        field("summary", 11, One(&SUMMARY)),
        field("metadata", 12, Many(&KEY_VALUE)),
    ],
};
static GAUGE: Message = Message {
    name: "Gauge",
    fields: &[field("dataPoints", 1, Many(&NUMBER_POINT))],
};
static SUM: Message = Message {
    name: "Sum",
    fields: &[
        field("dataPoints", 1, Many(&NUMBER_POINT)),
        field("aggregationTemporality", 2, Enum(TEMPORALITIES)),
        field("isMonotonic", 3, Bool),
    ],
};
static HISTOGRAM: Message = Message {
    name: "Histogram",
    fields: &[
        field("dataPoints", 1, Many(&HISTOGRAM_POINT)),
        field("aggregationTemporality", 2, Enum(TEMPORALITIES)),
    ],
};
static EXPONENTIAL_HISTOGRAM: Message = Message {
    name: "ExponentialHistogram",
    fields: &[
        field("dataPoints", 1, Many(&EXPONENTIAL_HISTOGRAM_POINT)),
        field("aggregationTemporality", 2, Enum(TEMPORALITIES)),
    ],
};
static SUMMARY: Message = Message {
    name: "Summary",
    fields: &[field("dataPoints", 1, Many(&SUMMARY_POINT))],
};
static NUMBER_POINT: Message = Message {
    name: "NumberDataPoint",
    fields: &[
        field("startTimeUnixNano", 2, Fixed64),
        field("timeUnixNano", 3, Fixed64),
        field("asDouble", 4, Double),
        field("exemplars", 5, Many(&EXEMPLAR)),
        field("asInt", 6, Sfixed64),
        field("attributes", 7, Many(&KEY_VALUE)),
        field("flags", 8, Uint32),
    ],
};
static HISTOGRAM_POINT: Message = Message {
    name: "HistogramDataPoint",
    fields: &[
        field("startTimeUnixNano", 2, Fixed64),
        field("timeUnixNano", 3, Fixed64),
        field("count", 4, Fixed64),
        field("sum", 5, Double),
        field("bucketCounts", 6, ManyFixed64),
        field("explicitBounds", 7, ManyDouble),
        field("exemplars", 8, Many(&EXEMPLAR)),
        field("attributes", 9, Many(&KEY_VALUE)),
        field("flags", 10, Uint32),
        field("min", 11, Double),
        field("max", 12, Double),
    ],
};
static EXPONENTIAL_HISTOGRAM_POINT: Message = Message {
    name: "ExponentialHistogramDataPoint",
    fields: &[
        field("attributes", 1, Many(&KEY_VALUE)),
        field("startTimeUnixNano", 2, Fixed64),
        field("timeUnixNano", 3, Fixed64),
        field("count", 4, Fixed64),
        field("sum", 5, Double),
        field("scale", 6, Sint32),
        field("zeroCount", 7, Fixed64),
        field("positive", 8, One(&BUCKETS)),
        field("negative", 9, One(&BUCKETS)),
        field("flags", 10, Uint32),
        field("exemplars", 11, Many(&EXEMPLAR)),
        field("min", 12, Double),
        field("max", 13, Double),
        field("zeroThreshold", 14, Double),
    ],
};
static BUCKETS: Message = Message {
    name: "Buckets",
    fields: &[field("offset", 1, Sint32), field("bucketCounts", 2, ManyUint64)],
};
static SUMMARY_POINT: Message = Message {
    name: "SummaryDataPoint",
    fields: &[
        field("startTimeUnixNano", 2, Fixed64),
        field("timeUnixNano", 3, Fixed64),
        field("count", 4, Fixed64),
        field("sum", 5, Double),
        field("quantileValues", 6, Many(&VALUE_AT_QUANTILE)),
        field("attributes", 7, Many(&KEY_VALUE)),
        field("flags", 8, Uint32),
    ],
};
static VALUE_AT_QUANTILE: Message = Message {
    name: "ValueAtQuantile",
    fields: &[field("quantile", 1, Double), field("value", 2, Double)],
};
static EXEMPLAR: Message = Message {
    name: "Exemplar",
    fields: &[
        field("timeUnixNano", 2, Fixed64),
        field("asDouble", 3, Double),
        field("spanId", 4, HexId),
        field("traceId", 5, HexId),
        field("asInt", 6, Sfixed64),
        field("filteredAttributes", 7, Many(&KEY_VALUE)),
    ],
};

const SPAN_KINDS: &[(&str, i32)] = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];
const STATUS_CODES: &[(&str, i32)] = &[
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
];
const TEMPORALITIES: &[(&str, i32)] = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];
const SEVERITIES: &[(&str, i32)] = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];

impl Message {
    fn field(&self, key: &str) -> Option<Field> {
        let mut fields = self.fields.iter();
        let exact = fields.clone().find(|f| f.name == key);
        exact.or_else(|| fields.find(|f| is_snake_of(key, f.name))).copied()
    }
}

/// Whether `snake` is the snake_case form of `camel`.
fn is_snake_of(snake: &str, camel: &str) -> bool {
    if !snake.contains('_') {
        return false;
    }
    let mut camel = camel.bytes();
    let mut raised = false;
    for b in snake.bytes() {
        if b == b'_' && !raised {
            raised = true;
            continue;
        }
        let want = if raised { b.to_ascii_uppercase() } else { b };
        raised = false;
        if camel.next() != Some(want) {
            return false;
        }
    }
    !raised && camel.next().is_none()
}

/// Writes the fields of a message; `null` writes none.
struct Fill<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.message.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(self.message))? {
            match field {
                Some(field) => map.next_value_seed(Put { field, out: self.out })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a key without copying it.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<Field>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(key))
    }
}

/// Writes one field: tag and value, or nothing for `null`.
struct Put<'o> {
    field: Field,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Put<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        match self.field.kind {
            // The parser's own reading of fractions is off by one bit now and then.
            Double => {
                let raw = <&RawValue as de::Deserialize>::deserialize(d)?;
                if let Some(v) = exact_double(raw.get()).map_err(|e| self.wrong(e))? {
                    put_fixed64(self.out, self.field.number, v.to_bits());
                }
                Ok(())
            }
            _ => d.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Put<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.wanted(), self.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<(), E> {
        match self.field.kind {
            Bool => put_number(self.out, self.field.number, u64::from(v)),
            _ => return Err(self.mistyped(de::Unexpected::Bool(v))),
        }
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<(), E> {
        self.whole_number(i128::from(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<(), E> {
        self.whole_number(i128::from(v))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<(), E> {
        // proto3 JSON takes 1e3 and 5.0 for whole numbers. Within i128 the cast is exact.
        if v.fract() == 0.0 && v.abs() < 1e30 {
            return self.whole_number(v as i128);
        }
        Err(self.mistyped(de::Unexpected::Float(v)))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<(), E> {
        let number = self.field.number;
        match self.field.kind {
            Text => put_bytes(self.out, number, v.as_bytes()),
            HexId => {
                let id = from_hex(v).ok_or_else(|| self.wrong(format!("not hexadecimal: {:?}", clip(v))))?;
                put_bytes(self.out, number, &id);
            }
            Base64 => {
                let bytes = from_base64(v).ok_or_else(|| self.wrong(format!("not base64: {:?}", clip(v))))?;
                put_bytes(self.out, number, &bytes);
            }
            Enum(names) => match names.iter().find(|(name, _)| *name == v) {
                Some((_, n)) => put_number(self.out, number, *n as i64 as u64),
                None => match v.parse::<i32>() {
                    Ok(n) => put_number(self.out, number, n as i64 as u64),
                    Err(_) => return Err(self.wrong(format!("unknown name {:?}", clip(v)))),
                },
            },
            Bool if v == "true" || v == "false" => put_number(self.out, number, u64::from(v == "true")),
            Uint32 | Int64 | Kind::Uint64 | Sint32 | Fixed32 | Fixed64 | Sfixed64 => match v.trim().parse::<i128>() {
                Ok(n) => return self.whole_number(n),
                Err(_) => return Err(self.wrong(format!("not a whole number: {:?}", clip(v)))),
            },
            _ => return Err(self.mistyped(de::Unexpected::Str(clip(v)))),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let One(message) = self.field.kind else {
            return Err(self.mistyped(de::Unexpected::Map));
        };
        let start = open_message(self.out, self.field.number);
        let fill = Fill {
            message,
            out: &mut *self.out,
        };
        fill.visit_map(map)?;
        close_message(self.out, start);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let kind = match self.field.kind {
            Many(message) => One(message),
            ManyText => Text,
            // Unpacked, which every reader takes.
            ManyFixed64 => Fixed64,
            ManyUint64 => Kind::Uint64,
            ManyDouble => Double,
            _ => return Err(self.mistyped(de::Unexpected::Seq)),
        };
        let field = Field { kind, ..self.field };
        while seq
            .next_element_seed(Put {
                field,
                out: &mut *self.out,
            })?
            .is_some()
        {}
        Ok(())
    }
}

impl Put<'_> {
    fn whole_number<E: de::Error>(self, v: i128) -> Result<(), E> {
        let number = self.field.number;
        let beyond = || self.wrong(format!("number {v} is out of range"));
        match self.field.kind {
            Enum(_) => {
                let v = i32::try_from(v).map_err(|_| beyond())?;
                put_number(self.out, number, v as i64 as u64);
            }
            Uint32 => {
                let v = u32::try_from(v).map_err(|_| beyond())?;
                put_number(self.out, number, u64::from(v));
            }
            Int64 => {
                let v = i64::try_from(v).map_err(|_| beyond())?;
                put_number(self.out, number, v as u64);
            }
            Kind::Uint64 => {
                let v = u64::try_from(v).map_err(|_| beyond())?;
                put_number(self.out, number, v);
            }
            Sint32 => {
                let v = i32::try_from(v).map_err(|_| beyond())?;
                let zigzag = ((v << 1) ^ (v >> 31)) as u32;
                put_number(self.out, number, u64::from(zigzag));
            }
            Fixed32 => {
                let v = u32::try_from(v).map_err(|_| beyond())?;
                put_fixed32(self.out, number, v);
            }
            Fixed64 => {
                let v = u64::try_from(v).map_err(|_| beyond())?;
                put_fixed64(self.out, number, v);
            }
            Sfixed64 => {
                let v = i64::try_from(v).map_err(|_| beyond())?;
                put_fixed64(self.out, number, v as u64);
            }
            _ => return Err(self.mistyped(de::Unexpected::Other("a number"))),
        }
        Ok(())
    }

    fn wanted(&self) -> &'static str {
        match self.field.kind {
            Text => "a string",
            HexId => "an id in hex",
            Base64 => "base64",
            Bool => "true or false",
            Enum(_) => "a number or the name of an enum value",
            Uint32 | Int64 | Kind::Uint64 | Sint32 | Fixed32 | Fixed64 | Sfixed64 => "a whole number",
            Double => "a number",
            One(_) => "an object",
            Many(_) | ManyFixed64 | ManyUint64 | ManyDouble | ManyText => "an array",
        }
    }

    fn mistyped<E: de::Error>(&self, found: de::Unexpected<'_>) -> E {
        let wanted = format!("{} for {}", self.wanted(), self.field.name);
        E::invalid_type(found, &wanted.as_str())
    }

    fn wrong<E: de::Error>(&self, what: impl fmt::Display) -> E {
        E::custom(format_args!("{}: {what}", self.field.name))
    }
}

/// A double by its JSON text, bit for bit what the sender meant; `None` for `null`.
fn exact_double(json: &str) -> Result<Option<f64>, &'static str> {
    let text = match json.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some("NaN") => return Ok(Some(f64::NAN)),
        Some("Infinity") => return Ok(Some(f64::INFINITY)),
        Some("-Infinity") => return Ok(Some(f64::NEG_INFINITY)),
        Some(text) => text,
        None if json == "null" => return Ok(None),
        None => json,
    };
    // Rust reads words that JSON has not: "inf", "nan", "infinity".
    let digits = text
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    match text.parse() {
        Ok(v) if digits => Ok(Some(v)),
        _ => Err("not a number"),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |b: u8| (b as char).to_digit(16);
    let bytes = pairs.iter().map(|[a, b]| Some((digit(*a)? << 4 | digit(*b)?) as u8));
    bytes.collect()
}

/// Standard or URL-safe alphabet, padded or not, as proto3 JSON allows.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let standard = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    let url_safe = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    standard.decode(text).or_else(|_| url_safe.decode(text)).ok()
}

fn clip(text: &str) -> &str {
    let end = text.char_indices().nth(64).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    };
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::metrics::v1::{exemplar, metric, number_data_point};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn traces(json: &str) -> Result<ExportTraceServiceRequest, Refusal> {
        let bytes = to_protobuf(json.as_bytes(), Signal::Traces)?;
        Ok(ExportTraceServiceRequest::decode(&bytes[..]).unwrap())
    }

    fn logs(json: &str) -> Result<ExportLogsServiceRequest, Refusal> {
        let bytes = to_protobuf(json.as_bytes(), Signal::Logs)?;
        Ok(ExportLogsServiceRequest::decode(&bytes[..]).unwrap())
    }

    fn metrics(json: &str) -> Result<ExportMetricsServiceRequest, Refusal> {
        let bytes = to_protobuf(json.as_bytes(), Signal::Metrics)?;
        Ok(ExportMetricsServiceRequest::decode(&bytes[..]).unwrap())
    }

    fn span(fields: &str) -> Result<opentelemetry_proto::tonic::trace::v1::Span, Refusal> {
        let request = traces(&format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{fields}]}}]}}]}}"#
        ))?;
        Ok(request.resource_spans[0].scope_spans[0].spans[0].clone())
    }

    fn value(json: &str) -> Result<Option<Value>, Refusal> {
        let span = span(&format!(r#"{{"attributes":[{{"key":"k","value":{json}}}]}}"#))?;
        Ok(span.attributes[0].value.clone().and_then(|v| v.value))
    }

    #[test]
    fn enums_by_name_and_number() {
        for (json, kind) in [("2", 2), (r#""SPAN_KIND_SERVER""#, 2), (r#""2""#, 2), ("77", 77)] {
            assert_eq!(span(&format!(r#"{{"kind":{json}}}"#)).unwrap().kind, kind);
        }
        assert!(span(r#"{"kind":"SPAN_KIND_PARTY"}"#).is_err());
        let status = span(r#"{"status":{"code":"STATUS_CODE_ERROR","message":"m"}}"#)
            .unwrap()
            .status;
        assert_eq!(status.unwrap().code, 2);
        let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"SEVERITY_NUMBER_WARN2"}]}]}]}"#;
        let request = logs(json).unwrap();
        assert_eq!(
            request.resource_logs[0].scope_logs[0].log_records[0].severity_number,
            14
        );
    }

    #[test]
    fn every_name_of_an_enum_is_known() {
        use opentelemetry_proto::tonic::{logs::v1 as l, metrics::v1 as m, trace::v1 as t};
        for (name, n) in SEVERITIES {
            assert_eq!(l::SeverityNumber::from_str_name(name).map(|v| v as i32), Some(*n));
        }
        for (name, n) in SPAN_KINDS {
            assert_eq!(t::span::SpanKind::from_str_name(name).map(|v| v as i32), Some(*n));
        }
        for (name, n) in STATUS_CODES {
            assert_eq!(t::status::StatusCode::from_str_name(name).map(|v| v as i32), Some(*n));
        }
        for (name, n) in TEMPORALITIES {
            let found = m::AggregationTemporality::from_str_name(name);
            assert_eq!(found.map(|v| v as i32), Some(*n));
        }
    }

    #[test]
    fn null_is_absent_everywhere() {
        let json = r#"{"traceId":null,"name":null,"kind":null,"startTimeUnixNano":null,"attributes":null,
            "events":[null],"status":null,"flags":null,"links":[{"attributes":null}]}"#;
        let span = span(json).unwrap();
        assert_eq!((span.name.as_str(), span.events.len(), span.links.len()), ("", 0, 1));
        assert_eq!(traces(r#"{"resourceSpans":null}"#).unwrap().resource_spans.len(), 0);
        assert_eq!(value("null").unwrap(), None);
        let string = value(r#"{"doubleValue":null,"stringValue":"s"}"#).unwrap();
        assert_eq!(string, Some(Value::StringValue("s".into())));
        assert_eq!(traces("null").unwrap().resource_spans.len(), 0);
    }

    #[test]
    fn empty_arrays_and_maps_are_values() {
        for json in [
            r#"{"arrayValue":{}}"#,
            r#"{"arrayValue":{"values":[]}}"#,
            r#"{"arrayValue":{"values":null}}"#,
        ] {
            assert_eq!(
                value(json).unwrap(),
                Some(Value::ArrayValue(Default::default())),
                "{json}"
            );
        }
        for json in [r#"{"kvlistValue":{}}"#, r#"{"kvlistValue":{"values":[]}}"#] {
            assert_eq!(
                value(json).unwrap(),
                Some(Value::KvlistValue(Default::default())),
                "{json}"
            );
        }
        assert_eq!(value("{}").unwrap(), None);
    }

    #[test]
    fn doubles_in_words_and_to_the_last_bit() {
        for (json, want) in [
            (r#""NaN""#, f64::NAN),
            (r#""Infinity""#, f64::INFINITY),
            (r#""-Infinity""#, f64::NEG_INFINITY),
            ("0.1", 0.1),
            ("1", 1.0),
            ("-2e-3", -0.002),
            (r#""2.5""#, 2.5),
            ("122.416294033786585", 122.416_294_033_786_59),
            ("2.2250738585072011e-308", 2.225_073_858_507_201e-308),
        ] {
            let Some(Value::DoubleValue(got)) = value(&format!(r#"{{"doubleValue":{json}}}"#)).unwrap() else {
                panic!("{json}")
            };
            assert_eq!(got.to_bits(), want.to_bits(), "{json}");
        }
        for json in [r#""inf""#, r#""nan""#, r#""""#, "true", "[]", r#""1x""#] {
            assert!(value(&format!(r#"{{"doubleValue":{json}}}"#)).is_err(), "{json}");
        }
    }

    #[test]
    fn whole_numbers_as_strings_and_numbers() {
        for (json, want) in [
            ("5", 5),
            (r#""5""#, 5),
            (r#""-9223372036854775808""#, i64::MIN),
            ("-9223372036854775808", i64::MIN),
            ("9223372036854775807", i64::MAX),
            ("5.0", 5),
            ("1e3", 1000),
            ("0", 0),
        ] {
            let got = value(&format!(r#"{{"intValue":{json}}}"#)).unwrap();
            assert_eq!(got, Some(Value::IntValue(want)), "{json}");
        }
        for json in ["5.5", r#""5.5""#, r#""x""#, "9223372036854775808", "true", "{}"] {
            assert!(value(&format!(r#"{{"intValue":{json}}}"#)).is_err(), "{json}");
        }
        let start = |json: &str| span(json).map(|s| s.start_time_unix_nano);
        let number = start(r#"{"startTimeUnixNano":1761128130020000000}"#);
        assert_eq!(number, Ok(1_761_128_130_020_000_000));
        let string = start(r#"{"startTimeUnixNano":"18446744073709551615"}"#);
        assert_eq!(string, Ok(u64::MAX));
        assert!(start(r#"{"startTimeUnixNano":-1}"#).is_err());
        assert!(span(r#"{"flags":4294967296}"#).is_err());
    }

    #[test]
    fn ids_in_hex_of_either_case() {
        let id = span(r#"{"traceId":"4C7D1E90a2b35f6817d0c3e5a9f8b264","spanId":"","parentSpanId":"11aa"}"#).unwrap();
        assert_eq!(id.trace_id[..3], [0x4c, 0x7d, 0x1e]);
        assert_eq!((id.span_id.len(), id.parent_span_id.len()), (0, 2));
        for bad in ["abc", "zz", "TH0ekKKzX2g="] {
            assert!(span(&format!(r#"{{"traceId":"{bad}"}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_in_base64_of_either_alphabet() {
        for json in ["-_8=", "+/8=", "+/8"] {
            let got = value(&format!(r#"{{"bytesValue":"{json}"}}"#)).unwrap();
            assert_eq!(got, Some(Value::BytesValue(vec![0xfb, 0xff])), "{json}");
        }
        assert!(value(r#"{"bytesValue":"!"}"#).is_err());
    }

    #[test]
    fn snake_case_and_unknown_names() {
        let json = r#"{"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"0a","start_time_unix_nano":"7",
            "dropped_attributes_count":3,"futureField":{"x":[1,{"y":null}]},"Name":"not the name"}]}],
            "schema_url":"u"}],"deprecatedSpans":[[[]]]}"#;
        let request = traces(json).unwrap();
        assert_eq!(request.resource_spans[0].schema_url, "u");
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((&span.trace_id[..], span.start_time_unix_nano), (&[10][..], 7));
        assert_eq!((span.name.as_str(), span.dropped_attributes_count), ("", 3));
    }

    #[test]
    fn data_points_keep_their_values() {
        let json = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
            {"name":"s","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,
             "dataPoints":[{"asDouble":"NaN"},{"asInt":"0"},{"asInt":-3,"exemplars":[{"asInt":"4"}]}]}},
            {"name":"h","histogram":{"dataPoints":[{"bucketCounts":["1",2],"explicitBounds":[0.5],"count":3,"sum":0}]}},
            {"name":"e","exponentialHistogram":{"dataPoints":[{"scale":-3,"positive":{"offset":-7,"bucketCounts":["9"]}}]}}
        ]}]}]}"#;
        let request = metrics(json).unwrap();
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let Some(metric::Data::Sum(sum)) = &metrics[0].data else {
            panic!()
        };
        assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (2, true));
        assert!(matches!(sum.data_points[0].value, Some(number_data_point::Value::AsDouble(v)) if v.is_nan()));
        assert_eq!(sum.data_points[1].value, Some(number_data_point::Value::AsInt(0)));
        assert_eq!(sum.data_points[2].value, Some(number_data_point::Value::AsInt(-3)));
        assert_eq!(sum.data_points[2].exemplars[0].value, Some(exemplar::Value::AsInt(4)));
        let Some(metric::Data::Histogram(h)) = &metrics[1].data else {
            panic!()
        };
        assert_eq!(
            (&h.data_points[0].bucket_counts[..], h.data_points[0].sum),
            (&[1, 2][..], Some(0.0))
        );
        assert_eq!(h.data_points[0].explicit_bounds, [0.5]);
        let Some(metric::Data::ExponentialHistogram(e)) = &metrics[2].data else {
            panic!()
        };
        let positive = e.data_points[0].positive.as_ref().unwrap();
        assert_eq!(
            (e.data_points[0].scale, positive.offset, positive.bucket_counts[0]),
            (-3, -7, 9)
        );
    }

    #[test]
    fn wrong_types_say_where() {
        for (json, want) in [
            (r#"{"resourceSpans":{}}"#, "an array for resourceSpans"),
            (r#"{"resourceSpans":[[]]}"#, "an object for resourceSpans"),
            (r#"{"resourceSpans":[7]}"#, "an object for resourceSpans"),
            ("[]", "an object (ExportTraceServiceRequest)"),
            ("", "EOF"),
            ("{} x", "trailing characters"),
            (r#"{"resourceSpans":[{"schemaUrl":7}]}"#, "a string for schemaUrl"),
            ("{\"resourceSpans\":[{\"schemaUrl\":\"\u{1}\"}]}", "control character"),
        ] {
            let refusal = traces(json).unwrap_err();
            assert!(refusal.to_string().contains(want), "{json}: {refusal}");
        }
    }

    #[test]
    fn endless_nesting_ends() {
        for open in [r#"{"x":"#, "[", r#"{"resourceSpans":["#] {
            assert!(traces(&open.repeat(100_000)).is_err());
        }
    }

    #[test]
    fn samples_of_the_corpus_are_read() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus/ingest/");
        let Ok(json) = std::fs::read_to_string(format!("{dir}otlp_traces.json")) else {
            return;
        };
        let request = traces(&json).unwrap();
        let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
        assert_eq!(scopes.map(|s| s.spans.len()).sum::<usize>(), 4);
        assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].flags, 257);
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_text_does_not_panic(json in "[\\[\\]{}\":,a-zS0-9.]{0,60}") {
            let _ = to_protobuf(json.as_bytes(), Signal::Metrics);
        }
    }
}
