//! Go's `text/template` for whoever brings data and functions: `line_format` of LogQL, labels and annotations of rules.
//!
//! [`Template::parse`] turns text into a tree once; [`Template::run`] appends one result to a buffer that is reused. A
//! [`Host`] brings the dot at the top and functions beside Go's own; pipes hand their value on as the last argument.
//! Nesting, output and steps are bounded, since templates come from outside.
//!
//! Start at `parse.rs`, then `run.rs`; Go's own functions are in `builtin.rs`, its layouts of time in `clock.rs`.

mod builtin;
pub mod clock;
mod parse;
mod printf;
mod run;
mod spelling;
mod value;

use std::sync::Arc;

pub use builtin::{kind, url_encode};
pub use spelling::{go_float, print_float, quote, unescape};
pub use value::Value;

use builtin::Builtin;

/// Longest text that a function of a template should build.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// What a template sees, and what it may call.
pub trait Host {
    /// Calls the function with this number; the error is the text after `error calling NAME:`.
    fn call(&self, number: usize, arguments: &mut [Value]) -> Result<Value, String>;
    /// A value of [`Value::Host`], the map that is the dot at the top.
    fn get(&self, name: &str) -> Option<&str>;
    /// All names and values of that map, in any order.
    fn for_each(&self, visit: &mut dyn FnMut(&str, &str));
}

/// A function that a host brings.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// As templates write it.
    pub name: &'static str,
    /// What [`Host::call`] is told.
    pub number: usize,
    /// Fewest and most arguments.
    pub arguments: (usize, usize),
}

type Call = fn(&mut [Value], &dyn Host) -> Result<Value, String>;

#[derive(Clone, Copy, Debug)]
enum Callee {
    Builtin(&'static Builtin),
    Host(Known),
}

impl Callee {
    fn name(&self) -> &'static str {
        match self {
            Callee::Builtin(builtin) => builtin.name,
            Callee::Host(known) => known.name,
        }
    }

    fn arguments(&self) -> (usize, usize) {
        match self {
            Callee::Builtin(builtin) => builtin.arguments,
            Callee::Host(known) => known.arguments,
        }
    }
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    name: Arc<str>,
    body: Vec<Node>,
    /// As it was written, for error texts.
    source: String,
    /// Most variables in scope at once.
    variables: usize,
}

/// Where a node stands: line and byte in that line, for error texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    line: usize,
    byte: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    /// `{{ pipe }}`; nothing is printed if it declares.
    Action(Pipe),
    If {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

#[derive(Clone, Debug)]
struct Pipe {
    /// Slots of the variables it declares or assigns: at most one, or two for `range $i, $v :=`.
    variables: Vec<usize>,
    commands: Vec<Command>,
}

/// A function or operand with its arguments.
#[derive(Clone, Debug)]
struct Command {
    place: Place,
    terms: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Dot,
    Nil,
    Constant(Value),
    Function(Callee),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a`, by slot; slot 0 is `$`.
    Variable(usize, Vec<String>),
    /// `(pipe).a`
    Pipe(Box<Pipe>, Vec<String>),
}

impl Template {
    /// Calls `visit` with the names of the host's map that the template may read.
    pub fn for_each_name(&self, visit: &mut impl FnMut(&str)) {
        body_labels(&self.body, visit);
    }
}

fn body_labels(body: &[Node], visit: &mut impl FnMut(&str)) {
    for node in body {
        match node {
            Node::Text(_) | Node::Break | Node::Continue => {}
            Node::Action(pipe) => pipe_labels(pipe, visit),
            Node::If { pipe, then, otherwise }
            | Node::With { pipe, then, otherwise }
            | Node::Range { pipe, then, otherwise } => {
                pipe_labels(pipe, visit);
                body_labels(then, visit);
                body_labels(otherwise, visit);
            }
        }
    }
}

fn pipe_labels(pipe: &Pipe, visit: &mut impl FnMut(&str)) {
    for term in pipe.commands.iter().flat_map(|c| &c.terms) {
        match term {
            Term::Field(path) | Term::Variable(0, path) => path.iter().take(1).for_each(|name| visit(name)),
            Term::Pipe(inner, _) => pipe_labels(inner, visit),
            // `index . "name"` and the like may look at any label; they are found by their text.
            Term::Constant(Value::Text(text)) => visit(text),
            _ => {}
        }
    }
}
