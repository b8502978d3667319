//! The language of `.test` files: commands, and what each eval expects.

use anyhow::{Context as _, bail, ensure};
use model::LabelSet;
use query_rules::notation::{Value, labels_and_rest, number, values};

use crate::histogram::with_custom_buckets;
use crate::starts::starts;

pub enum What {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// Series whose k-th value is at `k * step`.
#[derive(Default)]
pub struct Load {
    pub step_ms: i64,
    pub series: Vec<(LabelSet, Vec<Value>)>,
    /// Start timestamps, ms from each sample's time, of the series at a place in `series`.
    pub starts: Vec<(usize, Vec<Option<i64>>)>,
}

pub struct Eval {
    pub times: Times,
    pub text: String,
    pub expects: Expects,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// What is expected of an eval.
#[derive(Default)]
pub struct Expects {
    pub fail: Option<Words>,
    pub warnings: Notes,
    pub infos: Notes,
    pub ordered: bool,
    /// The result is a matrix with samples at these times.
    pub range_vector: Option<(i64, i64, i64)>,
    pub string: Option<String>,
    pub scalar: Option<f64>,
    pub series: Vec<(LabelSet, Vec<Value>)>,
}

/// What annotations of one kind are expected.
#[derive(Default)]
pub struct Notes {
    pub some: bool,
    pub none: bool,
    pub each: Vec<Words>,
}

/// A text that must be met.
pub enum Words {
    Any,
    Exactly(String),
    Matching(regex::Regex),
}

impl Words {
    pub fn meets(&self, text: &str) -> bool {
        match self {
            Words::Any => true,
            Words::Exactly(words) => words == text,
            Words::Matching(re) => re.is_match(text),
        }
    }
}

/// Reads a whole file: commands with their lines, counted from 1. One that cannot be read is an error in its place.
pub fn commands(text: &str) -> Vec<(usize, anyhow::Result<What>)> {
    let mut out = Vec::new();
    let mut lines = (text.lines().enumerate())
        .map(|(i, line)| {
            (
                i + 1,
                if line.trim_start().starts_with('#') {
                    ""
                } else {
                    line.trim()
                },
            )
        })
        .peekable();
    while let Some((line, first)) = lines.next() {
        if first.is_empty() {
            continue;
        }
        let mut block = Vec::new();
        if first != "clear" {
            while let Some((at, text)) = lines.next_if(|(_, text)| !text.is_empty() && !starts_command(text)) {
                block.push((at, text));
                // A scalar ends its block.
                if first.starts_with("eval") && number(text).is_ok() {
                    break;
                }
            }
        }
        out.push((line, command(first, &block)));
    }
    out
}

fn starts_command(text: &str) -> bool {
    let word = text.split_whitespace().next().unwrap_or("");
    word == "clear"
        || ((word == "load" || word == "load_with_nhcb") && text.split_whitespace().count() == 2)
        || (["eval", "eval_fail", "eval_warn", "eval_info", "eval_ordered"].contains(&word)
            && ["instant", "range"].contains(&text.split_whitespace().nth(1).unwrap_or("")))
}

fn command(first: &str, block: &[(usize, &str)]) -> anyhow::Result<What> {
    let (word, rest) = first.split_once(char::is_whitespace).unwrap_or((first, ""));
    match word {
        "clear" => Ok(What::Clear),
        // The converted histograms of `load_with_nhcb` come with native histograms; its classic series are plain.
        "load" => load(rest, block).map(What::Load),
        "load_with_nhcb" => load(rest, block).map(|mut load| {
            load.series.extend(with_custom_buckets(&load.series));
            What::Load(load)
        }),
        _ if word.starts_with("eval") => eval(word, rest, block).map(|e| What::Eval(Box::new(e))),
        _ => bail!("unknown command {word:?}"),
    }
}

fn load(step: &str, block: &[(usize, &str)]) -> anyhow::Result<Load> {
    let step_ms = duration(step)?;
    let (mut series, mut all_starts) = (Vec::new(), Vec::new());
    for (at, line) in block {
        let (labels, rest) = labels_and_rest(line).with_context(|| format!("line {at}"))?;
        // Start timestamps belong to the line after.
        if let Some(rest) = rest.strip_prefix("@st") {
            all_starts.push((series.len(), starts(rest).with_context(|| format!("line {at}"))?));
            continue;
        }
        series.push((labels, values(rest).with_context(|| format!("line {at}"))?));
    }
    for (of, starts) in &all_starts {
        let samples = series.get(*of).map_or(0, |(_, values)| values.len());
        ensure!(
            samples == starts.len(),
            "{} start timestamps for {samples} samples",
            starts.len()
        );
    }
    Ok(Load {
        step_ms,
        series,
        starts: all_starts,
    })
}

fn eval(word: &str, rest: &str, block: &[(usize, &str)]) -> anyhow::Result<Eval> {
    let (kind, rest) = word_and_rest(rest);
    let (times, text) = match kind {
        "instant" => {
            let (at, rest) = after("at", rest)?;
            (Times::Instant(duration(at)?), rest)
        }
        "range" => {
            let (start, rest) = after("from", rest)?;
            let (end, rest) = after("to", rest)?;
            let (step, rest) = after("step", rest)?;
            let (start, end, step) = (duration(start)?, duration(end)?, duration(step)?);
            ensure!(step > 0 && end >= start, "a range runs forward");
            (Times::Range { start, end, step }, rest)
        }
        other => bail!("eval {other:?} is neither instant nor range"),
    };
    let mut expects = Expects::default();
    match word {
        "eval_fail" => expects.fail = Some(Words::Any),
        "eval_warn" => expects.warnings.some = true,
        "eval_info" => expects.infos.some = true,
        "eval_ordered" => expects.ordered = true,
        _ => {}
    }
    for (at, line) in block {
        expectation(line, &mut expects).with_context(|| format!("line {at}"))?;
    }
    Ok(Eval {
        times,
        text: text.to_owned(),
        expects,
    })
}

fn expectation(line: &str, expects: &mut Expects) -> anyhow::Result<()> {
    let (word, rest) = word_and_rest(line);
    match word {
        "expect" => return expect(rest, expects),
        "expected_fail_message" => expects.fail = Some(Words::Exactly(rest.to_owned())),
        "expected_fail_regexp" => expects.fail = Some(Words::Matching(regex::Regex::new(rest)?)),
        _ => match number(line) {
            Ok(scalar) => expects.scalar = Some(scalar),
            Err(_) => {
                let (labels, rest) = labels_and_rest(line)?;
                expects.series.push((labels, values(rest)?));
            }
        },
    }
    Ok(())
}

fn expect(text: &str, expects: &mut Expects) -> anyhow::Result<()> {
    let (what, rest) = word_and_rest(text);
    match what {
        "fail" => expects.fail = Some(words(rest)?),
        "warn" => note(rest, &mut expects.warnings)?,
        "info" => note(rest, &mut expects.infos)?,
        "no_warn" => expects.warnings.none = true,
        "no_info" => expects.infos.none = true,
        "ordered" => expects.ordered = true,
        "string" => expects.string = Some(quoted(rest)?),
        "range" => {
            let (vector, rest) = word_and_rest(rest);
            ensure!(vector == "vector", "expect range vector");
            let (start, rest) = after("from", rest)?;
            let (end, rest) = after("to", rest)?;
            let (step, _) = after("step", rest)?;
            expects.range_vector = Some((duration(start)?, duration(end)?, duration(step)?));
        }
        other => bail!("unknown expectation {other:?}"),
    }
    Ok(())
}

fn note(rest: &str, notes: &mut Notes) -> anyhow::Result<()> {
    notes.some = true;
    match words(rest)? {
        Words::Any => {}
        words => notes.each.push(words),
    }
    Ok(())
}

fn words(text: &str) -> anyhow::Result<Words> {
    match (text.strip_prefix("msg:"), text.strip_prefix("regex:")) {
        (Some(msg), _) => Ok(Words::Exactly(msg.trim().to_owned())),
        (_, Some(re)) => Ok(Words::Matching(regex::Regex::new(re.trim())?)),
        _ if text.is_empty() => Ok(Words::Any),
        _ => bail!("neither msg: nor regex: {text:?}"),
    }
}

/// A string literal has the same escapes as in a query.
fn quoted(text: &str) -> anyhow::Result<String> {
    ensure!(text.len() >= 2, "no quoted text: {text:?}");
    let inner = &text[1..text.len() - 1];
    if text.starts_with('`') || !inner.contains('\\') {
        return Ok(inner.to_owned());
    }
    let matchers = query_promql::parse_selector(&format!("{{x={text}}}"))?;
    Ok(matchers.first().map(|m| m.value().to_owned()).unwrap_or_default())
}

fn word_and_rest(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// After the word `name`: the next word, and what follows.
fn after<'a>(name: &str, text: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    let (word, rest) = word_and_rest(text);
    ensure!(word == name, "{name:?} is missing before {text:?}");
    Ok(word_and_rest(rest))
}

/// `1h30m`, or a plain number of seconds; ms.
pub fn duration(text: &str) -> anyhow::Result<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1000.0) as i64);
    }
    let mut total = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).context("a unit is missing")?;
        let n: i64 = rest[..digits].parse().with_context(|| format!("duration {text:?}"))?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            other => bail!("unknown unit {other:?}"),
        };
        rest = &rest[letters..];
        total += n * unit;
    }
    Ok(total)
}
