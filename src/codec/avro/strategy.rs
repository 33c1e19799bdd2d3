//! Random schemas, and for each a datum with the value that it must be read as: written by the rules of the
//! specification, apart from the decoder.

use crate::domain::ids::Timestamp;
use crate::domain::moment;
use crate::domain::number::Number;
use crate::domain::value::{Object, Value};
use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    /// A primitive without more to say.
    Plain(&'static str),
    /// A whole number with a logical type.
    Logical(&'static str, &'static str),
    /// Bytes, or a fixed of so many, with so many digits after the point.
    Decimal(Option<usize>, usize),
    Fixed(usize),
    /// A fixed with a logical type.
    Sixteen,
    Duration,
    Enum(usize),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Record(Vec<Type>),
}

const PLAIN: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
const LOGICAL: [(&str, &str); 9] = [
    ("int", "date"),
    ("int", "time-millis"),
    ("long", "time-micros"),
    ("long", "timestamp-millis"),
    ("long", "timestamp-micros"),
    ("long", "timestamp-nanos"),
    ("long", "local-timestamp-millis"),
    ("long", "local-timestamp-micros"),
    ("long", "local-timestamp-nanos"),
];

fn decimals() -> impl Strategy<Value = Type> {
    let sizes = proptest::option::of(1..24_usize);
    (sizes, 0..6_usize).prop_map(|(size, scale)| Type::Decimal(size, scale))
}

/// Any type.
pub(super) fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        6 => proptest::sample::select(&PLAIN[..]).prop_map(Type::Plain),
        3 => proptest::sample::select(&LOGICAL[..]).prop_map(|(of, logical)| Type::Logical(of, logical)),
        2 => decimals(),
        1 => (0..20_usize).prop_map(Type::Fixed),
        1 => Just(Type::Sixteen),
        1 => Just(Type::Duration),
        1 => (1..5_usize).prop_map(Type::Enum),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| Type::Array(Box::new(items))),
            inner.clone().prop_map(|values| Type::Map(Box::new(values))),
            vec(inner.clone(), 1..5).prop_map(distinct),
            vec(inner, 0..6).prop_map(Type::Record),
        ]
    })
}

/// A union has no two branches of one kind that has no name, and no union in it.
fn distinct(branches: Vec<Type>) -> Type {
    let mut seen = Vec::new();
    let kind = |branch: &Type| match branch {
        Type::Plain(name) | Type::Logical(name, _) => Some(*name),
        Type::Decimal(None, _) => Some("bytes"),
        Type::Array(_) => Some("array"),
        Type::Map(_) => Some("map"),
        _ => None,
    };
    let mut is_new = |branch: &Type| match kind(branch) {
        None => !matches!(branch, Type::Union(_)),
        Some(kind) if seen.contains(&kind) => false,
        Some(kind) => {
            seen.push(kind);
            true
        }
    };
    let mut branches = branches;
    branches.retain(&mut is_new);
    if branches.is_empty() {
        branches.push(Type::Plain("null"));
    }
    Type::Union(branches)
}

impl Type {
    /// The schema.
    pub(super) fn schema(&self) -> String {
        self.json(&mut 0)
    }

