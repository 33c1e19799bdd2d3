//! Cursors: where a list goes on, as one opaque word (base64url of a kind, an order and a place).
//!
//! A cursor says nothing about filters: they are given again with it. It is checked all the same, so that one
//! of another list, or of the other order, is an error and not a strange page.

use super::problem::Problem;
use crate::domain::ids::{Offset, PartitionNo, Version};
use data_encoding::BASE64URL_NOPAD;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Schedules after this name.
    Schedules(String),
    /// Aggregates after this id.
    Aggregates(String),
    /// Events after this version.
    Events(Order, Version),
    /// Changes of one field after this version.
    FieldHistory(Order, Version),
    /// Snapshots after this version.
    Snapshots(Order, Version),
    /// Dead letters of this type after this offset, then those of later types.
    DeadLetters(String, PartitionNo, Offset),
}

/// In which order a list goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// The oldest first.
    #[default]
    Ascending,
    /// The newest first.
    Descending,
}

impl Order {
    /// What is left of a range of versions after a cursor; none if nothing is.
    pub(super) fn rest(
        self,
        from: Version,
        to: Option<Version>,
        after: Option<Version>,
    ) -> Option<(Version, Option<Version>)> {
        let Some(after) = after else { return Some((from, to)) };
        let (from, to) = match self {
            Self::Ascending => (from.max(after.next()), to),
            Self::Descending => {
                let before = Version(after.0 - 1);
                (from, Some(to.map_or(before, |to| to.min(before))))
            }
        };
        to.is_none_or(|to| from <= to).then_some((from, to))
    }
}

impl Cursor {
    /// The word.
    pub(super) fn encode(&self) -> String {
        let order = |order: &Order| if *order == Order::Ascending { 'u' } else { 'd' };
        let text = match self {
            Self::Schedules(name) => format!("c{name}"),
            Self::Aggregates(id) => format!("a{id}"),
            Self::Events(way, version) => format!("e{}{version}", order(way)),
            Self::FieldHistory(way, version) => format!("h{}{version}", order(way)),
            Self::Snapshots(way, version) => format!("s{}{version}", order(way)),
            Self::DeadLetters(kind, partition, offset) => format!("l{partition}:{offset}:{kind}"),
        };
        BASE64URL_NOPAD.encode(text.as_bytes())
    }

    /// The cursor in a word, if it is one.
    pub(super) fn decode(word: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64URL_NOPAD.decode(word.as_bytes()).ok()?).ok()?;
        let mut letters = text.chars();
        let kind = letters.next()?;
        let rest = letters.as_str();
        if kind == 'a' {
            return Some(Self::Aggregates(rest.to_owned()));
        }
        if kind == 'c' {
            return Some(Self::Schedules(rest.to_owned()));
        }
        if kind == 'l' {
            let mut parts = rest.splitn(3, ':');
            let partition = PartitionNo(parts.next()?.parse().ok()?);
            let offset = Offset(parts.next()?.parse().ok()?);
            return Some(Self::DeadLetters(parts.next()?.to_owned(), partition, offset));
        }
        let order = match letters.next()? {
            'u' => Order::Ascending,
            'd' => Order::Descending,
            _ => return None,
        };
        let version = super::query::version(letters.as_str())?;
        match kind {
            'e' => Some(Self::Events(order, version)),
            'h' => Some(Self::FieldHistory(order, version)),
            's' => Some(Self::Snapshots(order, version)),
            _ => None,
        }
    }

    /// The problem with a cursor that this list did not give.
    pub(super) fn foreign() -> Problem {
        let hint = "use `nextCursor` of a page of this list, with the same `order`, or leave `cursor` out";
        Problem::selector("`cursor` is none that this list gave", hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_were() {
        for cursor in [
            Cursor::Aggregates("o/ü 1".into()),
            Cursor::Aggregates(String::new()),
            Cursor::Schedules("nightly".into()),
            Cursor::Events(Order::Ascending, Version(7)),
            Cursor::Snapshots(Order::Descending, Version(1)),
            Cursor::DeadLetters("a:b".into(), PartitionNo(3), Offset(12)),
        ] {
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
    }

    #[test]
    fn other_words_are_none() {
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        for word in ["", "%", "AAAA=", "zzz", &encode("eu"), &encode("eu-1"), &encode("xu1"), &encode("l1:2")]
        {
            assert_eq!(Cursor::decode(word), None, "{word}");
        }
    }

    #[test]
    fn a_cursor_leaves_what_lies_beyond_it() {
        use Order::{Ascending, Descending};
        let v = Version;
        assert_eq!(Ascending.rest(v(3), Some(v(9)), None), Some((v(3), Some(v(9)))));
        assert_eq!(Ascending.rest(v(3), Some(v(9)), Some(v(5))), Some((v(6), Some(v(9)))));
        assert_eq!(Ascending.rest(v(3), None, Some(v(5))), Some((v(6), None)));
        assert_eq!(Ascending.rest(v(3), Some(v(9)), Some(v(9))), None);
        assert_eq!(Descending.rest(v(3), None, Some(v(5))), Some((v(3), Some(v(4)))));
        assert_eq!(Descending.rest(v(3), Some(v(9)), Some(v(3))), None);
        assert_eq!(Descending.rest(v(1), None, Some(v(1))), None);
    }
}
