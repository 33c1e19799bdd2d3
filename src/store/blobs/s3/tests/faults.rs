//! Every call of the port meets every fault of the proxy, in front of a real server.
//!
//! *Goal*: a call says only what it knows. `Missing`, `Exists` and bytes are never made up, a write that may have
//! happened is never reported as not done, nothing hangs, and repeating the identical call ends well.
//! *Method*: the proxy's fault is the fate of the first request of a call that is tried once; its outcome must be of
//! the class that the fault allows. Then the same call is repeated without faults until it is answered.

use super::*;
use crate::testing::proxy::{Message, When};
use std::collections::VecDeque;
use std::sync::Mutex;

/// How long one try may take here.
const ANSWER: Duration = Duration::from_millis(1_500);

const FAULTS: &[Fault] = &[
    Fault::Answer(500, ""),
    Fault::Answer(500, "InternalError"),
    Fault::Answer(502, ""),
    Fault::Answer(503, ""),
    Fault::Answer(503, "SlowDown"),
    Fault::Answer(429, ""),
    Fault::Answer(403, "AccessDenied"),
    Fault::Answer(404, ""),
    Fault::Answer(400, ""),
    Fault::Answer(409, "ConditionalRequestConflict"),
    Fault::Answer(301, ""),
    Fault::Stall(When::Before),
    Fault::Stall(When::Within),
    Fault::Stall(When::After),
    Fault::Reset(When::Before),
    Fault::Reset(When::Within),
    Fault::Reset(When::After),
    Fault::Truncate,
    Fault::Shorten,
    Fault::FlipAnswer,
    Fault::FlipRequest,
    Fault::Late(Duration::from_millis(2_500)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Put,
    Range,
    Tail,
    List,
    Delete,
}

const CALLS: [Call; 5] = [Call::Put, Call::Range, Call::Tail, Call::List, Call::Delete];

impl Call {
    fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete)
    }
}

/// What a call answered, so that all calls can be compared.
type Answered = PortResult<Vec<u8>>;

fn object() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn ask(blobs: &S3Blobs, call: Call, name: &str) -> Answered {
    let object = object();
    match call {
        Call::Put => blobs.put_new(name, &object).await.map(|()| Vec::new()),
        Call::Range => blobs.get_range(name, 1_000, 50_000).await,
        Call::Tail => {
            let (tail, whole) = blobs.get_tail(name, 40_000).await?;
            assert_eq!(whole, 100_000);
            Ok(tail)
        }
        Call::List => Ok(blobs.list(name, None, 10).await?.join("\n").into_bytes()),
        Call::Delete => blobs.delete(name).await.map(|()| Vec::new()),
    }
}

/// What it answers when all is well.
fn sound(call: Call, name: &str) -> Vec<u8> {
    match call {
        Call::Put | Call::Delete => Vec::new(),
        Call::Range => object()[1_000..51_000].to_vec(),
        Call::Tail => object()[60_000..].to_vec(),
        Call::List => name.into(),
    }
}

/// Is this a thing to say after this fault?
fn is_honest(call: Call, fault: Fault, name: &str, answered: &Answered) -> bool {
    let is_refused = matches!(answered, Err(PortError::NotDone(_)));
    let is_uncertain = match answered {
        Err(PortError::Unknown(_)) => call.is_write(),
        Err(PortError::NotDone(_)) => !call.is_write(),
        _ => false,
    };
    let is_sound = answered.as_ref() == Ok(&sound(call, name));
    match fault {
        Fault::Pass => is_sound,
        Fault::Answer(403 | 301, _) => matches!(answered, Err(PortError::Permanent(_))),
        Fault::Answer(409, _) if !call.is_write() => is_refused,
        Fault::Answer(500 | 502, _) | Fault::Answer(503, "") => is_uncertain,
        Fault::Answer(..) => is_refused,
        Fault::Stall(_) | Fault::Reset(_) | Fault::Truncate | Fault::Late(_) => is_uncertain,
        // Answers to writes have no body that could be damaged.
        Fault::Shorten | Fault::FlipAnswer if call.is_write() => is_sound,
        Fault::Shorten => is_refused,
        // S3 has no checksum of a range: records and footers have their own, which readers verify.
        Fault::FlipAnswer if call == Call::List => is_refused || answered.is_ok(),
        Fault::FlipAnswer => answered.as_ref().is_ok_and(|bytes| is_one_bit_off(bytes, &sound(call, name))),
        Fault::FlipRequest if call == Call::Put => is_refused,
        Fault::FlipRequest => is_sound,
    }
}

fn is_one_bit_off(bytes: &[u8], sound: &[u8]) -> bool {
    let bits = bytes.iter().zip(sound).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
    bytes.len() == sound.len() && bits == 1
}

/// The fates of the next requests; those after them pass.
#[derive(Clone, Default)]
struct Fates(Arc<Mutex<VecDeque<Fault>>>);

impl Fates {
    async fn proxy(&self, upstream: &str) -> Proxy {
        let fates = self.clone();
        Proxy::start(upstream, move |_| fates.0.lock().unwrap().pop_front().unwrap_or(Fault::Pass)).await
    }

    fn set(&self, faults: &[Fault]) {
        *self.0.lock().unwrap() = faults.iter().copied().collect();
    }

    fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn bounds(tries: u32) -> Bounds {
    Bounds { tries, pause: Duration::from_millis(20), answer: ANSWER, ..Bounds::default() }
}

async fn meet(settings: &config::S3, direct: &S3Blobs, call: Call) {
    let fates = Fates::default();
    let proxy = fates.proxy(settings.endpoint.as_deref().unwrap()).await;
    let faulty = config::S3 { endpoint: Some(proxy.url.clone()), ..settings.clone() };
    let blobs = S3Blobs::open(&faulty, bounds(1)).await;
    for (nth, fault) in FAULTS.iter().enumerate() {
        let name = format!("{call:?}/{nth}");
        if call != Call::Put {
            direct.put_new(&name, &object()).await.unwrap();
        }
        fates.set(&[*fault]);
        let bound = 2 * ANSWER + Duration::from_secs(3);
        let answered = tokio::time::timeout(bound, ask(&blobs, call, &name)).await;
        let answered = answered.unwrap_or_else(|_| panic!("{call:?} hangs after {fault:?}"));
        let shown = answered.as_ref().map(|bytes| bytes.len());
        assert!(is_honest(call, *fault, &name, &answered), "{call:?} {fault:?}: {shown:?}");
        assert_eq!(fates.left(), 0, "{call:?} {fault:?} was never met");
        if let Fault::Late(delay) = fault {
            tokio::time::sleep(delay.saturating_sub(ANSWER) + Duration::from_millis(500)).await;
        }
        // The identical call, until it is answered.
        let mut again = ask(&blobs, call, &name).await;
        for _ in 0..10 {
            if !matches!(again, Err(PortError::NotDone(_) | PortError::Unknown(_))) {
                break;
            }
            again = ask(&blobs, call, &name).await;
        }
        match call {
            Call::Put => {
                let may_be_there = !matches!(fault, Fault::Answer(..) | Fault::FlipRequest);
                let is_acked = again == Ok(Vec::new()) || (may_be_there && again == Err(PortError::Exists));
                assert!(is_acked, "{fault:?}: {again:?}");
                assert!(direct.get_tail(&name, u64::MAX).await == Ok((object(), 100_000)), "{fault:?}");
            }
            _ => assert!(again.as_ref() == Ok(&sound(call, &name)), "{call:?} {fault:?}: {:?}", again.err()),
        }
        if call == Call::Delete {
            assert_eq!(direct.get_range(&name, 0, 1).await, Err(PortError::Missing), "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_honest_about_every_fault_and_ends_well_when_it_is_repeated() {
    let _running = SERVER.read().await;
    let (settings, direct) = bucket().await;
    join_all(CALLS.iter().map(|call| meet(&settings, &direct, *call))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_passes_is_not_noticed() {
    let _running = SERVER.read().await;
    let (settings, direct) = bucket().await;
    let fates = Fates::default();
    let proxy = fates.proxy(settings.endpoint.as_deref().unwrap()).await;
    let blobs = S3Blobs::open(&config::S3 { endpoint: Some(proxy.url.clone()), ..settings }, bounds(3)).await;
    let passing =
        [Fault::Answer(503, "SlowDown"), Fault::Reset(When::After), Fault::Answer(500, ""), Fault::Truncate];
    for call in CALLS {
        for (nth, pair) in passing.windows(2).enumerate() {
            let name = format!("{call:?}/{nth}");
            if call != Call::Put {
                direct.put_new(&name, &object()).await.unwrap();
            }
            fates.set(pair);
            let answered = ask(&blobs, call, &name).await;
            // A try of which nobody heard was the one that wrote it.
            let is_forwarded = |fault: &Fault| !matches!(fault, Fault::Answer(..));
            let own = call == Call::Put && pair.iter().any(is_forwarded);
            let is_well = answered == Ok(sound(call, &name)) || (own && answered == Err(PortError::Exists));
            assert!(is_well, "{call:?} {pair:?}: {:?}", answered.err());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_may_have_happened_is_uncertain_whatever_later_tries_are_answered() {
    let _running = SERVER.read().await;
    let (settings, direct) = bucket().await;
    let fates = Fates::default();
    let proxy = fates.proxy(settings.endpoint.as_deref().unwrap()).await;
    let blobs = S3Blobs::open(&config::S3 { endpoint: Some(proxy.url.clone()), ..settings }, bounds(3)).await;
    let slow = Fault::Answer(503, "SlowDown");
    fates.set(&[Fault::Late(ANSWER * 2), slow, slow]);
    let answered = blobs.put_new("late", b"x").await;
    assert!(matches!(answered, Err(PortError::Unknown(_))), "{answered:?}");
    // It lands, as it was said it might.
    let landed = async {
        while direct.get_range("late", 0, 9).await != Ok(b"x".to_vec()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), landed).await.expect("it lands");
    assert_eq!(blobs.put_new("late", b"x").await, Err(PortError::Exists));
    // Refusals alone are certain.
    fates.set(&[slow, slow, slow]);
    let answered = blobs.put_new("refused", b"x").await;
    assert!(matches!(answered, Err(PortError::NotDone(_))), "{answered:?}");
    assert_eq!(direct.get_range("refused", 0, 1).await, Err(PortError::Missing));
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_at_start() {
    let _running = SERVER.read().await;
    let (settings, _) = bucket().await;
    // Every PUT is acknowledged, whatever is there.
    let choose = |request: &Message| {
        if request.first_line().starts_with("PUT ") { Fault::Answer(200, "") } else { Fault::Pass }
    };
    let proxy = Proxy::start(settings.endpoint.as_deref().unwrap(), choose).await;
    let blobs = open(&config::S3 { endpoint: Some(proxy.url.clone()), ..settings }).await;
    let told = permanent(blobs.check().await);
    assert!(told.contains("ignores `If-None-Match: *`"), "{told}");
}
