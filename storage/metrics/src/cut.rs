//! The cut: the head freezes, a new one takes over, and the frozen one becomes one block for each day it holds.
//!
//! The order of steps makes a crash harmless at each of them: blocks are written beside, metadata is saved, the label
//! index is flushed, then the catalogue enters blocks and checkpoint in one write; only then does the frozen head
//! leave, and the WAL below the checkpoint with it. If a step fails, the frozen head stays readable and the next cut
//! tries it again first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{BlockId, DAY_MS, Day, Exemplar, LabelSet, Signal, TimestampMs};
use storage_catalogue::{BlockMeta, NewBlock, Staged};

use crate::block::{BlockWriter, Written, io_error, rank_of};
use crate::exemplar;
use crate::head::Head;
use crate::series::Cell;
use crate::{BlockError, Frozen, Heads, Metrics};

/// Exemplars of a head by series, rising by id.
type SeriesExemplars = Vec<(u32, Vec<Exemplar>)>;

/// Frozen heads that may wait for their blocks; beyond it a failed log stays so until blocks can be written.
const FROZEN_MAX: usize = 4;

impl Metrics {
    pub(crate) fn cut_now(&self) -> Result<Vec<BlockId>, BlockError> {
        let _one_at_a_time = self.cutting.lock();
        let mut ids = Vec::new();
        let before = self.publish_frozen(&mut ids);
        // A failed log is rolled even if blocks cannot be written now, so that appends may go on.
        let heal = self.wal.failed().is_some() && self.heads.load().frozen.len() < FROZEN_MAX;
        if before.is_ok() || heal {
            self.freeze()?;
        }
        before?;
        self.publish_frozen(&mut ids)?;
        Ok(ids)
    }

    /// Swaps in a new head, if there is something to freeze. A failed log always gets a new head, since what the old
    /// one defined in it may be lost; samples that were not acknowledged may live on in the frozen head, which does no
    /// harm.
    fn freeze(&self) -> Result<(), BlockError> {
        if self.heads.load().active.is_empty() && self.wal.failed().is_none() {
            return Ok(());
        }
        let new = Arc::new(Head::new(&self.budget));
        let rolling = {
            let _gate = self.gate.write();
            let (checkpoint, rolling) = self.wal.begin_roll();
            let heads = self.heads.load();
            // A head without series defines nothing in the log and can stay.
            if heads.active.series() > 0 {
                let mut frozen = heads.frozen.clone();
                frozen.push(Arc::new(Frozen {
                    head: heads.active.clone(),
                    checkpoint,
                }));
                self.heads.store(Arc::new(Heads { active: new, frozen }));
            }
            rolling
        };
        // Appends do not wait for the disk here. If it says no, the log refuses them until the next cut.
        Ok(rolling.wait()?)
    }

    /// Makes blocks of the frozen heads, if there are any, and lets them and their part of the WAL go.
    fn publish_frozen(&self, ids: &mut Vec<BlockId>) -> Result<(), BlockError> {
        loop {
            let Some(frozen) = self.heads.load().frozen.first().cloned() else {
                return Ok(());
            };
            ids.extend(self.publish(&frozen)?);
        }
    }

    fn publish(&self, frozen: &Frozen) -> Result<Vec<BlockId>, BlockError> {
        let cells = frozen.head.cells();
        let mut days = BTreeSet::new();
        let mut exemplars = SeriesExemplars::new();
        for cell in &cells {
            cell.seal(&mut days);
            let list = cell.exemplars();
            days.extend(list.iter().map(|e| e.t.day()));
            if !list.is_empty() {
                exemplars.push((cell.id, list));
            }
        }
        let floor = self.floor().day();
        let mut blocks = Vec::new();
        for day in days.into_iter().filter(|&day| day >= floor) {
            blocks.push(self.write_day(day, &cells, &exemplars)?);
        }
        self.families.save(&self.disk)?;
        self.catalogue.flush()?;
        let published = self.catalogue.publish(blocks, Some(frozen.checkpoint.0))?;
        let heads = self.heads.load();
        self.heads.store(Arc::new(Heads {
            active: heads.active.clone(),
            frozen: heads.frozen[1..].to_vec(),
        }));
        self.cuts.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.wal.truncate(frozen.checkpoint) {
            tracing::warn!(%error, "the WAL below the cut could not be removed; the next cut tries again");
        }
        self.forget_closed_blocks();
        Ok(published.iter().map(|block| block.meta().id).collect())
    }

    fn write_day(&self, day: Day, cells: &[Arc<Cell>], exemplars: &SeriesExemplars) -> Result<NewBlock, BlockError> {
        let staged = self.catalogue.stage(Signal::Metrics)?;
        let of_day = exemplars_of(day, exemplars);
        let mut with_exemplars = of_day.iter().map(|(id, _)| *id).peekable();
        let mut labels: Vec<(u32, LabelSet)> = Vec::new();
        let mut writer = BlockWriter::create(&self.disk, staged.dir())?;
        for cell in cells {
            let chunks = cell.closed_on(day);
            writer.add(cell.id, &chunks)?;
            let has_exemplars = with_exemplars.next_if_eq(&cell.id).is_some();
            if has_exemplars || !chunks.is_empty() {
                labels.push((cell.id, cell.labels.clone()));
            }
        }
        let written = writer.finish(rank_of(staged.id()))?;
        self.finish_block(staged, day, 0, written, &of_day, labels, Vec::new())
    }

    /// Writes the exemplars and puts together what the catalogue must know.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn finish_block(
        &self,
        staged: Staged,
        day: Day,
        level: u8,
        written: Written,
        exemplars: &[(u32, Vec<Exemplar>)],
        labels: Vec<(u32, LabelSet)>,
        replaces: Vec<BlockId>,
    ) -> Result<NewBlock, BlockError> {
        if !exemplars.is_empty() {
            let path = staged.dir().join(exemplar::FILE);
            let bytes = exemplar::encode_file(exemplars.iter().map(|(id, list)| (*id, &list[..])));
            let mut file = self.disk.create(&path).map_err(|e| io_error(&path, e))?;
            file.write_all(&bytes).map_err(|e| io_error(&path, e))?;
        }
        let times = || exemplars.iter().flat_map(|(_, list)| list.iter().map(|e| e.t.0));
        let min = times().fold(written.min, i64::min);
        let max = times().fold(written.max, i64::max);
        let meta = BlockMeta {
            id: staged.id(),
            signal: Signal::Metrics,
            day,
            min: TimestampMs(min).to_ns(),
            max: TimestampMs(max).to_ns(),
            level,
            items: written.samples,
            keys: labels.len() as u64,
            bytes: 0,
            replaces,
        };
        Ok(NewBlock { staged, meta, labels })
    }
}

fn exemplars_of(day: Day, exemplars: &SeriesExemplars) -> SeriesExemplars {
    let start = day.start_ms().0;
    let of_day = |e: &&Exemplar| (start..start.saturating_add(DAY_MS)).contains(&e.t.0);
    let all = exemplars
        .iter()
        .map(|(id, list)| (*id, list.iter().filter(of_day).cloned().collect()));
    all.filter(|(_, list): &(u32, Vec<Exemplar>)| !list.is_empty())
        .collect()
}
