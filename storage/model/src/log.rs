//! Log entries as readers see them.

use crate::TimestampNs;

/// One line of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub t: TimestampNs,
    /// The line. Not necessarily UTF-8 at the sender; stored as it arrived after replacing invalid sequences.
    pub line: String,
    /// Structured metadata, in the order given.
    pub metadata: Vec<(String, String)>,
}
