//! What an error of the SDK means for the caller: whether the request surely had no effect, may have had one,
//! or never will, and then what to do about it.
//!
//! INVARIANT: `Missing` is said only where the store itself says `NoSuchKey`. A 404 of something before it,
//! or one whose body is damaged, is no such answer.
//!
//! | answer | means |
//! |---|---|
//! | no connection, no credentials yet | `NotDone` |
//! | no answer, a broken one, 500, 502, 504 | `Unknown` |
//! | 429, `SlowDown`, damage on the way (`BadDigest`), lost races (409) | `NotDone` |
//! | 403, `NoSuchBucket`, wrong region or keys, whatever the store cannot do | `Permanent` |

use super::requests::deepest;
use crate::domain::outcome::PortError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use hyper_util::client::legacy;
use std::error::Error;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call<'a> {
    Put(&'a str),
    Get(&'a str),
    Delete(&'a str),
    List,
    Create,
}

impl Call<'_> {
    /// The right that it needs.
    fn right(self) -> &'static str {
        match self {
            Self::Put(_) => "s3:PutObject",
            // Without the right to list, Amazon S3 answers 403 for an object that is not there.
            Self::Get(_) => "s3:GetObject and s3:ListBucket",
            Self::Delete(_) => "s3:DeleteObject",
            Self::List => "s3:ListBucket",
            Self::Create => "s3:CreateBucket",
        }
    }
}

/// Where it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) bucket: String,
    /// For people.
    pub(super) endpoint: String,
}

/// Longest text of a store that is repeated.
const FOREIGN_CHARS_MAX: usize = 200;

impl Place {
    /// What happened, with what and where.
    pub(super) fn told(&self, call: Call<'_>, what: &str) -> String {
        let Self { bucket, endpoint } = self;
        match call {
            Call::Put(name) => format!("write `{name}` to bucket `{bucket}` at {endpoint}: {what}"),
            Call::Get(name) => format!("read `{name}` from bucket `{bucket}` at {endpoint}: {what}"),
            Call::Delete(name) => format!("delete `{name}` from bucket `{bucket}` at {endpoint}: {what}"),
            Call::List => format!("list bucket `{bucket}` at {endpoint}: {what}"),
            Call::Create => format!("create bucket `{bucket}` at {endpoint}: {what}"),
        }
    }

    /// The meaning of an error.
    pub(super) fn failure<E>(&self, call: Call<'_>, error: &SdkError<E>) -> PortError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(raw) = error.raw_response() {
            let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
            let answer = Answer { status: raw.status().as_u16(), code, message };
            // A success that cannot be read is none.
            return if raw.status().is_success() {
                PortError::Unknown(
                    self.told(call, &format!("an answer that cannot be read: {}", deepest(error))),
                )
            } else {
                self.answered(call, answer)
            };
        }
        if let Some(missing) = find::<CredentialsError>(error) {
            return self.without_credentials(call, missing);
        }
        let what = self.told(call, &deepest(error));
        match error {
            // Nothing was sent, and the next one will be no different.
            SdkError::ConstructionFailure(_) => PortError::Permanent(what),
            SdkError::DispatchFailure(failure) if failure.is_user() => PortError::Permanent(what),
            // No connection was made, so nothing was sent.
            _ if find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect) => {
                PortError::NotDone(what)
            }
            _ => PortError::Unknown(what),
        }
    }

    fn without_credentials(&self, call: Call<'_>, error: &CredentialsError) -> PortError {
        let told = |what: &str| self.told(call, what);
        match error {
            CredentialsError::CredentialsNotLoaded(_) => PortError::Permanent(told(
                "no credentials: set `blobs.s3.accessKey` and `blobs.s3.secretKey`, or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or give the machine a role",
            )),
            CredentialsError::InvalidConfiguration(_) => {
                PortError::Permanent(told(&format!("credentials that cannot be used: {}", deepest(error))))
            }
            // Whoever gives them did not answer: it may do so next time.
            _ => PortError::NotDone(told(&format!("no credentials: {}", deepest(error)))),
        }
    }

    fn answered(&self, call: Call<'_>, answer: Answer<'_>) -> PortError {
        let Answer { status, code, .. } = answer;
        let told = |advice: &str| self.told(call, &format!("{}{advice}", answer.shown()));
        match (status, code) {
            (404, "NoSuchKey") if matches!(call, Call::Get(_) | Call::Delete(_)) => PortError::Missing,
            (412, _) if matches!(call, Call::Put(_)) => PortError::Exists,
            // SeaweedFS says so to one of two that create it at the same time.
            (_, "NoSuchBucket") if call == Call::Create => PortError::NotDone(told("")),
            (_, "NoSuchBucket") => PortError::Permanent(self.told(
                call,
                "there is no such bucket: create it with `snapfold migrate`, or correct `blobs.s3.bucket`",
            )),
            (_, "RequestTimeTooSkewed") => {
                PortError::NotDone(told(": the clock of this machine and that of the store differ: set it"))
            }
            // Whoever gave the credentials gives new ones.
            (_, "ExpiredToken" | "TokenRefreshRequired") => PortError::NotDone(told("")),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "AuthFailure")
            | (401, _) => PortError::Permanent(told(
                ": wrong keys: check `blobs.s3.accessKey` and `blobs.s3.secretKey`, or where the environment \
                     takes them from",
            )),
            (403, _) => PortError::Permanent(told(&format!(": grant {} to these keys", call.right()))),
            (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") | (301, _) => {
                PortError::Permanent(told(
                    ": is `blobs.s3.region` the bucket's, and `blobs.s3.endpoint` right?",
                ))
            }
            // Refused before anything was done: too much at once, or another writer was at it.
            (429, _)
            | (
                _,
                "SlowDown"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestLimitExceeded",
            )
            | (307, _)
            | (409, "ConditionalRequestConflict" | "OperationAborted") => PortError::NotDone(told("")),
            // What arrived is not what was sent, so it was not taken.
            (
                400,
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody"
                | "RequestTimeout",
            ) => PortError::NotDone(told("")),
            (501, _) | (_, "NotImplemented") => PortError::Permanent(told(
                ": snapfold needs `If-None-Match` and, unless `blobs.s3.checksums: none`, `x-amz-checksum-sha256`: \
                 use another store, or a newer version of it",
            )),
            // Without a body, the SDK's own word for 404 is `NotFound`.
            (404, "NotFound") | (400..=499, "") if status != 408 => {
                PortError::NotDone(told(": is `blobs.s3.endpoint` the address of a store?"))
            }
            (400..=499, _) if status != 408 => PortError::Permanent(told("")),
            _ => PortError::Unknown(told("")),
        }
    }
}

