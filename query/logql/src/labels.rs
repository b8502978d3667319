//! The labels of one entry on its way through a pipeline, by origin, in buffers that are reused from line to line.
//!
//! A label comes from the stream, from structured metadata, or was parsed or formatted. A parsed name that the stream or
//! the metadata carries becomes `<name>_extracted`, and so does metadata with the name of a stream label. The stream's
//! labels are written once per stream; [`Labels::next_line`] goes back to them.

use hashbrown::HashMap;
use rapidhash::v3::rapidhash_v3;

/// Names and values of one entry's labels take no more than this; templates can double them at each stage.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// The error of an entry whose labels would take more.
const TOO_LARGE_ERROR: &str = "LabelsTooLargeErr";
/// From so many labels on, a name is looked up by its hash before it is searched for.
const FIELDS_SEARCHED_MAX: usize = 64;

/// The label that says what went wrong.
pub(crate) const ERROR: &str = "__error__";
/// The label that says it in detail.
pub(crate) const ERROR_DETAILS: &str = "__error_details__";
/// The label by which Loki marks lines whose error a query asks for.
pub(crate) const PRESERVE_ERROR: &str = "__preserve_error__";

/// What is appended to a name that the stream or the metadata has.
pub(crate) const EXTRACTED: &str = "_extracted";

/// Where a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Stream,
    Metadata,
    Parsed,
}

/// Stands for the error's details where places of fields are listed.
const DETAILS_PLACE: u32 = u32::MAX;

/// Places in [`Labels::text`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: (u32, u32),
    value: (u32, u32),
    pub origin: Origin,
    live: bool,
    /// Whether it went because a stage took the name away, not because something else took its place.
    dropped: bool,
}

/// Which labels a query looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    only: Option<Only>,
}

/// Only these; with none of them parsers need not run.
#[derive(Clone, Debug)]
struct Only {
    names: Vec<String>,
    /// The names, and what they were before [`EXTRACTED`] was appended to them.
    unsuffixed: Vec<String>,
    /// Whether lines are parsed to their end, because a fault there counts.
    whole: bool,
    /// Which letters and digits the names end with, less what is appended to names that are taken.
    last: [bool; 256],
}

impl Needed {
    /// Every label.
    pub fn all() -> Needed {
        Needed::default()
    }

    /// Only labels of these names. If errors are among them, or `whole` says so, lines are parsed to their end.
    pub fn only(mut names: Vec<String>, whole: bool) -> Needed {
        names.sort_unstable();
        names.dedup();
        let unsuffixed: Vec<String> = names.iter().flat_map(|n| unsuffixed(n)).map(str::to_owned).collect();
        let mut last = [false; 256];
        for name in &unsuffixed {
            last[usize::from(name.as_bytes().last().copied().unwrap_or_default())] = true;
        }
        let whole = whole || names.iter().any(|n| n == ERROR || n == ERROR_DETAILS);
        Needed {
            only: Some(Only {
                names,
                unsuffixed,
                whole,
                last,
            }),
        }
    }

    /// The names, unless every label is needed.
    pub fn names(&self) -> Option<&[String]> {
        self.only.as_ref().map(|only| &only.names[..])
    }

    /// Whether parsing is pointless.
    pub fn nothing(&self) -> bool {
        self.only.as_ref().is_some_and(|only| only.names.is_empty())
    }

    /// Whether a label that ends with this key (raw, escapes and all) may be needed. A quick look; `false` is certain.
    #[inline]
    pub fn may_end_with(&self, key: &str) -> bool {
        let Some(only) = &self.only else { return true };
        let bytes = key.as_bytes();
        let Some(&last) = bytes.last() else {
            return true;
        };
        // Other characters become underscores or vanish; an escape may stand for any.
        let end = &bytes[bytes.len().saturating_sub(ESCAPE_BYTES_MAX)..];
        if !last.is_ascii_alphanumeric() || end.contains(&b'\\') {
            return true;
        }
        if !only.last[usize::from(last)] {
            return false;
        }
        let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        !plain || only.unsuffixed.iter().any(|n| n.ends_with(key))
    }

