//! Which attributes get a column of their own, and the account of attributes that a block carries.
//!
//! A block is written twice over: first its attributes are counted, then [`choose`] picks columns, then rows are written
//! and counted again, exactly. The account goes into the file's key-value metadata, so that names are known and whole
//! blocks can be skipped without reading a row, and so that compaction counts nothing.
//!
//! # `trilobite.attributes`, version 1
//!
//! Text, one attribute a line, sorted; `\n` and `\\` in names are escaped. After the scope's letter (`S` span,
//! `R` resource, `E` event, `L` link, `I` instrumentation) come the rows with text, whole numbers, doubles, booleans and other
//! values, then how many of them are not in a column of their own. A first line `partial` says that there were more
//! names than [`NAMES_MAX`].
//!
//! ```text
//! S 120 0 0 0 0 0 http.method
//! ```

use std::fmt::Write;

use arrow_schema::DataType;
use model::AttributeValue;
use rapidhash::RapidHashMap;

use crate::request::AttributeScope;

/// Names counted per block; the rest is stored all the same, but not known without reading rows.
pub(crate) const NAMES_MAX: usize = 4096;

/// An attribute used by less than this share of the rows gets no column, unless it is well known.
const SHARE_MIN: f64 = 0.02;
/// Columns chosen by use, beside the well-known ones.
const SPAN_COLUMNS_MAX: usize = 20;
const RESOURCE_COLUMNS_MAX: usize = 12;
/// Longer names get no column.
const COLUMN_NAME_BYTES_MAX: usize = 128;

/// Attributes of the semantic conventions that get a column whenever they occur, with their types.
const WELL_KNOWN: &[(AttributeScope, &str, Kind)] = &[
    (AttributeScope::Resource, "service.name", Kind::Str),
    (AttributeScope::Resource, "service.namespace", Kind::Str),
    (AttributeScope::Resource, "service.version", Kind::Str),
    (AttributeScope::Resource, "service.instance.id", Kind::Str),
    (AttributeScope::Resource, "deployment.environment", Kind::Str),
    (AttributeScope::Resource, "deployment.environment.name", Kind::Str),
    (AttributeScope::Resource, "host.name", Kind::Str),
    (AttributeScope::Resource, "container.id", Kind::Str),
    (AttributeScope::Resource, "k8s.cluster.name", Kind::Str),
    (AttributeScope::Resource, "k8s.namespace.name", Kind::Str),
    (AttributeScope::Resource, "k8s.node.name", Kind::Str),
    (AttributeScope::Resource, "k8s.pod.name", Kind::Str),
    (AttributeScope::Resource, "k8s.container.name", Kind::Str),
    (AttributeScope::Resource, "k8s.deployment.name", Kind::Str),
    (AttributeScope::Span, "http.method", Kind::Str),
    (AttributeScope::Span, "http.request.method", Kind::Str),
    (AttributeScope::Span, "http.route", Kind::Str),
    (AttributeScope::Span, "http.target", Kind::Str),
    (AttributeScope::Span, "http.url", Kind::Str),
    (AttributeScope::Span, "url.full", Kind::Str),
    (AttributeScope::Span, "url.path", Kind::Str),
    (AttributeScope::Span, "http.status_code", Kind::Int),
    (AttributeScope::Span, "http.response.status_code", Kind::Int),
    (AttributeScope::Span, "server.address", Kind::Str),
    (AttributeScope::Span, "peer.service", Kind::Str),
    (AttributeScope::Span, "error.type", Kind::Str),
    (AttributeScope::Span, "rpc.service", Kind::Str),
    (AttributeScope::Span, "rpc.method", Kind::Str),
    (AttributeScope::Span, "rpc.grpc.status_code", Kind::Int),
    (AttributeScope::Span, "db.system", Kind::Str),
    (AttributeScope::Span, "db.system.name", Kind::Str),
    (AttributeScope::Span, "db.name", Kind::Str),
    (AttributeScope::Span, "db.operation", Kind::Str),
    (AttributeScope::Span, "messaging.system", Kind::Str),
    (AttributeScope::Span, "messaging.destination.name", Kind::Str),
];

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Str,
    /// Whole numbers.
    Int,
    /// Doubles.
    Double,
    /// Truths.
    Bool,
}

const KINDS: [Kind; 4] = [Kind::Str, Kind::Int, Kind::Double, Kind::Bool];

impl Kind {
    /// The type a value needs; `None` if no column takes it.
    pub(crate) fn of(value: &AttributeValue) -> Option<Kind> {
        match value {
            AttributeValue::Str(_) => Some(Kind::Str),
            AttributeValue::Int(_) => Some(Kind::Int),
            AttributeValue::Double(_) => Some(Kind::Double),
            AttributeValue::Bool(_) => Some(Kind::Bool),
            _ => None,
        }
    }

