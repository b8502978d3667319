//! Bits, the most significant first, and what Prometheus' chunks are written with: varints, whole numbers of few bits,
//! floats as the difference to the one before.

/// A stream of bits that grows at its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits still free in the last byte.
    free: u32,
}

impl Bits {
    /// After `bytes`.
    pub fn after(bytes: Vec<u8>) -> Bits {
        Bits { bytes, free: 0 }
    }

    /// The bytes; the last is filled up with zeros.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The lowest `n` bits of `value`, the highest of them first.
    pub fn put(&mut self, value: u64, n: u32) {
        let mut left = n;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (value >> (left - take)) & ((1 << take) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part as u8) << (self.free - take);
            }
            self.free -= take;
            left -= take;
        }
    }

    /// Unsigned LEB128.
    pub fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    /// Zigzag LEB128.
    pub fn put_varint(&mut self, value: i64) {
        self.put_uvarint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// The bits of a double.
    pub fn put_f64(&mut self, value: f64) {
        self.put(value.to_bits(), 64);
    }

    /// A signed number in the fewest bits of a few widths: a prefix of ones says which.
    pub fn put_varbit(&mut self, value: i64) {
        self.put_by_width(value as u64, value == 0, |n| fits(value, n));
    }

    /// The same, unsigned.
    pub fn put_varbit_unsigned(&mut self, value: u64) {
        self.put_by_width(value, value == 0, |n| value < 1 << n);
    }

    fn put_by_width(&mut self, value: u64, is_zero: bool, fits: impl Fn(u32) -> bool) {
        if is_zero {
            return self.put(0, 1);
        }
        match VARBIT_WIDTHS.iter().position(|n| fits(*n)) {
            Some(i) => {
                // i + 1 ones and a zero.
                self.put((1 << (i + 2)) - 2, i as u32 + 2);
                self.put(value, VARBIT_WIDTHS[i]);
            }
            None => {
                self.put(0xff, 8);
                self.put(value, 64);
            }
        }
    }

    /// The second difference of times in a chunk of floats.
    pub fn put_delta_of_delta(&mut self, value: i64) {
        if value == 0 {
            return self.put(0, 1);
        }
        match TIME_WIDTHS.iter().position(|n| fits(value, *n)) {
            Some(i) => {
                self.put((1 << (i + 2)) - 2, i as u32 + 2);
                self.put(value as u64, TIME_WIDTHS[i]);
            }
            None => {
                self.put(0b1111, 4);
                self.put(value as u64, 64);
            }
        }
    }
}

const VARBIT_WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];
const TIME_WIDTHS: [u32; 3] = [14, 17, 20];

/// Whether `value` is one of the numbers that `n` bits stand for: their positive end is `2^(n-1)`, inclusive.
fn fits(value: i64, n: u32) -> bool {
    (-(1 << (n - 1)) + 1..=1 << (n - 1)).contains(&value)
}

/// Doubles one after the other, each as its difference to the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xor {
    last: u64,
    /// Leading and trailing zeros of the last difference that said so; the first says so always.
    window: Option<(u32, u32)>,
}

impl Xor {
    /// After a value that is written in full.
    pub fn after(value: f64) -> Xor {
        Xor {
            last: value.to_bits(),
            window: None,
        }
    }

    /// Writes the next value.
    pub fn put(&mut self, bits: &mut Bits, value: f64) {
        let difference = self.last ^ value.to_bits();
        self.last = value.to_bits();
        if difference == 0 {
            return bits.put(0, 1);
        }
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        match self.window {
            Some((l, t)) if leading >= l && trailing >= t => {
                bits.put(0b10, 2);
                bits.put(difference >> t, 64 - l - t);
            }
            _ => {
                self.window = Some((leading, trailing));
                let length = 64 - leading - trailing;
                bits.put(0b11, 2);
                bits.put(u64::from(leading), 5);
                // 64 does not fit into six bits, and 0 is free.
                bits.put(u64::from(length & 63), 6);
                bits.put(difference >> trailing, length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(write: impl FnOnce(&mut Bits)) -> String {
        let mut out = Bits::default();
        write(&mut out);
        let free = out.free as usize;
        let text: String = out.bytes.iter().map(|b| format!("{b:08b}")).collect();
        text[..text.len() - free].to_owned()
    }

    #[test]
    fn numbers_take_the_narrowest_width_they_fit() {
        for (value, text) in [
            (0, "0"),
            (1, "10001"),
            (4, "10100"),
            (-3, "10101"),
            (-4, "110111100"),
            (32, "110100000"),
            (33, "1110000100001"),
        ] {
            assert_eq!(bits(|b| b.put_varbit(value)), text, "{value}");
        }
        assert_eq!(bits(|b| b.put_varbit(i64::MIN)).len(), 72);
        assert_eq!(bits(|b| b.put_varbit(1 << 55)).len(), 64);
        assert_eq!(bits(|b| b.put_varbit_unsigned(7)), "10111");
        assert_eq!(bits(|b| b.put_varbit_unsigned(8)), "110001000");
        assert_eq!(bits(|b| b.put_delta_of_delta(8192)), "1010000000000000");
        assert_eq!(bits(|b| b.put_delta_of_delta(-8192)).len(), 20);
        assert_eq!(bits(|b| b.put_delta_of_delta(1 << 40)).len(), 68);
    }

    #[test]
    fn an_equal_double_is_one_bit() {
        assert_eq!(bits(|b| Xor::after(1.5).put(b, 1.5)), "0");
        // 1.0 xor 2.0 = 0x7ff0 at the top: one leading zero, eleven bits.
        assert_eq!(bits(|b| Xor::after(1.0).put(b, 2.0)), "110000100101111111111111");
    }
}
