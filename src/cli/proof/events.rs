//! An auditor's own copy of the topic's records, one a line: as `dev --records` reads them, or as `kcat -J`
//! prints them.

use crate::cli::failure::{Done, Failure};
use crate::cli::feed::record_of_line;
use crate::domain::ids::Timestamp;
use crate::domain::record::{Headers, RawRecord};
use serde::Deserialize;

/// A record as `kcat -J` prints it: headers are names and values in turn.
#[derive(Deserialize)]
struct KcatLine {
    ts: i64,
    key: Option<String>,
    payload: Option<String>,
    #[serde(default)]
    headers: Vec<Option<String>>,
}

/// The records of all lines that are not blank.
pub(super) fn read(file: &str, bytes: &[u8]) -> Done<Vec<RawRecord>> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(nth, line)| {
            of_kcat(line).map_or_else(|| record_of_line(line), Ok).map_err(|why| {
                let hint = "each line is {\"key\":…,\"value\":…,\"headers\":{…},\"timestamp\":…}, or what `kcat -J` prints";
                Failure::usage(format!("{file}: line {}: {why}", nth + 1), hint)
            })
        })
        .collect()
}

fn of_kcat(line: &[u8]) -> Option<RawRecord> {
    let line: KcatLine = serde_json::from_slice(line).ok()?;
    let bytes = |text: &String| text.as_bytes().into();
    let headers: Headers = line
        .headers
        .chunks(2)
        .map(|pair| {
            let name = pair.first().and_then(Option::as_deref).unwrap_or_default();
            (name.into(), pair.get(1).and_then(Option::as_ref).map(bytes))
        })
        .collect();
    Some(RawRecord {
        record_time: Timestamp(line.ts),
        key: line.key.as_ref().map(bytes),
        value: line.payload.as_ref().map(bytes),
        headers,
        ..RawRecord::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_record_are_the_same_record() {
        let ours = br#"{"key":"a","value":{"x": 1.10},"headers":{"h":"v","n":null},"timestamp":7}"#;
        let kcat = br#"{"topic":"t","partition":0,"offset":3,"tstype":"create","ts":7,"broker":0,
            "headers":["h","v","n",null],"key":"a","payload":"{\"x\": 1.10}"}"#;
        let kcat: Vec<u8> = kcat.iter().copied().filter(|byte| *byte != b'\n').collect();
        let both = [&ours[..], b"\n\n", &kcat[..], b"\n"].concat();
        let records = read("f", &both).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0], records[1]);
        let wrong = read("f", b"\n{\"no\":1}\n").unwrap_err();
        assert!(wrong.message.starts_with("f: line 2"), "{}", wrong.message);
    }
}
