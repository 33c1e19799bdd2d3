//! The HTTP client of the commands that ask a server. Plain HTTP; a body is kept as the bytes that came, so
//! that `-o json` prints them unchanged.
//!
//! *If it fails*: no connection, or none in time, is exit 5; a problem of the API is shown with its code,
//! detail and hint, and its status decides the exit code.

use super::address::Address;
use super::failure::{Done, Exit, Failure};
use super::screen::printable;
use crate::domain::value::{Limits, Object, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::io::{BufRead, BufReader};
use std::time::Duration;
use ureq::Agent;

/// Longest body that is read: far beyond the largest state that a default configuration allows.
const BODY_BYTES_MAX: u64 = 512 << 20;
/// Everything of a body is shown, so the bounds are those of memory.
const LIMITS: Limits =
    Limits { max_bytes: BODY_BYTES_MAX as usize, max_depth: Limits::DEPTH_MAX, max_members: 50_000_000 };
/// A stream that says nothing for so long is dead: it has a comment every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// Most entries that the API gives in one answer.
const PAGE_MAX: u64 = 1_000;
/// Everything but RFC 3986's unreserved characters is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A server.
pub(super) struct Client {
    agent: Agent,
    server: String,
    /// Of which lineage everything is asked; the active one without.
    lineage: Option<u32>,
}

/// A body as it came, and what it says.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) value: Value,
}

/// How a stream of changes ended.
pub(super) enum Told {
    /// Its reader had enough.
    Enough,
    /// The connection broke, or the server was stopped.
    Broken(String),
}

/// The parameters of a question.
pub(super) type Query = Vec<(&'static str, String)>;

/// What pages of a list hold together.
pub(super) struct List {
    /// The only page as it came; none if there were several.
    pub(super) only: Option<Body>,
    /// The entries of all pages.
    pub(super) items: Vec<Value>,
    /// There are more than were asked for.
    pub(super) is_cut: bool,
}

/// How a page of a list is asked for.
type GetPage<'a> = dyn Fn(&[(&'static str, String)]) -> Done<Body> + 'a;

