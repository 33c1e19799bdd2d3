//! Applying a JSON patch (RFC 6902): all operations or none. Nothing is copied to make that so: each step is
//! noted in an undo log that moves values instead of cloning them, and a failure runs the log backwards. An
//! undone document is equal by `==`: member order too.
//!
//! INVARIANT: an undo entry is run in exactly the document that its step left behind, so the paths and slots
//! it noted are still right; objects keep their empty slots until the patch has succeeded.
//!
//! A patch comes from outside. What it writes is bounded by a [`Budget`]: `copy` alone could double a
//! document with every operation, or nest it deeper than recursion can follow.

use super::{JsonPatch, Operation, PatchError, PatchFault};
use crate::domain::text::Text;
use crate::domain::value::pointer::array_index;
use crate::domain::value::{Limits, Pointer, Value};

/// What a patch may add to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of compact JSON that all `add`, `replace` and `copy` operations may write together. The document
    /// grows by at most this much (and the names they are written under, which the patch itself contains).
    pub max_bytes: usize,
    /// Levels of arrays and objects that a written value may reach, counted from the root of the document.
    pub max_depth: usize,
}

impl Default for Budget {
    /// The default [`Limits`].
    fn default() -> Self {
        let Limits { max_bytes, max_depth, .. } = Limits::default();
        Self { max_bytes, max_depth }
    }
}

impl JsonPatch {
    /// Applies the operations in order. On an error `target` is what it was before.
    ///
    /// # Errors
    /// [`PatchError`] with the first operation that fails.
    pub fn apply(&self, target: &mut Value, budget: &Budget) -> Result<(), PatchError> {
        let mut change =
            Change { target, undo: Vec::new(), bytes_left: budget.max_bytes, max_depth: budget.max_depth };
        for (operation, step) in self.operations.iter().enumerate() {
            if let Err(fault) = change.run(step) {
                change.roll_back();
                return Err(PatchError { operation, fault });
            }
        }
        change.finish();
        Ok(())
    }
}

/// A document that is being patched, and how to get back.
struct Change<'a> {
    target: &'a mut Value,
    undo: Vec<Undo<'a>>,
    bytes_left: usize,
    max_depth: usize,
}

