//! The events of the other stages as Avro: read by a plan, by `apache-avro` into its own value, and as whole
//! events. The schema is made from the events, so both say the same.

use crate::events::{self, Events};
use crate::{BATCH, Stage, skewed};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use snapfold::codec::avro::{Plan, SchemaId, Schemas};
use snapfold::codec::envelope::{Envelope, EnvelopeDecoder};
use snapfold::domain::event::{Decode, Preparing};
use snapfold::domain::record::RawRecord;
use snapfold::domain::value::{Limits, Value};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

/// What types a value has in the schema; `names` holds the branches of `data` by event type.
fn schema(value: &Value, name: &str, branches: &BTreeMap<String, String>) -> String {
    match value {
        Value::Bool(_) => r#""boolean""#.to_owned(),
        Value::Number(number) if number.as_i64().is_some() => r#""long""#.to_owned(),
        Value::Number(_) => r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#.to_owned(),
        Value::Object(members) => {
            let field = |(member, value): (&str, &Value)| {
                let of = match member {
                    "data" => format!("[{}]", branches.values().cloned().collect::<Vec<_>>().join(",")),
                    _ => schema(value, member, branches),
                };
                format!(r#"{{"name":"{member}","type":{of}}}"#)
            };
            let fields: Vec<_> = members.iter().map(field).collect();
            format!(r#"{{"type":"record","name":"{name}","fields":[{}]}}"#, fields.join(","))
        }
        _ => r#""string""#.to_owned(),
    }
}

fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

fn encode(value: &Value, branch: i64, out: &mut Vec<u8>) {
    match value {
        Value::Bool(truth) => out.push(u8::from(*truth)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => long(whole, out),
            None => {
                let digits = number.to_string().replace('.', "");
                sized(&digits.parse::<i64>().expect("few digits").to_be_bytes(), out);
            }
        },
        Value::String(text) => sized(text.as_bytes(), out),
        Value::Object(members) => {
            for (name, member) in members.iter() {
                if name == "data" {
                    long(branch, out);
                }
                encode(member, branch, out);
            }
        }
        Value::Null | Value::Array(_) => unreachable!("no event has any"),
    }
}

/// A schema, and records in the wire format whose values it describes.
fn batch() -> (String, Vec<RawRecord>) {
    let mut records = skewed(50).batch(BATCH);
    let value = |record: &RawRecord| {
        let bytes = record.value.as_deref().expect("events have values");
        Value::parse(bytes, &Limits::default()).expect("events are JSON")
    };
    let kind =
        |value: &Value| value.get("type").and_then(Value::as_str).expect("events have types").to_owned();
    let mut branches = BTreeMap::new();
    for value in records.iter().map(value) {
        let data = value.get("data").expect("events have data");
        branches.entry(kind(&value)).or_insert_with(|| schema(data, &kind(&value), &BTreeMap::new()));
    }
    let whole = schema(&value(&records[0]), "Event", &branches);
    for record in &mut records {
        let value = value(record);
        let branch = branches.keys().position(|known| *known == kind(&value)).expect("it was seen");
        let mut bytes = vec![0, 0, 0, 0, 1];
        encode(&value, branch as i64, &mut bytes);
        record.value = Some(bytes.into());
    }
    (whole, records)
}

fn body(record: &RawRecord) -> &[u8] {
    &record.value.as_deref().expect("events have values")[5..]
}

/// Batches for the number of events only: what is read was made before.
pub(crate) fn plan() -> (Events, Stage) {
    let (schema, records) = batch();
    let plan = Plan::parse(&schema, &[""; 0]).expect("a schema");
    let limits = Limits::default();
    let stage = move |_| {
        for record in &records {
            black_box(plan.decode(body(record), &limits).expect("events are Avro"));
        }
    };
    (skewed(50), Box::new(stage))
}

pub(crate) fn peer() -> (Events, Stage) {
    let (schema, records) = batch();
    let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(&schema).expect("a schema")));
    let reader = GenericDatumReader::builder(schema).build().expect("a reader");
    let stage = move |_| {
        for record in &records {
            black_box(reader.read_value(&mut body(record)).expect("events are Avro"));
        }
    };
    (skewed(50), Box::new(stage))
}

#[derive(Debug)]
struct One(Arc<Plan>);

impl Schemas for One {
    fn get(&self, _: SchemaId) -> Option<Arc<Plan>> {
        Some(Arc::clone(&self.0))
    }

    fn fetch(&self, _: Vec<SchemaId>) -> Preparing<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}

pub(crate) fn decode() -> (Events, Stage) {
    let (schema, records) = batch();
    let plan = Plan::parse(&schema, &[""; 0]).expect("a schema");
    let schemas: Arc<dyn Schemas> = Arc::new(One(Arc::new(plan)));
    let decoder = EnvelopeDecoder::new(Envelope::Avro, events::mapping(), Limits::default(), Some(schemas));
    let stage = move |_| {
        for record in &records {
            let decoded = decoder.decode(record.clone());
            assert!(decoded.content.is_ok(), "events are good");
            black_box(decoded);
        }
    };
    (skewed(50), Box::new(stage))
}
