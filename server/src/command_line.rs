//! The command line: subcommands and flags, made from the table in `settings.rs`, and Prometheus' spellings of some.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::settings::{SETTINGS, SettingsError, env_name};
use crate::test_rules::Tests;

/// What the process is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Run.
    Serve,
    /// Say whether the settings are valid, without starting.
    CheckConfig,
    /// Ask a running process whether it is ready.
    Healthcheck,
    /// Say whether rule files are valid.
    CheckRules(Vec<PathBuf>),
    /// Save all three signals beside the data, through the running process or, if none runs, without one.
    Snapshot,
    /// Run unit tests of rules.
    TestRules(Tests),
}

/// The task, the flags by setting name, and what to warn of once logging works.
#[derive(Debug)]
pub struct Asked {
    /// What to do.
    pub task: Task,
    /// Flags given, by setting name.
    pub flags: Vec<(String, String)>,
    /// Flags that were accepted without effect.
    pub warnings: Vec<String>,
}

/// Parses the arguments (without the program's name). `Err(Some)` is a usage error (exit 2); clap's own help and
/// version outputs come as `Err(None)` after printing (exit 0).
pub fn parse(args: &[String]) -> Result<Asked, Option<SettingsError>> {
    let (args, warnings) = translate(args);
    let matches = match command().try_get_matches_from(std::iter::once("trilobite".to_owned()).chain(args)) {
        Ok(m) => m,
        Err(e)
            if matches!(
                e.kind(),
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
            ) =>
        {
            let _ = e.print();
            return Err(None);
        }
        Err(e) => {
            let text = e.to_string();
            let line = text
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            let tip = text
                .lines()
                .find_map(|l| l.trim_start().strip_prefix("tip: "))
                .map_or(String::new(), |tip| format!("; {tip}"));
            return Err(Some(SettingsError(format!("{line}{tip}; see trilobite --help"))));
        }
    };
    let (task, inner) = match matches.subcommand() {
        Some(("check-config", m)) => (Task::CheckConfig, m.clone()),
        Some(("healthcheck", m)) => (Task::Healthcheck, m.clone()),
        Some(("snapshot", m)) => (Task::Snapshot, m.clone()),
        Some(("test-rules", m)) => (Task::TestRules(tests(m)), m.clone()),
        Some(("check-rules", m)) => {
            let files = m.get_many::<String>("RULES").into_iter().flatten().map(PathBuf::from);
            (Task::CheckRules(files.collect()), m.clone())
        }
        Some((_, m)) => (Task::Serve, m.clone()),
        None => (Task::Serve, matches.clone()),
    };
    let mut flags = Vec::new();
    // Without a subcommand both are the same.
    let given = if matches.subcommand().is_some() {
        vec![&matches, &inner]
    } else {
        vec![&inner]
    };
    for s in SETTINGS {
        for m in &given {
            if s.value.is_empty() {
                if m.try_get_one::<bool>(s.name).ok().flatten() == Some(&true) {
                    flags.push((s.name.to_owned(), "on".to_owned()));
                }
            } else if let Some(v) = m.try_get_one::<String>(s.name).ok().flatten() {
                flags.push((s.name.to_owned(), v.clone()));
            }
        }
    }
    if let Some(file) = inner.try_get_one::<String>("FILE").ok().flatten() {
        flags.push(("prometheus-config".to_owned(), file.clone()));
    }
    Ok(Asked { task, flags, warnings })
}

fn tests(m: &ArgMatches) -> Tests {
    let texts = |name: &str| m.get_many::<String>(name).into_iter().flatten().cloned();
    Tests {
        files: texts("TESTS").map(PathBuf::from).collect(),
        run: texts("run").collect(),
        junit: texts("junit").next().map(PathBuf::from),
    }
}

