//! Columns of a WAL record, small without an entropy coder: numbers that step evenly, and values that continue what the
//! log has of their series.
//!
//! ```text
//! steps    = number - the one before iv, the first from 0; after two equal steps: how often the step comes again uv
//! value    = token uv · bytes
//! token    = kind in the low 3 bits, n above
//!   0 to 3   the value is (m + zigzag n) / 10^kind, where m is the value before times 10^kind, rounded (ties to even);
//!            0 if that is not below 2^53
//!   4        n = count + 16 * zero bytes: `count` bytes follow, above so many zero bytes; XOR the bits before
//! ```
//!
//! The value before is that of the same series in the log: which one, and when none, says `record.rs`; none is 0.0.

use storage_codec::{Malformed, Reader, put_iv, put_uv};

use crate::gorilla::{unzigzag, zigzag};

const POWERS: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];
const KIND_XOR: u64 = 4;
/// Integers up to here are exact in a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends numbers as steps.
pub(crate) fn put_steps(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let mut steps = Steps::default();
    for number in numbers {
        let step = number.wrapping_sub(steps.last);
        steps.last = number;
        if steps.is_run && step == steps.step {
            steps.repeats += 1;
            continue;
        }
        steps.end_run(out);
        put_iv(out, step);
        steps.is_run = steps.any && step == steps.step;
        (steps.step, steps.any) = (step, true);
    }
    steps.end_run(out);
}

#[derive(Default)]
struct Steps {
    last: i64,
    step: i64,
    any: bool,
    /// The step came twice: repeats are counted.
    is_run: bool,
    repeats: u64,
}

impl Steps {
    fn end_run(&mut self, out: &mut Vec<u8>) {
        if self.is_run {
            put_uv(out, self.repeats);
            *self = Steps {
                last: self.last,
                ..Steps::default()
            };
        }
    }
}

/// Reads `count` numbers; who calls has bounded `count`.
pub(crate) fn get_steps(
    reader: &mut Reader<'_>,
    count: usize,
    each: &mut dyn FnMut(i64) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let (mut left, mut last, mut before) = (count, 0i64, None);
    while left > 0 {
        let step = reader.iv()?;
        last = last.wrapping_add(step);
        each(last)?;
        left -= 1;
        if before != Some(step) {
            before = Some(step);
            continue;
        }
        let at = reader.position();
        let repeats = usize::try_from(reader.uv()?).ok().filter(|&n| n <= left);
        let repeats = repeats.ok_or(Malformed {
            at,
            what: "a step repeats beyond the column",
        })?;
        for _ in 0..repeats {
            last = last.wrapping_add(step);
            each(last)?;
        }
        left -= repeats;
        before = None;
    }
    Ok(())
}

/// Appends the bits of a value, given those of the one before.
#[inline]
pub(crate) fn put_value(out: &mut Vec<u8>, before: u64, bits: u64) {
    if bits != before {
        let value = f64::from_bits(bits);
        for (kind, &power) in POWERS.iter().enumerate() {
            if let Some(integer) = scaled(value, power)
                && (integer as f64 / power).to_bits() == bits
            {
                let n = integer - scaled(f64::from_bits(before), power).unwrap_or(0);
                put_uv(out, zigzag(n) << 3 | kind as u64);
                return;
            }
        }
    }
    let xor = bits ^ before;
    let zeros = if xor == 0 { 0 } else { xor.trailing_zeros() / 8 };
    let count = 8 - xor.leading_zeros() / 8 - if xor == 0 { 0 } else { zeros };
    put_uv(out, u64::from(count + 16 * zeros) << 3 | KIND_XOR);
    out.extend_from_slice(&(xor >> (8 * zeros)).to_le_bytes()[..count as usize]);
}

