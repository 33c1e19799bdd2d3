//! Changes of documents as documents: RFC 6902 patches ([`JsonPatch`]), RFC 7396 merge patches ([`merge`]), and the
//! differences that produce them ([`diff`], [`merge_diff`]).
//!
//! | file | owns |
//! |---|---|
//! | [`apply`] | applying the operations of a JSON patch, all or none |
//! | [`diff`] | the patches that lead from one document to another |
//! | [`merge`] | merge patches |
//!
//! Error texts name an operation by its number, never by content: patches are event payloads.

pub mod apply;
pub mod diff;
pub mod merge;

pub use apply::Budget;
pub use diff::{diff, merge_diff};
pub use merge::{merge, merge_owned};

use super::value::pointer::PointerError;
use super::value::{Object, Pointer, Value};

/// A sequence of operations (RFC 6902).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonPatch {
    /// In the order in which they are applied.
    pub operations: Vec<Operation>,
}

/// One operation of a [`JsonPatch`] (RFC 6902 section 4).
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Inserts into an array, or sets a member.
    Add {
        /// Where; `-` as the last token is the end of an array.
        path: Pointer,
        /// What.
        value: Value,
    },
    /// Removes what must be there.
    Remove {
        /// Where.
        path: Pointer,
    },
    /// Sets what must be there.
    Replace {
        /// Where.
        path: Pointer,
        /// What comes there.
        value: Value,
    },
    /// Removes at `from`, adds at `path`. From a path to itself: the member becomes the last of its object.
    Move {
        /// Where to remove.
        from: Pointer,
        /// Where to add.
        path: Pointer,
    },
    /// Adds at `path` what is at `from`.
    Copy {
        /// Where to read.
        from: Pointer,
        /// Where to add.
        path: Pointer,
    },
    /// Fails unless the value is there; numbers are compared by value, objects without order.
    Test {
        /// Where.
        path: Pointer,
        /// What must be there.
        value: Value,
    },
}

/// Why a patch cannot be read or applied: which operation (counted from 0), and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation `{operation}`: {fault}")]
pub struct PatchError {
    /// Index of the operation; 0 for a patch that is not an array.
    pub operation: usize,
    /// What is wrong.
    pub fault: PatchFault,
}

/// What is wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchFault {
    /// The patch is not an array.
    #[error("a JSON patch is an array of operations")]
    NotAnArray,
    /// The operation is not an object.
    #[error("an operation is an object")]
    NotAnObject,
    /// `op` is missing or not one of the six.
    #[error("`op` is not one of `add`, `remove`, `replace`, `move`, `copy` and `test`")]
    UnknownOp,
    /// `path` or `from` is missing or not a string.
    #[error("`path` or `from` is missing or not a string")]
    NoPointer,
    /// `path` or `from` is not a JSON pointer.
    #[error(transparent)]
    Pointer(#[from] PointerError),
    /// `value` is missing.
    #[error("`value` is missing")]
    NoValue,
    /// Nothing is at the path, or at the parent of a path to add at.
    #[error("nothing is at this path")]
    NotFound,
    /// A token in an array is not an index, or beyond the end.
    #[error("not an index within the array")]
    BadIndex,
    /// The whole document cannot be removed.
    #[error("the whole document cannot be removed")]
    RemovesRoot,
    /// A value cannot move into itself.
    #[error("a value cannot be moved into itself")]
    IntoItself,
    /// The value at the path differs.
    #[error("the value at this path is not the expected one")]
    TestFailed,
    /// The values written exceed the budget.
    #[error("the patch writes more bytes than its budget")]
    TooLarge,
    /// The document would be nested deeper than the budget.
    #[error("the patch nests deeper than its budget")]
    TooDeep,
}

impl JsonPatch {
    /// Reads the array of operations; members that RFC 6902 does not name are ignored.
    ///
    /// # Errors
    /// [`PatchError`] for the first operation that is none.
    pub fn parse(patch: &Value) -> Result<Self, PatchError> {
        let not_an_array = PatchError { operation: 0, fault: PatchFault::NotAnArray };
        let operations = patch.as_array().ok_or(not_an_array)?.iter().enumerate();
        let parsed = operations.map(|(operation, value)| {
            Operation::parse(value).map_err(|fault| PatchError { operation, fault })
        });
        Ok(Self { operations: parsed.collect::<Result<_, _>>()? })
    }

    /// The array of operations.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Array(self.operations.iter().map(Operation::to_value).collect())
    }
}

impl Operation {
    fn parse(operation: &Value) -> Result<Self, PatchFault> {
        let members = operation.as_object().ok_or(PatchFault::NotAnObject)?;
        let pointer = |name| {
            let text = members.get(name).and_then(Value::as_str).ok_or(PatchFault::NoPointer)?;
            Ok::<_, PatchFault>(Pointer::parse(text)?)
        };
        let value = || members.get("value").cloned().ok_or(PatchFault::NoValue);
        Ok(match members.get("op").and_then(Value::as_str) {
            Some("add") => Self::Add { path: pointer("path")?, value: value()? },
            Some("remove") => Self::Remove { path: pointer("path")? },
            Some("replace") => Self::Replace { path: pointer("path")?, value: value()? },
            Some("move") => Self::Move { from: pointer("from")?, path: pointer("path")? },
            Some("copy") => Self::Copy { from: pointer("from")?, path: pointer("path")? },
            Some("test") => Self::Test { path: pointer("path")?, value: value()? },
            _ => return Err(PatchFault::UnknownOp),
        })
    }

    fn to_value(&self) -> Value {
        let (op, from, path, value) = match self {
            Self::Add { path, value } => ("add", None, path, Some(value)),
            Self::Remove { path } => ("remove", None, path, None),
            Self::Replace { path, value } => ("replace", None, path, Some(value)),
            Self::Move { from, path } => ("move", Some(from), path, None),
            Self::Copy { from, path } => ("copy", Some(from), path, None),
            Self::Test { path, value } => ("test", None, path, Some(value)),
        };
        let mut members = Object::with_capacity(3);
        members.insert("op", op.into());
        if let Some(from) = from {
            members.insert("from", from.to_string().into());
        }
        members.insert("path", path.to_string().into());
        if let Some(value) = value {
            members.insert("value", value.clone());
        }
        Value::Object(members)
    }
}
