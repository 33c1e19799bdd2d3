//! Records wait for their schemas: in order, without a loss, saying so.

use super::*;
use crate::clock::SystemClock;
use crate::codec::avro::{Plan, SchemaId, Schemas};
use crate::codec::envelope::{Envelope, EnvelopeDecoder};
use crate::domain::event::Preparing;
use crate::domain::ids::Timestamp;
use crate::domain::mapping::{Mapping, Place};
use crate::domain::outcome::PortError;
use crate::domain::value::Limits;
use futures_util::{FutureExt, poll};

/// Schemas that become known when the test says so.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<u32>>);

impl Schemas for Told {
    fn get(&self, id: SchemaId) -> Option<Arc<Plan>> {
        let SchemaId::Number(number) = id else { return None };
        let is_known = self.0.lock().unwrap().contains(&number);
        is_known.then(|| Arc::new(Plan::parse(r#""string""#, &[""; 0]).unwrap()))
    }

    fn fetch(&self, ids: Vec<SchemaId>) -> Preparing<'_> {
        let missing = ids.into_iter().find(|id| self.get(*id).is_none());
        let answer = missing.map_or(Ok(()), |id| Err(PortError::NotDone(format!("schema id {id}: unknown"))));
        std::future::ready(answer).boxed()
    }
}

/// All records at once, then none.
struct Queue(Vec<RawRecord>);

impl Records for Queue {
    fn next(&mut self, _max: usize) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        match std::mem::take(&mut self.0) {
            records if records.is_empty() => std::future::pending().boxed(),
            records => std::future::ready(Ok(records)).boxed(),
        }
    }
}

/// A record of each schema; none for a tombstone.
fn records(schemas: &[Option<u32>]) -> Vec<RawRecord> {
    let value = |id: u32| [&[0][..], &id.to_be_bytes(), b"\x02a"].concat();
    let record = |(offset, id): (usize, &Option<u32>)| RawRecord {
        offset: Offset(offset as i64),
        leader_epoch: 0,
        record_time: Timestamp(0),
        key: Some((*b"k").into()),
        value: id.map(|id| value(id).into()),
        headers: Vec::new(),
    };
    schemas.iter().enumerate().map(record).collect()
}

fn gate(schemas: &Arc<Told>) -> Gate {
    let mapping = Mapping {
        aggregate_id: vec![Place::Key],
        event_type: vec![Place::Const("T".into())],
        version: None,
        version_base: 1,
        event_id: Vec::new(),
        time: Vec::new(),
        data: None,
    };
    let schemas = Arc::clone(schemas) as Arc<dyn Schemas>;
    Gate {
        kind: "order".into(),
        decoder: Arc::new(EnvelopeDecoder::new(Envelope::Avro, mapping, Limits::default(), Some(schemas))),
        clock: Arc::new(SystemClock::start()),
        parked: Arc::default(),
    }
}

fn prepared(gate: &Gate, records: Vec<RawRecord>) -> PreparedRecords {
    let mark = Mark { parked: Arc::clone(&gate.parked), key: ("order".into(), PartitionNo(3)), at: None };
    PreparedRecords { records: Box::new(Queue(records)), gate: gate.clone(), waiting: VecDeque::new(), mark }
}

fn offsets(records: &[RawRecord]) -> Vec<i64> {
    records.iter().map(|record| record.offset.0).collect()
}

#[tokio::test]
async fn a_partition_stands_before_the_first_record_without_a_schema_and_goes_on_from_there() {
    let schemas = Arc::new(Told(Mutex::new(vec![1])));
    let gate = gate(&schemas);
    let mut records = prepared(&gate, records(&[Some(1), None, Some(2), Some(1), Some(3)]));
    assert_eq!(offsets(&records.next(10).await.unwrap()), [0, 1]);
    assert!(gate.parked.list().is_empty());
    for _ in 0..3 {
        // Dropped while it waits, as the task of a partition does at every tick.
        let mut next = records.next(10);
        assert!(poll!(&mut next).is_pending());
    }
    let parked = gate.parked.list();
    let [(kind, partition, offset, why)] = &parked[..] else { panic!("{parked:?}") };
    assert_eq!((&**kind, *partition, *offset), ("order", PartitionNo(3), Offset(2)));
    assert!(why.contains("schema id 2: unknown"), "{why}");
    schemas.0.lock().unwrap().push(2);
    assert_eq!(offsets(&records.next(1).await.unwrap()), [2]);
    assert!(gate.parked.list().is_empty());
    assert_eq!(offsets(&records.next(9).await.unwrap()), [3]);
    assert!(poll!(records.next(9)).is_pending());
    assert_eq!(gate.parked.list().len(), 1);
    drop(records);
    assert!(gate.parked.list().is_empty(), "a partition that was given up waits for nothing");
}

/// A log of these records.
struct Kept(Vec<RawRecord>);

impl Log for Kept {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        std::future::ready(Ok(1)).boxed()
    }

    fn bounds(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        let end = Offset(self.0.len() as i64);
        std::future::ready(Ok(LogBounds { start: Offset(0), end, leader_epoch: 0, topic_id: 1 })).boxed()
    }

    fn read(&self, _: PartitionNo, from: Offset, to: Offset) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        let stretch = self.0.iter().filter(|record| (from..to).contains(&record.offset));
        std::future::ready(Ok(stretch.cloned().collect())).boxed()
    }

    fn epoch_end(&self, _: PartitionNo, _: i32) -> BoxFuture<'_, PortResult<Offset>> {
        std::future::ready(Ok(Offset(0))).boxed()
    }

    fn committed(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn commit(&self, _: PartitionNo, _: Offset) -> BoxFuture<'_, PortResult<()>> {
        std::future::ready(Ok(())).boxed()
    }
}

#[tokio::test]
async fn a_stretch_is_read_up_to_what_cannot_be_decoded_and_no_further() {
    let schemas = Arc::new(Told(Mutex::new(vec![1])));
    let log =
        PreparedLog { log: Arc::new(Kept(records(&[Some(1), Some(2), Some(1)]))), gate: gate(&schemas) };
    let read = |from| log.read(PartitionNo(0), Offset(from), Offset(9));
    assert_eq!(offsets(&read(0).await.unwrap()), [0]);
    let error = read(1).await.unwrap_err();
    assert!(matches!(&error, PortError::NotDone(why) if why.contains("schema id 2")), "{error}");
    schemas.0.lock().unwrap().push(2);
    assert_eq!(offsets(&read(1).await.unwrap()), [1, 2]);
    assert!(read(3).await.unwrap().is_empty());
}
