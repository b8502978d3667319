//! The language as a table: template, and what Go makes of it.

use super::*;

/// The map is `a` to `1`, `b` to the empty text, and `list` to `x,y`; `split` makes a list of a text.
struct Few;

impl Host for Few {
    fn call(&self, _: usize, arguments: &mut [Value]) -> Result<Value, String> {
        let items = arguments[0].text();
        let items = items.split(',').map(|item| Value::Text(item.to_owned()));
        Ok(Value::List(ANY_LIST, items.collect()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "a" => Some("1"),
            "b" => Some(""),
            "list" => Some("x,y"),
            _ => None,
        }
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) {
        [("list", "x,y"), ("a", "1"), ("b", "")]
            .iter()
            .for_each(|(name, value)| visit(name, value));
    }
}

fn known(name: &str) -> Option<Known> {
    (name == "split").then_some(Known {
        name: "split",
        number: 0,
        arguments: (1, 1),
        parameters: &[Parameter::Text],
    })
}

fn run(text: &str) -> Result<String, String> {
    let mut out = String::new();
    Template::parse("t", text, &known)?.run(&Few, &mut out)?;
    Ok(out)
}

fn check(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        assert_eq!(run(text).as_deref(), Ok(*want), "{text}");
    }
}

fn check_faults(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        assert_eq!(run(text), Err((*want).to_owned()), "{text}");
    }
}

#[test]
fn actions_and_variables() {
    check(&[
        ("{{ .a }}{{ .none }}{{ .b }}|", "1|"),
        ("{{ . }}", "map[a:1 b: list:x,y]"),
        ("a  {{- .a -}}  b {{- /* a comment */ -}} c", "a1bc"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ with $x := .a }}{{ $x }}{{ . }}{{ $.a }}{{ end }}", "111"),
        ("{{ with .b }}x{{ else with .a }}{{ . }}{{ end }}", "1"),
        ("{{ if .b }}x{{ else if .none }}y{{ else }}z{{ end }}", "z"),
        ("{{ (split .list) | len }}{{ index (split .list) 1 }}", "2y"),
        ("{{ \"q\" | printf \"%s-%s\" .a }}", "1-q"),
        (
            "{{ 'a' }} {{ 0x10 }} {{ 1_000 }} {{ `raw\\n` }} {{ print nil }}",
            "97 16 1000 raw\\n <nil>",
        ),
    ]);
}

#[test]
fn loops() {
    check(&[
        ("{{ range split .list }}[{{ . }}]{{ end }}", "[x][y]"),
        ("{{ range $i, $v := split .list }}{{ $i }}{{ $v }} {{ end }}", "0x 1y "),
        ("{{ range $k, $v := . }}{{ $k }}={{ $v }};{{ end }}", "a=1;b=;list=x,y;"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        (
            "{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        (
            "{{ range 2 }}{{ range 5 }}{{ if eq . 1 }}{{ break }}{{ end }}{{ . }}{{ end }}-{{ end }}",
            "0-0-",
        ),
        ("{{ range 0 }}x{{ else }}none{{ end }}", "none"),
    ]);
}

#[test]
fn templates_within_templates() {
    check(&[
        ("{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" .a }}", "<1>"),
        (
            "{{ template \"later\" }}{{ define \"later\" }}x{{ . }}{{ end }}",
            "x<no value>",
        ),
        ("{{ block \"b\" .a }}[{{ . }}]{{ end }}{{ template \"b\" 2 }}", "[1][2]"),
        // A template sees nothing of its caller's variables.
        (
            "{{ define \"t\" }}{{ $x := 5 }}{{ $ }}{{ end }}{{ $x := 1 }}{{ template \"t\" 3 }}{{ $x }}",
            "31",
        ),
        (
            "{{ define \"down\" }}{{ if . }}{{ . }}{{ template \"down\" (slice . 1) }}{{ end }}{{ end }}{{ template \"down\" \"abc\" }}",
            "abcbcc",
        ),
        (
            "{{ define \"t\" }}  {{ end }}{{ define \"t\" }}x{{ end }}{{ template \"t\" }}",
            "x",
        ),
    ]);
    check_faults(&[
        (
            "{{ template \"x\" }}",
            "template: t:1:12: executing \"t\" at <{{template \"x\"}}>: template \"x\" not defined",
        ),
        (
            "{{ define \"t\" }}{{ index . 1 }}{{ end }}{{ template \"t\" 1 }}",
            "template: t:1:19: executing \"t\" at <index . 1>: error calling index: can't index item of type int",
        ),
        (
            "{{ define \"t\" }}x{{ end }}{{ define \"t\" }}y{{ end }}",
            "template: t: multiple definition of template \"t\"",
        ),
        (
            "{{ if true }}{{ define \"t\" }}{{ end }}{{ end }}",
            "template: t:1: unexpected {{define}}",
        ),
        ("{{ define \"t\" }}", "template: t:1: unexpected EOF"),
        (
            "{{ define \"t\" }}{{ $x }}{{ end }}{{ $x := 1 }}",
            "template: t:1: undefined variable \"$x\"",
        ),
    ]);
}

