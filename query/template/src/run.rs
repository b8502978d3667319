//! Running a template.

use super::value::Value;
use super::{Callee, Command, Host, Node, Pipe, Place, Template, Term, clock};

/// Longest output of one run.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Most nodes visited in one run.
const STEPS_MAX: usize = 100_000;

impl Template {
    /// Appends the result to `out`. The error has Go's words; what was written until then stays.
    pub fn run(&self, host: &dyn Host, out: &mut String) -> Result<(), String> {
        let mut run = Run {
            template: self,
            host,
            variables: vec![Value::Nil; self.variables],
            out_start: out.len(),
            steps: 0,
        };
        run.variables[0] = Value::Host;
        run.body(&self.body, &Value::Host, out).map(|_| ())
    }
}

struct Run<'a> {
    template: &'a Template,
    host: &'a dyn Host,
    variables: Vec<Value>,
    out_start: usize,
    steps: usize,
}

/// Characters of a command that an error text shows.
const SHOWN_MAX: usize = 20;

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Run<'_> {
    fn fault(&self, place: Place, at: &str, what: &str) -> String {
        let (name, line, byte) = (&self.template.name, place.line, place.byte);
        format!("template: {name}:{line}:{byte}: executing \"{name}\" at <{at}>: {what}")
    }

    /// The command that begins at a place as it was written, cut after [`SHOWN_MAX`] characters.
    fn text_at(&self, place: Place) -> String {
        let line = self
            .template
            .source
            .split_inclusive('\n')
            .take(place.line.saturating_sub(1));
        let start = line.map(str::len).sum::<usize>() + place.byte;
        let rest = self.template.source.get(start..).unwrap_or_default();
        let (mut depth, mut quote, mut escaped) = (0, None, false);
        let end = rest.char_indices().find_map(|(i, c)| {
            match (quote, c) {
                (Some(_), _) if escaped => escaped = false,
                (Some('"' | '\''), '\\') => escaped = true,
                (Some(open), _) if open == c => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'' | '`') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') if depth > 0 => depth -= 1,
                (None, ')' | '|') if depth == 0 => return Some(i),
                (None, _) if depth == 0 && (rest[i..].starts_with("}}") || rest[i..].starts_with(" -}}")) => {
                    return Some(i);
                }
                _ => {}
            }
            None
        });
        let text = rest[..end.unwrap_or(rest.len())].trim_end();
        match text.len() > SHOWN_MAX {
            true => text.chars().take(SHOWN_MAX).chain("...".chars()).collect(),
            false => text.to_owned(),
        }
    }

    fn step(&mut self, out: &str) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(format!("template: {}: more than {STEPS_MAX} steps", self.template.name));
        }
        if out.len().saturating_sub(self.out_start) > OUTPUT_BYTES_MAX {
            return Err(format!(
                "template: {}: more than {OUTPUT_BYTES_MAX} bytes of output",
                self.template.name
            ));
        }
        Ok(())
    }

    fn body(&mut self, body: &[Node], dot: &Value, out: &mut String) -> Result<Flow, String> {
        for node in body {
            self.step(out)?;
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Action(pipe) => self.action(pipe, dot, out)?,
                Node::If { pipe, then, otherwise } => {
                    let value = self.pipe(pipe, dot)?;
                    self.declare(pipe, &value);
                    let branch = if value.truth() { then } else { otherwise };
                    match self.body(branch, dot, out)? {
                        Flow::On => {}
                        other => return Ok(other),
                    }
                }
                Node::With { pipe, then, otherwise } => {
                    let value = self.pipe(pipe, dot)?;
                    self.declare(pipe, &value);
                    let flow = if value.truth() {
                        self.body(then, &value, out)?
                    } else {
                        self.body(otherwise, dot, out)?
                    };
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::Range { pipe, then, otherwise } => {
                    let value = self.pipe(pipe, dot)?;
                    let flow = self.range(pipe, value, then, otherwise, dot, out)?;
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::On)
    }

    fn declare(&mut self, pipe: &Pipe, value: &Value) {
        if let Some(slot) = pipe.variables.last() {
            self.variables[*slot] = value.clone();
        }
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        value: Value,
        then: &[Node],
        otherwise: &[Node],
        dot: &Value,
        out: &mut String,
    ) -> Result<Flow, String> {
        let entries: Vec<(Value, Value)> = match value {
            Value::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| (Value::Int(i as i64), item))
                .collect(),
            Value::Map(entries) => entries.into_iter().map(|(k, v)| (Value::Text(k), v)).collect(),
            Value::Host => {
                let mut all: Vec<(Value, Value)> = Vec::new();
                self.host
                    .for_each(&mut |k, v| all.push((Value::Text(k.to_owned()), Value::Text(v.to_owned()))));
                all.sort_by(|a, b| a.0.text().cmp(&b.0.text()));
                all
            }
            Value::Nil => Vec::new(),
            Value::Int(n) if n >= 0 => {
                let n = n.min(STEPS_MAX as i64);
                (0..n).map(|i| (Value::Int(i), Value::Int(i))).collect()
            }
            other => {
                let place = pipe.commands.first().map_or(Place::default(), |c| c.place);
                return Err(self.fault(place, "range", &format!("range can't iterate over {}", other.text())));
            }
        };
        if entries.is_empty() {
            return self.body(otherwise, dot, out);
        }
        for (key, item) in entries {
            match pipe.variables[..] {
                [one] => self.variables[one] = item.clone(),
                [index, one] => {
                    self.variables[index] = key;
                    self.variables[one] = item.clone();
                }
                _ => {}
            }
            if self.body(then, &item, out)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn action(&mut self, pipe: &Pipe, dot: &Value, out: &mut String) -> Result<(), String> {
        // The plain `{{ .label }}` needs no value of its own.
        if let ([Command { terms, .. }], [], Value::Host) = (&pipe.commands[..], &pipe.variables[..], dot)
            && let [Term::Field(path)] = &terms[..]
            && let [name] = &path[..]
        {
            out.push_str(self.host.get(name).unwrap_or(""));
            return Ok(());
        }
        let value = self.pipe(pipe, dot)?;
        if pipe.variables.is_empty() {
            value.print(out);
        } else {
            self.declare(pipe, &value);
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut piped = None;
        for command in &pipe.commands {
            self.step("")?;
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let Some((first, rest)) = command.terms.split_first() else {
            return Ok(Value::Nil);
        };
        let Term::Function(function) = first else {
            return self.operand(command, first, rest, dot, piped);
        };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        // `and` and `or` stop at the first argument that decides.
        let decides = match function.name() {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        };
        for term in rest {
            let value = self.term(command, term, dot)?;
            if decides == Some(value.truth()) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        let (least, most) = function.arguments();
        if arguments.len() < least || arguments.len() > most {
            let want = if least == most {
                format!("want {least}")
            } else {
                format!("want at least {least}")
            };
            let what = format!(
                "wrong number of args for {}: {want} got {}",
                function.name(),
                arguments.len()
            );
            return Err(self.fault(command.place, function.name(), &what));
        }
        let called = match function {
            Callee::Builtin(builtin) => (builtin.call)(&mut arguments, self.host),
            Callee::Host(known) => self.host.call(known.number, &mut arguments),
        };
        called.map_err(|what| {
            let name = function.name();
            self.fault(
                command.place,
                &self.text_at(command.place),
                &format!("error calling {name}: {what}"),
            )
        })
    }

    /// What begins with no function: a value, or a method with arguments.
    fn operand(
        &mut self,
        command: &Command,
        first: &Term,
        rest: &[Term],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, String> {
        if rest.is_empty() && piped.is_none() {
            return self.term(command, first, dot);
        }
        // Methods are the last name of a path on a time.
        if let Term::Variable(_, path) | Term::Pipe(_, path) | Term::Field(path) = first
            && let Some((method, path)) = path.split_last()
        {
            let object = match first {
                Term::Variable(slot, _) => self.term(command, &Term::Variable(*slot, path.to_vec()), dot)?,
                Term::Pipe(pipe, _) => self.term(command, &Term::Pipe(pipe.clone(), path.to_vec()), dot)?,
                _ if path.is_empty() => dot.clone(),
                _ => self.term(command, &Term::Field(path.to_vec()), dot)?,
            };
            if let Value::Time(ns, zone) = object {
                let mut arguments = Vec::new();
                for term in rest {
                    arguments.push(self.term(command, term, dot)?);
                }
                arguments.extend(piped);
                return clock::method(ns, &zone, method, &arguments)
                    .ok_or_else(|| self.fault(command.place, method, &format!("can't evaluate field {method}")));
            }
            let at = format!(".{method}");
            return Err(self.fault(
                command.place,
                &at,
                &format!("{method} is not a method but has arguments"),
            ));
        }
        Err(self.fault(command.place, "operand", "can't give argument to non-function"))
    }

    fn term(&mut self, command: &Command, term: &Term, dot: &Value) -> Result<Value, String> {
        let (value, path) = match term {
            Term::Dot => return Ok(dot.clone()),
            Term::Nil => return Ok(Value::Nil),
            Term::Constant(value) => return Ok(value.clone()),
            Term::Function(_) => {
                let call = Command {
                    place: command.place,
                    terms: vec![term.clone()],
                };
                return self.command(&call, dot, None);
            }
            Term::Field(path) => (dot.clone(), path),
            Term::Variable(slot, path) => (self.variables[*slot].clone(), path),
            Term::Pipe(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                self.declare(pipe, &value);
                (value, path)
            }
        };
        path.iter().try_fold(value, |value, name| match value {
            Value::Host => Ok(Value::Text(self.host.get(name).unwrap_or("").to_owned())),
            Value::Map(entries) => Ok(entries
                .into_iter()
                .find(|(k, _)| k == name)
                .map_or(Value::Nil, |(_, v)| v)),
            Value::Time(ns, zone) => clock::method(ns, &zone, name, &[]).ok_or_else(|| {
                self.fault(
                    command.place,
                    name,
                    &format!("can't evaluate field {name} in type time.Time"),
                )
            }),
            Value::Nil => Err(self.fault(command.place, name, "nil pointer evaluating interface {}")),
            _ => Err(self.fault(
                command.place,
                name,
                &format!("can't evaluate field {name} in type string"),
            )),
        })
    }
}
