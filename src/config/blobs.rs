//! The blob store, and the archive that its old packs go to.
//!
//! INVARIANT: an archive is another place than the blob store, and no object of one is an object of the
//! other: else moving a pack would delete it.

use super::keys::STORAGE_CLASSES;
use super::reader::Section;
use super::{Secret, s3};
use crate::domain::source::Node;
use std::path::{Path, PathBuf};

/// `blobs`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a configuration has one or two of them")]
pub enum Blobs {
    /// `s3`.
    S3(S3),
    /// `directory`.
    Directory {
        /// `path`.
        path: String,
    },
}

/// `blobs.s3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// `bucket`.
    pub bucket: String,
    /// `prefix`.
    pub prefix: String,
    /// `endpoint`.
    pub endpoint: Option<String>,
    /// `region`.
    pub region: String,
    /// `pathStyle`.
    pub is_path_style: bool,
    /// `checksums`: true for `sha256`.
    pub has_checksums: bool,
    /// `accessKey` and `secretKey`; none leaves it to the environment.
    pub keys: Option<(Secret, Secret)>,
    /// `storageClass`, of an archive only; none leaves it to the bucket.
    pub storage_class: Option<String>,
}

/// `blobs.archive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it is.
    pub place: Blobs,
    /// `interval` in milliseconds.
    pub interval_ms: u64,
}

/// Storage classes whose objects have to be restored before anybody can read them.
const UNREADABLE: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];
/// What stands before the names of all objects.
const OBJECTS: &str = "v1/";

/// Reads `blobs`.
pub(super) fn read(root: Section<'_>) -> Option<Blobs> {
    root.section("blobs", |it| {
        let (s3, directory) = (it.given("s3").is_some(), it.given("directory").is_some());
        if s3 && directory {
            it.problem("directory", "two places for packs: `s3` and `directory`", "keep one of them");
        }
        if directory {
            let path = it.section("directory", |it| it.required("path"))?;
            return Some(Blobs::Directory { path });
        }
        it.section("s3", |it| s3::read(it, None)).map(Blobs::S3)
    })
}

/// Reads `blobs.archive`, and what streams want of it.
pub(super) fn read_archive(root: Section<'_>, live: Option<&Blobs>) -> Option<Archive> {
    let is_given = root.given("blobs").is_some_and(|blobs| blobs.get("archive").is_some());
    if !is_given {
        root.sections("streams", |it| it.section("retention", refuse_homeless));
        return None;
    }
    root.section("blobs", |it| {
        it.section("archive", |it| {
            let interval_ms = it.ms("interval");
            let (s3, directory) = (it.given("s3").is_some(), it.given("directory").is_some());
            let place = match (s3, directory) {
                (true, false) => Blobs::S3(it.section("s3", |it| read_s3(it, live))?),
                (false, true) => {
                    Blobs::Directory { path: it.section("directory", |it| it.required("path"))? }
                }
                (true, true) => {
                    it.problem("directory", "two archives: `s3` and `directory`", "keep one of them");
                    return None;
                }
                (false, false) => {
                    let hint = "say `directory: { path: … }` or `s3: { bucket: … }`";
                    it.problem("s3", "an archive without a place", hint);
                    return None;
                }
            };
            refuse_same(it, live?, &place);
            Some(Archive { place, interval_ms })
        })
    })
}

fn refuse_homeless(it: Section<'_>) {
    if it.given("archiveAfter").is_some() {
        let hint = "say where to: `blobs: { archive: { directory: { path: … } } }`, or `archive: { s3: { bucket: … } }`";
        it.problem("archiveAfter", "`archiveAfter` without an archive", hint);
    }
}

fn read_s3(it: Section<'_>, live: Option<&Blobs>) -> Option<S3> {
    let live = match live {
        Some(Blobs::S3(s3)) => Some(s3),
        Some(Blobs::Directory { .. }) | None => None,
    };
    let storage_class = match it.given("storageClass").and_then(Node::text) {
        Some(class) if UNREADABLE.contains(&class) => {
            it.problem(
                "storageClass",
                format!("objects of class `{class}` cannot be read before somebody restores them"),
                format!("archived packs are read like others: use one of {}", STORAGE_CLASSES.join(", ")),
            );
            None
        }
        _ => it.choice_if_given("storageClass"),
    };
    Some(S3 { storage_class, ..s3::read(it, live)? })
}

/// Refuses an archive that is the blob store, or lies in it or around it.
fn refuse_same(it: Section<'_>, live: &Blobs, archive: &Blobs) {
    match (live, archive) {
        (Blobs::Directory { path: live }, Blobs::Directory { path: archive }) => {
            let (live, archive) = (whole(live), whole(archive));
            if live.starts_with(&archive) || archive.starts_with(&live) {
                let hint = "give a folder beside it, on another volume";
                it.problem(
                    "directory",
                    "the archive is the folder of `blobs`, or one of the two is in the other",
                    hint,
                );
            }
        }
        (Blobs::S3(live), Blobs::S3(archive)) => {
            let is_one = live.bucket == archive.bucket && live.endpoint == archive.endpoint;
            let is_in =
                |inner: &S3, outer: &S3| inner.prefix.starts_with(&format!("{}{OBJECTS}", outer.prefix));
            if is_one && (live.prefix == archive.prefix || is_in(live, archive) || is_in(archive, live)) {
                let hint = "give another `bucket`, or another `prefix` in the same one; a storage class alone is no place";
                it.problem("s3", "the archive would have its objects where `blobs.s3` has them", hint);
            }
        }
        (Blobs::Directory { .. }, Blobs::S3(_)) | (Blobs::S3(_), Blobs::Directory { .. }) => {}
    }
}

