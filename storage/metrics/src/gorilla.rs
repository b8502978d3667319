//! Gorilla: samples as a stream of bits, one after the other, so that an open chunk grows by a few bits a sample.
//!
//! # Times, one code each
//!
//! The first is 64 bits; of each later one the change of the step (zigzag):
//!
//! ```text
//! 0          no change            110   + 14 bits
//! 10 + 7 bits                     1110  + 20 bits
//!                                 1111  + 64 bits
//! ```
//!
//! # Values, one code each
//!
//! The first is 64 bits; of each later one what differs from the one before (XOR):
//!
//! ```text
//! 0          nothing differs
//! 10         + the differing bits, in the same window as last time
//! 11         + leading zeros, 5 bits + width of the window less one, 6 bits + the window
//! ```
//!
//! Start timestamps lie beside the stream, as a list of where they change.
//!
//! All arithmetic wraps, so that every `i64` time and every `f64` bit pattern returns as it was.

use storage_codec::{BitReader, BitWriter, Malformed};

use crate::Samples;
use crate::starts::StartRuns;

/// Where the stream of times stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimeState {
    last: i64,
    step: i64,
}

/// Where the stream of values stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValueState {
    last: u64,
    leading: u8,
    /// Width of the window; 0 before there is one.
    width: u8,
}

/// A chunk that still grows: times and values take turns in one stream of bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenChunk {
    bits: BitWriter,
    times: TimeState,
    values: ValueState,
    first: i64,
    count: u16,
    starts: StartRuns,
}

impl OpenChunk {
    /// Appends a sample later than the last.
    pub(crate) fn push(&mut self, t: i64, v: f64, start: i64) {
        self.starts.push(self.count, start);
        if self.count == 0 {
            self.first = t;
            self.times.put_first(&mut self.bits, t);
            self.values.put_first(&mut self.bits, v.to_bits());
        } else {
            self.times.put(&mut self.bits, t);
            self.values.put(&mut self.bits, v.to_bits());
        }
        self.count += 1;
    }

    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Time of the first sample; only of a chunk that has one.
    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// Time of the last sample; only of a chunk that has one.
    pub(crate) fn last(&self) -> i64 {
        self.times.last
    }

    /// Bits of the last value; only of a chunk that has one.
    pub(crate) fn last_bits(&self) -> u64 {
        self.values.last
    }

    /// Bytes of the stream.
    pub(crate) fn bytes(&self) -> usize {
        self.bits.as_bytes().len() + self.starts.bytes()
    }

    /// Appends all samples to `out`.
    pub(crate) fn decode(&self, out: &mut Samples) -> Result<(), Malformed> {
        let mut bits = BitReader::new(self.bits.as_bytes());
        let (mut times, mut values) = (TimeState::default(), ValueState::default());
        let base = out.t.len();
        out.t.reserve(self.count());
        out.v.reserve(self.count());
        for i in 0..self.count {
            let (t, v) = if i == 0 {
                (times.get_first(&mut bits)?, values.get_first(&mut bits)?)
            } else {
                (times.get(&mut bits)?, values.get(&mut bits)?)
            };
            out.t.push(t);
            out.v.push(f64::from_bits(v));
        }
        self.starts.expand(base, self.count(), &mut out.start);
        Ok(())
    }
}

impl TimeState {
    /// The last time.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    pub(crate) fn put_first(&mut self, out: &mut BitWriter, t: i64) {
        out.put(t as u64, 64);
        *self = TimeState { last: t, step: 0 };
    }

    pub(crate) fn put(&mut self, out: &mut BitWriter, t: i64) {
        let step = t.wrapping_sub(self.last);
        let change = zigzag(step.wrapping_sub(self.step));
        *self = TimeState { last: t, step };
        match change {
            0 => out.put(0, 1),
            _ if change < 1 << 7 => out.put(0b10 << 7 | change, 2 + 7),
            _ if change < 1 << 14 => out.put(0b110 << 14 | change, 3 + 14),
            _ if change < 1 << 20 => out.put(0b1110 << 20 | change, 4 + 20),
            _ => {
                out.put(0b1111, 4);
                out.put(change, 64);
            }
        }
    }

    pub(crate) fn get_first(&mut self, bits: &mut BitReader<'_>) -> Result<i64, Malformed> {
        let last = bits.get(64)? as i64;
        *self = TimeState { last, step: 0 };
        Ok(last)
    }

    pub(crate) fn get(&mut self, bits: &mut BitReader<'_>) -> Result<i64, Malformed> {
        let change = if bits.get(1)? == 0 {
            0
        } else if bits.get(1)? == 0 {
            bits.get(7)?
        } else if bits.get(1)? == 0 {
            bits.get(14)?
        } else if bits.get(1)? == 0 {
            bits.get(20)?
        } else {
            bits.get(64)?
        };
        self.step = self.step.wrapping_add(unzigzag(change));
        self.last = self.last.wrapping_add(self.step);
        Ok(self.last)
    }
}

