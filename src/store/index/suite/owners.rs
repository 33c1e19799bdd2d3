//! What an index that several processes may use promises of owners.

use super::log;
use crate::domain::ids::{Offset, Timestamp};
use crate::domain::row::OwnerRow;
use crate::store::index::Index;

/// For indexes that several processes may use.
pub(crate) async fn the_last_who_says_that_it_owns_a_partition_is_told(index: &dyn Index) {
    let (key, other) = (log("owned", 3, 1), log("owned", 4, 1));
    assert_eq!(index.owner(&key).await, Ok(None));
    let row = |address: &str, position| OwnerRow {
        key: key.clone(),
        address: address.into(),
        position: Offset(position),
        heartbeat: Timestamp(1_700_000_000_123),
    };
    for (address, position) in [("http://a:1", 7), ("http://b:2", 5)] {
        index.put_owner(row(address, position)).await.unwrap();
        assert_eq!(index.owner(&key).await, Ok(Some(row(address, position))));
    }
    assert_eq!(index.owner(&other).await, Ok(None));
}
