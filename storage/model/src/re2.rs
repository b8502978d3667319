//! Regular expressions as RE2 reads them, on the `regex` crate: Prometheus' and Loki's users write RE2.
//!
//! Both engines take linear time and share most of the syntax. A pattern is read here by RE2's rules and spelled out so that
//! the other engine cannot take it otherwise: `\d`, `\w`, `\s` and `\b` are ASCII; a `{` that begins no repetition is
//! a brace; in brackets `[`, `&&`, `--` and `~~` are characters; `\Q...\E` quotes; `\101` is octal. What RE2 refuses (look-around,
//! `a**`, more than 1000 repetitions) is refused with its words.

use std::fmt::Write;
use std::str::Chars;

use crate::BadMatcher;

/// Most repetitions, of repetitions inside one another all together.
const REPEAT_MAX: u32 = 1000;
/// Most groups inside one another.
const NESTING_MAX: usize = 200;
/// Bytes that the classes of a pattern may take before it is compiled, each counted by [`CLASS_BYTES`] or [`UNICODE_CLASS_BYTES`].
const CLASSES_BYTES_MAX: usize = 16 << 20;
/// Bytes of a class in brackets, besides the Unicode classes in it.
const CLASS_BYTES: usize = 512;
/// Bytes of a Unicode class, which may have some hundred ranges.
const UNICODE_CLASS_BYTES: usize = 6 << 10;

/// The pattern spelled out for the `regex` crate.
pub(crate) fn translate(pattern: &str) -> Result<String, BadMatcher> {
    if !pattern.contains(['\\', '[', '{', '(', ')', '*', '+', '?']) {
        return Ok(pattern.to_owned());
    }
    let mut reader = Reader {
        pattern,
        rest: pattern.chars(),
        out: String::with_capacity(pattern.len() + 8),
        open: Vec::new(),
        last: Last::Nothing,
        repeats: 1,
        most: 1,
        class_bytes: 0,
    };
    reader.read()?;
    Ok(reader.out)
}

pub(crate) fn refused(what: &str, shown: &str) -> BadMatcher {
    BadMatcher {
        message: format!("error parsing regexp: {what}: `{shown}`"),
    }
}

/// What a repetition would repeat.
#[derive(Clone, Copy)]
enum Last {
    Nothing,
    Atom,
    /// Another repetition, which begins at this byte.
    Repetition(usize),
}

struct Reader<'p> {
    pattern: &'p str,
    rest: Chars<'p>,
    out: String,
    /// For each open group, the most repetitions of what stands before it in its own group.
    open: Vec<u32>,
    last: Last,
    /// How often the last atom is repeated, at most, by what is in it and after it.
    repeats: u32,
    /// The most of these in this group so far.
    most: u32,
    /// What its classes take so far.
    class_bytes: usize,
}

type Read<T> = Result<T, BadMatcher>;

