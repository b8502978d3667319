//! Where texts from outside are read that may take long to compile.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;

/// Longest text without patterns that is read where the caller stands, bytes.
const QUICK_BYTES_MAX: usize = 4 << 10;
/// Long texts that are read at a time: what the compiled patterns of each may take is bounded, and so of all.
static TURNS: Semaphore = Semaphore::const_new(4);

/// Reads a text in one of the languages. Hundreds of patterns can take seconds to compile; meanwhile the network's other
/// work goes on, on another thread.
pub fn read<T>(text: &str, reader: impl FnOnce(&str) -> T) -> T {
    let handle = Handle::try_current().ok().filter(|_| !is_quickly_read(text));
    match handle {
        Some(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => block_in_place(|| {
            // Nobody closes it.
            let _turn = handle.block_on(TURNS.acquire());
            reader(text)
        }),
        _ => reader(text),
    }
}

/// Whether a text is short and has no patterns.
fn is_quickly_read(text: &str) -> bool {
    text.len() <= QUICK_BYTES_MAX && !text.contains('~') && !text.contains("reg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_takes_long_lets_others_work() {
        let (send, receive) = std::sync::mpsc::channel();
        tokio::spawn(async move { send.send("others") });
        let read = read("{a=~\"b\"}", |text| (text.len(), receive.recv()));
        assert_eq!(read, (8, Ok("others")));
    }
}
