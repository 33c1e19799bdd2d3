//! `State`: the state of an aggregate, as bytes while idle and as a tree while hot.
//!
//! COST: nothing here walks a hot tree but what writes it. Its two sizes are measured when it is made and
//! kept up to date by what reducers say of each event, so a large state costs no more per event than a small
//! one.

use super::value::Value;

/// The state of an aggregate.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing: before the first event and after a deletion.
    Absent,
    /// JSON text with member order as folded.
    Idle(Box<[u8]>),
    /// The tree.
    Hot(Box<Tree>),
}

/// A state as a tree, and how large it is.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(super) value: Value,
    /// Length of its JSON text, exact or from above.
    json_bytes: usize,
    /// Bytes on the heap, exact or from above.
    heap_bytes: usize,
    /// Bytes on the heap when they were last measured.
    measured_heap: usize,
}

/// Bytes of a tree per byte of its text at the most: an element takes two bytes of text at least, a member
/// five.
const HEAP_PER_JSON: usize = size_of::<Value>();
/// A bound may be so much above twice what was measured before the tree is measured again.
const BOUND_SLACK: usize = 1024;

impl Tree {
    pub(super) fn new(value: Value) -> Self {
        let json_bytes = value.json_len();
        Self::of_text(value, json_bytes)
    }

    /// The tree of a text that was so long.
    pub(super) fn of_text(value: Value, json_bytes: usize) -> Self {
        let heap_bytes = value.heap_bytes();
        Self { value, json_bytes, heap_bytes, measured_heap: heap_bytes }
    }

    /// The state itself.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Makes both sizes exact.
    pub(super) fn measure(&mut self) {
        self.json_bytes = self.value.json_len();
        self.measure_heap();
    }

    fn measure_heap(&mut self) {
        self.heap_bytes = self.value.heap_bytes();
        self.measured_heap = self.heap_bytes;
    }

    /// The text has grown by so many bytes at the most; a tree may keep what it had when it shrinks.
    ///
    /// SUBTLE: a byte of text can take many bytes of heap, but rarely does. A bound that only ever grew would
    /// soon count a hot state a hundred times and drive the cold ones out of memory, so it is made exact
    /// whenever it has doubled: a walk for each time that the tree may have grown by its own size.
    pub(super) fn grow(&mut self, bytes: isize) {
        self.json_bytes = self.json_bytes.saturating_add_signed(bytes);
        let more = usize::try_from(bytes).unwrap_or(0).saturating_mul(HEAP_PER_JSON);
        self.heap_bytes = self.heap_bytes.saturating_add(more);
        if self.heap_bytes > 2 * self.measured_heap + BOUND_SLACK {
            self.measure_heap();
        }
    }

    pub(super) fn json_bytes(&self) -> usize {
        self.json_bytes
    }
}

impl State {
    /// The state's JSON text with member order as folded; none if absent.
    #[must_use]
    pub fn to_json(&self) -> Option<Box<[u8]>> {
        match self {
            Self::Absent => None,
            Self::Idle(bytes) => Some(bytes.clone()),
            Self::Hot(tree) => {
                let mut text = Vec::with_capacity(tree.json_bytes);
                tree.value.write_json(&mut text);
                Some(text.into_boxed_slice())
            }
        }
    }

    /// Turns a tree back into bytes: an idle state must not cost its tree.
    pub fn cool(&mut self) {
        if let Self::Hot(..) = self {
            *self = self.to_json().map_or(Self::Absent, Self::Idle);
        }
    }

    /// Length of the JSON text, exact or from above.
    #[must_use]
    pub fn bytes_bound(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Idle(bytes) => bytes.len(),
            Self::Hot(tree) => tree.json_bytes,
        }
    }

    /// Bytes held, exact or from above.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Idle(bytes) => bytes.len() + 16,
            Self::Hot(tree) => size_of::<Tree>() + tree.heap_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::Limits;

    /// Goal: a state that is changed for ever without growing is not counted ever higher. Method: grow and
    /// shrink the same tree many times; the bound stays near what is there, and never below it.
    #[test]
    fn the_bound_on_memory_stays_near_what_is_there() {
        let text = br#"{"status":"new","items":{"a":{"qty":1,"price":12.50}},"note":"called about item 5"}"#;
        let mut tree = Tree::new(Value::parse(text, &Limits::default()).expect("it is JSON"));
        let exact = tree.value.heap_bytes();
        for _ in 0..10_000 {
            tree.grow(100);
            tree.grow(-100);
            assert!(tree.heap_bytes >= exact, "{} below {exact}", tree.heap_bytes);
            assert!(tree.heap_bytes <= 2 * exact + BOUND_SLACK, "{} for {exact}", tree.heap_bytes);
        }
    }
}
