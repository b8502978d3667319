//! Template text to tree: the text is cut at its braces, what is between them into tokens, and those are read by descent.

use std::sync::Arc;

use super::builtin::BUILTINS;
use super::spelling::{go_float, quote, unescape};
use super::value::Value;
use super::{Body, Callee, Command, Known, Node, Pipe, Place, Template, Term, TermKind};

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 50;

#[derive(Clone, Debug, PartialEq)]
enum Tok {
    /// `.`
    Dot,
    /// `.name`
    Field(String),
    /// `$name`, `$` itself as an empty name
    Variable(String),
    Word(String),
    /// Its value and how it is written.
    Text(String, String),
    Char(i64, String),
    Number(String),
    Open,
    Close,
    Pipe,
    Declare,
    Assign,
    Comma,
    Space,
}

/// A piece of the text: literal, or the tokens between the braces.
enum Piece {
    Text(String),
    Action(Vec<(Tok, Place)>, Place),
}

impl Template {
    /// Parses `text`; `name` stands in error texts, `find` knows the host's functions.
    pub fn parse(name: &str, text: &str, find: &dyn Fn(&str) -> Option<Known>) -> Result<Template, String> {
        let name: Arc<str> = name.into();
        let pieces = split(text).map_err(|(line, what)| format!("template: {name}:{line}: {what}"))?;
        let mut parser = Parser {
            name: name.clone(),
            find,
            pieces: pieces.into_iter().peekable(),
            scope: vec![String::new()],
            variables: 1,
            depth: 0,
            loops: 0,
            named: Vec::new(),
        };
        let (nodes, end) = parser.body()?;
        match end {
            End::Text => Ok(Template {
                name,
                body: Body {
                    nodes,
                    variables: parser.variables,
                },
                named: parser.named,
            }),
            End::Closed(place) => Err(parser.fault(place, "unexpected {{end}}")),
            End::Else(_, place) => Err(parser.fault(place, "unexpected {{else}}")),
        }
    }
}

/// What Go's templates take for blank.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Cuts the text at its braces and honours trim markers.
fn split(text: &str) -> Result<Vec<Piece>, (usize, String)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    // Places are asked for from left to right, so that each line is counted once.
    let (mut seen, mut line, mut line_start) = (0, 1, 0);
    let mut place = |rest: &str| {
        let at = text.len() - rest.len();
        for (newline, _) in text[seen..at].match_indices('\n') {
            (line, line_start) = (line + 1, seen + newline + 1);
        }
        seen = at;
        let byte = at - line_start;
        Place { line, byte }
    };
    loop {
        let (mut literal, action) = match rest.find("{{") {
            Some(at) => (&rest[..at], Some(&rest[at + 2..])),
            None => (rest, None),
        };
        if trim {
            literal = literal.trim_start_matches(is_space);
        }
        let action = action.map(|a| match a.strip_prefix('-') {
            Some(inner) if inner.starts_with(is_space) => (inner, true),
            _ => (a, false),
        });
        if let Some((_, true)) = action {
            literal = literal.trim_end_matches(is_space);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.to_owned()));
        }
        let Some((inner, _)) = action else {
            return Ok(pieces);
        };
        let action_place = place(inner);
        let line = action_place.line;
        if inner.trim_start_matches(is_space).starts_with("/*") {
            let Some((_, after)) = inner.split_once("*/") else {
                return Err((line, "unclosed comment".into()));
            };
            let after = after.trim_start_matches(is_space);
            trim = after.starts_with("-}}");
            rest = after
                .strip_prefix("-}}")
                .or(after.strip_prefix("}}"))
                .ok_or((line, "comment ends before closing delimiter".into()))?;
            continue;
        }
        let mut tokens = Vec::new();
        let mut at = inner;
        loop {
            let blank = at.len() - at.trim_start_matches(is_space).len();
            let body = &at[blank..];
            if blank > 0 && (body.starts_with("-}}")) {
                trim = true;
                rest = &body[3..];
                break;
            }
            if let Some(after) = body.strip_prefix("}}") {
                trim = false;
                rest = after;
                break;
            }
            if blank > 0 {
                tokens.push((Tok::Space, place(at)));
            }
            if body.is_empty() {
                return Err((line, "unclosed action".into()));
            }
            let (tok, after) = token(body).map_err(|what| (place(body).line, what))?;
            tokens.push((tok, place(body)));
            at = after;
        }
        pieces.push(Piece::Action(tokens, action_place));
    }
}

