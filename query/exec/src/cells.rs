//! One column of a matrix: a float, a native histogram or nothing at each step.
//!
//! Floats lie in a plain slice beside a bitmap. Histograms are an extra that a column has only once it has held one, so
//! that a column of floats pays nothing for them. A step never has both.

use std::sync::Arc;

use model::Histogram;

/// A float, a native histogram or nothing per step.
#[derive(Clone, Debug)]
pub struct Cells {
    values: Vec<f64>,
    /// Which steps have a float, 64 to a word, lowest bit first.
    present: Vec<u64>,
    histograms: Option<Box<HistogramCells>>,
}

/// What a histogram weighs against a query's limit on samples: about its bytes over a sample's.
pub fn weight_of(h: &Histogram) -> u64 {
    8 + (h.positive.counts.len() + h.negative.counts.len()) as u64 / 2
}

/// What a cell holds.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<Histogram>),
}

#[derive(Clone, Debug)]
struct HistogramCells {
    values: Vec<Option<Arc<Histogram>>>,
    present: Vec<u64>,
}

impl HistogramCells {
    fn remove(&mut self, i: usize) {
        self.values[i] = None;
        self.present[i / 64] &= !(1 << (i % 64));
    }
}

impl Cells {
    /// `len` absent cells.
    pub fn absent(len: usize) -> Cells {
        Cells {
            values: vec![0.0; len],
            present: vec![0; len.div_ceil(64)],
            histograms: None,
        }
    }
    /// A float at every step.
    pub fn full(values: Vec<f64>) -> Cells {
        let len = values.len();
        let mut present = vec![u64::MAX; len.div_ceil(64)];
        if let Some(last) = present.last_mut().filter(|_| !len.is_multiple_of(64)) {
            *last = (1 << (len % 64)) - 1;
        }
        Cells {
            values,
            present,
            histograms: None,
        }
    }
    /// The same cell at each of `len` steps.
    pub fn repeated(cell: Cell<'_>, len: usize) -> Cells {
        match cell {
            Cell::Float(v) => Cells::full(vec![v; len]),
            Cell::Histogram(h) => {
                let mut cells = Cells::absent(len);
                (0..len).for_each(|i| cells.set_histogram(i, h.clone()));
                cells
            }
        }
    }
    /// The float at a step.
    #[inline]
    pub fn get(&self, i: usize) -> Option<f64> {
        self.has_float(i).then(|| self.values[i])
    }
    /// What is at a step.
    #[inline]
    pub fn cell(&self, i: usize) -> Option<Cell<'_>> {
        match self.get(i) {
            Some(v) => Some(Cell::Float(v)),
            None => self.histogram(i).map(Cell::Histogram),
        }
    }
    /// The histogram at a step.
    #[inline]
    pub fn histogram(&self, i: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?.values[i].as_ref()
    }
    /// Whether there is anything at a step.
    #[inline]
    pub fn has(&self, i: usize) -> bool {
        self.has_float(i) || self.histogram(i).is_some()
    }
    #[inline]
    fn has_float(&self, i: usize) -> bool {
        self.present[i / 64] >> (i % 64) & 1 == 1
    }
    /// Whether there is a histogram at any step.
    pub fn has_histograms(&self) -> bool {
        (self.histograms.as_ref()).is_some_and(|h| h.present.iter().any(|word| *word != 0))
    }
    /// Sets the float at a step.
    #[inline]
    pub fn set(&mut self, i: usize, v: f64) {
        self.values[i] = v;
        self.present[i / 64] |= 1 << (i % 64);
        if let Some(histograms) = &mut self.histograms {
            histograms.remove(i);
        }
    }
    /// Sets the histogram at a step.
    pub fn set_histogram(&mut self, i: usize, histogram: Arc<Histogram>) {
        self.present[i / 64] &= !(1 << (i % 64));
        let (len, words) = (self.values.len(), self.present.len());
        let histograms = self.histograms.get_or_insert_with(|| {
            Box::new(HistogramCells {
                values: vec![None; len],
                present: vec![0; words],
            })
        });
        histograms.values[i] = Some(histogram);
        histograms.present[i / 64] |= 1 << (i % 64);
    }
    /// Sets what is at a step.
    #[inline]
    pub fn set_cell(&mut self, i: usize, cell: Cell<'_>) {
        match cell {
            Cell::Float(v) => self.set(i, v),
            Cell::Histogram(h) => self.set_histogram(i, h.clone()),
        }
    }
    /// Removes what is at a step.
    #[inline]
    pub fn clear(&mut self, i: usize) {
        self.present[i / 64] &= !(1 << (i % 64));
        if let Some(histograms) = &mut self.histograms {
            histograms.remove(i);
        }
    }
    /// Removes all histograms; says whether there was one.
    pub fn drop_histograms(&mut self) -> bool {
        let had = self.has_histograms();
        self.histograms = None;
        had
    }
    /// What the histograms weigh against a query's limit on samples, beside the steps themselves.
    pub fn histogram_weight(&self) -> u64 {
        match &self.histograms {
            None => 0,
            Some(histograms) => histograms.values.iter().flatten().map(|h| weight_of(h)).sum(),
        }
    }
    /// How many steps.
    pub fn len(&self) -> usize {
        self.values.len()
    }
    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// Whether every step is absent.
    pub fn all_absent(&self) -> bool {
        self.present.iter().all(|w| *w == 0) && !self.has_histograms()
    }
    /// How many cells are present.
    pub fn count(&self) -> usize {
        self.words().map(|w| w.count_ones() as usize).sum()
    }
    /// Floats as (step, value).
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        steps_of(self.present.iter().copied()).map(|i| (i, self.values[i]))
    }
    /// Histograms as (step, histogram).
    pub fn histograms(&self) -> impl Iterator<Item = (usize, &Arc<Histogram>)> {
        let values = self.histograms.as_ref().map_or(&[][..], |h| &h.values);
        let there = |(i, h): (usize, &'_ Option<Arc<Histogram>>)| h.is_some().then_some(i);
        let steps = values.iter().enumerate().filter_map(there);
        steps.filter_map(|i| Some((i, values[i].as_ref()?)))
    }
    /// Present cells as (step, cell), rising.
    pub fn cells(&self) -> impl Iterator<Item = (usize, Cell<'_>)> {
        steps_of(self.words()).filter_map(|i| Some((i, self.cell(i)?)))
    }
    /// Steps at which there is anything, rising.
    pub fn steps(&self) -> impl Iterator<Item = usize> + '_ {
        steps_of(self.words())
    }
    /// Replaces every float.
    pub fn map(&mut self, f: impl Fn(f64) -> f64) {
        // Absent cells are computed as well: their values are never seen, and the loop stays free of branches.
        for v in &mut self.values {
            *v = f(*v);
        }
    }
    /// Replaces or removes every float.
    pub fn filter_map(&mut self, mut f: impl FnMut(usize, f64) -> Option<f64>) {
        for i in 0..self.values.len() {
            if self.has_float(i) {
                match f(i, self.values[i]) {
                    Some(v) => self.values[i] = v,
                    None => self.present[i / 64] &= !(1 << (i % 64)),
                }
            }
        }
    }
    /// Replaces or removes every histogram.
    pub fn filter_map_histograms(&mut self, mut f: impl FnMut(usize, &Arc<Histogram>) -> Option<Arc<Histogram>>) {
        let Some(histograms) = &mut self.histograms else { return };
        for i in 0..histograms.values.len() {
            if let Some(old) = &histograms.values[i] {
                match f(i, old) {
                    Some(new) => histograms.values[i] = Some(new),
                    None => histograms.remove(i),
                }
            }
        }
    }
    /// Which steps have anything, 64 to a word, lowest bit first.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let histograms = self.histograms.as_ref().map_or(&[][..], |h| &h.present);
        let word = |(at, word): (usize, &u64)| word | histograms.get(at).copied().unwrap_or(0);
        self.present.iter().enumerate().map(word)
    }
    /// Keeps the cells whose bit is set in `mask`.
    pub(crate) fn keep(&mut self, mask: impl IntoIterator<Item = u64>) {
        let mut mask = mask.into_iter();
        for at in 0..self.present.len() {
            let mask = mask.next().unwrap_or(0);
            self.present[at] &= mask;
            if let Some(histograms) = &mut self.histograms {
                let gone = histograms.present[at] & !mask;
                steps_of([gone].into_iter()).for_each(|bit| histograms.values[at * 64 + bit] = None);
                histograms.present[at] &= mask;
            }
        }
    }
    /// Whether some step is present in both.
    pub(crate) fn meets(&self, other: &Cells) -> bool {
        self.words().zip(other.words()).any(|(a, b)| a & b != 0)
    }
    /// Takes over the other's present cells.
    pub(crate) fn absorb(&mut self, other: &Cells) {
        if other.has_histograms() {
            other.cells().for_each(|(i, cell)| self.set_cell(i, cell));
        } else {
            other.iter().for_each(|(i, v)| self.set(i, v));
        }
    }
}

