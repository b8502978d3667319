//! One case: a storage of its own, the rules over it instant by instant, and what differs from what is expected.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use model::{LabelSet, TimestampMs, TimestampNs, print_duration};
use query_exec::Context;
use storage::{Storage, SyncMode};

use super::{AlertTest, ExpressionTest, Failure, FiringAlert, Sample, SampleValue, TestCase, TestFile, difference};
use crate::notation::histogram_text;
use crate::{AlertState, Dialect, Group, GroupStatus, Notify, OutgoingAlert, Ruler, Settings};

/// Most evaluations of a case.
const EVALUATIONS_MAX: i64 = 1_000_000;
/// Memory of a case's storage, bytes.
const MEMORY_BYTES: u64 = 4 << 30;
/// Far more than any test is old, ms.
const RETENTION_MS: i64 = i64::MAX / 4_000_000;

impl TestFile {
    /// Runs a case over these groups, with a storage in the empty folder `scratch`, which the caller removes; what is not
    /// as it should be. Within a tokio runtime of several threads.
    pub async fn run(&self, case: &TestCase, groups: &[Group], scratch: &Path) -> Vec<Failure> {
        match Run::begin(self, case, groups, scratch) {
            Ok(run) => run.to_the_end().await,
            Err(what) => vec![case.failure(what)],
        }
    }
}

struct Run<'a> {
    file: &'a TestFile,
    case: &'a TestCase,
    storage: Arc<Storage>,
    now_ns: Arc<AtomicI64>,
    ruler: Ruler,
    settings: Settings,
}

/// Nobody is told of alerts in a test.
struct Nobody;

impl Notify for Nobody {
    fn notify(&self, _: Vec<OutgoingAlert>) {}
}

impl<'a> Run<'a> {
    fn begin(file: &'a TestFile, case: &'a TestCase, groups: &[Group], scratch: &Path) -> Result<Run<'a>, String> {
        let now_ns = Arc::new(AtomicI64::new(case.start_ms.saturating_mul(1_000_000)));
        let options = storage::Options {
            data_dir: scratch.to_owned(),
            retention_metrics_ms: RETENTION_MS,
            retention_logs_ns: RETENTION_MS * 1_000_000,
            retention_traces_ns: RETENTION_MS * 1_000_000,
            retention_size: None,
            memory_limit: MEMORY_BYTES,
            free_disk_reserve: 0,
            wal_sync: SyncMode::Never,
        };
        let clock = now_ns.clone();
        let clock: storage::Clock = Arc::new(move || TimestampNs(clock.load(Ordering::Relaxed)));
        let (storage, _) = Storage::open(options, clock).map_err(|e| e.to_string())?;
        let storage = Arc::new(storage);
        let mut settings = Settings {
            evaluation_interval_ms: case.interval_ms,
            external_labels: case.external_labels.clone(),
            external_url: case.external_url.clone(),
            restore: false,
            ..Settings::default()
        };
        settings.promql.subquery_step_ms = file.evaluation_interval_ms;
        let ruler = Ruler::new(storage.clone(), settings.clone(), Arc::new(Nobody));
        ruler.load(file.ordered(groups), case.start_ms);
        Ok(Run {
            file,
            case,
            storage,
            now_ns,
            ruler,
            settings,
        })
    }

    async fn to_the_end(&self) -> Vec<Failure> {
        let (case, every) = (self.case, self.file.evaluation_interval_ms);
        let alert_times = case.alerts.iter().map(|a| a.eval_time_ms);
        let last = alert_times
            .chain(case.expressions.iter().map(|e| e.eval_time_ms))
            .max()
            .unwrap_or(0);
        if last / every >= EVALUATIONS_MAX {
            let what = "evaluations; the greatest eval_time is far from evaluation_interval";
            return vec![case.failure(format!("more than {EVALUATIONS_MAX} {what}"))];
        }
        let mut failures = Vec::new();
        let mut stored_from = i64::MIN;
        for at in (0..=last).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
            let Some(now) = case.start_ms.checked_add(at) else {
                return vec![case.failure("the times of this test are out of range")];
            };
            self.now_ns.store(now.saturating_mul(1_000_000), Ordering::Relaxed);
            let stored = case
                .input
                .store(&self.storage, case.start_ms, case.interval_ms, stored_from, at);
            if let Err(what) = stored.await {
                failures.push(case.failure(what));
                return failures;
            }
            stored_from = at + 1;
            self.ruler.evaluate_all(now).await;
            let groups = self.ruler.groups();
            let errors = rule_errors(&groups, at);
            if !errors.is_empty() {
                failures.extend(errors.into_iter().map(|what| case.failure(what)));
                return failures;
            }
            for test in case
                .alerts
                .iter()
                .filter(|a| (at..at + every).contains(&a.eval_time_ms))
            {
                failures.extend(alert_failure(test, &groups));
            }
        }
        failures.extend(case.expressions.iter().filter_map(|test| self.expression_failure(test)));
        failures
    }

    fn expression_failure(&self, test: &ExpressionTest) -> Option<Failure> {
        let story = format!("{} at {}", test.expr.trim(), duration(test.eval_time_ms));
        let what = match self.answer(test) {
            Err(reason) => format!("{story}: {reason}"),
            Ok(found) => {
                let difference = difference::of_samples(&test.expected, &found, self.file.fuzzy_compare)?;
                format!("{story}\n{difference}")
            }
        };
        Some(Failure { line: test.line, what })
    }

    fn answer(&self, test: &ExpressionTest) -> Result<Vec<Sample>, String> {
        let at = self.case.start_ms.saturating_add(test.eval_time_ms);
        let context = Context::new(Duration::from_secs(120), self.settings.limits);
        match test.dialect {
            Dialect::PromQl => {
                let query = query_promql::Query::parse(&test.expr).map_err(|e| e.to_string())?;
                let output = query.instant(&context, self.storage.metrics(), TimestampMs(at), self.settings.promql);
                match output.map_err(|e| e.to_string())?.value {
                    query_promql::Value::Vector(series) => Ok(series.into_iter().filter_map(promql_sample).collect()),
                    query_promql::Value::Scalar(_, v) => Ok(vec![scalar(v)]),
                    _ => Err("rule result is not a vector or scalar".to_owned()),
                }
            }
            Dialect::LogQl => {
                let query = query_logql::Query::parse(&test.expr).map_err(|e| e.to_string())?;
                let at = TimestampNs(at.saturating_mul(1_000_000));
                let options = query_logql::Options {
                    limit: 0,
                    direction: query_logql::Direction::Backward,
                };
                let output = query.instant(&context, self.storage.logs(), at, options);
                match output.map_err(|e| e.to_string())?.value {
                    query_logql::Value::Vector(series) => Ok(series.into_iter().filter_map(logql_sample).collect()),
                    query_logql::Value::Scalar(_, v) => Ok(vec![scalar(v)]),
                    _ => Err("rule result is not a vector or scalar".to_owned()),
                }
            }
        }
    }
}

