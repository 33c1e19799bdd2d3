//! Bytes to a value by a plan. What Avro has and JSON has not becomes text (docs/FORMATS.md); a union is the
//! value of its branch, without a tag.
//!
//! Invariants: nothing is allocated for a length that is only claimed, and the limits are those of JSON: what
//! the value would have as a text counts, every member and element, every level. So a datum of few bytes
//! cannot become a large value, and recursion ends.

use super::schema::{Field, Node, NodeId, Plan, Raw, Whole};
use super::text;
use crate::domain::number::Number;
use crate::domain::text::Text;
use crate::domain::value::write::string_len;
use crate::domain::value::{Limits, Object, Value};
use std::fmt;

/// Elements for which there is room at once.
const ROOM: usize = 1_024;

/// Why bytes are not what the schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvroFault {
    /// The bytes end inside a value.
    UnexpectedEnd,
    /// Something follows the value.
    TrailingBytes,
    /// A whole number is longer, or larger, than its type.
    BadNumber,
    /// A boolean is neither 0 nor 1.
    BadBoolean,
    /// A length or a count is negative.
    BadLength,
    /// A text is not valid UTF-8.
    InvalidUtf8,
    /// An enum or a union has no such branch.
    NoSuchBranch,
    /// A name is there twice in a map.
    DuplicateName,
    /// A decimal is longer than the limit.
    LongDecimal,
    /// The value would be longer as JSON than the limit.
    TooLong,
    /// Nested deeper than the limit.
    TooDeep,
    /// More members and elements than the limit.
    TooManyMembers,
}

/// A broken rule and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvroError {
    /// The rule.
    pub fault: AvroFault,
    /// The byte it was noticed at, counted from the start of the datum.
    pub offset: usize,
}

impl fmt::Display for AvroFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedEnd => "the datum ends too early for its schema",
            Self::TrailingBytes => "more bytes follow the datum",
            Self::BadNumber => "a whole number is too large for its type",
            Self::BadBoolean => "a boolean is neither 0 nor 1",
            Self::BadLength => "a length is negative",
            Self::InvalidUtf8 => "a text is not valid UTF-8",
            Self::NoSuchBranch => "the schema has no such branch or symbol",
            Self::DuplicateName => "a name is repeated within its map",
            Self::LongDecimal => "a decimal has more than 256 bytes",
            Self::TooLong => "the datum would be longer as JSON than the limit",
            Self::TooDeep => "arrays, maps and records are nested deeper than the limit",
            Self::TooManyMembers => "the datum has more members and elements than the limit",
        })
    }
}

impl fmt::Display for AvroError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte `{}`", self.fault, self.offset)
    }
}

impl std::error::Error for AvroError {}

type Result<T> = std::result::Result<T, AvroError>;

/// A value, and how long its JSON text is.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The value.
    pub value: Value,
    /// Bytes of its text.
    pub json_len: usize,
}

impl Plan {
    /// Reads one datum.
    ///
    /// # Errors
    /// [`AvroError`] with the first rule found broken.
    pub fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<Measured> {
        let mut datum = Datum {
            bytes,
            at: 0,
            json_left: limits.max_bytes,
            members_left: limits.max_members,
            depth_max: limits.max_depth.min(Limits::DEPTH_MAX),
        };
        if bytes.len() > limits.max_bytes {
            return datum.fail(AvroFault::TooLong);
        }
        let value = datum.value(self, self.root, 0)?;
        if datum.at < bytes.len() {
            return datum.fail(AvroFault::TrailingBytes);
        }
        Ok(Measured { value, json_len: limits.max_bytes - datum.json_left })
    }
}

struct Datum<'b> {
    bytes: &'b [u8],
    at: usize,
    json_left: usize,
    members_left: usize,
    depth_max: usize,
}

impl<'b> Datum<'b> {
    fn fail<T>(&self, fault: AvroFault) -> Result<T> {
        Err(AvroError { fault, offset: self.at })
    }

    /// Counts bytes of the value's text.
    fn spend(&mut self, json_len: usize) -> Result<()> {
        match self.json_left.checked_sub(json_len) {
            Some(left) => {
                self.json_left = left;
                Ok(())
            }
            None => self.fail(AvroFault::TooLong),
        }
    }

