//! An HTTP/1.1 proxy on loopback that does to requests what networks, balancers and overloaded servers do to them.
//! It stands between a client of ours and a real server; the test chooses the fate of every request. Used by tests of
//! the library (`src/testing.rs`) as well as by `tests/it`.
//!
//! It knows just enough of HTTP: bodies with a length or in chunks, connections that are kept. Requests are forwarded
//! byte for byte (signatures cover the host), each over a connection of its own; answers get a `Content-Length`.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: it is forwarded and answered.
    Pass,
    /// It is answered with this status without being forwarded; with a body as S3 has it, unless the code is empty.
    Answer(u16, &'static str),
    /// The connection stays open, and nothing more comes.
    Stall(When),
    /// The connection is reset.
    Reset(When),
    /// Half of the answer, then the connection is closed.
    Truncate,
    /// Half of the answer's body with a `Content-Length` that fits.
    Shorten,
    /// One bit in the middle of the answer's body is another.
    FlipAnswer,
    /// One bit in the middle of the request's body is another.
    FlipRequest,
    /// It is forwarded after this time, and never answered.
    Late(Duration),
}

/// When a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The request was received, and is not forwarded.
    Before,
    /// It was forwarded, and half of the answer was sent.
    Within,
    /// It was forwarded, and nothing of the answer was sent.
    After,
}

/// A message: a request or an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// First line and headers, with the empty line that ends them.
    head: Vec<u8>,
    /// Without what `chunked` adds.
    body: Vec<u8>,
    /// The bytes as they came.
    raw: Vec<u8>,
}

impl Message {
    /// The first line.
    pub(crate) fn first_line(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }

    fn header(&self, name: &str) -> Option<String> {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let named = |line: &str| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.lines().find_map(named)
    }

    /// The answer with this body, so that its length is told rightly.
    fn with_body(&self, body: &[u8]) -> Vec<u8> {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let is_framing = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            !["content-length", "transfer-encoding", "connection"]
                .contains(&name.to_ascii_lowercase().as_str())
        };
        let mut whole = String::new();
        for line in head.lines().filter(|line| !line.is_empty()).filter(is_framing) {
            whole.push_str(line);
            whole.push_str("\r\n");
        }
        if !self.has_no_body() {
            whole.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        whole.push_str("\r\n");
        [whole.as_bytes(), body].concat()
    }

    /// Answers that never have a body.
    fn has_no_body(&self) -> bool {
        [" 204", " 304", " 1"]
            .iter()
            .any(|status| self.first_line().starts_with(&format!("HTTP/1.1{status}")))
    }
}

/// A running proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    /// Its URL.
    pub(crate) url: String,
    accepting: JoinHandle<()>,
}

type Choose = Arc<Mutex<dyn FnMut(&Message) -> Fault + Send>>;

impl Proxy {
    /// Forwards to `upstream` (`http://HOST:PORT`) what `choose` does not have another fate for.
    pub(crate) async fn start(
        upstream: &str,
        choose: impl FnMut(&Message) -> Fault + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("it is bound");
        let upstream: Arc<str> =
            upstream.strip_prefix("http://").expect("an `http` URL").trim_matches('/').into();
        let choose: Choose = Arc::new(Mutex::new(choose));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, choose) = (Arc::clone(&upstream), Arc::clone(&choose));
                connections.spawn(async move {
                    // Whoever is at either end may go away at any time.
                    let _ = serve(client, &upstream, &choose).await;
                });
            }
        });
        Self { url: format!("http://{address}"), accepting }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Requests of one connection, one after the other.
