//! On Apache Kafka itself: what the mock cluster cannot do, and that what works on the mock works here.

mod cluster;
mod log;
mod secure;

use crate::servers::{self, Admin};

/// A topic of its own on the real broker.
struct Topic {
    name: String,
    admin: Admin,
}

impl Topic {
    fn new(partitions: i32, settings: &[(&str, &str)]) -> Self {
        let (name, admin) = (servers::unique("orders"), Admin::new(&servers::kafka().0));
        admin.create(&name, partitions, settings);
        Self { name, admin }
    }

    /// A configuration that names `orders`, with this topic instead.
    fn named(&self, streams: &str) -> String {
        streams.replace("topic: orders", &format!("topic: {}", self.name))
    }
}
