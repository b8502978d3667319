//! Identities: of series and streams (given by the label index), of blocks, traces and spans.

use std::fmt;
use std::str::FromStr;

/// Which of the three engines something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Samples, exemplars, metadata.
    Metrics,
    /// Log entries.
    Logs,
    /// Spans.
    Traces,
}

impl Signal {
    /// All three, in the order in which they are listed everywhere.
    pub const ALL: [Signal; 3] = [Signal::Metrics, Signal::Logs, Signal::Traces];

    /// `metrics`, `logs` or `traces`: the folder and the label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
            Signal::Traces => "traces",
        }
    }
}

/// A series in the label index. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// A log stream in the label index. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// A block of any signal; given by the catalogue in rising order, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 16];
        f.write_str(hex(&self.0.to_be_bytes(), &mut digits))
    }
}

/// Text that is no trace or span id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: {found:?} (expected 1 to {digits} hexadecimal digits)")]
pub struct ParseIdError {
    /// The text.
    pub found: String,
    /// How many digits there may be.
    pub digits: usize,
}

/// A W3C trace id. Parses 1 to 32 hex digits, left-padded with zeros, as Tempo's API accepts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

/// A W3C span id. Parses 1 to 16 hex digits, left-padded with zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

impl TraceId {
    /// From the 16 bytes of the wire; `None` for another length or the invalid all-zero id.
    pub fn from_wire(bytes: &[u8]) -> Option<TraceId> {
        let id = u128::from_be_bytes(bytes.try_into().ok()?);
        (id != 0).then_some(TraceId(id))
    }

    /// The 16 bytes of the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// From the 8 bytes of the wire; `None` for another length or the invalid all-zero id.
    pub fn from_wire(bytes: &[u8]) -> Option<SpanId> {
        let id = u64::from_be_bytes(bytes.try_into().ok()?);
        (id != 0).then_some(SpanId(id))
    }

    /// The 8 bytes of the wire.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    /// 32 lower-case hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        f.write_str(hex(&self.0.to_be_bytes(), &mut digits))
    }
}

impl fmt::Display for SpanId {
    /// 16 lower-case hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Lower-case hex digits of `bytes`, two for each, in `digits`. The formatter's own take four times as long.
fn hex<'d>(bytes: &[u8], digits: &'d mut [u8]) -> &'d str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, &byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

impl FromStr for TraceId {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        parse_hex(s, 32).map(TraceId)
    }
}

impl FromStr for SpanId {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        parse_hex(s, 16).map(|id| SpanId(id as u64))
    }
}

fn parse_hex(s: &str, digits: usize) -> Result<u128, ParseIdError> {
    let bad = || ParseIdError {
        found: s.chars().take(64).collect(),
        digits,
    };
    if s.is_empty() || s.len() > digits || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    u128::from_str_radix(s, 16).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_trace_ids_are_left_padded() {
        let id: TraceId = "ABC".parse().unwrap();
        assert_eq!(id.to_string(), "00000000000000000000000000000abc");
        assert!("".parse::<TraceId>().is_err());
        assert!("+1".parse::<TraceId>().is_err());
        assert!("0".repeat(33).parse::<TraceId>().is_err());
        assert!("12345678901234567".parse::<SpanId>().is_err());
    }

    #[test]
    fn the_zero_id_is_invalid_on_the_wire() {
        assert_eq!(TraceId::from_wire(&[0; 16]), None);
        assert_eq!(SpanId::from_wire(&[1; 7]), None);
        assert_eq!(SpanId::from_wire(&[0, 0, 0, 0, 0, 0, 0, 9]), Some(SpanId(9)));
    }
}
