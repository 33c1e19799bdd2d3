//! The bucket: what was put is there unless damage is declared, what is read may be spoilt on the way.

use super::{call, calm, fated};
use crate::ports::Fate;
use crate::ports::blobs::Damage;
use crate::rng::Odds;
use crate::world::{Ports, World};
use snapfold::domain::outcome::{PortError, PortResult};

fn put(world: &World, name: &'static str) -> PortResult<()> {
    let put = move |ports: Ports| async move { ports.blobs.put_new(name, &[7; 64]).await };
    call(world, 60_000, put).expect("a call ends within a minute")
}

fn stored(world: &World, name: &str) -> Option<Vec<u8>> {
    world.bucket.objects().get(name).map(|bytes| bytes.to_vec())
}

/// Bits in which two texts of one length differ; what is missing counts whole.
fn bits_apart(read: &[u8], stored: &[u8]) -> u32 {
    let missing = u32::try_from(stored.len() - read.len()).expect("short") * 8;
    missing + read.iter().zip(stored).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
}

#[test]
fn each_fate_of_a_put_does_what_it_says() {
    let world = calm(1);
    assert_eq!(put(&world, "a"), Ok(()));
    assert_eq!(put(&world, "a"), Err(PortError::Exists));
    fated(&world, "put_new", Fate::Unheard);
    assert!(matches!(put(&world, "unheard"), Err(PortError::Unknown(_))));
    assert!(stored(&world, "unheard").is_some());
    fated(&world, "put_new", Fate::Refused);
    assert!(matches!(put(&world, "refused"), Err(PortError::NotDone(_))));
    fated(&world, "put_new", Fate::Lost);
    assert!(matches!(put(&world, "lost"), Err(PortError::Unknown(_))));
    fated(&world, "put_new", Fate::Late);
    assert!(matches!(put(&world, "late"), Err(PortError::Unknown(_))));
    assert_eq!(stored(&world, "late"), None, "a late write comes behind its answer");
    world.idle(10_000);
    assert!(stored(&world, "late").is_some());
    assert_eq!((stored(&world, "refused"), stored(&world, "lost")), (None, None));
}

/// Goal: the wire spoils a read by one bit or cuts it, never what is stored, never three times in a row.
#[test]
fn the_wire_spoils_reads_and_gives_way_at_the_third() {
    for (flip, cut) in [(Odds(10_000), Odds(0)), (Odds(0), Odds(10_000))] {
        let world = calm(2);
        assert_eq!(put(&world, "a"), Ok(()));
        let mut plan = world.gate.plan(Clone::clone);
        (plan.bit_flip, plan.truncated_read) = (flip, cut);
        world.gate.set_plan(plan);
        let reads = |ports: Ports| async move {
            let mut reads = Vec::new();
            for _ in 0..6 {
                reads.push(ports.blobs.get_range("a", 0, 64).await.expect("it is there"));
            }
            reads
        };
        let reads = call(&world, 60_000, reads).expect("calls end within a minute");
        let apart: Vec<u32> = reads.iter().map(|read| bits_apart(read, &[7; 64])).collect();
        for (at, apart) in apart.iter().enumerate() {
            assert_eq!(*apart == 0, at % 3 == 2, "{apart:?}");
            assert!(cut.0 > 0 || *apart <= 1, "one bit: {apart:?}");
        }
        assert_eq!(stored(&world, "a"), Some(vec![7; 64]));
        assert!(!world.bucket.is_damaged());
    }
}

#[test]
fn damage_at_rest_is_one_bit_or_all_and_is_kept_in_the_book() {
    let world = calm(3);
    for name in ["full/a", "full/b", "checkpoint/c"] {
        assert_eq!(put(&world, name), Ok(()));
    }
    let flipped = world.bucket.damage("full/", Damage::Flip).expect("there are two");
    assert_eq!(bits_apart(&stored(&world, &flipped).expect("flipped, not lost"), &[7; 64]), 1);
    let lost = world.bucket.damage("checkpoint/", Damage::Loss);
    assert_eq!(lost.as_deref(), Some("checkpoint/c"));
    assert_eq!(stored(&world, "checkpoint/c"), None);
    assert_eq!(world.bucket.damage("history/", Damage::Flip), None);
    assert_eq!(world.bucket.damaged().len(), 2);
}
