//! From the stages of a query to the steps of a pipeline; faults get Loki's words.

use super::{Format, Step};
use crate::ParseError;
use crate::regexp::Regexes;
use crate::stage::json;
use crate::stage::label_filter::LabelTest;
use crate::stage::line_filter::LineTest;
use crate::stage::pattern::Pattern;
use crate::syntax::{Expr, Extraction, FormatFrom, Stage, rule};
use crate::template;

/// Checks what Loki checks while it reads a query, before any of it is planned: `regexp` and `pattern` stages.
pub(crate) fn check_captures(expr: &Expr, regexes: &Regexes) -> Result<(), ParseError> {
    let mut stages: Vec<&Stage> = Vec::new();
    match expr {
        Expr::Log(log) => stages.extend(&log.stages),
        Expr::Metric(metric) => metric.for_each_range(&mut |range| stages.extend(&range.log.stages)),
    }
    let mut captures = stages
        .into_iter()
        .filter(|s| matches!(s, Stage::Regexp(_) | Stage::Pattern(_)));
    captures.try_for_each(|stage| compile(stage, regexes).map(|_| ()).map_err(rule))
}

pub(super) fn compile(stage: &Stage, regexes: &Regexes) -> Result<Step, String> {
    Ok(match stage {
        Stage::LineFilter(filter) => Step::Line(LineTest::new(filter, regexes)?),
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
            let regex = regexes
                .search_groups(pattern)
                .map_err(|e| format!("invalid regexp parser: {}", duplicate(e)))?;
            let mut names = Vec::new();
            for (group, name) in regex.group_names().enumerate() {
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
            Step::LineFormat(template::parse("line", text).map_err(|e| format!("invalid line template: {e}"))?)
        }
        Stage::LabelFormat(items) => Step::LabelFormat(
            items
                .iter()
                .map(|item| {
                    let format = match &item.from {
                        FormatFrom::Label(from) => Format::Rename(from.clone()),
                        FormatFrom::Template(text) => {
                            let template = template::parse("label", text);
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
