//! Text to syntax tree: tokens, grammar, and the rules that need no data.

mod lex;
mod parse;
mod tree;

pub(crate) use parse::{parse, parse_selector, rule};
pub(crate) use tree::*;
