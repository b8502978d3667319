//! How much is logged, and how it is changed while running.

use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;
use ui_api::LogLevel;

use crate::settings::LogFormat;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Starts logging to stderr.
pub fn start(filter: EnvFilter, format: LogFormat) -> Arc<dyn LogLevel> {
    // The builders of the two formats are of different types.
    match format {
        LogFormat::Text => {
            let log = tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr);
            let log = log.with_env_filter(filter).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Arc::new(Level(handle))
        }
        LogFormat::Json => {
            let log = tracing_subscriber::fmt().json().flatten_event(true);
            let log = log
                .with_writer(std::io::stderr)
                .with_env_filter(filter)
                .with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Arc::new(Level(handle))
        }
    }
}

struct Level<S>(Handle<EnvFilter, S>);

impl<S: Send + Sync> LogLevel for Level<S> {
    fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    fn set(&self, level: &str) -> Result<(), String> {
        if !LEVELS.contains(&level) {
            let levels = LEVELS.join(", ");
            return Err(format!("unrecognized log level {level:?}; it is one of {levels}"));
        }
        self.0.reload(EnvFilter::new(level)).map_err(|e| e.to_string())
    }
}