    /// Whether a label may be needed that has this name before anything is appended to it.
    pub fn may_become(&self, name: &str) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| only.unsuffixed.iter().any(|n| n == name))
    }

    /// Whether a label of this name is needed.
    pub fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| only.names.iter().any(|n| n == name))
    }
}

/// Bytes of the longest escape of a character, `\u0061`.
const ESCAPE_BYTES_MAX: usize = 6;

/// The name, and what it was before [`EXTRACTED`] was appended to it.
pub(crate) fn unsuffixed(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.strip_suffix(EXTRACTED))
}

/// Labels of one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    text: String,
    fields: Vec<Field>,
    stream_text: usize,
    stream_fields: Vec<Field>,
    error: String,
    details: String,
    /// Whether anything but the stream's own labels is there.
    changed: bool,
    /// Lengths of text and fields, and `changed`, at the mark.
    marked: (usize, usize, bool),
    /// The last place of each name among the first `hashed` fields, by the name's hash, once there are many; names that are
    /// gone may be among them.
    hashes: HashMap<u64, u32>,
    hashed: usize,
}

/// A parsed label whose value is being written.
pub(crate) struct Slot {
    name: (u32, u32),
}

impl Labels {
    /// Begins a stream.
    pub fn begin_stream<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        self.text.clear();
        self.fields.clear();
        self.error.clear();
        self.details.clear();
        self.changed = false;
        self.forget_hashes();
        for (name, value) in labels {
            self.push(name, value, Origin::Stream);
        }
        self.stream_text = self.text.len();
        self.stream_fields.clear();
        self.stream_fields.extend_from_slice(&self.fields);
    }

    /// Begins a line of the same stream.
    pub fn next_line(&mut self) {
        if self.changed {
            self.text.truncate(self.stream_text);
            self.fields.clear();
            self.fields.extend_from_slice(&self.stream_fields);
            self.error.clear();
            self.details.clear();
            self.changed = false;
            self.forget_hashes();
        }
    }

    /// Remembers the labels as they are, before any is parsed and while no error is noted.
    pub fn mark(&mut self) {
        self.marked = (self.text.len(), self.fields.len(), self.changed);
    }

    /// Goes back to what was there at the mark, if nothing was removed since but by labels that were parsed.
    pub fn back_to_mark(&mut self) {
        let (text, fields, changed) = self.marked;
        self.text.truncate(text);
        self.fields.truncate(fields);
        // What a parsed label hid.
        self.fields.iter_mut().for_each(|f| f.live = true);
        self.error.clear();
        self.details.clear();
        self.changed = changed;
        self.forget_hashes();
    }

    /// Whether the labels are exactly the stream's own.
    pub fn is_stream_only(&self) -> bool {
        !self.changed
    }

    /// Adds structured metadata.
    pub fn add_metadata(&mut self, name: &str, value: &str) {
        self.changed = true;
        match name {
            ERROR => return self.error.push_str(value),
            ERROR_DETAILS => return self.details.push_str(value),
            _ => {}
        }
        let start = self.text.len();
        self.text.push_str(name);
        if self.stream_has(start) {
            self.text.push_str(EXTRACTED);
        }
        let name_span = (start as u32, self.text.len() as u32);
        self.text.push_str(value);
        self.fields.push(Field {
            name: name_span,
            value: (name_span.1, self.text.len() as u32),
            origin: Origin::Metadata,
            live: true,
            dropped: false,
        });
    }

    /// The value of a label; not of errors.
    pub fn get_label(&self, name: &str) -> Option<&str> {
        self.find(name).map(|i| self.slice(self.fields[i].value))
    }

    /// The value of a label or an error.
    pub fn get(&self, name: &str) -> Option<&str> {
        match name {
            ERROR => (!self.error.is_empty()).then_some(self.error.as_str()),
            ERROR_DETAILS => (!self.details.is_empty()).then_some(self.details.as_str()),
            _ => self.get_label(name),
        }
    }

    /// The labels as they are now, for templates that must not see later changes.
    pub fn freeze(&self, into: &mut Vec<Field>) {
        into.clear();
        into.extend(self.fields.iter().filter(|f| f.live));
    }

    /// The value of a frozen label or an error.
    pub fn get_frozen(&self, frozen: &[Field], name: &str) -> Option<&str> {
        match name {
            ERROR | ERROR_DETAILS => self.get(name),
            _ => frozen
                .iter()
                .find(|f| self.slice(f.name) == name)
                .map(|f| self.slice(f.value)),
        }
    }

    /// Sets a label to a value, as `label_format` does: whatever had the name is gone.
    pub fn set(&mut self, name: &str, value: &str) {
        if !self.has_room(name.len() + value.len()) {
            return;
        }
        self.hide(name);
        self.push(name, value, Origin::Parsed);
    }

    /// Gives a label another name; nothing happens if it is not there.
    pub fn rename(&mut self, from: &str, to: &str) {
        let Some(i) = self.find(from) else { return };
        let value = self.fields[i].value;
        self.hide(to);
        let start = self.text.len() as u32;
        self.text.push_str(to);
        self.fields.push(Field {
            name: (start, self.text.len() as u32),
            value,
            origin: Origin::Parsed,
            live: true,
            dropped: false,
        });
        // Who renames a label to its own name loses it.
        self.remove(from);
    }

    /// Removes a label or clears an error.
    pub fn remove(&mut self, name: &str) {
        self.changed = true;
        match name {
            ERROR => return self.error.clear(),
            ERROR_DETAILS => return self.details.clear(),
            _ => {}
        }
        while let Some(i) = self.find(name) {
            self.fields[i].live = false;
            self.fields[i].dropped = true;
        }
    }

    /// Makes room for another label of this name.
    fn hide(&mut self, name: &str) {
        self.changed = true;
        while let Some(i) = self.find(name) {
            self.fields[i].live = false;
        }
    }

    /// Whether a stage took the label away, whatever has its name by now: grouping by the name does not find that.
    pub fn was_dropped(&self, name: &str) -> bool {
        self.changed && self.fields.iter().any(|f| f.dropped && self.slice(f.name) == name)
    }

    /// Removes every label that `keep` refuses. Errors stay, also those that a line calls so itself.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.changed = true;
        for i in 0..self.fields.len() {
            let field = self.fields[i];
            let name = self.slice(field.name);
            if field.live && !matches!(name, ERROR | ERROR_DETAILS) && !keep(name, self.slice(field.value)) {
                self.fields[i].live = false;
                self.fields[i].dropped = true;
            }
        }
    }

    /// Begins a label that an extraction names: it takes the place of one that was parsed before. `None`: not needed.
    pub fn open_anew(&mut self, name: &str, needed: &Needed) -> Option<Slot> {
        let start = self.text.len();
        if !self.has_room(name.len() + EXTRACTED.len()) {
            return None;
        }
        self.text.push_str(name);
        if self.stream_has(start) || self.metadata_has(start) {
            self.text.push_str(EXTRACTED);
        }
        if !needed.wants(&self.text[start..]) {
            self.text.truncate(start);
            return None;
        }
        let (span, before) = ((start as u32, self.text.len() as u32), self.fields.len());
        for i in 0..before {
            let field = self.fields[i];
            let same = field.live && field.origin == Origin::Parsed;
            if same && self.slice(field.name) == self.slice(span) {
                self.fields[i].live = false;
            }
        }
        Some(Slot { name: span })
    }

    /// Whether the name is that of a label of the stream (dropped or not) or of metadata.
    pub fn is_taken(&self, name: &str) -> bool {
        self.stream_fields.iter().any(|f| self.slice(f.name) == name) || self.metadata_place(name).is_some()
    }

    /// Whether a label of this name was parsed, gone or not.
    pub fn was_parsed(&self, name: &str) -> bool {
        self.was_parsed_before(self.fields.len(), name)
    }

    /// The same when there were [`Labels::len`] labels.
    pub fn was_parsed_before(&self, len: usize, name: &str) -> bool {
        let parsed = |f: &Field| f.origin == Origin::Parsed && self.slice(f.name) == name;
        self.fields.iter().take(len).any(parsed)
    }

    /// How many labels there are, those not counted out that are gone.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Begins a parsed label with the name `prefix` + `name`, sanitised. `None` if the query does not need it, or has it already. The
    /// value is written to [`Labels::value`]; then comes [`Labels::commit`].
    pub fn open(&mut self, prefix: &str, name: &str, needed: &Needed) -> Option<Slot> {
        let start = self.text.len();
        if !self.has_room(prefix.len() + name.len()) {
            return None;
        }
        self.text.push_str(prefix);
        sanitise(name, prefix.is_empty(), &mut self.text);
        if self.stream_has(start) || self.metadata_has(start) {
            self.text.push_str(EXTRACTED);
        }
        let span = (start as u32, self.text.len() as u32);
        let taken = self.was_parsed_at(span);
        let name = self.slice(span);
        if taken || !needed.wants(name) {
            self.text.truncate(start);
            return None;
        }
        Some(Slot { name: span })
    }

    /// Where the value of an open slot goes: append to it.
    pub fn value(&mut self) -> &mut String {
        &mut self.text
    }

    /// Ends a parsed label.
    pub fn commit(&mut self, slot: Slot) {
        self.changed = true;
        let name = self.slice(slot.name);
        // A parsed label hides metadata of the same (suffixed) name.
        let hidden = self.metadata_place(name);
        if let Some(i) = hidden {
            self.fields[i].live = false;
        }
        self.fields.push(Field {
            name: slot.name,
            value: (slot.name.1, self.text.len() as u32),
            origin: Origin::Parsed,
            live: true,
            dropped: false,
        });
    }

    /// Adds a parsed label whose value is at hand. Says whether the query needed it.
    pub fn extract(&mut self, name: &str, value: &str, needed: &Needed) -> bool {
        match self.open("", name, needed) {
            Some(slot) => {
                self.text.push_str(value);
                self.commit(slot);
                true
            }
            None => false,
        }
    }

    /// How many parsed labels of those needed are there; all found: a parser may stop.
    pub fn has_all(&self, needed: &Needed) -> bool {
        let parsed = |n: &String| {
            let is = |f: &Field| f.origin == Origin::Parsed && self.slice(f.name) == n;
            self.fields.iter().any(is)
        };
        match &needed.only {
            Some(only) => !only.whole && only.names.iter().all(parsed),
            None => false,
        }
    }

    /// Notes what went wrong, in place of what went wrong before.
    pub fn set_error(&mut self, kind: &str, details: &str) {
        self.changed = true;
        self.error.clear();
        self.error.push_str(kind);
        if !details.is_empty() {
            self.details.clear();
            self.details.push_str(details);
        }
    }

    /// Notes what went wrong unless something did before.
    pub fn set_first_error(&mut self, kind: &str, details: &str) {
        if self.error.is_empty() {
            self.set_error(kind, details);
        }
    }

    /// What went wrong; empty if nothing did.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// What went wrong in detail.
    pub fn details(&self) -> &str {
        &self.details
    }

    /// What went wrong in detail, as a label: if the error was dropped it is there only where labels differ from the stream's.
    pub fn shown_details(&self) -> &str {
        let differ = self.fields.len() > self.stream_fields.len() || self.fields.iter().any(|f| !f.live);
        if self.error.is_empty() && !differ {
            return "";
        }
        &self.details
    }

    /// All labels there are, errors not among them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Origin)> {
        self.fields
            .iter()
            .filter(|f| f.live)
            .map(|f| (self.slice(f.name), self.slice(f.value), f.origin))
    }

    /// Appends to `out` the canonical encoding (see [`model::LabelSet`]) of the labels that `keep` takes, those
    /// without a value only if `empty`. `order` is scratch space.
    pub fn encode(&self, keep: impl Fn(&str) -> bool, empty: bool, order: &mut Vec<u32>, out: &mut Vec<u8>) {
        order.clear();
        for (i, field) in self.fields.iter().enumerate() {
            if field.live && (empty || field.value.0 < field.value.1) && keep(self.slice(field.name)) {
                order.push(i as u32);
            }
        }
        // The details of an error that was dropped are a label like others.
        let details = self.shown_details();
        if !details.is_empty() && keep(ERROR_DETAILS) {
            order.push(DETAILS_PLACE);
        }
        let field = |i: &u32| match self.fields.get(*i as usize) {
            Some(field) => (self.slice(field.name), self.slice(field.value), field.origin as u8),
            None => (ERROR_DETAILS, details, Origin::Parsed as u8),
        };
        // Of equal names the strongest comes first: later origins are stronger.
        order.sort_unstable_by(|a, b| {
            let (a, b) = (field(a), field(b));
            a.0.cmp(b.0).then(b.2.cmp(&a.2))
        });
        let mut last = None;
        for i in order.iter() {
            let (name, value, _) = field(i);
            if last != Some(name) {
                put(name, out);
                put(value, out);
                last = Some(name);
            }
        }
    }

    fn push(&mut self, name: &str, value: &str, origin: Origin) {
        let start = self.text.len() as u32;
        self.text.push_str(name);
        let middle = self.text.len() as u32;
        self.text.push_str(value);
        self.changed |= origin != Origin::Stream;
        self.fields.push(Field {
            name: (start, middle),
            value: (middle, self.text.len() as u32),
            origin,
            live: true,
            dropped: false,
        });
    }

    /// Parsed labels come first, then metadata, then the stream's.
    fn find(&self, name: &str) -> Option<usize> {
        let place = |origin: Origin| {
            self.fields
                .iter()
                .position(|f| f.live && f.origin == origin && self.slice(f.name) == name)
        };
        // Names are nearly always unique, so one pass decides.
        let first = self.fields.iter().position(|f| f.live && self.slice(f.name) == name)?;
        match self.fields[first].origin {
            Origin::Parsed => Some(first),
            _ => place(Origin::Parsed)
                .or_else(|| place(Origin::Metadata))
                .or(Some(first)),
        }
    }

    /// Whether the stream itself (dropped or not) carries the name that is written from `start` on.
    fn stream_has(&self, start: usize) -> bool {
        let name = &self.text[start..];
        self.stream_fields.iter().any(|f| self.slice(f.name) == name)
    }

    fn metadata_has(&self, start: usize) -> bool {
        self.metadata_place(&self.text[start..]).is_some()
    }

    /// Where the metadata of this name is. All metadata comes before what was parsed.
    fn metadata_place(&self, name: &str) -> Option<usize> {
        let unparsed = self.fields.iter().take_while(|f| f.origin != Origin::Parsed);
        let mut unparsed = unparsed.enumerate();
        let is = |f: &Field| f.live && f.origin == Origin::Metadata && self.slice(f.name) == name;
        unparsed.find(|(_, f)| is(f)).map(|(i, _)| i)
    }

    /// Whether a label of the name at `span` was parsed, gone or not. Quick also if there are many.
    fn was_parsed_at(&mut self, span: (u32, u32)) -> bool {
        let known = match self.fields.len() {
            0..=FIELDS_SEARCHED_MAX => None,
            _ => match self.last_place(span) {
                None => return false,
                place => place,
            },
        };
        let name = self.slice(span);
        let is = |f: &Field| f.origin == Origin::Parsed && self.slice(f.name) == name;
        known.and_then(|place| self.fields.get(place)).is_some_and(is) || self.fields.iter().any(is)
    }

    /// The last label whose name has the hash of this one's.
    fn last_place(&mut self, name: (u32, u32)) -> Option<usize> {
        for i in self.hashed..self.fields.len() {
            let hash = rapidhash_v3(self.slice(self.fields[i].name).as_bytes());
            self.hashes.insert(hash, i as u32);
        }
        self.hashed = self.fields.len();
        let hash = rapidhash_v3(self.slice(name).as_bytes());
        self.hashes.get(&hash).map(|place| *place as usize)
    }

    fn forget_hashes(&mut self) {
        if self.hashed > 0 {
            self.hashes.clear();
            self.hashed = 0;
        }
    }

    /// Whether so many more bytes may be held; notes an error if not.
    fn has_room(&mut self, bytes: usize) -> bool {
        let fits = self.text.len().saturating_add(bytes) <= TEXT_BYTES_MAX;
        if !fits {
            self.set_first_error(
                TOO_LARGE_ERROR,
                "the labels of this line would take more than 16 MiB of memory",
            );
        }
        fits
    }

    fn slice(&self, span: (u32, u32)) -> &str {
        &self.text[span.0 as usize..span.1 as usize]
    }
}

