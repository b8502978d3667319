//! Runs the PromQL cases: every `.test` file of the corpus folders, every eval command a case, named `file:line`.
//!
//! A case is evaluated as it is written; then, for an instant one, with `@` put on its selectors and at other times, and
//! in the middle of a range: the answer must be the same each time. The store is the real metrics engine.
//! `compliance-queries.yaml` has no answers, so it counts no cases; its queries are asked two ways.

mod compliance;
mod histogram;
mod judge;
mod script;
mod starts;
mod store;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use corpus::{Report, folders};
use model::TimestampMs;
use query_exec::{Context, Limits};
use query_promql::{EvalError, Options, Output, Query, Value};

use crate::script::{Eval, Times, What};
use crate::store::Store;

fn main() -> ExitCode {
    let mut report = Report::new("promql");
    match folders("promql").and_then(|folders| folders.iter().try_for_each(|f| run_folder(f, &mut report))) {
        Ok(()) => report.finish(),
        Err(e) => {
            eprintln!("promql: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_folder(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let path = file.path();
        if path.extension().is_some_and(|e| e == "test") {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            run_file(&file.file_name().to_string_lossy(), &text, report)?;
        } else if file.file_name() == "compliance-queries.yaml" {
            compliance::run(&path)?;
        }
    }
    Ok(())
}

fn run_file(file: &str, text: &str, report: &mut Report) -> anyhow::Result<()> {
    let mut store = Store::new()?;
    // A file that loads types as labels asks for them to be treated as such.
    let options = Options {
        type_and_unit_labels: text.contains("__type__"),
        ..OPTIONS
    };
    for (line, command) in script::commands(text) {
        let name = format!("{file}:{line}");
        match command {
            Err(e) => report.case(&name, || Err(e)),
            Ok(What::Clear) => store = Store::new()?,
            Ok(What::Load(load)) => store.load(load),
            Ok(What::Eval(eval)) => report.case(&name, || run_case(&mut store, &eval, options)),
        }
    }
    Ok(())
}

/// What the expectations assume.
const OPTIONS: Options = Options {
    delayed_name_removal: true,
    use_start_timestamps: true,
    ..Options::DEFAULT
};

fn context() -> Context {
    let limits = Limits {
        samples_max: 1_000_000,
        series_max: 100_000,
        bytes_max: 1 << 30,
    };
    Context::new(Duration::from_secs(20), limits)
}

fn run_case(store: &mut Store, eval: &Eval, options: Options) -> anyhow::Result<()> {
    let query = Query::parse(&eval.text).map_err(|e| {
        let second = if corpus::oracle::promql_accepts(&eval.text) {
            " (promql-parser accepts it)"
        } else {
            ""
        };
        anyhow::anyhow!("{e}{second}")
    })?;
    let expects = &eval.expects;
    let metrics = store.metrics()?;
    let instant = |query: &Query, at: i64| query.instant(&context(), metrics, TimestampMs(at), options);
    let range = |query: &Query, start: i64, end: i64, step: i64| {
        query.range(&context(), metrics, TimestampMs(start), TimestampMs(end), step, options)
    };
    let at = match eval.times {
        Times::Range { start, end, step } => {
            let Some(output) = settled(range(&query, start, end, step), eval)? else {
                return Ok(());
            };
            judge::annotations(&output, expects)?;
            return match &output.value {
                Value::Matrix(found) => judge::matrix(found, &expects.series, start, end, step),
                other => bail!("a matrix is expected, not {other:?}"),
            };
        }
        Times::Instant(at) => expects.range_vector.map_or(at, |(_, end, _)| end),
    };

    if let Some(output) = settled(instant(&query, at), eval)? {
        judge::annotations(&output, expects)?;
        judge::instant(&output.value, expects)?;
        in_a_range(&range, &query, at, eval)?;
    }
    // The same with the time written into the query, asked at other times.
    if !query.varies_with_time() {
        let text = query.pinned(TimestampMs(at)).format();
        let pinned = Query::parse(&text).with_context(|| format!("printed as {text}"))?;
        let elsewhere = if at == 0 {
            vec![-1000, 0, 1000]
        } else {
            vec![-10 * at, 0, at / 5, at, 10 * at]
        };
        for other in elsewhere {
            let story = || format!("with @ {} at {other} ms", at as f64 / 1000.0);
            if let Some(output) = settled(instant(&pinned, other), eval).with_context(story)? {
                judge::annotations(&output, expects).with_context(story)?;
                judge::instant(&output.value, expects).with_context(story)?;
                in_a_range(&range, &pinned, other, eval).with_context(story)?;
            }
        }
    }
    Ok(())
}

/// The output, unless the case is to fail and does.
fn settled(result: Result<Output, EvalError>, eval: &Eval) -> anyhow::Result<Option<Output>> {
    match (result, &eval.expects.fail) {
        (Ok(output), None) => Ok(Some(output)),
        (Err(e), None) => Err(e.into()),
        (Ok(_), Some(_)) => bail!("it is expected to fail"),
        (Err(e), Some(words)) => {
            ensure!(words.meets(&e.to_string()), "it fails with {:?}", e.to_string());
            Ok(None)
        }
    }
}

/// A minute before to a minute after: the middle must be what the instant is.
fn in_a_range(
    range: &impl Fn(&Query, i64, i64, i64) -> Result<Output, EvalError>,
    query: &Query,
    at: i64,
    eval: &Eval,
) -> anyhow::Result<()> {
    const MINUTE: i64 = 60_000;
    let expects = &eval.expects;
    let depends = ["start()", "end()", "range()", "step()"]
        .iter()
        .any(|f| eval.text.contains(f));
    if depends || expects.range_vector.is_some() || expects.string.is_some() {
        return Ok(());
    }
    let output = range(query, at - MINUTE, at + MINUTE, MINUTE).context("in a range")?;
    match &output.value {
        _ if expects.ordered => Ok(()),
        Value::Matrix(found) => judge::middle(found, at, expects).context("in a range"),
        other => bail!("a matrix is expected, not {other:?}"),
    }
}
