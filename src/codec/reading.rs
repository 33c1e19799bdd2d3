//! What a mapping finds in a record: the same rules for every format. What is wrong with a record is an
//! answer (poison), with as much of its aggregate id and version as could be read. Details never hold values
//! of the record.
//!
//! A format says what `/pointer` points into (a [`Content`]), how the key is read, and whether attributes
//! stand in an envelope instead of in headers.

use crate::domain::event::{Event, Undecoded};
use crate::domain::ids::{Timestamp, Version};
use crate::domain::mapping::{Mapping, Place};
use crate::domain::moment;
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use crate::domain::reducer::TOMBSTONE;
use crate::domain::value::{Object, Part, Pointer, Value};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

/// Longest aggregate id in bytes.
const ID_BYTES_MAX: usize = 1024;

/// A value that places point into: of a text that was checked, or built.
pub(super) trait Content<'c>: Copy {
    /// Whether it is `null`.
    fn is_null(self) -> bool;
    /// The string, if it is one.
    fn as_str(self) -> Option<Cow<'c, str>>;
    /// The exact text of the number, if it is one.
    fn number_text(self) -> Option<Cow<'c, str>>;
    /// The integer, if it is one by its text.
    fn as_i64(self) -> Option<i64>;
    /// What the pointer refers to, if it is there.
    fn pointer(self, pointer: &Pointer) -> Option<Self>;
    /// The value, built.
    fn to_value(self) -> Value;
}

impl<'c> Content<'c> for Part<'c> {
    fn is_null(self) -> bool {
        self.is_null()
    }

    fn as_str(self) -> Option<Cow<'c, str>> {
        self.as_str()
    }

    fn number_text(self) -> Option<Cow<'c, str>> {
        self.number_text().map(Cow::Borrowed)
    }

    fn as_i64(self) -> Option<i64> {
        self.as_i64()
    }

    fn pointer(self, pointer: &Pointer) -> Option<Self> {
        self.pointer(pointer)
    }

    fn to_value(self) -> Value {
        self.to_value()
    }
}

impl<'c> Content<'c> for &'c Value {
    fn is_null(self) -> bool {
        Value::is_null(self)
    }

    fn as_str(self) -> Option<Cow<'c, str>> {
        Value::as_str(self).map(Cow::Borrowed)
    }

    fn number_text(self) -> Option<Cow<'c, str>> {
        self.as_number().map(|number| Cow::Owned(number.to_string()))
    }

    fn as_i64(self) -> Option<i64> {
        Value::as_i64(self)
    }

    fn pointer(self, pointer: &Pointer) -> Option<Self> {
        Value::pointer(self, pointer)
    }

    fn to_value(self) -> Value {
        self.clone()
    }
}

/// Content where there is none.
pub(super) const NOTHING: Option<&Value> = None;

/// The text of a value: strings, and numbers by their exact text.
fn text_of<'c>(content: impl Content<'c>) -> Option<Cow<'c, str>> {
    content.as_str().or_else(|| content.number_text())
}

/// The text of a key that is a value: of a scalar its text, of an object the texts of its members, in order,
/// with `,` between them, where `\` stands before a `,` or `\` of theirs. None if anything in it has no text,
/// and for an object without members.
fn key_text(key: &Value) -> Option<Cow<'_, str>> {
    let scalar = |value| match value {
        &Value::Bool(truth) => Some(Cow::Borrowed(if truth { "true" } else { "false" })),
        value => text_of(value),
    };
    let Some(members) = key.as_object() else { return scalar(key) };
    if let (1, Some(only)) = (members.len(), members.values().next()) {
        return scalar(only);
    }
    let mut text = String::new();
    for (nth, value) in members.values().enumerate() {
        if nth > 0 {
            text.push(',');
        }
        for c in scalar(value)?.chars() {
            if matches!(c, ',' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
    }
    (!text.is_empty()).then_some(Cow::Owned(text))
}

/// What `key` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyIs {
    /// Its bytes as text.
    Text,
    /// What it holds, as text; where that cannot be read, its bytes.
    Content,
}

/// What a place answers: text, or a value.
enum Answer<'a, C> {
    Text(Cow<'a, str>),
    Value(C),
    /// Of a key or an envelope.
    Other(&'a Value),
    /// Bytes that are no text. No other place is asked: what they were to say may be something else.
    NoText,
}

/// What every event has besides its data.
pub(super) struct Head {
    pub(super) id: Arc<str>,
    pub(super) version: Option<Version>,
    pub(super) event_type: Box<str>,
    pub(super) event_id: Option<Box<str>>,
    pub(super) time: Timestamp,
}

impl Head {
    pub(super) fn with(self, data: Value, extra_bytes: usize) -> Event {
        let Self { id, version, event_type, event_id, time } = self;
        Event { id, version, event_type, event_id, time, data, extra_bytes, is_echo: false }
    }
}

/// One record being read.
pub(super) struct Reading<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) record: &'a RawRecord,
    pub(super) key_is: KeyIs,
    /// How a key's bytes become a value.
    pub(super) read_key: &'a dyn Fn(&[u8]) -> Option<Value>,
    /// The key as a value, read at most once and only if asked for.
    pub(super) key: OnceCell<Option<Value>>,
    /// What answers for headers that start with this prefix, if anything else does.
    pub(super) attributes: Option<(&'static str, &'a Object)>,
}

