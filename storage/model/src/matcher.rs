//! Label matchers: `=`, `!=`, `=~`, `!~`. Regular expressions are anchored at both ends, as Prometheus and Loki do.

use std::fmt;

use crate::{Regex, RegexBudget, RegexUse};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A test of one label's value. An absent label has the value `""`.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
    set: Vec<String>,
}

/// A regular expression that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadMatcher {
    /// What is wrong, as RE2's users know it: `error parsing regexp: missing closing ): `(``.
    pub message: String,
}

impl Matcher {
    /// A matcher that stands alone. Where a text holds several, [`Matcher::within`] bounds the memory of all.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Matcher, BadMatcher> {
        Matcher::within(&RegexBudget::default(), name, op, value)
    }

    /// One of several matchers, whose expressions share a budget.
    pub fn within(
        regexes: &RegexBudget,
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Matcher, BadMatcher> {
        let value = value.into();
        let (regex, set) = match op {
            MatchOp::Equal | MatchOp::NotEqual => (None, Vec::new()),
            MatchOp::Regex | MatchOp::NotRegex => {
                let regex = regexes.compile(&value, RegexUse::Whole)?;
                let set = literal_alternatives(&value).unwrap_or_default();
                (Some(regex), set)
            }
        };
        Ok(Matcher {
            name: name.into(),
            op,
            value,
            regex,
            set,
        })
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            regex: None,
            set: Vec::new(),
        }
    }

    /// The label it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The right-hand side as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether `value` (empty for an absent label) passes.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(re)) => re.is_match(value),
            (MatchOp::NotRegex, Some(re)) => !re.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => false,
        }
    }

    /// Whether series without the label pass.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The literals of a regex that is a plain alternation (`a|b|c`), so that it can be looked up instead of
    /// scanned; empty when it is anything else.
    pub fn literal_set(&self) -> &[String] {
        &self.set
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `Some` when the pattern is nothing but literals separated by `|`.
fn literal_alternatives(pattern: &str) -> Option<Vec<String>> {
    if pattern.is_empty() {
        return None;
    }
    pattern
        .split('|')
        .map(|part| (!part.is_empty() && regex_syntax::escape(part) == part).then(|| part.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_anchored_and_dot_matches_newline() {
        let m = Matcher::new("a", MatchOp::Regex, "b|c.").unwrap();
        assert!(m.matches("b") && m.matches("c\n"));
        assert!(!m.matches("bb") && !m.matches("xb"));
        assert!(m.literal_set().is_empty());
        assert_eq!(
            Matcher::new("a", MatchOp::Regex, "b|c").unwrap().literal_set(),
            ["b", "c"]
        );
        assert!(Matcher::new("a", MatchOp::Regex, "(").is_err());
        assert!(Matcher::new("a", MatchOp::NotEqual, "x").unwrap().matches_empty());
    }
}
