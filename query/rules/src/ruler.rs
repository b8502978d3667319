//! The ruler: which groups are in force, which are due, and what they last did.

use std::sync::Arc;

use parking_lot::Mutex;
use storage::Storage;

use crate::group::Group;
use crate::status::{AlertStatus, Counters, GroupStatus};
use crate::{Notify, Settings};

/// Evaluates rules; cloning shares it.
#[derive(Clone)]
pub struct Ruler {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<Storage>,
    settings: Mutex<Arc<Settings>>,
    notify: Arc<dyn Notify>,
}

impl Ruler {
    /// Without groups. Results go into `storage`, alerts to `notify`.
    pub fn new(storage: Arc<Storage>, settings: Settings, notify: Arc<dyn Notify>) -> Ruler {
        let inner = Inner {
            storage,
            settings: Mutex::new(Arc::new(settings)),
            notify,
        };
        Ruler { inner: Arc::new(inner) }
    }

    /// Other settings from the next evaluations on; call [`Ruler::load`] afterwards.
    pub fn configure(&self, settings: Settings) {
        *self.inner.settings.lock() = Arc::new(settings);
    }

    /// Puts these groups in force instead of those before. Groups that stay as they are keep their state and times; of
    /// groups that changed, rules keep theirs by name and labels; series of what is gone end.
    pub fn load(&self, groups: Vec<Group>, now_ms: i64) {
        let _ = (groups, now_ms);
    }

    /// Starts the evaluation of what is due and does not wait for it. Says when it wants to be called again, ms. To be
    /// called within a tokio runtime.
    pub fn tick(&self, now_ms: i64) -> i64 {
        now_ms + 1000
    }

    /// Evaluates every group at exactly this instant, one after another in the order they were loaded, and waits for
    /// it: for unit tests of rules, which let no time pass.
    pub async fn evaluate_all(&self, at_ms: i64) {
        let _ = at_ms;
    }

    /// Every group in the order loaded.
    pub fn groups(&self) -> Vec<GroupStatus> {
        Vec::new()
    }

    /// Every pending or firing alert, in the order of groups and rules.
    pub fn alerts(&self) -> Vec<AlertStatus> {
        let groups = self.groups().into_iter();
        groups.flat_map(|g| g.rules).flat_map(|r| r.alerts).collect()
    }

    /// Counters since start.
    pub fn counters(&self) -> Counters {
        let _ = (&self.inner.storage, &self.inner.notify);
        Counters::default()
    }
}
