//! The decoder against the crate `apache-avro`: what both read, both read as the same.

use super::Plan;
use super::strategy::{calendar, chances, decimal, types};
use crate::domain::number::Number;
use crate::domain::value::{Limits, Object, Value};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use num_bigint::BigInt;
use proptest::prelude::*;

/// What the crate has read, as JSON; members of maps come in no order.
fn json(value: Avro, schema: &Schema) -> Value {
    let text = |text: String| Value::from(text);
    let latin = |bytes: Vec<u8>| Value::from(bytes.into_iter().map(char::from).collect::<String>());
    match (value, schema) {
        (Avro::Null, _) => Value::Null,
        (Avro::Boolean(truth), _) => Value::from(truth),
        (Avro::Int(number), _) => Value::from(number),
        (Avro::Long(number), _) => Value::from(number),
        (Avro::Float(number), _) => float(number.into(), &format!("{number:?}")),
        (Avro::Double(number), _) => float(number, &format!("{number:?}")),
        (Avro::Bytes(bytes) | Avro::Fixed(_, bytes), _) => latin(bytes),
        (Avro::String(string) | Avro::Enum(_, string), _) => text(string),
        (Avro::Uuid(uuid), _) => text(uuid.to_string()),
        (Avro::Date(number), _) => calendar("date", number.into()),
        (Avro::TimeMillis(number), _) => calendar("time-millis", number.into()),
        (Avro::TimeMicros(number), _) => calendar("time-micros", number),
        (Avro::TimestampMillis(number), _) => calendar("timestamp-millis", number),
        (Avro::TimestampMicros(number), _) => calendar("timestamp-micros", number),
        (Avro::TimestampNanos(number), _) => calendar("timestamp-nanos", number),
        (Avro::LocalTimestampMillis(number), _) => calendar("local-timestamp-millis", number),
        (Avro::LocalTimestampMicros(number), _) => calendar("local-timestamp-micros", number),
        (Avro::LocalTimestampNanos(number), _) => calendar("local-timestamp-nanos", number),
        (Avro::Decimal(number), Schema::Decimal(schema)) => {
            // One that was read from no bytes at all it does not give back.
            let bytes: Vec<u8> = number.try_into().unwrap_or_default();
            decimal(&BigInt::from_signed_bytes_be(&bytes), schema.scale)
        }
        (Avro::Duration(duration), _) => {
            let part = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
            let bytes: [u8; 12] = duration.into();
            let ms = part(&bytes[8..]);
            let (months, days) = (part(&bytes[..4]), part(&bytes[4..8]));
            text(format!("P{months}M{days}DT{}.{:03}S", ms / 1_000, ms % 1_000))
        }
        (Avro::Union(branch, value), Schema::Union(union)) => {
            json(*value, &union.variants()[branch as usize])
        }
        (Avro::Array(items), Schema::Array(schema)) => {
            Value::from(items.into_iter().map(|item| json(item, &schema.items)).collect::<Vec<_>>())
        }
        (Avro::Map(members), Schema::Map(schema)) => Value::from(
            members.into_iter().map(|(name, value)| (name, json(value, &schema.types))).collect::<Object>(),
        ),
        (Avro::Record(fields), Schema::Record(schema)) => {
            let fields = fields.into_iter().zip(&schema.fields);
            Value::from(
                fields.map(|((name, value), field)| (name, json(value, &field.schema))).collect::<Object>(),
            )
        }
        (value, schema) => panic!("{value:?} of {schema:?}"),
    }
}

fn float(value: f64, text: &str) -> Value {
    match (value.is_nan(), value == f64::INFINITY, value == f64::NEG_INFINITY) {
        (true, ..) => Value::from("NaN"),
        (_, true, _) => Value::from("Infinity"),
        (.., true) => Value::from("-Infinity"),
        _ => Value::from(Number::parse(text).unwrap()),
    }
}

/// What both say of these bytes.
fn both(schema: &str, bytes: &[u8]) -> (Option<Value>, Option<Value>) {
    let ours = Plan::parse(schema, &[""; 0]).unwrap().decode(bytes, &Limits::default());
    let parsed = Schema::parse_str(schema).unwrap();
    let mut rest = bytes;
    let read = GenericDatumReader::builder(&parsed).build().unwrap().read_value(&mut rest);
    (ours.ok().map(|datum| datum.value), read.ok().map(|value| json(value, &parsed)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn both_read_a_datum_as_the_same_value(of in types(), chance in chances()) {
        let (bytes, _) = of.datum(&mut chance.clone());
        let (ours, theirs) = both(&of.schema(), &bytes);
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        prop_assert!(ours.eq_value(&theirs), "{}\n{ours}\n{theirs}", of.schema());
    }

    /// Theirs takes more: an end that comes too early is null to it, and limits are looser.
    #[test]
    fn what_we_read_of_damaged_bytes_they_read_as_well(
        of in types(), chance in chances(), at in any::<usize>(), by in 1..=255_u8,
    ) {
        let (mut bytes, _) = of.datum(&mut chance.clone());
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] ^= by;
        }
        if let (Some(ours), theirs) = both(&of.schema(), &bytes) {
            let theirs = theirs.unwrap();
            prop_assert!(ours.eq_value(&theirs), "{}\n{ours}\n{theirs}", of.schema());
        }
    }
}

/// Goal: what the registry may hold is read alike. Method: schemas of the specification, our parser against
/// theirs.
#[test]
fn both_take_the_same_schemas() {
    for schema in super::tests::SCHEMAS {
        assert!(Schema::parse_str(schema).is_ok(), "{schema}");
    }
    for schema in super::tests::NO_SCHEMAS {
        assert!(Schema::parse_str(schema).is_err(), "{schema}");
    }
}
