//! What the process has used, as Linux tells it; zero where there is no `/proc`.

use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::Duration;

/// Ticks of `/proc/*/stat` in a second; the same on every Linux that Rust's standard library runs on.
const TICKS: f64 = 100.0;

/// Processor time and memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Of all threads, user and system.
    pub(crate) processor: Duration,
    /// Peak of resident memory in MiB, since the process started.
    pub(crate) peak_mib: u64,
    /// Seconds of the threads that were running, by name.
    pub(crate) threads: Vec<(String, f64)>,
}

impl Usage {
    /// Up to now.
    pub(crate) fn now() -> Self {
        Self { processor: clock(ClockId::ProcessCPUTime), peak_mib: peak_mib(), threads: Vec::new() }
    }

    /// What came after `before`.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self { processor: self.processor - before.processor, ..self }
    }
}

/// Processor time of the thread that asks.
pub(crate) fn this_thread() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).expect("processor time is not negative")
}

/// Seconds of processor time of the threads that are running, by name, most first.
pub(crate) fn threads() -> Vec<(String, f64)> {
    let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for text in tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()) {
        // Its second field is the name in brackets, which may hold anything.
        let Some((head, rest)) = text.rsplit_once(')') else { continue };
        let name = head.split_once('(').map_or(head, |(_, name)| name);
        let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
        if let [user, system] = fields[11..13] {
            *by_name.entry(name.to_owned()).or_default() += (user + system) / TICKS;
        }
    }
    let mut threads: Vec<(String, f64)> = by_name.into_iter().collect();
    threads.sort_by(|a, b| b.1.total_cmp(&a.1));
    threads
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).map_or(0, |kib: u64| kib / 1024)
}

/// The machine's load of the last minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Seconds of processor time of children that have ended.
pub(crate) fn children() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
        / TICKS
}
