//! What an operator met that its author may not have meant. The language words it and knows the place.

use std::collections::BTreeSet;

/// One thing worth saying.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remark {
    /// A group held floats and histograms, so it has no result.
    MixedKinds,
    /// Histograms were left out of an aggregation that has no meaning for them.
    IgnoredHistograms,
    /// Histograms of exponential and of custom buckets were to be aggregated; the metric's name, or nothing.
    MixedSchemas(String),
    /// The same of a binary operator.
    IncompatibleLayouts,
    /// An operator has no meaning for what stood left and right of it.
    IncompatibleKinds(&'static str, &'static str),
    /// One histogram was known to follow a counter reset and another known to follow none.
    ConflictingResets,
    /// Custom bounds differed; only common ones are left.
    ReconciledBounds,
}

/// Each thing once.
pub type Remarks = BTreeSet<Remark>;

/// What a binary operator met, by step: of all pairs that meet there the last one that is worth saying something about, as
/// Prometheus says it.
#[derive(Default)]
pub(crate) struct Latest(Vec<Remarks>);

impl Latest {
    pub(crate) fn put(&mut self, step: usize, met: Remarks) {
        if met.is_empty() {
            return;
        }
        if self.0.len() <= step {
            self.0.resize_with(step + 1, Remarks::new);
        }
        self.0[step] = met;
    }

    /// All that remain.
    pub(crate) fn tell(self, remarks: &mut Remarks) {
        remarks.extend(self.0.into_iter().flatten());
    }
}
