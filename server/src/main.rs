//! The binary `trilobite`: command line, settings, listeners, clock, timers, self-telemetry.
//!
//! The only crate that knows all the others, reads the clock, the environment and the config file. Start reading at
//! `life.rs`; the table of settings is in `settings.rs`, the table of ports in `listeners.rs`.

mod borrowed_names;
mod command_line;
mod healthcheck;
mod lenient_uri;
mod life;
mod listeners;
mod local_request;
mod log_level;
mod log_retention;
mod machine;
mod notifier_metrics;
mod routes;
mod rule_files;
mod rule_metrics;
mod ruling;
mod scraping;
mod settings;
mod snapshot;
mod targets;
mod telemetry;
mod test_rules;
mod unknown_names;

use std::path::PathBuf;
use std::process::ExitCode;

use command_line::Task;
use rule_files::RuleFiles;
use settings::Settings;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bad settings or usage.
const EXIT_USAGE: u8 = 2;

/// What was checked is wrong.
const EXIT_INVALID: u8 = 1;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let asked = match command_line::parse(&args) {
        Ok(asked) => asked,
        Err(None) => return ExitCode::SUCCESS,
        Err(Some(e)) => return fail(EXIT_USAGE, &e),
    };
    // Needs no settings, and should not fail for those of a server.
    if let Task::TestRules(tests) = &asked.task {
        return test_rules(tests);
    }
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    let mut settings = match Settings::gather(&asked.flags, |name| std::env::var(name).ok(), read) {
        Ok(settings) => settings,
        Err(e) => return fail(EXIT_USAGE, &e),
    };
    settings.warnings.extend(asked.warnings);
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    settings.warnings.extend(unknown_names::in_environment(variables));
    match asked.task {
        Task::CheckConfig => check_config(&settings),
        Task::CheckRules(files) => check_rules(&files),
        Task::Healthcheck => match healthcheck::ask(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(1, &e),
        },
        Task::Snapshot => snapshot(&settings),
        Task::TestRules(tests) => test_rules(&tests),
        Task::Serve => serve(settings),
    }
}

#[allow(clippy::print_stdout)] // the answer of a command
fn check_config(settings: &Settings) -> ExitCode {
    for w in &settings.warnings {
        println!("warning: {w}");
    }
    println!("settings are valid");
    if let Some(path) = &settings.prometheus_config {
        let config = &settings.prometheus;
        let jobs = config.scrapes.len();
        println!(
            "{} is valid: {jobs} scrape jobs, {} patterns of rule files",
            path.display(),
            config.rule_files.len()
        );
    }
    let rule_files = &settings.prometheus.rule_files;
    if rule_files.is_empty() && settings.rules_dir.is_none() {
        return ExitCode::SUCCESS;
    }
    told_of_rules(&rule_files::read_all(rule_files, settings.rules_dir.as_deref()))
}

fn check_rules(files: &[PathBuf]) -> ExitCode {
    told_of_rules(&rule_files::read_named(files))
}

#[allow(clippy::print_stdout)] // the answer of a command
fn told_of_rules(read: &RuleFiles) -> ExitCode {
    for fault in read.faults.iter().filter(|fault| fault.is_warning) {
        println!("warning: {fault}");
    }
    if let Some(errors) = read.errors() {
        eprintln!("{errors}");
        eprintln!("rules are not valid; see above");
        return ExitCode::from(EXIT_INVALID);
    }
    let rules: usize = read.groups.iter().map(|group| group.rules.len()).sum();
    println!(
        "rules are valid: {} files, {} groups, {rules} rules",
        read.files,
        read.groups.len()
    );
    ExitCode::SUCCESS
}

#[allow(clippy::print_stdout)] // the answer of a command
fn snapshot(settings: &Settings) -> ExitCode {
    match snapshot::take(settings) {
        Ok(dir) => {
            println!("{}", dir.display());
            ExitCode::SUCCESS
        }
        Err(e) => fail(1, &e),
    }
}

fn test_rules(tests: &test_rules::Tests) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    match test_rules::run(tests) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => fail(EXIT_USAGE, &e),
    }
}

fn serve(settings: Settings) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let level = log_level::start(filter, settings.log_format);
    for w in &settings.warnings {
        tracing::warn!("{w}");
    }
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(life::serve(settings, level)),
        Err(e) => Err(e.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(1, &e),
    }
}

/// One line on stderr, and the exit code.
fn fail(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("trilobite: {why}");
    ExitCode::from(code)
}
