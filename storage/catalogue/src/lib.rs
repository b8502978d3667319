//! The catalogue: which blocks exist, and the label index, both on RocksDB (which lives here and nowhere else).
//!
//! Blocks and WAL are the truth, RocksDB is derived: a missing or damaged database is rebuilt from the `meta` and
//! `labels` files that every block directory carries.
//!
//! A [`Catalogue`] hands out staged directories, publishes them as blocks, and lists, retires and removes blocks. Its two
//! [`LabelIndex`]es, of metric series and log streams, give ids to label sets and answer matchers with ids. Start reading
//! at `catalogue` and `label_index`; formats are drawn in `meta_file`, `labels_file`, `database`, `post_key`, `id_list`.
//!
//! Not here: what is in a block (the engines), when to compact or expire (`storage`).

mod active;
mod block;
mod catalogue;
mod database;
mod day_cache;
mod error;
#[cfg(test)]
mod golden;
mod id_list;
mod label_index;
mod labels_file;
mod meta_file;
mod post_key;
mod postings;
mod recover;

pub use block::{BlockMeta, BlockRef, NewBlock, Staged};
pub use catalogue::{Catalogue, Opened};
pub use error::CatalogueError;
pub use label_index::{IndexKind, LabelIndex};
