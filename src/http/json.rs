//! Writes JSON bodies member by member. States and data are embedded as the text they were folded to: nothing
//! here parses a number, so none can change.

use crate::domain::ids::{Digest, Timestamp};
use crate::domain::moment;
use crate::domain::value::write::write_string;
use std::fmt::Display;
use std::io::Write;

/// An object that is being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

/// The text of an object.
pub(super) fn object(write: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write_object(&mut out, write);
    out
}

/// A time as JSON.
pub(super) fn moment(time: Timestamp) -> Vec<u8> {
    format!("\"{}\"", moment::format(time)).into_bytes()
}

/// The text of a list: `{ "items": […], "nextCursor": … }`.
pub(super) fn list<T>(
    items: impl IntoIterator<Item = T>,
    next_cursor: Option<&str>,
    mut write: impl FnMut(&mut Object<'_>, T),
) -> Vec<u8> {
    object(|list| {
        list.objects("items", items, &mut write);
        list.text_or_null("nextCursor", next_cursor);
    })
}

/// A text as JSON.
pub(super) fn string(value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 2);
    write_string(value, &mut out);
    out
}

/// The text of an array of objects.
pub(super) fn array<T>(items: impl IntoIterator<Item = T>, write: impl FnMut(&mut Object<'_>, T)) -> Vec<u8> {
    let mut out = Vec::new();
    write_array(&mut out, items, write);
    out
}

fn write_array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Object<'_>, T),
) {
    out.push(b'[');
    for (nth, item) in items.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_object(out, |object| write(object, item));
    }
    out.push(b']');
}

fn write_object(out: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    write(&mut Object { out, is_empty: true });
    out.push(b'}');
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        write_string(name, self.out);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        write_string(value, self.name(name));
        self
    }

    pub(super) fn text_or_null(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    /// Anything whose display is a JSON number.
    pub(super) fn number(&mut self, name: &str, value: impl Display) -> &mut Self {
        write!(self.name(name), "{value}").expect("a Vec takes all");
        self
    }

    pub(super) fn number_or_null(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.number(name, value),
            None => self.null(name),
        }
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.raw(name, if value { b"true" } else { b"false" })
    }

    pub(super) fn null(&mut self, name: &str) -> &mut Self {
        self.raw(name, b"null")
    }

    /// RFC 3339, or null for the time of an aggregate before its first event.
    pub(super) fn time(&mut self, name: &str, time: Timestamp) -> &mut Self {
        if time == Timestamp(i64::MIN) { self.null(name) } else { self.text(name, &moment::format(time)) }
    }

    /// `sha256:` and 64 hexadecimal digits.
    pub(super) fn digest(&mut self, name: &str, digest: Option<Digest>) -> &mut Self {
        self.text_or_null(name, digest.map(|digest| format!("sha256:{digest}")).as_deref())
    }

    /// A text that is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &[u8]) -> &mut Self {
        self.name(name).extend_from_slice(json);
        self
    }

    pub(super) fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        write_object(self.name(name), write);
        self
    }

    /// An array of texts that are JSON already.
    pub(super) fn raws(&mut self, name: &str, items: &[Vec<u8>]) -> &mut Self {
        let array = items.join(&b',');
        let out = self.name(name);
        out.push(b'[');
        out.extend_from_slice(&array);
        out.push(b']');
        self
    }

    pub(super) fn objects<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut Object<'_>, T),
    ) -> &mut Self {
        write_array(self.name(name), items, write);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_in_order_and_texts_are_escaped() {
        let text = object(|o| {
            o.text("a\"", "line\nend").number("n", 12).null("z").flag("t", true);
            o.object("inner", |_| {}).raw("raw", b"12.50");
            o.objects("list", [1, 2], |item, n| {
                item.number("n", n);
            });
            o.time("before", Timestamp(i64::MIN)).time("at", Timestamp(0));
        });
        let wanted = concat!(
            r#"{"a\"":"line\nend","n":12,"z":null,"t":true,"inner":{},"raw":12.50,"list":[{"n":1},{"n":2}],"#,
            r#""before":null,"at":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(String::from_utf8(text).unwrap(), wanted);
    }
}
