//! Tokens as Tempo's lexer cuts them, with its notion of where it stands: a token's line and column, the line lost (0) when
//! more than one step made the token.

use super::rules::token;
use crate::duration;

/// What a token says beyond its kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Text {
    None,
    Name(String),
    Int(i64),
    Float(f64),
    Duration(i64),
}

pub(super) struct Scanner<'t> {
    rest: std::str::Chars<'t>,
    ch: Option<char>,
    ended: bool,
    line: usize,
    column: usize,
    last_line: usize,
    /// Where the last token began.
    at: (usize, usize),
    in_attribute: bool,
    of_parent: bool,
    /// The first thing that was wrong; what follows is not told.
    fault: Option<String>,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Scanner<'t> {
        let mut out = Scanner {
            rest: text.chars(),
            ch: None,
            ended: text.is_empty(),
            line: 1,
            column: 0,
            last_line: 0,
            at: (0, 0),
            in_attribute: false,
            of_parent: false,
            fault: None,
        };
        out.advance();
        out
    }

    pub(super) fn error(&mut self, what: String) {
        let at = self.at;
        self.fault.get_or_insert_with(|| match at {
            (0, 0) => format!("parse error : {what}"),
            (line, column) => format!("parse error at line {line}, col {column}: {what}"),
        });
    }

    pub(super) fn first_error(self) -> Option<String> {
        self.fault
    }

    /// The next token's number and text; 0 at the end, and after what cannot be read.
    pub(super) fn token(&mut self) -> (usize, Text) {
        if self.in_attribute {
            if !self.ch.is_some_and(is_of_attribute) {
                self.in_attribute = false;
                return (number("END_ATTRIBUTE"), Text::None);
            }
            if let Some(scope) = self.scope_of_parent() {
                return (scope, Text::None);
            }
            return match self.attribute() {
                Ok(name) => (number("IDENTIFIER"), Text::Name(name)),
                Err(what) => self.failed(what),
            };
        }
        let (kind, text) = self.scan();
        match kind {
            Kind::End => (0, Text::None),
            Kind::String => match text.starts_with('`') || is_go_string(&text) {
                true => (number("STRING"), Text::None),
                false => self.failed("invalid syntax".to_owned()),
            },
            Kind::Number { is_float } => self.number(&text, is_float),
            Kind::Other => self.word(text),
        }
    }

    fn failed(&mut self, what: String) -> (usize, Text) {
        self.error(what);
        (0, Text::None)
    }

    fn number(&mut self, text: &str, is_float: bool) -> (usize, Text) {
        let mut ahead = Scanner {
            rest: self.rest.clone(),
            fault: None,
            ..*self
        };
        let mut whole = text.to_owned();
        while let Some(c) = ahead
            .ch
            .filter(|c| c.is_numeric() || *c == '.' || "nsumhµdwy".contains(*c))
        {
            whole.push(c);
            ahead.advance();
        }
        if whole.len() > text.len()
            && let Some(ns) = duration::from_text(&whole)
        {
            *self = Scanner {
                fault: self.fault.take(),
                ..ahead
            };
            self.at.0 = 0;
            return (number("DURATION"), Text::Duration(ns));
        }
        if is_float {
            return match text.replace('_', "").parse::<f64>() {
                Ok(d) if d.is_finite() => (number("FLOAT"), Text::Float(d)),
                Ok(_) => self.failed(format!("strconv.ParseFloat: parsing {text:?}: value out of range")),
                Err(_) => self.failed(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
            };
        }
        match text.parse::<i64>() {
            Ok(i) => (number("INTEGER"), Text::Int(i)),
            Err(_) => {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                let why = if digits { "value out of range" } else { "invalid syntax" };
                self.failed(format!("strconv.Atoi: parsing {text:?}: {why}"))
            }
        }
    }

    /// Operators and words; the longest run of known ones, grown letter by letter.
    fn word(&mut self, text: String) -> (usize, Text) {
        let known = |text: &str| token(text).filter(|_| !INNER.contains(&text));
        let mut found = known(&text);
        let mut longer = text.clone();
        while let Some(c) = self.ch {
            longer.push(c);
            let Some(one) = known(&longer) else { break };
            found = Some(one);
            self.advance();
            self.at.0 = 0;
        }
        let Some(token) = found else {
            return (number("IDENTIFIER"), Text::Name(text));
        };
        let is = |name: &str| number(name) == token;
        let scopes = ["resource.", "span.", "parent.", "event.", "link.", "instrumentation."];
        self.in_attribute = is(".") || scopes.iter().any(|scope| is(scope));
        if scopes.iter().any(|scope| is(scope)) || ["span:", "trace:", "event:", "link:"].iter().any(|s| is(s)) {
            self.of_parent = is("parent.");
        }
        (token, Text::None)
    }

    /// `span.` or `resource.` behind `parent.`.
    fn scope_of_parent(&mut self) -> Option<usize> {
        self.of_parent.then_some(())?;
        let rest: String = self.ch.into_iter().chain(self.rest.clone().take(8)).collect();
        let scope = ["span.", "resource."]
            .into_iter()
            .find(|scope| rest.starts_with(scope))?;
        scope.chars().for_each(|_| self.advance());
        self.at.0 = 0;
        self.of_parent = false;
        Some(number(scope))
    }

    fn attribute(&mut self) -> Result<String, String> {
        let mut name = String::new();
        while let Some(c) = self.ch.filter(|c| is_of_attribute(*c)) {
            self.advance();
            self.at.0 = 0;
            if c != '"' {
                name.push(c);
                continue;
            }
            loop {
                let c = self.ch;
                self.advance();
                match c {
                    None => return Err("unexpected EOF, expecting \"".to_owned()),
                    Some('"') => break,
                    Some('\\') => match self.ch.filter(|c| matches!(c, '"' | '\\')) {
                        Some(c) => {
                            name.push(c);
                            self.advance();
                        }
                        None => return Err("invalid escape sequence".to_owned()),
                    },
                    Some(c) => name.push(c),
                }
            }
        }
        Ok(name)
    }

    fn advance(&mut self) {
        self.ch = self.rest.next();
        match self.ch {
            Some('\n') => {
                self.line += 1;
                self.last_line = self.column + 1;
                self.column = 0;
            }
            Some(_) => self.column += 1,
            None if !self.ended => {
                self.ended = true;
                self.column += 1;
            }
            None => {}
        }
    }

    /// One token of Go: words, numbers, strings, single characters; blanks and comments are passed.
    fn scan(&mut self) -> (Kind, String) {
        loop {
            while self.ch.is_some_and(|c| matches!(c, ' ' | '\t' | '\n' | '\r')) {
                self.advance();
            }
            self.at = match self.column {
                0 => (self.line - 1, self.last_line),
                column => (self.line, column),
            };
            let mut text = String::new();
            let Some(c) = self.ch else { return (Kind::End, text) };
            match c {
                c if c.is_alphabetic() || c == '_' => {
                    while let Some(c) = self.ch.filter(|c| c.is_alphanumeric() || *c == '_') {
                        text.push(c);
                        self.advance();
                    }
                    return (Kind::Other, text);
                }
                c if c.is_ascii_digit() => return self.digits(text),
                '.' if self.rest.clone().next().is_some_and(|c| c.is_ascii_digit()) => return self.digits(text),
                '"' => {
                    self.quoted('"', &mut text);
                    return (Kind::String, text);
                }
                '\'' => {
                    let count = self.quoted('\'', &mut text);
                    if count != 1 {
                        self.error("invalid char literal".to_owned());
                    }
                    return (Kind::Other, text);
                }
                '`' => {
                    self.push(&mut text);
                    while self.ch.is_some_and(|c| c != '`') {
                        self.push(&mut text);
                    }
                    if self.ch.is_none() {
                        self.error("literal not terminated".to_owned());
                    }
                    self.push(&mut text);
                    return (Kind::String, text);
                }
                '/' if self.comment() => {}
                c => {
                    self.advance();
                    return (Kind::Other, c.to_string());
                }
            }
        }
    }

    fn push(&mut self, text: &mut String) {
        text.extend(self.ch);
        self.advance();
    }

    /// Passes a comment, if one begins here.
    fn comment(&mut self) -> bool {
        match self.rest.clone().next() {
            Some('/') => {
                while self.ch.is_some_and(|c| c != '\n') {
                    self.advance();
                }
            }
            Some('*') => {
                self.advance();
                self.advance();
                while let Some(c) = self.ch {
                    self.advance();
                    if c == '*' && self.ch == Some('/') {
                        self.advance();
                        return true;
                    }
                }
                self.error("comment not terminated".to_owned());
            }
            _ => return false,
        }
        true
    }

    /// Up to the closing quote; how many characters there are.
    fn quoted(&mut self, quote: char, text: &mut String) -> usize {
        self.push(text);
        let mut count = 0;
        loop {
            match self.ch {
                None | Some('\n') => {
                    self.error("literal not terminated".to_owned());
                    return count;
                }
                Some(c) if c == quote => {
                    self.push(text);
                    return count;
                }
                Some('\\') => self.escape(quote, text),
                Some(_) => self.push(text),
            }
            count += 1;
        }
    }

    fn escape(&mut self, quote: char, text: &mut String) {
        self.push(text);
        let (digits, radix) = match self.ch {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => (0, 0),
            c if c == Some(quote) => (0, 0),
            Some('0'..='7') => (3, 8),
            Some('x') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            _ => return self.error("invalid char escape".to_owned()),
        };
        if radix != 8 {
            self.push(text);
        }
        for _ in 0..digits {
            if !self.ch.is_some_and(|c| c.is_digit(radix)) {
                return self.error("invalid char escape".to_owned());
            }
            self.push(text);
        }
    }

    fn digits(&mut self, mut text: String) -> (Kind, String) {
        let mut is_float = false;
        let mut radix = 10;
        if self.ch == Some('0')
            && let Some(x) = self.rest.clone().next().filter(|c| "xXbBoO".contains(*c))
        {
            self.push(&mut text);
            self.push(&mut text);
            radix = match x.to_ascii_lowercase() {
                'x' => 16,
                'b' => 2,
                _ => 8,
            };
        }
        let run = |scanner: &mut Self, text: &mut String| {
            while scanner.ch.is_some_and(|c| c.is_digit(radix) || c == '_') {
                scanner.push(text);
            }
        };
        run(self, &mut text);
        if self.ch == Some('.') && radix == 10 {
            is_float = true;
            self.push(&mut text);
            run(self, &mut text);
        }
        if radix == 10 && self.ch.is_some_and(|c| matches!(c, 'e' | 'E')) {
            is_float = true;
            self.push(&mut text);
            if self.ch.is_some_and(|c| matches!(c, '+' | '-')) {
                self.push(&mut text);
            }
            if !self.ch.is_some_and(|c| c.is_ascii_digit()) {
                self.error("exponent has no digits".to_owned());
            }
            run(self, &mut text);
        }
        if !is_float
            && radix == 10
            && text.starts_with('0')
            && let Some(digit) = text.chars().find(|c| matches!(c, '8' | '9'))
        {
            self.error(format!("invalid digit {digit:?} in octal literal"));
        }
        (Kind::Number { is_float }, text)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    End,
    String,
    Number { is_float: bool },
    Other,
}

/// Names of tokens that no text spells.
const INNER: [&str; 8] = [
    "$end",
    "IDENTIFIER",
    "STRING",
    "INTEGER",
    "FLOAT",
    "DURATION",
    "END_ATTRIBUTE",
    "UMINUS",
];

fn number(name: &str) -> usize {
    token(name).unwrap_or(0)
}

fn is_of_attribute(c: char) -> bool {
    !c.is_whitespace() && !"{}()=~!<>&|^,".contains(c)
}

/// Whether a scanned string is whole.
fn is_go_string(text: &str) -> bool {
    text.len() > 1 && text.ends_with('"')
}
