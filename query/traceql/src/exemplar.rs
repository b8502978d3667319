//! Exemplars of metrics: a few spans that stand behind the samples. The range is cut into stretches, of each of which two
//! spans are kept: those whose start and trace mix to the lowest numbers, which is as good as drawing lots and the same each
//! time.

use model::TraceId;
use storage_traces::SpanPlace;

use crate::syntax::Function;
use crate::value::Value;

/// Spans kept of each stretch.
const PER_STRETCH: usize = 2;

/// A span that was picked.
#[derive(Clone, Debug)]
pub(crate) struct Exemplar {
    /// The span's start, ns.
    pub(crate) start: i64,
    pub(crate) interval: usize,
    /// Of the span; `None`: the sample's own.
    pub(crate) value: Option<f64>,
    pub(crate) origin: Origin,
    /// What the query knows of the span.
    pub(crate) labels: Vec<(String, Value<'static>)>,
}

/// Which trace a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Trace(TraceId),
    /// The one that lies there.
    Row(SpanPlace),
}

/// How exemplars are spread over the range.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Picking {
    first: i64,
    /// ns of a stretch; 0: none are picked.
    width: i64,
    stretches: usize,
    per_stretch: usize,
}

/// A span that may become an exemplar of its group.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The key of the group that counted it.
    pub(crate) group: Vec<u8>,
    /// The exponent of its bucket, of functions that count in buckets.
    pub(crate) bucket: Option<u8>,
    pub(crate) exemplar: Exemplar,
}

/// What was picked so far; the lowest lots first in each stretch.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    picking: Picking,
    stretches: Vec<Vec<(u64, Candidate)>>,
}

impl Picking {
    /// At most `most` over `[first, last]`.
    pub(crate) fn over(first: i64, last: i64, most: usize) -> Picking {
        if most == 0 || last < first {
            return Picking::default();
        }
        let stretches = (most / PER_STRETCH).max(1);
        Picking {
            first,
            width: last.saturating_sub(first) / stretches as i64 + 1,
            stretches,
            per_stretch: most.min(PER_STRETCH),
        }
    }
}

impl Picked {
    pub(crate) fn new(picking: Picking) -> Picked {
        Picked {
            picking,
            stretches: vec![Vec::new(); picking.stretches],
        }
    }

    /// Considers a span of the trace with that mark; `make` is only called if it is kept for now. Of spans of a trace that
    /// start at once the first one counts.
    pub(crate) fn offer(&mut self, start: i64, trace_mark: u32, make: impl FnOnce() -> Candidate) {
        if self.picking.width > 0 {
            self.put(start, lot(start, trace_mark), make);
        }
    }

    /// Where the spans lie whose traces are not known.
    pub(crate) fn places(&self) -> Vec<SpanPlace> {
        let all = self.stretches.iter().flatten();
        let places = all.filter_map(|(_, candidate)| match candidate.exemplar.origin {
            Origin::Row(place) => Some(place),
            Origin::Trace(_) => None,
        });
        places.collect()
    }

    /// Tells whose traces [`Picked::places`] are, in their order; spans whose trace cannot be told are no exemplars.
    pub(crate) fn tell(&mut self, traces: Vec<Option<TraceId>>) {
        let mut traces = traces.into_iter();
        for kept in &mut self.stretches {
            kept.retain_mut(|(_, candidate)| match candidate.exemplar.origin {
                Origin::Trace(_) => true,
                Origin::Row(_) => {
                    let told = traces.next().flatten();
                    told.into_iter()
                        .for_each(|id| candidate.exemplar.origin = Origin::Trace(id));
                    told.is_some()
                }
            });
        }
    }

    fn put(&mut self, start: i64, lot: u64, make: impl FnOnce() -> Candidate) {
        let at = start.saturating_sub(self.picking.first) / self.picking.width;
        let Some(kept) = usize::try_from(at).ok().and_then(|at| self.stretches.get_mut(at)) else {
            return;
        };
        if kept.len() == self.picking.per_stretch && kept.last().is_some_and(|(highest, _)| *highest <= lot) {
            return;
        }
        let place = kept.partition_point(|(other, _)| *other <= lot);
        kept.insert(place, (lot, make()));
        kept.truncate(self.picking.per_stretch);
    }

    /// Adds what was picked elsewhere in the same way.
    pub(crate) fn merge(&mut self, other: Picked) {
        for (lot, candidate) in other.stretches.into_iter().flatten() {
            if self.picking.width > 0 {
                self.put(candidate.exemplar.start, lot, || candidate);
            }
        }
    }

    /// All that were picked, in the order of time.
    pub(crate) fn into_candidates(self) -> Vec<Candidate> {
        let all = self.stretches.into_iter().flatten();
        let mut all: Vec<Candidate> = all.map(|(_, candidate)| candidate).collect();
        all.sort_by_key(|candidate| candidate.exemplar.start);
        all
    }
}

/// Whether a function's exemplars show the value of their span rather than that of the sample.
pub(crate) fn shows_span(function: &Function) -> bool {
    matches!(function, Function::OverTime(..) | Function::Quantile(..))
}

/// Times and marks are spread over all numbers here.
fn lot(start: i64, trace_mark: u32) -> u64 {
    let folded = (start as u64) ^ u64::from(trace_mark).rotate_left(32);
    let mixed = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(start: i64) -> Candidate {
        Candidate {
            group: Vec::new(),
            bucket: None,
            exemplar: Exemplar {
                start,
                interval: 0,
                value: None,
                origin: Origin::Trace(TraceId(1)),
                labels: Vec::new(),
            },
        }
    }

    fn picked(most: usize, starts: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut picked = Picked::new(Picking::over(0, 999, most));
        for start in starts {
            picked.offer(start, 7, || candidate(start));
        }
        picked.into_candidates().iter().map(|c| c.exemplar.start).collect()
    }

    #[test]
    fn each_stretch_has_two_at_most() {
        assert!(picked(0, 0..1000).is_empty());
        assert_eq!(picked(1, 0..1000).len(), 1);
        let ten = picked(10, 0..1000);
        for stretch in 0..5 {
            let within = ten.iter().filter(|t| **t / 200 == stretch).count();
            assert_eq!(within, 2, "{ten:?}");
        }
        assert_eq!(picked(100, 500..501), [500]);
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order() {
        assert_eq!(picked(20, 0..1000), picked(20, (0..1000).rev()));
        let half = |range: std::ops::Range<i64>| {
            let mut picked = Picked::new(Picking::over(0, 999, 20));
            for start in range {
                picked.offer(start, 7, || candidate(start));
            }
            picked
        };
        let mut merged = half(300..1000);
        merged.merge(half(0..300));
        let merged: Vec<i64> = merged.into_candidates().iter().map(|c| c.exemplar.start).collect();
        assert_eq!(merged, picked(20, 0..1000));
    }
}
