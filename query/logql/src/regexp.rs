//! The regular expressions of one query: those that stand in its text, and those that its templates come up with line by
//! line. They are RE2's (`model`); faults are told in Go's words, which Loki's clients see.

use std::sync::Arc;

use model::{BadMatcher, MatchOp, Matcher, Regex, RegexBudget, RegexUse};
use parking_lot::Mutex;

/// Bytes of compiled patterns that are kept for templates.
const TEMPLATE_BYTES_MAX: usize = 8 << 20;

/// What the patterns of a query are compiled with: each once, all within one budget.
#[derive(Debug, Default)]
pub(crate) struct Regexes {
    written: RegexBudget,
    templates: Arc<TemplateRegexes>,
}

/// The patterns that templates hand to functions; most are the same for every line. Those of all templates of a query share
/// one bound, and begin anew when it is reached.
#[derive(Debug, Default)]
pub(crate) struct TemplateRegexes(Mutex<RegexBudget>);

impl Regexes {
    /// Compiles an expression that may match anywhere. The error is Go's text with its prefix.
    pub fn search(&self, pattern: &str) -> Result<Regex, String> {
        self.compile(pattern, RegexUse::Search)
    }

    /// The same where groups are asked for.
    pub fn search_groups(&self, pattern: &str) -> Result<Regex, String> {
        self.compile(pattern, RegexUse::SearchGroups)
    }

    /// Compiles an expression that must match whole texts, whose groups are asked for.
    pub fn whole_groups(&self, pattern: &str) -> Result<Regex, String> {
        self.compile(pattern, RegexUse::WholeGroups)
    }

    /// Compiles a matcher.
    pub fn matcher(&self, name: String, op: MatchOp, value: String) -> Result<Matcher, BadMatcher> {
        Matcher::within(&self.written, name, op, value)
    }

    /// Bytes that the compiled patterns take, those of templates not counted.
    pub fn bytes(&self) -> usize {
        self.written.bytes()
    }

    /// Where templates compile theirs.
    pub fn of_templates(&self) -> Arc<TemplateRegexes> {
        self.templates.clone()
    }

    fn compile(&self, pattern: &str, wanted: RegexUse) -> Result<Regex, String> {
        self.written.compile(pattern, wanted).map_err(|e| e.message)
    }
}

impl TemplateRegexes {
    /// Compiles an expression that may match anywhere, or finds it compiled.
    pub fn search_groups(&self, pattern: &str) -> Result<Regex, String> {
        let mut budget = self.0.lock();
        let regex = budget.compile(pattern, RegexUse::SearchGroups);
        if budget.bytes() > TEMPLATE_BYTES_MAX {
            *budget = RegexBudget::default();
        }
        regex.map_err(|e| e.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_templates_are_forgotten_in_time() {
        let regexes = TemplateRegexes::default();
        for n in 0..3000 {
            assert!(regexes.search_groups(&format!("(a|b){n}")).is_ok());
            assert!(regexes.0.lock().bytes() <= TEMPLATE_BYTES_MAX);
        }
        assert!(regexes.search_groups("(").is_err());
    }
}
