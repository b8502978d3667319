//! A pipeline that is ready to run: the stages of a log expression, compiled, and the state that a run reuses from line
//! to line.
//!
//! The stages before the first that looks at labels run on the bare line; only a line that survives them has its
//! structured metadata loaded and its fields parsed, and of those only what the query needs ([`Needed`]).

use std::ops::Range;

use model::{LabelSet, TimestampNs};
use regex::{CaptureLocations, Regex};
use storage_logs::Entries;

use crate::labels::{ERROR, ERROR_DETAILS, Field, Labels, Needed, Origin, PRESERVE_ERROR, unsuffixed};
use crate::stage::decolorize::decolorize;
use crate::stage::json::{self, Next, PathStep};
use crate::stage::label_filter::LabelTest;
use crate::stage::line_filter::LineTest;
use crate::stage::logfmt::{Pair, Pairs, Value};
use crate::stage::pattern::Pattern;
use crate::syntax::{Conversion, Expr, Extraction, FormatFrom, LogExpr, Pick, Stage, Unwrap, rule};
use crate::template::{Scope, Template};
use crate::{ParseError, regexp, units};

const JSON_ERROR: &str = "JSONParserErr";
const LOGFMT_ERROR: &str = "LogfmtParserErr";
const TEMPLATE_ERROR: &str = "TemplateFormatErr";
const SAMPLE_ERROR: &str = "SampleExtractionErr";

/// Compiled stages, and what of an entry they are to find.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    steps: Vec<Step>,
    /// How many of the first steps filter the line as it is stored.
    filters: usize,
    /// How many of the first steps look at the line alone.
    bare: usize,
    needed: Needed,
    pretest: Option<Pretest>,
    unwrap: Option<Unwrapped>,
}

/// Where every label is needed in the end, entries are first tried on the labels that the filters behind the parsers look
/// at; only those that pass, or whose line has a fault, are parsed in full.
#[derive(Clone, Debug)]
struct Pretest {
    /// How many of the first steps it takes: filters and parsers, the last of them a filter on labels.
    steps: usize,
    needed: Needed,
}

/// Entries of a stream that are pretested whatever comes out; then most must fail for it to be worth while.
const PRETESTS_MIN: u32 = 64;

#[derive(Clone, Debug)]
enum Step {
    Line(LineTest),
    Json,
    JsonPaths(Vec<(String, Vec<PathStep>)>),
    Logfmt { strict: bool, keep_empty: bool },
    LogfmtKeys { strict: bool, keys: Vec<(String, String)> },
    Regexp(Regex, Vec<(usize, String)>),
    Pattern(Pattern),
    Unpack,
    Labels(LabelTest),
    LineFormat(Template),
    LabelFormat(Vec<(String, Format)>),
    Decolorize,
    Drop(Vec<Pick>),
    Keep(Vec<Pick>),
}

#[derive(Clone, Debug)]
enum Format {
    Rename(String),
    Template(Template),
}

#[derive(Clone, Debug)]
struct Unwrapped {
    label: String,
    conversion: Conversion,
    filters: Vec<LabelTest>,
}

/// Buffers that one run of a pipeline reuses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    pub labels: Labels,
    /// The line as stages have rewritten it.
    line: String,
    rewritten: bool,
    spare: String,
    frozen: Vec<Field>,
    prefix: String,
    captures: Option<CaptureLocations>,
    pretests: Pretests,
}

/// How pretests of a stream's entries went.
#[derive(Clone, Copy, Debug, Default)]
struct Pretests {
    done: u32,
    failed: u32,
}

impl Pretests {
    fn pay_off(&self) -> bool {
        self.done < PRETESTS_MIN || self.failed >= self.done / 2
    }

    fn add(&mut self, failed: bool) {
        self.done += 1;
        self.failed += u32::from(failed);
    }
}

