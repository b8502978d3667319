//! The labels of an entry that survived, apart by where they came from.

use crate::labels::{ERROR, ERROR_DETAILS, Labels, Origin};

/// What is left of the labels after a pipeline, by where a client expects it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sorted {
    pub stream: Vec<(String, String)>,
    pub metadata: Vec<(String, String)>,
    pub parsed: Vec<(String, String)>,
}

impl Sorted {
    /// Errors count as parsed.
    pub fn of(labels: &Labels) -> Sorted {
        let mut out = Sorted::default();
        for (name, value, origin) in labels.iter() {
            let pair = (name.to_owned(), value.to_owned());
            match origin {
                Origin::Stream => out.stream.push(pair),
                Origin::Metadata => out.metadata.push(pair),
                Origin::Parsed => out.parsed.push(pair),
            }
        }
        for (name, value) in [(ERROR, labels.error()), (ERROR_DETAILS, labels.shown_details())] {
            if !value.is_empty() {
                out.parsed.push((name.to_owned(), value.to_owned()));
            }
        }
        out
    }
}
