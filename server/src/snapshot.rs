//! `trilobite snapshot`: all three signals, saved below the data directory, for a backup.
//!
//! A running process is asked over its admin API, as it alone may cut its heads. If none runs, the data directory is
//! opened, replayed, saved and closed here. Either way what is printed is a directory that `--data-dir` starts from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::TimestampNs;
use storage::{OpenError, Storage};

use crate::settings::{Listen, Settings};
use crate::{life, local_request, machine};

/// Cutting full heads on a slow disk takes its time.
const TIMEOUT: Duration = Duration::from_secs(600);

const PATH: &str = "/api/v1/admin/snapshot";

/// Makes the snapshot; the directory it is in. An error says what to do.
pub fn take(settings: &Settings) -> Result<PathBuf, String> {
    let name = match &settings.prometheus_addr {
        Listen::At(at) => match local_request::connect(at) {
            Ok(stream) => {
                let answer = local_request::ask(stream, "POST", PATH, TIMEOUT);
                name_in(at, answer.map_err(|e| format!("{at}: {e}"))?)?
            }
            Err(_) => of_closed_directory(settings)?,
        },
        Listen::Off => of_closed_directory(settings)?,
    };
    Ok(settings.data_dir.join("snapshots").join(name))
}

fn name_in(at: &str, (status, body): (u16, String)) -> Result<String, String> {
    let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    if let (200, Some(name)) = (status, json["data"]["name"].as_str()) {
        return Ok(name.to_owned());
    }
    match json["error"].as_str() {
        Some("admin APIs disabled") => Err(format!(
            "the process at {at} takes no snapshots: start it with --enable-admin-api, or stop it first"
        )),
        Some(why) => Err(format!("{at}: {why}")),
        None => Err(format!(
            "{at}: status {status} instead of a snapshot; is --prometheus-addr that of a trilobite?"
        )),
    }
}

fn of_closed_directory(settings: &Settings) -> Result<String, String> {
    let clock = Arc::new(|| TimestampNs(machine::now_ns()));
    let options = life::storage_options(settings);
    // Opening creates what is missing, and a mistyped path should not.
    let is_there = std::fs::exists(&options.data_dir).unwrap_or(true);
    if !is_there {
        return Err(format!(
            "{}: no such data directory (--data-dir)",
            options.data_dir.display()
        ));
    }
    let opened = Storage::open_with(options, life::log_policy(settings), clock);
    let (storage, _) = opened.map_err(|e| match e {
        OpenError::Locked { dir } => format!(
            "{}: a trilobite that runs has it open, but not one that answers at --prometheus-addr: say where it listens, or stop it first",
            dir.display()
        ),
        e => e.to_string(),
    })?;
    storage.snapshot(false).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_names_or_say_what_to_do() {
        let check = |status, body: &str| name_in(":9090", (status, body.to_owned()));
        assert_eq!(
            check(200, r#"{"status":"success","data":{"name":"a-b"}}"#),
            Ok("a-b".to_owned())
        );
        let why = |status, body| check(status, body).unwrap_err();
        assert!(why(503, r#"{"status":"error","error":"admin APIs disabled"}"#).contains("--enable-admin-api"));
        assert_eq!(why(500, r#"{"status":"error","error":"no space"}"#), ":9090: no space");
        assert!(why(404, "not found").contains("--prometheus-addr"));
    }
}
