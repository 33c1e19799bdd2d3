//! A stream out of its definition: what was kept of a configuration so that an old lineage can be folded
//! again (`store::lineages::definitions`).
//!
//! INVARIANT: a definition that does not have the fingerprint it was kept under is none.

use super::{Sources, Stream, load};
use crate::domain::ids::Digest;

/// The stream of a `definition`, if it still has that fingerprint. Everything else of it is a default.
#[must_use]
pub fn defined(definition: &str, fingerprint: Digest) -> Option<Stream> {
    // What is read elsewhere is checked together: stores and a registry that nobody asks.
    let text = format!(
        "{{\"index\":{{\"embedded\":{{\"path\":\".\"}}}},\"blobs\":{{\"directory\":{{\"path\":\".\"}}}},\
         \"registry\":{{\"url\":\"http://127.0.0.1\"}},\"streams\":[{definition}]}}"
    );
    let sources = Sources { file: Some(("definition".to_owned(), text)), ..Sources::default() };
    let config = load(&sources, &|_| Err("a definition has no secrets".to_owned())).ok()?;
    config.streams.into_iter().next().filter(|stream| stream.fingerprint() == fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{STREAM, loaded};

    #[test]
    fn a_definition_is_enough_to_fold_as_before_and_no_other_will_do() {
        for keys in ["", "onPoison: skip", "limits: { maxEventBytes: 2MiB }", "format: cloudevents"] {
            let stream = loaded(&format!("{STREAM}    {keys}\n"), &[], &[]).streams.remove(0);
            let fingerprint = stream.fingerprint();
            let again = defined(&stream.definition, fingerprint);
            let again = again.unwrap_or_else(|| panic!("{keys}: {}", stream.definition));
            assert_eq!((again.kind, again.topic), (stream.kind, stream.topic), "{keys}");
            assert_eq!(again.mapping.to_string(), stream.mapping.to_string(), "{keys}");
            assert!(defined(&stream.definition, Digest([1; 32])).is_none(), "{keys}");
            assert!(defined("{\"type\":\"x\"}", fingerprint).is_none(), "{keys}");
        }
        let set = |argument: &str| loaded(STREAM, &[], &[argument]).streams.remove(0);
        let stream = set("streams[0].reducer={on: {A: [{add: {total: '.qty * 1.10'}}]}}");
        assert!(defined(&stream.definition, stream.fingerprint()).is_some(), "{}", stream.definition);
    }
}
