//! Runs the TraceQL cases: every record of every JSON file of the corpus folders is a case, named `file:index`. The corpus'
//! README says what each file asks.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use corpus::{Report, folders};
use model::{SpanKind, StatusCode};
use query_traceql::Query;
use query_traceql::evaluate::{self, Identifier, MadeUpSeries, MadeUpSpan, Spanset, Steps, TraceFilterFault, Typed};
use serde_json::Value;

fn main() -> ExitCode {
    let mut report = Report::new("traceql");
    match folders("traceql").and_then(|folders| folders.iter().try_for_each(|f| run_folder(f, &mut report))) {
        Ok(()) => report.finish(),
        Err(e) => {
            eprintln!("traceql: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_folder(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let path = file.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let records: Vec<Value> = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let name = file.file_name().to_string_lossy().into_owned();
        let run = judge(name.trim_end_matches(".json"));
        for (index, record) in records.iter().enumerate() {
            report.case(&format!("{name}:{index}"), || run(record));
        }
    }
    Ok(())
}

/// What a file asks of its records.
fn judge(file: &str) -> fn(&Value) -> anyhow::Result<()> {
    match file {
        "valid" => valid,
        "parses" => parses,
        "invalid_parse" => invalid_parse,
        "invalid_validate" => invalid_validate,
        "unsupported" => unsupported,
        "identifiers" => identifier,
        "durations" => duration,
        "eval" => eval,
        "tag_filter_lenient" => lenient,
        "tag_filter_groups" => groups,
        "trace_by_id_filter" => trace_filter,
        "metrics_numeric" => numeric,
        "metrics_eval" => metrics,
        "metrics_math_queries" => math,
        _ => |_| bail!("no such kind of file is known"),
    }
}

fn text<'a>(record: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    record[name].as_str().with_context(|| format!("no text {name:?}"))
}

fn int(record: &Value, name: &str) -> anyhow::Result<i64> {
    record[name]
        .as_i64()
        .with_context(|| format!("no whole number {name:?}"))
}

/// What parses is also printed and parsed again into the same text.
fn parses(record: &Value) -> anyhow::Result<()> {
    let printed = evaluate::canonical(text(record, "query")?)?;
    ensure!(
        evaluate::canonical(&printed).with_context(|| printed.clone())? == printed,
        "{printed} is not its own canonical text"
    );
    Ok(())
}

fn valid(record: &Value) -> anyhow::Result<()> {
    parses(record)?;
    Query::parse(text(record, "query")?)?;
    Ok(())
}

fn invalid_parse(record: &Value) -> anyhow::Result<()> {
    ensure!(
        evaluate::parses(text(record, "query")?).is_err(),
        "{} parses",
        record["query"]
    );
    Ok(())
}

fn invalid_validate(record: &Value) -> anyhow::Result<()> {
    let query = text(record, "query")?;
    evaluate::parses(query)?;
    ensure!(Query::parse(query).is_err(), "{query} is accepted");
    Ok(())
}

/// Refused or right: what is accepted must at least run.
fn unsupported(record: &Value) -> anyhow::Result<()> {
    let query = text(record, "query")?;
    evaluate::parses(query)?;
    if Query::parse(query).is_ok() {
        evaluate::pipeline(query, &[], Vec::new())?;
    }
    Ok(())
}

fn identifier(record: &Value) -> anyhow::Result<()> {
    let input = text(record, "input")?;
    let found = evaluate::identifier(input);
    match text(record, "kind")? {
        "error" => ensure!(found.is_err(), "{found:?}"),
        "intrinsic" => {
            let want = text(record, "intrinsic")?;
            ensure!(
                matches!(&found, Ok(Identifier::Intrinsic(name)) if *name == want),
                "{found:?}"
            );
        }
        _ => {
            let (scope, name) = (text(record, "scope")?, text(record, "name")?);
            let parent = record["parent"].as_bool().unwrap_or(false);
            ensure!(
                matches!(&found, Ok(Identifier::Attribute { scope: s, parent: p, name: n })
                    if *s == scope && *p == parent && n == name),
                "{found:?}"
            );
        }
    }
    Ok(())
}

fn duration(record: &Value) -> anyhow::Result<()> {
    let found = evaluate::duration_ns(text(record, "input")?);
    ensure!(found == Some(int(record, "nanos")?), "{found:?}");
    Ok(())
}

fn lenient(record: &Value) -> anyhow::Result<()> {
    let found = evaluate::lenient_matches_all(text(record, "input")?);
    let want = match record["unparseable"].as_bool() {
        Some(true) => None,
        _ => record["match_all"].as_bool(),
    };
    ensure!(found == want, "{found:?}");
    Ok(())
}

fn groups(record: &Value) -> anyhow::Result<()> {
    let found = evaluate::lenient_groups(text(record, "input")?)?;
    ensure!(found as i64 == int(record, "or_groups")?, "{found}");
    Ok(())
}

fn trace_filter(record: &Value) -> anyhow::Result<()> {
    let found = match evaluate::trace_filter(text(record, "query")?) {
        Ok(()) => "ok",
        Err(TraceFilterFault::Invalid) => "invalid",
        Err(TraceFilterFault::Unsupported) => "unsupported",
    };
    ensure!(found == text(record, "result")?, "{found}");
    Ok(())
}

fn numeric(record: &Value) -> anyhow::Result<()> {
    let steps = || -> anyhow::Result<Steps> {
        let instant = record["instant"].as_bool().unwrap_or(false);
        Ok(Steps::new(
            int(record, "start")?,
            int(record, "end")?,
            int(record, "step")?,
            instant,
        ))
    };
    match text(record, "fn")? {
        "default_step" => {
            let found = evaluate::default_step(int(record, "window_ns")?);
            ensure!(found == int(record, "step_ns")?, "{found}");
        }
        "log2_bucket" => {
            let found = evaluate::log2_bucket(int(record, "value")?).unwrap_or(-1.0);
            ensure!(record["bucket"].as_f64() == Some(found), "{found}");
        }
        "interval_of" => {
            let found = steps()?.interval_of(int(record, "ts")?).map_or(-1, |i| i as i64);
            ensure!(found == int(record, "interval")?, "{found}");
        }
        "timestamp_of" => {
            let found = steps()?.timestamp_of(int(record, "interval")? as usize);
            ensure!(found == int(record, "timestamp")?, "{found}");
        }
        other => bail!("no such function is known: {other}"),
    }
    Ok(())
}

/// A value such as `{"int": 3}`.
fn typed(value: &Value) -> anyhow::Result<Typed> {
    let (kind, inner) = value
        .as_object()
        .and_then(|o| o.iter().next())
        .with_context(|| format!("no typed value: {value}"))?;
    let no = || format!("no {kind}: {inner}");
    let list = |each: fn(&Value) -> Option<Typed>| -> anyhow::Result<Typed> {
        let items = inner.as_array().with_context(no)?;
        Ok(Typed::List(
            items.iter().map(each).collect::<Option<_>>().with_context(no)?,
        ))
    };
    let float = |v: &Value| match v.as_str() {
        Some(text) => text.parse().ok().map(Typed::Float),
        None => v.as_f64().map(Typed::Float),
    };
    Ok(match kind.as_str() {
        "string" => Typed::Str(inner.as_str().with_context(no)?.to_owned()),
        "int" => Typed::Int(inner.as_i64().with_context(no)?),
        "float" => float(inner).with_context(no)?,
        "bool" => Typed::Bool(inner.as_bool().with_context(no)?),
        "duration_ns" => Typed::Duration(inner.as_i64().with_context(no)?),
        "nil" => Typed::Nil,
        "status" => Typed::Status(match inner.as_str().with_context(no)? {
            "ok" => StatusCode::Ok,
            "error" => StatusCode::Error,
            _ => StatusCode::Unset,
        }),
        "kind" => Typed::Kind(match inner.as_str().with_context(no)? {
            "internal" => SpanKind::Internal,
            "server" => SpanKind::Server,
            "client" => SpanKind::Client,
            "producer" => SpanKind::Producer,
            "consumer" => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        }),
        "string_array" => list(|v| Some(Typed::Str(v.as_str()?.to_owned())))?,
        "int_array" => list(|v| v.as_i64().map(Typed::Int))?,
        "float_array" => list(|v| v.as_f64().map(Typed::Float))?,
        "bool_array" => list(|v| v.as_bool().map(Typed::Bool))?,
        other => bail!("no such type is known: {other}"),
    })
}

fn span(record: &Value) -> anyhow::Result<MadeUpSpan> {
    let mut span = MadeUpSpan::new(record["start_ns"].as_i64().unwrap_or(0));
    if let Some(ns) = record["duration_ns"].as_i64() {
        span.set("span:duration", Typed::Duration(ns))?;
    }
    if let Some(id) = record["id"].as_str() {
        span.set("span:id", Typed::Str(id.to_owned()))?;
    }
    for (name, value) in record["attributes"].as_object().into_iter().flatten() {
        span.set(name, typed(value)?)?;
    }
    let nested = &record["nested_set"];
    if nested.is_object() {
        let number = |name| -> anyhow::Result<i32> { Ok(i32::try_from(int(nested, name)?)?) };
        span.place(number("parent")?, number("left")?, number("right")?);
    }
    Ok(span)
}

fn spans(records: &Value) -> anyhow::Result<Vec<MadeUpSpan>> {
    records.as_array().context("no spans")?.iter().map(span).collect()
}

fn eval(record: &Value) -> anyhow::Result<()> {
    let query = text(record, "query")?;
    if record["matched"].is_boolean() {
        let spans = spans(&record["spans"])?;
        for span in &spans {
            let found = evaluate::keeps(query, span)?;
            ensure!(Some(found) == record["matched"].as_bool(), "kept: {found}");
        }
        return Ok(());
    }
    // All spans in one list; a spanset is a range of it.
    let (mut all, mut firsts, mut input, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for set in record["input"].as_array().context("no input")? {
        let made = spans(&set["spans"])?;
        texts.extend(set["spans"].as_array().into_iter().flatten().map(Value::to_string));
        firsts.push(all.len());
        input.push(Spanset {
            spans: (all.len()..all.len() + made.len()).collect(),
            attributes: attributes(&set["attributes"])?,
            scalar: None,
        });
        all.extend(made);
    }
    // Equal spans stand for one another.
    let same = |at: usize| texts.iter().position(|t| *t == texts[at]).unwrap_or(at);
    let mut found = Vec::new();
    for set in evaluate::pipeline(query, &all, input)? {
        let mut spans: Vec<usize> = set.spans.iter().map(|at| same(*at)).collect();
        spans.sort_unstable();
        found.push((spans, set));
    }
    let expected = record["expected"].as_array().context("no expectation")?;
    ensure!(
        found.len() == expected.len(),
        "{} spansets, {} expected: {found:?}",
        found.len(),
        expected.len()
    );
    for want in expected {
        let mut spans = Vec::new();
        for reference in want["spans"].as_array().context("no spans")? {
            let at = |i: usize| reference[i].as_u64().map(|n| n as usize).context("no reference");
            let first = firsts.get(at(0)?).context("no such spanset")?;
            spans.push(same(first + at(1)?));
        }
        spans.sort_unstable();
        let wanted_attributes = attributes(&want["attributes"])?;
        let at = found
            .iter()
            .position(|(s, set)| *s == spans && fits(&set.attributes, &wanted_attributes))
            .with_context(|| format!("no spanset {want}: {found:?}"))?;
        let (_, set) = found.swap_remove(at);
        if want["scalar"].is_object() {
            let scalar = typed(&want["scalar"])?;
            ensure!(set.scalar.as_ref() == Some(&scalar), "scalar {:?}", set.scalar);
        }
    }
    Ok(())
}

fn attributes(list: &Value) -> anyhow::Result<Vec<(String, Typed)>> {
    let each = |entry: &Value| Ok((text(entry, "name")?.to_owned(), typed(&entry["value"])?));
    list.as_array().into_iter().flatten().map(each).collect()
}

/// Whether all wanted attributes are there, white space in names aside.
fn fits(found: &[(String, Typed)], wanted: &[(String, Typed)]) -> bool {
    let bare = |name: &str| name.replace(' ', "");
    wanted
        .iter()
        .all(|(name, value)| found.iter().any(|(n, v)| bare(n) == bare(name) && v == value))
}

/// Nearly equal: sums may be taken in another order.
fn near(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

fn metrics(record: &Value) -> anyhow::Result<()> {
    let request = &record["request"];
    let range = (int(request, "start")?, int(request, "end")?, int(request, "step")?);
    let found = evaluate::metrics_range(text(request, "query")?, &spans(&record["spans"])?, range)?;
    let expected = record["series"].as_array().context("no series")?;
    ensure!(
        found.len() == expected.len(),
        "{} series, {} expected: {found:?}",
        found.len(),
        expected.len()
    );
    for want in expected {
        let labels = attributes(&want["labels"])?;
        let same =
            |one: &&MadeUpSeries| one.0.len() == labels.len() && labels.iter().all(|label| one.0.contains(label));
        let (_, values) = found
            .iter()
            .find(same)
            .with_context(|| format!("no series {labels:?}: {found:?}"))?;
        let wanted = want["values"].as_array().context("no values")?;
        let equal = |(found, want): (&Option<f64>, &Value)| match (found, want.as_f64()) {
            (Some(a), Some(b)) => near(*a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        ensure!(
            values.len() == wanted.len() && values.iter().zip(wanted).all(equal),
            "{labels:?}: {values:?}, {wanted:?} expected"
        );
    }
    Ok(())
}

/// The query against the expression over the inner query's points, which a calculator of this runner applies.
fn math(record: &Value) -> anyhow::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let mut spans = Vec::new();
    for (value, second, count) in [
        ("bar", 1, 3),
        ("bar", 2, 4),
        ("baz", 3, 3),
        ("qux", 1, 2),
        ("qux", 3, 1),
    ] {
        for _ in 0..count {
            let mut span = MadeUpSpan::new(second * SECOND);
            span.set("span.foo", Typed::Str(value.to_owned()))?;
            spans.push(span);
        }
    }
    let range = (1, 3 * SECOND, SECOND);
    let inner = evaluate::metrics_range("{ } | count_over_time() by (span.foo)", &spans, range)?;
    let query = text(record, "query")?;
    let outer = evaluate::metrics_range(query, &spans, range)?;
    let expression = match text(record, "expression")?.rsplit_once(" (") {
        // `A * 3/2 (int)`: the note says how the constant is calculated, before it is applied.
        Some((expression, "int)" | "float)")) => match expression.split_once("* ") {
            Some((left, constant)) => format!("{left}* ({constant})"),
            None => expression.to_owned(),
        },
        _ => text(record, "expression")?.to_owned(),
    };
    let mut left = outer.len();
    for (labels, values) in &inner {
        let mut wanted = Vec::new();
        for value in values {
            let a = value.context("a gap in the inner series")?;
            wanted.push(calculator::point(&expression, a)?);
        }
        let found = outer
            .iter()
            .find(|(l, _)| l == labels)
            .map(|(_, values)| values.as_slice());
        if found.is_some() {
            left -= 1;
        } else {
            ensure!(wanted.iter().all(Option::is_none), "{labels:?} is missing");
            continue;
        }
        let equal = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
            (Some(a), Some(b)) => near(*a, *b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let found = found.unwrap_or(&[]);
        ensure!(
            found.len() == wanted.len() && found.iter().zip(&wanted).all(equal),
            "{labels:?}: {found:?}, {wanted:?} expected"
        );
    }
    ensure!(left == 0, "{left} series too many");
    Ok(())
}

/// Arithmetic over one point, as the corpus writes it: whole constants divide whole, a comparison drops the point.
mod calculator {
    use anyhow::{Context, bail};

    #[derive(Clone, Copy)]
    enum Term {
        Whole(i64),
        Fraction(f64),
        Point(Option<f64>),
    }

    /// The point's value; `None` if there is none.
    pub fn point(expression: &str, a: f64) -> anyhow::Result<Option<f64>> {
        let text: String = expression.split_whitespace().collect();
        let mut calculator = Calculator { rest: &text, a };
        let term = calculator.comparisons()?;
        anyhow::ensure!(calculator.rest.is_empty(), "cannot calculate {:?}", calculator.rest);
        Ok(match term {
            Term::Point(value) => value.filter(|v| !v.is_nan()),
            Term::Whole(i) => Some(i as f64),
            Term::Fraction(d) => Some(d),
        })
    }

    struct Calculator<'a> {
        rest: &'a str,
        a: f64,
    }

    impl Calculator<'_> {
        fn take(&mut self, signs: &[&'static str]) -> Option<&'static str> {
            let sign = signs.iter().find(|sign| self.rest.starts_with(**sign))?;
            self.rest = &self.rest[sign.len()..];
            Some(sign)
        }

        fn comparisons(&mut self) -> anyhow::Result<Term> {
            let mut left = self.sums()?;
            while let Some(op) = self.take(&[">=", "<=", "==", "!=", ">", "<", "="]) {
                let limit = self.sums()?.number();
                let keep = |v: &f64| match op {
                    ">=" => *v >= limit,
                    "<=" => *v <= limit,
                    ">" => *v > limit,
                    "<" => *v < limit,
                    "!=" => *v != limit,
                    _ => *v == limit,
                };
                left = match left {
                    Term::Point(value) => Term::Point(value.filter(keep)),
                    _ => bail!("a comparison of constants"),
                };
            }
            Ok(left)
        }

        fn sums(&mut self) -> anyhow::Result<Term> {
            let mut left = self.products()?;
            while let Some(op) = self.take(&["+", "-"]) {
                left = apply(op, left, self.products()?);
            }
            Ok(left)
        }

        fn products(&mut self) -> anyhow::Result<Term> {
            let mut left = self.factor()?;
            while let Some(op) = self.take(&["*", "/"]) {
                left = apply(op, left, self.factor()?);
            }
            Ok(left)
        }

        fn factor(&mut self) -> anyhow::Result<Term> {
            if self.take(&["("]).is_some() {
                let inner = self.comparisons()?;
                self.take(&[")"]).context("no closing parenthesis")?;
                return Ok(inner);
            }
            if self.take(&["A"]).is_some() {
                return Ok(Term::Point(Some(self.a)));
            }
            let mut end = 0;
            let bytes = self.rest.as_bytes();
            while let Some(b) = bytes.get(end) {
                let sign = matches!(b, b'-' | b'+') && (end == 0 || matches!(bytes[end - 1], b'e' | b'E'));
                if !(sign || b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E')) {
                    break;
                }
                end += 1;
            }
            let (number, rest) = self.rest.split_at(end);
            self.rest = rest;
            if let Ok(i) = number.parse() {
                return Ok(Term::Whole(i));
            }
            Ok(Term::Fraction(
                number.parse().with_context(|| format!("no number: {number:?}"))?,
            ))
        }
    }

    impl Term {
        fn number(self) -> f64 {
            match self {
                Term::Whole(i) => i as f64,
                Term::Fraction(d) => d,
                Term::Point(value) => value.unwrap_or(f64::NAN),
            }
        }
    }

    fn apply(op: &str, left: Term, right: Term) -> Term {
        if let (Term::Whole(a), Term::Whole(b)) = (left, right) {
            return Term::Whole(match op {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                _ => a.checked_div(b).unwrap_or(0),
            });
        }
        let (a, b) = (left.number(), right.number());
        let value = match op {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            _ => a / b,
        };
        match (left, right) {
            (Term::Point(None), _) | (_, Term::Point(None)) => Term::Point(None),
            // Of a point, what is divided by zero is no number.
            (Term::Point(_), _) | (_, Term::Point(_)) if op == "/" && b == 0.0 => Term::Point(Some(f64::NAN)),
            (Term::Point(_), _) | (_, Term::Point(_)) => Term::Point(Some(value)),
            _ => Term::Fraction(value),
        }
    }
}
