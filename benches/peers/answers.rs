//! What snapfold answers over HTTP, one question after the other on one connection.

use super::fail;
use snapfold::telemetry::stopwatch::Stopwatch;
use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::time::Duration;
use ureq::Agent;

/// A server.
pub(super) struct Server<'a> {
    agent: Agent,
    url: &'a str,
}

impl<'a> Server<'a> {
    pub(super) fn new(url: &'a str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        Self { agent: config.new_agent(), url }
    }

    /// The status of an answer; 0 where none came.
    pub(super) fn status(&self, id: &str, selector: &str) -> u16 {
        let url = format!("{}/v1/aggregates/order/{id}/state{selector}", self.url);
        let Ok(mut answer) = self.agent.get(&url).call() else { return 0 };
        // A body that ends early is no answer.
        let is_whole = answer.body_mut().read_to_vec().is_ok();
        if is_whole { answer.status().as_u16() } else { 0 }
    }

    /// The body of an answer; none where there is no such aggregate or version.
    pub(super) fn state(&self, id: &str, selector: &str) -> Option<String> {
        let url = format!("{}/v1/aggregates/order/{id}/state{selector}", self.url);
        let mut answer = match self.agent.get(&url).call() {
            Ok(answer) => answer,
            Err(error) => fail(&format!("ask {url}: {error}")),
        };
        let status = answer.status().as_u16();
        let body = match answer.body_mut().read_to_string() {
            Ok(body) => body,
            Err(error) => fail(&format!("read the answer of {url}: {error}")),
        };
        match status {
            200 => Some(body),
            404 => None,
            _ => fail(&format!("{url}: {status} {body}")),
        }
    }
}

/// Prints the answers for every `step`-th aggregate that there is.
pub(super) fn states(url: &str, aggregates: usize, step: usize) {
    let server = Server::new(url);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for number in (0..aggregates).step_by(step) {
        let id = format!("order-{number:08}");
        if let Some(body) = server.state(&id, "") {
            writeln!(out, "{id}\t{body}").expect("somebody reads");
        }
    }
    out.flush().expect("somebody reads");
}

/// Asks for states of aggregates in a file that `states` has written, of another third of them for the head,
/// for a version at random and for a time; right afterwards the same again. The server should have been
/// started anew: then it has read nothing of an aggregate before its first question.
///
/// Prints lines `KIND first|again COUNT MEDIAN P99`, in milliseconds.
pub(super) fn latency(url: &str, file: &str, questions: usize) {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => fail(&format!("read `{file}`: {error}")),
    };
    let known: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| {
            let (id, body) = line.split_once('\t')?;
            let answer: serde_json::Value = serde_json::from_str(body).ok()?;
            Some((id, answer.get("version")?.as_u64()?))
        })
        .collect();
    let server = Server::new(url);
    let stride = (known.len() / (3 * questions)).max(1);
    let mut chosen = known.iter().step_by(stride);
    let mut out = String::new();
    for kind in ["head", "version", "time"] {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for (at, (id, head)) in chosen.by_ref().take(questions).enumerate() {
            // Spreads over all versions, and over the minute that the events are said to happen in.
            let random = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            let selector = match kind {
                "head" => String::new(),
                "version" => format!("?version={}", 1 + random % head),
                _ => format!("?at=2026-11-24T10:00:{:02}Z", 1 + random % 59),
            };
            for times in [&mut first, &mut again] {
                let begun = Stopwatch::start();
                if server.state(id, &selector).is_some() {
                    times.push(begun.ms());
                }
            }
        }
        for (name, mut times) in [("first", first), ("again", again)] {
            times.sort_by(f64::total_cmp);
            let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(f64::NAN);
            writeln!(out, "{kind} {name} {} {:.3} {:.3}", times.len(), at(50), at(99))
                .expect("a String takes all that is written");
        }
    }
    print!("{out}");
}
