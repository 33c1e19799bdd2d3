//! On Apache Kafka itself: what the mock cluster cannot do, and that what works on the mock works here.

mod log;
mod secure;

use crate::servers::{self, Admin};

/// The plain and the secure address of the broker.
fn kafka() -> (String, String) {
    let address = servers::start("kafka");
    let (plain, secure) = address.split_once(' ').expect("two addresses");
    (plain.to_owned(), secure.to_owned())
}

/// A topic of its own on the real broker.
struct Topic {
    name: String,
    admin: Admin,
}

impl Topic {
    fn new(partitions: i32, settings: &[(&str, &str)]) -> Self {
        let (name, admin) = (servers::unique("orders"), Admin::new(&kafka().0));
        admin.create(&name, partitions, settings);
        Self { name, admin }
    }

    /// A configuration that names `orders`, with this topic instead.
    fn named(&self, streams: &str) -> String {
        streams.replace("topic: orders", &format!("topic: {}", self.name))
    }
}
