//! A keyspace that is dropped, and a backup in another place of the bucket: both come back, the second one
//! into the embedded set-up.

use super::Topic;
use crate::backup::{answers, compared, done, events, fold_all, run, shown};
use crate::process::{Program, command};
use crate::site::{ORDERS, Site, settled};
use scylla::client::session_builder::SessionBuilder;

/// The text between two marks.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

#[test]
fn a_dropped_keyspace_is_rebuilt_and_a_backup_moves_to_the_embedded_set_up() {
    let topic = Topic::new(2, &[]);
    let site = Site::cluster(&topic.named(ORDERS), "checkpoint: { interval: 200ms }", &topic.name);
    let all = events(0);
    let mut worker = site.worker();
    let api = worker.ready();
    fold_all(&site, &api, &all, 0);
    let before = answers(&api);
    worker.stop();
    let config = shown(&site.config());
    let text = std::fs::read_to_string(site.config()).unwrap();
    let (node, keyspace) = (between(&text, "nodes: [\"", "\""), between(&text, "keyspace: ", ","));
    let (bucket, endpoint) = (between(&text, "bucket: ", ","), between(&text, "endpoint: \"", "\""));
    let target = format!("s3://{bucket}/backups-of-it");
    done(&["backup", "--config", &config, &target]);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let session =
            SessionBuilder::new().known_node(node).user("cassandra", "cassandra").build().await.unwrap();
        session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), &[]).await.unwrap();
    });
    done(&["migrate", "--config", &config]);
    let refused = run(&["run", "--config", &config]);
    assert_eq!(refused.code, Some(7), "{refused:?}");
    done(&["rebuild-index", "--config", &config]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, all.len() as u64, true);
    compared(&before, &answers(&api));
    worker.stop();

    let folder = site.config().parent().unwrap().to_owned();
    let stores = text.find("index: {").unwrap()..text.find("\nhttp:").unwrap();
    let path = |name: &str| shown(&folder.join(name));
    let embedded = format!(
        "index: {{ embedded: {{ path: \"{}\" }} }}\nblobs: {{ directory: {{ path: \"{}\" }} }}",
        path("index"),
        path("blobs")
    );
    let there = folder.join("embedded.yaml");
    std::fs::write(&there, format!("{}{embedded}{}", &text[..stores.start], &text[stores.end..])).unwrap();
    let mut restore =
        command(&["restore", "--config", &shown(&there), &target, "--endpoint", endpoint, "--path-style"]);
    restore.env("AWS_ACCESS_KEY_ID", "snapfold").env("AWS_SECRET_ACCESS_KEY", "secretsecret");
    let restored = Program::spawn(restore).end();
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let mut worker = Program::start(&["run", "--config", &shown(&there)]);
    let api = worker.ready();
    settled(&api, all.len() as u64, true);
    compared(&before, &answers(&api));
    worker.stop();
}
