//! LALR(1) tables of a grammar without empty rules, with the choices that yacc makes: levels decide between shift and
//! reduce, the earlier rule between two, and a state's most frequent reduction is done for every token that has no other
//! action.

use std::collections::{BTreeMap, HashMap};

use super::rules::{Grammar, Side, Symbol, level, name_of};

/// A set of tokens.
type Tokens = u128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Shift(usize),
    Reduce(usize),
    Accept,
    Error,
}

/// The tables, and the grammar they are of.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) grammar: Grammar,
    states: Vec<State>,
}

#[derive(Debug)]
struct State {
    /// By token; where there is none the default counts.
    actions: BTreeMap<usize, Action>,
    default: Option<usize>,
    gotos: HashMap<usize, usize>,
}

/// A rule and how much of it was read.
type Item = (usize, usize);

impl Table {
    pub(super) fn of(grammar: Grammar) -> Table {
        let states = Automaton::of(&grammar).states(&grammar);
        Table { grammar, states }
    }

    /// Whether a state takes any token further.
    pub(super) fn shifts(&self, state: usize) -> bool {
        self.states[state]
            .actions
            .values()
            .any(|a| matches!(a, Action::Shift(_)))
    }

    /// What a state does whatever comes, if that is all it does.
    pub(super) fn default_of(&self, state: usize) -> Option<Action> {
        let state = &self.states[state];
        state.actions.is_empty().then_some(())?;
        state.default.map(Action::Reduce)
    }

    pub(super) fn action(&self, state: usize, token: usize) -> Action {
        let state = &self.states[state];
        let default = || state.default.map_or(Action::Error, Action::Reduce);
        state.actions.get(&token).copied().unwrap_or_else(default)
    }

    pub(super) fn goto(&self, state: usize, part: usize) -> usize {
        self.states[state].gotos.get(&part).copied().unwrap_or(0)
    }

    /// The message for a token that has no action: up to four tokens that would have one, unless something would have been
    /// done whatever comes.
    pub(super) fn words(&self, state: usize, token: usize) -> String {
        /// Longer lists are not said.
        const EXPECTED_MAX: usize = 4;
        let mut words = format!("syntax error: unexpected {}", name_of(token));
        let state = &self.states[state];
        let of = |wanted: fn(&Action) -> bool| state.actions.iter().filter(move |(t, a)| **t != 0 && wanted(a));
        let shifted = of(|a| matches!(a, Action::Shift(_)));
        let others = of(|a| matches!(a, Action::Reduce(_) | Action::Accept));
        let expected: Vec<usize> = shifted.chain(others).map(|(token, _)| *token).collect();
        if expected.len() <= EXPECTED_MAX && state.default.is_none() {
            for (i, token) in expected.iter().enumerate() {
                words.push_str(if i == 0 { ", expecting " } else { " or " });
                words.push_str(name_of(*token));
            }
        }
        words
    }
}

/// States as sets of items with the tokens that may follow each.
struct Automaton {
    kernels: Vec<BTreeMap<Item, Tokens>>,
    gotos: Vec<BTreeMap<Symbol, usize>>,
}

impl Automaton {
    fn of(grammar: &Grammar) -> Automaton {
        let begin = firsts(grammar);
        let mut by_left: Vec<Vec<usize>> = vec![Vec::new(); grammar.parts.len()];
        for (rule, one) in grammar.rules.iter().enumerate() {
            by_left[one.left].push(rule);
        }
        let mut out = Automaton {
            kernels: vec![BTreeMap::from([((0, 0), 0)])],
            gotos: vec![BTreeMap::new()],
        };
        let mut known: HashMap<Vec<Item>, usize> = HashMap::from([(vec![(0, 0)], 0)]);
        let mut open = vec![0];
        while let Some(state) = open.pop() {
            let mut next: BTreeMap<Symbol, BTreeMap<Item, Tokens>> = BTreeMap::new();
            for ((rule, dot), follow) in closure(grammar, &by_left, &begin, &out.kernels[state]) {
                if let Some(symbol) = grammar.rules[rule].right.get(dot) {
                    *next.entry(*symbol).or_default().entry((rule, dot + 1)).or_default() |= follow;
                }
            }
            for (symbol, kernel) in next {
                // The end of the text is not passed.
                if symbol == Symbol::Token(0) {
                    continue;
                }
                let items: Vec<Item> = kernel.keys().copied().collect();
                match known.get(&items) {
                    Some(&to) => {
                        let mut grown = false;
                        for (item, follow) in kernel {
                            let mine = out.kernels[to].entry(item).or_default();
                            grown |= follow & !*mine != 0;
                            *mine |= follow;
                        }
                        if grown && !open.contains(&to) {
                            open.push(to);
                        }
                        out.gotos[state].insert(symbol, to);
                    }
                    None => {
                        let to = out.kernels.len();
                        known.insert(items, to);
                        out.kernels.push(kernel);
                        out.gotos.push(BTreeMap::new());
                        out.gotos[state].insert(symbol, to);
                        open.push(to);
                    }
                }
            }
        }
        out
    }

