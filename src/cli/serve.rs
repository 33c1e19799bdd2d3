//! A server for tests: answers each request with the canned body of its path and query, from `API.md`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Method, path with query, status, body.
pub(super) type Canned = (&'static str, &'static str, u16, &'static str);

/// A server that answers as many requests as it is asked, until it is dropped.
pub(super) struct Served {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

/// Serves the answers on a free port of this machine; everything else is 404 `unknown-route`.
pub(super) fn serve(answers: &'static [Canned]) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            if request.is_empty() {
                return;
            }
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let request = request.trim_end_matches(" HTTP/1.1").to_owned();
            let found = answers.iter().find(|(method, path, ..)| request == format!("{method} {path}"));
            let route = r#"{"code":"unknown-route","detail":"nothing is served here","hint":"look again"}"#;
            let (status, body) = found.map_or((404, route), |(_, _, status, body)| (*status, *body));
            log.lock().expect("nobody panics with it").push(request);
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body.as_bytes()))
                .expect("a reader");
        }
    });
    Served { url: format!("http://127.0.0.1:{port}"), asked, port, thread: Some(thread) }
}

impl Served {
    /// What was asked, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // An empty request ends the thread.
        drop(std::net::TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}
