//! The windows of one series: at each step, the samples in `(end - range, end]`.
//!
//! Floats and histograms lie in columns of their own, so a series without histograms pays nothing for them.

use std::sync::Arc;

use model::Histogram;
use query_exec::{Accumulate, Cells, Context, Grid, slide};
use storage_metrics::Samples;

use crate::lex::Span;
use crate::notes::About;
use crate::plan::Moment;
use crate::run::WHERE;
use crate::syntax::Edges;

/// One series' samples and the windows over them. No sample is a staleness marker.
pub(crate) struct Windows<'a> {
    pub(crate) grid: &'a Grid,
    pub(crate) shift: Moment,
    pub(crate) range_ms: i64,
    pub(crate) t: &'a [i64],
    pub(crate) v: &'a [f64],
    /// When counting began, as long as `t`, or empty: not known, or not to be used.
    pub(crate) starts: &'a [i64],
    /// Histograms: times, values, and when counting began.
    pub(crate) ht: &'a [i64],
    pub(crate) h: &'a [Arc<Histogram>],
    pub(crate) h_starts: &'a [i64],
    /// What counts at the edges, and how far beyond them a sample may lie.
    pub(crate) edges: Edges,
    pub(crate) lookback_ms: i64,
    pub(crate) about: About<'a>,
    context: &'a Context,
}

/// Samples looked at between two looks at whether the query is to stop.
const SAMPLES_PER_CHECK: usize = 1 << 16;
/// A histogram takes as long as so many floats.
const FLOATS_PER_HISTOGRAM: usize = 64;

/// The window of one step; never empty.
pub(crate) struct Window<'a> {
    /// Which step, and its time.
    pub(crate) step: usize,
    pub(crate) at: i64,
    /// The window's ends (the start is outside).
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The place of its first float in the series.
    pub(crate) first: usize,
    pub(crate) t: &'a [i64],
    pub(crate) v: &'a [f64],
    pub(crate) starts: &'a [i64],
    /// The place of its first histogram in the series.
    pub(crate) first_histogram: usize,
    pub(crate) ht: &'a [i64],
    pub(crate) h: &'a [Arc<Histogram>],
    pub(crate) h_starts: &'a [i64],
}

/// What a look at a window may give.
pub(crate) enum Made {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl From<f64> for Made {
    fn from(v: f64) -> Made {
        Made::Float(v)
    }
}

impl From<Histogram> for Made {
    fn from(h: Histogram) -> Made {
        Made::Histogram(Arc::new(h))
    }
}

/// Places of a column that lie in a window; both ends only move forward.
#[derive(Default)]
struct Places {
    low: usize,
    high: usize,
}

impl Places {
    fn advance(&mut self, t: &[i64], start: i64, end: i64) -> std::ops::Range<usize> {
        while self.high < t.len() && t[self.high] <= end {
            self.high += 1;
        }
        while self.low < self.high && t[self.low] <= start {
            self.low += 1;
        }
        self.low..self.high
    }
}

fn part<'a>(column: &'a [i64], places: &std::ops::Range<usize>) -> &'a [i64] {
    column.get(places.clone()).unwrap_or(&[])
}

