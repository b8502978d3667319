//! Native histograms from OTLP's two kinds of histogram.
//!
//! OTLP's bucket `i` covers `(b^i, b^(i+1)]`, ours `(b^(i-1), b^i]`: places move up by one. Scales above 8 are reduced to 8;
//! below -4 there is no schema for them. Explicit buckets become custom ones.

use model::{Buckets, CUSTOM_BUCKETS, Histogram, ResetHint};

use crate::remote_write::histogram::check_count;
use crate::wire::{BadWire, Fields};

/// Buckets of one side that are read.
const BUCKETS_MAX: usize = 65_536;
/// The finest schema stored.
const SCHEMA_MAX: i32 = 8;
/// The zero threshold of senders that do not say theirs; as Prometheus writes it.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets between two runs that are written out, being cheaper than another run.
const GAP_FILLED_MAX: i64 = 2;

/// The fields of an exponential histogram that make its buckets, as sent.
#[derive(Default)]
pub(crate) struct Exponential {
    pub scale: i32,
    pub count: u64,
    pub sum: Option<f64>,
    pub zero_count: u64,
    pub zero_threshold: f64,
    pub positive: Side,
    pub negative: Side,
}

/// One side's buckets as sent.
#[derive(Default)]
pub(crate) struct Side {
    offset: i32,
    counts: Vec<u64>,
}

/// Explicit buckets as sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Explicit {
    pub count: u64,
    pub sum: Option<f64>,
    /// Upper bounds.
    pub bounds: Vec<f64>,
    /// Counts by bucket, not cumulative.
    pub counts: Vec<u64>,
}

impl Side {
    /// Reads a `Buckets` message: 1 offset sint32, 2 counts uint64*.
    pub fn read(message: &[u8]) -> Result<Side, BadWire> {
        let mut side = Side::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => side.offset = field.sint32()?,
                2 => field.each_varint(|count| {
                    if side.counts.len() <= BUCKETS_MAX {
                        side.counts.push(count);
                    }
                })?,
                _ => {}
            }
        }
        Ok(side)
    }

    fn buckets(&self, down: u32) -> Option<Buckets> {
        let mut placed: Vec<(i32, f64)> = Vec::with_capacity(self.counts.len());
        for (place, &count) in (i64::from(self.offset)..).zip(&self.counts) {
            if count == 0 {
                continue;
            }
            let index = i32::try_from((place >> down.min(62)) + 1).ok()?;
            match placed.last_mut() {
                Some(last) if last.0 == index => last.1 += count as f64,
                Some(&mut (last, _)) if i64::from(index) - i64::from(last) <= GAP_FILLED_MAX + 1 => {
                    placed.extend((last + 1..index).map(|empty| (empty, 0.0)));
                    placed.push((index, count as f64));
                }
                _ => placed.push((index, count as f64)),
            }
        }
        Some(Buckets::from_indexed(placed))
    }
}

impl Exponential {
    /// As a native histogram, or why not.
    pub fn to_native(&self) -> Result<Histogram, String> {
        if self.scale < -4 {
            return Err(format!("scale {} is coarser than -4", self.scale));
        }
        if self.positive.counts.len() > BUCKETS_MAX || self.negative.counts.len() > BUCKETS_MAX {
            return Err(format!("more than {BUCKETS_MAX} buckets on one side"));
        }
        let down = self.scale.saturating_sub(SCHEMA_MAX).max(0).unsigned_abs();
        let side = |side: &Side| side.buckets(down).ok_or("a bucket lies beyond the range of numbers");
        let histogram = Histogram {
            reset: ResetHint::Unknown,
            schema: self.scale.min(SCHEMA_MAX),
            zero_threshold: if self.zero_threshold > 0.0 {
                self.zero_threshold
            } else {
                ZERO_THRESHOLD
            },
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum.unwrap_or(0.0),
            positive: side(&self.positive)?,
            negative: side(&self.negative)?,
            bounds: Vec::new().into(),
        };
        sound(histogram)
    }
}

impl Explicit {
    /// As a native histogram with custom buckets, or why not.
    pub fn to_native(&self) -> Result<Histogram, String> {
        let mut bounds = self.bounds.clone();
        let mut counts = self.counts.clone();
        if bounds.last() == Some(&f64::INFINITY) {
            bounds.pop();
            // What lies above +Inf is nothing; a sender that counts there meant the bucket before.
            if counts.len() == bounds.len() + 2 {
                let beyond = counts.pop().unwrap_or(0);
                if let Some(last) = counts.last_mut() {
                    *last = last.saturating_add(beyond);
                }
            }
        }
        if counts.is_empty() && bounds.is_empty() {
            counts.push(self.count);
        }
        if counts.len() != bounds.len() + 1 {
            return Err(format!(
                "{} bounds do not go with {} buckets",
                bounds.len(),
                counts.len()
            ));
        }
        let places = counts.iter().zip(0..).filter(|(count, _)| **count > 0);
        let histogram = Histogram {
            reset: ResetHint::Unknown,
            schema: CUSTOM_BUCKETS,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: self.count as f64,
            sum: self.sum.unwrap_or(0.0),
            positive: Buckets::from_indexed(places.map(|(count, place)| (place, *count as f64))),
            negative: Buckets::default(),
            bounds: bounds.into(),
        };
        sound(histogram)
    }
}

