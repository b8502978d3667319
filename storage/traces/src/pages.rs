//! Pages of a row group for the Parquet reader, decompressed here: the reader on its own makes a zstd context for each column
//! that it opens, of which a query opens hundreds; a context per thread does for all of them.

use std::cell::RefCell;
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;

use crate::input::Input;

/// Pages that claim to be longer than this are damaged; those of ours are a hundredth of it.
const PAGE_BYTES_MAX: u64 = 256 << 20;

thread_local! {
    static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// One row group of a file.
pub(crate) struct OneGroup {
    pub(crate) input: Arc<Input>,
    pub(crate) metadata: Arc<ParquetMetaData>,
    pub(crate) group: usize,
}

impl RowGroups for OneGroup {
    fn num_rows(&self) -> usize {
        usize::try_from(self.metadata.row_group(self.group).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        let chunk = self.metadata.row_group(self.group).column(column);
        let zstd = matches!(chunk.compression(), Compression::ZSTD(_));
        let index = self.metadata.page_index();
        let places = index.and_then(|i| i.page_locations(self.group, column).cloned());
        let input = self.input.clone();
        let pages = if zstd {
            // As they are in the file.
            let chunk = chunk.clone().into_builder();
            let chunk = chunk.set_compression(Compression::UNCOMPRESSED).build()?;
            SerializedPageReader::new(input, &chunk, self.num_rows(), places)?
        } else {
            SerializedPageReader::new(input, chunk, self.num_rows(), places)?
        };
        Ok(Box::new(Chunk(Some(Pages { pages, zstd }))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.metadata.row_group(self.group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of the only chunk.
struct Chunk(Option<Pages>);

impl Iterator for Chunk {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for Chunk {}

struct Pages {
    pages: SerializedPageReader<Input>,
    zstd: bool,
}

impl Pages {
    fn plain(&self, page: Option<Page>) -> Result<Option<Page>, ParquetError> {
        match page {
            Some(page) if self.zstd => decompressed(page).map(Some),
            other => Ok(other),
        }
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        self.plain(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.take_deferred_dictionary()?;
        self.plain(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}

fn decompressed(mut page: Page) -> Result<Page, ParquetError> {
    match &mut page {
        Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = expand(buf, 0)?,
        // Levels come first and are never compressed.
        Page::DataPageV2 {
            buf,
            is_compressed: true,
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } => {
            *buf = expand(
                buf,
                (*def_levels_byte_len as usize).saturating_add(*rep_levels_byte_len as usize),
            )?
        }
        Page::DataPageV2 { .. } => {}
    }
    Ok(page)
}

/// Bytes of which all after the first `plain` are a frame of zstd.
fn expand(bytes: &Bytes, plain: usize) -> Result<Bytes, ParquetError> {
    let damaged = |what: &str| ParquetError::General(format!("a page's zstd frame {what}"));
    let Some((plain, frame)) = bytes.split_at_checked(plain) else {
        return Err(damaged("is missing"));
    };
    if frame.is_empty() {
        return Ok(bytes.clone());
    }
    let length = zstd::zstd_safe::get_frame_content_size(frame);
    let length = length
        .ok()
        .flatten()
        .ok_or_else(|| damaged("does not tell its length"))?;
    if length > PAGE_BYTES_MAX {
        return Err(damaged("is too long"));
    }
    let mut out = Vec::with_capacity(plain.len() + length as usize);
    out.extend_from_slice(plain);
    let mut out = Cursor::new(out);
    out.set_position(plain.len() as u64);
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            none => none.insert(Decompressor::new()?),
        };
        context.decompress_to_buffer(frame, &mut out)
    })?;
    let out = out.into_inner();
    if out.len() as u64 != plain.len() as u64 + length {
        return Err(damaged("is shorter than it says"));
    }
    Ok(out.into())
}
