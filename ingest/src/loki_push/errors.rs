//! What is wrong with the entries of one push, in Loki's words: like errors are counted, and told once.

use std::collections::BTreeMap;

/// Different errors that are told.
const ERRORS_MAX: usize = 100;
/// Longest single error.
const ERROR_BYTES_MAX: usize = 8 * 1024;
/// Longest text of all.
const WORDS_BYTES_MAX: usize = 64 * 1024;

/// Errors of entries and streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Errors {
    times: BTreeMap<String, u64>,
    untold: u64,
}

impl Errors {
    /// Adds one.
    pub fn add(&mut self, mut words: String) {
        words.truncate(words.floor_char_boundary(ERROR_BYTES_MAX));
        if let Some(times) = self.times.get_mut(&words) {
            *times += 1;
        } else if self.times.len() < ERRORS_MAX {
            self.times.insert(words, 1);
        } else {
            self.untold += 1;
        }
    }

    /// Adds some whose words nobody kept.
    pub fn add_untold(&mut self, times: u64) {
        self.untold += times;
    }

    /// A line about all of them.
    pub fn words(self) -> String {
        let alone = self.untold == 0 && self.times.len() == 1;
        let mut untold = self.untold;
        let mut out = String::new();
        for (words, times) in self.times {
            if out.len() + words.len() > WORDS_BYTES_MAX {
                untold += times;
                continue;
            }
            if !out.is_empty() {
                out.push_str("; ");
            }
            if !alone || times > 1 {
                out.push_str(&format!("{times} errors like: "));
            }
            out.push_str(&words);
        }
        if untold > 0 {
            out.push_str(&format!("; {untold} other errors"));
        }
        out.push('\n');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_errors_are_told_once() {
        let check = |errors: &[&str], untold: u64, want: &str| {
            let mut all = Errors::default();
            errors.iter().for_each(|e| all.add((*e).to_owned()));
            all.add_untold(untold);
            assert_eq!(all.words(), want);
        };
        check(&["a"], 0, "a\n");
        check(&["a", "a"], 0, "2 errors like: a\n");
        check(&["b", "a", "b"], 0, "1 errors like: a; 2 errors like: b\n");
        check(&["a"], 2, "1 errors like: a; 2 other errors\n");
    }

    #[test]
    fn however_many_and_long_the_text_is_bounded() {
        let mut all = Errors::default();
        for i in 0..1000 {
            all.add(format!("{i}{}", "ż".repeat(20_000)));
        }
        let words = all.words();
        assert!(words.len() < WORDS_BYTES_MAX + 5000, "{}", words.len());
        assert!(
            words.ends_with("; 993 other errors\n"),
            "{}",
            &words[words.len() - 100..]
        );
    }
}
