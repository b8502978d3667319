//! The head's string table: names of spans, events and attributes, each once, with a note where it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use rapidhash::RapidHashMap;

use crate::span_bytes::{GetSymbols, Place, PutSymbols};

/// Strings beyond this many are written in place; a sender that puts ids into names must not fill memory twice.
const STRINGS_MAX: usize = 1 << 16;

/// Longer strings are written in place.
const STRING_BYTES_MAX: usize = 256;

/// Strings by number, growing only.
#[derive(Default)]
pub(crate) struct Symbols {
    table: RwLock<Strings>,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Strings {
    numbers: RapidHashMap<Arc<str>, u32>,
    list: Vec<Symbol>,
}

struct Symbol {
    text: Arc<str>,
    places: AtomicU8,
}

impl Symbols {
    /// For encoding a run of spans.
    pub(crate) fn writer(&self) -> SymbolWriter<'_> {
        SymbolWriter {
            symbols: self,
            table: Some(self.table.read()),
        }
    }

    /// For decoding while others go on writing. Knows every string that was written before.
    pub(crate) fn view(&self) -> SymbolView {
        SymbolView(self.table.read().list.iter().map(|s| s.text.clone()).collect())
    }

    /// Strings used at a place.
    pub(crate) fn used_at(&self, place: Place) -> Vec<Arc<str>> {
        let table = self.table.read();
        let used = table
            .list
            .iter()
            .filter(|s| s.places.load(Ordering::Relaxed) & bit(place) != 0);
        used.map(|s| s.text.clone()).collect()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn bit(place: Place) -> u8 {
    match place {
        Place::Other => 0,
        Place::SpanAttribute => 1,
        Place::EventAttribute => 2,
        Place::LinkAttribute => 4,
    }
}

/// Holds the table open for reading, and steps aside when it must grow.
pub(crate) struct SymbolWriter<'a> {
    symbols: &'a Symbols,
    table: Option<RwLockReadGuard<'a, Strings>>,
}

impl PutSymbols for SymbolWriter<'_> {
    fn number(&mut self, text: &str, place: Place) -> u64 {
        if text.len() > STRING_BYTES_MAX {
            return 0;
        }
        let table = self.table.get_or_insert_with(|| self.symbols.table.read());
        let found = table.numbers.get(text).copied();
        let number = match found {
            Some(n) => n,
            None if table.list.len() >= STRINGS_MAX => return 0,
            None => {
                self.table = None;
                let mut growing = self.symbols.table.write();
                let known = growing.numbers.get(text).copied();
                known.unwrap_or_else(|| {
                    let text: Arc<str> = text.into();
                    let n = growing.list.len() as u32;
                    growing.numbers.insert(text.clone(), n);
                    self.symbols.bytes.fetch_add(text.len() as u64 + 80, Ordering::Relaxed);
                    growing.list.push(Symbol {
                        text,
                        places: AtomicU8::new(0),
                    });
                    n
                })
            }
        };
        let bit = bit(place);
        let table = self.table.get_or_insert_with(|| self.symbols.table.read());
        if let Some(symbol) = table.list.get(number as usize) {
            // Looked at first, so that a known name costs no write to a shared cache line.
            if symbol.places.load(Ordering::Relaxed) & bit != bit {
                symbol.places.fetch_or(bit, Ordering::Relaxed);
            }
        }
        u64::from(number) + 1
    }
}

/// The strings of one moment.
pub(crate) struct SymbolView(Vec<Arc<str>>);

impl SymbolView {
    /// Whether the table has grown since.
    pub(crate) fn is_behind(&self, table: &Symbols) -> bool {
        self.0.len() < table.table.read().list.len()
    }
}

impl GetSymbols for SymbolView {
    fn text(&self, number: u64) -> Option<&str> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.0.get(at).map(|s| &**s)
    }
}
