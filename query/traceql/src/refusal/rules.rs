//! The rules of the language as Tempo's parser is made from them: which parts there are decides what its messages expect.
//! A rule stands on a line as `part: symbol symbol ...`; alternatives are separated by ` / `. `@name` stands for each of a
//! family of operators.

use std::collections::HashMap;
use std::sync::OnceLock;

/// A token or a part, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Symbol {
    Token(usize),
    Part(usize),
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) left: usize,
    pub(super) right: Vec<Symbol>,
    /// How tightly it binds: its last token's level, 0 for none.
    pub(super) level: usize,
}

/// The rules with their symbols; rule 0 is the whole text.
#[derive(Debug)]
pub(super) struct Grammar {
    pub(super) rules: Vec<Rule>,
    pub(super) parts: Vec<String>,
}

/// What an operator of equal level does to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Neither,
}

/// All tokens in the order in which messages list them; the end of the text first.
const TOKENS: &str = "$end IDENTIFIER STRING INTEGER FLOAT DURATION . { } ( ) , nil true false error ok unset \
    unspecified internal server client producer consumer duration childCount name status statusMessage parent kind \
    rootName rootServiceName rootService traceDuration nestedSetLeft nestedSetRight nestedSetParent id traceID spanID \
    parentID timeSinceStart version parent. resource. span. trace: span: event: event. link: link. instrumentation: \
    instrumentation. count avg max min sum by coalesce select END_ATTRIBUTE rate count_over_time min_over_time \
    max_over_time avg_over_time sum_over_time quantile_over_time histogram_over_time compare topk bottomk with \
    | && || = != < <= > >= !~ =~ >> << ~ !> !< !>> !<< &> &< &>> &<< &~ + - ! * / % ^ UMINUS";

/// Levels, loosest first.
const LEVELS: [(Side, &str); 10] = [
    (Side::Left, "|"),
    (Side::Left, "&& ||"),
    (
        Side::Left,
        "= != < <= > >= !~ =~ >> << ~ !> !< !>> !<< &> &< &>> &<< &~",
    ),
    (Side::Neither, "INTEGER FLOAT"),
    (Side::Left, "+ -"),
    (Side::Left, "!"),
    (Side::Left, "* / %"),
    (Side::Right, "^"),
    (Side::Neither, "UMINUS"),
    (Side::Neither, "nil"),
];

const FAMILIES: [(&str, &str); 5] = [
    ("@related", "&& > < >> << || ~ !> !< !>> !<< !~ &> &< &>> &<< &~"),
    ("@compared", "= != < <= > >="),
    ("@calculated", "+ - * / % ^"),
    ("@simply", "+ - * /"),
    ("@logic", "+ - * / % = != < <= > >= =~ !~ ^ && ||"),
];

const RULES: &str = "
Query: Pipeline / PipedSets / PipedFilter / Pipeline | Function / Pipeline | Function Later / Math / Math Later / Query Hints
PipedSets: ( PipedSets ) / PipedSets @related PipedSets / InParens
InParens: ( Pipeline )
Pipeline: Sets / ScalarFilter / By / Select
Pipeline: Pipeline | Sets / Pipeline | ScalarFilter / Pipeline | By / Pipeline | Coalesce / Pipeline | Select
By: by ( Expr )
Coalesce: coalesce ( )
Select: select ( Fields )
Field: Intrinsic / Attribute / Scoped
Fields: Field / Fields , Field
Numbers: FLOAT / INTEGER / Numbers , FLOAT / Numbers , INTEGER
Sets: ( Sets ) / Sets @related Sets / Filter
Filter: { } / { Expr }
ScalarFilter: Scalar Compared Scalar / Scalar Compared Constant / Constant Compared Scalar
Compared: @compared
PipedFilter: PipedScalar Compared PipedScalar / PipedScalar Compared Constant
PipedScalar: ( PipedScalar ) / PipedScalar @calculated PipedScalar / ScalarInParens
ScalarInParens: ( ScalarPipeline )
ScalarPipeline: Pipeline | Aggregate
Scalar: ( Scalar ) / Scalar @calculated Scalar / Scalar @calculated Constant / Constant @calculated Scalar / Aggregate
Aggregate: count ( ) / max ( Expr ) / min ( Expr ) / avg ( Expr ) / sum ( Expr )
Function: rate ( ) / rate ( ) by ( Fields ) / count_over_time ( ) / count_over_time ( ) by ( Fields )
Function: min_over_time ( Field ) / min_over_time ( Field ) by ( Fields )
Function: max_over_time ( Field ) / max_over_time ( Field ) by ( Fields )
Function: sum_over_time ( Field ) / sum_over_time ( Field ) by ( Fields )
Function: avg_over_time ( Field ) / avg_over_time ( Field ) by ( Fields )
Function: quantile_over_time ( Field , Numbers ) / quantile_over_time ( Field , Numbers ) by ( Fields )
Function: histogram_over_time ( Field ) / histogram_over_time ( Field ) by ( Fields )
Function: compare ( Filter ) / compare ( Filter , INTEGER ) / compare ( Filter , INTEGER , INTEGER , INTEGER )
Ranked: topk ( INTEGER ) / bottomk ( INTEGER )
PointCompared: @compared
PointFilter: PointCompared Constant
Later: | Ranked / PointFilter / Later | Ranked / Later PointFilter
Math: ( Math ) / Math @simply Math / FunctionInParens / Math @simply Constant / Constant @simply Math
Constant: INTEGER / FLOAT / DURATION / - Constant UMINUS / ( Constant ) / Constant @simply Constant
FunctionInParens: ( Pipeline | Function ) / ( Pipeline | Function Later )
Hint: IDENTIFIER = Static
Hints: with ( HintList )
HintList: Hint / HintList , Hint
Expr: ( Expr ) / Expr @logic Expr / Expr != nil / nil != Expr / Expr = nil / nil = Expr / nil != nil / nil = nil
Expr: - Expr / ! Expr / Static / Intrinsic / Attribute / Scoped
Static: STRING / INTEGER / FLOAT / true / false / DURATION / ok / error / unset / unspecified / internal / server / client
Static: producer / consumer / IDENTIFIER
Intrinsic: duration / name / status / statusMessage / kind / parent / rootName / rootServiceName / traceDuration
Intrinsic: nestedSetLeft / nestedSetRight / nestedSetParent
Scoped: trace: duration / trace: rootName / trace: rootService / trace: id
Scoped: span: duration / span: name / span: kind / span: status / span: statusMessage / span: id / span: parentID
Scoped: span: childCount / event: name / event: timeSinceStart / link: traceID / link: spanID
Scoped: instrumentation: name / instrumentation: version
Attribute: . IDENTIFIER END_ATTRIBUTE / resource. IDENTIFIER END_ATTRIBUTE / span. IDENTIFIER END_ATTRIBUTE
Attribute: parent. IDENTIFIER END_ATTRIBUTE / parent. resource. IDENTIFIER END_ATTRIBUTE
Attribute: parent. span. IDENTIFIER END_ATTRIBUTE / event. IDENTIFIER END_ATTRIBUTE / link. IDENTIFIER END_ATTRIBUTE
Attribute: instrumentation. IDENTIFIER END_ATTRIBUTE
";

