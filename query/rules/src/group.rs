//! Rule groups as they are configured: what a file or Loki's rule API says, read and checked.

use std::sync::Arc;

/// The language of a group's expressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Prometheus': reads metrics.
    #[default]
    PromQl,
    /// Loki's: reads logs.
    LogQl,
}

impl Dialect {
    /// `promql` or `logql`.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::PromQl => "promql",
            Dialect::LogQl => "logql",
        }
    }
}

/// Where a group comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The file that [`Group::file`] names.
    #[default]
    File,
    /// Loki's rule API; [`Group::file`] is the namespace.
    LokiApi,
}

/// Rules that are evaluated one after another at the same instants.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Unique within its file.
    pub name: String,
    /// The file as it was named, or the namespace.
    pub file: Arc<str>,
    /// The language of its expressions.
    pub dialect: Dialect,
    /// Where it comes from.
    pub origin: Origin,
    /// Between two evaluations; `None`: as configured for all.
    pub interval_ms: Option<i64>,
    /// Most series or alerts of a rule; 0: no limit.
    pub limit: usize,
    /// How far behind the moment its rules look; `None`: as configured for all.
    pub query_offset_ms: Option<i64>,
    /// Labels for every rule; a rule's own win. In the order of the file.
    pub labels: Vec<(String, String)>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What becomes of its result.
    pub kind: RuleKind,
    /// The expression as written.
    pub expr: String,
    /// Its own labels as written (templates in alerting rules), in the order of the file.
    pub labels: Vec<(String, String)>,
    /// The line it begins at, counted from 1; 0: it is from no file.
    pub line: u32,
}

/// What becomes of a rule's result.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleKind {
    /// It is stored under a name.
    Recording {
        /// The name.
        record: String,
    },
    /// Each of its elements is an alert.
    Alerting {
        /// The alert's name.
        alert: String,
        /// How long an element must stay until its alert fires.
        for_ms: i64,
        /// How long an alert fires on after its element has gone.
        keep_firing_for_ms: i64,
        /// Texts for people, templates as written, in the order of the file.
        annotations: Vec<(String, String)>,
    },
}

impl Group {
    /// A rule's labels with those of the group, sorted by name; the rule's own win.
    pub fn labels_of(&self, rule: &Rule) -> Vec<(String, String)> {
        let mut merged: Vec<(String, String)> = rule.labels.clone();
        for (name, value) in &self.labels {
            if !merged.iter().any(|(n, _)| n == name) {
                merged.push((name.clone(), value.clone()));
            }
        }
        merged.sort();
        merged
    }

    /// Whether it says the same, wherever in its file it stands.
    pub(crate) fn says_the_same(&self, other: &Group) -> bool {
        let placed_alike = |rule: &Rule| Rule {
            line: 0,
            ..rule.clone()
        };
        let without_places = |group: &Group| Group {
            rules: group.rules.iter().map(placed_alike).collect(),
            ..group.clone()
        };
        self == other || without_places(self) == without_places(other)
    }

    /// As Prometheus' own metrics name a group: file and name.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }
}

impl Rule {
    /// The name of what it records, or of its alert.
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Recording { record } => record,
            RuleKind::Alerting { alert, .. } => alert,
        }
    }

    /// Whether it alerts.
    pub fn is_alerting(&self) -> bool {
        matches!(self.kind, RuleKind::Alerting { .. })
    }
}
