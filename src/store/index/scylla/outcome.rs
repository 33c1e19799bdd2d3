//! Errors of the driver, told as the port tells them.
//!
//! SUBTLE: what an error of the driver means:
//! 1. A write that was sent may have happened, whatever the coordinator answers, unless it says that it never
//!    passed it on (unavailable, bootstrapping, limited by the coordinator itself).
//! 2. A read changes nothing: what failed is not done, and may be asked again.
//! 3. A statement that the server does not understand, or a user without rights, will fail again: that is
//!    permanent, with what to do about it.
//!
//! A second attempt of the driver would hide what became of the first one, so writes are attempted again only
//! where the first attempt surely did nothing ([`OnlyWhatSurelyDidNot`]).

use super::RESTORE;
use crate::domain::outcome::PortError;
use scylla::errors::{ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind};
use scylla::errors::{
    DbError, ExecutionError, MetadataError, MetadataFetchErrorKind, NewSessionError, PrepareError,
    RequestAttemptError,
};
use scylla::policies::retry::{RequestInfo, RetryDecision, RetryPolicy, RetrySession};
use std::fmt::Display;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Reading,
    Writing,
}

/// What is known after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    NotDone,
    Perhaps,
    Never,
}

/// Bytes of a server's words that are repeated.
const WORDS_BYTES_MAX: usize = 300;

pub(super) fn failed(doing: Doing, error: &ExecutionError) -> PortError {
    match error {
        ExecutionError::LastAttemptError(attempt) => attempt_failed(doing, attempt),
        ExecutionError::RequestTimeout(after) => {
            told(doing, Known::Perhaps, &format!("no answer within {} ms", after.as_millis()))
        }
        ExecutionError::ConnectionPoolError(error) => unconnected(error),
        ExecutionError::EmptyPlan => PortError::NotDone(
            "the index: no node of `index.scylla.datacenter` is known: check that they run".into(),
        ),
        ExecutionError::PrepareError(error) => prepare_failed(error),
        ExecutionError::BadQuery(error) => told(doing, Known::Never, &format!("{error}")),
        error => told(doing, Known::Perhaps, &short(error)),
    }
}

pub(super) fn prepare_failed(error: &PrepareError) -> PortError {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => attempt_failed(Doing::Reading, first_attempt),
        PrepareError::ConnectionPoolError(error) => unconnected(error),
        error => PortError::NotDone(format!("the index: {}", short(error))),
    }
}

/// Why there is no session.
pub(super) fn connect_failed(error: &NewSessionError) -> PortError {
    match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(error)) => unconnected(error),
        NewSessionError::MetadataError(MetadataError::FetchError(error)) => match &error.error {
            MetadataFetchErrorKind::PrepareError(attempt) => attempt_failed(Doing::Reading, attempt),
            error => PortError::NotDone(format!("the index: {}", short(error))),
        },
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => {
            PortError::Permanent(format!("the index: {}", short(error)))
        }
        error => PortError::NotDone(format!("the index: {}", short(error))),
    }
}

fn unconnected(error: &ConnectionPoolError) -> PortError {
    if let ConnectionPoolError::Broken { last_connection_error } = error {
        if let Some(refusal) = refused_login(last_connection_error) {
            return refusal;
        }
        let why = short(last_connection_error);
        return PortError::NotDone(format!("the index: no connection: {why}: check `index.scylla.nodes`"));
    }
    PortError::NotDone(format!("the index: no connection: {}", short(error)))
}

fn refused_login(error: &ConnectionError) -> Option<PortError> {
    let ConnectionError::ConnectionSetupRequestError(setup) = error else { return None };
    let why = match setup.get_error() {
        ConnectionSetupRequestErrorKind::MissingAuthentication => {
            "the index: it asks for a user: give `index.scylla.username` and `password`".to_owned()
        }
        ConnectionSetupRequestErrorKind::DbError(
            DbError::AuthenticationError | DbError::Unauthorized,
            said,
        ) => {
            let said = clipped(said);
            format!("the index: the login was refused ({said}): check `index.scylla.username` and `password`")
        }
        _ => return None,
    };
    Some(PortError::Permanent(why))
}

fn attempt_failed(doing: Doing, error: &RequestAttemptError) -> PortError {
    let what = match error {
        RequestAttemptError::DbError(error, said) => match error {
            DbError::Invalid | DbError::ConfigError if names_the_schema(said) => {
                format!("{}: run `snapfold migrate`, which creates keyspace and tables", clipped(said))
            }
            DbError::Unauthorized => {
                format!("{}: grant the user SELECT and MODIFY (and CREATE, to migrate)", clipped(said))
            }
            DbError::AuthenticationError => {
                format!("{}: check `index.scylla.username` and `password`", clipped(said))
            }
            error => format!("{}: {}", short(error), clipped(said)),
        },
        error => short(error),
    };
    told(doing, known(error), &what)
}

/// A keyspace, table or column that is not there is `Invalid`, as is much else, in other words for each
/// product.
fn names_the_schema(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["keyspace", "table", "column"].iter().any(|word| said.contains(word))
}

fn told(doing: Doing, known: Known, what: &str) -> PortError {
    let what = format!("the index: {what}");
    match (doing, known) {
        (_, Known::Never) => PortError::Permanent(what),
        (Doing::Writing, Known::Perhaps) => PortError::Unknown(what),
        (Doing::Reading, Known::Perhaps) | (_, Known::NotDone) => PortError::NotDone(what),
    }
}

fn known(error: &RequestAttemptError) -> Known {
    match error {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_)
        | RequestAttemptError::RepreparedIdChanged { .. }
        | RequestAttemptError::RepreparedIdMissingInBatch => Known::Never,
        RequestAttemptError::UnableToAllocStreamId => Known::NotDone,
        RequestAttemptError::DbError(error, _) => match error {
            DbError::SyntaxError
            | DbError::Invalid
            | DbError::AlreadyExists { .. }
            | DbError::FunctionFailure { .. }
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
            | DbError::ProtocolError => Known::Never,
            DbError::Unavailable { .. }
            | DbError::IsBootstrapping
            | DbError::Unprepared { .. }
            | DbError::RateLimitReached { rejected_by_coordinator: true, .. } => Known::NotDone,
            _ => Known::Perhaps,
        },
        _ => Known::Perhaps,
    }
}

/// Damage, as the port tells it: trying again cannot help.
pub(super) fn damaged(what: &dyn Display) -> PortError {
    PortError::Permanent(format!("the index is damaged: {what}: {RESTORE}"))
}

fn short(error: &dyn Display) -> String {
    clipped(&error.to_string())
}

/// What a server says may be long, and may hold what was sent to it.
fn clipped(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().find(|(at, _)| *at > WORDS_BYTES_MAX) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

/// Tries the next node where the first one surely did nothing, and only then: the outcome that is told is
/// that of the last attempt.
#[derive(Debug)]
pub(super) struct OnlyWhatSurelyDidNot;

/// Attempts that are left of one request.
struct Attempts(u8);

impl RetryPolicy for OnlyWhatSurelyDidNot {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(Attempts(2))
    }
}

impl RetrySession for Attempts {
    fn decide_should_retry(&mut self, request: RequestInfo<'_>) -> RetryDecision {
        if self.0 == 0 || known(request.error) != Known::NotDone {
            return RetryDecision::DontRetry;
        }
        self.0 -= 1;
        RetryDecision::RetryNextTarget(None)
    }

    fn reset(&mut self) {
        self.0 = 2;
    }
}
