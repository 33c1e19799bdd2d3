//! The state while one event is applied: every change goes through here and is noted with its inverse, so
//! that an event whose third operation fails leaves nothing behind, and no state is copied to make that so.
//!
//! INVARIANTS: an entry is undone in exactly the state its change left, so its path still leads there; below
//! a place that this event created nothing is noted, because undoing the creation takes all of it away.
//! Objects keep their empty slots until [`Journal::commit`].

use crate::domain::expr::noun;
use crate::domain::patch;
use crate::domain::poison::{self, Poison};
use crate::domain::reducer::STATE_DEPTH_MAX;
use crate::domain::text::Text;
use crate::domain::value::object::Taken;
use crate::domain::value::write::string_len;
use crate::domain::value::{Object, Value};
use std::borrow::Cow;
use std::mem::replace;
use std::ops::Range;

/// Keys for which there is room at once: those of a few short paths.
const KEYS: usize = 16;

/// One step of a resolved path.
#[derive(Clone, Debug)]
pub(super) enum Key<'a> {
    /// A member.
    Name(Cow<'a, str>),
    /// An element; below 0 counts from the end until the step was taken once.
    Index(i64),
}

/// A path among the journal's keys.
pub(super) type Route = Range<usize>;

#[derive(Debug)]
enum Undo {
    /// Take the last member of the object away.
    PopMember,
    /// Put the old value back.
    Swap(Value),
    /// Put a member back where it was.
    Restore { slot: usize, name: Text, value: Value },
    /// Take an element away.
    Remove(usize),
    /// Put elements back, each where it was, in ascending order.
    Insert(Vec<(usize, Value)>),
}

/// A state that is being changed.
#[derive(Debug)]
pub(super) struct Journal<'s, 'a> {
    state: &'s mut Value,
    keys: Vec<Key<'a>>,
    entries: Vec<(Route, Undo)>,
    /// Bytes by which the state's JSON text has grown.
    growth: isize,
}

/// A place in the state that was walked to.
pub(super) struct Place<'j> {
    /// What is there; null if it has just been created.
    pub(super) value: &'j mut Value,
    /// Created by this walk, or below such a place: changes need no entry.
    fresh: bool,
    entries: &'j mut Vec<(Route, Undo)>,
    growth: &'j mut isize,
    route: Route,
}

/// Length of a value's JSON text.
fn len(value: &Value) -> isize {
    value.json_len().cast_signed()
}

/// Length of a member's JSON text and of the comma that `others` need.
fn member_len(name: &str, value: &Value, others: usize) -> isize {
    string_len(name).cast_signed() + 1 + len(value) + comma(others)
}

/// Length of the comma between a member or element and `others`.
fn comma(others: usize) -> isize {
    isize::from(others > 0)
}

fn wrong_parent(value: &Value, key: &Key<'_>) -> Poison {
    let wanted = match key {
        Key::Name(_) => "a member name leads into",
        Key::Index(_) => "an index leads into",
    };
    Poison::new(poison::TYPE, format!("{wanted} {}", noun(value)))
}

fn beyond() -> Poison {
    Poison::new(poison::INDEX, "the index is beyond the array")
}

impl<'s, 'a> Journal<'s, 'a> {
    pub(super) fn new(state: &'s mut Value) -> Self {
        Self { state, keys: Vec::with_capacity(KEYS), entries: Vec::new(), growth: 0 }
    }

    /// Whether nothing has changed so far.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Starts a route with the keys of another one; [`Journal::push`] extends it.
    pub(super) fn route(&mut self, prefix: Route) -> Route {
        let start = self.keys.len();
        self.keys.extend_from_within(prefix);
        start..self.keys.len()
    }

    /// Extends the route that was started last.
    pub(super) fn push(&mut self, route: &mut Route, key: Key<'a>) {
        debug_assert_eq!(route.end, self.keys.len());
        self.keys.push(key);
        route.end += 1;
    }