fn command() -> Command {
    let with_settings = |c: Command| {
        c.args(SETTINGS.iter().map(|s| {
            let default = if s.default.is_empty() { "none" } else { s.default };
            let arg = Arg::new(s.name).long(s.name).help(format!(
                "{} [default: {default}] [env: {}]",
                s.help,
                env_name(s.name)
            ));
            if s.value.is_empty() {
                arg.action(ArgAction::SetTrue)
            } else {
                arg.value_name(s.value)
            }
        }))
    };
    with_settings(Command::new("trilobite"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Metrics, logs and traces in one process; answers the Prometheus, Loki and Tempo HTTP APIs.")
        .subcommand(with_settings(
            Command::new("serve").about("Run (also without a subcommand)"),
        ))
        .subcommand(with_settings(
            Command::new("check-config")
                .about("Check the settings, and the prometheus.yml if there is one, without starting")
                .arg(Arg::new("FILE").help("A prometheus.yml, as --prometheus-config").required(false)),
        ))
        .subcommand(
            Command::new("check-rules")
                .about("Check rule files, or all rule files in folders: say what is wrong and where; exit 1 if anything is")
                .arg(Arg::new("RULES").value_name("FILE").required(true).num_args(1..)),
        )
        .subcommand(with_settings(Command::new("healthcheck").about(
            "Exit 0 when the running process is ready; asks --prometheus-addr, or the next HTTP listener that is on",
        )))
        .subcommand(with_settings(Command::new("snapshot").about(
            "Save all three signals below DATA-DIR/snapshots and print the directory; asks the process at --prometheus-addr \
             (which needs --enable-admin-api), or opens the data directory if none runs",
        )))
        .subcommand(
            Command::new("test-rules")
                .about("Run unit tests of rules: files in the form of promtool, also with log lines; exit 1 when one fails")
                .arg(
                    Arg::new("TESTS")
                        .value_name("FILE")
                        .help("Files of tests")
                        .num_args(1..)
                        .required(true),
                )
                .arg(
                    Arg::new("run")
                        .long("run")
                        .value_name("REGEX")
                        .help("Run only tests whose names match; can be given several times")
                        .action(ArgAction::Append),
                )
                .arg(
                    Arg::new("junit")
                        .long("junit")
                        .value_name("FILE")
                        .help("Write the results to this file, as JUnit's XML"),
                ),
        )
}

/// Prometheus' flags that act, with our name for each.
const ALIASES: &[(&str, &str)] = &[
    ("config.file", "prometheus-config"),
    ("storage.tsdb.path", "data-dir"),
    ("storage.tsdb.retention.time", "retention-metrics"),
    ("storage.tsdb.retention.size", "retention-size"),
    ("web.listen-address", "prometheus-addr"),
    ("web.enable-admin-api", "enable-admin-api"),
    ("web.enable-lifecycle", "enable-lifecycle"),
    ("web.external-url", "web-external-url"),
    ("rules.alert.for-outage-tolerance", "rules-for-outage-tolerance"),
    ("rules.alert.for-grace-period", "rules-for-grace-period"),
    ("rules.alert.resend-delay", "rules-resend-delay"),
];

/// Prometheus' flags that do not act, with ours that do what their users want.
const COUNTERPARTS: &[(&str, &str)] = &[("query.timeout", "query-timeout"), ("log.format", "log-format")];

/// Prometheus' flags that stand without a value.
const SWITCHES: &[&str] = &[
    "web.enable-lifecycle",
    "web.enable-admin-api",
    "web.enable-remote-write-receiver",
    "web.enable-otlp-receiver",
    "storage.tsdb.wal-compression",
    "storage.tsdb.no-lockfile",
    "storage.tsdb.allow-overlapping-blocks",
    "config.auto-reload",
    "alertmanager.drain-notification-queue-on-shutdown",
    "auto-gomaxprocs",
    "auto-gomemlimit",
];

/// How Prometheus' flags begin that do not act.
const NO_EFFECT: &[&str] = &[
    "web.",
    "storage.tsdb.",
    "storage.remote.",
    "config.auto-reload",
    "rules.",
    "alertmanager.",
    "query.",
    "log.",
    "auto-gomaxprocs",
    "auto-gomemlimit",
];

/// Replaces Prometheus' spellings that act, and takes out those that do not, with a warning for each.
fn translate(args: &[String]) -> (Vec<String>, Vec<String>) {
    let mut out = Vec::new();
    let mut warnings = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(flag) = arg
            .strip_prefix("--")
            .filter(|f| (f.contains('.') || f.contains("auto-go")) && !f.starts_with('='))
        else {
            out.push(arg.clone());
            continue;
        };
        let (name, value) = flag
            .split_once('=')
            .map_or((flag, None), |(n, v)| (n, Some(v.to_owned())));
        let plain = name.strip_prefix("no-").unwrap_or(name);
        if let Some((_, ours)) = ALIASES.iter().find(|(theirs, _)| *theirs == name) {
            let ours = format!("--{ours}");
            let switch = SWITCHES.contains(&name);
            let given = |a: &String| a.split('=').next() == Some(ours.as_str());
            if args.iter().chain(&out).any(given) {
                // Prometheus listens at several addresses; here it is one, and ours wins.
                if value.is_none() && !switch {
                    rest.next();
                }
                if !switch {
                    warnings.push(format!(
                        "--{name} has no effect: {ours} is given, or it stands there twice"
                    ));
                }
                continue;
            }
            out.push(ours);
            if !switch {
                out.extend(value);
            }
        } else if NO_EFFECT.iter().any(|p| plain.starts_with(p)) {
            if value.is_none() && plain == name && !SWITCHES.contains(&name) {
                rest.next();
            }
            let hint = COUNTERPARTS
                .iter()
                .find(|(theirs, _)| *theirs == name)
                .map_or(String::new(), |(_, ours)| format!("; see --{ours}"));
            warnings.push(format!(
                "--{name} is accepted for Prometheus' sake and has no effect{hint}"
            ));
        } else {
            out.push(arg.clone());
        }
    }
    (out, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Asked, Option<SettingsError>> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn serve_is_the_default_and_flags_stand_on_either_side() {
        assert_eq!(check("").unwrap().task, Task::Serve);
        let asked = check("serve --data-dir /x --enable-admin-api").unwrap();
        assert_eq!(
            asked.flags,
            [
                ("data-dir".to_owned(), "/x".to_owned()),
                ("enable-admin-api".to_owned(), "on".to_owned())
            ]
        );
        assert_eq!(check("--data-dir=/x").unwrap().flags.len(), 1);
        assert_eq!(
            check("healthcheck --prometheus-addr 127.0.0.1:1").unwrap().task,
            Task::Healthcheck
        );
        assert_eq!(check("snapshot --data-dir /x").unwrap().task, Task::Snapshot);
        assert!(
            check("--no-such-flag")
                .unwrap_err()
                .unwrap()
                .0
                .contains("--no-such-flag")
        );
        assert_eq!(
            check("--retention-metrix 3d").unwrap_err().unwrap().0,
            "unexpected argument '--retention-metrix' found; a similar argument exists: '--retention-metrics'; \
             see trilobite --help"
        );
        assert!(check("--version").unwrap_err().is_none());
    }

    #[test]
    fn prometheus_spellings_act_or_warn() {
        let asked = check(
            "--config.file=/p.yml --storage.tsdb.path /d --storage.tsdb.retention.time=3d --web.enable-lifecycle \
             --web.console.templates /t --storage.tsdb.wal-compression --loki-addr off",
        )
        .unwrap();
        let get = |name: &str| asked.flags.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("prometheus-config"), Some("/p.yml"));
        assert_eq!(get("data-dir"), Some("/d"));
        assert_eq!(get("retention-metrics"), Some("3d"));
        assert_eq!(get("loki-addr"), Some("off"));
        assert_eq!(get("enable-lifecycle"), Some("on"));
        assert_eq!(asked.warnings.len(), 2);
        assert_eq!(
            check("--query.timeout=1m").unwrap().warnings,
            ["--query.timeout is accepted for Prometheus' sake and has no effect; see --query-timeout"]
        );
        let asked = check(
            "--alertmanager.notification-queue-capacity 9 --no-alertmanager.drain-notification-queue-on-shutdown \
             --config.auto-reload --config.auto-reload-interval=1m --storage.remote.flush-deadline 1m --auto-gomaxprocs \
             --no-auto-gomemlimit --auto-gomemlimit.ratio=0.5 --data-dir /d",
        )
        .unwrap();
        assert_eq!(asked.flags, [("data-dir".to_owned(), "/d".to_owned())]);
        assert_eq!(asked.warnings.len(), 8);
    }

    #[test]
    fn prometheus_s_address_and_admin_switch_act_unless_ours_do() {
        let check = |line: &str, addr: &str, warnings: usize| {
            let asked = check(line).unwrap();
            let get = |name: &str| asked.flags.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            assert_eq!(get("prometheus-addr"), Some(addr), "{line}");
            assert_eq!(get("enable-admin-api"), Some("on"), "{line}");
            assert_eq!(asked.warnings.len(), warnings, "{line}: {:?}", asked.warnings);
        };
        check("--web.listen-address=:9091 --web.enable-admin-api", ":9091", 0);
        check("serve --web.enable-admin-api --web.listen-address :9091", ":9091", 0);
        check(
            "--web.listen-address :1 --prometheus-addr :2 --enable-admin-api",
            ":2",
            1,
        );
        check(
            "--prometheus-addr=:2 --web.listen-address=:1 --enable-admin-api --web.enable-admin-api",
            ":2",
            1,
        );
        check(
            "--web.listen-address=:1 --web.listen-address :2 --web.enable-admin-api",
            ":1",
            1,
        );
    }
}
