//! Where in a record the parts of an event are: `map` of the configuration. Each part is one place or a list
//! of places, of which the first that answers counts.

use super::value::Pointer;
use std::fmt;

/// One place in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `key`: the record's key as text.
    Key,
    /// `header:NAME`: a header as text; of several of that name the last.
    Header(Box<str>),
    /// `/json/pointer`: into the value.
    Value(Pointer),
    /// `key:/pointer`: into the key, read as JSON.
    KeyValue(Pointer),
    /// `const:VALUE`, and what `topic:REGEX` found in the topic's name.
    Const(Box<str>),
}

/// The places of one part, in the order they are asked.
pub type Places = Vec<Place>;

/// How records of a stream become events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Aggregate id.
    pub aggregate_id: Places,
    /// Event type.
    pub event_type: Places,
    /// Version; none means that versions are counted.
    pub version: Option<Places>,
    /// What the source counts its first version as: 0 or 1.
    pub version_base: u64,
    /// Event id; empty if not mapped.
    pub event_id: Places,
    /// Time; empty or without an answer means the record's timestamp.
    pub time: Places,
    /// Data; none means the whole value.
    pub data: Option<Places>,
}

impl Mapping {
    /// The headers that it names, sorted: they are part of every event's digest.
    #[must_use]
    pub fn named_headers(&self) -> Vec<Box<str>> {
        let optional = self.version.iter().chain(&self.data).flatten();
        let all = self.aggregate_id.iter().chain(&self.event_type).chain(&self.event_id).chain(&self.time);
        let mut names: Vec<Box<str>> = all
            .chain(optional)
            .filter_map(|place| match place {
                Place::Header(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl fmt::Display for Mapping {
    /// The canonical text, for the fingerprint: changing it changes every lineage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |places: &[Place]| places.iter().map(Place::to_string).collect::<Vec<_>>().join(" | ");
        writeln!(f, "id {}\ntype {}", list(&self.aggregate_id), list(&self.event_type))?;
        if let Some(version) = &self.version {
            writeln!(f, "version {} from {}", list(version), self.version_base)?;
        }
        writeln!(f, "event {}\ntime {}", list(&self.event_id), list(&self.time))?;
        if let Some(data) = &self.data {
            writeln!(f, "data {}", list(data))?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Header(name) => write!(f, "header:{name:?}"),
            Self::Value(pointer) => write!(f, "value:{:?}", pointer.to_string()),
            Self::KeyValue(pointer) => write!(f, "key:{:?}", pointer.to_string()),
            Self::Const(text) => write!(f, "const:{text:?}"),
        }
    }
}

impl Place {
    /// Reads a place as the configuration writes it. `topic` is the stream's topic: `topic:REGEX` answers the
    /// first
    /// group of a match in its name (the whole match without groups), which is the same for every record.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str, topic: &str) -> Result<Self, String> {
        if text == "key" {
            return Ok(Self::Key);
        }
        if let Some(name) = text.strip_prefix("header:") {
            return if name.is_empty() {
                Err("`header:` needs a name".into())
            } else {
                Ok(Self::Header(name.into()))
            };
        }
        if let Some(pointer) = text.strip_prefix("key:") {
            return Pointer::parse(pointer).map(Self::KeyValue).map_err(|error| error.to_string());
        }
        if let Some(value) = text.strip_prefix("const:") {
            return Ok(Self::Const(value.into()));
        }
        if let Some(pattern) = text.strip_prefix("topic:") {
            let regex = regex_lite::Regex::new(pattern).map_err(|error| format!("`{pattern}`: {error}"))?;
            let found =
                regex.captures(topic).ok_or(format!("`{pattern}` does not match the topic `{topic}`"))?;
            let found = found.get(1).or(found.get(0)).expect("group 0 is the whole match");
            return Ok(Self::Const(found.as_str().into()));
        }
        if text.is_empty() || text.starts_with('/') {
            return Pointer::parse(text).map(Self::Value).map_err(|error| error.to_string());
        }
        Err(format!(
            "`{text}` is none of key, header:NAME, /json/pointer, key:/pointer, topic:REGEX, const:VALUE"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_configuration_writes_them() {
        let parse = |text| Place::parse(text, "shop.orders.v1");
        assert_eq!(parse("key"), Ok(Place::Key));
        assert_eq!(parse("header:ce_id"), Ok(Place::Header("ce_id".into())));
        assert_eq!(parse("const:order"), Ok(Place::Const("order".into())));
        assert_eq!(parse("topic:^shop[.](.*)[.]v1$"), Ok(Place::Const("orders".into())));
        assert!(matches!(parse("/a/b"), Ok(Place::Value(_))));
        assert!(matches!(parse("key:/id"), Ok(Place::KeyValue(_))));
        for wrong in ["keys", "header:", "topic:(", "topic:^x$", "a/b", "key:id"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