    /// Walks and creates what is missing: a missing or null parent becomes an array for an index, else an
    /// object.
    pub(super) fn walk(&mut self, route: &Route) -> Result<Place<'_>, Poison> {
        if route.len() > STATE_DEPTH_MAX {
            return Err(Poison::new(poison::DEPTH, "the path is too deep"));
        }
        let (mut value, mut fresh) = (&mut *self.state, false);
        for at in route.clone() {
            let here = route.start..at;
            if value.is_null() {
                let parent = match self.keys[at] {
                    Key::Name(_) => Value::Object(Object::new()),
                    Key::Index(_) => Value::Array(Vec::new()),
                };
                self.growth += len(&parent) - len(value);
                let old = replace(value, parent);
                if !fresh {
                    self.entries.push((here.clone(), Undo::Swap(old)));
                    fresh = true;
                }
            }
            let (child, created) = step(value, &mut self.keys[at], &mut self.growth)?;
            if let Some(undo) = created
                && !fresh
            {
                self.entries.push((here, undo));
                fresh = true;
            }
            value = child;
        }
        Ok(Place { value, fresh, entries: &mut self.entries, growth: &mut self.growth, route: route.clone() })
    }

    /// Walks without creating anything; `None` if something on the way, or the end, is missing or null.
    pub(super) fn find(&mut self, route: &Route) -> Result<Option<Place<'_>>, Poison> {
        let mut value = &mut *self.state;
        for at in route.clone() {
            value = match (&mut self.keys[at], value) {
                (_, Value::Null) => return Ok(None),
                (Key::Name(name), Value::Object(members)) => match members.get_mut(name) {
                    Some(child) => child,
                    None => return Ok(None),
                },
                (Key::Index(index), Value::Array(elements)) => {
                    match absolute(*index, elements.len()).filter(|found| *found < elements.len()) {
                        Some(found) => {
                            *index = i64::try_from(found).map_err(|_| beyond())?;
                            &mut elements[found]
                        }
                        None => return Ok(None),
                    }
                }
                (key, value) => return Err(wrong_parent(value, key)),
            };
        }
        if value.is_null() {
            return Ok(None);
        }
        Ok(Some(Place {
            value,
            fresh: false,
            entries: &mut self.entries,
            growth: &mut self.growth,
            route: route.clone(),
        }))
    }

    /// Removes what the route leads to; missing is fine.
    pub(super) fn remove(&mut self, route: &Route) -> Result<(), Poison> {
        let last = route.end - 1;
        let key = self.keys[last].clone();
        match self.find(&(route.start..last))? {
            Some(mut parent) => parent.unset(&key),
            None => Ok(()),
        }
    }

    /// Merges `patch` (RFC 7396) into the object the route leads to; missing parents are created.
    pub(super) fn merge(&mut self, route: &Route, patch: &Object) -> Result<(), Poison> {
        let mut place = self.walk(route)?;
        let fresh = place.fresh || place.value.is_null();
        if place.value.is_null() {
            place.set(Value::Object(Object::new()))?;
        }
        let Value::Object(_) = place.value else {
            return Err(Poison::new(poison::TYPE, format!("there is {}, not an object", noun(place.value))));
        };
        let target = locate(self.state, &self.keys[route.clone()]).expect("the route was just walked");
        let Self { keys, entries, growth, .. } = self;
        let mut merging = Merging { keys, entries, growth, fresh };
        merging.merge(target, route.clone(), patch)
    }

    /// Keeps the changes and says by how many bytes the state's JSON text has grown.
    pub(super) fn commit(self) -> isize {
        for (route, undo) in &self.entries {
            // The parent may be gone by now, or another; tidying is harmless anywhere.
            if matches!(undo, Undo::Restore { .. })
                && let Some(Value::Object(members)) = locate(self.state, &self.keys[route.clone()])
            {
                members.tidy();
            }
        }
        self.growth
    }

    /// Takes all changes back, the last one first.
    pub(super) fn roll_back(mut self) {
        while let Some((route, undo)) = self.entries.pop() {
            let value =
                locate(self.state, &self.keys[route]).expect("a change is undone in the state it left");
            undo.run(value);
        }
    }
}

/// A merge patch on its way down.
struct Merging<'j, 'a> {
    keys: &'j mut Vec<Key<'a>>,
    entries: &'j mut Vec<(Route, Undo)>,
    growth: &'j mut isize,
    fresh: bool,
}