impl<'p> Reader<'p> {
    fn at(&self) -> usize {
        self.pattern.len() - self.rest.as_str().len()
    }
    fn since(&self, start: usize) -> &'p str {
        &self.pattern[start..self.at()]
    }
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }
    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest.next();
        }
        found
    }
    fn push(&mut self, words: std::fmt::Arguments<'_>) {
        // Writing to a String never fails.
        let _ = self.out.write_fmt(words);
    }
    fn atom(&mut self, repeats: u32) {
        self.last = Last::Atom;
        self.repeats = repeats;
        self.most = self.most.max(repeats);
    }

    fn charge_class(&mut self, bytes: usize) -> Read<()> {
        self.class_bytes += bytes;
        if self.class_bytes > CLASSES_BYTES_MAX {
            return Err(refused("expression too large", self.pattern));
        }
        Ok(())
    }

    fn read(&mut self) -> Read<()> {
        loop {
            let start = self.at();
            let Some(c) = self.rest.next() else { break };
            match c {
                '(' => self.open_group(start)?,
                ')' => {
                    let Some(before) = self.open.pop() else {
                        return Err(refused("unexpected )", self.pattern));
                    };
                    self.out.push(')');
                    let inside = self.most;
                    self.most = before;
                    self.atom(inside);
                }
                '|' => {
                    self.out.push('|');
                    self.last = Last::Nothing;
                }
                '*' | '+' | '?' => {
                    self.out.push(c);
                    self.repeated(start, 1)?;
                }
                '{' => self.brace(start)?,
                '[' => {
                    self.class(start)?;
                    self.atom(1);
                }
                '\\' => {
                    self.escape(start)?;
                    self.atom(1);
                }
                c => {
                    self.out.push(c);
                    self.atom(1);
                }
            }
        }
        if self.open.is_empty() {
            Ok(())
        } else {
            Err(refused("missing closing )", self.pattern))
        }
    }

    fn open_group(&mut self, start: usize) -> Read<()> {
        if self.open.len() >= NESTING_MAX {
            return Err(refused("expression nests too deeply", self.pattern));
        }
        self.out.push('(');
        if self.take_if('?') {
            let rest = self.rest.as_str();
            if rest.starts_with("P<") || rest.starts_with('<') {
                self.name(start)?;
            } else if !self.flags(start)? {
                // Flags for the rest of the group around them; nothing opens.
                return Ok(());
            }
        }
        self.open.push(self.most);
        self.most = 1;
        self.last = Last::Nothing;
        Ok(())
    }

    /// `?P<name>` or `?<name>`
    fn name(&mut self, start: usize) -> Read<()> {
        let Some(end) = self.rest.as_str().find('>') else {
            return Err(refused("invalid named capture", &self.pattern[start..]));
        };
        let named = &self.rest.as_str()[..=end];
        self.rest = self.rest.as_str()[end + 1..].chars();
        let name = named
            .trim_start_matches("P<")
            .trim_start_matches('<')
            .trim_end_matches('>');
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(refused("invalid named capture", self.since(start)));
        }
        // The other engine wants names to begin with a letter; nobody asks for them but by what is written here.
        self.push(format_args!("?P<{name}>"));
        Ok(())
    }

    /// `?i-s:` or `?i)`; whether a group opens.
    fn flags(&mut self, start: usize) -> Read<bool> {
        let (mut flags, mut negative, mut any) = (String::new(), false, false);
        loop {
            match self.rest.next() {
                Some(c @ ('i' | 'm' | 's' | 'U')) => {
                    flags.push(c);
                    any = true;
                }
                Some('-') if !negative => {
                    flags.push('-');
                    (negative, any) = (true, false);
                }
                Some(c @ (':' | ')')) if any || !negative => {
                    if flags.is_empty() && c == ')' {
                        // `(?)` says nothing.
                        self.out.pop();
                    } else {
                        self.push(format_args!("?{flags}{c}"));
                    }
                    return Ok(c == ':');
                }
                _ => return Err(refused("invalid or unsupported Perl syntax", self.since(start))),
            }
        }
    }

    /// A repetition, or just a brace.
    fn brace(&mut self, start: usize) -> Read<()> {
        let Some((least, most, len)) = repetition(self.rest.as_str()) else {
            self.out.push_str("\\{");
            self.atom(1);
            return Ok(());
        };
        self.rest = self.rest.as_str()[len..].chars();
        let valid = |n: Option<u32>| n.is_some_and(|n| n <= REPEAT_MAX);
        let ordered = most.is_none_or(|most| valid(most) && least <= most);
        if !valid(least) || !ordered {
            return Err(refused("invalid repeat count", self.since(start)));
        }
        self.out.push_str(self.since(start));
        self.repeated(start, most.flatten().or(least).unwrap_or(1))
    }

    /// After a repetition's operator that has been written out: what it repeats, and how often at most.
    fn repeated(&mut self, start: usize, times: u32) -> Read<()> {
        if self.take_if('?') {
            self.out.push('?');
        }
        match self.last {
            Last::Repetition(first) => Err(refused("invalid nested repetition operator", self.since(first))),
            Last::Nothing => Err(refused("missing argument to repetition operator", self.since(start))),
            Last::Atom => {
                self.repeats = self.repeats.saturating_mul(times.max(1));
                if self.repeats > REPEAT_MAX {
                    return Err(refused("invalid repeat count", self.since(start)));
                }
                self.most = self.most.max(self.repeats);
                self.last = Last::Repetition(start);
                Ok(())
            }
        }
    }

    fn escape(&mut self, start: usize) -> Read<()> {
        match self.peek() {
            Some(c @ ('A' | 'z')) => {
                self.rest.next();
                self.push(format_args!("\\{c}"));
            }
            Some(c @ ('b' | 'B')) => {
                self.rest.next();
                self.push(format_args!("(?-u:\\{c})"));
            }
            Some('Q') => {
                let quoted = &self.rest.as_str()[1..];
                let (quoted, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                self.rest = rest.chars();
                // As one atom each, so that a repetition takes the last.
                self.out.push_str(&regex_syntax::escape(quoted));
            }
            Some('p' | 'P') => self.unicode_class(start)?,
            Some(c) => match perl_class(c) {
                Some(class) => {
                    self.rest.next();
                    self.push(format_args!("[{class}]"));
                }
                None => {
                    let c = self.escaped_char(start)?;
                    self.out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
                }
            },
            None => return Err(refused("trailing backslash at end of expression", "")),
        }
        Ok(())
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`; the backslash is read.
    fn unicode_class(&mut self, start: usize) -> Read<()> {
        self.charge_class(UNICODE_CLASS_BYTES)?;
        let mut negative = self.rest.next() == Some('P');
        let name: &str = if self.take_if('{') {
            let Some(end) = self.rest.as_str().find('}') else {
                return Err(refused("invalid character class range", &self.pattern[start..]));
            };
            let name = &self.rest.as_str()[..end];
            self.rest = self.rest.as_str()[end + 1..].chars();
            name
        } else {
            let from = self.at();
            self.rest.next();
            self.since(from)
        };
        let (name, inverted) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        negative ^= inverted;
        let class = format!("\\{}{{{name}}}", if negative { 'P' } else { 'p' });
        let known = match name {
            "Any" => true,
            _ => {
                name.starts_with(|c: char| c.is_ascii_uppercase())
                    && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_')
            }
        };
        if !known || regex_syntax::parse(&class).is_err() {
            return Err(refused("invalid character class range", self.since(start)));
        }
        self.out.push_str(&class);
        Ok(())
    }

    /// The character that an escape stands for; the backslash is read.
    fn escaped_char(&mut self, start: usize) -> Read<char> {
        let bad = |reader: &Self| refused("invalid escape sequence", reader.since(start));
        let Some(c) = self.rest.next() else {
            return Err(refused("trailing backslash at end of expression", ""));
        };
        let code = match c {
            '0'..='7' => {
                if c != '0' && !self.peek().is_some_and(|c| c.is_digit(8)) {
                    return Err(bad(self));
                }
                let mut code = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.rest.next();
                    code = code * 8 + digit;
                }
                code
            }
            'x' => {
                let braced = self.take_if('{');
                let (mut code, mut digits) = (0u32, 0);
                loop {
                    if !braced && digits == 2 {
                        break code;
                    }
                    match self.rest.next() {
                        Some('}') if braced && digits > 0 => break code,
                        Some(c) if c.is_ascii_hexdigit() && code <= 0x10_ffff => {
                            code = code * 16 + c.to_digit(16).unwrap_or(0);
                            digits += 1;
                        }
                        _ => return Err(bad(self)),
                    }
                }
            }
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            _ => return Err(bad(self)),
        };
        char::from_u32(code).ok_or_else(|| bad(self))
    }

    /// A class in brackets; the first is read.
    fn class(&mut self, start: usize) -> Read<()> {
        self.charge_class(CLASS_BYTES)?;
        let missing = || refused("missing closing ]", &self.pattern[start..]);
        let missing = missing();
        self.out.push('[');
        if self.take_if('^') {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let item = self.at();
            let Some(c) = self.peek() else {
                return Err(missing);
            };
            if c == ']' && !first {
                self.rest.next();
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if self.rest.as_str().starts_with("[:")
                && let Some(end) = self.rest.as_str()[2..].find(":]")
            {
                let name = &self.rest.as_str()[..end + 4];
                self.rest = self.rest.as_str()[end + 4..].chars();
                if !POSIX_CLASSES.contains(&name[2..end + 2].trim_start_matches('^')) {
                    return Err(refused("invalid character class range", name));
                }
                self.out.push_str(name);
                continue;
            }
            let mut after = self.rest.as_str().chars();
            if after.next() == Some('\\') {
                match after.next() {
                    Some('p' | 'P') => {
                        self.rest.next();
                        self.unicode_class(item)?;
                        continue;
                    }
                    Some(c) if perl_class(c).is_some() => {
                        self.rest = after;
                        let class = perl_class(c).unwrap_or_default();
                        // Negated ones cannot be spelled out but as classes of their own.
                        self.push(format_args!("[{class}]"));
                        continue;
                    }
                    _ => {}
                }
            }
            let low = self.class_char(item, &missing)?;
            let rest = self.rest.as_str();
            if !rest.starts_with('-') || rest.len() == 1 || rest.starts_with("-]") {
                push_class_char(&mut self.out, low);
                continue;
            }
            self.rest.next();
            let high_start = self.at();
            let high = self.class_char(high_start, &missing)?;
            if high < low {
                return Err(refused("invalid character class range", self.since(item)));
            }
            push_class_char(&mut self.out, low);
            self.out.push('-');
            push_class_char(&mut self.out, high);
        }
    }

    fn class_char(&mut self, start: usize, missing: &BadMatcher) -> Read<char> {
        match self.rest.next() {
            None => Err(missing.clone()),
            Some('\\') => self.escaped_char(start),
            Some(c) => Ok(c),
        }
    }
}

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The inside of the class that `\d` and the like stand for.
fn perl_class(c: char) -> Option<&'static str> {
    Some(match c {
        'd' => "0-9",
        'D' => "^0-9",
        's' => r"\t\n\x0c\r ",
        'S' => r"^\t\n\x0c\r ",
        'w' => "0-9A-Za-z_",
        'W' => "^0-9A-Za-z_",
        _ => return None,
    })
}

fn push_class_char(out: &mut String, c: char) {
    if matches!(c, '[' | ']' | '^' | '-' | '&' | '~' | '\\') {
        out.push('\\');
    }
    out.push(c);
}

/// `n}`, `n,}` or `n,m}`: least, most if there is one to say, and how many bytes; counts that are too large for a number are
/// none.
fn repetition(text: &str) -> Option<(Option<u32>, Option<Option<u32>>, usize)> {
    fn count(text: &str) -> Option<(Option<u32>, &str)> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        // A leading zero makes no number.
        let plain = digits > 0 && (digits == 1 || !text.starts_with('0'));
        plain.then(|| (text[..digits].parse().ok(), &text[digits..]))
    }
    let (least, rest) = count(text)?;
    let (most, rest) = match rest.strip_prefix(',') {
        None => (Some(least), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => {
            let (most, rest) = count(rest)?;
            (Some(most), rest)
        }
    };
    let rest = rest.strip_prefix('}')?;
    Some((least, most, text.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use crate::anchored_regex;

    fn check(pattern: &str, matches: &[&str], others: &[&str]) {
        let regex = anchored_regex(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        for text in matches {
            assert!(regex.is_match(text), "{pattern} must match {text:?}");
        }
        for text in others {
            assert!(!regex.is_match(text), "{pattern} must not match {text:?}");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_in_re2() {
        check("b|c.", &["b", "c\n"], &["bb", "xb"]);
        check(r"\d\w\s\D", &["1a x"], &["\u{661}a x", "1é x", "1a\u{a0}x"]);
        check(r"[\d\W]x", &["1x", "-x", "éx"], &["ax"]);
        check(r"\bfoo\b.*\B", &["foo-"], &["foo"]);
        check("/api/{id}", &["/api/{id}"], &["/api/id"]);
        check("x{,2}y{01}{", &["x{,2}y{01}{"], &["xxy"]);
        check("x{2}y{1,}z{1,2}?", &["xxyz", "xxyyzz"], &["xyz"]);
        check("[[]a[a&&b]c[+--]", &["[a&c+", "[abc,", "[aac-"], &["[acc+"]);
        check("[]^-]+[^]]", &["]^-x"], &["]]"]);
        check("[[:alpha:]_]+[[:^digit:]]", &["a_x"], &["1x"]);
        check(r"\Qa.b*\E+", &["a.b*", "a.b**"], &["axb*"]);
        check(r"\101\x42\x{43}\0", &["ABC\0"], &[]);
        check(r"\<\_\/\-", &["<_/-"], &[]);
        check("(?i)a(?-i:b)(?)c", &["AbC"], &["ABc"]);
        check("(?P<n>a)(?<m>b)", &["ab"], &[]);
        check("^*x$", &["x"], &[]);
        check("(|a)*", &["", "aa"], &[]);
        check(r"\pL\p{Greek}\P{^Lu}", &["éαA"], &["1αA"]);
        check("(a{30}){30}", &[], &["a"]);
    }

    #[test]
    fn classes_are_bounded_before_they_are_compiled() {
        assert!(anchored_regex(&r"\pL".repeat(40_000)).is_err());
        assert!(anchored_regex(&format!("(?:{})", "[a-z]|".repeat(2000))).is_ok());
    }

    #[test]
    fn what_re2_refuses_is_refused_in_its_words() {
        for (pattern, want) in [
            ("(", "missing closing ): `(`"),
            ("a)b", "unexpected ): `a)b`"),
            ("x[a-", "missing closing ]: `[a-`"),
            ("[[:alpha:", "missing closing ]: `[[:alpha:`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[a--b]", "invalid character class range: `a--`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
            (r"\p{Gr", r"invalid character class range: `\p{Gr`"),
            ("x{2,1}", "invalid repeat count: `{2,1}`"),
            ("x{1001}", "invalid repeat count: `{1001}`"),
            ("((a{100}){100})", "invalid repeat count: `{100}`"),
            ("{2}x", "missing argument to repetition operator: `{2}`"),
            ("a|*?", "missing argument to repetition operator: `*?`"),
            ("x*?+", "invalid nested repetition operator: `*?+`"),
            ("x{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("(?x)x", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?-)x", "invalid or unsupported Perl syntax: `(?-)`"),
            ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
            ("(?P=n)", "invalid or unsupported Perl syntax: `(?P`"),
            ("(?<=a)x", "invalid named capture: `(?<=a)x`"),
            ("(?P<>a)", "invalid named capture: `(?P<>`"),
            (r"\q", r"invalid escape sequence: `\q`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\x{zz}", r"invalid escape sequence: `\x{z`"),
            (r"[a-\d]", r"invalid escape sequence: `\d`"),
            (r"x\", "trailing backslash at end of expression: ``"),
        ] {
            let found = anchored_regex(pattern).map(|_| ()).map_err(|e| e.message);
            assert_eq!(found, Err(format!("error parsing regexp: {want}")), "{pattern}");
        }
        assert!(anchored_regex(&"(".repeat(100_000)).is_err());
        assert!(anchored_regex(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000))).is_err());
    }

    proptest::proptest! {
        /// A pattern comes from outside: it compiles or is refused, and never ends the process.
        #[test]
        fn any_pattern_is_an_answer(pattern in "[\\[\\](){}*+?|^$.\\\\a-c0-9:,QEpxdwéP<>i-]{0,20}") {
            let _ = anchored_regex(&pattern);
        }
    }
}
