//! Residuals: what a good guess leaves over. Most are zero or small, a few are not.
//!
//! # Residual column
//!
//! ```text
//! column  = width u8 [3] · bits (len uv · bytes)       nothing at all for no residuals
//! bits    = code*       0 + w0 bits | 10 + w1 bits | 11 + w2 bits          (zigzag numbers, w0 <= w1 <= w2 <= 64)
//! ```
//!
//! The writer picks the widths that make the column smallest. `w2 = 0` says that all are zero; then no bits follow.

use storage_codec::{BitReader, BitWriter, Malformed, Reader, put_bytes};

use crate::gorilla::{unzigzag, zigzag};

/// How wide each class of codes is, and what the codes cost in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    widths: [u8; 3],
    /// Bits of all codes.
    pub(crate) bits: usize,
}

/// Finds the cheapest widths.
pub(crate) fn measure(residuals: impl Iterator<Item = i64>) -> Widths {
    let mut histogram = [0usize; 65];
    for r in residuals {
        histogram[64 - zigzag(r).leading_zeros() as usize] += 1;
    }
    let Some(w2) = histogram.iter().rposition(|&n| n > 0).filter(|&w| w > 0) else {
        return Widths {
            widths: [0; 3],
            bits: 0,
        };
    };
    let mut upto = [0usize; 65];
    let mut sum = 0;
    for (w, n) in histogram.iter().enumerate() {
        sum += n;
        upto[w] = sum;
    }
    let mut best = Widths {
        widths: [0, 0, w2 as u8],
        bits: usize::MAX,
    };
    // Only widths that some residual has can be best.
    for w0 in (0..=w2).filter(|&w| w == 0 || histogram[w] > 0) {
        for w1 in (w0..=w2).filter(|&w| w == w0 || histogram[w] > 0) {
            let bits = upto[w0] * (1 + w0) + (upto[w1] - upto[w0]) * (2 + w1) + (sum - upto[w1]) * (2 + w2);
            if bits < best.bits {
                best = Widths {
                    widths: [w0 as u8, w1 as u8, w2 as u8],
                    bits,
                };
            }
        }
    }
    best
}

/// Appends a column; `widths` as measured on the same residuals.
pub(crate) fn put(out: &mut Vec<u8>, widths: &Widths, residuals: impl Iterator<Item = i64>) {
    let [w0, w1, w2] = widths.widths.map(u32::from);
    let mut residuals = residuals.peekable();
    if residuals.peek().is_none() {
        return;
    }
    out.extend_from_slice(&widths.widths);
    if w2 == 0 {
        return;
    }
    let mut bits = BitWriter::default();
    for r in residuals {
        let n = zigzag(r);
        let needs = 64 - n.leading_zeros();
        let (prefix, prefix_bits, width) = match needs {
            _ if needs <= w0 => (0, 1, w0),
            _ if needs <= w1 => (0b10, 2, w1),
            _ => (0b11, 2, w2),
        };
        bits.put(prefix, prefix_bits);
        if width > 0 {
            bits.put(n, width);
        }
    }
    put_bytes(out, bits.as_bytes());
}

/// Reads a column back, one residual at a time.
pub(crate) struct Residuals<'a> {
    widths: [u32; 3],
    bits: BitReader<'a>,
}

impl<'a> Residuals<'a> {
    /// At the start of a column of `count` residuals.
    pub(crate) fn open(reader: &mut Reader<'a>, count: usize) -> Result<Residuals<'a>, Malformed> {
        let mut widths = [0u32; 3];
        let mut bits: &[u8] = &[];
        if count > 0 {
            for w in &mut widths {
                *w = u32::from(reader.u8()?);
            }
            if !widths.is_sorted() || widths[2] > 64 {
                return Err(Malformed {
                    at: reader.position(),
                    what: "impossible residual widths",
                });
            }
            if widths[2] > 0 {
                bits = reader.bytes()?;
            }
        }
        Ok(Residuals {
            widths,
            bits: BitReader::new(bits),
        })
    }

    /// The next residual.
    pub(crate) fn next(&mut self) -> Result<i64, Malformed> {
        let [w0, w1, w2] = self.widths;
        if w2 == 0 {
            return Ok(0);
        }
        let width = if self.bits.get(1)? == 0 {
            w0
        } else if self.bits.get(1)? == 0 {
            w1
        } else {
            w2
        };
        Ok(if width == 0 { 0 } else { unzigzag(self.bits.get(width)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(residuals: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, &measure(residuals.iter().copied()), residuals.iter().copied());
        out
    }

    fn decode(bytes: &[u8], count: usize) -> Result<Vec<i64>, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut residuals = Residuals::open(&mut reader, count)?;
        (0..count).map(|_| residuals.next()).collect()
    }

    proptest! {
        #[test]
        fn a_column_returns_what_it_was_given(residuals in proptest::collection::vec(
            prop_oneof![3 => Just(0i64), 3 => -9i64..9, 1 => any::<i64>()], 0..200)) {
            prop_assert_eq!(decode(&encode(&residuals), residuals.len()).unwrap(), residuals);
        }

        #[test]
        fn garbage_is_an_error_or_numbers(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0usize..100) {
            let _ = decode(&bytes, count);
        }
    }

    #[test]
    fn rare_changes_cost_about_a_bit() {
        let residuals: Vec<i64> = (0..240).map(|i| i64::from(i % 60 == 59)).collect();
        assert!(encode(&residuals).len() < 240 / 8 + 8);
        assert_eq!(encode(&[0; 240]).len(), 3);
        assert_eq!(encode(&[]).len(), 0);
    }
}
