//! What makes the head large: series counted by metric, label and pair. Work and memory grow with the active series;
//! each shard of the head is locked only while its series are listed.

use std::cmp::Reverse;
use std::sync::Arc;

use model::{METRIC_NAME, TimestampMs};
use rapidhash::fast::RandomState;

use crate::Metrics;
use crate::series::Cell;

type Counts<'a, K> = hashbrown::HashMap<K, u64, RandomState>;

/// Statistics of the head. The lists are the largest first, those of one size by name, and cut to the limit asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Active series.
    pub series: u64,
    /// Different (label, value) pairs.
    pub label_pairs: u64,
    /// Chunks in memory.
    pub chunks: u64,
    /// Time of the first and last sample, if there are any.
    pub extent: Option<(TimestampMs, TimestampMs)>,
    /// Series of each metric name.
    pub series_by_metric: Vec<(String, u64)>,
    /// Different values of each label.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of each label's values, counted once for each series.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series of each pair, written `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

impl Metrics {
    /// Counts the active series; lists of at most `limit` entries.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let heads = self.heads.load_full();
        let mut cells: Vec<Arc<Cell>> = Vec::new();
        let mut extent = None;
        for head in heads.frozen.iter().map(|frozen| &frozen.head).chain([&heads.active]) {
            cells.extend(head.cells());
            let of_head = head.extent().map(|(min, max)| (TimestampMs(min), TimestampMs(max)));
            extent = match (extent, of_head) {
                (Some((a, b)), Some((c, d))) => Some((TimestampMs::min(a, c), TimestampMs::max(b, d))),
                (one, other) => one.or(other),
            };
        }
        let chunks = cells.iter().map(|cell| cell.chunks()).sum::<u64>();
        if !heads.frozen.is_empty() {
            cells.sort_unstable_by_key(|cell| cell.id);
            cells.dedup_by_key(|cell| cell.id);
        }

        let mut pairs: Counts<'_, (&str, &str)> = Counts::default();
        for (name, value) in cells.iter().flat_map(|cell| cell.labels.iter()) {
            *pairs.entry((name, value)).or_default() += 1;
        }
        let mut metrics = Vec::new();
        let mut values: Counts<'_, &str> = Counts::default();
        let mut bytes: Counts<'_, &str> = Counts::default();
        for (&(name, value), &series) in &pairs {
            *values.entry(name).or_default() += 1;
            *bytes.entry(name).or_default() += value.len() as u64 * series;
            if name == METRIC_NAME {
                metrics.push((value, series));
            }
        }
        let by_pair = largest(pairs.iter().map(|(&pair, &series)| (pair, series)), limit);
        let owned = |list: Vec<(&str, u64)>| list.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
        Cardinality {
            series: cells.len() as u64,
            label_pairs: pairs.len() as u64,
            chunks,
            extent,
            series_by_metric: owned(largest(metrics.into_iter(), limit)),
            values_by_label: owned(largest(values.iter().map(|(&name, &n)| (name, n)), limit)),
            bytes_by_label: owned(largest(bytes.iter().map(|(&name, &n)| (name, n)), limit)),
            series_by_pair: by_pair
                .into_iter()
                .map(|((name, value), series)| (format!("{name}={value}"), series))
                .collect(),
        }
    }
}

fn largest<K: Ord + Copy>(all: impl Iterator<Item = (K, u64)>, limit: usize) -> Vec<(K, u64)> {
    let mut list: Vec<(K, u64)> = all.collect();
    let key = |&(name, n): &(K, u64)| (Reverse(n), name);
    if limit < list.len() {
        list.select_nth_unstable_by_key(limit, key);
        list.truncate(limit);
    }
    list.sort_unstable_by_key(key);
    list
}