fn sound(histogram: Histogram) -> Result<Histogram, String> {
    histogram.validate().map_err(|e| e.to_string())?;
    check_count(&histogram).map_err(|e| e.to_string())?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use model::exponential_bound;
    use proptest::prelude::*;

    use super::*;

    fn exponential(scale: i32, offset: i32, counts: &[u64]) -> Exponential {
        Exponential {
            scale,
            count: counts.iter().sum(),
            sum: Some(1.0),
            positive: Side {
                offset,
                counts: counts.to_vec(),
            },
            ..Exponential::default()
        }
    }

    #[test]
    fn places_move_by_one_and_fine_scales_are_reduced() {
        for (scale, offset, counts, schema, want) in [
            (0, 0, &[1, 2][..], 0, vec![(1, 1.0), (2, 2.0)]),
            (8, -1, &[1, 2], 8, vec![(0, 1.0), (1, 2.0)]),
            (10, 0, &[1, 1, 1, 1, 4], 8, vec![(1, 4.0), (2, 4.0)]),
            (10, -5, &[1, 1, 1, 1, 4], 8, vec![(-1, 1.0), (0, 7.0)]),
            (20, i32::MIN, &[3], 8, vec![((i32::MIN >> 12) + 1, 3.0)]),
            (-4, 3, &[0, 0, 5], -4, vec![(6, 5.0)]),
            (0, 0, &[1, 0, 0, 1], 0, vec![(1, 1.0), (2, 0.0), (3, 0.0), (4, 1.0)]),
            (0, 0, &[1, 0, 0, 0, 1], 0, vec![(1, 1.0), (5, 1.0)]),
        ] {
            let got = exponential(scale, offset, counts).to_native().unwrap();
            assert_eq!(got.schema, schema);
            assert_eq!(
                got.positive.iter().collect::<Vec<_>>(),
                want,
                "scale {scale} offset {offset}"
            );
            assert_eq!(got.zero_threshold, 1e-128);
        }
        let own = Exponential {
            zero_threshold: 0.5,
            ..exponential(0, 0, &[1])
        };
        assert_eq!(own.to_native().unwrap().zero_threshold, 0.5);
    }

    #[test]
    fn what_has_no_schema_or_does_not_add_up_is_refused() {
        let check = |e: Exponential, want: &str| {
            let got = e.to_native().unwrap_err();
            assert!(got.contains(want), "{got:?} lacks {want:?}");
        };
        check(exponential(-5, 0, &[1]), "scale -5 is coarser than -4");
        check(exponential(0, i32::MAX, &[1]), "beyond the range");
        let miscounted = Exponential {
            count: 5,
            ..exponential(0, 0, &[1])
        };
        check(miscounted, "hold 1 observations, the count says 5");
    }

    #[test]
    fn explicit_buckets_become_custom_ones() {
        let explicit = |bounds: &[f64], counts: &[u64]| Explicit {
            count: counts.iter().sum(),
            sum: Some(2.5),
            bounds: bounds.to_vec(),
            counts: counts.to_vec(),
        };
        let got = explicit(&[0.1, 0.5, 1.0], &[0, 0, 3, 1]).to_native().unwrap();
        assert_eq!(got.positive.iter().collect::<Vec<_>>(), [(2, 3.0), (3, 1.0)]);
        assert_eq!((got.schema, &got.bounds[..]), (CUSTOM_BUCKETS, &[0.1, 0.5, 1.0][..]));
        let infinite = explicit(&[1.0, f64::INFINITY], &[1, 2]).to_native().unwrap();
        assert_eq!((&infinite.bounds[..], infinite.count), (&[1.0][..], 3.0));
        let bare = Explicit {
            count: 3,
            ..Explicit::default()
        };
        assert_eq!(
            bare.to_native().unwrap().positive.iter().collect::<Vec<_>>(),
            [(0, 3.0)]
        );
        assert!(explicit(&[1.0, 1.0], &[0, 0, 1]).to_native().is_err());
        assert!(explicit(&[1.0, 2.0], &[1]).to_native().is_err());
    }

    proptest! {
        /// No observation is lost or moved across a bound that both scales have.
        #[test]
        fn reduction_keeps_every_observation_below_its_bounds(
            scale in -4i32..16, offset in -2000i32..2000, counts in proptest::collection::vec(0u64..9, 0..60),
        ) {
            let native = exponential(scale, offset, &counts).to_native().unwrap();
            prop_assert_eq!(native.positive.total(), counts.iter().sum::<u64>() as f64);
            let down = (scale - native.schema) as u32;
            for (index, _) in native.positive.iter() {
                let below: f64 = native.positive.iter().filter(|(i, _)| *i <= index).map(|(_, c)| c).sum();
                let place = i64::from(index) << down;
                let sent: u64 = counts.iter().zip(i64::from(offset)..).filter(|(_, p)| *p < place).map(|(c, _)| c).sum();
                prop_assert_eq!(below, sent as f64);
                prop_assert!(exponential_bound(native.schema, index) >= exponential_bound(native.schema, index - 1));
            }
        }
    }
}
