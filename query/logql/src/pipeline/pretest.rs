//! Whether an entry can pass at all is tried on few labels before all of them are parsed.

use super::Step;
use crate::labels::Needed;

/// Where every label is needed in the end, entries are first tried on the labels that the filters behind the parsers look
/// at; only those that pass, or whose line has a fault, are parsed in full.
#[derive(Clone, Debug)]
pub(super) struct Pretest {
    /// How many of the first steps it takes: filters and parsers, the last of them a filter on labels.
    pub steps: usize,
    pub needed: Needed,
}

/// Entries of a stream that are pretested whatever comes out; then most must fail for it to be worth while.
const PRETESTS_MIN: u32 = 64;

impl Pretest {
    pub fn of(steps: &[Step]) -> Option<Pretest> {
        let simple = |s: &Step| {
            matches!(
                s,
                Step::Line(_)
                    | Step::Json
                    | Step::JsonPaths(_)
                    | Step::Logfmt { .. }
                    | Step::LogfmtKeys { .. }
                    | Step::Regexp(..)
                    | Step::Pattern(_)
                    | Step::Labels(_)
            )
        };
        let first = &steps[..steps.iter().take_while(|s| simple(s)).count()];
        let end = first.iter().rposition(|s| matches!(s, Step::Labels(_)))? + 1;
        let mut names = Vec::new();
        let mut parses = false;
        for step in &first[..end] {
            match step {
                Step::Labels(test) => test.names(&mut names),
                Step::Line(_) => {}
                _ => parses = true,
            }
        }
        // Lines are parsed to their end, for a fault may decide.
        parses.then(|| Pretest {
            steps: end,
            needed: Needed::only(names, true),
        })
    }
}

/// How pretests of a stream's entries went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pretests {
    done: u32,
    failed: u32,
}

impl Pretests {
    pub fn pay_off(&self) -> bool {
        self.done < PRETESTS_MIN || self.failed >= self.done / 2
    }

    pub fn add(&mut self, failed: bool) {
        self.done += 1;
        self.failed += u32::from(failed);
    }
}
