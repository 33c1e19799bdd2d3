//! The cluster of `index.scylla`: what is wrong with it that can be said without asking it.

use super::reader::Section;
use super::{Scylla, Tls};

/// Longest name of a keyspace that ScyllaDB and Apache Cassandra take.
const KEYSPACE_CHARS_MAX: usize = 48;

/// Reads `index.scylla`.
pub(super) fn read(it: Section<'_>) -> Option<Scylla> {
    let nodes = it.texts("nodes");
    for (node, _) in &nodes {
        let is_address = node.rsplit_once(':').is_some_and(|(host, port)| {
            let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
            is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !is_address {
            it.problem(
                "nodes",
                format!("`{node}` is not an address"),
                "write HOST:PORT, as in `localhost:9042`",
            );
        }
    }
    let keyspace = it.text("keyspace");
    if let Some(keyspace) = &keyspace {
        let is_plain = keyspace.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_plain || keyspace.len() > KEYSPACE_CHARS_MAX {
            it.problem(
                "keyspace",
                format!("`{}` cannot be the name of a keyspace", keyspace.escape_debug()),
                "use at most 48 letters, digits and `_`",
            );
        }
    }
    let login = match (it.text("username"), it.secret_text("password")) {
        (Some(username), Some(password)) => Some((username, password)),
        (Some(_), None) if it.given("password").is_none() => {
            it.problem("username", "`username` without `password`", "give both or none");
            None
        }
        (None, Some(_)) if it.given("username").is_none() => {
            it.problem("password", "`password` without `username`", "give both or none");
            None
        }
        _ => None,
    };
    let tls = it.section("tls", |it| {
        let ca = it.text("ca");
        if ca.is_some() && !it.flag("enabled") {
            it.problem("ca", "`ca` without `enabled: true`", "enable TLS, or remove `ca`");
        }
        it.flag("enabled").then_some(Tls { ca })
    });
    Some(Scylla {
        nodes: nodes.into_iter().map(|(node, _)| node).collect(),
        keyspace: keyspace?,
        datacenter: it.text("datacenter")?,
        replication_factor: it.whole("replicationFactor"),
        login,
        tls,
    })
}
