//! What every object store promises, as tests that each implementation runs. Names are prefixed per promise.

use super::Blobs;
use crate::domain::outcome::PortError;
use futures_util::future::join_all;

/// Every promise of the port that can be checked without closing the store.
pub(crate) async fn all(blobs: &dyn Blobs) {
    objects_come_back_whole_and_in_ranges(blobs).await;
    tails_tell_the_whole_length(blobs).await;
    an_object_is_never_replaced(blobs).await;
    of_many_writers_of_one_name_exactly_one_succeeds(blobs).await;
    what_is_not_there_is_missing(blobs).await;
    times_are_those_of_one_clock(blobs).await;
    deleting_is_idempotent_and_frees_the_name(blobs).await;
    a_call_that_is_never_polled_does_nothing(blobs).await;
    names_are_listed_in_byte_order_page_by_page(blobs).await;
    names_that_lead_elsewhere_are_refused(blobs).await;
    large_objects_come_back(blobs).await;
}

async fn put(blobs: &dyn Blobs, name: &str, bytes: &[u8]) {
    blobs.put_new(name, bytes).await.unwrap_or_else(|error| panic!("write `{name}`: {error}"));
}

async fn times_are_those_of_one_clock(blobs: &dyn Blobs) {
    put(blobs, "time/a", b"x").await;
    let first = blobs.modified("time/a").await.expect("a time");
    put(blobs, "time/b", b"x").await;
    let second = blobs.modified("time/b").await.expect("a time");
    assert!(first <= second, "{first:?} {second:?}");
    assert_eq!(blobs.modified("time/a").await, Ok(first), "reading changes nothing");
    assert_eq!(blobs.modified("time/c").await, Err(PortError::Missing));
}

async fn objects_come_back_whole_and_in_ranges(blobs: &dyn Blobs) {
    let name = "range/a/b/c.sfp";
    put(blobs, name, b"0123456789").await;
    for (start, len, expected) in [
        (0, 10, &b"0123456789"[..]),
        (0, 0, b""),
        (3, 4, b"3456"),
        (9, 1, b"9"),
        (9, 2, b"9"),
        (8, 100, b"89"),
        (10, 1, b""),
        (11, 1, b""),
        (u64::MAX, u64::MAX, b""),
        (5, u64::MAX, b"56789"),
    ] {
        let read = blobs.get_range(name, start, len).await;
        assert_eq!(read.as_deref(), Ok(expected), "{len} bytes from {start}");
    }
    put(blobs, "range/empty", b"").await;
    assert_eq!(blobs.get_range("range/empty", 0, 5).await, Ok(vec![]));
}

async fn tails_tell_the_whole_length(blobs: &dyn Blobs) {
    put(blobs, "tail/a", b"0123456789").await;
    put(blobs, "tail/empty", b"").await;
    for (len, expected) in [(0, &b""[..]), (1, b"9"), (3, b"789"), (10, b"0123456789")] {
        assert_eq!(blobs.get_tail("tail/a", len).await, Ok((expected.to_vec(), 10)), "{len} bytes");
    }
    for len in [11, u64::MAX] {
        assert_eq!(blobs.get_tail("tail/a", len).await, Ok((b"0123456789".to_vec(), 10)));
    }
    assert_eq!(blobs.get_tail("tail/empty", 4).await, Ok((vec![], 0)));
}

async fn an_object_is_never_replaced(blobs: &dyn Blobs) {
    put(blobs, "once/a", b"first").await;
    for bytes in [&b"first"[..], b"second", b""] {
        assert_eq!(blobs.put_new("once/a", bytes).await, Err(PortError::Exists));
    }
    assert_eq!(blobs.get_range("once/a", 0, 99).await, Ok(b"first".to_vec()));
}

async fn of_many_writers_of_one_name_exactly_one_succeeds(blobs: &dyn Blobs) {
    let bodies: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 50_000]).collect();
    let writes = join_all(bodies.iter().map(|body| blobs.put_new("race/a", body))).await;
    let won: Vec<usize> = (0..20).filter(|n| writes[*n].is_ok()).collect();
    assert_eq!(won.len(), 1, "{writes:?}");
    assert!(writes.iter().all(|write| matches!(write, Ok(()) | Err(PortError::Exists))));
    assert_eq!(blobs.get_range("race/a", 0, u64::MAX).await.as_ref(), Ok(&bodies[won[0]]));
}