impl Reading<'_> {
    pub(super) fn tombstone(&self) -> Result<Event, Undecoded> {
        if self.record.key.is_none() {
            let poison = Poison::new("no-key-and-value", "the record has neither a key nor a value");
            return Err(self.nobodys(NOTHING, poison));
        }
        let id = self.id(NOTHING).map_err(|poison| self.nobodys(NOTHING, poison))?;
        let time = self.time(NOTHING).unwrap_or(self.record.record_time);
        let head = Head { id, version: None, event_type: TOMBSTONE.into(), event_id: None, time };
        Ok(head.with(Value::Null, 0))
    }

    /// Whose it is and when it happened.
    pub(super) fn route<'b, C: Content<'b>>(&'b self, value: Option<C>) -> (Option<Arc<str>>, Timestamp) {
        (self.id(value).ok(), self.time(value).unwrap_or(self.record.record_time))
    }

    /// Everything but the data.
    pub(super) fn head<'b>(&'b self, value: impl Content<'b>) -> Result<Head, Undecoded> {
        let root = Some(value);
        let id = self.id(root).map_err(|poison| self.nobodys(root, poison))?;
        let version = self.version(root).map_err(|poison| self.poison(root, None, poison))?;
        let fail = |poison| self.poison(root, version, poison);
        let event_type = self.text(&self.mapping.event_type, root);
        let event_type =
            event_type.ok_or_else(|| fail(Poison::new("no-event-type", "no place gives an event type")))?;
        let event_type = Box::from(event_type);
        let event_id = self.text(&self.mapping.event_id, root).map(Box::from);
        let time = self.time(root).map_err(fail)?;
        Ok(Head { id, version, event_type, event_id, time })
    }

    /// The data of a text that was checked.
    pub(super) fn data<'b>(&'b self, value: impl Content<'b>) -> Value {
        match &self.mapping.data {
            None => value.to_value(),
            Some(places) => match self.first(places, Some(value)) {
                None => Value::Null,
                Some(answer) => answer.into_value(),
            },
        }
    }

    /// The data, taken out of a value that nobody else needs.
    pub(super) fn take_data(&self, root: &mut Value) -> Value {
        let Some(places) = &self.mapping.data else { return std::mem::take(root) };
        let answers = |place: &&Place| self.first(std::slice::from_ref(*place), Some(&*root)).is_some();
        match places.iter().find(answers) {
            None => Value::Null,
            Some(Place::Value(pointer)) => root.pointer_mut(pointer).map(std::mem::take).unwrap_or_default(),
            Some(place) => {
                self.first(std::slice::from_ref(place), Some(&*root)).map_or(Value::Null, Answer::into_value)
            }
        }
    }

    /// A record whose value cannot be read: what key and headers say of it is still known.
    pub(super) fn unreadable(&self, poison: Poison) -> Undecoded {
        let version = self.version(NOTHING).ok().flatten();
        self.poison(NOTHING, version, poison)
    }

    fn poison<'b, C: Content<'b>>(
        &'b self,
        value: Option<C>,
        version: Option<Version>,
        poison: Poison,
    ) -> Undecoded {
        Undecoded { id: self.id(value).ok(), version, ..self.nobodys(value, poison) }
    }

    pub(super) fn nobodys<'b, C: Content<'b>>(&'b self, value: Option<C>, poison: Poison) -> Undecoded {
        let time = self.time(value).unwrap_or(self.record.record_time);
        let (event_type, event_id) = match value {
            // Headers and keys would still answer, but what an unreadable value is about is not known.
            None => (None, None),
            Some(_) => {
                let text = |places| self.text(places, value).map(Box::from);
                (text(&self.mapping.event_type), text(&self.mapping.event_id))
            }
        };
        Undecoded { id: None, version: None, time, event_type, event_id, poison }
    }

    fn key(&self) -> Option<&Value> {
        let read = || (self.read_key)(self.record.key.as_deref()?);
        self.key.get_or_init(read).as_ref()
    }

    fn raw_key(&self) -> Option<&str> {
        self.record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok())
    }

    /// The first place that answers with anything but null; bytes that are no text are an answer.
    fn first<'b, C: Content<'b>>(&'b self, places: &'b [Place], value: Option<C>) -> Option<Answer<'b, C>> {
        places.iter().find_map(|place| match place {
            Place::Key => match self.key_is {
                KeyIs::Text => self.record.key.as_deref().map(Answer::of_bytes),
                KeyIs::Content => match self.key() {
                    Some(key) => key_text(key).map(Answer::Text),
                    None => self.raw_key().map(|key| Answer::Text(key.into())),
                },
            },
            Place::Header(name) => self.header(name),
            Place::Const(text) => Some(Answer::Text(Cow::Borrowed(text))),
            Place::Value(pointer) => {
                value?.pointer(pointer).filter(|found| !found.is_null()).map(Answer::Value)
            }
            Place::KeyValue(pointer) => {
                self.key()?.pointer(pointer).filter(|found| !found.is_null()).map(Answer::Other)
            }
        })
    }

    fn header<C>(&self, name: &str) -> Option<Answer<'_, C>> {
        if let Some((prefix, attributes)) = self.attributes
            && let Some(attribute) = name.strip_prefix(prefix)
        {
            return attributes.get(attribute).filter(|found| !found.is_null()).map(Answer::Other);
        }
        header(self.record, name).map(Answer::of_bytes)
    }

    /// The first answer as text: strings, and numbers by their exact text.
    fn text<'b, C: Content<'b>>(&'b self, places: &'b [Place], value: Option<C>) -> Option<Cow<'b, str>> {
        match self.first(places, value)? {
            Answer::Text(text) => Some(text),
            Answer::Value(value) => text_of(value),
            Answer::Other(value) => text_of(value),
            Answer::NoText => None,
        }
    }

    fn id<'b, C: Content<'b>>(&'b self, value: Option<C>) -> Result<Arc<str>, Poison> {
        let id = self.text(&self.mapping.aggregate_id, value);
        let id = id.ok_or_else(|| Poison::new("no-aggregate-id", "no place gives an aggregate id"))?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            let detail = format!("the aggregate id has {} bytes, not 1 to {ID_BYTES_MAX}", id.len());
            return Err(Poison::new("bad-aggregate-id", detail));
        }
        Ok(id.into())
    }

    /// None where versions are counted.
    fn version<'b, C: Content<'b>>(&'b self, value: Option<C>) -> Result<Option<Version>, Poison> {
        let Some(places) = &self.mapping.version else { return Ok(None) };
        let bad =
            || Poison::new("bad-version", "the version is not a whole number from the first version on");
        let given: u64 = self.first(places, value).and_then(|answer| answer.whole()).ok_or_else(bad)?;
        let version = given
            .checked_add(1 - self.mapping.version_base)
            .filter(|version| *version > 0 && *version < 1 << 53);
        version.map(|version| Some(Version(version))).ok_or_else(bad)
    }

    fn time<'b, C: Content<'b>>(&'b self, value: Option<C>) -> Result<Timestamp, Poison> {
        let bad = || {
            Poison::new("bad-time", "the time is neither RFC 3339, nor a date, nor whole epoch milliseconds")
        };
        match self.first(&self.mapping.time, value) {
            None => Ok(self.record.record_time),
            Some(answer) => answer.time().ok_or_else(bad),
        }
    }
}

