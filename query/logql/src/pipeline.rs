//! A pipeline that is ready to run: the stages of a log expression, compiled, and the state that a run reuses from line
//! to line.
//!
//! The stages before the first that looks at labels run on the bare line; only a line that survives them has its
//! structured metadata loaded and its fields parsed, and of those only what the query needs ([`Needed`]).

mod compile;
mod extract;
mod prefilter;
mod pretest;
mod sorted;

use std::ops::Range;
use std::sync::Arc;

use model::{Captures, LabelSet, Regex, TimestampNs};
use storage_logs::Entries;

use crate::ParseError;
use crate::labels::{ERROR, ERROR_DETAILS, Field, Labels, Needed, PRESERVE_ERROR, unsuffixed};
use crate::regexp::{Regexes, TemplateRegexes};
use crate::stage::decolorize::decolorize;
use crate::stage::json::PathStep;
use crate::stage::label_filter::LabelTest;
use crate::stage::line_filter::LineTest;
use crate::stage::pattern::Pattern;
use crate::syntax::{Conversion, LogExpr, Pick, Unwrap, rule};
use crate::template::{Scope, Template};
use crate::units;

use extract::{parse, unpack};
use prefilter::Prefilter;
use pretest::{Pretest, Pretests};

pub(crate) use compile::check_captures;
pub(crate) use sorted::Sorted;

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
    prefilters: Vec<Prefilter>,
    pretest: Option<Pretest>,
    /// Typed filters that a parser tries at once, see [`tried_early`].
    early: Vec<(String, LabelTest)>,
    unwrap: Option<Unwrapped>,
    /// Where templates compile the patterns that they come up with.
    regexes: Arc<TemplateRegexes>,
}

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
    captures: Option<Captures>,
    pretests: Pretests,
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

/// Loki's parsers try what filters ask of a label when they find it. It is seen where a filter that cannot read a label
/// stands behind a stage that deals with errors: the error is there before that stage. Where it is grouped by labels Loki
/// tries nothing early.
fn tried_early(steps: &[Step]) -> Vec<(String, LabelTest)> {
    let deals_with_errors = |step: &Step| match step {
        Step::Labels(test) => {
            let mut names = Vec::new();
            test.names(&mut names);
            names.iter().any(|name| name == ERROR)
        }
        Step::Drop(_) | Step::Keep(_) => true,
        _ => false,
    };
    let behind = steps.iter().skip_while(|step| !deals_with_errors(step));
    behind
        .filter_map(|step| match step {
            Step::Labels(
                test @ (LabelTest::Number(name, ..) | LabelTest::Duration(name, ..) | LabelTest::Bytes(name, ..)),
            ) => Some((name.clone(), test.clone())),
            _ => None,
        })
        .collect()
}

