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
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::sync::Arc;

pub use builtin::{kind, url_encode};
pub use printf::print_float_short;
pub use spelling::{go_float, print_duration, print_float, quote, unescape};
pub use value::{ANY_LIST, Value};

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
    /// What it takes; further arguments are [`Parameter::Any`].
    pub parameters: &'static [Parameter],
}

/// What a function takes in one place.
#[derive(Clone, Copy, Debug)]
pub enum Parameter {
    /// Any value.
    Any,
    /// A string.
    Text,
    /// A list, record or the like of this type.
    Named(&'static str),
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

    fn parameter(&self, i: usize) -> Parameter {
        match self {
            Callee::Builtin(_) => Parameter::Any,
            Callee::Host(known) => known.parameters.get(i).copied().unwrap_or(Parameter::Any),
        }
    }
}

/// A parsed template, with those that it defines.
#[derive(Clone, Debug)]
pub struct Template {
    name: Arc<str>,
    body: Body,
    named: Vec<(String, Body)>,
}

#[derive(Clone, Debug)]
struct Body {
    nodes: Vec<Node>,
    /// Most variables in scope at once; the first is `$`.
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
    Template {
        place: Place,
        name: String,
        pipe: Option<Pipe>,
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
    terms: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    place: Place,
    kind: TermKind,
}

#[derive(Clone, Debug)]
enum TermKind {
    Dot,
    Nil,
    /// With its text.
    Constant(Value, String),
    Function(Callee),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a`, by slot and name; slot 0 is `$`.
    Variable(usize, String, Vec<String>),
    /// `(pipe).a`
    Pipe(Box<Pipe>, Vec<String>),
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.kind {
            TermKind::Dot => return f.write_str("."),
            TermKind::Nil => return f.write_str("nil"),
            TermKind::Constant(_, text) => return f.write_str(text),
            TermKind::Function(function) => return f.write_str(function.name()),
            TermKind::Field(path) => path,
            TermKind::Variable(_, name, path) => {
                write!(f, "${name}")?;
                path
            }
            TermKind::Pipe(pipe, path) => {
                write!(f, "({pipe})")?;
                path
            }
        };
        path.iter().try_for_each(|name| write!(f, ".{name}"))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " " })?;
            term.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, command) in self.commands.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " | " })?;
            command.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Node {
    /// Only calls of templates are shown as nodes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Template { name, pipe, .. } => {
                write!(f, "{{{{template {}", quote(name))?;
                match pipe {
                    Some(pipe) => write!(f, " {pipe}}}}}"),
                    None => f.write_str("}}"),
                }
            }
            _ => Ok(()),
        }
    }
}

impl Template {
    /// Whether it may show the host's map as a whole, so that no name can be left out.
    pub fn shows_all(&self) -> bool {
        body_shows_all(&self.body.nodes) || self.named.iter().any(|(_, body)| body_shows_all(&body.nodes))
    }

    /// Calls `visit` with the names of the host's map that the template may read.
    pub fn for_each_name(&self, visit: &mut impl FnMut(&str)) {
        body_names(&self.body.nodes, visit);
        for (_, body) in &self.named {
            body_names(&body.nodes, visit);
        }
    }
}

/// Whether a node shows the host's map as a whole: `.` or `$`, with nothing behind it.
fn body_shows_all(body: &[Node]) -> bool {
    body.iter().any(|node| match node {
        Node::Text(_) | Node::Break | Node::Continue | Node::Template { pipe: None, .. } => false,
        Node::Action(pipe) | Node::Template { pipe: Some(pipe), .. } => pipe_shows_all(pipe),
        Node::If { pipe, then, otherwise }
        | Node::With { pipe, then, otherwise }
        | Node::Range { pipe, then, otherwise } => {
            pipe_shows_all(pipe) || body_shows_all(then) || body_shows_all(otherwise)
        }
    })
}

fn pipe_shows_all(pipe: &Pipe) -> bool {
    // `index . "name"` looks at one label, which is found by its text.
    pipe.commands.iter().any(|command| {
        let is_index = matches!(command.terms.first(), Some(term) if term.to_string() == "index");
        let texts = command.terms.iter().skip(2);
        let is_known = is_index && texts.clone().all(|term| matches!(term.kind, TermKind::Constant(..)));
        command.terms.iter().any(|term| match &term.kind {
            TermKind::Dot => !is_known,
            TermKind::Variable(_, _, path) => path.is_empty() && !is_known,
            TermKind::Pipe(inner, _) => pipe_shows_all(inner),
            _ => false,
        })
    })
}

fn body_names(body: &[Node], visit: &mut impl FnMut(&str)) {
    for node in body {
        match node {
            Node::Text(_) | Node::Break | Node::Continue | Node::Template { pipe: None, .. } => {}
            Node::Action(pipe) | Node::Template { pipe: Some(pipe), .. } => pipe_names(pipe, visit),
            Node::If { pipe, then, otherwise }
            | Node::With { pipe, then, otherwise }
            | Node::Range { pipe, then, otherwise } => {
                pipe_names(pipe, visit);
                body_names(then, visit);
                body_names(otherwise, visit);
            }
        }
    }
}

fn pipe_names(pipe: &Pipe, visit: &mut impl FnMut(&str)) {
    for term in pipe.commands.iter().flat_map(|c| &c.terms) {
        match &term.kind {
            // A variable may hold the map itself.
            TermKind::Field(path) | TermKind::Variable(_, _, path) => path.iter().take(1).for_each(|name| visit(name)),
            TermKind::Pipe(inner, path) => {
                path.iter().take(1).for_each(|name| visit(name));
                pipe_names(inner, visit);
            }
            // `index . "name"` and the like may look at any label; they are found by their text.
            TermKind::Constant(Value::Text(text), _) => visit(text),
            _ => {}
        }
    }
}