/// The inverse of one step. What an entry takes out of the document is carried to the next one, because a
/// move is two steps: put, whose inverse takes the value, and take, whose inverse puts it back.
enum Undo<'a> {
    /// Take out the last member of the object at `parent`.
    PopMember { parent: &'a [Box<str>] },
    /// Take out the element `index` of the array at `parent`.
    TakeElement { parent: &'a [Box<str>], index: usize },
    /// Swap `old` back in at `path`.
    Swap { path: &'a [Box<str>], old: Value },
    /// Put `value`, or what is carried, back into the slot of the object at `parent`.
    PutMember { parent: &'a [Box<str>], slot: usize, name: Text, value: Option<Value> },
    /// Put `value`, or what is carried, back as element `index` of the array at `parent`.
    PutElement { parent: &'a [Box<str>], index: usize, value: Option<Value> },
}

type Outcome<T> = Result<T, PatchFault>;

impl<'a> Change<'a> {
    fn run(&mut self, step: &'a Operation) -> Outcome<()> {
        match step {
            Operation::Add { path, value } => {
                self.spend(path, value)?;
                self.add(path, value.clone())
            }
            Operation::Remove { path } => {
                let value = self.take(path)?;
                self.keep(value);
                Ok(())
            }
            Operation::Replace { path, value } => {
                self.spend(path, value)?;
                let place = self.target.pointer_mut(path).ok_or(PatchFault::NotFound)?;
                let old = std::mem::replace(place, value.clone());
                self.undo.push(Undo::Swap { path: path.tokens(), old });
                Ok(())
            }
            Operation::Move { from, path } => self.shift(from, path),
            Operation::Copy { from, path } => {
                let source = self.target.pointer(from).ok_or(PatchFault::NotFound)?;
                let (bytes, depth) = (source.json_len(), source.depth());
                self.spend_measured(path, bytes, depth)?;
                let copy = self.target.pointer(from).ok_or(PatchFault::NotFound)?.clone();
                self.add(path, copy)
            }
            Operation::Test { path, value } => {
                let found = self.target.pointer(path).ok_or(PatchFault::NotFound)?;
                if found.eq_value(value) { Ok(()) } else { Err(PatchFault::TestFailed) }
            }
        }
    }

    fn spend(&mut self, path: &Pointer, value: &Value) -> Outcome<()> {
        self.spend_measured(path, value.json_len(), value.depth())
    }

    fn spend_measured(&mut self, path: &Pointer, bytes: usize, depth: usize) -> Outcome<()> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(PatchFault::TooLarge)?;
        self.check_depth(path, depth)
    }

    fn check_depth(&self, path: &Pointer, depth: usize) -> Outcome<()> {
        if path.tokens().len() + depth > self.max_depth { Err(PatchFault::TooDeep) } else { Ok(()) }
    }

    /// Takes out what is at `from` and adds it at `path`.
    fn shift(&mut self, from: &'a Pointer, path: &'a Pointer) -> Outcome<()> {
        if path.tokens().len() > from.tokens().len() && path.tokens().starts_with(from.tokens()) {
            return Err(PatchFault::IntoItself);
        }
        if from == path && path.is_root() {
            return Ok(());
        }
        if path.tokens().len() > from.tokens().len() {
            let moved = self.target.pointer(from).ok_or(PatchFault::NotFound)?;
            self.check_depth(path, moved.depth())?;
        }
        let value = self.take(from)?;
        self.put(path, value).map_err(|(fault, value)| {
            self.keep(value);
            fault
        })
    }

    /// Leaves a value that was just taken to its own undo entry: it goes nowhere else.
    fn keep(&mut self, taken: Value) {
        if let Some(Undo::PutMember { value, .. } | Undo::PutElement { value, .. }) = self.undo.last_mut() {
            *value = Some(taken);
        }
    }

    /// Takes out what is at `path` and notes an undo entry without a value.
    fn take(&mut self, path: &'a Pointer) -> Outcome<Value> {
        let (token, parent) = path.tokens().split_last().ok_or(PatchFault::RemovesRoot)?;
        match self.target.descend_mut(parent) {
            Some(Value::Object(object)) => {
                let (slot, taken) = object.take(token).ok_or(PatchFault::NotFound)?;
                self.undo.push(Undo::PutMember { parent, slot, name: taken.name, value: None });
                Ok(taken.value)
            }
            Some(Value::Array(elements)) => {
                let index = array_index(token).ok_or(PatchFault::BadIndex)?;
                if index >= elements.len() {
                    return Err(PatchFault::BadIndex);
                }
                let value = elements.remove(index);
                self.undo.push(Undo::PutElement { parent, index, value: None });
                Ok(value)
            }
            _ => Err(PatchFault::NotFound),
        }
    }

    fn add(&mut self, path: &'a Pointer, value: Value) -> Outcome<()> {
        self.put(path, value).map_err(|(fault, _)| fault)
    }

    /// Adds `value` at `path`; a value that cannot be added is given back.
    fn put(&mut self, path: &'a Pointer, value: Value) -> Result<(), (PatchFault, Value)> {
        let Some((token, parent)) = path.tokens().split_last() else {
            let old = std::mem::replace(self.target, value);
            self.undo.push(Undo::Swap { path: &[], old });
            return Ok(());
        };
        match self.target.descend_mut(parent) {
            Some(Value::Object(object)) => {
                self.undo.push(match object.insert(token.clone(), value) {
                    Some(old) => Undo::Swap { path: path.tokens(), old },
                    None => Undo::PopMember { parent },
                });
                Ok(())
            }
            Some(Value::Array(elements)) => {
                let index = if &**token == "-" { Some(elements.len()) } else { array_index(token) };
                match index {
                    Some(index) if index <= elements.len() => {
                        elements.insert(index, value);
                        self.undo.push(Undo::TakeElement { parent, index });
                        Ok(())
                    }
                    _ => Err((PatchFault::BadIndex, value)),
                }
            }
            _ => Err((PatchFault::NotFound, value)),
        }
    }

    fn roll_back(mut self) {
        let mut carried = Value::Null;
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::PopMember { parent } => {
                    let object = self.target.descend_mut(parent).and_then(Value::as_object_mut);
                    carried = object.and_then(|object| object.pop()).expect(UNCHANGED);
                }
                Undo::TakeElement { parent, index } => {
                    let elements = self.target.descend_mut(parent).and_then(Value::as_array_mut);
                    carried = elements.expect(UNCHANGED).remove(index);
                }
                Undo::Swap { path, old } => {
                    carried = std::mem::replace(self.target.descend_mut(path).expect(UNCHANGED), old);
                }
                Undo::PutMember { parent, slot, name, value } => {
                    let value = value.unwrap_or_else(|| std::mem::take(&mut carried));
                    let object = self.target.descend_mut(parent).and_then(Value::as_object_mut);
                    object.expect(UNCHANGED).restore(slot, name, value);
                }
                Undo::PutElement { parent, index, value } => {
                    let value = value.unwrap_or_else(|| std::mem::take(&mut carried));
                    let elements = self.target.descend_mut(parent).and_then(Value::as_array_mut);
                    elements.expect(UNCHANGED).insert(index, value);
                }
            }
        }
    }

    /// Drops the empty slots that removals left, where the parent is still to be found.
    fn finish(self) {
        for undo in &self.undo {
            if let Undo::PutMember { parent, .. } = undo
                && let Some(Value::Object(object)) = self.target.descend_mut(parent)
            {
                object.tidy();
            }
        }
    }
}

const UNCHANGED: &str = "the steps after it were undone, so what it changed is still there";