impl Pipeline {
    /// Compiles the stages. The error is what Loki answers with 400.
    pub fn new(log: &LogExpr, unwrap: Option<&Unwrap>, regexes: &Regexes) -> Result<Pipeline, ParseError> {
        let steps = compile::steps(&log.stages, regexes).map_err(rule)?;
        let filters = steps.iter().take_while(|s| matches!(s, Step::Line(_))).count();
        let bare = steps
            .iter()
            .take_while(|s| matches!(s, Step::Line(_) | Step::Decolorize))
            .count();
        let prefilters = Prefilter::of(&steps);
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
            filters,
            bare,
            needed: Needed::all(),
            prefilters,
            pretest,
            early: tried_early(&steps),
            steps,
            unwrap,
            regexes: regexes.of_templates(),
        })
    }

    /// For a metric query that keeps only the labels named: fields that neither they nor a stage ask for stay unparsed.
    pub fn keep_only(&mut self, names: &[String]) {
        let mut needed = names.to_vec();
        for step in &self.steps {
            match step {
                Step::Labels(test) => test.names(&mut needed),
                Step::LineFormat(template) => template.for_each_name(&mut |n| needed.push(n.to_owned())),
                Step::LabelFormat(items) => {
                    for (_, format) in items {
                        match format {
                            Format::Rename(from) => needed.push(from.clone()),
                            Format::Template(t) => t.for_each_name(&mut |n| needed.push(n.to_owned())),
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
        let shows_all = self.steps.iter().any(|step| match step {
            Step::LineFormat(template) => template.shows_all(),
            Step::LabelFormat(items) => {
                (items.iter()).any(|(_, format)| matches!(format, Format::Template(template) if template.shows_all()))
            }
            _ => false,
        });
        self.needed = match shows_all {
            true => Needed::all(),
            false => Needed::only(needed, false),
        };
        self.pretest = None;
        if !names.is_empty() {
            self.early.clear();
        }
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

    /// Which entries of `range` pass the filters that come first and may pass the others, rising; `None`: all. They are of
    /// the stream that `scratch` has begun. [`Pipeline::run_filtered`] does the rest.
    pub fn filter(&self, entries: &Entries, range: Range<usize>, scratch: &Scratch) -> Option<Vec<u32>> {
        let mut picked = None;
        for step in &self.steps[..self.filters] {
            if let Step::Line(test) = step {
                test.sift(entries, range.clone(), &mut picked);
            }
        }
        for prefilter in &self.prefilters {
            prefilter.sift(&scratch.labels, entries, range.clone(), &mut picked);
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
                        regexes: &self.regexes,
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
            Step::Unpack if needed.nothing() || scratch.labels.has_all(needed) => {}
            Step::Unpack => {
                unpack(scratch, line, needed);
                return self.passes_early(&mut scratch.labels);
            }
            parser => {
                if !needed.nothing() && !scratch.labels.has_all(needed) {
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
                if !matches!(parser, Step::JsonPaths(_) | Step::LogfmtKeys { .. }) {
                    return self.passes_early(&mut scratch.labels);
                }
            }
        }
        true
    }

    fn passes_early(&self, labels: &mut Labels) -> bool {
        let mut tests = self.early.iter();
        tests.all(|(name, test)| !labels.was_parsed(name) || test.passes(labels))
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
                        regexes: &self.regexes,
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
        Pick::Matching(m) => m.matches(labels.get(m.name()).unwrap_or("")),
    };
    if matches {
        labels.remove(pick.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Expr;
    use proptest::prelude::*;

    fn pipeline(query: &str) -> Pipeline {
        match crate::syntax::parse(query, &Regexes::default()) {
            Ok(Expr::Log(log)) => Pipeline::new(&log, None, &Regexes::default()).unwrap(),
            other => panic!("{query}: {other:?}"),
        }
    }

    /// What is left of a line of a stream with metadata: whether it survives, the line and the labels.
    fn outcome(pipeline: &Pipeline, line: &str, scratch: &mut Scratch) -> Option<(String, Sorted)> {
        let (t, metadata) = (TimestampNs(1), [("m", "1"), ("k", "x")]);
        let survives = pipeline.run(line, t, t, metadata.into_iter(), scratch);
        survives.then(|| (scratch.line(line).to_owned(), Sorted::of(&scratch.labels)))
    }

    #[test]
    fn who_asks_for_errors_sees_those_of_filters_behind() {
        let check = |query: &str, line: &str, want: bool| {
            let mut scratch = Scratch::default();
            scratch.begin_stream(&LabelSet::from_pairs([("s", "1")]));
            let survives = outcome(&pipeline(query), line, &mut scratch).is_some();
            assert_eq!(survives, want, "{query} {line}");
        };
        for (stages, want) in [
            ("logfmt | a < 0", true),
            (r#"logfmt | a < 0 | __error__="""#, false),
            (r#"logfmt | __error__="" | a < 0"#, false),
            (r#"logfmt | __error__="" | a < 10s"#, false),
            (r#"json | __error__="" | a < 0"#, false),
            (r#"logfmt | __error__="" | m="1" | a < 0"#, false),
            (r#"logfmt | __error__="" | a < 0 | __error__!="""#, false),
            // Extractions by name, and filters that are joined, try nothing.
            (r#"logfmt a | __error__="" | a < 0"#, true),
            (r#"logfmt | __error__="" | a < 0 or m > 7"#, true),
        ] {
            let line = if stages.starts_with("json") {
                r#"{"a":"abc"}"#
            } else {
                "a=abc"
            };
            check(&format!(r#"{{s="1"}} | {stages}"#), line, want);
        }
        check(r#"{s="1"} | logfmt | __error__="" | a < 0"#, "a=-1", true);
        check(r#"{s="1"} | logfmt | __error__="" | a < 0"#, "a=1", false);
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
                r#"{s="1"} | json | __error__="" | a > 5"#,
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