impl Pretest {
    fn of(steps: &[Step]) -> Option<Pretest> {
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

impl Scratch {
    /// Begins a stream.
    pub fn begin_stream(&mut self, labels: &LabelSet) {
        self.labels.begin_stream(labels.iter());
        self.pretests = Pretests::default();
    }

    /// The line after the pipeline; `original` is what went in.
    pub fn line<'a>(&'a self, original: &'a str) -> &'a str {
        if self.rewritten { &self.line } else { original }
    }
}

impl Pipeline {
    /// Compiles the stages. The error is what Loki answers with 400.
    pub fn new(log: &LogExpr, unwrap: Option<&Unwrap>) -> Result<Pipeline, ParseError> {
        let mut steps = Vec::new();
        for stage in &log.stages {
            let step = compile(stage).map_err(rule)?;
            if !matches!(&step, Step::Line(test) if test.is_idle()) {
                steps.push(step);
            }
        }
        let filters = steps.iter().take_while(|s| matches!(s, Step::Line(_))).count();
        let bare = steps
            .iter()
            .take_while(|s| matches!(s, Step::Line(_) | Step::Decolorize))
            .count();
        let pretest = Pretest::of(&steps);
        let unwrap = match unwrap {
            None => None,
            Some(u) => Some(Unwrapped {
                label: u.label.clone(),
                conversion: u.conversion,
                filters: u
                    .filters
                    .iter()
                    .map(LabelTest::new)
                    .collect::<Result<_, _>>()
                    .map_err(rule)?,
            }),
        };
        Ok(Pipeline {
            steps,
            filters,
            bare,
            needed: Needed::all(),
            pretest,
            unwrap,
        })
    }

    /// For a metric query that keeps only the labels named: fields that neither they nor a stage ask for stay unparsed.
    pub fn keep_only(&mut self, names: &[String]) {
        let mut needed = names.to_vec();
        for step in &self.steps {
            match step {
                Step::Labels(test) => test.names(&mut needed),
                Step::LineFormat(template) => template.for_each_label(&mut |n| needed.push(n.to_owned())),
                Step::LabelFormat(items) => {
                    for (_, format) in items {
                        match format {
                            Format::Rename(from) => needed.push(from.clone()),
                            Format::Template(t) => t.for_each_label(&mut |n| needed.push(n.to_owned())),
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(unwrap) = &self.unwrap {
            needed.push(unwrap.label.clone());
            unwrap.filters.iter().for_each(|f| f.names(&mut needed));
        }
        self.needed = Needed::only(needed, false);
        self.pretest = None;
    }

    /// Whether an entry with these labels makes a metric query fail. What a parser could not read does not if the query
    /// groups by the error or asks for it.
    pub fn fails(&self, labels: &Labels) -> bool {
        let is_asked_for = || {
            self.needed
                .names()
                .is_some_and(|names| names.iter().any(|n| n == ERROR))
        };
        match labels.error() {
            "" => false,
            JSON_ERROR | LOGFMT_ERROR => !is_asked_for(),
            _ => true,
        }
    }

    /// Names of the metadata that can matter; `None`: all may.
    pub fn metadata_names(&self) -> Option<Vec<String>> {
        let needed = self.needed.names()?;
        let formats = |s: &Step| matches!(s, Step::LineFormat(_) | Step::LabelFormat(_));
        if self.steps.iter().any(formats) {
            return None;
        }
        let mut names = vec![ERROR.to_owned(), ERROR_DETAILS.to_owned()];
        // What is called `x_extracted` in the end may be the metadata `x`, or be called so because of it.
        names.extend(needed.iter().flat_map(|n| unsuffixed(n)).map(str::to_owned));
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// Whether there are stages at all.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether nothing but filters on the stored line decides, and nothing changes.
    pub fn only_filters(&self) -> bool {
        self.filters == self.steps.len()
    }

    /// Which entries of `range` pass the filters that come first, rising; `None`: all. [`Pipeline::run_filtered`] does the
    /// rest.
    pub fn filter(&self, entries: &Entries, range: Range<usize>) -> Option<Vec<u32>> {
        let mut picked = None;
        for step in &self.steps[..self.filters] {
            if let Step::Line(test) = step {
                test.sift(entries, range.clone(), &mut picked);
            }
        }
        picked
    }

    /// Runs the stages on a line of the stream that `scratch` has begun. Says whether the entry survives.
    pub fn run<'m>(
        &self,
        line: &str,
        at: TimestampNs,
        now: TimestampNs,
        metadata: impl Iterator<Item = (&'m str, &'m str)>,
        scratch: &mut Scratch,
    ) -> bool {
        self.run_steps(0, line, at, now, metadata, scratch)
    }

    /// Runs the stages after those of [`Pipeline::filter`].
    pub fn run_filtered<'m>(
        &self,
        line: &str,
        at: TimestampNs,
        now: TimestampNs,
        metadata: impl Iterator<Item = (&'m str, &'m str)>,
        scratch: &mut Scratch,
    ) -> bool {
        self.run_steps(self.filters, line, at, now, metadata, scratch)
    }

    fn run_steps<'m>(
        &self,
        first: usize,
        line: &str,
        at: TimestampNs,
        now: TimestampNs,
        metadata: impl Iterator<Item = (&'m str, &'m str)>,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.rewritten = false;
        for step in &self.steps[first..self.bare] {
            match step {
                Step::Line(test) => {
                    if !test.passes(scratch.line(line)) {
                        return false;
                    }
                }
                _ => rewrite(scratch, line, |line, _, out| decolorize(line, out)),
            }
        }
        scratch.labels.next_line();
        for (name, value) in metadata {
            scratch.labels.add_metadata(name, value);
        }
        let clean = scratch.labels.error().is_empty() && scratch.labels.details().is_empty();
        let pays_off = clean && scratch.pretests.pay_off();
        if let Some(pretest) = self.pretest.as_ref().filter(|_| pays_off) {
            scratch.labels.mark();
            let steps = &self.steps[self.bare..pretest.steps];
            let passes = steps
                .iter()
                .all(|step| self.step(step, line, at, now, &pretest.needed, scratch));
            let fails = !passes && scratch.labels.error().is_empty();
            scratch.pretests.add(fails);
            if fails {
                return false;
            }
            scratch.labels.back_to_mark();
        }
        self.steps[self.bare..]
            .iter()
            .all(|step| self.step(step, line, at, now, &self.needed, scratch))
    }

    fn step(
        &self,
        step: &Step,
        line: &str,
        at: TimestampNs,
        now: TimestampNs,
        needed: &Needed,
        scratch: &mut Scratch,
    ) -> bool {
        match step {
            Step::Line(test) => return test.passes(scratch.line(line)),
            Step::Labels(test) => return test.passes(&mut scratch.labels),
            Step::Decolorize => rewrite(scratch, line, |line, _, out| decolorize(line, out)),
            Step::Drop(picks) => picks.iter().for_each(|pick| drop_label(pick, &mut scratch.labels)),
            Step::Keep(picks) => scratch.labels.retain(|name, value| {
                name == PRESERVE_ERROR
                    || picks.iter().any(|pick| match pick {
                        Pick::Name(n) => n == name,
                        Pick::Matching(m) => m.name() == name && m.matches(value),
                    })
            }),
            Step::LineFormat(template) => {
                let mut result = Ok(());
                rewrite(scratch, line, |line, labels, out| {
                    let scope = Scope {
                        labels,
                        frozen: None,
                        line,
                        at,
                        now,
                    };
                    result = template.run(&scope, out);
                    if result.is_err() {
                        out.clear();
                        out.push_str(line);
                    }
                });
                if let Err(what) = result {
                    scratch.labels.set_error(TEMPLATE_ERROR, &what);
                }
            }
            Step::LabelFormat(items) => self.label_format(items, line, at, now, scratch),
            Step::Unpack if needed.nothing() => {}
            Step::Unpack => unpack(scratch, line, needed),
            parser => {
                if !needed.nothing() {
                    let Scratch {
                        labels,
                        line: own,
                        rewritten,
                        prefix,
                        captures,
                        ..
                    } = scratch;
                    let line = if *rewritten { own.as_str() } else { line };
                    parse(parser, line, labels, needed, prefix, captures);
                }
            }
        }
        true
    }

    fn label_format(
        &self,
        items: &[(String, Format)],
        line: &str,
        at: TimestampNs,
        now: TimestampNs,
        scratch: &mut Scratch,
    ) {
        let mut frozen = false;
        for (name, format) in items {
            match format {
                Format::Rename(from) => scratch.labels.rename(from, name),
                Format::Template(template) => {
                    // Every template of the stage sees what the first one saw.
                    if !frozen {
                        scratch.labels.freeze(&mut scratch.frozen);
                        frozen = true;
                    }
                    scratch.spare.clear();
                    let scope = Scope {
                        labels: &scratch.labels,
                        frozen: Some(&scratch.frozen),
                        line: if scratch.rewritten { &scratch.line } else { line },
                        at,
                        now,
                    };
                    match template.run(&scope, &mut scratch.spare) {
                        Ok(()) => scratch.labels.set(name, &scratch.spare),
                        Err(what) => scratch.labels.set_error(TEMPLATE_ERROR, &what),
                    }
                }
            }
        }
    }

    /// The sample that `unwrap` makes of an entry that survived; `None`: there is none. May set an error, with 0 as value.
    pub fn sample(&self, labels: &mut Labels) -> Option<f64> {
        let unwrap = self.unwrap.as_ref()?;
        let text = labels.get_label(&unwrap.label).filter(|text| !text.is_empty())?;
        let value = match unwrap.conversion {
            Conversion::Float => units::go_float(text),
            Conversion::Bytes => units::value_bytes(text).map(|n| n as f64),
            Conversion::Duration | Conversion::DurationSeconds => units::go_duration(text).map(|ns| ns as f64 / 1e9),
        };
        let value = value.unwrap_or_else(|details| {
            labels.set_error(SAMPLE_ERROR, &details);
            0.0
        });
        unwrap
            .filters
            .iter()
            .all(|filter| filter.passes(labels))
            .then_some(value)
    }

    /// The label that `unwrap` reads.
    pub fn unwrapped(&self) -> Option<&str> {
        self.unwrap.as_ref().map(|u| u.label.as_str())
    }
}

/// Gives the line to `edit`, which writes another into a buffer.
fn rewrite(scratch: &mut Scratch, line: &str, edit: impl FnOnce(&str, &Labels, &mut String)) {
    scratch.spare.clear();
    let current = if scratch.rewritten { &scratch.line } else { line };
    edit(current, &scratch.labels, &mut scratch.spare);
    std::mem::swap(&mut scratch.line, &mut scratch.spare);
    scratch.rewritten = true;
}

fn drop_label(pick: &Pick, labels: &mut Labels) {
    let matches = match pick {
        Pick::Name(_) => true,
        Pick::Matching(m) => labels.get(m.name()).is_some_and(|value| m.matches(value)),
    };
    if matches {
        labels.remove(pick.name());
        // The details belong to the error.
        if pick.name() == ERROR && matches!(pick, Pick::Name(_)) {
            labels.remove(ERROR_DETAILS);
        }
    }
}

fn parse(
    step: &Step,
    line: &str,
    labels: &mut Labels,
    needed: &Needed,
    prefix: &mut String,
    captures: &mut Option<CaptureLocations>,
) {
    match step {
        Step::Json => {
            let mut keys = String::new();
            let result = json::walk(line, needed, |path, value| {
                if matches!(value, json::Value::Null | json::Value::Array(_)) {
                    return Next::Go;
                }
                let Some((last, parents)) = path.split_last() else {
                    return Next::Go;
                };
                prefix.clear();
                for parent in parents {
                    let before = prefix.len();
                    keys.clear();
                    json::unescape(parent, &mut keys);
                    crate::labels::sanitise(&keys, prefix.is_empty(), prefix);
                    if prefix.len() > before {
                        prefix.push('_');
                    }
                }
                keys.clear();
                json::unescape(last, &mut keys);
                if let Some(slot) = labels.open(prefix, &keys, needed) {
                    value.write(labels.value());
                    labels.commit(slot);
                    if labels.has_all(needed) {
                        return Next::Stop;
                    }
                }
                Next::Go
            });
            if let Err(what) = result {
                labels.set_error(JSON_ERROR, what);
            }
        }
        Step::JsonPaths(paths) => {
            if line.is_empty() {
                return;
            }
            if !line.starts_with(['"', '{', '[']) {
                labels.set_error(JSON_ERROR, "");
                return;
            }
            for (name, path) in paths {
                match json::look_up(line, path) {
                    Ok(value) => {
                        if let Some(slot) = labels.open("", name, needed) {
                            if let Some(value) = value {
                                value.write(labels.value());
                            }
                            labels.commit(slot);
                        }
                    }
                    Err(what) => {
                        // Only what goes wrong within a member is an error; what has no members lacks the field.
                        if line[1..].trim_start().starts_with('"') {
                            labels.set_error(JSON_ERROR, what);
                        }
                        if let Some(slot) = labels.open("", name, needed) {
                            labels.commit(slot);
                        }
                    }
                }
            }
        }
        Step::Logfmt { strict, keep_empty } => {
            for pair in Pairs::new(line) {
                let (key, value) = match pair {
                    Pair::Pair(key, value) => (key, value),
                    Pair::Bad(what) if *strict => {
                        labels.set_error(LOGFMT_ERROR, &what);
                        return;
                    }
                    Pair::Bad(_) => continue,
                };
                let empty = value.as_ref().is_none_or(Value::is_empty);
                if empty && !keep_empty {
                    continue;
                }
                if !needed.may_end_with(key) {
                    continue;
                }
                if let Some(slot) = labels.open("", key, needed) {
                    if let Some(value) = value {
                        value.write(labels.value());
                    }
                    labels.commit(slot);
                    if labels.has_all(needed) {
                        return;
                    }
                }
            }
        }
        Step::LogfmtKeys { strict, keys } => {
            for pair in Pairs::new(line) {
                let (key, value) = match pair {
                    Pair::Pair(key, value) => (key, value),
                    Pair::Bad(what) if *strict => {
                        labels.set_error(LOGFMT_ERROR, &what);
                        break;
                    }
                    Pair::Bad(_) => continue,
                };
                for (name, _) in keys.iter().filter(|(_, wanted)| wanted == key) {
                    if let Some(slot) = labels.open("", name, needed) {
                        if let Some(value) = &value {
                            value.write(labels.value());
                        }
                        labels.commit(slot);
                    }
                }
            }
            // What is missing is there, empty.
            for (name, _) in keys {
                if let Some(slot) = labels.open("", name, needed) {
                    labels.commit(slot);
                }
            }
        }
        Step::Regexp(regex, names) => {
            let locations = captures.get_or_insert_with(|| regex.capture_locations());
            if locations.len() != regex.captures_len() {
                *locations = regex.capture_locations();
            }
            if regex.captures_read(locations, line).is_some() {
                for (group, name) in names {
                    let value = locations.get(*group).map_or("", |(from, to)| &line[from..to]);
                    labels.extract(name, value, needed);
                }
            }
        }
        Step::Pattern(pattern) => pattern.captures(line, |name, value| {
            labels.extract(name, value, needed);
        }),
        _ => {}
    }
}

/// The object that a shipper packed: text members become labels, `_entry` the line.
fn unpack(scratch: &mut Scratch, line: &str, needed: &Needed) {
    let Scratch {
        labels,
        line: own,
        rewritten,
        spare,
        prefix,
        ..
    } = scratch;
    let current = if *rewritten { own.as_str() } else { line };
    if current.is_empty() {
        return;
    }
    if !current.starts_with('{') {
        labels.set_error(JSON_ERROR, "expecting json object(6), but it is not");
        return;
    }
    spare.clear();
    let mut entry = None;
    let result = json::members(current, |key, value| {
        if let (json::Value::Text(inside), "_entry") = (value, key) {
            entry = Some(inside);
        }
        Next::Go
    });
    if let Err(what) = result {
        labels.set_error(JSON_ERROR, what);
        return;
    }
    // Without the packed line it is some other object.
    let Some(entry) = entry else { return };
    if !needed.nothing() {
        let _ = json::members(current, |key, value| {
            if let json::Value::Text(_) = value
                && key != "_entry"
            {
                prefix.clear();
                json::unescape(key, prefix);
                if let Some(slot) = labels.open("", prefix, needed) {
                    value.write(labels.value());
                    labels.commit(slot);
                }
            }
            Next::Go
        });
    }
    json::unescape(entry, spare);
    std::mem::swap(own, spare);
    *rewritten = true;
}

/// Checks what Loki checks while it reads a query, before any of it is planned: `regexp` and `pattern` stages.
pub(crate) fn check_captures(expr: &Expr) -> Result<(), ParseError> {
    let mut stages: Vec<&Stage> = Vec::new();
    match expr {
        Expr::Log(log) => stages.extend(&log.stages),
        Expr::Metric(metric) => metric.for_each_range(&mut |range| stages.extend(&range.log.stages)),
    }
    let mut captures = stages
        .into_iter()
        .filter(|s| matches!(s, Stage::Regexp(_) | Stage::Pattern(_)));
    captures.try_for_each(|stage| compile(stage).map(|_| ()).map_err(rule))
}

fn compile(stage: &Stage) -> Result<Step, String> {
    Ok(match stage {
        Stage::LineFilter(filter) => Step::Line(LineTest::new(filter)?),
        Stage::Json(extractions) if extractions.is_empty() => Step::Json,
        Stage::Json(extractions) => Step::JsonPaths(
            extractions
                .iter()
                .map(|Extraction { name, path }| match json::parse_path(path) {
                    Ok(steps) => Ok((name.clone(), steps)),
                    Err(what) => Err(format!("cannot parse expression [{path}]: {what}")),
                })
                .collect::<Result<_, _>>()?,
        ),
        Stage::Logfmt {
            strict,
            keep_empty,
            extractions,
        } if extractions.is_empty() => Step::Logfmt {
            strict: *strict,
            keep_empty: *keep_empty,
        },
        Stage::Logfmt {
            strict, extractions, ..
        } => Step::LogfmtKeys {
            strict: *strict,
            keys: extractions
                .iter()
                .map(|Extraction { name, path }| match logfmt_key(path) {
                    Ok(()) => Ok((name.clone(), path.clone())),
                    Err(what) => Err(format!("cannot parse expression [{path}]: {what}")),
                })
                .collect::<Result<_, _>>()?,
        },
        Stage::Regexp(pattern) => {
            let regex = regexp::compile(pattern).map_err(|e| format!("invalid regexp parser: {}", duplicate(e)))?;
            let mut names = Vec::new();
            for (group, name) in regex.capture_names().enumerate() {
                let Some(name) = name else { continue };
                if !is_label_name(name) {
                    return Err(format!("invalid regexp parser: invalid extracted label name '{name}'"));
                }
                names.push((group, name.to_owned()));
            }
            if names.is_empty() {
                return Err("invalid regexp parser: at least one named capture must be supplied".into());
            }
            Step::Regexp(regex, names)
        }
        Stage::Pattern(text) => {
            Step::Pattern(Pattern::for_parser(text).map_err(|e| format!("invalid pattern parser: {e}"))?)
        }
        Stage::Unpack => Step::Unpack,
        Stage::LabelFilter(filter) => Step::Labels(LabelTest::new(filter)?),
        Stage::LineFormat(text) => {
            Step::LineFormat(Template::parse("line", text).map_err(|e| format!("invalid line template: {e}"))?)
        }
        Stage::LabelFormat(items) => Step::LabelFormat(
            items
                .iter()
                .map(|item| {
                    let format = match &item.from {
                        FormatFrom::Label(from) => Format::Rename(from.clone()),
                        FormatFrom::Template(text) => {
                            let template = Template::parse("label", text);
                            Format::Template(
                                template.map_err(|e| format!("invalid template for label '{}': {e}", item.name))?,
                            )
                        }
                    };
                    Ok((item.name.clone(), format))
                })
                .collect::<Result<_, String>>()?,
        ),
        Stage::Decolorize => Step::Decolorize,
        Stage::Drop(picks) => Step::Drop(picks.clone()),
        Stage::Keep(picks) => Step::Keep(picks.clone()),
    })
}

fn duplicate(message: String) -> String {
    match message.split_once("duplicate capture group name: `") {
        Some((_, name)) => format!("duplicate extracted label name '{}'", name.trim_end_matches('`')),
        None => message,
    }
}

fn is_label_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.is_empty()
}

/// A key of `logfmt` may hold what a logfmt key may hold; a space ends it.
fn logfmt_key(path: &str) -> Result<(), String> {
    match path
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "_.-/ ".contains(*c)))
    {
        Some(c) => Err(format!("unexpected char {c}")),
        None if path.contains(' ') => Err("syntax error: unexpected KEY".into()),
        None => Ok(()),
    }
}

/// What is left of the labels after a pipeline, by where a client expects it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sorted {
    pub stream: Vec<(String, String)>,
    pub metadata: Vec<(String, String)>,
    pub parsed: Vec<(String, String)>,
}

impl Sorted {
    /// Errors count as parsed.
    pub fn of(labels: &Labels) -> Sorted {
        let mut out = Sorted::default();
        for (name, value, origin) in labels.iter() {
            let pair = (name.to_owned(), value.to_owned());
            match origin {
                Origin::Stream => out.stream.push(pair),
                Origin::Metadata => out.metadata.push(pair),
                Origin::Parsed => out.parsed.push(pair),
            }
        }
        for (name, value) in [(ERROR, labels.error()), (ERROR_DETAILS, labels.details())] {
            if !value.is_empty() {
                out.parsed.push((name.to_owned(), value.to_owned()));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Expr;
    use proptest::prelude::*;

    fn pipeline(query: &str) -> Pipeline {
        match crate::syntax::parse(query) {
            Ok(Expr::Log(log)) => Pipeline::new(&log, None).unwrap(),
            other => panic!("{query}: {other:?}"),
        }
    }

    /// What is left of a line of a stream with metadata: whether it survives, the line and the labels.
    fn outcome(pipeline: &Pipeline, line: &str, scratch: &mut Scratch) -> Option<(String, Sorted)> {
        let (t, metadata) = (TimestampNs(1), [("m", "1"), ("k", "x")]);
        let survives = pipeline.run(line, t, t, metadata.into_iter(), scratch);
        survives.then(|| (scratch.line(line).to_owned(), Sorted::of(&scratch.labels)))
    }

    /// Lines that are nearly JSON or logfmt, with names that collide, nest, need cleaning or are escaped.
    fn lines() -> impl Strategy<Value = Vec<String>> {
        let key = r#"[akm]|s|a-b|a_b| a|a |\\u0061|k_extracted|__error__|é|"#;
        let value = r#"[0-9]{1,3}|"[xyé\\\\]{0,3}"|"\\\\u0078"|null|true|\[1\]|oops|\{"a":1\}|\{"b":\{"k":"x"\}\}"#;
        let member = (key, value).prop_map(|(k, v)| format!("\"{k}\":{v}"));
        let json = (proptest::collection::vec(member, 0..6), "\\}|\\}|\\}|,|").prop_map(|(m, end)| {
            let members = m.join(",");
            format!("{{{members}{end}")
        });
        let pair = (key, r#"=|="[x ]{0,2}"|=[xy0-9]{1,2}|"#).prop_map(|(k, v)| k + &v);
        let logfmt = proptest::collection::vec(pair, 0..6).prop_map(|pairs| pairs.join(" "));
        proptest::collection::vec(prop_oneof![3 => json, 2 => logfmt], 1..12)
    }

    proptest! {
        /// Trying entries on some labels first must not change which survive, nor what is left of them.
        #[test]
        fn pretests_do_not_change_the_outcome(lines in lines()) {
            for query in [
                r#"{s="1"} | json | a > 5"#,
                r#"{s="1"} | json | k="x" or a="1" | m="1""#,
                r#"{s="1"} | json | a_b="x" | logfmt | k!="x""#,
                r#"{s="1"} | json | k_extracted="x" | b_k="x""#,
                r#"{s="1"} | logfmt --strict | s_extracted!="" | label_format z=a | z="1""#,
                r#"{s="1"} | json | __error__="" | a_b_k!="x""#,
                r#"{s="1"} | json x="a" | logfmt y="k" | x > 1 or y="x""#,
            ] {
                let with = pipeline(query);
                prop_assert!(with.pretest.is_some(), "{}", query);
                let without = Pipeline { pretest: None, ..with.clone() };
                let stream = LabelSet::from_pairs([("s", "1"), ("a_extracted", "2")]);
                let (mut a, mut b) = (Scratch::default(), Scratch::default());
                a.begin_stream(&stream);
                b.begin_stream(&stream);
                for line in &lines {
                    prop_assert_eq!(outcome(&with, line, &mut a), outcome(&without, line, &mut b), "{} {}", query, line);
                }
            }
        }

        /// Labels that are asked for must be the same whether others are parsed or not.
        #[test]
        fn what_is_needed_is_found(lines in lines(), names in proptest::collection::vec("[akms]|a_b|a_b_k|_a|k_extracted|m_extracted|s_extracted", 1..4)) {
            for query in [r#"{s="1"} | json"#, r#"{s="1"} | logfmt"#, r#"{s="1"} | json | logfmt"#] {
                let all = pipeline(query);
                let some = Pipeline { needed: Needed::only(names.clone(), true), ..all.clone() };
                let stream = LabelSet::from_pairs([("s", "1")]);
                let (mut a, mut b) = (Scratch::default(), Scratch::default());
                a.begin_stream(&stream);
                b.begin_stream(&stream);
                for line in &lines {
                    outcome(&all, line, &mut a);
                    outcome(&some, line, &mut b);
                    for name in &names {
                        prop_assert_eq!(a.labels.get(name), b.labels.get(name), "{} {} {}", query, line, name);
                    }
                    prop_assert_eq!(a.labels.error(), b.labels.error(), "{} {}", query, line);
                }
            }
        }
    }
}
