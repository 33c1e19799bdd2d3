//! The bucket of `blobs.s3`: what is wrong with it that can be said without asking it.

use super::S3;
use super::reader::Section;

/// Longest prefix in bytes: the name of an object follows, and both together have at most 1,024.
const PREFIX_BYTES_MAX: usize = 512;

/// Reads `blobs.s3`, or the bucket of an archive, where most of what is left out is that of `blobs.s3`.
pub(super) fn read(it: Section<'_>, live: Option<&S3>) -> Option<S3> {
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
    let bucket = it.text("bucket").or_else(|| live.map(|live| live.bucket.clone()));
    let Some(bucket) = bucket else { return it.required("bucket").and(None) };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
    if !bucket.chars().all(is_plain) {
        it.problem(
            "bucket",
            format!("`{bucket}` cannot be the name of a bucket"),
            "a bucket has 3 to 63 lower-case letters, digits, `.` and `-`",
        );
    }
    let of_live = |of: fn(&S3) -> String| live.map(of);
    let region = it.text("region").or_else(|| of_live(|live| live.region.clone()));
    let path_style = it.flag_if_given("pathStyle");
    let checksums = it.choice_if_given("checksums").map(|checksums| checksums == "sha256");
    Some(S3 {
        bucket,
        prefix,
        endpoint: endpoint.or_else(|| live?.endpoint.clone()),
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        is_path_style: path_style.unwrap_or_else(|| live.is_some_and(|live| live.is_path_style)),
        has_checksums: checksums.unwrap_or_else(|| live.is_none_or(|live| live.has_checksums)),
        keys: keys.or_else(|| live?.keys.clone()),
        storage_class: None,
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

#[cfg(test)]
mod tests {
    use super::super::tests::{STREAM, loaded, problems, told};
    use super::super::{Blobs, Config, S3, show};

    #[test]
    fn the_keys_of_a_bucket_are_secrets() {
        let text =
            format!("blobs:\n  s3:\n    accessKey: hunter7\n    secretKey: {{ fromEnv: SECRET }}\n{STREAM}");
        let given = |config: &Config| match &config.blobs {
            Blobs::S3(S3 { keys: Some((access, secret)), .. }) => {
                [access.reveal(), secret.reveal()].join(" ")
            }
            other => panic!("{other:?}"),
        };
        let config = loaded(&text, &[], &[]);
        assert_eq!(given(&config), "hunter7 hunter3");
        assert_eq!(
            config.warnings(),
            [
                "f.yaml:3:16: `accessKey` stands in the file: write `{ fromFile: PATH }` or `{ fromEnv: NAME }`"
            ]
        );
        let (debug, shown) = (format!("{config:?}"), show(&config));
        assert!(!debug.contains("hunter") && !shown.contains("hunter"), "{debug}\n{shown}");
        let lines = "    accessKey: \"***\"  # file:3\n    secretKey: {\"fromEnv\":\"SECRET\"}  # file:4\n";
        assert!(shown.contains(lines), "{shown}");
        let env = [
            ("SNAPFOLD__BLOBS__S3__ACCESS_KEY", "#hunter8"),
            ("SNAPFOLD__BLOBS__S3__SECRET_KEY", "[hunter9"),
        ];
        let config = loaded(STREAM, &env, &[]);
        assert_eq!((given(&config).as_str(), config.warnings()), ("#hunter8 [hunter9", &[][..]));
        // A password in a URL is not shown where it is refused.
        let endpoint = "blobs: { s3: { endpoint: \"http://me:hunter2@localhost\" } }";
        assert!(!problems(&format!("{endpoint}\n{STREAM}"), &[], &[]).contains("hunter"));
    }

    #[test]
    fn what_is_wrong_with_a_bucket_is_told_with_its_fix() {
        for (section, golden) in [
            (
                "blobs: { s3: { accessKey: { fromEnv: SECRET } } }",
                "f.yaml:1:27: `accessKey` without `secretKey`\n  hint: give both or none",
            ),
            (
                "blobs: { s3: { endpoint: localhost } }",
                "f.yaml:1:26: `localhost` is not the URL of a store\n  hint: write `https://HOST:PORT` or `http://HOST:PORT`",
            ),
            (
                "blobs: { s3: { endpoint: \"http://me:hunter2@localhost\" } }",
                "f.yaml:1:26: `endpoint` holds a user or a password\n  hint: \
                 write `https://HOST:PORT`, and `accessKey` and `secretKey` beside it",
            ),
            (
                "blobs: { s3: { prefix: a//b } }",
                "f.yaml:1:24: `a//b` cannot stand before names\n  hint: \
                 use parts between single `/`, none starting with `.`, 512 bytes in all, as in `prod/orders/`",
            ),
            (
                "blobs: { s3: { bucket: a b } }",
                "f.yaml:1:24: `a b` cannot be the name of a bucket\n  hint: a bucket has 3 to 63 lower-case letters, digits, `.` and `-`",
            ),
            (
                "index: { scylla: { nodes: [localhost] } }",
                "f.yaml:1:27: `localhost` is not an address\n  hint: write HOST:PORT, as in `localhost:9042`",
            ),
            (
                "index: { scylla: { keyspace: a-b } }",
                "f.yaml:1:30: `a-b` cannot be the name of a keyspace\n  hint: use at most 48 letters, digits and `_`",
            ),
            (
                "index: { scylla: { username: me } }",
                "f.yaml:1:30: `username` without `password`\n  hint: give both or none",
            ),
            (
                "index: { scylla: { password: { fromEnv: SECRET } } }",
                "f.yaml:1:30: `password` without `username`\n  hint: give both or none",
            ),
            (
                "index: { scylla: { tls: { ca: a.pem } } }",
                "f.yaml:1:31: `ca` without `enabled: true`\n  hint: enable TLS, or remove `ca`",
            ),
        ] {
            assert_eq!(told(section), golden);
        }
    }
}
