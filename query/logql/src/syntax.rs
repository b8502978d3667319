//! Text to syntax tree: tokens, grammar, and the rules that need no data.

mod lex;
mod parse;
mod pretty;
mod tree;

pub(crate) use parse::{parse, parse_selector, rule};
pub(crate) use pretty::pretty;
pub(crate) use tree::*;