impl TestCase {
    fn failure(&self, what: impl Into<String>) -> Failure {
        Failure {
            line: self.line,
            what: what.into(),
        }
    }
}

impl TestFile {
    /// Those of `group_eval_order` in that order; others keep theirs, as first ones do.
    fn ordered(&self, groups: &[Group]) -> Vec<Group> {
        let order: HashMap<&str, usize> = self
            .group_eval_order
            .iter()
            .enumerate()
            .map(|(i, name)| (name.as_str(), i))
            .collect();
        let mut groups = groups.to_vec();
        groups.sort_by_key(|group| order.get(group.name.as_str()).copied().unwrap_or(0));
        groups
    }
}

fn rule_errors(groups: &[GroupStatus], at: i64) -> Vec<String> {
    let rules = groups.iter().flat_map(|group| &group.rules);
    let failed = rules.filter_map(|rule| Some((rule, rule.last_error.as_ref()?)));
    let texts = failed.map(|(rule, error)| {
        let (name, file, line) = (rule.rule().name(), &rule.group.file, rule.rule().line);
        format!("the rule {name} ({file}:{line}) fails at {}: {error}", duration(at))
    });
    texts.collect()
}

fn alert_failure(test: &AlertTest, groups: &[GroupStatus]) -> Option<Failure> {
    let rules = groups.iter().flat_map(|group| &group.rules);
    let named = rules.filter(|rule| rule.rule().is_alerting() && rule.rule().name() == test.alertname);
    let (mut exists, mut found) = (false, Vec::new());
    for rule in named {
        exists = true;
        for alert in rule.alerts.iter().filter(|alert| alert.state == AlertState::Firing) {
            let labels = alert.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            let annotations = alert.annotations.clone();
            found.push(FiringAlert { labels, annotations });
        }
    }
    let difference = difference::of_alerts(&test.expected, &found)?;
    let hint = if exists { "" } else { " (no rule has this name)" };
    let time = duration(test.eval_time_ms);
    Some(Failure {
        line: test.line,
        what: format!("alert {} at {time}{hint}\n{difference}", test.alertname),
    })
}

fn scalar(v: f64) -> Sample {
    Sample {
        labels: LabelSet::empty(),
        value: SampleValue::Float(v),
    }
}

fn promql_sample(series: query_promql::Series) -> Option<Sample> {
    let value = match (series.points.first(), series.histograms.first()) {
        (Some((_, v)), _) => SampleValue::Float(*v),
        (None, Some((_, h))) => SampleValue::Histogram(histogram_text(h)),
        (None, None) => return None,
    };
    Some(Sample {
        labels: series.labels,
        value,
    })
}

fn logql_sample(series: query_logql::Series) -> Option<Sample> {
    let (_, v) = series.points.first()?;
    Some(Sample {
        value: SampleValue::Float(*v),
        labels: series.labels,
    })
}

fn duration(ms: i64) -> String {
    print_duration(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}
