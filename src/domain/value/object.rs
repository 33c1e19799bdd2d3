//! Objects: members in the order of their first insertion, compact when small, never quadratic when large.
//!
//! Up to `SMALL_MAX` members are found by comparing names. From there on an index of (hash of the name, slot)
//! finds them in O(log n). The hash only ever groups candidates, it never orders anything that can be seen.
//! It is keyless, but 64 bits of SipHash leave no way to make the many equal hashes that an attack would
//! need.
//!
//! Invariants: a slot is empty only in an object with an index; the index holds exactly the filled slots;
//! names are unique. A removal from an indexed object leaves an empty slot, so that it costs O(log n) too;
//! empty slots are dropped when they outnumber the filled ones.

use super::Value;
use crate::domain::text::{self, Text};
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

/// Members up to which names are simply compared.
pub(super) const SMALL_MAX: usize = 16;

/// A name and its value; the unit the parser builds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: Text,
    pub(super) value: Value,
}

/// (hash of the name, slot) of every member. Boxed as a struct, because most objects have none: a word is
/// enough there.
#[derive(Clone)]
struct Index {
    entries: BTreeSet<(u64, u32)>,
}

/// The members of a JSON object.
#[derive(Clone, Default)]
pub struct Object {
    slots: Vec<Option<Member>>,
    index: Option<Box<Index>>,
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

fn entry(name: &str, slot: usize) -> (u64, u32) {
    (hash(name), u32::try_from(slot).expect("an object of 2^32 members does not fit in memory limits"))
}

impl Object {
    /// No members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No members yet, room for `members`.
    #[must_use]
    pub fn with_capacity(members: usize) -> Self {
        Self { slots: Vec::with_capacity(members), index: None }
    }

    /// An object of these members: every slot is filled, every name there once.
    pub(super) fn from_unique(slots: Vec<Option<Member>>) -> Self {
        let object = Self { slots, index: None };
        if object.slots.len() > SMALL_MAX { object.indexed() } else { object }
    }

    /// The same members without empty slots and with an index.
    fn indexed(mut self) -> Self {
        self.slots.retain(Option::is_some);
        let filled = self.slots.iter().flatten().enumerate();
        let mut entries: Vec<_> = filled.map(|(slot, member)| entry(&member.name, slot)).collect();
        entries.sort_unstable();
        self.index = Some(Box::new(Index { entries: entries.into_iter().collect() }));
        self
    }

    fn name_at(&self, slot: usize) -> Option<&str> {
        self.slots.get(slot)?.as_ref().map(|member| &*member.name)
    }

    /// The slot of a member.
    fn find(&self, name: &str) -> Option<usize> {
        let Some(index) = &self.index else {
            return self.slots.iter().flatten().position(|member| &*member.name == name);
        };
        let hash = hash(name);
        let mut candidates =
            index.entries.range((hash, 0)..=(hash, u32::MAX)).map(|(_, slot)| *slot as usize);
        candidates.find(|slot| self.name_at(*slot) == Some(name))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.as_ref().map_or(self.slots.len(), |index| index.entries.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let slot = self.find(name)?;
        self.slots[slot].as_ref().map(|member| &member.value)
    }

    /// The value of a member, to change it.
    #[must_use]
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let slot = self.find(name)?;
        self.slots[slot].as_mut().map(|member| &mut member.value)
    }

    /// Whether there is a member of this name.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Sets a member: an existing one keeps its place and its old value is returned, a new one comes last.
    pub fn insert(&mut self, name: impl Into<Text>, value: Value) -> Option<Value> {
        let name = name.into();
        if let Some(old) = self.get_mut(&name) {
            return Some(std::mem::replace(old, value));
        }
        self.push(name, value);
        None
    }

    /// The value of a member, which is created last if it is missing.
    pub fn get_or_insert_with(&mut self, name: &str, value: impl FnOnce() -> Value) -> &mut Value {
        self.found_or_inserted(name, value).0
    }

    /// The value of a member and whether it was missing, in which case it is created last.
    pub(in super::super) fn found_or_inserted(
        &mut self,
        name: &str,
        value: impl FnOnce() -> Value,
    ) -> (&mut Value, bool) {
        let found = self.find(name);
        let slot = found.unwrap_or_else(|| self.push(name.into(), value()));
        let member = self.slots[slot].as_mut().expect("a member that was found or pushed fills its slot");
        (&mut member.value, found.is_none())
    }