fn put(text: &str, out: &mut Vec<u8>) {
    let mut n = text.len();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Appends `name` as a label name: other characters become `_`, and a leading digit gets one in front where it `leads`.
pub(crate) fn sanitise(name: &str, leads: bool, out: &mut String) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.bytes().all(plain) && !(leads && name.starts_with(|c: char| c.is_ascii_digit())) {
        return out.push_str(name);
    }
    let name = name.trim();
    if leads && name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    for c in name.chars() {
        out.push(if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(labels: &Labels) -> Vec<String> {
        labels.iter().map(|(n, v, _)| format!("{n}={v}")).collect()
    }

    #[test]
    fn precedence_of_stream_metadata_and_parsed() {
        let mut l = Labels::default();
        l.begin_stream([("s", "1"), ("tri", "s")].into_iter());
        l.next_line();
        l.add_metadata("m", "2");
        l.add_metadata("tri", "m");
        assert_eq!(all(&l), ["s=1", "tri=s", "m=2", "tri_extracted=m"]);
        for (n, v) in [("s", "p"), ("m", "p"), ("tri", "p"), ("new", "p"), ("new", "again")] {
            l.extract(n, v, &Needed::all());
        }
        assert_eq!(
            all(&l),
            [
                "s=1",
                "tri=s",
                "m=2",
                "s_extracted=p",
                "m_extracted=p",
                "tri_extracted=p",
                "new=p"
            ]
        );
        l.next_line();
        assert_eq!(all(&l), ["s=1", "tri=s"]);
    }

    #[test]
    fn formatting_replaces_and_renames() {
        let mut l = Labels::default();
        l.begin_stream([("a", "1"), ("b", "2")].into_iter());
        l.set("a", "x");
        l.rename("b", "c");
        l.rename("missing", "a");
        assert_eq!(all(&l), ["a=x", "c=2"]);
        l.rename("c", "c");
        l.extract("b", "3", &Needed::all());
        assert_eq!(l.get("b_extracted"), Some("3"));
        l.next_line();
        assert_eq!(all(&l), ["a=1", "b=2"]);
    }

    #[test]
    fn many_labels_are_told_apart_as_few_are() {
        let mut l = Labels::default();
        l.begin_stream([("n7", "s")].into_iter());
        for line in 0..2 {
            l.next_line();
            l.add_metadata("n9", "m");
            for n in (0..500).chain(0..500) {
                l.extract(&format!("n{n}"), &line.to_string(), &Needed::all());
            }
            assert_eq!(l.iter().count(), 502);
            assert_eq!(l.get("n499"), Some(&line.to_string()[..]));
            assert_eq!(l.get("n7_extracted"), Some(&line.to_string()[..]));
            l.remove("n3");
            assert!(!l.extract("n3", "again", &Needed::all()));
            assert!(l.was_dropped("n3") && !l.was_dropped("n4"));
        }
    }

    #[test]
    fn labels_do_not_grow_without_bound() {
        let mut l = Labels::default();
        l.begin_stream([("s", "1")].into_iter());
        let long = "x".repeat(1 << 20);
        (0..100).for_each(|i| l.set(&format!("l{i}"), &long));
        assert!(l.get("l14").is_some() && l.get("l99").is_none());
        assert_eq!(l.error(), TOO_LARGE_ERROR);
        l.next_line();
        assert_eq!(l.error(), "");
        assert!(l.extract("l99", "short", &Needed::all()));
    }

    #[test]
    fn names_are_sanitised() {
        let name = |n: &str| {
            let mut out = String::new();
            sanitise(n, true, &mut out);
            out
        };
        assert_eq!(name("a-b.c"), "a_b_c");
        assert_eq!(name("9x"), "_9x");
        assert_eq!(name(" "), "");
        assert_eq!(name("é"), "_");
    }
}