impl Client {
    pub(super) fn new(server: &str) -> Done<Self> {
        if !server.starts_with("http://") {
            let hint = "write `--server http://HOST:PORT`; for TLS put a proxy on this machine";
            return Err(Failure::usage(format!("`{server}` is not the URL of a server"), hint));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy for the internet must not get what is meant for a server next door.
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(300)))
            .user_agent(concat!("snapfold/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.new_agent(), server: server.trim_end_matches('/').to_owned(), lineage: None })
    }

    /// The same, asking about a lineage.
    pub(super) fn within(self, lineage: Option<u32>) -> Self {
        Self { lineage, ..self }
    }

    /// Asks about one aggregate; `route` is what follows its path.
    pub(super) fn get(&self, address: &Address, route: &str, query: &Query) -> Done<Body> {
        let url = self.url(address, route, query);
        let answer = self.agent.get(&url).call().map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// Shows every change after version `seen` as it comes, until `show` says that it is enough.
    pub(super) fn watch(
        &self,
        address: &Address,
        seen: u64,
        show: &mut dyn FnMut(&Value) -> bool,
    ) -> Done<Told> {
        // From the first version on, or after one that was seen, which may be the head.
        let from = if seen == 0 { vec![("fromVersion", "1".to_owned())] } else { Query::new() };
        let request = self.agent.get(self.url(address, "/watch", &from));
        let request = if seen > 0 { request.header("last-event-id", seen.to_string()) } else { request };
        let request = request.config().timeout_global(None).timeout_per_read(Some(SILENCE)).build();
        let mut answer = match request.call() {
            Ok(answer) => answer,
            Err(error) if seen > 0 => return Ok(Told::Broken(error.to_string())),
            Err(error) => return Err(self.unanswered(&error)),
        };
        if answer.status() != 200 {
            return Err(match self.read(answer) {
                Err(failure) => failure,
                Ok(_) => self.foreign("no stream"),
            });
        }
        let (mut kind, mut data) = (String::new(), String::new());
        for line in BufReader::new(answer.body_mut().as_reader()).lines() {
            let line = match line {
                Ok(line) => line,
                Err(error) => return Ok(Told::Broken(error.to_string())),
            };
            match line.split_once(':').map(|(name, value)| (name, value.trim_start())) {
                Some(("event", value)) => value.clone_into(&mut kind),
                Some(("data", value)) => data.push_str(value),
                _ if line.is_empty() && !data.is_empty() => {
                    let value = Value::parse(data.as_bytes(), &LIMITS);
                    let value = value.map_err(|error| self.foreign(&format!("no JSON: {error}")))?;
                    match (&*kind, &value) {
                        ("problem", Value::Object(problem)) => return Err(refused(410, problem)),
                        _ if show(&value) => {}
                        _ => return Ok(Told::Enough),
                    }
                    (kind, data) = (String::new(), String::new());
                }
                _ => {}
            }
        }
        Ok(Told::Broken("the server ended it".to_owned()))
    }

    /// The path of something of one aggregate.
    pub(super) fn path(address: &Address, route: &str) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        format!("/v1/aggregates/{}/{}{route}", encoded(&address.kind), encoded(&address.id))
    }

    /// Asks for what is at a path.
    pub(super) fn get_at(&self, path: &str) -> Done<Body> {
        let url = format!("{}{path}", self.server);
        let answer = self.agent.get(&url).call().map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// Has the server do what a body says.
    pub(super) fn post_at(&self, path: &str, body: &str) -> Done<Body> {
        let url = format!("{}{path}", self.server);
        let answer = self.agent.post(&url).send(body).map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// The path of a schedule, and of what is done with it.
    pub(super) fn schedule(name: &str, call: &str) -> String {
        format!("/v1/schedules/{}{call}", utf8_percent_encode(name, ENCODED))
    }

    /// Has the server keep what a body says.
    pub(super) fn put_at(&self, path: &str, body: &str) -> Done<Body> {
        let url = format!("{}{path}", self.server);
        let answer = self.agent.put(&url).send(body).map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// Has the server remove what is at a path.
    pub(super) fn delete_at(&self, path: &str) -> Done<Body> {
        let url = format!("{}{path}", self.server);
        let answer = self.agent.delete(&url).call().map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// Has the server change what a body names.
    pub(super) fn patch_at(&self, path: &str, body: &str) -> Done<Body> {
        let url = format!("{}{path}", self.server);
        let answer = self.agent.patch(&url).send(body).map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// Has the server delete something of one aggregate.
    pub(super) fn delete(&self, address: &Address, route: &str, query: &Query) -> Done<Body> {
        let url = self.url(address, route, query);
        let answer = self.agent.delete(&url).call().map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// Has the server do something with one aggregate.
    pub(super) fn post(&self, address: &Address, route: &str, query: &Query) -> Done<Body> {
        let url = self.url(address, route, query);
        let answer = self.agent.post(&url).send_empty().map_err(|error| self.unanswered(&error))?;
        self.read(answer)
    }

    /// Follows the pages of a list about one aggregate until it has `limit` entries.
    pub(super) fn list(&self, address: &Address, route: &str, query: &Query, limit: u64) -> Done<List> {
        self.pages(limit, &|page| self.get(address, route, &[query.as_slice(), page].concat()))
    }

    /// The same of any other list.
    pub(super) fn list_at(&self, path: &str, limit: u64) -> Done<List> {
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        self.pages(limit, &|page| {
            let pairs: Vec<String> =
                page.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
            self.get_at(&format!("{path}?{}", pairs.join("&")))
        })
    }

    fn pages(&self, limit: u64, get: &GetPage<'_>) -> Done<List> {
        let (mut items, mut only, mut cursor) = (Vec::new(), None, None::<String>);
        loop {
            let mut query = vec![("limit", (limit - items.len() as u64).min(PAGE_MAX).to_string())];
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let body = get(&query)?;
            let page =
                body.value.get("items").and_then(Value::as_array).ok_or_else(|| self.foreign("no list"))?;
            let is_last = page.is_empty();
            items.extend_from_slice(page);
            cursor = body.value.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            only = if only.is_none() && items.len() == page.len() { Some(body) } else { None };
            if cursor.is_none() || is_last || items.len() as u64 >= limit {
                return Ok(List { only, items, is_cut: cursor.is_some() });
            }
        }
    }

    fn url(&self, address: &Address, route: &str, query: &Query) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let mut url = format!("{}{}", self.server, Self::path(address, route));
        let lineage = self.lineage.map(|lineage| ("lineage", lineage.to_string()));
        for (nth, (name, value)) in query.iter().chain(&lineage).enumerate() {
            url.push(if nth == 0 { '?' } else { '&' });
            url.push_str(&format!("{name}={}", encoded(value)));
        }
        url
    }

    fn read(&self, mut answer: ureq::http::Response<ureq::Body>) -> Done<Body> {
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        let bytes = body.map_err(|error| self.unanswered(&error))?;
        let value = Value::parse(&bytes, &LIMITS);
        match (status, value) {
            (200..=299, Ok(value)) => Ok(Body { bytes, value }),
            (200..=299, Err(error)) => Err(self.foreign(&format!("no JSON: {error}"))),
            (_, Ok(Value::Object(problem))) if problem.contains_key("code") => Err(refused(status, &problem)),
            _ => Err(self.foreign(&format!("status {status} without a problem of the API"))),
        }
    }

    /// Something answers, but not as a server of ours does.
    fn foreign(&self, what: &str) -> Failure {
        let hint = "is that the address of a snapfold server? set it with `--server` or SNAPFOLD_SERVER";
        Failure::new(Exit::Failure, format!("{} answered {what}", self.server)).hint(hint)
    }

    fn unanswered(&self, error: &ureq::Error) -> Failure {
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed => {
                let hint = "start one with `snapfold dev` or `snapfold run --config FILE`, or name another with \
                            `--server URL` or SNAPFOLD_SERVER";
                Failure::new(Exit::Unreachable, format!("no answer from {}: {error}", self.server)).hint(hint)
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                let message = format!("`{}` is not the URL of a server: {error}", self.server);
                Failure::usage(message, "write `--server http://HOST:PORT`")
            }
            _ => self.foreign(&error.to_string()),
        }
    }
}

/// A problem of the API.
fn refused(status: u16, problem: &Object) -> Failure {
    let text = |name| problem.get(name).and_then(Value::as_str).map(printable);
    let exit = match status {
        400 | 405 | 422 => Exit::Usage,
        404 | 410 => Exit::NotFound,
        409 => Exit::Conflict,
        429 | 502..=504 => Exit::Unreachable,
        _ => Exit::Failure,
    };
    let (code, detail) = (text("code").unwrap_or_default(), text("detail").unwrap_or_default());
    Failure { exit, message: format!("{code}: {detail}"), hint: text("hint") }
}
