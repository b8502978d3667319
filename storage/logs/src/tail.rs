//! Live tail: accepted entries, handed to whoever listens. Nobody listening costs one load for each batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use model::{Entry, LabelSet, Matcher, TimestampNs};
use parking_lot::RwLock;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Entries that wait for a slow receiver; what comes beyond is lost to it, and counted.
const QUEUE_ENTRIES_MAX: usize = 4096;

/// Labels, an entry, and how many were lost before it.
type Heard = (LabelSet, Entry, u64);

/// A live tail; ends when dropped.
pub struct Subscription {
    receiver: Receiver<Heard>,
    /// How the engine knows it.
    listener: Arc<Listener>,
    listeners: Arc<Listeners>,
}

/// Who listens.
#[derive(Default)]
pub(crate) struct Listeners {
    count: AtomicUsize,
    all: RwLock<Vec<(Arc<Listener>, Sender<Heard>)>>,
}

pub(crate) struct Listener {
    matchers: Vec<Matcher>,
    lost: AtomicU64,
}

/// The queues that want the entries of one stream.
pub(crate) struct Wanted(Vec<(Arc<Listener>, Sender<Heard>)>);

impl Subscription {
    /// The next entry with its stream's labels, and how many were lost before it because the receiver was slow.
    /// `None` when the engine closes.
    pub async fn recv(&mut self) -> Option<(LabelSet, Entry, u64)> {
        self.receiver.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut all = self.listeners.all.write();
        all.retain(|(l, _)| !Arc::ptr_eq(l, &self.listener));
        self.listeners.count.store(all.len(), Relaxed);
    }
}

impl Listeners {
    pub fn subscribe(self: &Arc<Self>, matchers: Vec<Matcher>) -> Subscription {
        let (sender, receiver) = channel(QUEUE_ENTRIES_MAX);
        let listener = Arc::new(Listener {
            matchers,
            lost: AtomicU64::new(0),
        });
        let mut all = self.all.write();
        all.push((listener.clone(), sender));
        self.count.store(all.len(), Relaxed);
        drop(all);
        Subscription {
            receiver,
            listener,
            listeners: self.clone(),
        }
    }

    /// Who wants this stream's entries; `None` if nobody does.
    pub fn wanted(&self, labels: &LabelSet) -> Option<Wanted> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        let all = self.all.read();
        let passes = |l: &Listener| {
            l.matchers
                .iter()
                .all(|m| m.matches(labels.get(m.name()).unwrap_or_default()))
        };
        let wanted: Vec<_> = all.iter().filter(|(l, _)| passes(l)).cloned().collect();
        (!wanted.is_empty()).then_some(Wanted(wanted))
    }

    /// Tells all who listen that nothing more comes.
    pub fn close(&self) {
        self.all.write().clear();
        self.count.store(0, Relaxed);
    }
}

impl Wanted {
    pub fn send(&self, labels: &LabelSet, t: i64, line: &str, metadata: &[(&str, &str)]) {
        for (listener, sender) in &self.0 {
            let Ok(place) = sender.try_reserve() else {
                listener.lost.fetch_add(1, Relaxed);
                continue;
            };
            let entry = Entry {
                t: TimestampNs(t),
                line: line.to_owned(),
                metadata: metadata.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
            };
            place.send((labels.clone(), entry, listener.lost.swap(0, Relaxed)));
        }
    }
}
