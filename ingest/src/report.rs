//! What became of the items of one request: OTLP tells its sender (`partial_success`), Zipkin and Jaeger have no words for
//! it.

/// Distinct reasons that are told to the client.
const REASONS_MAX: usize = 5;

/// Items seen and refused, with reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Items in the request: data points, log records or spans.
    pub items: u64,
    /// Of these, refused.
    pub rejected: u64,
    reasons: Vec<String>,
}

impl Report {
    /// Counts `items` as refused. The reason is only worded if there is still room to tell it.
    pub fn reject(&mut self, items: u64, reason: impl FnOnce() -> String) {
        if items > 0 {
            self.rejected = self.rejected.saturating_add(items).min(self.items);
            self.warn(reason);
        }
    }

    /// Says something to the client without refusing anything.
    pub fn warn(&mut self, reason: impl FnOnce() -> String) {
        if self.reasons.len() >= REASONS_MAX {
            return;
        }
        let reason = reason();
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Items that were not refused.
    pub fn accepted(&self) -> u64 {
        self.items - self.rejected
    }

    /// Whether there is nothing to tell.
    pub fn is_clean(&self) -> bool {
        self.rejected == 0 && self.reasons.is_empty()
    }

    /// The reasons in one line.
    pub fn message(&self) -> String {
        self.reasons.join("; ")
    }
}
