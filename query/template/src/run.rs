//! Running a template.

use std::fmt::Display;
use std::sync::Arc;

use super::value::Value;
use super::{Body, Callee, Command, Host, Node, Parameter, Pipe, Place, Template, Term, TermKind, clock, kind};

/// Longest output of one run.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Most nodes visited in one run; what values take counts too.
const STEPS_MAX: usize = 100_000;
/// Bytes of values that count as a step, so that a run neither takes long over few large texts nor holds many.
const STEP_BYTES: usize = 1 << 10;
/// Most blocks and templates within one another.
const DEPTH_MAX: usize = 150;
/// Characters of a node that an error text shows. (Go shows all of it since 1.26.)
const SHOWN_MAX: usize = 1_000;

impl Template {
    /// Appends the result to `out`, with the host's map as the dot. The error has Go's words; what was written until then
    /// stays.
    pub fn run(&self, host: &dyn Host, out: &mut String) -> Result<(), String> {
        self.run_on(Value::Host, host, out)
    }

    /// The same, with this dot.
    pub fn run_on(&self, dot: Value, host: &dyn Host, out: &mut String) -> Result<(), String> {
        let mut run = Run {
            template: self,
            host,
            name: &self.name,
            variables: vec![Value::Nil; self.body.variables],
            at: At::Nowhere,
            out_start: out.len(),
            steps: 0,
            depth: 0,
        };
        run.variables[0] = dot.clone();
        run.body(&self.body.nodes, &dot, out).map(|_| ())
    }
}

struct Run<'a> {
    template: &'a Template,
    host: &'a dyn Host,
    /// Of the template that runs: the whole, or one that it defines.
    name: &'a str,
    variables: Vec<Value>,
    /// What is evaluated, for error texts.
    at: At<'a>,
    out_start: usize,
    steps: usize,
    depth: usize,
}

