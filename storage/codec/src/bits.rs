//! Single bits, most significant first: the hot path of Gorilla chunks.
//!
//! The writer's bytes are whole at any moment, so that a reader of the head may copy them while a series still grows.
//! The reader loads eight bytes at a time and falls back to single bytes only near the end.

use crate::Malformed;

/// Bits of a varbit number, by the ones before it: small numbers are short, every number fits.
///
/// ```text
/// 0        0                  110     + 6 bits    11110    + 12 bits    1111110  + 25 bits    11111111 + 64 bits
/// 10       + 3 bits           1110    + 9 bits    111110   + 18 bits    11111110 + 40 bits
/// ```
const VARBIT_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 40, 64];

/// Writes single bits, most significant first.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken; 0 when it is full or there is none.
    used: u32,
}

/// Reads single bits, most significant first.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl BitWriter {
    /// Empty, with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> BitWriter {
        BitWriter {
            bytes: Vec::with_capacity(bytes),
            used: 0,
        }
    }

    /// Appends the low `n` bits of `bits` (n <= 64).
    #[inline]
    pub fn put(&mut self, bits: u64, n: u32) {
        debug_assert!(n <= 64);
        if n == 0 {
            return;
        }
        // Aligned to the left, which also drops what lies above the low `n`.
        let mut left = bits << (64 - n);
        let mut rest = n;
        if self.used > 0 {
            let room = 8 - self.used;
            if let Some(last) = self.bytes.last_mut() {
                *last |= (left >> (56 + self.used)) as u8;
            }
            if n <= room {
                self.used = (self.used + n) & 7;
                return;
            }
            left <<= room;
            rest -= room;
        }
        // One store of fixed size and a cut are cheaper than a copy of varying length.
        let len = self.bytes.len() + rest.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&left.to_be_bytes());
        self.bytes.truncate(len);
        self.used = rest & 7;
    }

    /// Appends a number in the fewer bits the smaller it is: 1 bit for 0, 72 for the largest.
    #[inline]
    pub fn put_varbit(&mut self, n: u64) {
        let needs = 64 - n.leading_zeros();
        let class = VARBIT_WIDTHS.iter().position(|&width| needs <= width).unwrap_or(8);
        match class {
            0 => self.put(0, 1),
            8 => self.put(0xff, 8),
            _ => self.put((1 << (class + 1)) - 2, class as u32 + 1),
        }
        self.put(n, VARBIT_WIDTHS[class]);
    }

    /// Bits written so far.
    pub fn bit_len(&self) -> usize {
        match self.used {
            0 => self.bytes.len() * 8,
            used => (self.bytes.len() - 1) * 8 + used as usize,
        }
    }

    /// Bytes allocated, for accounting.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes so far; the last one is padded with zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives up the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a> BitReader<'a> {
    /// At the first bit.
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// The next `n` bits (n <= 64) as the low bits of the result.
    #[inline]
    pub fn get(&mut self, n: u32) -> Result<u64, Malformed> {
        debug_assert!(n <= 64);
        if n == 0 {
            return Ok(0);
        }
        let (byte, bit) = (self.at / 8, (self.at % 8) as u32);
        let left = match self.bytes.get(byte..).and_then(|tail| tail.split_first_chunk::<8>()) {
            Some((word, tail)) => {
                let left = u64::from_be_bytes(*word) << bit;
                if n + bit <= 64 {
                    left
                } else {
                    let ninth = *tail.first().ok_or_else(|| self.ended())?;
                    left | u64::from(ninth) >> (8 - bit)
                }
            }
            None => self.near_end(n)?,
        };
        self.at += n as usize;
        Ok(left >> (64 - n))
    }

    /// The next bit.
    #[inline]
    pub fn bit(&mut self) -> Result<bool, Malformed> {
        match self.bytes.get(self.at / 8) {
            Some(byte) => {
                let bit = byte >> (7 - self.at % 8) & 1;
                self.at += 1;
                Ok(bit == 1)
            }
            None => Err(self.ended()),
        }
    }

    /// Reads ones up to `max` of them; the zero that ends fewer is read as well. For prefix codes 0, 10, 110 ...
    #[inline]
    pub fn ones(&mut self, max: u32) -> Result<u32, Malformed> {
        let mut count = 0;
        while count < max && self.bit()? {
            count += 1;
        }
        Ok(count)
    }

    /// A number of [`BitWriter::put_varbit`].
    #[inline]
    pub fn varbit(&mut self) -> Result<u64, Malformed> {
        let class = self.ones(8)?;
        self.get(VARBIT_WIDTHS[class as usize])
    }

    /// Bits read so far.
    pub fn bit_position(&self) -> usize {
        self.at
    }

    /// Fewer than eight bytes are left: gathers them at the left end of a word.
    #[cold]
    fn near_end(&self, n: u32) -> Result<u64, Malformed> {
        let tail = self.bytes.get(self.at / 8..).unwrap_or_default();
        if (self.at % 8) + n as usize > tail.len() * 8 {
            return Err(self.ended());
        }
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        Ok(u64::from_be_bytes(word) << (self.at % 8))
    }

    #[cold]
    fn ended(&self) -> Malformed {
        Malformed {
            at: self.at / 8,
            what: "ends inside a run of bits",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn low(bits: u64, n: u32) -> u64 {
        if n == 64 { bits } else { bits & ((1 << n) - 1) }
    }

    #[test]
    fn bits_are_laid_out_from_the_left() {
        let mut writer = BitWriter::default();
        writer.put(0b1, 1);
        writer.put(0b0110, 4);
        writer.put(0xffff_fff5, 4);
        assert_eq!(writer.as_bytes(), [0b1011_0010, 0b1000_0000]);
        assert_eq!(writer.bit_len(), 9);
        let mut reader = BitReader::new(writer.as_bytes());
        assert_eq!(reader.ones(3), Ok(1));
        assert_eq!(reader.ones(1), Ok(1));
        assert_eq!(reader.bit_position(), 3);
        assert_eq!(
            reader.get(14),
            Err(Malformed {
                at: 0,
                what: "ends inside a run of bits"
            })
        );
        assert_eq!(reader.get(13), Ok(0b1_0010_1000_0000));
        assert!(reader.bit().is_err());
        assert_eq!(reader.get(0), Ok(0));
    }

    #[test]
    fn small_numbers_take_few_bits() {
        let cases = [
            (0, 1),
            (7, 5),
            (8, 9),
            (63, 9),
            (64, 13),
            (1 << 11, 17),
            (1 << 40, 72),
            (u64::MAX, 72),
        ];
        for (n, bits) in cases {
            let mut writer = BitWriter::default();
            writer.put_varbit(n);
            assert_eq!(writer.bit_len(), bits, "{n}");
            assert_eq!(BitReader::new(writer.as_bytes()).varbit(), Ok(n));
        }
    }

    proptest! {
        #[test]
        fn varbits_come_back(numbers in vec((any::<u64>(), 0u32..64).prop_map(|(n, by)| n >> by), 0..100)) {
            let mut writer = BitWriter::default();
            numbers.iter().for_each(|&n| writer.put_varbit(n));
            let mut reader = BitReader::new(writer.as_bytes());
            for &n in &numbers {
                prop_assert_eq!(reader.varbit()?, n);
            }
        }

        /// Any widths in any order come back, and the length is the sum of the widths.
        #[test]
        fn bits_come_back(runs in vec((any::<u64>(), 0u32..=64), 0..200)) {
            let mut writer = BitWriter::default();
            for &(bits, n) in &runs {
                writer.put(bits, n);
            }
            let total: usize = runs.iter().map(|run| run.1 as usize).sum();
            prop_assert_eq!(writer.bit_len(), total);
            prop_assert_eq!(writer.as_bytes().len(), total.div_ceil(8));
            let bytes = writer.into_bytes();
            let mut reader = BitReader::new(&bytes);
            for &(bits, n) in &runs {
                prop_assert_eq!(reader.get(n)?, low(bits, n));
            }
            prop_assert!(reader.get(8).is_err());
        }

        /// Reading by bits, by ones and by runs sees the same bits; the end is an error, never a panic.
        #[test]
        fn all_ways_of_reading_agree(bytes in vec(any::<u8>(), 0..40), widths in vec(0u32..=64, 0..40)) {
            let mut runs = BitReader::new(&bytes);
            let mut single = BitReader::new(&bytes);
            for &n in &widths {
                let Ok(run) = runs.get(n) else {
                    prop_assert!(runs.bit_position() + n as usize > bytes.len() * 8);
                    break;
                };
                for i in (0..n).rev() {
                    prop_assert_eq!(single.bit()?, run >> i & 1 == 1);
                }
            }
            prop_assert_eq!(runs.bit_position(), single.bit_position());
        }
    }
}
