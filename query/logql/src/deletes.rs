//! What a delete request means: its streams, and the entries that come through its pipeline. The engine stores the text and
//! asks here.

use std::sync::Arc;

use model::LabelSet;
use storage_logs::{Entries, EntryFilter, Meant};

use crate::pipeline::{Pipeline, Scratch};
use crate::plan::Plan;
use crate::regexp::Regexes;
use crate::{ParseError, Query, syntax};

/// Reads the text of a delete request: a log query. Streams may be picked by any selector, also by one that a query
/// would have to be narrower for.
pub fn meant_by_delete(text: &str) -> Result<Meant, ParseError> {
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(error) => {
            let regexes = Regexes::default();
            let matchers = syntax::parse_selector(text, &regexes).map_err(|_| error)?;
            return Ok(Meant {
                matchers,
                filter: None,
                bytes: regexes.bytes(),
            });
        }
    };
    let Plan::Log(plan) = query.plan() else {
        return Err(ParseError {
            message: "parse error : only log selector is supported".to_owned(),
            line: 0,
            col: 0,
        });
    };
    let filter =
        (!plan.pipeline.is_empty()).then(|| -> Arc<dyn EntryFilter> { Arc::new(Survivors(plan.pipeline.clone())) });
    Ok(Meant {
        matchers: plan.matchers.clone(),
        filter,
        bytes: query.regex_bytes,
    })
}

/// Picks the entries that survive a pipeline.
struct Survivors(Pipeline);

impl EntryFilter for Survivors {
    fn find(&self, stream: &LabelSet, entries: &Entries, found: &mut dyn FnMut(usize)) {
        let mut scratch = Scratch::default();
        scratch.begin_stream(stream);
        for i in 0..entries.len() {
            let t = entries.t(i);
            if self.0.run(entries.line(i), t, t, entries.metadata(i), &mut scratch) {
                found(i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_any_width_and_pipelines_of_any_kind() {
        let check = |text: &str| meant_by_delete(text).map(|m| (m.matchers.len(), m.filter.is_some()));
        assert_eq!(check(r#"{app="x"}"#), Ok((1, false)));
        assert_eq!(check("{}"), Ok((0, false)));
        assert_eq!(check(r#"{app=~".*"}"#), Ok((1, false)));
        assert_eq!(check(r#"{app="x", b!=""} |= "y""#), Ok((2, true)));
        assert_eq!(check(r#"{app="x"} | json | user="7""#), Ok((1, true)));
        assert!(check(r#"rate({app="x"}[1m])"#).is_err());
        assert!(check(r#"{app="#).is_err());
    }
}