    fn states(&self, grammar: &Grammar) -> Vec<State> {
        let states = self.kernels.iter().zip(&self.gotos);
        states
            .map(|(kernel, gotos)| {
                let mut actions: BTreeMap<usize, Action> = BTreeMap::new();
                for (symbol, to) in gotos {
                    if let Symbol::Token(token) = symbol {
                        actions.insert(*token, Action::Shift(*to));
                    }
                }
                if kernel.contains_key(&(0, 1)) {
                    actions.insert(0, Action::Accept);
                }
                for ((rule, dot), follow) in kernel {
                    if *rule > 0 && *dot == grammar.rules[*rule].right.len() {
                        reduce(grammar, *rule, *follow, &mut actions);
                    }
                }
                let default = most_frequent(&actions);
                actions.retain(|_, action| default.is_none_or(|rule| *action != Action::Reduce(rule)));
                let gotos = gotos.iter().filter_map(|(symbol, to)| match symbol {
                    Symbol::Part(part) => Some((*part, *to)),
                    Symbol::Token(_) => None,
                });
                State {
                    actions,
                    default,
                    gotos: gotos.collect(),
                }
            })
            .collect()
    }
}

/// Adds a reduction for the tokens that may follow; what was there may be stronger.
fn reduce(grammar: &Grammar, rule: usize, follow: Tokens, actions: &mut BTreeMap<usize, Action>) {
    for token in (0..Tokens::BITS as usize).filter(|token| follow >> token & 1 == 1) {
        let action = match actions.get(&token) {
            None => Action::Reduce(rule),
            Some(Action::Reduce(other)) => Action::Reduce(rule.min(*other)),
            Some(shift) => {
                let (mine, (theirs, side)) = (grammar.rules[rule].level, level(token));
                match mine.cmp(&theirs) {
                    _ if mine == 0 || theirs == 0 => *shift,
                    std::cmp::Ordering::Less => *shift,
                    std::cmp::Ordering::Greater => Action::Reduce(rule),
                    std::cmp::Ordering::Equal => match side {
                        Side::Left => Action::Reduce(rule),
                        Side::Right => *shift,
                        Side::Neither => Action::Error,
                    },
                }
            }
        };
        actions.insert(token, action);
    }
}

/// The reduction of most tokens, the first of equals.
fn most_frequent(actions: &BTreeMap<usize, Action>) -> Option<usize> {
    let (mut best, mut times) = (None, 0);
    for action in actions.values() {
        if let Action::Reduce(rule) = action
            && best != Some(*rule)
        {
            let count = actions.values().filter(|other| *other == action).count();
            if count > times {
                (best, times) = (Some(*rule), count);
            }
        }
    }
    best
}

/// The tokens that a part may begin with.
fn firsts(grammar: &Grammar) -> Vec<Tokens> {
    let mut out: Vec<Tokens> = vec![0; grammar.parts.len()];
    loop {
        let before = out.clone();
        for rule in &grammar.rules {
            out[rule.left] |= first(&out, rule.right.first());
        }
        if out == before {
            return out;
        }
    }
}

fn first(begin: &[Tokens], symbol: Option<&Symbol>) -> Tokens {
    match symbol {
        Some(Symbol::Token(token)) => 1 << token,
        Some(Symbol::Part(part)) => begin[*part],
        None => 0,
    }
}

/// The items of a kernel and of all parts that may begin in it.
fn closure(
    grammar: &Grammar,
    by_left: &[Vec<usize>],
    begin: &[Tokens],
    kernel: &BTreeMap<Item, Tokens>,
) -> Vec<(Item, Tokens)> {
    let mut follow: BTreeMap<usize, Tokens> = BTreeMap::new();
    let mut open: Vec<usize> = Vec::new();
    let add = |rule: usize, dot: usize, after: Tokens, open: &mut Vec<usize>, follow: &mut BTreeMap<usize, Tokens>| {
        let right = &grammar.rules[rule].right;
        let Some(Symbol::Part(part)) = right.get(dot) else {
            return;
        };
        let next = match right.get(dot + 1) {
            None => after,
            symbol => first(begin, symbol),
        };
        let is_new = !follow.contains_key(part);
        let mine = follow.entry(*part).or_default();
        if is_new || next & !*mine != 0 {
            *mine |= next;
            open.push(*part);
        }
    };
    for ((rule, dot), after) in kernel {
        add(*rule, *dot, *after, &mut open, &mut follow);
    }
    while let Some(part) = open.pop() {
        let after = follow[&part];
        for rule in &by_left[part] {
            add(*rule, 0, after, &mut open, &mut follow);
        }
    }
    let mut out: Vec<(Item, Tokens)> = kernel.iter().map(|(item, follow)| (*item, *follow)).collect();
    for (part, after) in &follow {
        out.extend(by_left[*part].iter().map(|rule| ((*rule, 0), *after)));
    }
    out
}