fn token(text: &str) -> Result<(Tok, &str), String> {
    let word = |text: &str| {
        text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(text.len())
    };
    let first = text.chars().next().unwrap_or(' ');
    Ok(match first {
        '(' => (Tok::Open, &text[1..]),
        ')' => (Tok::Close, &text[1..]),
        '|' => (Tok::Pipe, &text[1..]),
        ',' => (Tok::Comma, &text[1..]),
        ':' if text.starts_with(":=") => (Tok::Declare, &text[2..]),
        '=' => (Tok::Assign, &text[1..]),
        '$' => {
            let len = word(&text[1..]);
            (Tok::Variable(text[1..=len].to_owned()), &text[1 + len..])
        }
        '.' if !text[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let len = word(&text[1..]);
            match len {
                0 => (Tok::Dot, &text[1..]),
                _ => (Tok::Field(text[1..=len].to_owned()), &text[1 + len..]),
            }
        }
        '`' => match text[1..].split_once('`') {
            Some((inside, after)) => (Tok::Text(inside.to_owned(), format!("`{inside}`")), after),
            None => return Err("unterminated raw quoted string".into()),
        },
        '"' | '\'' => {
            let mut escaped = false;
            let end = text[1..].char_indices().find(|(_, c)| {
                let found = *c == first && !escaped;
                escaped = *c == '\\' && !escaped;
                found
            });
            let Some((len, _)) = end else {
                return Err("unterminated quoted string".into());
            };
            let inside = unescape(&text[1..=len]).ok_or("malformed string constant")?;
            let after = &text[len + 2..];
            let written = text[..len + 2].to_owned();
            if first == '"' {
                (Tok::Text(inside, written), after)
            } else {
                let mut chars = inside.chars();
                let (Some(c), None) = (chars.next(), chars.next()) else {
                    return Err(format!("malformed character constant: {written}"));
                };
                (Tok::Char(c as i64, written), after)
            }
        }
        '+' | '-' | '.' | '0'..='9' => {
            let len = number_len(text);
            (Tok::Number(text[..len].to_owned()), &text[len..])
        }
        c if c.is_alphabetic() || c == '_' => {
            let len = word(text);
            (Tok::Word(text[..len].to_owned()), &text[len..])
        }
        c if c.is_ascii_graphic() => return Err(format!("unexpected {} in command", quote(&c.to_string()))),
        c if c.is_control() || c.is_whitespace() => {
            return Err(format!("unrecognized character in action: U+{:04X}", c as u32));
        }
        c => return Err(format!("unrecognized character in action: U+{:04X} '{c}'", c as u32)),
    })
}

/// Why a body ended.
enum End {
    Text,
    Closed(Place),
    /// What stood after `else`.
    Else(Tokens, Place),
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<(Tok, Place)>>;

struct Parser<'a> {
    name: Arc<str>,
    find: &'a dyn Fn(&str) -> Option<Known>,
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
    /// Names of variables in scope, by slot.
    scope: Vec<String>,
    variables: usize,
    depth: usize,
    loops: usize,
    named: Vec<(String, Body)>,
}