    /// As Arrow names it.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Kind::Str => DataType::Utf8,
            Kind::Int => DataType::Int64,
            Kind::Double => DataType::Float64,
            Kind::Bool => DataType::Boolean,
        }
    }

    /// From Arrow's name.
    pub(crate) fn from_data_type(data_type: &DataType) -> Option<Kind> {
        KINDS.into_iter().find(|k| k.data_type() == *data_type)
    }
}

/// An attribute with a column of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dedicated {
    /// `Span` or `Resource`.
    pub scope: AttributeScope,
    /// The attribute.
    pub key: String,
    /// The values that the column takes; others go where all attributes go.
    pub kind: Kind,
}

impl Dedicated {
    /// The column's name.
    pub(crate) fn column(&self) -> String {
        match self.scope {
            AttributeScope::Resource if self.key == "service.name" => "service_name".to_owned(),
            AttributeScope::Resource => format!("resource.{}", self.key),
            _ => format!("span.{}", self.key),
        }
    }

    /// The attribute of a column; `None` if it is another column.
    pub(crate) fn from_column(name: &str, data_type: &DataType) -> Option<Dedicated> {
        let (scope, key) = match name.split_once('.') {
            None if name == "service_name" => (AttributeScope::Resource, "service.name"),
            Some(("span", key)) => (AttributeScope::Span, key),
            Some(("resource", key)) => (AttributeScope::Resource, key),
            _ => return None,
        };
        let kind = Kind::from_data_type(data_type)?;
        let key = key.to_owned();
        Some(Dedicated { scope, key, kind })
    }
}

/// How a block uses one attribute, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// Rows by type: text, whole numbers, doubles, booleans, others.
    pub by_kind: [u64; 5],
    /// Of these, values that are not in a column of their own.
    pub outside: u64,
}

/// The account of a block's attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    scopes: [RapidHashMap<Box<str>, Use>; SCOPES.len()],
    names: usize,
    partial: bool,
}

const SCOPES: [(AttributeScope, char); 5] = [
    (AttributeScope::Span, 'S'),
    (AttributeScope::Resource, 'R'),
    (AttributeScope::Event, 'E'),
    (AttributeScope::Link, 'L'),
    (AttributeScope::Instrumentation, 'I'),
];

impl Usage {
    /// Counts a value of an attribute in `rows` rows; `outside` if it is in no column of its own.
    pub(crate) fn count(&mut self, scope: AttributeScope, key: &str, value: &AttributeValue, rows: u64, outside: bool) {
        let kind = Kind::of(value).map_or(4, |k| k as usize);
        let Some(used) = self.entry(scope, key) else { return };
        used.by_kind[kind] = used.by_kind[kind].saturating_add(rows);
        if outside {
            used.outside = used.outside.saturating_add(rows);
        }
    }

    /// Adds another account.
    pub(crate) fn add(&mut self, other: &Usage) {
        self.partial |= other.partial;
        for (scope, key, theirs) in other.iter() {
            self.add_use(scope, key, theirs);
        }
    }

    /// Adds how an attribute was used elsewhere.
    pub(crate) fn add_use(&mut self, scope: AttributeScope, key: &str, theirs: &Use) {
        if *theirs == Use::default() {
            return;
        }
        let Some(ours) = self.entry(scope, key) else { return };
        for (a, b) in ours.by_kind.iter_mut().zip(theirs.by_kind) {
            *a = a.saturating_add(b);
        }
        ours.outside = ours.outside.saturating_add(theirs.outside);
    }

    /// How an attribute is used. `None`: not at all, if [`Usage::is_complete`].
    pub(crate) fn get(&self, scope: AttributeScope, key: &str) -> Option<&Use> {
        self.scopes[place(scope)?].get(key)
    }

    /// Whether every attribute is in the account.
    pub(crate) fn is_complete(&self) -> bool {
        !self.partial
    }

