//! `limit_ratio`: a share of the rows, chosen by the hash of their labels, so that the same series are chosen by every
//! query and every server.

use crate::{Context, ExecError, Matrix};

/// Keeps the rows whose place in [0, 1), given by the hash of their labels, lies below `r`, or for a negative `r` at or
/// above `1 + r`; so `r` and `r - 1` split the rows in two.
pub(crate) fn limit_ratio(context: &Context, r: &[f64], mut input: Matrix) -> Result<Matrix, ExecError> {
    if r.iter().any(|r| r.is_nan()) {
        return Err(ExecError::Data("Ratio value is NaN".to_owned()));
    }
    let mut bytes = Vec::new();
    for row in &mut input.rows {
        context.check("expression evaluation")?;
        bytes.clear();
        for (name, value) in row.labels.iter() {
            put_sized(&mut bytes, name);
            put_sized(&mut bytes, value);
        }
        let place = xxhash64(&bytes) as f64 / u64::MAX as f64;
        let outside = |i: usize| {
            let r = r[i].clamp(-1.0, 1.0);
            !(if r >= 0.0 { place < r } else { place >= 1.0 + r })
        };
        let gone: Vec<usize> = row.cells.steps().filter(|i| outside(*i)).collect();
        gone.into_iter().for_each(|i| row.cells.clear(i));
    }
    input.drop_absent();
    Ok(input)
}

/// A text after its length: one byte, or 255 and three bytes, as Prometheus keeps label sets.
fn put_sized(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(len) if len < 255 => out.push(len),
        _ => {
            out.push(255);
            out.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
        }
    }
    out.extend_from_slice(text.as_bytes());
}

const PRIMES: [u64; 5] = [
    0x9E37_79B1_85EB_CA87,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5,
];

/// XXH64 with seed 0.
fn xxhash64(bytes: &[u8]) -> u64 {
    let round = |lane: u64, word: u64| {
        lane.wrapping_add(word.wrapping_mul(PRIMES[1]))
            .rotate_left(31)
            .wrapping_mul(PRIMES[0])
    };
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = PRIMES[4];
    if !stripes.is_empty() {
        let mut lanes = [
            PRIMES[0].wrapping_add(PRIMES[1]),
            PRIMES[1],
            0,
            0u64.wrapping_sub(PRIMES[0]),
        ];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        hash = [1, 7, 12, 18]
            .iter()
            .zip(lanes)
            .fold(0u64, |sum, (by, lane)| sum.wrapping_add(lane.rotate_left(*by)));
        for lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
        }
    }
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
    }
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        hash ^= u64::from(u32::from_le_bytes(*word)).wrapping_mul(PRIMES[0]);
        hash = hash.rotate_left(23).wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
    }
    for byte in rest {
        hash ^= u64::from(*byte).wrapping_mul(PRIMES[4]);
        hash = hash.rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(PRIMES[1]);
    hash = (hash ^ hash >> 29).wrapping_mul(PRIMES[2]);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that the hash's own documentation and common tools give.
    #[test]
    fn known_hashes() {
        let cases = [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            ("Nobody inspects the spammish repetition", 0xfbce_a83c_8a37_8bf1),
        ];
        for (text, want) in cases {
            assert_eq!(xxhash64(text.as_bytes()), want, "{text}");
        }
    }
}