impl Parser<'_> {
    fn fault(&self, place: Place, what: &str) -> String {
        format!("template: {}:{}: {what}", self.name, place.line)
    }

    fn deeper(&mut self, place: Place) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(place, "nested too deeply"));
        }
        Ok(())
    }

    fn body(&mut self) -> Result<(Vec<Node>, End), String> {
        let mut body = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, place) = match piece {
                Piece::Text(text) => {
                    body.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, place) => (tokens, place),
            };
            let mut tokens = tokens.into_iter().peekable();
            skip_space(&mut tokens);
            let keyword = match tokens.peek() {
                Some((Tok::Word(word), _)) => word.clone(),
                _ => String::new(),
            };
            if !keyword.is_empty() && is_keyword(&keyword) {
                tokens.next();
            }
            match keyword.as_str() {
                "if" | "with" | "range" => body.push(self.block(&keyword, tokens, place)?),
                "end" => return Ok((body, End::Closed(place))),
                "else" => return Ok((body, End::Else(tokens, place))),
                "break" | "continue" if self.loops == 0 => {
                    return Err(self.fault(place, &format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                }
                "break" => body.push(Node::Break),
                "continue" => body.push(Node::Continue),
                "define" if self.depth > 0 => return Err(self.fault(place, "unexpected {{define}}")),
                "define" => {
                    let (name, _) = self.template_name(&mut tokens, place, "define clause")?;
                    self.end_of_clause(&mut tokens, "define clause")?;
                    self.define(name, place)?;
                }
                "block" => {
                    let (name, at) = self.template_name(&mut tokens, place, "block clause")?;
                    let pipe = Some(self.whole_pipe(&mut tokens, place, "block clause")?);
                    self.define(name.clone(), place)?;
                    body.push(Node::Template { place: at, name, pipe });
                }
                "template" => {
                    let (name, at) = self.template_name(&mut tokens, place, "template clause")?;
                    skip_space(&mut tokens);
                    let pipe = match tokens.peek() {
                        Some(_) => Some(self.whole_pipe(&mut tokens, place, "template clause")?),
                        None => None,
                    };
                    body.push(Node::Template { place: at, name, pipe });
                }
                _ => {
                    let pipe = self.whole_pipe(&mut tokens, place, "command")?;
                    body.push(Node::Action(pipe));
                }
            }
        }
        Ok((body, End::Text))
    }

    fn block(&mut self, keyword: &str, mut tokens: Tokens, place: Place) -> Result<Node, String> {
        self.deeper(place)?;
        let in_scope = self.scope.len();
        let pipe = self.whole_pipe(&mut tokens, place, keyword)?;
        self.loops += usize::from(keyword == "range");
        let (then, end) = self.body()?;
        self.loops -= usize::from(keyword == "range");
        let otherwise = match end {
            End::Closed(_) => Vec::new(),
            End::Text => return Err(self.fault(place, "unexpected EOF")),
            End::Else(mut rest, place) => {
                skip_space(&mut rest);
                match rest.peek().cloned() {
                    Some((Tok::Word(word), _)) if word == "if" || word == "with" => {
                        rest.next();
                        vec![self.block(&word, rest, place)?]
                    }
                    Some((_, place)) => return Err(self.fault(place, "unexpected token in else")),
                    None => match self.body()? {
                        (otherwise, End::Closed(_)) => otherwise,
                        (_, End::Text) => return Err(self.fault(place, "unexpected EOF")),
                        (_, End::Else(_, place)) => return Err(self.fault(place, "unexpected {{else}}")),
                    },
                }
            }
        };
        self.scope.truncate(in_scope);
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { pipe, then, otherwise },
            "with" => Node::With { pipe, then, otherwise },
            _ => Node::Range { pipe, then, otherwise },
        })
    }

    /// The name that `define`, `block` and `template` begin with.
    fn template_name(&mut self, tokens: &mut Tokens, place: Place, context: &str) -> Result<(String, Place), String> {
        skip_space(tokens);
        match tokens.next() {
            Some((Tok::Text(name, _), at)) => Ok((name, at)),
            _ => Err(self.fault(place, &format!("unexpected token in {context}"))),
        }
    }

    fn end_of_clause(&self, tokens: &mut Tokens, context: &str) -> Result<(), String> {
        skip_space(tokens);
        match tokens.next() {
            Some((_, place)) => Err(self.fault(place, &format!("unexpected token in {context}"))),
            None => Ok(()),
        }
    }

    /// Reads a template up to its `end`; it has variables of its own.
    fn define(&mut self, name: String, place: Place) -> Result<(), String> {
        self.deeper(place)?;
        let scope = std::mem::replace(&mut self.scope, vec![String::new()]);
        let variables = std::mem::replace(&mut self.variables, 1);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, end) = self.body()?;
        if !matches!(end, End::Closed(_)) {
            return Err(self.fault(place, "unexpected EOF"));
        }
        self.depth -= 1;
        self.scope = scope;
        self.loops = loops;
        let variables = std::mem::replace(&mut self.variables, variables);
        let is_empty = |nodes: &[Node]| {
            nodes
                .iter()
                .all(|node| matches!(node, Node::Text(text) if text.trim_matches(is_space).is_empty()))
        };
        let body = Body { nodes, variables };
        match self.named.iter_mut().find(|(n, _)| *n == name) {
            // Of two, the one that says something is meant.
            Some((_, before)) if is_empty(&before.nodes) => *before = body,
            Some(_) if is_empty(&body.nodes) => {}
            Some(_) => {
                let (parsed, name) = (&self.name, quote(&name));
                return Err(format!("template: {parsed}: multiple definition of template {name}"));
            }
            None => self.named.push((name, body)),
        }
        Ok(())
    }

    /// A pipe that is all of its action.
    fn whole_pipe(&mut self, tokens: &mut Tokens, place: Place, context: &str) -> Result<Pipe, String> {
        let pipe = self.pipe(tokens, place, context)?;
        match tokens.next() {
            Some((_, place)) => Err(self.fault(place, "unexpected right paren")),
            None => Ok(pipe),
        }
    }

    /// A pipe up to the end or to a closing parenthesis, which stays.
    fn pipe(&mut self, tokens: &mut Tokens, place: Place, context: &str) -> Result<Pipe, String> {
        let variables = self.declaration(tokens, context == "range")?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(tokens)?;
            // What a pipe bar ends with nothing is whole without it.
            let ends = !matches!(tokens.peek(), Some((Tok::Pipe, _)));
            if command.terms.is_empty() && !commands.is_empty() && ends {
                return Ok(Pipe { variables, commands });
            }
            if command.terms.is_empty() {
                let what = match commands.is_empty() {
                    true => format!("missing value for {context}"),
                    false => "missing value after |".to_owned(),
                };
                return Err(self.fault(place, &what));
            }
            // Only what can be called takes a piped value.
            if !commands.is_empty()
                && matches!(
                    command.terms[0].kind,
                    TermKind::Dot | TermKind::Nil | TermKind::Constant(..)
                )
            {
                let n = commands.len() + 1;
                return Err(self.fault(place, &format!("non executable command in pipeline stage {n}")));
            }
            commands.push(command);
            match tokens.peek() {
                Some((Tok::Pipe, _)) => {
                    tokens.next();
                }
                _ => return Ok(Pipe { variables, commands }),
            }
        }
    }

    fn declaration(&mut self, tokens: &mut Tokens, range: bool) -> Result<Vec<usize>, String> {
        skip_space(tokens);
        // Looks ahead on a copy: `$x := ...`, `$x = ...`, `$i, $v := ...`.
        let mut ahead = tokens.clone();
        let mut names = Vec::new();
        while let Some((Tok::Variable(name), _)) = ahead.next() {
            names.push(name);
            skip_space(&mut ahead);
            match ahead.next() {
                Some((Tok::Comma, _)) if range && names.len() == 1 => skip_space(&mut ahead),
                Some((Tok::Declare, _)) => {
                    *tokens = ahead;
                    let first = self.scope.len();
                    let slots = (first..first + names.len()).collect();
                    self.scope.extend(names);
                    self.variables = self.variables.max(self.scope.len());
                    return Ok(slots);
                }
                Some((Tok::Assign, place)) => {
                    *tokens = ahead;
                    return names.iter().map(|name| self.slot(name, place)).collect();
                }
                _ => break,
            }
        }
        Ok(Vec::new())
    }

    fn slot(&self, name: &str, place: Place) -> Result<usize, String> {
        self.scope
            .iter()
            .rposition(|n| n == name)
            .ok_or_else(|| self.fault(place, &format!("undefined variable \"${name}\"")))
    }

    fn command(&mut self, tokens: &mut Tokens) -> Result<Command, String> {
        let mut command = Command { terms: Vec::new() };
        loop {
            skip_space(tokens);
            let Some((tok, at)) = tokens.peek().cloned() else {
                return Ok(command);
            };
            if matches!(tok, Tok::Pipe | Tok::Close) {
                return Ok(command);
            }
            tokens.next();
            // A path stands where its second name begins, as in Go.
            let mut place = at;
            let kind = match tok {
                Tok::Dot => TermKind::Dot,
                Tok::Field(name) => TermKind::Field(self.fields(tokens, vec![name], &mut place)),
                Tok::Variable(name) => {
                    let slot = self.slot(&name, at)?;
                    TermKind::Variable(slot, name, self.fields(tokens, Vec::new(), &mut place))
                }
                Tok::Text(text, written) => TermKind::Constant(Value::Text(text), written),
                Tok::Char(c, written) => TermKind::Constant(Value::Int(c), written),
                Tok::Number(text) => {
                    let value =
                        number(&text).ok_or_else(|| self.fault(at, &format!("bad number syntax: {}", quote(&text))))?;
                    TermKind::Constant(value, text)
                }
                Tok::Word(word) => match word.as_str() {
                    "true" | "false" => TermKind::Constant(Value::Bool(word == "true"), word),
                    "nil" => TermKind::Nil,
                    name => {
                        let function = (self.find)(name)
                            .map(Callee::Host)
                            .or_else(|| BUILTINS.iter().find(|f| f.name == name).map(Callee::Builtin))
                            .ok_or_else(|| self.fault(at, &format!("function {} not defined", quote(name))))?;
                        match tokens.peek() {
                            // `__timestamp__.Unix`: a call without arguments, then a method.
                            Some((Tok::Field(_), _)) => {
                                let call = Pipe {
                                    variables: Vec::new(),
                                    commands: vec![Command {
                                        terms: vec![Term {
                                            place: at,
                                            kind: TermKind::Function(function),
                                        }],
                                    }],
                                };
                                TermKind::Pipe(Box::new(call), self.fields(tokens, Vec::new(), &mut place))
                            }
                            _ => TermKind::Function(function),
                        }
                    }
                },
                Tok::Open => {
                    self.deeper(at)?;
                    let inner = self.pipe(tokens, at, "parenthesized pipeline")?;
                    self.depth -= 1;
                    match tokens.next() {
                        Some((Tok::Close, _)) => {}
                        _ => return Err(self.fault(at, "unclosed left paren")),
                    }
                    TermKind::Pipe(Box::new(inner), self.fields(tokens, Vec::new(), &mut place))
                }
                Tok::Declare | Tok::Assign | Tok::Comma => return Err(self.fault(at, "unexpected token in operand")),
                Tok::Pipe | Tok::Close | Tok::Space => continue,
            };
            command.terms.push(Term { place, kind });
        }
    }

    /// Fields that follow without a space.
    fn fields(&self, tokens: &mut Tokens, mut names: Vec<String>, place: &mut Place) -> Vec<String> {
        if let Some((Tok::Field(_), at)) = tokens.peek() {
            *place = *at;
        }
        while let Some((Tok::Field(name), _)) = tokens.peek() {
            names.push(name.clone());
            tokens.next();
        }
        names
    }
}

