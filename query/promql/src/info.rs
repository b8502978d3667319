//! `info`: series get the labels of the info series that describe the same target at that time.
//!
//! An info series (by default of `target_info`) describes the target whose `instance` and `job` it has. Its other labels
//! are added, or those that the second argument names; labels that a series has already are left alone.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{LabelSet, METRIC_NAME, MatchOp, Matcher};
use query_exec::{Cells, Context, Grid, Matrix, Row};

use crate::functions::Function;
use crate::lex::Span;
use crate::plan::{Moment, Node, NodeWork, Select};
use crate::read::Wanted;
use crate::run::{Evaluated, Run, Value, WHERE, data, size};
use crate::syntax::Edges;

const TARGET_INFO: &str = "target_info";
/// By these labels a target is known.
const IDENTITY: [&str; 2] = ["instance", "job"];

/// What is asked of info series.
struct Asked {
    /// Of their names.
    names: Vec<Matcher>,
    /// Of their other labels.
    labels: Vec<Matcher>,
}

impl Asked {
    fn of(matchers: &[Matcher]) -> Evaluated<Asked> {
        let (mut names, labels): (Vec<Matcher>, Vec<Matcher>) =
            matchers.iter().cloned().partition(|m| m.name() == METRIC_NAME);
        let matcher = |op, value: &str| Matcher::new(METRIC_NAME, op, value).map_err(|e| data(e.to_string()));
        if names.is_empty() {
            names.push(matcher(MatchOp::Equal, TARGET_INFO)?);
        } else if !names.iter().any(|m| matches!(m.op(), MatchOp::Equal | MatchOp::Regex)) {
            names.push(matcher(MatchOp::Regex, ".+_info")?);
        }
        Ok(Asked { names, labels })
    }

    /// Whether a series is itself one that informs.
    fn informs(&self, labels: &LabelSet) -> bool {
        self.names.iter().all(|m| m.matches(labels.metric_name()))
    }

    fn wants(&self, label: &str) -> bool {
        label != METRIC_NAME && (self.labels.is_empty() || self.labels.iter().any(|m| m.name() == label))
    }

    /// Whether a series about which there is no information stays.
    fn keeps_unknown(&self) -> bool {
        self.labels.iter().all(|m| m.matches(""))
    }
}

impl Run<'_> {
    pub(crate) fn info(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        let [
            base,
            Node {
                work: NodeWork::Instant(select),
                ..
            },
        ] = args
        else {
            return Err(data(format!("{} takes a vector and label matchers", function.name)));
        };
        // Prometheus reads info series as far as the first selector reaches, with its `@` and offset, and then takes the
        // newest sample at each step, without them.
        let looked_at = select.shift;
        let asked = Asked::of(&select.matchers)?;
        let base_span = base.span;
        let base = self.vector(base, grid)?;
        let matchers: Arc<[Matcher]> = asked.names.iter().chain(&asked.labels).cloned().collect();
        let select = Select {
            matchers,
            edges: Edges::Plain,
            stats_only: false,
            shift: Moment::default(),
        };
        let infos = self.instant_among(&select, &looked_at, base_span, grid, Wanted::Time)?;
        let mut of_target: HashMap<LabelSet, Vec<&Row>> = HashMap::new();
        for row in &infos.rows {
            of_target.entry(row.labels.keep(&IDENTITY)).or_default().push(row);
        }
        let used = size(&base);
        let mut out = Matrix::empty(grid);
        for row in base.rows {
            self.context.check(WHERE)?;
            if asked.informs(&row.labels) {
                out.rows.push(row);
                continue;
            }
            let about = of_target
                .get(&row.labels.keep(&IDENTITY))
                .map_or(&[][..], Vec::as_slice);
            enrich(self.context, row, about, &asked, &mut out)?;
        }
        self.context.add_samples(size(&out))?;
        self.context.release_samples(used + size(&infos));
        out.merge_same_labels()?;
        Ok(Value::Vector(out))
    }
}

/// Puts a row into `out`, in as many rows as its labels change over the steps.
fn enrich(context: &Context, row: Row, about: &[&Row], asked: &Asked, out: &mut Matrix) -> Evaluated<()> {
    if about.is_empty() {
        if asked.keeps_unknown() {
            out.rows.push(row);
        }
        return Ok(());
    }
    let mut made: Vec<(Vec<usize>, Option<Row>)> = Vec::new();
    for (step, cell) in row.cells.cells() {
        context.check(WHERE)?;
        let current = current(about, step)?;
        let at = match made.iter().position(|(from, _)| *from == current) {
            Some(at) => at,
            None => {
                let labels = enriched(&row.labels, current.iter().map(|i| about[*i]), asked)?;
                let labels = match labels {
                    None if !asked.keeps_unknown() => None,
                    labels => Some(labels.unwrap_or_else(|| row.labels.clone())),
                };
                let made_row = labels.map(|labels| Row {
                    labels,
                    cells: Cells::absent(row.cells.len()),
                    drop_name: row.drop_name,
                });
                made.push((current, made_row));
                made.len() - 1
            }
        };
        if let Some(made) = &mut made[at].1 {
            made.cells.set_cell(step, cell);
        }
    }
    out.rows.extend(made.into_iter().filter_map(|(_, row)| row));
    Ok(())
}

/// Which info series hold at a step: of each metric the one with the newest sample.
fn current(about: &[&Row], step: usize) -> Evaluated<Vec<usize>> {
    let mut newest: Vec<(usize, f64)> = Vec::new();
    for (i, info) in about.iter().enumerate() {
        let Some(t) = info.cells.get(step) else { continue };
        let same = |other: &(usize, f64)| about[other.0].labels.metric_name() == info.labels.metric_name();
        match newest.iter_mut().find(|other| same(other)) {
            None => newest.push((i, t)),
            Some(other) if other.1 < t => *other = (i, t),
            Some(other) if other.1 == t => {
                let ms = (t * 1000.0).round() as i64;
                return Err(data(format!(
                    "found duplicate series for info metric: existing {} @ {ms}, new {} @ {ms}",
                    about[other.0].labels, info.labels
                )));
            }
            Some(_) => {}
        }
    }
    Ok(newest.into_iter().map(|(i, _)| i).collect())
}

/// The labels with those of the info series; `None` if these add nothing.
fn enriched<'a>(labels: &LabelSet, infos: impl Iterator<Item = &'a Row>, asked: &Asked) -> Evaluated<Option<LabelSet>> {
    let mut added: Vec<(&str, &str)> = Vec::new();
    for info in infos {
        for (name, value) in info.labels.iter().filter(|(name, _)| asked.wants(name)) {
            match added.iter().find(|(known, _)| *known == name) {
                Some((_, other)) if *other != value => return Err(data(format!("conflicting label: {name}"))),
                Some(_) => {}
                None if labels.get(name).is_some() => {}
                None => added.push((name, value)),
            }
        }
    }
    if added.is_empty() {
        return Ok(None);
    }
    let with = added
        .iter()
        .fold(labels.clone(), |labels, (name, value)| labels.with(name, value));
    Ok(Some(with))
}