async fn serve(mut client: TcpStream, upstream: &Arc<str>, choose: &Choose) -> io::Result<()> {
    let mut rest = Vec::new();
    loop {
        let mut request = receive(&mut client, &mut rest, None).await?;
        let fault = (choose.lock().expect("no test panics while it chooses"))(&request);
        match fault {
            Fault::Answer(status, code) => {
                client.write_all(&answer(status, code)).await?;
                continue;
            }
            Fault::Stall(When::Before) => return forever().await,
            Fault::Reset(When::Before) => return reset(client),
            Fault::Late(delay) => {
                let upstream = Arc::clone(upstream);
                // On its own: the client gives up long before.
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    forward(&upstream, &request).await
                });
                return forever().await;
            }
            Fault::FlipRequest if !request.body.is_empty() => {
                let at = request.raw.len() - request.body.len() / 2 - 1;
                request.raw[at] ^= 1;
            }
            _ => {}
        }
        let answer = forward(upstream, &request).await?;
        let whole = answer.with_body(&answer.body);
        // Half of the body, or of the head where there is none.
        let kept = if answer.body.is_empty() {
            whole.len() / 2
        } else {
            whole.len() - answer.body.len().div_ceil(2)
        };
        let half = &whole[..kept];
        match fault {
            Fault::Stall(When::After) => return forever().await,
            Fault::Reset(When::After) => return reset(client),
            Fault::Stall(When::Within) => {
                client.write_all(half).await?;
                return forever().await;
            }
            Fault::Reset(When::Within) => {
                client.write_all(half).await?;
                return reset(client);
            }
            Fault::Truncate => return client.write_all(half).await,
            Fault::Shorten => {
                client.write_all(&answer.with_body(&answer.body[..answer.body.len() / 2])).await?
            }
            Fault::FlipAnswer => {
                let mut body = answer.body.clone();
                let middle = body.len() / 2;
                if let Some(byte) = body.get_mut(middle) {
                    *byte ^= 1;
                }
                client.write_all(&answer.with_body(&body)).await?;
            }
            _ => client.write_all(&whole).await?,
        }
    }
}

/// What the server behind answers.
async fn forward(upstream: &str, request: &Message) -> io::Result<Message> {
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request.raw).await?;
    let mut rest = Vec::new();
    loop {
        let answer = receive(&mut server, &mut rest, Some(&request.first_line())).await?;
        if !answer.first_line().starts_with("HTTP/1.1 1") {
            return Ok(answer);
        }
    }
}

/// Reads a message; `to` is the first line of the request that it answers. `rest` keeps what came behind it.
async fn receive(stream: &mut TcpStream, rest: &mut Vec<u8>, to: Option<&str>) -> io::Result<Message> {
    let mut message = Message::default();
    let end = loop {
        if let Some(at) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, rest).await?;
    };
    message.head = rest[..end].to_vec();
    let is_head = to.is_some_and(|line| line.starts_with("HEAD "));
    let mut at = end;
    if is_head || (to.is_some() && message.has_no_body()) {
    } else if message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = loop {
                match rest[at..].windows(2).position(|bytes| bytes == b"\r\n") {
                    Some(len) => break len,
                    None => more(stream, rest).await?,
                }
            };
            let size = String::from_utf8_lossy(&rest[at..at + line]).into_owned();
            let size = size.split(';').next().unwrap_or_default();
            let len = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            at += line + 2;
            while rest.len() < at + len + 2 {
                more(stream, rest).await?;
            }
            message.body.extend_from_slice(&rest[at..at + len]);
            at += len + 2;
            if len == 0 {
                break;
            }
        }
    } else {
        let len: usize = message.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while rest.len() < end + len {
            more(stream, rest).await?;
        }
        at = end + len;
        message.body = rest[end..at].to_vec();
    }
    message.raw = rest.drain(..at).collect();
    Ok(message)
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// An answer of the proxy itself.
fn answer(status: u16, code: &str) -> Vec<u8> {
    let error =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a fault</Message></Error>");
    let body = if code.is_empty() { "" } else { &error };
    format!("HTTP/1.1 {status} Fault\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Until the proxy ends.
async fn forever() -> io::Result<()> {
    std::future::pending().await
}

/// Closes a connection so that the other end hears of an error, not of an end.
fn reset(client: TcpStream) -> io::Result<()> {
    client.set_zero_linger()?;
    drop(client);
    Ok(())
}
