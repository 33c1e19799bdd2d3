//! The folder keeps the promises of the port, and an object is never seen half, whoever dies when.

use super::super::suite;
use super::*;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn open(path: &Path) -> LocalBlobs {
    LocalBlobs::open(path).expect("the folder opens")
}

fn in_writing(path: &Path) -> usize {
    read_dir(path.join(WRITING)).expect("it is there").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_blobs_keep_the_promises_of_the_port() {
    let folder = folder();
    suite::all(&open(folder.path())).await;
    assert_eq!(in_writing(folder.path()), 0, "nothing is left in `{WRITING}`");
}

#[tokio::test]
async fn objects_are_there_after_reopening_and_the_writings_of_the_dead_are_swept() {
    let folder = folder();
    let blobs = open(folder.path());
    blobs.put_new("a/b", b"kept").await.expect("it is written");
    // As a process leaves it that died while it wrote.
    std::fs::write(folder.path().join(WRITING).join("1-0"), b"ha").expect("it is written");
    let (alive, file) = blobs.begin().expect("a writing");
    let again = open(folder.path());
    assert_eq!(in_writing(folder.path()), 1, "the living writer keeps its file");
    assert!(alive.0.exists());
    drop(file);
    drop(alive);
    assert_eq!(again.get_range("a/b", 0, 9).await, Ok(b"kept".to_vec()));
    assert_eq!(again.list("", None, 9).await, Ok(vec!["a/b".to_owned()]));
}

/// Goal: a writer that is cancelled anywhere leaves a whole object or none. Method: poll it a few times,
/// drop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_write_leaves_a_whole_object_or_none() {
    let folder = folder();
    let blobs = open(folder.path());
    let bytes = vec![7; 6 << 20];
    let mut whole = 0;
    for round in 0..40_u64 {
        let name = format!("cancelled/{round}");
        let patience = std::time::Duration::from_micros(round * round * 20);
        let written = tokio::time::timeout(patience, blobs.put_new(&name, &bytes)).await;
        match blobs.get_range(&name, 0, u64::MAX).await {
            Ok(read) => {
                assert!(read == bytes, "a half object");
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error, PortError::Missing);
                assert!(written.is_err(), "acknowledged and gone");
            }
        }
    }
    assert!(whole < 40, "no write was cancelled");
}

#[tokio::test]
async fn two_stores_on_one_folder_agree_about_who_came_first() {
    let folder = folder();
    let (a, b) = (open(folder.path()), open(folder.path()));
    for round in 0..50 {
        let name = format!("x/{round}");
        let (first, second) =
            futures_util::future::join(a.put_new(&name, b"a"), b.put_new(&name, b"b")).await;
        let read = a.get_range(&name, 0, 9).await.expect("somebody wrote it");
        let expected = match (first, second) {
            (Ok(()), Err(PortError::Exists)) => b"a",
            (Err(PortError::Exists), Ok(())) => b"b",
            other => panic!("{other:?}"),
        };
        assert_eq!(read, expected);
    }
}

#[tokio::test]
async fn a_volume_that_is_gone_is_told_and_nothing_is_missing() {
    let folder = folder();
    let root = folder.path().join("objects");
    let blobs = open(&root);
    blobs.put_new("a/b", b"x").await.expect("it is written");
    // An empty mount point.
    std::fs::rename(&root, folder.path().join("elsewhere")).expect("moved");
    for is_there in [false, true] {
        if is_there {
            std::fs::create_dir(&root).expect("a folder");
        }
        let answers = [
            blobs.get_range("a/b", 0, 1).await.err(),
            blobs.get_tail("a/b", 1).await.err(),
            blobs.list("", None, 9).await.err(),
            blobs.delete("a/b").await.err(),
            blobs.put_new("a/c", b"y").await.err(),
        ];
        for (at, answer) in answers.into_iter().enumerate() {
            let Some(PortError::NotDone(told)) = answer else { panic!("{at}: {answer:?}") };
            assert!(told.contains("is its volume mounted?"), "{told}");
        }
    }
}

#[test]
fn errors_of_the_file_system_say_what_to_do_and_whether_to_try_again() {
    let folder = folder();
    let blobs = open(folder.path());
    for (code, text, again) in [
        (28, "free space", true),            // ENOSPC
        (122, "raise the quota", true),      // EDQUOT
        (24, "ulimit", true),                // EMFILE
        (5, "check the disk", true),         // EIO
        (13, "give the user", false),        // EACCES
        (30, "mount the volume", false),     // EROFS
        (27, "no file of that size", false), // EFBIG
    ] {
        let told = blobs.failed(&io::Error::from_raw_os_error(code));
        assert!(told.to_string().contains(text), "{told}");
        assert_eq!(matches!(told, PortError::NotDone(_)), again, "{told}");
    }
}

#[test]
fn a_folder_of_a_newer_version_and_a_file_are_refused() {
    let folder = folder();
    std::fs::write(folder.path().join(MARKER), "snapfold blobs 2\n").expect("it is written");
    let refused = LocalBlobs::open(folder.path()).err().expect("it is newer");
    assert!(refused.detail.contains("`snapfold blobs 2`"), "{refused}");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let refused = LocalBlobs::open(&file).err().expect("it is no folder");
    assert!(refused.detail.contains("open objects `"), "{refused}");
}