    /// Appends a member whose name is not there yet, which the caller knows.
    pub(crate) fn push_new(&mut self, name: Text, value: Value) {
        debug_assert!(!self.contains_key(&name), "a name twice");
        self.push(name, value);
    }

    /// Appends a member whose name is new and returns its slot.
    fn push(&mut self, name: Text, value: Value) -> usize {
        let slot = self.slots.len();
        if let Some(index) = &mut self.index {
            index.entries.insert(entry(&name, slot));
        }
        self.slots.push(Some(Member { name, value }));
        if self.index.is_none() && self.slots.len() > SMALL_MAX {
            *self = std::mem::take(self).indexed();
        }
        slot
    }

    /// Removes a member; the rest keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let (_, member) = self.take(name)?;
        self.tidy();
        Some(member.value)
    }

    /// Removes a member and says which slot it had, for [`Object::restore`]; empty slots are not dropped.
    pub(in super::super) fn take(&mut self, name: &str) -> Option<(usize, Taken)> {
        let slot = self.find(name)?;
        let member = match &mut self.index {
            None => self.slots.remove(slot),
            Some(index) => {
                index.entries.remove(&entry(name, slot));
                self.slots[slot].take()
            }
        };
        member.map(|Member { name, value }| (slot, Taken { name, value }))
    }

    /// Removes the last member, which must have been the last change: the inverse of an insertion.
    pub(in super::super) fn pop(&mut self) -> Option<Value> {
        let member = self.slots.pop()??;
        if let Some(index) = &mut self.index {
            index.entries.remove(&entry(&member.name, self.slots.len()));
        }
        Some(member.value)
    }

    /// Puts a member back into the slot it was taken from; every change since must have been undone.
    pub(in super::super) fn restore(&mut self, slot: usize, name: Text, value: Value) {
        let member = Some(Member { name, value });
        match self.slots.get_mut(slot) {
            Some(empty @ None) => {
                *empty = member;
                if let (Some(index), Some(name)) = (&mut self.index, self.slots[slot].as_ref()) {
                    index.entries.insert(entry(&name.name, slot));
                }
            }
            // It was taken from a small object, whose slots close up.
            _ => {
                self.slots.insert(slot.min(self.slots.len()), member);
                if self.index.is_some() {
                    *self = std::mem::take(self).indexed();
                }
            }
        }
    }

    /// Drops the empty slots if they outnumber the members.
    pub(in super::super) fn tidy(&mut self) {
        let Some(index) = &self.index else { return };
        if self.slots.len() - index.entries.len() <= index.entries.len() {
            return;
        }
        if index.entries.len() > SMALL_MAX / 2 {
            *self = std::mem::take(self).indexed();
        } else {
            self.slots.retain(Option::is_some);
            self.index = None;
        }
    }

    /// The members in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + Clone {
        self.slots.iter().flatten().map(|member| (&*member.name, &member.value))
    }

    /// The members in order, their values to change.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&str, &mut Value)> {
        self.slots.iter_mut().flatten().map(|member| (&*member.name, &mut member.value))
    }

    /// The names in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.iter().map(|(name, _)| name)
    }

    /// The values in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + Clone {
        self.iter().map(|(_, value)| value)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<Option<Member>>();
        // A B-tree is filled to two thirds on average.
        let index =
            self.index.as_ref().map_or(0, |index| index.entries.len() * size_of::<(u64, u32)>() * 3 / 2);
        let filled = self.slots.iter().flatten();
        slots
            + index
            + filled.map(|member| text::heap_bytes(&member.name) + member.value.heap_bytes()).sum::<usize>()
    }
}

/// A member that was taken out of an object.
pub(in super::super) struct Taken {
    pub(in super::super) name: Text,
    pub(in super::super) value: Value,
}

impl PartialEq for Object {
    /// The same members in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl IntoIterator for Object {
    type Item = (Text, Value);
    type IntoIter = IntoIter;
    fn into_iter(self) -> IntoIter {
        IntoIter(self.slots.into_iter())
    }
}

/// The members of an object by value, in order.
pub struct IntoIter(std::vec::IntoIter<Option<Member>>);

impl Iterator for IntoIter {
    type Item = (Text, Value);
    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|member| member).map(|member| (member.name, member.value))
    }
}

impl<N: Into<Text>> FromIterator<(N, Value)> for Object {
    /// The last of several members of one name gives the value, the first the place.
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(members: I) -> Self {
        let mut object = Self::new();
        members.into_iter().for_each(|(name, value)| {
            object.insert(name, value);
        });
        object
    }
}