/// Reads the bits of a value, given those of the one before.
#[inline]
pub(crate) fn get_value(reader: &mut Reader<'_>, before: u64) -> Result<u64, Malformed> {
    let at = reader.position();
    let bad = |what| Malformed { at, what };
    let token = reader.uv()?;
    let n = token >> 3;
    if let Some(&power) = POWERS.get((token & 7) as usize) {
        let step = unzigzag(n);
        let integer = scaled(f64::from_bits(before), power).unwrap_or(0).wrapping_add(step);
        return Ok((integer as f64 / power).to_bits());
    }
    let (count, zeros) = ((n & 15) as usize, (n >> 4) as u32);
    if token & 7 != KIND_XOR || n >= 128 || count + zeros as usize > 8 {
        return Err(bad("impossible value"));
    }
    let mut xor = [0u8; 8];
    xor[..count].copy_from_slice(reader.take(count)?);
    let xor = if zeros == 8 {
        0
    } else {
        u64::from_le_bytes(xor) << (8 * zeros)
    };
    Ok(before ^ xor)
}

/// `value * power` as the nearest integer, if that is exact as one.
#[inline]
fn scaled(value: f64, power: f64) -> Option<i64> {
    let scaled = (value * power).round_ties_even();
    (scaled.abs() < EXACT).then_some(scaled as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bytes(before: f64, value: f64) -> usize {
        let mut out = Vec::new();
        put_value(&mut out, before.to_bits(), value.to_bits());
        let mut reader = Reader::new(&out);
        assert_eq!(
            get_value(&mut reader, before.to_bits()).unwrap(),
            value.to_bits(),
            "{before} {value}"
        );
        assert!(reader.is_empty());
        out.len()
    }

    #[test]
    fn what_changes_little_takes_little() {
        for (before, value, expected) in [
            (1.0, 1.0, 1),
            (f64::NAN, f64::NAN, 1),
            (1_000_000.0, 1_000_007.0, 1),
            (1_000_000.0, 1_000_900.0, 2),
            (123_456.78, 123_460.01, 2),
            (0.0, 1_700_000_000.0, 5),
            (0.1 + 0.2, 0.3, 1),
            (0.0, std::f64::consts::PI, 9),
            (0.0, -0.0, 3),
            (1.0, f64::INFINITY, 4),
            (f64::INFINITY, 5.0, 1),
            (1.0, model::stale_nan(), 9),
            (model::stale_nan(), 1.0, 1),
            (f64::MAX, 5e-324, 9),
            (9_007_199_254_740_993.0, 9_007_199_254_740_991.0, 9),
        ] {
            assert!(
                bytes(before, value) <= expected,
                "{before} to {value}: {}",
                bytes(before, value)
            );
        }
    }

    #[test]
    fn even_steps_take_no_room() {
        let mut out = Vec::new();
        put_steps(&mut out, (0..10_000).map(|n| 5 + n * 15_000));
        assert!(out.len() <= 10, "{}", out.len());
        out.clear();
        put_steps(&mut out, std::iter::repeat_n(1_700_000_000_000, 500));
        assert!(out.len() <= 12, "{}", out.len());
    }

    proptest! {
        #[test]
        fn values_come_back_bit_for_bit(before in any::<u64>(), bits in any::<u64>(), m in -1_000_000i64..1_000_000, e in 0i32..5) {
            bytes(f64::from_bits(before), f64::from_bits(bits));
            bytes(m as f64, m as f64 / 10f64.powi(e));
            bytes(f64::from_bits(before), m as f64 / 10f64.powi(e));
            bytes(m as f64 / 10f64.powi(e), f64::from_bits(bits));
        }

        #[test]
        fn numbers_come_back(numbers in vec(prop_oneof![any::<i64>(), 0i64..3, Just(7)], 0..60)) {
            let mut out = Vec::new();
            put_steps(&mut out, numbers.iter().copied());
            let (mut back, mut reader) = (Vec::new(), Reader::new(&out));
            get_steps(&mut reader, numbers.len(), &mut |n| { back.push(n); Ok(()) }).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert_eq!(back, numbers);
        }

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..40), before in any::<u64>()) {
            let _ = get_value(&mut Reader::new(&bytes), before);
            let _ = get_steps(&mut Reader::new(&bytes), 1000, &mut |_| Ok(()));
        }
    }
}
