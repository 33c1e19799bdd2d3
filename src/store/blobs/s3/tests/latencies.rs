//! How long calls take on the loopback server; measured only when asked for (docs/benchmarks.md).

use super::*;

/// Milliseconds in which half, and 99 of 100, of the calls were answered.
async fn measured<F: Future<Output = ()>>(what: &str, calls: usize, call: impl Fn(usize) -> F) {
    // The clock of the product tells milliseconds, too coarse for one call.
    let clock = tokio::time::Instant::now();
    let mut took = Vec::with_capacity(calls);
    for nth in 0..calls {
        let before = clock.elapsed();
        call(nth).await;
        took.push(clock.elapsed() - before);
    }
    took.sort();
    let at = |share: usize| took[(calls * share / 100).min(calls - 1)].as_secs_f64() * 1_000.0;
    println!("{what:<32} p50 {:7.1} ms   p99 {:7.1} ms   of {calls}", at(50), at(99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: docs/benchmarks.md has the command"]
async fn latencies() {
    let _running = SERVER.read().await;
    let (_, blobs) = bucket().await;
    let blobs = &blobs;
    let mut bytes = vec![0; 8 << 20];
    getrandom::fill(&mut bytes).expect("random numbers");
    let bytes = &bytes;
    let put = |size: usize| {
        move |nth: usize| async move { blobs.put_new(&format!("{size}/{nth}"), &bytes[..size]).await.unwrap() }
    };
    measured("PUT of 1 MiB", 200, put(1 << 20)).await;
    measured("PUT of 8 MiB", 100, put(8 << 20)).await;
    let range = |nth: usize| async move {
        let (name, start) = (format!("{}/{}", 8 << 20, nth % 100), (nth as u64 * 7_919_999) % (8 << 20));
        blobs.get_range(&name, start.min((8 << 20) - (64 << 10)), 64 << 10).await.unwrap();
    };
    measured("GET of 64 KiB out of 8 MiB", 1_000, range).await;
}