fn skip_space(tokens: &mut Tokens) {
    while matches!(tokens.peek(), Some((Tok::Space, _))) {
        tokens.next();
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "with" | "range" | "end" | "else" | "break" | "continue" | "define" | "block" | "template"
    )
}

/// Bytes of the number at the start, whether it is a good one or not. A sign may follow its exponent.
fn number_len(text: &str) -> usize {
    let bare = text.trim_start_matches(['+', '-']);
    let exponent: &[u8] = match bare.starts_with("0x") || bare.starts_with("0X") {
        true => b"pP",
        false => b"eE",
    };
    let bytes = text.as_bytes();
    let goes_on = |at: usize| match bytes[at] {
        b'+' | b'-' => exponent.contains(&bytes[at - 1]),
        b => b.is_ascii_alphanumeric() || b == b'.' || b == b'_',
    };
    (1..bytes.len()).find(|at| !goes_on(*at)).unwrap_or(bytes.len())
}

fn number(text: &str) -> Option<Value> {
    let clean = text.replace('_', "");
    let lower = clean.to_ascii_lowercase();
    let (sign, digits) = match lower.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, lower.strip_prefix('+').unwrap_or(&lower)),
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            return Some(Value::Int(sign * i64::from_str_radix(digits, radix).ok()?));
        }
    }
    if let Ok(n) = digits.parse::<i64>() {
        return Some(Value::Int(sign * n));
    }
    go_float(&clean).ok().map(Value::Float)
}
