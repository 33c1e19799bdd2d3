//! The session with the cluster: where it connects, as whom, and how long it waits.
//!
//! *If it fails*: a login that is refused, a certificate that cannot be read or a data centre that is not
//! there is an invalid configuration; a cluster that does not answer is unavailable. Passwords are in no
//! message.

use super::outcome::{self, OnlyWhatSurelyDidNot};
use crate::config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::outcome::PortError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::Consistency;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long one thing may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// A connection.
    pub(super) connect: Duration,
    /// A write; servers give up after two seconds by default.
    pub(super) write: Duration,
    /// A page of a read; servers give up after five seconds by default.
    pub(super) read: Duration,
    /// A read is asked of a second node as well after this.
    pub(super) second_node: Duration,
    /// The session as a whole, the first time.
    pub(super) open: Duration,
}

impl Timeouts {
    pub(super) const USUAL: Self = Self {
        connect: Duration::from_secs(5),
        write: Duration::from_secs(5),
        read: Duration::from_secs(8),
        second_node: Duration::from_millis(500),
        open: Duration::from_secs(30),
    };
}

/// A change of the schema waits for all nodes.
const SCHEMA_CHANGE: Duration = Duration::from_secs(60);
/// A connection without an answer for this long is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// How statements are run: both wait for the local quorum (rule 5).
pub(super) struct Profiles {
    pub(super) writes: ExecutionProfileHandle,
    pub(super) reads: ExecutionProfileHandle,
}

/// Connects to the cluster. It need not have the keyspace yet.
///
/// # Errors
/// `Invalid` for what the configuration has to change, else `Unavailable`.
pub(super) async fn connect(settings: &config::Scylla, timeouts: Timeouts) -> Result<(Session, Profiles)> {
    let nodes = settings.nodes.join("`, `");
    let doing = format!("connect to the index at `{nodes}`");
    let in_time = tokio::time::timeout(timeouts.open, session(settings, timeouts)).await;
    in_time.unwrap_or_else(|_| Err(silent(timeouts.open))).map_err(|error| error.context(&doing))
}

async fn session(settings: &config::Scylla, timeouts: Timeouts) -> Result<(Session, Profiles)> {
    let nearby: Arc<dyn LoadBalancingPolicy> = DefaultPolicy::builder()
        .prefer_datacenter(settings.datacenter.clone())
        .permit_dc_failover(false)
        .token_aware(true)
        .build();
    let quorum = || {
        let profile = ExecutionProfile::builder().load_balancing_policy(Arc::clone(&nearby));
        profile.consistency(Consistency::LocalQuorum)
    };
    let writes = quorum()
        .request_timeout(Some(timeouts.write))
        .retry_policy(Arc::new(OnlyWhatSurelyDidNot))
        .speculative_execution_policy(None)
        .build()
        .into_handle();
    let second_node =
        SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval: timeouts.second_node };
    let reads = quorum()
        .request_timeout(Some(timeouts.read))
        .retry_policy(Arc::new(DefaultRetryPolicy::new()))
        .speculative_execution_policy(Some(Arc::new(second_node)))
        .build()
        .into_handle();
    let schema_changes = quorum().request_timeout(Some(SCHEMA_CHANGE)).build().into_handle();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .default_execution_profile_handle(schema_changes)
        .prefer_datacenter(settings.datacenter.clone())
        .connection_timeout(timeouts.connect)
        .hostname_resolution_timeout(Some(timeouts.connect))
        .metadata_request_clientside_timeout(timeouts.read)
        .keepalive_interval(SILENCE)
        .keepalive_timeout(SILENCE)
        .keyspaces_to_fetch([settings.keyspace.clone()])
        .fetch_full_schema_metadata(false);
    if let Some((username, password)) = &settings.login {
        builder = builder.user(username, password.reveal());
    }
    if let Some(tls) = &settings.tls {
        builder = builder.tls_context(Some(certificates(tls)?));
    }
    let session = builder.build().await.map_err(|error| fault(outcome::connect_failed(&error)))?;
    check_datacenter(&session, &settings.datacenter)?;
    Ok((session, Profiles { writes, reads }))
}

fn silent(after: Duration) -> Error {
    let detail = format!("no answer within {} s: check `index.scylla.nodes`", after.as_secs());
    Error::new(ErrorKind::Unavailable, "dependency-down", detail)
}

/// An outcome of the port as an error of a start or of a migration.
pub(super) fn fault(error: PortError) -> Error {
    match error {
        PortError::Permanent(what) => Error::new(ErrorKind::Invalid, "dependency-down", what),
        PortError::NotDone(what) | PortError::Unknown(what) => {
            Error::new(ErrorKind::Unavailable, "dependency-down", what)
        }
        other => Error::new(ErrorKind::Internal, "internal", other.to_string()),
    }
}

/// Nodes of the local data centre, as the cluster knows them.
pub(super) fn nodes_nearby(session: &Session, datacenter: &str) -> usize {
    let state = session.get_cluster_state();
    state.get_nodes_info().iter().filter(|node| node.datacenter.as_deref() == Some(datacenter)).count()
}

/// Without this check, every statement would find that there is no node to ask.
fn check_datacenter(session: &Session, datacenter: &str) -> Result<()> {
    if nodes_nearby(session, datacenter) > 0 {
        return Ok(());
    }
    let state = session.get_cluster_state();
    let known = state.get_nodes_info().iter().filter_map(|node| node.datacenter.clone());
    let known = known.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("`, `");
    let detail = format!(
        "no node is in data centre `{datacenter}`: set `index.scylla.datacenter` to one of `{known}`"
    );
    Err(Error::new(ErrorKind::Invalid, "dependency-down", detail))
}

fn certificates(tls: &config::Tls) -> Result<Arc<ClientConfig>> {
    let invalid = |detail: String| Error::new(ErrorKind::Invalid, "dependency-down", detail);
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            let unreadable = |error| {
                invalid(format!(
                    "read the certificates of `index.scylla.tls.ca`, `{path}`: {error}: name a PEM file"
                ))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                roots
                    .add(certificate.map_err(unreadable)?)
                    .map_err(|error| invalid(format!("a certificate in `{path}` cannot be used: {error}")))?;
            }
        }
        None => {
            // One that cannot be read is one that nobody trusts.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(invalid(
            "there is no certificate to trust: name a PEM file in `index.scylla.tls.ca`".into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("set up TLS: {error}")))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