impl ValueState {
    /// The last bits.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Says what the last bits are, for a stream that codes them in another way.
    pub(crate) fn set_last(&mut self, last: u64) {
        self.last = last;
    }

    pub(crate) fn put_first(&mut self, out: &mut BitWriter, v: u64) {
        out.put(v, 64);
        *self = ValueState {
            last: v,
            ..ValueState::default()
        };
    }

    pub(crate) fn put(&mut self, out: &mut BitWriter, v: u64) {
        let differs = v ^ self.last;
        self.last = v;
        if differs == 0 {
            out.put(0, 1);
            return;
        }
        let leading = differs.leading_zeros().min(31) as u8;
        let trailing = differs.trailing_zeros() as u8;
        let fits = self.width > 0 && leading >= self.leading && trailing >= 64 - self.leading - self.width;
        let (control, bits) = if fits {
            (0b10, 2)
        } else {
            self.leading = leading;
            self.width = 64 - leading - trailing;
            (
                0b11 << 11 | u64::from(leading) << 6 | u64::from(self.width - 1),
                2 + 5 + 6,
            )
        };
        let (window, width) = (differs >> (64 - self.leading - self.width), u32::from(self.width));
        // Mostly both fit into one word, and one call is cheaper than two.
        if bits + width <= 64 {
            out.put(control << width | window, bits + width);
        } else {
            out.put(control, bits);
            out.put(window, width);
        }
    }

    pub(crate) fn get_first(&mut self, bits: &mut BitReader<'_>) -> Result<u64, Malformed> {
        *self = ValueState {
            last: bits.get(64)?,
            ..ValueState::default()
        };
        Ok(self.last)
    }

    pub(crate) fn get(&mut self, bits: &mut BitReader<'_>) -> Result<u64, Malformed> {
        if bits.get(1)? == 0 {
            return Ok(self.last);
        }
        if bits.get(1)? == 1 {
            self.leading = bits.get(5)? as u8;
            self.width = bits.get(6)? as u8 + 1;
        }
        if self.width == 0 || self.leading + self.width > 64 {
            return Err(Malformed {
                at: 0,
                what: "impossible XOR window",
            });
        }
        self.last ^= bits.get(u32::from(self.width))? << (64 - self.leading - self.width);
        Ok(self.last)
    }
}

/// Small numbers of either sign become small numbers.
pub(crate) fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any time and any bit pattern, rising or not: the stream itself assumes nothing, so nothing can be lost.
        #[test]
        fn an_open_chunk_returns_what_it_was_given(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..300)) {
            let mut chunk = OpenChunk::default();
            for &(t, v) in &samples {
                chunk.push(t, f64::from_bits(v), 0);
            }
            let mut out = Samples::default();
            chunk.decode(&mut out).unwrap();
            let back: Vec<(i64, u64)> = out.t.iter().zip(&out.v).map(|(&t, v)| (t, v.to_bits())).collect();
            prop_assert_eq!(back, samples);
        }
    }

    #[test]
    fn a_steady_constant_costs_two_bits_a_sample() {
        let mut chunk = OpenChunk::default();
        for i in 0..240 {
            chunk.push(i * 15_000, 1.0, 0);
        }
        assert!(chunk.bytes() <= 16 + 4 + 240 / 4, "{}", chunk.bytes());
    }
}
