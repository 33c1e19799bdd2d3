//! On Apache Kafka itself: what the mock cluster cannot do, and that what works on the mock works here.

mod cluster;
mod dependencies;
mod doctor;
mod letters;
mod log;
mod odd;
mod points;
mod recovery;
mod secure;
mod soak;

use crate::servers::{self, Admin};

/// A topic of its own on the real broker.
pub(crate) struct Topic {
    pub(crate) name: String,
    admin: Admin,
}

impl Topic {
    pub(crate) fn new(partitions: i32, settings: &[(&str, &str)]) -> Self {
        Self::on(&servers::kafka().0, partitions, settings)
    }

    /// The same on another broker.
    fn on(brokers: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let (name, admin) = (servers::unique("orders"), Admin::new(brokers));
        admin.create(&name, partitions, settings);
        Self { name, admin }
    }

    /// A configuration that names `orders`, with this topic instead.
    pub(crate) fn named(&self, streams: &str) -> String {
        streams.replace("topic: orders", &format!("topic: {}", self.name))
    }
}
