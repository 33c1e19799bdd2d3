//! Where the fields of stored forms are, after docs/FORMAT.md: packs, rows, dictionaries. The walk is written
//! from that document, so that a field is named here as it is there.

use std::ops::Range;

/// A named stretch of bytes.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) range: Range<usize>,
}

/// Goes over bytes and names them.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, fields: Vec::new() }
    }

    fn upto(&mut self, name: &str, end: usize) -> &'a [u8] {
        let range = self.at..end;
        self.at = end;
        let bytes = &self.bytes[range.clone()];
        if !range.is_empty() {
            self.fields.push(Field { name: name.to_owned(), range });
        }
        bytes
    }

    fn fixed(&mut self, name: &str, len: usize) -> &'a [u8] {
        self.upto(name, self.at + len)
    }

    fn fixed_all(&mut self, list: &[(&str, usize)]) {
        for (name, len) in list {
            self.fixed(name, *len);
        }
    }

    fn peek(&self, at: usize) -> (u64, usize) {
        let (mut value, mut end) = (0, at);
        loop {
            value |= u64::from(self.bytes[end] & 0x7f) << (7 * (end - at));
            end += 1;
            if self.bytes[end - 1] < 0x80 {
                return (value, end);
            }
        }
    }

    fn varint(&mut self, name: &str) -> u64 {
        let (value, end) = self.peek(self.at);
        self.upto(name, end);
        value
    }

    fn varints(&mut self, names: &[&str]) {
        for name in names {
            self.varint(name);
        }
    }

    /// Length and bytes together; `less` is 1 for optional ones.
    fn sized(&mut self, name: &str, less: u64) {
        let (len, end) = self.peek(self.at);
        self.upto(name, end + usize::try_from(len.saturating_sub(less)).unwrap());
    }

    fn done(self) -> Vec<Field> {
        assert_eq!(self.at, self.bytes.len(), "the document describes every byte: {:?}", self.fields);
        self.fields
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Section 2. Frames are one field; who wants single ones finds them by the footer.
pub(super) fn pack(bytes: &[u8]) -> Vec<Field> {
    let trailer = bytes.len() - 140;
    let footer = number(&bytes[trailer..trailer + 8]);
    let mut walk = Walk::new(bytes, 0);
    walk.fixed_all(&[("magic", 8), ("format", 2), ("class", 1), ("codec set", 1), ("flags", 2)]);
    walk.fixed_all(&[("pack id", 16), ("session", 16), ("created", 8)]);
    walk.sized("writer", 0);
    let (count, end) = walk.peek(walk.at);
    walk.upto("dictionaries", end + 32 * usize::try_from(count).unwrap());
    walk.fixed("header crc", 4);
    walk.upto("frames", footer);
    while walk.at < trailer {
        let start = walk.at;
        let (_, end) = walk.peek(start + 2);
        let (len, end) = walk.peek(end);
        let name = format!("footer section {}", bytes[start]);
        walk.upto(&name, end + usize::try_from(len).unwrap() + 4);
    }
    walk.fixed_all(&[("footer offset", 8), ("footer length", 8), ("entries", 4), ("number of frames", 4)]);
    walk.fixed_all(&[("frames sha-256", 32), ("footer sha-256", 32), ("merkle root", 32)]);
    walk.fixed_all(&[("trailer format", 2), ("trailer flags", 2), ("reserved", 4), ("trailer crc", 4)]);
    walk.fixed("end magic", 8);
    walk.done()
}

/// Section 3.
pub(super) fn locator(bytes: &[u8]) -> Vec<Field> {
    let mut walk = Walk::new(bytes, 0);
    walk.fixed("format", 1);
    let flags = walk.fixed("flags", 1)[0];
    walk.fixed_all(&[("class", 1), ("codec", 1), ("pack id", 16), ("checksum", 4)]);
    walk.varints(&["frame offset", "frame length", "frame raw length"]);
    if flags & 1 != 0 {
        walk.varints(&["body start", "body length"]);
    }
    if flags & 2 != 0 {
        walk.fixed("dictionary", 32);
    }
    if flags & 4 != 0 {
        walk.upto("trail", bytes.len() - 4);
    }
    walk.fixed("crc", 4);
    walk.done()
}

fn log(walk: &mut Walk<'_>) {
    walk.sized("topic", 0);
    walk.varints(&["partition", "lineage"]);
}

/// Section 8. The locator is one field; it has its own walk.
pub(super) fn row(bytes: &[u8]) -> Vec<Field> {
    let mut walk = Walk::new(bytes, 0);
    let kind = walk.fixed("row type", 1)[0];
    walk.fixed("format", 1);
    match kind {
        1 => {
            let flags = walk.fixed("flags", 1)[0];
            walk.fixed_all(&[("kind", 1), ("trigger", 1), ("pack id", 16)]);
            walk.sized("type", 0);
            walk.sized("id", 0);
            walk.varints(&["lineage", "version", "from version", "partition", "first offset"]);
            walk.varints(&["last offset", "leader epoch", "effective time", "created at", "creation ms"]);
            walk.sized("event type", 0);
            walk.fixed("chain", 32);
            walk.varints(&["raw bytes", "stored bytes"]);
            if flags & 4 != 0 {
                walk.fixed("state digest", 32);
                walk.varint("state bytes");
            }
            walk.sized("locator", 0);
        }
        2 => {
            walk.fixed("pack id", 16);
            log(&mut walk);
            walk.varints(&["first offset", "end offset", "entries", "object bytes"]);
        }
        3 => {
            walk.fixed("topic id", 16);
            log(&mut walk);
            walk.varints(&["leader epoch", "low watermark"]);
        }
        _ => {
            let flags = walk.fixed("flags", 1)[0];
            log(&mut walk);
            walk.varint("offset");
            if flags & 1 != 0 {
                walk.sized("type", 0);
                walk.sized("id", 0);
            }
            walk.sized("code", 0);
            walk.sized("detail", 0);
            walk.varints(&["record offset", "record epoch", "record time"]);
            walk.sized("key", 1);
            walk.sized("value", 1);
            walk.upto("headers", bytes.len() - 4);
        }
    }
    walk.fixed("crc", 4);
    walk.done()
}

/// Section 7, and inside it the form of zstd: magic, id, tables, content. The border between the last two is
/// not told; both are much longer than 128 bytes.
pub(super) fn dictionary(bytes: &[u8]) -> Vec<Field> {
    let mut walk = Walk::new(bytes, 0);
    walk.fixed_all(&[("magic", 4), ("id", 4), ("tables", 128)]);
    walk.upto("content", bytes.len());
    walk.done()
}

/// A text of a key of the embedded index: escaped, and ended by `00 01`.
fn key_text(walk: &mut Walk<'_>, name: &str) {
    let rest = &walk.bytes[walk.at..];
    let len = rest.windows(2).position(|pair| pair == [0, 1]).expect("the text ends") + 2;
    walk.fixed(name, len);
}

/// The value of a row that finds a snapshot by its public id.
pub(super) fn named(bytes: &[u8]) -> Vec<Field> {
    let mut walk = Walk::new(bytes, 0);
    walk.fixed("table", 1);
    key_text(&mut walk, "type");
    key_text(&mut walk, "id");
    walk.fixed_all(&[("lineage", 4), ("version", 8)]);
    walk.done()
}

/// The key of a row that lists an aggregate, without table and type.
pub(super) fn listed(key: &[u8]) -> Vec<Field> {
    let mut walk = Walk::new(key, 1);
    key_text(&mut walk, "type");
    walk.fields.clear();
    key_text(&mut walk, "id");
    walk.fixed("partition", 4);
    walk.done()
}
