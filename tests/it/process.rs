//! The binary as a child process: what it says, what its API answers, how it ends.
//!
//! INVARIANT: every wait is bounded, and a child is killed by its id when its [`Program`] is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The binary that is tested.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_snapfold"))
}

/// A command of the binary that sees no setting of whoever runs the tests.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("SNAPFOLD")) {
            command.env_remove(name);
        }
    }
    command
}

/// Asks until the answer is yes.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(LOOK);
    }
}

/// A running child.
pub(crate) struct Program {
    child: Child,
    out: Said,
    err: Said,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What a child has written to one of its outputs so far.
struct Said {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Said {
    fn listen(from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn now(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.now()
    }
}

impl Program {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(command(args))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Said::listen(child.stdout.take().unwrap());
        let err = Said::listen(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// Writes to its standard input, which must be piped, and closes it.
    pub(crate) fn pour(&mut self, bytes: &[u8]) {
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(bytes).unwrap();
    }

    pub(crate) fn out(&self) -> String {
        self.out.now()
    }

    pub(crate) fn err(&self) -> String {
        self.err.now()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Where its API listens, once it says so.
    pub(crate) fn url(&mut self) -> String {
        let mut found = None;
        until("an address to serve on", || {
            let ended = self.ended();
            let err = self.err();
            let line = err.lines().find_map(|line| line.strip_prefix("serving on "));
            found = line.map(|line| line.split(';').next().unwrap_or(line).to_owned());
            assert!(found.is_some() || ended.is_none(), "it ended, {ended:?}: {err}");
            // What it says comes in lines: one without its end may be cut.
            found.is_some()
        });
        found.unwrap()
    }

    /// Its API, once it is ready.
    pub(crate) fn ready(&mut self) -> Api {
        let api = Api::new(&self.url());
        let mut last = String::new();
        until("readiness", || {
            let ended = self.ended();
            assert!(ended.is_none(), "it ended, {ended:?}: {}", self.err());
            match api.get("/readyz?verbose=true") {
                Ok(answer) if answer.status == 200 => true,
                other => {
                    let now = format!("{other:?}");
                    if now != last {
                        last = now;
                    }
                    false
                }
            }
        });
        api
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The most memory that it has had.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// As Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Stops it where it is, as a pause of the machine does.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self) -> Ended {
        let mut status = None;
        until("the end of the process", || {
            status = self.ended();
            status.is_some()
        });
        Ended { code: status.unwrap().code(), out: self.out.all(), err: self.err.all() }
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(self) -> Ended {
        self.interrupt();
        let ended = self.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may be gone already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that keeps its connection.
pub(crate) struct Api {
    agent: ureq::Agent,
    pub(crate) url: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Api {
    pub(crate) fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        Self { agent: config.new_agent(), url: url.to_owned() }
    }

    /// An error is that of the connection.
    pub(crate) fn get(&self, path: &str) -> Result<Reply, String> {
        let answer = self.agent.get(format!("{}{path}", self.url)).call();
        Self::read(answer)
    }

    pub(crate) fn post(&self, path: &str) -> Result<Reply, String> {
        Self::read(self.agent.post(format!("{}{path}", self.url)).send_empty())
    }

    /// `POST`, `PATCH`, `PUT` or `DELETE`, all but the last with a body.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Reply {
        let url = format!("{}{path}", self.url);
        let answer = match method {
            "POST" => self.agent.post(url).send(body),
            "PATCH" => self.agent.patch(url).send(body),
            "PUT" => self.agent.put(url).send(body),
            "DELETE" => self.agent.delete(url).call(),
            other => panic!("{other}"),
        };
        Self::read(answer).unwrap()
    }

    fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply, String> {
        let mut answer = answer.map_err(|error| error.to_string())?;
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_string();
        Ok(Reply { status: answer.status().as_u16(), body: body.map_err(|error| error.to_string())? })
    }

    /// A figure of the scrape, summed over its labels.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap().body;
        let of = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = text.lines().filter(|line| of(line)).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    }
}

/// The job that was started, at its end.
pub(crate) fn job(api: &Api, started: &Reply) -> serde_json::Value {
    assert_eq!(started.status, 202, "{}", started.body);
    let path = format!("/v1/jobs/{}", started.json()["jobId"].as_str().unwrap());
    let mut job = serde_json::Value::Null;
    until("the job ends", || {
        job = api.get(&path).unwrap().json();
        job["status"] != "running"
    });
    job
}
