//! A registry that answers as it should not, one that goes and comes, and a real one.

use super::*;
use crate::clock::SystemClock;
use crate::domain::value::Limits;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

const STRING: &str = r#"{"schema":"\"string\""}"#;

/// Copies in memory.
#[derive(Default)]
struct Copies(Mutex<BTreeMap<String, Vec<u8>>>);

impl SchemaCopies for Copies {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, PortResult<Option<Vec<u8>>>> {
        std::future::ready(Ok(self.0.lock().unwrap().get(id).cloned())).boxed()
    }

    fn put<'a>(&'a self, id: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        let before = self.0.lock().unwrap().insert(id.to_owned(), bytes.to_vec());
        std::future::ready(if before.is_some() { Err(PortError::Exists) } else { Ok(()) }).boxed()
    }
}

/// Answers what it was told to by path, and remembers what it was asked.
struct Server {
    url: String,
    answers: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, answers: Arc::default(), asked: Arc::default(), stop: Arc::default() };
        let (answers, asked, stop) = (server.answers.clone(), server.asked.clone(), server.stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                answer(stream.unwrap(), &answers, &asked);
            }
        });
        server
    }

    fn answer(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_owned()));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

type Answers = Mutex<BTreeMap<String, (u16, String)>>;

fn answer(mut stream: TcpStream, answers: &Answers, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let Ok(count @ 1..) = stream.read(&mut buffer) else { return };
        head.extend_from_slice(&buffer[..count]);
    }
    let head = String::from_utf8(head).unwrap();
    asked.lock().unwrap().push(head.clone());
    let path = head.split_whitespace().nth(1).unwrap().split('?').next().unwrap();
    let (status, body) = answers.lock().unwrap().get(path).cloned().unwrap_or((404, "{}".to_owned()));
    let length = body.len();
    let _ =
        write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.shutdown(Shutdown::Both);
}

fn registry(url: &str, copies: &Arc<Copies>) -> Arc<Registry> {
    let settings = RegistrySettings { url: url.to_owned(), login: None };
    let copies = Arc::clone(copies) as Arc<dyn SchemaCopies>;
    Registry::new(&settings, copies, Arc::new(SystemClock::start())).unwrap()
}

async fn fetch(registry: &Registry, id: u32) -> Result<(), String> {
    registry.fetch(vec![SchemaId::Number(id)]).await.map_err(|error| error.to_string())
}

