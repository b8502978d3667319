//! Where targets are: each source is asked again and again, and tells all it knows each time. One that fails keeps what
//! it knew.

mod file;

use std::sync::Arc;

use prometheus_config::{Discovery, TargetGroup};

use super::ScrapeCounters;
use super::http::Network;

/// Who is told of all groups of a source.
pub(super) type Tell = Box<dyn Fn(Vec<TargetGroup>) + Send + Sync>;

/// Asks a source until the task is dropped.
pub(super) async fn run(source: Discovery, network: Network, counters: Arc<ScrapeCounters>, tell: Tell) {
    match source {
        Discovery::Static(groups) => tell(groups),
        Discovery::File(config) => file::run(&config, &counters, &tell).await,
        _ => {
            let _ = network;
        }
    }
}
