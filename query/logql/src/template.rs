//! Go's `text/template` as far as `line_format` and `label_format` use it.
//!
//! The language is `query-template`'s; here are the functions that log templates have, and what they see: fields
//! (`{{ .level }}`) are labels, all of them text.

mod decimal;
mod functions;

use model::TimestampNs;
use query_template::{Host, Known, Value};

use crate::labels::{Field, Labels};
use crate::regexp::TemplateRegexes;
use functions::FUNCTIONS;

pub(crate) use query_template::Template;

/// Parses a template; `name` stands in error texts.
pub(crate) fn parse(name: &str, text: &str) -> Result<Template, String> {
    Template::parse(name, text, &|name| {
        let number = FUNCTIONS.iter().position(|f| f.name == name)?;
        Some(Known {
            name: FUNCTIONS[number].name,
            number,
            arguments: FUNCTIONS[number].arguments,
            parameters: &[],
        })
    })
}

/// What a template sees.
pub(crate) struct Scope<'a> {
    pub labels: &'a Labels,
    /// Values as they were when the stage began; without them the labels as they are.
    pub frozen: Option<&'a [Field]>,
    pub line: &'a str,
    pub at: TimestampNs,
    /// The instant that `now` gives.
    pub now: TimestampNs,
    /// Where functions compile the patterns that they are given.
    pub regexes: &'a TemplateRegexes,
}

impl Host for Scope<'_> {
    fn call(&self, number: usize, arguments: &mut [Value]) -> Result<Value, String> {
        (FUNCTIONS[number].call)(arguments, self)
    }

    fn get(&self, name: &str) -> Option<&str> {
        match self.frozen {
            Some(frozen) => self.labels.get_frozen(frozen, name),
            None => self.labels.get(name),
        }
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.labels.iter().for_each(|(name, value, _)| visit(name, value));
    }
}