impl<'a, C> Answer<'a, C> {
    fn of_bytes(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes).map_or(Self::NoText, |text| Self::Text(text.into()))
    }
}

impl<'a, C: Content<'a>> Answer<'a, C> {
    fn into_value(self) -> Value {
        match self {
            Self::Text(text) => Value::from(&*text),
            Self::Value(value) => value.to_value(),
            Self::Other(value) => value.clone(),
            Self::NoText => Value::Null,
        }
    }

    fn whole(&self) -> Option<u64> {
        fn of<'c>(content: impl Content<'c>) -> Option<u64> {
            match content.as_str() {
                Some(text) => whole(&text),
                None => content.as_i64().and_then(|number| u64::try_from(number).ok()),
            }
        }
        match self {
            Self::Text(text) => whole(text),
            Self::Value(value) => of(*value),
            Self::Other(value) => of(*value),
            Self::NoText => None,
        }
    }

    fn time(&self) -> Option<Timestamp> {
        fn of<'c>(content: impl Content<'c>) -> Option<Timestamp> {
            match content.as_str() {
                Some(text) => text_time(&text),
                None => content.as_i64().and_then(plausible),
            }
        }
        match self {
            Self::Text(text) => text_time(text),
            Self::Value(value) => of(*value),
            Self::Other(value) => of(*value),
            Self::NoText => None,
        }
    }
}

/// The value of a header; of several of that name the last.
pub(super) fn header<'r>(record: &'r RawRecord, name: &str) -> Option<&'r [u8]> {
    let (_, value) = record.headers.iter().rev().find(|(header, _)| &**header == name)?;
    value.as_deref()
}

fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn text_time(text: &str) -> Option<Timestamp> {
    moment::parse(text).or_else(|| text.parse().ok().and_then(plausible))
}

/// Epoch milliseconds whose date can be written with a year of four digits.
fn plausible(ms: i64) -> Option<Timestamp> {
    (-62_167_219_200_000..253_402_300_800_000).contains(&ms).then_some(Timestamp(ms))
}
