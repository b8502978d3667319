//! From the stages of a query to the steps of a pipeline; faults get Loki's words.

use super::{Format, Step};
use crate::ParseError;
use crate::labels::ERROR;
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

/// The steps of the stages, in the order in which Loki runs them. A fault names its stage.
pub(super) fn steps(stages: &[Stage], regexes: &Regexes) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for group in in_order(stages) {
        for stage in &group {
            let step = compile(stage, regexes).map_err(|what| {
                let text: Vec<String> = group.iter().map(|stage| stage.to_string()).collect();
                format!("stage '{}' : {what}", text.join(" "))
            })?;
            if !matches!(&step, Step::Line(test) if test.is_idle()) {
                steps.push(step);
            }
        }
    }
    Ok(steps)
}

/// Line filters come before the stages that they follow, up to one that filters labels or writes the line anew
/// (`decolorize` does not count as such); those that come together are one.
fn in_order(stages: &[Stage]) -> Vec<Vec<&Stage>> {
    let mut out: Vec<Vec<&Stage>> = Vec::new();
    let (mut lines, mut others): (Vec<&Stage>, Vec<&Stage>) = (Vec::new(), Vec::new());
    for stage in stages {
        match stage {
            Stage::LineFilter(_) => {
                lines.push(stage);
                continue;
            }
            Stage::LabelFilter(_) => {}
            Stage::LineFormat(_) | Stage::Unpack => others.push(stage),
            _ => {
                others.push(stage);
                continue;
            }
        }
        settle(&mut lines, &mut others, &mut out);
        if let Stage::LabelFilter(_) = stage {
            out.push(vec![stage]);
        }
    }
    settle(&mut lines, &mut others, &mut out);
    out
}

fn settle<'a>(lines: &mut Vec<&'a Stage>, others: &mut Vec<&'a Stage>, out: &mut Vec<Vec<&'a Stage>>) {
    if !lines.is_empty() {
        out.push(std::mem::take(lines));
    }
    out.extend(others.drain(..).map(|stage| vec![stage]));
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
                    Ok(key) => Ok((name.clone(), key)),
                    Err(what) => Err(format!("cannot parse expression [{path}]: {what}")),
                })
                .collect::<Result<_, _>>()?,
        },
        Stage::Regexp(pattern) => {
            let regex = regexes.search_groups(pattern).map_err(|e| {
                match twice_named(pattern).filter(|_| e.contains("duplicate")) {
                    Some(name) => format!("invalid regexp parser: duplicate extracted label name '{name}'"),
                    None => format!("invalid regexp parser: {e}"),
                }
            })?;
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
        Stage::LabelFormat(items) if items.iter().any(|item| item.name == ERROR) => {
            return Err(format!("{ERROR} cannot be formatted"));
        }
        Stage::LabelFormat(items) => Step::LabelFormat(
            items
                .iter()
                .enumerate()
                .map(|(i, item)| {
                    let name = &item.name;
                    if items[..i].iter().any(|before| before.name == *name) {
                        return Err(format!(
                            "multiple label name '{name}' not allowed in a single format operation"
                        ));
                    }
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

/// The first name that two groups of a pattern have.
fn twice_named(pattern: &str) -> Option<&str> {
    let starts = pattern.split("(?P<").skip(1).chain(pattern.split("(?<").skip(1));
    let names: Vec<&str> = starts.filter_map(|rest| Some(rest.split_once('>')?.0)).collect();
    (0..names.len())
        .find(|&i| names[..i].contains(&names[i]))
        .map(|i| names[i])
}

fn is_label_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.is_empty()
}

/// The key that an extraction of `logfmt` asks for: a name, or any text in quotes.
fn logfmt_key(path: &str) -> Result<String, String> {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut key = None;
    let mut rest = path;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n']);
        let Some(first) = rest.chars().next() else { break };
        let end = if first == '"' {
            let inside = &rest[1..];
            let end = inside.find(['"', ']']).unwrap_or(inside.len());
            key.get_or_insert(&inside[..end]);
            (end + 2).min(rest.len())
        } else if starts(first) {
            let end = rest.find(|c| !goes_on(c)).unwrap_or(rest.len());
            if key.is_some() {
                return Err("syntax error: unexpected KEY".into());
            }
            key = Some(&rest[..end]);
            end
        } else if key.is_some() {
            return Err(format!("unexpected char {first}"));
        } else {
            break;
        };
        rest = &rest[end..];
    }
    if path.is_empty() {
        return Ok(String::new());
    }
    key.map(str::to_owned)
        .ok_or_else(|| "syntax error: unexpected $end, expecting STRING or KEY".into())
}