#[derive(Clone, Copy)]
enum At<'a> {
    Nowhere,
    Node(Place, &'a dyn Display),
}

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'a> Run<'a> {
    fn fault(&self, what: &str) -> String {
        let (parsed, name) = (&self.template.name, self.name);
        match self.at {
            At::Nowhere => format!("template: {parsed}: executing \"{name}\": {what}"),
            At::Node(place, node) => {
                let mut shown = node.to_string();
                if let Some((cut, _)) = shown.char_indices().nth(SHOWN_MAX) {
                    shown.truncate(cut);
                    shown.push_str("...");
                }
                let (line, byte) = (place.line, place.byte);
                format!("template: {parsed}:{line}:{byte}: executing \"{name}\" at <{shown}>: {what}")
            }
        }
    }

    fn step(&mut self, written: usize) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(format!("template: {}: more than {STEPS_MAX} steps", self.template.name));
        }
        if written > OUTPUT_BYTES_MAX {
            return Err(format!(
                "template: {}: more than {OUTPUT_BYTES_MAX} bytes of output",
                self.template.name
            ));
        }
        Ok(())
    }

    /// Counts what a value takes that is made or copied.
    fn weigh(&mut self, bytes: usize) -> Result<(), String> {
        if bytes >= STEP_BYTES {
            self.steps = self.steps.saturating_add(bytes / STEP_BYTES);
            self.step(0)?;
        }
        Ok(())
    }

    fn body(&mut self, body: &'a [Node], dot: &Value, out: &mut String) -> Result<Flow, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(&format!("exceeded maximum template depth ({DEPTH_MAX})")));
        }
        for node in body {
            self.step(out.len().saturating_sub(self.out_start))?;
            let flow = match node {
                Node::Text(text) => {
                    out.push_str(text);
                    Flow::On
                }
                Node::Action(pipe) => {
                    self.action(pipe, dot, out)?;
                    Flow::On
                }
                Node::If { pipe, then, otherwise } => {
                    let value = self.pipe(pipe, dot)?;
                    self.declare(pipe, &value);
                    self.body(if value.truth() { then } else { otherwise }, dot, out)?
                }
                Node::With { pipe, then, otherwise } => {
                    let value = self.pipe(pipe, dot)?;
                    self.declare(pipe, &value);
                    match value.truth() {
                        true => self.body(then, &value, out)?,
                        false => self.body(otherwise, dot, out)?,
                    }
                }
                Node::Range { pipe, then, otherwise } => {
                    let value = self.pipe(pipe, dot)?;
                    self.range(pipe, value, then, otherwise, dot, out)?
                }
                Node::Template { place, name, pipe } => {
                    self.at = At::Node(*place, node);
                    self.template(name, pipe.as_ref(), dot, out)?;
                    Flow::On
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                self.depth -= 1;
                return Ok(flow);
            }
        }
        self.depth -= 1;
        Ok(Flow::On)
    }

    fn declare(&mut self, pipe: &Pipe, value: &Value) {
        if let Some(slot) = pipe.variables.last() {
            self.variables[*slot] = value.clone();
        }
    }

    /// `{{ template "name" pipe }}`: variables of its own, and the pipe's value as its dot.
    fn template(&mut self, name: &str, pipe: Option<&'a Pipe>, dot: &Value, out: &mut String) -> Result<(), String> {
        let template: &'a Template = self.template;
        let body: &'a Body = match template.named.iter().find(|(n, _)| n == name) {
            Some((_, body)) => body,
            None => return Err(self.fault(&format!("template {} not defined", crate::quote(name)))),
        };
        let named: &'a str = template.named.iter().find(|(n, _)| n == name).map_or("", |(n, _)| n);
        let value = match pipe {
            Some(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.declare(pipe, &value);
                value
            }
            None => Value::Nil,
        };
        let mut variables = vec![Value::Nil; body.variables];
        variables[0] = value.clone();
        let outer = (std::mem::replace(&mut self.variables, variables), self.name);
        self.name = named;
        self.body(&body.nodes, &value, out)?;
        (self.variables, self.name) = outer;
        Ok(())
    }

    fn range(
        &mut self,
        pipe: &'a Pipe,
        value: Value,
        then: &'a [Node],
        otherwise: &'a [Node],
        dot: &Value,
        out: &mut String,
    ) -> Result<Flow, String> {
        let len = match &value {
            Value::List(_, items) => items.len(),
            Value::Map(entries) => entries.len(),
            Value::Texts(entries) => entries.len(),
            Value::Nil => 0,
            Value::Int(n) if *n >= 0 => usize::try_from(*n).unwrap_or(STEPS_MAX).min(STEPS_MAX),
            Value::Host => {
                let map = self.resolved(Value::Host)?;
                return self.range(pipe, map, then, otherwise, dot, out);
            }
            other => {
                return Err(self.fault(&format!("range can't iterate over {}", other.text())));
            }
        };
        if len == 0 {
            return self.body(otherwise, dot, out);
        }
        for i in 0..len {
            let (key, item) = match &value {
                Value::List(_, items) => (Value::Int(i as i64), items[i].clone()),
                Value::Map(entries) => (Value::Text(entries[i].0.clone()), entries[i].1.clone()),
                Value::Texts(entries) => (Value::Text(entries[i].0.clone()), Value::Text(entries[i].1.clone())),
                _ => (Value::Int(i as i64), Value::Int(i as i64)),
            };
            self.step(0)?;
            if self.once(pipe, key, &item, then, out)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// With the host's map as a map of its own, so that it can be shown and handed on.
    fn resolved(&mut self, value: Value) -> Result<Value, String> {
        Ok(match value {
            Value::Host => {
                let mut all = Vec::new();
                self.host
                    .for_each(&mut |name, value| all.push((name.to_owned(), value.to_owned())));
                all.sort();
                let map = Value::Texts(all.into());
                self.weigh(map.bytes())?;
                map
            }
            Value::Record(name, fields) if fields.iter().any(|(_, value)| *value == Value::Host) => {
                let fields = fields.iter();
                let fields = fields.map(|(name, value)| Ok((*name, self.resolved(value.clone())?)));
                Value::Record(name, fields.collect::<Result<_, String>>()?)
            }
            value => value,
        })
    }

    fn once(
        &mut self,
        pipe: &Pipe,
        key: Value,
        item: &Value,
        then: &'a [Node],
        out: &mut String,
    ) -> Result<Flow, String> {
        match pipe.variables[..] {
            [one] => self.variables[one] = item.clone(),
            [index, one] => {
                self.variables[index] = key;
                self.variables[one] = item.clone();
            }
            _ => {}
        }
        self.body(then, item, out)
    }

    fn action(&mut self, pipe: &'a Pipe, dot: &Value, out: &mut String) -> Result<(), String> {
        // The plain `{{ .label }}` needs no value of its own.
        if let ([Command { terms, .. }], [], Value::Host) = (&pipe.commands[..], &pipe.variables[..], dot)
            && let [term] = &terms[..]
            && let TermKind::Field(path) = &term.kind
            && let [name] = &path[..]
        {
            out.push_str(self.host.get(name).unwrap_or(""));
            return Ok(());
        }
        let value = self.pipe(pipe, dot)?;
        if pipe.variables.is_empty() {
            self.resolved(value)?.print(out);
        } else {
            self.declare(pipe, &value);
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value, String> {
        let mut piped = None;
        for command in &pipe.commands {
            self.step(0)?;
            let value = self.command(command, dot, piped)?;
            self.weigh(value.text_bytes())?;
            piped = Some(value);
        }
        Ok(piped.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &'a Command, dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let Some((first, rest)) = command.terms.split_first() else {
            return Ok(Value::Nil);
        };
        match &first.kind {
            TermKind::Function(function) => self.call(*function, command, first, rest, dot, piped),
            _ => self.operand(first, rest, dot, piped),
        }
    }

    fn call(
        &mut self,
        function: Callee,
        node: &'a dyn Display,
        first: &'a Term,
        rest: &'a [Term],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, String> {
        self.at = At::Node(first.place, first);
        let got = rest.len() + usize::from(piped.is_some());
        let (least, most) = function.arguments();
        if got < least || got > most {
            let want = if least == most {
                format!("want {least}")
            } else {
                format!("want at least {least}")
            };
            return Err(self.fault(&format!(
                "wrong number of args for {}: {want} got {got}",
                function.name()
            )));
        }
        let mut arguments = Vec::with_capacity(got);
        // `and` and `or` stop at the first argument that decides.
        let decides = match function.name() {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        };
        // It alone looks into the host's map as it is.
        let is_index = function.name() == "index";
        for term in rest {
            let value = self.term(term, dot)?;
            self.weigh(value.text_bytes())?;
            if decides == Some(value.truth()) {
                return Ok(value);
            }
            self.fits(function.parameter(arguments.len()), &value, Some(term))?;
            arguments.push(if is_index { value } else { self.resolved(value)? });
        }
        if let Some(value) = piped {
            self.weigh(value.text_bytes())?;
            self.fits(function.parameter(arguments.len()), &value, None)?;
            arguments.push(if is_index { value } else { self.resolved(value)? });
        }
        let called = match function {
            Callee::Builtin(builtin) => (builtin.call)(&mut arguments, self.host),
            Callee::Host(known) => self.host.call(known.number, &mut arguments),
        };
        let value = called.map_err(|what| {
            self.at = At::Node(first.place, node);
            self.fault(&format!("error calling {}: {what}", function.name()))
        })?;
        self.weigh(value.bytes())?;
        Ok(value)
    }

    /// Whether a function takes this value; Go looks before it calls.
    fn fits(&mut self, parameter: Parameter, value: &Value, term: Option<&'a Term>) -> Result<(), String> {
        let want = match parameter {
            Parameter::Any => return Ok(()),
            Parameter::Text if matches!(value, Value::Text(_)) => return Ok(()),
            Parameter::Text => "string",
            Parameter::Named(name) if kind(value) == name => return Ok(()),
            Parameter::Named(name) => name,
        };
        if let Some(term) = term {
            self.at = At::Node(term.place, term);
            if matches!(term.kind, TermKind::Constant(..)) {
                let what = match want {
                    "string" => format!("expected string; found {term}"),
                    want => format!("can't handle {term} for arg of type {want}"),
                };
                return Err(self.fault(&what));
            }
        }
        Err(match value {
            Value::Nil => self.fault(&format!("invalid value; expected {want}")),
            value => self.fault(&format!("wrong type for value; expected {want}; got {}", kind(value))),
        })
    }

    /// What begins with no function: a value, or a method with arguments.
    fn operand(
        &mut self,
        first: &'a Term,
        rest: &'a [Term],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, String> {
        if matches!(first.kind, TermKind::Nil) {
            self.at = At::Node(first.place, first);
            return Err(self.fault("nil is not a command"));
        }
        if rest.is_empty() && piped.is_none() {
            return self.term(first, dot);
        }
        // Methods are the last name of a path.
        if let TermKind::Variable(_, _, path) | TermKind::Pipe(_, path) | TermKind::Field(path) = &first.kind
            && let Some((method, path)) = path.split_last()
        {
            let object = self.object(first, path, dot)?;
            let mut arguments = Vec::new();
            for term in rest {
                arguments.push(self.term(term, dot)?);
            }
            arguments.extend(piped);
            self.at = At::Node(first.place, first);
            return match &object {
                Value::Time(..) | Value::Duration(_) => {
                    clock::method(&object, method, &arguments).ok_or_else(|| self.no_field(method, &object))
                }
                Value::Record(_, fields) if fields.iter().any(|(name, _)| name == method) => {
                    Err(self.fault(&format!("{method} has arguments but cannot be invoked as function")))
                }
                Value::Map(_) | Value::Texts(_) | Value::Host => {
                    Err(self.fault(&format!("{method} is not a method but has arguments")))
                }
                other => Err(self.no_field(method, other)),
            };
        }
        self.at = At::Node(first.place, first);
        Err(self.fault(&format!("can't give argument to non-function {first}")))
    }

    fn no_field(&self, name: &str, value: &Value) -> String {
        match value {
            Value::Nil => self.fault(&format!("nil pointer evaluating interface {{}}.{name}")),
            value => self.fault(&format!("can't evaluate field {name} in type {}", kind(value))),
        }
    }

    fn term(&mut self, term: &'a Term, dot: &Value) -> Result<Value, String> {
        match &term.kind {
            TermKind::Dot => Ok(dot.clone()),
            TermKind::Nil => Ok(Value::Nil),
            TermKind::Constant(value, _) => {
                self.at = At::Node(term.place, term);
                Ok(value.clone())
            }
            TermKind::Function(function) => self.call(*function, term, term, &[], dot, None),
            TermKind::Field(path) | TermKind::Variable(_, _, path) | TermKind::Pipe(_, path) => {
                self.object(term, path, dot)
            }
        }
    }

    /// What a term stands for, followed along `path` only.
    fn object(&mut self, term: &'a Term, path: &[String], dot: &Value) -> Result<Value, String> {
        self.at = At::Node(term.place, term);
        match &term.kind {
            TermKind::Field(_) => self.follow(dot, path),
            TermKind::Variable(slot, ..) => match path.split_first() {
                None => Ok(self.variables[*slot].clone()),
                Some(_) => {
                    let value = std::mem::replace(&mut self.variables[*slot], Value::Nil);
                    let found = self.follow(&value, path);
                    self.variables[*slot] = value;
                    found
                }
            },
            TermKind::Pipe(pipe, _) => {
                let value = self.pipe(pipe, dot)?;
                self.declare(pipe, &value);
                match path.is_empty() {
                    true => Ok(value),
                    false => self.follow(&value, path),
                }
            }
            _ => self.term(term, dot),
        }
    }

    fn follow(&self, value: &Value, path: &[String]) -> Result<Value, String> {
        let Some((first, rest)) = path.split_first() else {
            return Ok(value.clone());
        };
        let mut found = self.member(value, first)?;
        for name in rest {
            found = self.member(&found, name)?;
        }
        Ok(found)
    }

    fn member(&self, value: &Value, name: &str) -> Result<Value, String> {
        fn look_up<V: Clone>(entries: &Arc<[(String, V)]>, name: &str) -> Option<V> {
            let at = entries.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
            Some(entries[at].1.clone())
        }
        match value {
            Value::Host => Ok(Value::Text(self.host.get(name).unwrap_or("").to_owned())),
            Value::Map(entries) => Ok(look_up(entries, name).unwrap_or(Value::Nil)),
            Value::Texts(entries) => Ok(Value::Text(look_up(entries, name).unwrap_or_default())),
            Value::Record(_, fields) => {
                let field = fields.iter().find(|(field, _)| *field == name);
                field
                    .map(|(_, value)| value.clone())
                    .ok_or_else(|| self.no_field(name, value))
            }
            Value::Time(..) | Value::Duration(_) => {
                clock::method(value, name, &[]).ok_or_else(|| self.no_field(name, value))
            }
            other => Err(self.no_field(name, other)),
        }
    }
}