async fn what_is_not_there_is_missing(blobs: &dyn Blobs) {
    put(blobs, "missing/folder/a", b"a").await;
    for name in ["missing/a", "missing/folder", "missing/folder/a/b", "missing/folder/A2"] {
        assert_eq!(blobs.get_range(name, 0, 1).await, Err(PortError::Missing), "{name}");
        assert_eq!(blobs.get_tail(name, 1).await, Err(PortError::Missing), "{name}");
    }
}

async fn deleting_is_idempotent_and_frees_the_name(blobs: &dyn Blobs) {
    put(blobs, "delete/a", b"1").await;
    put(blobs, "delete/b", b"2").await;
    for name in ["delete/a", "delete/a", "delete/never", "never/was"] {
        assert_eq!(blobs.delete(name).await, Ok(()), "{name}");
    }
    assert_eq!(blobs.get_range("delete/a", 0, 1).await, Err(PortError::Missing));
    assert_eq!(blobs.list("delete/", None, 9).await, Ok(vec!["delete/b".to_owned()]));
    put(blobs, "delete/a", b"3").await;
    assert_eq!(blobs.get_range("delete/a", 0, 1).await, Ok(b"3".to_vec()));
}

async fn a_call_that_is_never_polled_does_nothing(blobs: &dyn Blobs) {
    put(blobs, "unpolled/a", b"1").await;
    drop(blobs.put_new("unpolled/b", b"2"));
    drop(blobs.delete("unpolled/a"));
    assert_eq!(blobs.list("unpolled/", None, 9).await, Ok(vec!["unpolled/a".to_owned()]));
}

async fn names_are_listed_in_byte_order_page_by_page(blobs: &dyn Blobs) {
    // `-` and `.` sort before `/`, `0` after it: folders must not be listed where their bare name sorts.
    let mut names: Vec<String> =
        ["a/1", "a/2", "a-b", "a.b", "a0", "a/b/c", "a/b-c", "a/b/d/e", "a/b0", "ä/x", "b", "A", "a/B"]
            .map(|name| format!("list/{name}"))
            .into();
    for name in &names {
        put(blobs, name, name.as_bytes()).await;
    }
    names.sort();
    let prefixes = ["list/", "list/a", "list/a/", "list/a/b", "list/a/b/", "list/ä", "list/b", "list/none"];
    let afters: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
    for prefix in prefixes {
        let more = [None, Some("list/"), Some("list/a/b"), Some("a"), Some("list/a/"), Some("z"), Some("")];
        for after in afters.iter().copied().chain(more) {
            let named = names.iter().filter(|name| name.starts_with(prefix));
            let expected: Vec<&String> =
                named.filter(|name| after.is_none_or(|a| name.as_str() > a)).collect();
            for limit in [0, 1, 3, 100] {
                let listed = blobs.list(prefix, after, limit).await.unwrap();
                let expected = &expected[..limit.min(expected.len())];
                assert!(listed.iter().eq(expected.iter().copied()), "{prefix} {after:?} {limit}: {listed:?}");
            }
        }
    }
    let everything = blobs.list("", None, usize::MAX).await.unwrap();
    assert!(everything.is_sorted() && names.iter().all(|name| everything.contains(name)));
    assert!(everything.iter().all(|name| !name.starts_with('.')), "{everything:?}");
}

async fn names_that_lead_elsewhere_are_refused(blobs: &dyn Blobs) {
    let long_part = "x".repeat(256);
    let long = "x/".repeat(512) + "x";
    for name in [
        "", "/", "/etc/a", "..", "../a", "a/../b", "a/..", ".", "a/./b", "a//b", "a/", ".hidden", "a/.b",
        "a\0b", "a\nb", "a\\b", &long_part, &long,
    ] {
        let refusals = [
            blobs.put_new(name, b"x").await.err(),
            blobs.get_range(name, 0, 1).await.err(),
            blobs.get_tail(name, 1).await.err(),
            blobs.delete(name).await.err(),
        ];
        for refusal in refusals {
            let told = refusal.unwrap_or_else(|| panic!("`{name:?}` was taken"));
            let PortError::Permanent(told) = told else { panic!("`{name:?}`: {told}") };
            assert!(told.contains("is no name of an object"), "{told}");
        }
    }
}

async fn large_objects_come_back(blobs: &dyn Blobs) {
    let bytes: Vec<u8> = (0..9_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    put(blobs, "large/a", &bytes).await;
    assert!(blobs.get_range("large/a", 0, u64::MAX).await.unwrap() == bytes);
    let ranges = (0..200_u64).map(|n| n * 44_999).map(|start| async move {
        (start as usize, blobs.get_range("large/a", start, 1_000).await.unwrap())
    });
    for (start, read) in join_all(ranges).await {
        assert!(read == bytes[start..start + 1_000]);
    }
}
