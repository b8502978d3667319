//! Texts with `{{ }}` in labels and annotations of alerts: parsed once, expanded at every evaluation.
//!
//! A failing template never stops an alert: who expands puts the error into the text, as Prometheus does.

use std::sync::Arc;

use model::{Histogram, LabelSet};
use query_exec::text_of;
use query_template::{Host, Known, Value};

use crate::template_functions::FUNCTIONS;

/// What stands before each text, so that `$labels` and the like are there; positions in error texts count it.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}\
                       {{$value := .Value}}";
/// Go's name for the type of the dot.
const DATA: &str =
    "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }";

/// A text, parsed.
#[derive(Clone, Debug)]
pub struct Template {
    name: Arc<str>,
    parsed: query_template::Template,
}

/// What a template may speak of.
pub struct TemplateData<'a> {
    /// `$labels`, `.Labels`: of the expression's element, its name included.
    pub labels: &'a LabelSet,
    /// `$value`, `.Value`.
    pub value: TemplateValue<'a>,
    /// `$externalLabels`, `.ExternalLabels`.
    pub external_labels: &'a [(String, String)],
    /// `$externalURL`, `.ExternalURL`, and what `externalURL` and `pathPrefix` answer with.
    pub external_url: &'a str,
    /// The time of the evaluation, ms.
    pub now_ms: i64,
    /// `query "..."`: an instant query at that time, in the dialect of the rule.
    pub query: &'a dyn Fn(&str) -> Result<Vec<TemplateSample>, String>,
}

/// The value of an element.
#[derive(Clone, Copy, Debug)]
pub enum TemplateValue<'a> {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<Histogram>),
}

/// An element of what `query` answers.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateSample {
    /// Its labels.
    pub labels: LabelSet,
    /// Its value, if it is a number.
    pub value: f64,
    /// Its value, if it is a native histogram.
    pub histogram: Option<Arc<Histogram>>,
}

impl Template {
    /// Parses; the error is worded as Go's. `name` stands in error texts (`__alert_NAME`).
    pub fn parse(name: &str, text: &str) -> Result<Template, String> {
        let parsed = query_template::Template::parse(name, &format!("{PRELUDE}{text}"), &known)?;
        Ok(Template {
            name: name.into(),
            parsed,
        })
    }

    /// Expands; the error says why it cannot be.
    pub fn expand(&self, data: &TemplateData<'_>) -> Result<String, String> {
        let external = data.external_labels.iter().cloned().collect();
        let value = match data.value {
            TemplateValue::Float(v) => Value::Float(v),
            TemplateValue::Histogram(h) => Value::Opaque("*histogram.FloatHistogram", text_of(h).into()),
        };
        let dot = [
            ("Labels", Value::Host),
            ("ExternalLabels", Value::Texts(external)),
            ("ExternalURL", Value::Text(data.external_url.to_owned())),
            ("Value", value),
        ];
        let mut out = String::new();
        let run = self.parsed.run_on(Value::Record(DATA, dot.into()), data, &mut out);
        run.map_err(|why| format!("error executing template {}: {why}", self.name))?;
        Ok(out)
    }
}

fn known(name: &str) -> Option<Known> {
    let number = FUNCTIONS.iter().position(|f| f.name == name)?;
    let function = &FUNCTIONS[number];
    Some(Known {
        name: function.name,
        number,
        arguments: function.arguments,
        parameters: function.parameters,
    })
}

/// The host's map is the labels.
impl Host for TemplateData<'_> {
    fn call(&self, number: usize, arguments: &mut [Value]) -> Result<Value, String> {
        (FUNCTIONS[number].call)(arguments, self)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.labels.get(name)
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.labels.iter().for_each(|(name, value)| visit(name, value));
    }
}

#[cfg(test)]
mod tests;