    /// Counts a member or an element, with its comma where another is before it.
    fn member(&mut self, nth: usize) -> Result<()> {
        let Some(left) = self.members_left.checked_sub(1) else {
            return self.fail(AvroFault::TooManyMembers);
        };
        self.members_left = left;
        self.spend(usize::from(nth > 0))
    }

    /// Counts a pair of brackets; `depth` is what is around it.
    fn bracket(&mut self, depth: usize) -> Result<()> {
        if depth == self.depth_max {
            return self.fail(AvroFault::TooDeep);
        }
        self.spend(2)
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8]> {
        match self.bytes[self.at..].split_at_checked(len) {
            Some((taken, _)) => {
                self.at += len;
                Ok(taken)
            }
            None => self.fail(AvroFault::UnexpectedEnd),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<&'b [u8; N]> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many as were asked for"))
    }

    /// A whole number: seven bits a byte, the lowest first, signs folded in.
    fn long(&mut self) -> Result<i64> {
        let mut folded = 0_u64;
        for (nth, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            folded |= u64::from(byte & 0x7f) << (7 * nth);
            if byte & 0x80 == 0 {
                if nth == 9 && *byte > 1 {
                    break;
                }
                self.at += nth + 1;
                return Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed());
            }
        }
        let is_cut = self.bytes.len() - self.at < 10;
        self.fail(if is_cut { AvroFault::UnexpectedEnd } else { AvroFault::BadNumber })
    }

    fn int(&mut self) -> Result<i32> {
        let long = self.long()?;
        i32::try_from(long).or_else(|_| self.fail(AvroFault::BadNumber))
    }

    fn len(&mut self) -> Result<usize> {
        let long = self.long()?;
        usize::try_from(long).or_else(|_| self.fail(AvroFault::BadLength))
    }

