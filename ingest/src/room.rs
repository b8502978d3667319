//! How much a request may unfold to: two bytes on the wire can become a hundred in memory.

use crate::refusal::Refusal;

/// How many bytes of memory a request may still unfold to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    left: usize,
    all: usize,
}

impl Room {
    /// `bytes` in all.
    pub fn new(bytes: usize) -> Room {
        Room {
            left: bytes,
            all: bytes,
        }
    }

    /// Takes some of it.
    pub fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| Room::exceeded(self.all))?;
        Ok(())
    }

    /// Whether a batch that has grown to `bytes` is still allowed.
    pub fn check(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.all {
            Err(Room::exceeded(self.all))
        } else {
            Ok(())
        }
    }

    fn exceeded(all: usize) -> Refusal {
        Refusal::TooLarge(format!(
            "request unfolds to more than {all} bytes in memory; send smaller batches"
        ))
    }
}