impl<'a> Windows<'a> {
    /// Windows over `samples`, of which none is a staleness marker. Start timestamps are looked at if `starts`.
    pub(crate) fn over(
        samples: &'a Samples,
        grid: &'a Grid,
        shift: Moment,
        range_ms: i64,
        starts: bool,
        about: About<'a>,
        context: &'a Context,
    ) -> Windows<'a> {
        let known = |column: &'a [i64]| if starts { column } else { &[] };
        Windows {
            grid,
            shift,
            range_ms,
            t: &samples.t,
            v: &samples.v,
            starts: known(&samples.start),
            ht: &samples.histograms.t,
            h: &samples.histograms.h,
            h_starts: known(&samples.histograms.start),
            edges: Edges::Plain,
            lookback_ms: 0,
            about,
            context,
        }
    }

    /// The same windows; what is said of them points elsewhere.
    pub(crate) fn told_at(&self, span: Span) -> Windows<'a> {
        let about = About { span, ..self.about };
        Windows { about, ..*self }
    }

    /// Looks at the floats of each window that has any, in order of time. For functions that have no meaning for
    /// histograms: that some were left out is said.
    pub(crate) fn each(&self, mut look: impl FnMut(&Window<'_>) -> Option<f64>) -> Cells {
        self.of_any(|w| {
            if w.t.is_empty() {
                return None;
            }
            if !w.ht.is_empty() {
                self.about.ignored_histograms();
            }
            look(w).map(Made::Float)
        })
    }

    /// Looks at each window that is not empty, in order of time; with it come the samples beyond it that its edges look
    /// at. Ends early if the query is to stop, which the next check of its context says.
    pub(crate) fn of_any(&self, mut look: impl FnMut(&Window<'_>) -> Option<Made>) -> Cells {
        let mut cells = Cells::absent(self.grid.len());
        let (mut floats, mut histograms) = (Places::default(), Places::default());
        let (before, after) = self.edges.beyond(self.lookback_ms);
        let mut looked_at = 0;
        for (step, at) in self.grid.iter().enumerate() {
            let end = self.shift.of(at);
            let start = end.saturating_sub(self.range_ms);
            let (first, last) = (start.saturating_sub(before), end.saturating_add(after));
            let floats = floats.advance(self.t, first, last);
            let histograms = histograms.advance(self.ht, first, last);
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            looked_at += floats.len() + histograms.len() * FLOATS_PER_HISTOGRAM;
            if looked_at > SAMPLES_PER_CHECK {
                looked_at = 0;
                if self.context.check(WHERE).is_err() {
                    break;
                }
            }
            let window = Window {
                step,
                at,
                start,
                end,
                first: floats.start,
                t: &self.t[floats.clone()],
                v: &self.v[floats.clone()],
                starts: part(self.starts, &floats),
                first_histogram: histograms.start,
                ht: &self.ht[histograms.clone()],
                h: &self.h[histograms.clone()],
                h_starts: part(self.h_starts, &histograms),
            };
            match look(&window) {
                Some(Made::Float(v)) => cells.set(step, v),
                Some(Made::Histogram(h)) => cells.set_histogram(step, h),
                None => {}
            }
        }
        cells
    }

    /// The same of a series that has floats only: `look` is given the window's start and end and the places of
    /// its samples, at least one, and takes a moment however many they are.
    #[inline]
    pub(crate) fn of_floats(&self, mut look: impl FnMut(i64, i64, std::ops::Range<usize>) -> Option<f64>) -> Cells {
        let mut cells = Cells::absent(self.grid.len());
        let mut places = Places::default();
        for (step, at) in self.grid.iter().enumerate() {
            if step % SAMPLES_PER_CHECK == SAMPLES_PER_CHECK - 1 && self.context.check(WHERE).is_err() {
                break;
            }
            let end = self.shift.of(at);
            let start = end.saturating_sub(self.range_ms);
            let places = places.advance(self.t, start, end);
            if !places.is_empty()
                && let Some(v) = look(start, end, places)
            {
                cells.set(step, v);
            }
        }
        cells
    }

    /// Lets floats enter and leave an accumulator.
    pub(crate) fn slide(&self, accumulator: &mut impl Accumulate) -> Cells {
        if !self.ht.is_empty() {
            // Only for what it says of windows that have both.
            self.each(|_| None);
        }
        match self.shift.at {
            None => slide(
                self.grid,
                self.shift.offset_ms,
                self.range_ms,
                self.t,
                self.v,
                accumulator,
            ),
            // One window for all steps.
            Some(at) => {
                let one = Grid::instant(at);
                let cell = slide(&one, self.shift.offset_ms, self.range_ms, self.t, self.v, accumulator).get(0);
                match cell {
                    Some(v) => Cells::full(vec![v; self.grid.len()]),
                    None => Cells::absent(self.grid.len()),
                }
            }
        }
    }
}

impl Window<'_> {
    /// Whether it has floats and histograms.
    pub(crate) fn is_mixed(&self) -> bool {
        !self.t.is_empty() && !self.ht.is_empty()
    }
}
