//! Go's `text/template` as far as `line_format` and `label_format` use it.
//!
//! [`Template::parse`] turns text into a tree once; [`Template::run`] writes one entry's result into a buffer that is
//! reused. Fields (`{{ .level }}`) are labels, all of them text; pipes hand their value on as the last argument.
//! Nesting, output and steps are bounded, since templates come from outside.

mod clock;
mod decimal;
mod functions;
mod parse;
mod run;
mod value;

pub(crate) use run::Scope;

use functions::Function;
use value::Value;

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    name: &'static str,
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
    Function(&'static Function),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a`, by slot; slot 0 is `$`.
    Variable(usize, Vec<String>),
    /// `(pipe).a`
    Pipe(Box<Pipe>, Vec<String>),
}

impl Template {
    /// Calls `visit` with the label names that the template reads.
    pub fn for_each_label(&self, visit: &mut impl FnMut(&str)) {
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
