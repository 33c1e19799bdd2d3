//! The bucket of `blobs.s3`: what is wrong with it that can be said without asking it.

use super::S3;
use super::reader::Section;

/// Longest prefix in bytes: the name of an object follows, and both together have at most 1,024.
const PREFIX_BYTES_MAX: usize = 512;

/// Reads `blobs.s3`.
pub(super) fn read(it: Section<'_>) -> Option<S3> {
    let keys = match (it.secret_text("accessKey"), it.secret_text("secretKey")) {
        (Some(access), Some(secret)) => Some((access, secret)),
        (Some(_), None) if it.given("secretKey").is_none() => {
            it.problem("accessKey", "`accessKey` without `secretKey`", "give both or none");
            None
        }
        (None, Some(_)) if it.given("accessKey").is_none() => {
            it.problem("secretKey", "`secretKey` without `accessKey`", "give both or none");
            None
        }
        _ => None,
    };
    let endpoint = it.text("endpoint");
    if let Some(endpoint) = &endpoint {
        check_endpoint(it, endpoint);
    }
    let prefix = it.text("prefix")?;
    check_prefix(it, &prefix);
    let bucket = it.text("bucket")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
    if !bucket.chars().all(is_plain) {
        it.problem(
            "bucket",
            format!("`{bucket}` cannot be the name of a bucket"),
            "a bucket has 3 to 63 lower-case letters, digits, `.` and `-`",
        );
    }
    Some(S3 {
        bucket,
        prefix,
        endpoint,
        region: it.text("region")?,
        is_path_style: it.flag("pathStyle"),
        has_checksums: it.choice("checksums") == "sha256",
        keys,
    })
}

fn check_endpoint(it: Section<'_>, endpoint: &str) {
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    match host {
        // What stands before an `@` may be a password, so it is not repeated.
        Some(host) if host.contains('@') => it.problem(
            "endpoint",
            "`endpoint` holds a user or a password",
            "write `https://HOST:PORT`, and `accessKey` and `secretKey` beside it",
        ),
        Some(host) if !host.is_empty() && !host.contains(['?', '#', ' ']) => {}
        _ => it.problem(
            "endpoint",
            format!("`{endpoint}` is not the URL of a store"),
            "write `https://HOST:PORT` or `http://HOST:PORT`",
        ),
    }
}

/// Parts that stores or file systems below them read as something else would make two names one.
fn check_prefix(it: Section<'_>, prefix: &str) {
    let mut parts = prefix.split('/');
    // What follows the last `/` is the start of a part.
    let last = parts.next_back().unwrap_or_default();
    let is_wrong = |part: &str| part.is_empty() || part.starts_with('.');
    let is_odd = |c: char| c.is_control() || c == '\\';
    if parts.any(is_wrong)
        || last.starts_with('.')
        || prefix.contains(is_odd)
        || prefix.len() > PREFIX_BYTES_MAX
    {
        it.problem(
            "prefix",
            format!("`{}` cannot stand before names", prefix.escape_debug()),
            "use parts between single `/`, none starting with `.`, 512 bytes in all, as in `prod/orders/`",
        );
    }
}
