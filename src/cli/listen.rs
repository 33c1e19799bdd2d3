//! Where a process listens, and under which address others reach it.

use super::failure::{Done, Exit, Failure};
use crate::config::Config;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Where other workers ask this one: as configured, else where it listens, unless that is every address of
/// the machine, which is none that others could use.
pub(super) fn advertised(config: &Config, address: SocketAddr) -> Option<Arc<str>> {
    match &config.http.advertise {
        Some(url) => Some(url.as_str().into()),
        None if address.ip().is_unspecified() => {
            let hint = "set `http.advertise` to the URL of this worker";
            tracing::warn!(%address, hint, "other workers cannot ask this one for the newest states");
            None
        }
        None => Some(format!("http://{address}").into()),
    }
}

/// Listens on an address, which stands in the configuration under `key`.
pub(super) async fn listen(address: &str, key: &str) -> Done<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match key {
            "http.admin" => {
                "set `http.admin` to another port, or to the address of `http.listen` to have one port for both"
            }
            _ => "choose another port with --port or `http.listen`, or stop what uses this one",
        };
        Failure::new(Exit::Failure, format!("listen on {address} (`{key}`): {error}")).hint(hint)
    })
}