/// A path that can be compared with others.
fn whole(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{STREAM, loaded, told};
    use super::*;
    use crate::config::show;

    fn archive(blobs: &str) -> Archive {
        loaded(&format!("blobs: {blobs}\n{STREAM}"), &[], &[]).archive.expect("it has one")
    }

    #[test]
    fn what_an_archive_leaves_out_is_that_of_the_blob_store() {
        let live = "bucket: live, endpoint: \"http://s3\", region: eu-1, pathStyle: true, checksums: none, prefix: p/";
        let read = archive(&format!(
            "{{ s3: {{ {live} }}, archive: {{ s3: {{ bucket: cold, storageClass: GLACIER_IR }} }} }}"
        ));
        let expected = S3 {
            bucket: "cold".to_owned(),
            prefix: String::new(),
            endpoint: Some("http://s3".to_owned()),
            region: "eu-1".to_owned(),
            is_path_style: true,
            has_checksums: false,
            keys: None,
            storage_class: Some("GLACIER_IR".to_owned()),
        };
        assert_eq!(read, Archive { place: Blobs::S3(expected), interval_ms: 3_600_000 });
        let read = archive("{ directory: { path: a }, archive: { directory: { path: b }, interval: 5m } }");
        assert_eq!(read, Archive { place: Blobs::Directory { path: "b".to_owned() }, interval_ms: 300_000 });
        let read = archive("{ directory: { path: a }, archive: { s3: { bucket: b, pathStyle: true } } }");
        let Blobs::S3(s3) = read.place else { panic!("{read:?}") };
        assert_eq!(
            (&*s3.bucket, &*s3.region, s3.is_path_style, s3.has_checksums),
            ("b", "us-east-1", true, true)
        );
        // Other prefixes of one bucket are other places.
        archive("{ s3: {}, archive: { s3: { prefix: archive/ } } }");
        archive("{ s3: { prefix: live/ }, archive: { s3: {} } }");
    }

    #[test]
    fn an_archive_is_shown_where_there_is_one() {
        let config = loaded(
            &format!("blobs: {{ s3: {{}}, archive: {{ directory: {{ path: b }} }} }}\n{STREAM}"),
            &[],
            &[],
        );
        let shown = show(&config);
        let lines = "  archive:\n    directory:\n      path: b  # file:1\n    interval: 1h  # default\n";
        assert!(shown.contains(lines), "{shown}");
        assert!(!show(&loaded(STREAM, &[], &[])).contains("archive"));
    }

    #[test]
    fn what_is_wrong_with_an_archive_is_told_with_its_fix() {
        let beside = "give a folder beside it, on another volume";
        let elsewhere =
            "give another `bucket`, or another `prefix` in the same one; a storage class alone is no place";
        let same = "the archive would have its objects where `blobs.s3` has them";
        let inside = "the archive is the folder of `blobs`, or one of the two is in the other";
        for (blobs, place, message, hint) in [
            ("{ directory: { path: a }, archive: { directory: { path: ./a/ } } }", 56, inside, beside),
            ("{ directory: { path: a }, archive: { directory: { path: a/b } } }", 56, inside, beside),
            ("{ s3: {}, archive: { s3: { storageClass: STANDARD_IA } } }", 33, same, elsewhere),
            ("{ s3: {}, archive: { s3: { prefix: v1/cold/ } } }", 33, same, elsewhere),
            (
                "{ s3: {}, archive: { s3: { bucket: cold, storageClass: DEEP_ARCHIVE } } }",
                63,
                "objects of class `DEEP_ARCHIVE` cannot be read before somebody restores them",
                "archived packs are read like others: use one of STANDARD, STANDARD_IA, ONEZONE_IA, \
                 INTELLIGENT_TIERING, GLACIER_IR",
            ),
            (
                "{ s3: {}, archive: { s3: { bucket: cold, storageClass: COLD } } }",
                63,
                "`COLD` is not a choice here",
                "one of STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR",
            ),
            (
                "{ s3: {}, archive: { interval: 1h } }",
                27,
                "an archive without a place",
                "say `directory: { path: … }` or `s3: { bucket: … }`",
            ),
            (
                "{ s3: {}, archive: { s3: { prefix: a/ }, directory: { path: a } } }",
                60,
                "two archives: `s3` and `directory`",
                "keep one of them",
            ),
            (
                "{ directory: { path: a }, archive: { s3: {} } }",
                49,
                "`bucket` is missing",
                "add it: the bucket; that of `blobs.s3` where left out; `snapfold migrate` creates it",
            ),
        ] {
            assert_eq!(
                told(&format!("blobs: {blobs}")),
                format!("f.yaml:1:{place}: {message}\n  hint: {hint}")
            );
        }
    }
}
