//! Whole packs, as they came and repaired. Input: the bytes of an object (also tried as a locator's).

use super::{body, repair};
use snapfold::codec::dictionary::Dictionary;
use snapfold::codec::pack::{Locator, OpenTail, TRAILER_LEN, open_tail, read_entry, verify_pack};
use snapfold::domain::ids::PackId;
use snapfold::domain::record::RecordKind;

pub(crate) fn check(data: &[u8]) {
    object(data);
    if let Some(repaired) = repair::pack(data) {
        object(&repaired);
    }
    locator(data);
    locator(&repair::locator(data));
}

/// The dictionary of the golden pack of every codec.
pub(crate) fn dictionary() -> Dictionary {
    Dictionary::new(&include_bytes!("../../tests/golden/packs/codecs.dict")[..]).expect("it is a dictionary")
}

fn locator(bytes: &[u8]) {
    if let Ok(locator) = Locator::decode(bytes) {
        assert_eq!(Locator::decode(&locator.encode()), Ok(locator), "a locator comes back");
    }
}

fn object(bytes: &[u8]) {
    let id = PackId(bytes.get(14..30).and_then(|id| id.try_into().ok()).unwrap_or_default());
    let len = bytes.len() as u64;
    let ends = bytes.len().saturating_sub(TRAILER_LEN)..;
    if let Ok(OpenTail::Need(needed)) = open_tail(id, &bytes[ends], len) {
        let start = usize::try_from(len - needed).expect("less than all of it is needed");
        assert!(!matches!(open_tail(id, &bytes[start..], len), Ok(OpenTail::Need(_))), "needs what it has");
    }
    let dictionary = dictionary();
    let report = verify_pack(id, bytes, |_| Some(dictionary.clone()));
    let Ok(OpenTail::Ready(ready)) = open_tail(id, bytes, len) else {
        assert!(report.is_err(), "verified what cannot be opened");
        return;
    };
    let footer = &ready.1;
    let is_sound = report.as_ref().is_ok_and(|report| report.is_sound());
    // Neighbours share a frame, which is decoded for each of them: a few entries are enough.
    for at in (0..footer.len()).take(8) {
        let read = footer.meta(at).and_then(|meta| {
            let locator = footer.locator(at)?;
            assert!(Locator::decode(&locator.encode()).is_ok_and(|again| again == locator));
            let range = locator.range();
            let frame = &bytes[range.start as usize..range.end as usize];
            let known = Some(&dictionary).filter(|_| locator.dictionary.is_some());
            Ok((read_entry(&meta.id, &locator, frame, known)?, meta))
        });
        match read {
            Ok((bytes, meta)) => match meta.id.kind {
                RecordKind::Full => body::full(&bytes),
                RecordKind::Increment => body::increment(&bytes, &meta.id.key.id),
                RecordKind::Segment => body::segment(&bytes, &meta.id.key.id),
            },
            Err(error) => assert!(!is_sound, "a sound pack has an entry that cannot be read: {error}"),
        }
    }
}