#[test]
fn comparisons_and_logic() {
    check(&[
        (
            "{{ eq 1 2 1 }} {{ ne \"a\" \"b\" }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 1.5 1.0 }} {{ ge \"b\" \"a\" }}",
            "true true true true true true",
        ),
        (
            "{{ and 1 0 2 }} {{ or 0 \"\" 3 }} {{ not .b }} {{ or .a (index 1) }}",
            "0 3 true 1",
        ),
    ]);
    check_faults(&[
        (
            "{{ eq 1 1.0 }}",
            "template: t:1:3: executing \"t\" at <eq 1 1.0>: error calling eq: incompatible types for comparison: int and float64",
        ),
        (
            "{{ lt true false }}",
            "template: t:1:3: executing \"t\" at <lt true false>: error calling lt: invalid type for comparison",
        ),
    ]);
}

#[test]
fn numbers_are_read_as_go_reads_them() {
    check(&[
        (
            "{{ 1e-3 }} {{ 2.5E+2 }} {{ -1e2 }} {{ .5 }} {{ 1_000 }}",
            "0.001 250 -100 0.5 1000",
        ),
        ("{{ 0x1F }} {{ 0x1E }} {{ 0b11 }} {{ 0o17 }}", "31 30 3 15"),
        ("{{ if gt 0.01 1e-3 }}more{{ end }}", "more"),
    ]);
    check_faults(&[("{{ 1e- }}", "template: t:1: bad number syntax: \"1e-\"")]);
}

#[test]
fn places_are_numbers() {
    check_faults(&[
        (
            "{{ index \"abc\" 3 }}",
            "template: t:1:3: executing \"t\" at <index \"abc\" 3>: error calling index: reflect: string index out of range",
        ),
        (
            "{{ index \"abc\" \"x\" }}",
            "template: t:1:3: executing \"t\" at <index \"abc\" \"x\">: error calling index: cannot index slice/array with type string",
        ),
        (
            "{{ call 1 2 }}",
            "template: t:1:3: executing \"t\" at <call 1 2>: error calling call: non-function 1 of type int",
        ),
        (
            "{{ len nil }}",
            "template: t:1:3: executing \"t\" at <len nil>: error calling len: reflect: call of reflect.Value.Type on zero Value",
        ),
    ]);
    check(&[(
        "{{ html 1.5 \"<\" }} {{ urlquery 1 true }} {{ js nil }}",
        "1.5&lt; 1+true \\u003Cno value\\u003E",
    )]);
}