impl PartialEq for Cells {
    /// Equal where present; bit for bit, so NaN equals NaN of the same bits.
    fn eq(&self, other: &Cells) -> bool {
        let same = |(a, b): ((usize, Cell<'_>), (usize, Cell<'_>))| {
            a.0 == b.0
                && match (a.1, b.1) {
                    (Cell::Float(a), Cell::Float(b)) => a.to_bits() == b.to_bits(),
                    (Cell::Histogram(a), Cell::Histogram(b)) => a.reset == b.reset && a.same_bits(b),
                    _ => false,
                }
        };
        self.len() == other.len() && self.words().eq(other.words()) && self.cells().zip(other.cells()).all(same)
    }
}

/// The set bits of a bitmap, rising.
fn steps_of(words: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    words.enumerate().flat_map(|(at, word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                at * 64 + bit
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(count: f64) -> Arc<Histogram> {
        Arc::new(Histogram {
            count,
            sum: 1.0,
            ..Histogram::stale()
        })
    }

    #[test]
    fn absent_cells_are_not_seen() {
        let mut cells = Cells::absent(70);
        assert!(cells.all_absent());
        cells.set(0, 1.0);
        cells.set(69, f64::NAN);
        assert_eq!(cells.count(), 2);
        assert_eq!(cells.iter().map(|(i, _)| i).collect::<Vec<_>>(), [0, 69]);
        cells.clear(69);
        assert_eq!(cells.get(69), None);
        assert_eq!(Cells::full(vec![1.0; 70]).count(), 70);
        assert_eq!(Cells::full(vec![1.0; 64]).count(), 64);
    }

    #[test]
    fn a_step_has_a_float_or_a_histogram() {
        let mut cells = Cells::absent(70);
        cells.set(1, 1.0);
        cells.set_histogram(1, histogram(2.0));
        cells.set_histogram(65, histogram(3.0));
        cells.set(2, 4.0);
        assert_eq!((cells.get(1), cells.count()), (None, 3));
        assert_eq!(cells.steps().collect::<Vec<_>>(), [1, 2, 65]);
        cells.set(65, 5.0);
        assert!(cells.histogram(65).is_none() && cells.get(65) == Some(5.0));
        let mut kept = cells.clone();
        kept.keep([0b100, 0]);
        assert_eq!((kept.count(), kept.has_histograms()), (1, false));
        assert!(kept.meets(&cells) && kept != cells);
        kept.absorb(&cells);
        assert_eq!(kept, cells);
        assert!(cells.drop_histograms() && !cells.has(1));
    }
}
