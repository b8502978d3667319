//! Which fields do log lines hold? A sample of lines is parsed as JSON, and what is none as logfmt.

use std::collections::{BTreeMap, HashSet};

use model::{LabelSet, Matcher, TimeRangeNs, TimestampNs};
use query_exec::Context;
use storage_logs::Logs;

use crate::labels::{Needed, sanitise};
use crate::pipeline::{Pipeline, Scratch, Sorted};
use crate::plan::Plan;
use crate::regexp::Regexes;
use crate::stage::json::{self, Next};
use crate::syntax::{LogExpr, Stage};
use crate::{DetectedField, Direction, EvalError, Line, Options, Query, log, units};

/// What is known of a field.
struct Field {
    kind: &'static str,
    seen: HashSet<String>,
    values: Vec<String>,
    parsers: Vec<&'static str>,
    json_path: Vec<String>,
}

pub(crate) fn detected_fields(
    context: &Context,
    logs: &Logs,
    query: &Query,
    range: TimeRangeNs,
    line_limit: usize,
    limit: usize,
) -> Result<Vec<DetectedField>, EvalError> {
    let Plan::Log(plan) = query.plan() else {
        return Err(EvalError::Pipeline("fields are detected in log queries only".into()));
    };
    let options = Options {
        limit: line_limit,
        direction: Direction::Backward,
    };
    let (streams, _) = log::select(context, logs, plan, range, options, None)?;
    let parsers = Parsers::new()?;
    let mut fields = BTreeMap::new();
    let mut scratch = Scratch::default();
    for stream in &streams {
        for line in &stream.lines {
            context.check("field detection")?;
            look(&stream.labels, line, &parsers, &mut scratch, &mut fields, limit);
        }
    }
    Ok(fields
        .into_iter()
        .take(limit)
        .map(|(label, field): (String, Field)| DetectedField {
            label,
            kind: field.kind,
            cardinality: field.seen.len() as u64,
            parsers: field.parsers,
            values: field.values,
            json_path: field.json_path,
        })
        .collect())
}

struct Parsers {
    json: Pipeline,
    logfmt: Pipeline,
}

impl Parsers {
    fn new() -> Result<Parsers, EvalError> {
        let of = |stage| {
            let log = LogExpr {
                matchers: Vec::<Matcher>::new(),
                stages: vec![stage],
            };
            Pipeline::new(&log, None, &Regexes::default())
        };
        Ok(Parsers {
            json: of(Stage::Json(Vec::new()))?,
            logfmt: of(Stage::Logfmt {
                strict: false,
                keep_empty: false,
                extractions: Vec::new(),
            })?,
        })
    }
}

fn look(
    stream: &LabelSet,
    line: &Line,
    parsers: &Parsers,
    scratch: &mut Scratch,
    fields: &mut BTreeMap<String, Field>,
    values_max: usize,
) {
    let mut note = |name: &str, value: &str, parser: Option<&'static str>, path: Option<&Vec<String>>| {
        if name.starts_with("__") {
            return;
        }
        let field = fields.entry(name.to_owned()).or_insert_with(|| Field {
            kind: kind_of(value),
            seen: HashSet::new(),
            values: Vec::new(),
            parsers: Vec::new(),
            json_path: Vec::new(),
        });
        if let Some(parser) = parser
            && !field.parsers.contains(&parser)
        {
            field.parsers.push(parser);
        }
        if let Some(path) = path
            && field.json_path.is_empty()
        {
            field.json_path.clone_from(path);
        }
        if !field.seen.contains(value) {
            field.seen.insert(value.to_owned());
            if field.values.len() < values_max {
                field.values.push(if parser.is_some() {
                    readable(value)
                } else {
                    value.to_owned()
                });
            }
        }
    };
    for (name, value) in &line.entry.metadata {
        note(name, value, None, None);
    }
    let text = &line.entry.line;
    let t = line.entry.t;
    let mut parse = |pipeline: &Pipeline| {
        scratch.begin_stream(stream);
        // Loki parses without the metadata, so a field is one with metadata of its name.
        pipeline.run(text, t, t, std::iter::empty(), scratch);
        let clean = scratch.labels.error().is_empty();
        clean.then(|| Sorted::of(&scratch.labels).parsed)
    };
    let (parser, found, paths) = match parse(&parsers.json) {
        Some(found) => ("json", found, json_paths(text)),
        None => match parse(&parsers.logfmt) {
            Some(found) => ("logfmt", found, BTreeMap::new()),
            None => ("", Vec::new(), BTreeMap::new()),
        },
    };
    let parser = (!parser.is_empty()).then_some(parser);
    for (name, value) in found.iter().chain(&line.parsed) {
        let path = paths
            .get(name)
            .or_else(|| paths.get(name.trim_end_matches("_extracted")));
        note(name, value, parser, path);
    }
}

/// The path of each field of a JSON line, by its label.
fn json_paths(line: &str) -> BTreeMap<String, Vec<String>> {
    let mut paths = BTreeMap::new();
    let _ = json::walk(line, &Needed::all(), |path, _| {
        let mut label = String::new();
        let mut segments = Vec::new();
        for (i, raw) in path.iter().enumerate() {
            let mut segment = String::new();
            json::unescape(raw, &mut segment);
            if i > 0 && !label.is_empty() {
                label.push('_');
            }
            let leads = label.is_empty();
            sanitise(&segment, leads, &mut label);
            segments.push(segment);
        }
        paths.entry(label).or_insert(segments);
        Next::Go
    });
    paths
}

fn kind_of(value: &str) -> &'static str {
    if value.parse::<i64>().is_ok() {
        "int"
    } else if units::go_float(value).is_ok() {
        "float"
    } else if matches!(
        value,
        "t" | "T" | "TRUE" | "true" | "True" | "f" | "F" | "FALSE" | "false" | "False"
    ) {
        "boolean"
    } else if units::go_duration(value).is_ok() {
        "duration"
    } else if units::value_bytes(value).is_ok() {
        "bytes"
    } else {
        "string"
    }
}

/// Byte sizes with a unit in a spelling that filters read.
fn readable(value: &str) -> String {
    match units::value_bytes(value) {
        Ok(bytes) if value.ends_with(|c: char| c.is_ascii_alphabetic()) => units::print_bytes(bytes),
        _ => value.to_owned(),
    }
}

/// The range of a query as storage takes it.
pub(crate) fn range_of(start: TimestampNs, end: TimestampNs) -> TimeRangeNs {
    TimeRangeNs { start, end }
}