#[test]
fn faults_stand_where_go_puts_them() {
    check_faults(&[
        (
            "{{ .a.b }}",
            "template: t:1:5: executing \"t\" at <.a.b>: can't evaluate field b in type string",
        ),
        (
            "x\n{{ $y := .a }}{{ $y.c }}",
            "template: t:2:19: executing \"t\" at <$y.c>: can't evaluate field c in type string",
        ),
        (
            "{{ split 1 }}",
            "template: t:1:9: executing \"t\" at <1>: expected string; found 1",
        ),
        (
            "{{ split }}",
            "template: t:1:3: executing \"t\" at <split>: wrong number of args for split: want 1 got 0",
        ),
        (
            "{{ .a 1 }}",
            "template: t:1:3: executing \"t\" at <.a>: a is not a method but has arguments",
        ),
        (
            "{{ 1 2 }}",
            "template: t:1:3: executing \"t\" at <1>: can't give argument to non-function 1",
        ),
        (
            "{{ range .a }}{{ end }}",
            "template: t:1:9: executing \"t\" at <.a>: range can't iterate over 1",
        ),
        (
            "{{ 1 | 2 }}",
            "template: t:1: non executable command in pipeline stage 2",
        ),
        ("{{ break }}", "template: t:1: {{break}} outside {{range}}"),
        ("{{ if }}{{ end }}", "template: t:1: missing value for if"),
        ("{{ }}", "template: t:1: missing value for command"),
        ("{{ \"a }}", "template: t:1: unterminated quoted string"),
        ("{{ if true }}", "template: t:1: unexpected EOF"),
        ("{{ end }}", "template: t:1: unexpected {{end}}"),
    ]);
}

#[test]
fn printf_knows_the_verbs() {
    check(&[
        (
            "{{ printf \"%d %5d|%-5d|%05d %x %X %c %q\" 1 2 3 4 255 255 97 \"a\" }}",
            "1     2|3    |00004 ff FF a \"a\"",
        ),
        (
            "{{ printf \"%.2f %6.1f %e %g %.3g %v\" 1.005 2.25 1500.0 1e6 1234567.0 1.5 }}",
            "1.00    2.2 1.500000e+03 1e+06 1.23e+06 1.5",
        ),
        ("{{ printf \"%s %v %t %%\" \"a\" true false }}", "a true false %"),
        (
            "{{ printf \"%d %s\" 1.5 1 }} {{ printf \"%d\" }} {{ printf \"x\" 1 }}",
            "%!d(float64=1.5) %!s(int=1) %!d(MISSING) x%!(EXTRA int=1)",
        ),
    ]);
}

#[test]
fn the_names_that_are_read_are_known() {
    let names = |text: &str| {
        let template = Template::parse("t", text, &known).unwrap();
        let mut names = Vec::new();
        template.for_each_name(&mut |name| names.push(name.to_owned()));
        (names.join(","), template.shows_all())
    };
    assert_eq!(
        names("{{ .a }}{{ $.b }}{{ index . \"c\" }}"),
        ("a,b,c".to_owned(), false)
    );
    assert_eq!(
        names("{{ define \"t\" }}{{ .a }}{{ end }}{{ template \"t\" . }}"),
        ("a".to_owned(), true)
    );
    assert!(names("{{ range $k, $v := . }}{{ end }}").1 && names("{{ $x := $ }}{{ $x }}").1);
}

/// Few steps over large texts take long, and variables hold what they are given.
#[test]
fn large_values_count_as_many_steps() {
    let large = "{{ $x := printf \"%10000d\" 1 }}{{ $x = printf \"%s%s%s%s%s%s%s%s\" $x $x $x $x $x $x $x $x }}";
    assert_eq!(run(&format!("{large}{{{{ len $x }}}}")).as_deref(), Ok("80000"));
    for again in ["{{ $y := $x }}", "{{ $y := html $x }}", "{{ $y := len $x }}"] {
        assert!(run(&format!("{large}{}", again.repeat(50))).is_ok());
        let fault = run(&format!("{large}{}", again.repeat(1500))).unwrap_err();
        assert!(fault.ends_with("more than 100000 steps"), "{fault}");
    }
}