/// Until it answers as it should.
async fn fetched(registry: &Registry, id: u32) {
    let clock = SystemClock::start();
    while fetch(registry, id).await.is_err() {
        assert!(clock.monotonic_ms() < 30_000, "schema {id} does not become known");
        clock.sleep(50).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_told_and_asked_for_again() {
    let server = Server::start();
    let copies = Arc::new(Copies::default());
    let registry = registry(&server.url, &copies);
    let path = |id: u32| format!("/schemas/ids/{id}");
    server.answer(&path(1), 500, r#"{"error_code":50001,"message":"store is down"}"#);
    server.answer(&path(2), 200, "<html>welcome</html>");
    server.answer(&path(3), 404, r#"{"error_code":40403,"message":"Schema not found"}"#);
    server.answer(&path(4), 200, r#"{"schemaType":"PROTOBUF","schema":"syntax = \"proto3\";"}"#);
    server.answer(&path(5), 200, r#"{"schemaType":"JSON","schema":"{}"}"#);
    server.answer(&path(6), 200, r#"{"schema":"{}"}"#);
    server.answer(&path(7), 401, "{}");
    server.answer(&path(8), 200, "{}");
    let told = [
        "store is down",
        "no schema registry",
        "does not know it",
        "PROTOBUF",
        "JSON",
        "no Avro schema",
        "refuses us",
        "fails",
    ];
    for (id, says) in (1..).zip(told) {
        let why = fetch(&registry, id).await.unwrap_err();
        assert!(why.contains(says) && why.contains(&format!("schema id {id}")), "{why}");
        assert!(registry.get(SchemaId::Number(id)).is_none());
    }
    assert!(copies.0.lock().unwrap().is_empty(), "what is no schema is not kept");
    // Not asked again at once, whoever wants it.
    let asked = server.asked().len();
    for id in 1..=8 {
        fetch(&registry, id).await.unwrap_err();
    }
    assert_eq!(server.asked().len(), asked);
    for id in 1..=8 {
        server.answer(&path(id), 200, STRING);
        fetched(&registry, id).await;
        assert!(registry.get(SchemaId::Number(id)).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_asked_for_once_and_kept_without_the_registry() {
    let server = Server::start();
    let copies = Arc::new(Copies::default());
    server.answer("/schemas/ids/7", 200, STRING);
    {
        let registry = registry(&server.url, &copies);
        // Whoever gives up waiting does not end the fetching.
        let silence = server.answers.lock().unwrap();
        assert!(registry.fetch(vec![SchemaId::Number(7)]).now_or_never().is_none());
        drop(silence);
        let many = (0..20).map(|_| registry.fetch(vec![SchemaId::Number(7)]));
        assert!(join_all(many).await.into_iter().all(|done| done.is_ok()));
        assert_eq!(server.asked().len(), 1);
    }
    let url = server.url.clone();
    drop(server);
    let late = registry(&url, &copies);
    fetch(&late, 7).await.unwrap();
    let datum = late.get(SchemaId::Number(7)).unwrap().decode(b"\x02a", &Limits::default()).unwrap();
    assert_eq!(datum.value.to_json(), r#""a""#);
    let why = fetch(&late, 8).await.unwrap_err();
    assert!(why.contains(&url), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_damaged_gives_way_to_the_registry() {
    let server = Server::start();
    let copies = Arc::new(Copies::default());
    server.answer("/schemas/ids/7", 200, STRING);
    fetch(&registry(&server.url, &copies), 7).await.unwrap();
    let whole = copies.0.lock().unwrap()["7"].clone();
    for damage in [whole.len() / 2, whole.len() - 4, 0] {
        let mut damaged = whole.clone();
        damaged[damage] ^= 1;
        copies.0.lock().unwrap().insert("7".to_owned(), damaged);
        let asked = server.asked().len();
        fetch(&registry(&server.url, &copies), 7).await.unwrap();
        assert_eq!(server.asked().len(), asked + 1, "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_told_apart_by_uuid_and_come_with_what_they_refer_to() {
    let server = Server::start();
    let copies = Arc::new(Copies::default());
    let registry = registry(&server.url, &copies);
    let ids = [[1_u8; 16], [2; 16]].map(SchemaId::Guid);
    let reference = |name: &str| format!(r#"{{"name":"{name}","subject":"{name}","version":1}}"#);
    server.answer(&format!("/schemas/guids/{}", ids[0]), 200, r#"{"schema":"\"long\""}"#);
    let outer = format!(r#"{{"schema":"\"B\"","references":[{}]}}"#, reference("B"));
    server.answer(&format!("/schemas/guids/{}", ids[1]), 200, &outer);
    let middle = r#"{\"type\":\"record\",\"name\":\"B\",\"fields\":[{\"name\":\"a\",\"type\":\"A\"}]}"#;
    let middle = format!(r#"{{"id":5,"schema":"{middle}","references":[{}]}}"#, reference("A"));
    server.answer("/subjects/B/versions/1", 200, &middle);
    let inner = r#"{"id":6,"schema":"{\"type\":\"enum\",\"name\":\"A\",\"symbols\":[\"X\"]}"}"#;
    server.answer("/subjects/A/versions/1", 200, inner);
    registry.fetch(ids.to_vec()).await.unwrap();
    let read = |registry: &Registry, id, bytes| {
        registry.get(id).unwrap().decode(bytes, &Limits::default()).unwrap().value.to_json()
    };
    assert_eq!(read(&registry, ids[0], b"\x02"), "1");
    assert_eq!(read(&registry, ids[1], b"\x00"), r#"{"a":"X"}"#);
    let (url, asked) = (server.url.clone(), server.asked().len());
    let late = self::registry(&url, &copies);
    late.fetch(ids.to_vec()).await.unwrap();
    assert_eq!(read(&late, ids[1], b"\x00"), r#"{"a":"X"}"#);
    assert_eq!(server.asked().len(), asked, "copies are whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_logs_in_and_the_password_is_shown_to_nobody() {
    let server = Server::start();
    let login = Login { username: "reader".to_owned(), password: "hunter2".to_owned() };
    let settings = RegistrySettings { url: server.url.clone(), login: Some(login) };
    let copies = Arc::new(Copies::default());
    let registry = Registry::new(&settings, copies, Arc::new(SystemClock::start())).unwrap();
    let why = fetch(&registry, 1).await.unwrap_err();
    let asked = server.asked().join("").to_ascii_lowercase();
    let expected = data_encoding::BASE64.encode(b"reader:hunter2").to_ascii_lowercase();
    assert!(asked.contains(&format!("authorization: basic {expected}")), "{asked}");
    assert!(!format!("{why}{registry:?}").contains("hunter2"));
}

/// Goal: what a real registry answers is understood. Method: Apicurio, with its API for Confluent's clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_gives_schemas_and_what_they_refer_to() {
    let url = crate::testing::server("registry");
    let copies = Arc::new(Copies::default());
    let registry = registry(&url, &copies);
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    let register = |subject: &str, body: serde_json::Value| {
        let response = agent
            .post(format!("{url}/subjects/{subject}/versions"))
            .header("Content-Type", "application/vnd.schemaregistry.v1+json")
            .send(body.to_string());
        let answer = response.unwrap().body_mut().read_to_string().unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
    };
    let money =
        r#"{"type":"record","name":"Money","namespace":"lib","fields":[{"name":"cents","type":"long"}]}"#;
    let first = register("lib-money", serde_json::json!({ "schema": money }));
    let line = r#"{"type":"record","name":"lib.Line","fields":[{"name":"price","type":"lib.Money"}]}"#;
    let references = [serde_json::json!({ "name": "lib.Money", "subject": "lib-money", "version": 1 })];
    let second = register("lib-line", serde_json::json!({ "schema": line, "references": references }));
    let proto = "syntax = \"proto3\"; message M { string a = 1; }";
    let third = register("lib-proto", serde_json::json!({ "schema": proto, "schemaType": "PROTOBUF" }));
    fetch(&registry, first).await.unwrap();
    fetch(&registry, second).await.unwrap();
    let datum = registry.get(SchemaId::Number(second)).unwrap().decode(b"\x0a", &Limits::default()).unwrap();
    assert_eq!(datum.value.to_json(), r#"{"price":{"cents":5}}"#);
    let why = fetch(&registry, third).await.unwrap_err();
    assert!(why.contains("PROTOBUF"), "{why}");
    let why = fetch(&registry, 4_000_000).await.unwrap_err();
    assert!(why.contains("does not know it"), "{why}");
}
