//! TLS and SASL: passed through to librdkafka, tried on the real broker.

use super::Topic;
use crate::kill::story;
use crate::servers;
use crate::site::{ORDERS, Site, settled};
use crate::truth::repository;

fn authority() -> String {
    servers::start("kafka");
    repository("target/servers/kafka/tls/ca.pem").display().to_string()
}

fn properties<'a>(mechanism: &'a str, password: &'a str, ca: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", "snapfold"),
        ("sasl.password", password),
        ("ssl.ca.location", ca),
    ]
}

#[test]
fn workers_log_in_over_tls_with_scram_and_plain() {
    let ca = authority();
    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        let topic = Topic::new(2, &[]);
        let site = Site::secured(&topic.named(ORDERS), &topic.name, &properties(mechanism, "secret", &ca));
        site.send(&story(5, 400, 2, 0).0);
        let mut worker = site.worker();
        let api = worker.ready();
        settled(&api, 400, true);
        worker.stop();
    }
}

/// The first complaint of a worker that cannot log in.
fn refused(properties: &[(&str, &str)]) -> String {
    let topic = Topic::new(1, &[]);
    let site = Site::secured(&topic.named(ORDERS), &topic.name, properties);
    let ended = site.worker().end();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(!ended.err.contains("not-the-word"), "the password is told: {}", ended.err);
    ended.err
}

#[test]
fn a_wrong_password_and_a_broker_that_cannot_be_trusted_are_told() {
    let ca = authority();
    let err = refused(&properties("SCRAM-SHA-256", "not-the-word", &ca));
    assert!(err.contains("uthentication failed"), "{err}");
    // Some other authority: the broker's own certificate signs nothing.
    let other = repository("target/servers/kafka/tls/broker.pem").display().to_string();
    let err = refused(&properties("SCRAM-SHA-256", "secret", &other));
    assert!(err.contains("certificate verify failed"), "{err}");
}
