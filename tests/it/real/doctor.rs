//! `doctor` on the real servers: the settings of topics that only a real broker tells, rights and clocks.

use super::Topic;
use crate::doctor::{came, doctor};
use crate::site::{ORDERS, Site};

#[test]
fn what_doctor_says_of_a_topic_follows_its_settings() {
    let topic = Topic::new(2, &[("retention.ms", "60000")]);
    let site = Site::on_kafka(&topic.named(ORDERS), "", &topic.name);
    let (told, code) = doctor(&site.config());
    assert_eq!((came(&told, "order.retention").as_str(), code), ("fail", Some(4)), "{told}");
    topic.admin.set(&topic.name, "retention.ms", "604800000");
    let (told, code) = doctor(&site.config());
    assert_eq!((came(&told, "order.retention").as_str(), code), ("ok", Some(0)), "{told}");
    assert_eq!(came(&told, "order.sizes"), "warn", "brokers take 10 MB by default: {told}");
    topic.admin.set(&topic.name, "max.message.bytes", "1048588");
    let (told, _) = doctor(&site.config());
    for check in ["order.compaction", "order.timestamps", "order.sizes", "order.group"] {
        assert_eq!(came(&told, check), "ok", "{check}: {told}");
    }
    topic.admin.set(&topic.name, "message.timestamp.type", "LogAppendTime");
    assert_eq!(came(&doctor(&site.config()).0, "order.timestamps"), "warn");
    topic.admin.set(&topic.name, "cleanup.policy", "compact");
    let (told, code) = doctor(&site.config());
    assert_eq!((came(&told, "order.compaction").as_str(), code), ("fail", Some(4)), "{told}");
    topic.admin.delete(&topic.name);
    let (told, code) = doctor(&site.config());
    assert_eq!((came(&told, "order.topic").as_str(), code), ("fail", Some(4)), "{told}");
}

#[test]
fn real_stores_are_written_read_and_deleted_in() {
    let topic = Topic::new(1, &[]);
    let site = Site::cluster(&topic.named(ORDERS), "", &topic.name);
    let (told, _) = doctor(&site.config());
    for check in ["index", "blobs", "blobs.checksums", "blobs.clock", "dictionaries", "order.coverage"] {
        assert_eq!(came(&told, check), "ok", "{check}: {told}");
    }
    let config = site.config();
    let text = std::fs::read_to_string(&config).unwrap();
    let other = config.with_file_name("other.yaml");
    std::fs::write(&other, text.replace("bucket: it-", "bucket: nowhere-")).unwrap();
    let (told, code) = doctor(&other);
    assert_eq!((came(&told, "blobs").as_str(), code), ("fail", Some(4)), "{told}");
}