impl Merging<'_, '_> {
    fn note(&mut self, route: Route, undo: Undo) {
        if !self.fresh {
            self.entries.push((route, undo));
        }
    }

    /// The route of a member below `route`.
    fn below(&mut self, route: &Route, name: &str) -> Route {
        let start = self.keys.len();
        self.keys.extend_from_within(route.clone());
        self.keys.push(Key::Name(Cow::Owned(name.to_owned())));
        start..self.keys.len()
    }

    /// The target is an object. Recursion is bounded by the depth of the patch.
    fn merge(&mut self, target: &mut Value, route: Route, patch: &Object) -> Result<(), Poison> {
        let Value::Object(members) = target else { return Ok(()) };
        for (name, change) in patch.iter() {
            if change.is_null() {
                if let Some((slot, Taken { name, value })) = members.take(name) {
                    *self.growth -= member_len(&name, &value, members.len());
                    self.note(route.clone(), Undo::Restore { slot, name, value });
                }
                continue;
            }
            match (members.get_mut(name), change) {
                (Some(member @ Value::Object(_)), Value::Object(change)) => {
                    let below = self.below(&route, name);
                    self.merge(member, below, change)?;
                }
                (found, change) => {
                    let mut value = Value::Null;
                    patch::merge(&mut value, change);
                    if route.len() + 1 + value.depth() > STATE_DEPTH_MAX {
                        let detail =
                            format!("the state would be nested deeper than {STATE_DEPTH_MAX} levels");
                        return Err(Poison::new(poison::DEPTH, detail));
                    }
                    if let Some(member) = found {
                        *self.growth += len(&value) - len(member);
                        let old = replace(member, value);
                        if !self.fresh {
                            let below = self.below(&route, name);
                            self.note(below, Undo::Swap(old));
                        }
                    } else {
                        *self.growth += member_len(name, &value, members.len());
                        members.insert(name, value);
                        self.note(route.clone(), Undo::PopMember);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Undo {
    fn run(self, value: &mut Value) {
        match (self, value) {
            (Self::Swap(old), value) => *value = old,
            (Self::PopMember, Value::Object(members)) => drop(members.pop()),
            (Self::Restore { slot, name, value }, Value::Object(members)) => {
                members.restore(slot, name, value)
            }
            (Self::Remove(index), Value::Array(elements)) => drop(elements.remove(index)),
            (Self::Insert(removed), Value::Array(elements)) => {
                let mut kept = std::mem::take(elements).into_iter();
                for (index, element) in removed {
                    elements.extend(kept.by_ref().take(index - elements.len()));
                    elements.push(element);
                }
                elements.extend(kept);
            }
            (undo, value) => unreachable!("{undo:?} cannot be undone in {}", noun(value)),
        }
    }
}

/// What a route of steps that were all taken before leads to.
fn locate<'v>(state: &'v mut Value, keys: &[Key<'_>]) -> Option<&'v mut Value> {
    keys.iter().try_fold(state, |value, key| match (key, value) {
        (Key::Name(name), Value::Object(members)) => members.get_mut(name),
        (Key::Index(index), Value::Array(elements)) => elements.get_mut(usize::try_from(*index).ok()?),
        _ => None,
    })
}

impl Place<'_> {
    fn note(&mut self, undo: impl FnOnce() -> Undo) {
        if !self.fresh {
            self.entries.push((self.route.clone(), undo()));
        }
    }

    /// How deep the place is below the root.
    fn check_depth(&self, value: &Value, more: usize) -> Result<(), Poison> {
        let nested = matches!(value, Value::Array(_) | Value::Object(_));
        if nested && self.route.len() + more + value.depth() > STATE_DEPTH_MAX {
            let detail = format!("the state would be nested deeper than {STATE_DEPTH_MAX} levels");
            return Err(Poison::new(poison::DEPTH, detail));
        }
        Ok(())
    }

    /// Puts a value here.
    pub(super) fn set(&mut self, value: Value) -> Result<(), Poison> {
        self.check_depth(&value, 0)?;
        *self.growth += len(&value) - len(self.value);
        let old = replace(self.value, value);
        self.note(|| Undo::Swap(old));
        Ok(())
    }

    /// The array here, an empty one if there is nothing.
    fn array(&mut self) -> Result<(), Poison> {
        match self.value {
            Value::Array(_) => Ok(()),
            Value::Null => {
                self.set(Value::Array(Vec::new()))?;
                // What is put into it needs no entry of its own.
                self.fresh = true;
                Ok(())
            }
            _ => Err(Poison::new(poison::TYPE, format!("there is {}, not an array", noun(self.value)))),
        }
    }

    /// Removes a member or an element of what is here; missing is fine.
    fn unset(&mut self, key: &Key<'_>) -> Result<(), Poison> {
        match (key, &mut *self.value) {
            (Key::Name(name), Value::Object(members)) => {
                if let Some((slot, Taken { name, value })) = members.take(name) {
                    *self.growth -= member_len(&name, &value, members.len());
                    self.note(|| Undo::Restore { slot, name, value });
                }
            }
            (Key::Index(index), Value::Array(elements)) => {
                let length = elements.len();
                if let Some(index) = absolute(*index, length).filter(|index| *index < length) {
                    let removed = (index, elements.remove(index));
                    *self.growth -= len(&removed.1) + comma(elements.len());
                    self.note(|| Undo::Insert(vec![removed]));
                }
            }
            (key, value) => return Err(wrong_parent(value, key)),
        }
        Ok(())
    }

    /// Adds an element at the end of the array here, or at its start.
    pub(super) fn add_element(&mut self, element: Value, at_end: bool) -> Result<(), Poison> {
        self.check_depth(&element, 1)?;
        self.array()?;
        let Value::Array(elements) = &mut *self.value else { return Ok(()) };
        let index = if at_end { elements.len() } else { 0 };
        *self.growth += len(&element) + comma(elements.len());
        elements.insert(index, element);
        self.note(|| Undo::Remove(index));
        Ok(())
    }

    /// Keeps the elements of the array here that `keep` says, given their index and value.
    pub(super) fn retain(&mut self, keep: impl Fn(usize, &Value) -> bool) -> Result<(), Poison> {
        let Value::Array(elements) = &mut *self.value else {
            return Err(Poison::new(poison::TYPE, format!("there is {}, not an array", noun(self.value))));
        };
        let mut removed = Vec::new();
        // COST: one pass; `Vec::remove` for each element would be quadratic.
        let mut kept = Vec::new();
        if elements.iter().enumerate().all(|(index, element)| keep(index, element)) {
            return Ok(());
        }
        kept.reserve(elements.len());
        for (index, element) in elements.drain(..).enumerate() {
            if keep(index, &element) {
                kept.push(element);
            } else {
                *self.growth -= len(&element) + 1;
                removed.push((index, element));
            }
        }
        // Of an array that is empty now, the last element had no comma.
        *self.growth += 1 - comma(kept.len());
        *elements = kept;
        self.note(|| Undo::Insert(removed));
        Ok(())
    }
}

/// One step down, which creates the child as null if it is missing and says how to undo that.
fn step<'v>(
    value: &'v mut Value,
    key: &mut Key<'_>,
    growth: &mut isize,
) -> Result<(&'v mut Value, Option<Undo>), Poison> {
    match (key, value) {
        (Key::Name(name), Value::Object(members)) => {
            let others = members.len();
            let (child, created) = members.found_or_inserted(name, Value::default);
            if created {
                *growth += member_len(name, child, others);
            }
            Ok((child, created.then_some(Undo::PopMember)))
        }
        (Key::Index(index), Value::Array(elements)) => {
            let length = elements.len();
            let found = absolute(*index, length).filter(|found| *found <= length).ok_or_else(beyond)?;
            *index = i64::try_from(found).map_err(|_| beyond())?;
            if found == length {
                *growth += len(&Value::Null) + comma(length);
                elements.push(Value::Null);
            }
            Ok((&mut elements[found], (found == length).then_some(Undo::Remove(found))))
        }
        (key, value) => Err(wrong_parent(value, key)),
    }
}

/// The element an index means, if it is not before the first.
fn absolute(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index + i64::try_from(length).ok()? } else { index };
    usize::try_from(index).ok()
}