    fn json(&self, names: &mut usize) -> String {
        let mut name = || {
            *names += 1;
            format!(r#""name":"n{names}""#)
        };
        match self {
            Self::Plain(kind) => format!(r#""{kind}""#),
            Self::Logical(kind, logical) => format!(r#"{{"type":"{kind}","logicalType":"{logical}"}}"#),
            Self::Decimal(None, scale) => {
                format!(r#"{{"type":"bytes","logicalType":"decimal","precision":60,"scale":{scale}}}"#)
            }
            Self::Decimal(Some(size), scale) => {
                // As many digits as the bytes hold.
                let precision = ((8 * size - 1) as f64 * 2_f64.log10()).floor().max(1.0);
                let scale = (*scale).min(precision as usize);
                format!(
                    r#"{{"type":"fixed",{},"size":{size},"logicalType":"decimal","precision":{precision},"scale":{scale}}}"#,
                    name()
                )
            }
            Self::Fixed(size) => format!(r#"{{"type":"fixed",{},"size":{size}}}"#, name()),
            Self::Sixteen => format!(r#"{{"type":"fixed",{},"size":16,"logicalType":"uuid"}}"#, name()),
            Self::Duration => format!(r#"{{"type":"fixed",{},"size":12,"logicalType":"duration"}}"#, name()),
            Self::Enum(symbols) => {
                let symbols: Vec<_> = (0..*symbols).map(|symbol| format!(r#""S{symbol}""#)).collect();
                format!(r#"{{"type":"enum",{},"symbols":[{}]}}"#, name(), symbols.join(","))
            }
            Self::Array(items) => format!(r#"{{"type":"array","items":{}}}"#, items.json(names)),
            Self::Map(values) => format!(r#"{{"type":"map","values":{}}}"#, values.json(names)),
            Self::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(|branch| branch.json(names)).collect();
                format!("[{}]", branches.join(","))
            }
            Self::Record(fields) => {
                let name = name();
                let field = |(nth, field): (usize, &Type)| {
                    format!(r#"{{"name":"f{nth}","type":{}}}"#, field.json(names))
                };
                let fields: Vec<_> = fields.iter().enumerate().map(field).collect();
                format!(r#"{{"type":"record",{name},"fields":[{}]}}"#, fields.join(","))
            }
        }
    }

    /// A datum of this type and what it means, chosen by `chance`.
    pub(super) fn datum(&self, chance: &mut Chance) -> (Vec<u8>, Value) {
        match self {
            Self::Plain(kind) => plain(kind, chance),
            Self::Logical(kind, logical) => whole(kind, logical, chance),
            Self::Decimal(size, scale) => {
                let len = size.unwrap_or(chance.below(24));
                let bytes = chance.bytes(len);
                let scale = size.map_or(*scale, |size| {
                    (*scale).min((((8 * size - 1) as f64 * 2_f64.log10()).floor().max(1.0)) as usize)
                });
                let value = decimal(&BigInt::from_signed_bytes_be(&bytes), scale);
                (if size.is_some() { bytes } else { sized(&bytes) }, value)
            }
            Self::Fixed(size) => {
                let bytes = chance.bytes(*size);
                let value = latin(&bytes);
                (bytes, value)
            }
            Self::Sixteen => {
                let bytes = chance.bytes(16);
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
                (bytes, Value::from(parts.join("-")))
            }
            Self::Duration => {
                let [months, days, ms] = [(); 3].map(|()| chance.next() as u32);
                let bytes = [months, days, ms].iter().flat_map(|part| part.to_le_bytes()).collect();
                (bytes, Value::from(format!("P{months}M{days}DT{}.{:03}S", ms / 1_000, ms % 1_000)))
            }
            Self::Enum(symbols) => {
                let symbol = chance.below(*symbols);
                (long(symbol as i64), Value::from(format!("S{symbol}")))
            }
            Self::Array(items) => {
                let elements: Vec<_> = (0..chance.below(5)).map(|_| items.datum(chance)).collect();
                let (bytes, values): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
                (blocks(&bytes, chance), Value::from(values))
            }
            Self::Map(values) => {
                let members: Vec<_> = (0..chance.below(5)).map(|nth| (nth, values.datum(chance))).collect();
                let name = |nth: usize| format!("n\u{e9}{nth}");
                let bytes: Vec<_> = members
                    .iter()
                    .map(|(nth, (bytes, _))| [sized(name(*nth).as_bytes()), bytes.clone()].concat())
                    .collect();
                let object: Object =
                    members.into_iter().map(|(nth, (_, value))| (name(nth), value)).collect();
                (blocks(&bytes, chance), Value::from(object))
            }
            Self::Union(branches) => {
                let branch = chance.below(branches.len());
                let (bytes, value) = branches[branch].datum(chance);
                ([long(branch as i64), bytes].concat(), value)
            }
            Self::Record(fields) => {
                let fields: Vec<_> = fields.iter().map(|field| field.datum(chance)).collect();
                let bytes = fields.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
                let members =
                    fields.into_iter().enumerate().map(|(nth, (_, value))| (format!("f{nth}"), value));
                (bytes, Value::from(members.collect::<Object>()))
            }
        }
    }
}

/// Numbers to choose by; zeros once they are used up.
#[derive(Clone, Debug)]
pub(super) struct Chance(std::vec::IntoIter<u64>);

pub(super) fn chances() -> impl Strategy<Value = Chance> {
    vec(any::<u64>(), 0..120).prop_map(|numbers| Chance(numbers.into_iter()))
}

impl Chance {
    fn next(&mut self) -> u64 {
        self.0.next().unwrap_or(0)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Small ones and large ones.
    fn i64(&mut self) -> i64 {
        let number = self.next();
        number.cast_signed() >> (number % 64)
    }
}

/// Zigzag, then groups of seven bits.
pub(super) fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Bytes after their length.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    [long(bytes.len() as i64), bytes.to_vec()].concat()
}

/// Elements in one block or two, some with their length.
fn blocks(elements: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let (first, rest) = elements.split_at(chance.below(elements.len() + 1));
    let mut bytes = Vec::new();
    for block in [first, rest].into_iter().filter(|block| !block.is_empty()) {
        let body = block.concat();
        if chance.next().is_multiple_of(2) {
            bytes.extend(long(block.len() as i64));
        } else {
            bytes.extend(long(-(block.len() as i64)));
            bytes.extend(long(body.len() as i64));
        }
        bytes.extend(body);
    }
    bytes.push(0);
    bytes
}

fn plain(kind: &str, chance: &mut Chance) -> (Vec<u8>, Value) {
    match kind {
        "null" => (Vec::new(), Value::Null),
        "boolean" => {
            let truth = chance.next() % 2 == 1;
            (vec![u8::from(truth)], Value::from(truth))
        }
        "int" => {
            let int = chance.i64() as i32;
            (long(int.into()), Value::from(int))
        }
        "long" => {
            let number = chance.i64();
            (long(number), Value::from(number))
        }
        "float" => {
            let float = f32::from_bits(chance.next() as u32);
            (float.to_le_bytes().to_vec(), shortest(float.into(), &format!("{float:?}")))
        }
        "double" => {
            let double = f64::from_bits(chance.next());
            (double.to_le_bytes().to_vec(), shortest(double, &format!("{double:?}")))
        }
        "bytes" => {
            let len = chance.below(12);
            let bytes = chance.bytes(len);
            (sized(&bytes), latin(&bytes))
        }
        _ => {
            let numbers: Vec<u32> =
                (0..chance.below(12)).map(|_| (chance.next() % 0x11_0000) as u32).collect();
            let text: String = numbers.into_iter().filter_map(char::from_u32).collect();
            (sized(text.as_bytes()), Value::from(text))
        }
    }
}

fn shortest(value: f64, text: &str) -> Value {
    match text {
        "NaN" => Value::from("NaN"),
        "inf" => Value::from("Infinity"),
        "-inf" => Value::from("-Infinity"),
        text => {
            // Read back as the same number.
            assert!(value.abs() < f64::from(f32::MAX) || text.parse::<f64>().is_ok_and(f64::is_finite));
            Value::from(Number::parse(text).unwrap())
        }
    }
}

fn latin(bytes: &[u8]) -> Value {
    Value::from(String::from_utf16(&bytes.iter().map(|byte| u16::from(*byte)).collect::<Vec<_>>()).unwrap())
}

pub(super) fn decimal(unscaled: &BigInt, scale: usize) -> Value {
    let text = unscaled.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", &*text), |digits| ("-", digits));
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    Value::from(Number::parse(&format!("{sign}{whole}{point}{fraction}")).unwrap())
}

/// Whole numbers as texts of a calendar, from near the epoch to beyond what has a text.
fn whole(kind: &str, logical: &str, chance: &mut Chance) -> (Vec<u8>, Value) {
    let number = if kind == "int" { i64::from(chance.i64() as i32) } else { chance.i64() };
    (long(number), calendar(logical, number))
}

/// What a number with a logical type is as text; the number itself where there is none.
pub(super) fn calendar(logical: &str, number: i64) -> Value {
    const YEAR_10000: i128 = 253_402_300_800;
    const YEAR_0: i128 = -62_167_219_200;
    let unit: i128 = match logical.rsplit('-').next() {
        Some("millis") => 1_000,
        Some("micros") => 1_000_000,
        Some("nanos") => 1_000_000_000,
        _ => 1,
    };
    let digits = unit.ilog10() as usize;
    let number_128 = i128::from(number);
    let seconds = if logical == "date" { number_128 * 86_400 } else { number_128.div_euclid(unit) };
    let fraction = format!(".{:0digits$}", number_128.rem_euclid(unit));
    let range = if logical.starts_with("time-") { 0..86_400 } else { YEAR_0..YEAR_10000 };
    if !range.contains(&seconds) {
        return Value::from(number);
    }
    let text = moment::format(Timestamp(i64::try_from(seconds * 1_000).unwrap()));
    Value::from(match logical {
        "date" => text[..10].to_owned(),
        logical if logical.starts_with("time-") => format!("{}{fraction}", &text[11..19]),
        logical if logical.starts_with("local-") => format!("{}{fraction}", &text[..19]),
        _ => format!("{}{fraction}Z", &text[..19]),
    })
}