/// What a store, or something before it, answered.
#[derive(Clone, Copy, Debug)]
struct Answer<'a> {
    status: u16,
    /// Empty if there is none.
    code: &'a str,
    message: &'a str,
}

impl Answer<'_> {
    fn shown(&self) -> String {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control()).take(FOREIGN_CHARS_MAX).collect()
        };
        let (status, code, message) = (self.status, plain(self.code), plain(self.message));
        match (code.is_empty(), message.is_empty()) {
            (true, _) => format!("status {status}"),
            (false, true) => format!("status {status} `{code}`"),
            (false, false) => format!("status {status} `{code}` ({message})"),
        }
    }
}

/// The first cause of this type.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: fn() -> Place = || Place { bucket: "b".to_owned(), endpoint: "http://h".to_owned() };

    fn means(call: Call<'_>, status: u16, code: &str) -> PortError {
        PLACE().answered(call, Answer { status, code, message: "" })
    }

    /// The variant alone.
    fn class(error: &PortError) -> &'static str {
        match error {
            PortError::NotDone(_) => "not done",
            PortError::Unknown(_) => "unknown",
            PortError::Permanent(_) => "permanent",
            PortError::Missing => "missing",
            PortError::Exists => "exists",
        }
    }

    #[test]
    fn every_answer_has_one_meaning() {
        let (put, get, delete) = (Call::Put("n"), Call::Get("n"), Call::Delete("n"));
        for (call, status, code, expected) in [
            (put, 412, "PreconditionFailed", "exists"),
            (get, 412, "PreconditionFailed", "permanent"),
            (put, 409, "ConditionalRequestConflict", "not done"),
            (put, 409, "BucketAlreadyExists", "permanent"),
            (get, 404, "NoSuchKey", "missing"),
            (delete, 404, "NoSuchKey", "missing"),
            (put, 404, "NoSuchKey", "permanent"),
            (get, 404, "", "not done"),
            (get, 404, "NotFound", "not done"),
            (get, 404, "NoSuchBucket", "permanent"),
            (put, 404, "NoSuchBucket", "permanent"),
            (Call::List, 404, "NoSuchKey", "permanent"),
            (Call::Create, 404, "NoSuchBucket", "not done"),
            (put, 403, "AccessDenied", "permanent"),
            (put, 403, "", "permanent"),
            (put, 403, "RequestTimeTooSkewed", "not done"),
            (put, 400, "ExpiredToken", "not done"),
            (put, 400, "BadDigest", "not done"),
            (put, 400, "InvalidRequest", "permanent"),
            (put, 400, "", "not done"),
            (put, 408, "", "unknown"),
            (put, 429, "", "not done"),
            (put, 500, "InternalError", "unknown"),
            (put, 501, "NotImplemented", "permanent"),
            (put, 502, "", "unknown"),
            (put, 503, "SlowDown", "not done"),
            (put, 503, "", "unknown"),
            (put, 301, "PermanentRedirect", "permanent"),
            (put, 307, "TemporaryRedirect", "not done"),
        ] {
            assert_eq!(class(&means(call, status, code)), expected, "{call:?} {status} {code}");
        }
    }

    #[test]
    fn what_cannot_help_itself_says_what_to_do() {
        for (call, status, code, advice) in [
            (Call::Put("n"), 404, "NoSuchBucket", "`snapfold migrate`"),
            (Call::Put("n"), 403, "AccessDenied", "grant s3:PutObject"),
            (Call::List, 403, "AccessDenied", "grant s3:ListBucket"),
            (Call::Get("n"), 403, "SignatureDoesNotMatch", "`blobs.s3.secretKey`"),
            (Call::Get("n"), 301, "PermanentRedirect", "`blobs.s3.region`"),
            (Call::Put("n"), 501, "NotImplemented", "`blobs.s3.checksums: none`"),
        ] {
            let told = means(call, status, code).to_string();
            assert!(told.contains(advice) && told.contains("bucket `b` at http://h"), "{told}");
        }
    }

    #[test]
    fn what_a_store_says_is_repeated_in_bounds() {
        let (long, odd) = ("x".repeat(1_000), "a\u{1b}[2Jb");
        let answer = Answer { status: 500, code: odd, message: &long };
        assert_eq!(answer.shown(), format!("status 500 `a[2Jb` ({})", "x".repeat(FOREIGN_CHARS_MAX)));
    }
}