    /// Every attribute, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (AttributeScope, &str, &Use)> {
        let scopes = self.scopes.iter().zip(SCOPES);
        scopes.flat_map(|(uses, (scope, _))| uses.iter().map(move |(key, used)| (scope, &**key, used)))
    }

    /// The text for the file.
    pub(crate) fn to_text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for (uses, (_, letter)) in self.scopes.iter().zip(SCOPES) {
            for (key, used) in uses {
                let [s, i, d, b, o] = used.by_kind;
                let name = key.replace('\\', "\\\\").replace('\n', "\\n");
                lines.push(format!("{letter} {s} {i} {d} {b} {o} {} {name}", used.outside));
            }
        }
        lines.sort_unstable();
        let mut out = String::new();
        if self.partial {
            out.push_str("partial\n");
        }
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
        out
    }

    /// Reads the text; what is not understood makes the account partial.
    pub(crate) fn from_text(text: &str) -> Usage {
        let mut usage = Usage::default();
        for line in text.split_terminator('\n') {
            if usage.read_line(line).is_none() {
                usage.partial = true;
            }
        }
        usage
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let mut fields = line.splitn(8, ' ');
        let letter = fields.next()?;
        let (scope, _) = SCOPES.into_iter().find(|(_, l)| letter.chars().eq([*l]))?;
        let mut used = Use::default();
        for n in &mut used.by_kind {
            *n = fields.next()?.parse().ok()?;
        }
        used.outside = fields.next()?.parse().ok()?;
        let name = unescape(fields.next()?)?;
        *self.entry(scope, &name)? = used;
        Some(())
    }

    fn entry(&mut self, scope: AttributeScope, key: &str) -> Option<&mut Use> {
        let uses = &mut self.scopes[place(scope)?];
        // Looked up twice for a new name only: `entry` would need an owned key each time.
        if !uses.contains_key(key) {
            if self.names >= NAMES_MAX {
                self.partial = true;
                return None;
            }
            self.names += 1;
            uses.insert(key.into(), Use::default());
        }
        uses.get_mut(key)
    }
}

fn place(scope: AttributeScope) -> Option<usize> {
    SCOPES.iter().position(|(s, _)| *s == scope)
}

fn unescape(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                '\\' => '\\',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

/// Picks the columns for a block of `rows` rows, in the order in which they stand in the file.
pub(crate) fn choose(usage: &Usage, rows: u64) -> Vec<Dedicated> {
    let mut chosen: Vec<Dedicated> = Vec::new();
    for (scope, key, kind) in WELL_KNOWN {
        let used = usage.get(*scope, key);
        // `service_name` is always there: every query about a block looks at it.
        if *key == "service.name" || used.is_some_and(|u| u.by_kind[*kind as usize] > 0) {
            chosen.push(Dedicated {
                scope: *scope,
                key: (*key).to_owned(),
                kind: *kind,
            });
        }
    }
    let share = (rows as f64 * SHARE_MIN).max(1.0);
    for (scope, max) in [
        (AttributeScope::Resource, RESOURCE_COLUMNS_MAX),
        (AttributeScope::Span, SPAN_COLUMNS_MAX),
    ] {
        let mut often: Vec<(u64, &str, Kind)> = usage
            .iter()
            .filter(|(s, key, _)| *s == scope && key.len() <= COLUMN_NAME_BYTES_MAX)
            .filter(|(_, key, _)| !WELL_KNOWN.iter().any(|(s, k, _)| *s == scope && k == key))
            .filter_map(|(_, key, used)| {
                let kind = KINDS
                    .into_iter()
                    .max_by_key(|k| (used.by_kind[*k as usize], 4 - *k as usize))?;
                let n = used.by_kind[kind as usize];
                (n as f64 >= share).then_some((n, key, kind))
            })
            .collect();
        often.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        chosen.extend(often.into_iter().take(max).map(|(_, key, kind)| Dedicated {
            scope,
            key: key.to_owned(),
            kind,
        }));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(rows: &[(AttributeScope, &str, AttributeValue, u64)]) -> Usage {
        let mut usage = Usage::default();
        for (scope, key, value, n) in rows {
            usage.count(*scope, key, value, *n, true);
        }
        usage
    }

    #[test]
    fn well_known_attributes_and_those_used_most_get_columns_of_the_type_used_most() {
        use AttributeScope::{Resource, Span};
        let usage = usage(&[
            (Span, "http.status_code", 200.into(), 1),
            (Span, "http.method", 7.into(), 500),
            (Span, "cart.items", 3.into(), 30),
            (Span, "cart.items", "three".into(), 20),
            (Span, "rare", "x".into(), 19),
            (Span, "blob", AttributeValue::Bytes(vec![]), 900),
            (Resource, "team", "a".into(), 1000),
        ]);
        let columns: Vec<String> = choose(&usage, 1000)
            .iter()
            .map(|d| format!("{} {:?}", d.column(), d.kind))
            .collect();
        let want = [
            "service_name Str",
            "span.http.status_code Int",
            "resource.team Str",
            "span.cart.items Int",
        ];
        assert_eq!(columns, want);
    }

    #[test]
    fn an_account_survives_its_text() {
        use AttributeScope::{Event, Span};
        let mut odd = usage(&[
            (Span, "a b\\c\nd", "x".into(), 3),
            (Span, "", 1.into(), 1),
            (Event, "e", AttributeValue::Empty, 2),
        ]);
        assert_eq!(Usage::from_text(&odd.to_text()), odd);
        odd.partial = true;
        assert_eq!(Usage::from_text(&odd.to_text()), odd);
        assert!(!Usage::from_text("S 1 2\nQ 0 0 0 0 0 0 x\n").is_complete());
    }
}