/// The number of a token by its name.
pub(super) fn token(name: &str) -> Option<usize> {
    static NUMBERS: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    let numbers = NUMBERS.get_or_init(|| {
        TOKENS
            .split_whitespace()
            .enumerate()
            .map(|(i, name)| (name, i))
            .collect()
    });
    numbers.get(name).copied()
}

/// A token's name.
pub(super) fn name_of(token: usize) -> &'static str {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| TOKENS.split_whitespace().collect());
    names.get(token).copied().unwrap_or_default()
}

/// A token's level (0: none) and side.
pub(super) fn level(token: usize) -> (usize, Side) {
    let name = name_of(token);
    let found = LEVELS
        .iter()
        .position(|(_, names)| names.split_whitespace().any(|n| n == name));
    found.map_or((0, Side::Neither), |at| (at + 1, LEVELS[at].0))
}

/// The rules, read.
pub(super) fn grammar() -> Grammar {
    let mut parts = vec!["$whole".to_owned()];
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let lines = || RULES.lines().filter_map(|line| line.split_once(": "));
    for (part, _) in lines() {
        numbers.entry(part).or_insert_with(|| {
            parts.push(part.to_owned());
            parts.len() - 1
        });
    }
    let symbol = |name: &str| match numbers.get(name) {
        Some(part) => Symbol::Part(*part),
        None => Symbol::Token(token(name).unwrap_or(0)),
    };
    let mut rules = vec![Rule {
        left: 0,
        right: vec![symbol("Query"), Symbol::Token(0)],
        level: 0,
    }];
    for (part, alternatives) in lines() {
        for alternative in alternatives.split(" / ") {
            for words in unfolded(alternative) {
                let mut right: Vec<Symbol> = words.iter().map(|name| symbol(name)).collect();
                let last = right.iter().rev().find_map(|s| match s {
                    Symbol::Token(token) => Some(*token),
                    Symbol::Part(_) => None,
                });
                // It is no token of any text, only a level.
                if words.last() == Some(&"UMINUS") {
                    right.pop();
                }
                rules.push(Rule {
                    left: numbers.get(part).copied().unwrap_or(0),
                    level: last.map_or(0, |token| level(token).0),
                    right,
                });
            }
        }
    }
    Grammar { rules, parts }
}

/// One list of symbols for each member of the family in it.
fn unfolded(alternative: &str) -> Vec<Vec<&str>> {
    let words: Vec<&str> = alternative.split_whitespace().collect();
    let family = FAMILIES.iter().find(|(name, _)| words.contains(name));
    let Some((name, members)) = family else {
        return vec![words];
    };
    let with = |member| words.iter().map(|w| if w == name { member } else { *w }).collect();
    members.split_whitespace().map(with).collect()
}

impl Grammar {
    /// A symbol's name.
    pub(super) fn name(&self, symbol: Symbol) -> &str {
        match symbol {
            Symbol::Token(token) => name_of(token),
            Symbol::Part(part) => self.parts.get(part).map_or("", String::as_str),
        }
    }
}