    fn str(&mut self) -> Result<&'b str> {
        let len = self.len()?;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).or_else(|_| self.fail(AvroFault::InvalidUtf8))
    }

    fn value(&mut self, plan: &Plan, node: NodeId, depth: usize) -> Result<Value> {
        match &plan.nodes[node] {
            Node::Null => {
                self.spend(4)?;
                Ok(Value::Null)
            }
            Node::Boolean => {
                let truth = match self.take(1)? {
                    [0] => false,
                    [1] => true,
                    _ => return self.fail(AvroFault::BadBoolean),
                };
                self.spend(if truth { 4 } else { 5 })?;
                Ok(Value::Bool(truth))
            }
            Node::Int(whole) => {
                let int = self.int()?;
                self.whole(i64::from(int), *whole)
            }
            Node::Long(whole) => {
                let long = self.long()?;
                self.whole(long, *whole)
            }
            Node::Float => {
                let float = f32::from_le_bytes(*self.array()?);
                self.float(format!("{float:?}"), float.into())
            }
            Node::Double => {
                let double = f64::from_le_bytes(*self.array()?);
                self.float(format!("{double:?}"), double)
            }
            Node::Bytes(raw) => {
                let len = self.len()?;
                let bytes = self.take(len)?;
                self.raw(bytes, *raw)
            }
            Node::Fixed(size, raw) => {
                let bytes = self.take(*size)?;
                self.raw(bytes, *raw)
            }
            Node::String => {
                let text = self.str()?;
                self.text(text.into())
            }
            Node::Enum(symbols) => {
                let branch = self.branch(symbols)?.clone();
                self.text(branch)
            }
            Node::Union(branches) => {
                let branch = *self.branch(branches)?;
                self.value(plan, branch, depth)
            }
            Node::Array(items) => self.elements(plan, *items, depth),
            Node::Map(values) => self.members(plan, *values, depth),
            Node::Record(fields) => self.fields(plan, fields, depth),
        }
    }

    /// The branch whose number comes next.
    fn branch<'p, T>(&mut self, branches: &'p [T]) -> Result<&'p T> {
        let branch = self.int()?;
        let branch = usize::try_from(branch).ok().and_then(|branch| branches.get(branch));
        branch.map_or_else(|| self.fail(AvroFault::NoSuchBranch), Ok)
    }

    fn text(&mut self, text: Text) -> Result<Value> {
        self.spend(string_len(&text))?;
        Ok(Value::String(text))
    }

    fn number(&mut self, number: Number) -> Result<Value> {
        self.spend(number.text_len())?;
        Ok(Value::Number(number))
    }

    fn whole(&mut self, number: i64, whole: Whole) -> Result<Value> {
        let text = match whole {
            Whole::Number => None,
            Whole::Date => i32::try_from(number).ok().and_then(text::date),
            Whole::TimeOfDay(fraction) => text::time_of_day(number, fraction),
            Whole::Moment(fraction) => text::instant(number, fraction, "Z"),
            Whole::Local(fraction) => text::instant(number, fraction, ""),
        };
        match text {
            Some(text) => self.text(text),
            // Beyond what a calendar has a text for, the number itself is exact.
            None => self.number(Number::from(number)),
        }
    }

    /// The shortest decimal that is read back as the same; what is no number is text.
    fn float(&mut self, shortest: String, value: f64) -> Result<Value> {
        if value.is_finite() {
            let number = Number::parse(&shortest).expect("a finite number prints as JSON has it");
            return self.number(number);
        }
        let name = match (value.is_nan(), value > 0.0) {
            (true, _) => "NaN",
            (false, true) => "Infinity",
            (false, false) => "-Infinity",
        };
        self.text(name.into())
    }

    fn raw(&mut self, bytes: &[u8], raw: Raw) -> Result<Value> {
        match (raw, bytes) {
            (Raw::Decimal(scale), _) => match text::decimal(bytes, scale) {
                Some(text) => {
                    let number = Number::parse(&text).expect("digits around a point are a JSON number");
                    self.number(number)
                }
                None => self.fail(AvroFault::LongDecimal),
            },
            (Raw::Uuid, _) => {
                let uuid = text::uuid(bytes.try_into().expect("a UUID has 16 bytes by its schema"));
                self.text(uuid)
            }
            (Raw::Duration, _) => {
                let duration = text::duration(bytes.try_into().expect("12 bytes by its schema"));
                self.text(duration)
            }
            (Raw::Bytes, _) => {
                // Checked before it is built: no byte becomes less than one of text.
                if bytes.len() > self.json_left {
                    return self.fail(AvroFault::TooLong);
                }
                self.text(text::latin(bytes))
            }
        }
    }

    /// How many elements come in the next block; none after the last one.
    fn block(&mut self) -> Result<Option<usize>> {
        let count = self.long()?;
        if count < 0 {
            // Its length in bytes, for readers that skip it.
            self.len()?;
        }
        let Ok(count) = usize::try_from(count.unsigned_abs()) else { return self.fail(AvroFault::BadLength) };
        if count > self.members_left {
            return self.fail(AvroFault::TooManyMembers);
        }
        Ok((count > 0).then_some(count))
    }

    fn elements(&mut self, plan: &Plan, items: NodeId, depth: usize) -> Result<Value> {
        self.bracket(depth)?;
        let mut elements = Vec::new();
        while let Some(count) = self.block()? {
            elements.reserve(count.min(ROOM));
            for _ in 0..count {
                self.member(elements.len())?;
                elements.push(self.value(plan, items, depth + 1)?);
            }
        }
        Ok(Value::Array(elements))
    }

    fn members(&mut self, plan: &Plan, values: NodeId, depth: usize) -> Result<Value> {
        self.bracket(depth)?;
        let mut object = Object::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                self.member(object.len())?;
                let name = self.str()?;
                self.spend(string_len(name) + 1)?;
                let value = self.value(plan, values, depth + 1)?;
                if object.insert(name, value).is_some() {
                    return self.fail(AvroFault::DuplicateName);
                }
            }
        }
        Ok(Value::Object(object))
    }

    fn fields(&mut self, plan: &Plan, fields: &[Field], depth: usize) -> Result<Value> {
        self.bracket(depth)?;
        let mut object = Object::with_capacity(fields.len().min(self.members_left));
        for (nth, field) in fields.iter().enumerate() {
            self.member(nth)?;
            self.spend(field.name_len)?;
            let value = self.value(plan, field.node, depth + 1)?;
            object.push_new(field.name.clone(), value);
        }
        Ok(Value::Object(object))
    }
}
