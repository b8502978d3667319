//! How OTLP metrics become Prometheus series: the options of prometheus.yml's `otlp:` block, with its defaults.

use std::borrow::Cow;
use std::str::FromStr;

use crate::label_names::{Manner, label_name_in};

/// What the names of metrics and labels become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Translation {
    /// Other characters become `_`; unit and type are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Other characters become `_`.
    UnderscoreEscapingWithoutSuffixes,
    /// All characters stay; unit and type are appended.
    NoUtf8EscapingWithSuffixes,
    /// All stays as it is.
    NoTranslation,
}

impl FromStr for Translation {
    type Err = String;

    /// By its name in prometheus.yml.
    fn from_str(s: &str) -> Result<Translation, String> {
        match s {
            "UnderscoreEscapingWithSuffixes" => Ok(Translation::UnderscoreEscapingWithSuffixes),
            "UnderscoreEscapingWithoutSuffixes" => Ok(Translation::UnderscoreEscapingWithoutSuffixes),
            "NoUTF8EscapingWithSuffixes" => Ok(Translation::NoUtf8EscapingWithSuffixes),
            "NoTranslation" => Ok(Translation::NoTranslation),
            _ => Err(
                "UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes \
                      or NoTranslation"
                    .to_owned(),
            ),
        }
    }
}

/// The options, named as in prometheus.yml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpMetrics {
    /// What names become.
    pub translation_strategy: Translation,
    /// Resource attributes that become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// All resource attributes do, but those ignored.
    pub promote_all_resource_attributes: bool,
    /// Not promoted by `promote_all_resource_attributes`.
    pub ignore_resource_attributes: Vec<String>,
    /// `target_info` keeps the attributes that `job` and `instance` are made of.
    pub keep_identifying_resource_attributes: bool,
    /// Explicit-bucket histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Scope name, version, schema URL and attributes become labels `otel_scope_*`.
    pub promote_scope_metadata: bool,
    /// A label's single leading `_` gets the prefix `key`.
    pub label_name_underscore_sanitization: bool,
    /// Runs of `_` in label names stay as long as they are.
    pub label_name_preserve_multiple_underscores: bool,
    /// Delta sums and histograms become cumulative; else they are refused.
    pub convert_delta: bool,
}

impl Default for OtlpMetrics {
    fn default() -> OtlpMetrics {
        OtlpMetrics {
            translation_strategy: Translation::default(),
            promote_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            convert_delta: true,
        }
    }
}

impl OtlpMetrics {
    /// The label name for an attribute's key.
    pub(crate) fn label<'a>(&self, key: Cow<'a, str>) -> Cow<'a, str> {
        use Translation::{UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes};
        match self.translation_strategy {
            UnderscoreEscapingWithSuffixes | UnderscoreEscapingWithoutSuffixes => {
                let manner = Manner {
                    key_before_underscore: self.label_name_underscore_sanitization,
                    keep_runs: self.label_name_preserve_multiple_underscores,
                };
                label_name_in(key, manner)
            }
            Translation::NoUtf8EscapingWithSuffixes | Translation::NoTranslation => key,
        }
    }

    /// Whether a resource attribute becomes a label of every series.
    pub(crate) fn promotes(&self, key: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|k| k == key);
        if self.promote_all_resource_attributes {
            return !named(&self.ignore_resource_attributes);
        }
        named(&self.promote_resource_attributes)
    }
}
