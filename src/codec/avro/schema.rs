//! The JSON of a schema to a plan: types as nodes that name each other by number, names and namespaces
//! resolved, so that nothing is looked up while bytes are read. By the Avro 1.12 specification; what only
//! readers with another schema need (defaults, aliases, order, documentation) is left out.
//!
//! A logical type that does not fit its type is ignored, as the specification asks.

use crate::domain::text::Text;
use crate::domain::value::write::string_len;
use crate::domain::value::{JsonError, Limits, Object, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Longest text of one schema in bytes.
const SCHEMA_BYTES_MAX: usize = 4 << 20;
/// Types in one schema, those it refers to counted in.
const NODES_MAX: usize = 200_000;
/// Digits after the point of a decimal.
const SCALE_MAX: usize = 1_000;

/// What a schema says, ready to read bytes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// Which node.
pub(super) type NodeId = usize;

/// One type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Null,
    Boolean,
    Int(Whole),
    Long(Whole),
    Float,
    Double,
    Bytes(Raw),
    Fixed(usize, Raw),
    String,
    Enum(Box<[Text]>),
    Array(NodeId),
    Map(NodeId),
    Union(Box<[NodeId]>),
    Record(Box<[Field]>),
}

/// A member of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Text,
    /// Bytes of the name as JSON, with the colon.
    pub(super) name_len: usize,
    pub(super) node: NodeId,
}

/// What whole numbers stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Number,
    /// Days since 1970-01-01.
    Date,
    /// Of a second since midnight.
    TimeOfDay(Fraction),
    /// Since 1970-01-01T00:00:00Z.
    Moment(Fraction),
    /// The same without a zone.
    Local(Fraction),
}

/// Parts of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fraction {
    Millis,
    Micros,
    Nanos,
}

/// What bytes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    Bytes,
    /// An integer in two's complement, and how many of its digits stand after the point.
    Decimal(usize),
    Uuid,
    /// Months, days and milliseconds.
    Duration,
}

/// Why a text is no schema that bytes can be read by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is no JSON.
    #[error("the schema is no JSON: {0}")]
    Json(JsonError),
    /// It breaks a rule of Avro; the text says which and where.
    #[error("the schema is no Avro schema: {0}")]
    Rule(String),
}

type Parsed<T> = Result<T, SchemaError>;

fn broken<T>(what: impl Into<String>) -> Parsed<T> {
    Err(SchemaError::Rule(what.into()))
}

impl Plan {
    /// The plan of a schema. `references` are the schemas whose named types it uses, each after those that it
    /// uses itself.
    ///
    /// # Errors
    /// [`SchemaError`] with the first rule found broken.
    pub fn parse(schema: &str, references: &[impl AsRef<str>]) -> Parsed<Self> {
        let mut parser = Parser::default();
        for reference in references {
            parser.text(reference.as_ref())?;
        }
        let root = parser.text(schema)?;
        let mut nodes = Vec::with_capacity(parser.nodes.len());
        for node in parser.nodes {
            // A name is entered when its type is complete, or else parsing has ended.
            nodes.push(node.expect("every type that was begun is complete"));
        }
        Ok(Self { nodes, root })
    }
}

#[derive(Default)]
struct Parser {
    /// None for a type that is being read: something in it may refer to it.
    nodes: Vec<Option<Node>>,
    /// Named types by full name.
    names: BTreeMap<String, NodeId>,
}

impl Parser {
    fn text(&mut self, schema: &str) -> Parsed<NodeId> {
        let limits = Limits { max_bytes: SCHEMA_BYTES_MAX, max_depth: 256, max_members: NODES_MAX * 8 };
        let value = Value::parse(schema.as_bytes(), &limits).map_err(SchemaError::Json)?;
        self.schema(&value, "")
    }

    fn add(&mut self, node: Option<Node>) -> Parsed<NodeId> {
        if self.nodes.len() == NODES_MAX {
            return broken(format!("more than {NODES_MAX} types"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn schema(&mut self, schema: &Value, namespace: &str) -> Parsed<NodeId> {
        match schema {
            Value::String(name) => match primitive(name) {
                Some(node) => self.add(Some(node)),
                None => self.named(name, namespace),
            },
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => broken(format!("a type is {}", other.type_name())),
        }
    }

    /// A type that was named before: in the namespace around, or, as Avro for Java allows, in none.
    fn named(&self, name: &str, namespace: &str) -> Parsed<NodeId> {
        let found = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
        found.copied().map_or_else(|| broken(format!("there is no type `{}`", shown(name))), Ok)
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Parsed<NodeId> {
        let mut nodes = Vec::with_capacity(branches.len());
        for branch in branches {
            let node = self.schema(branch, namespace)?;
            if matches!(self.nodes[node], Some(Node::Union(_))) {
                return broken("a union stands directly in a union");
            }
            nodes.push(node);
        }
        self.add(Some(Node::Union(nodes.into())))
    }

    fn object(&mut self, object: &Object, namespace: &str) -> Parsed<NodeId> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind,
            Some(inner) => return self.schema(inner, namespace),
            None => return broken("an object without `type`"),
        };
        match &**kind {
            "record" | "error" => self.record(object, namespace),
            "enum" => {
                let symbols = symbols(object)?;
                self.declare(object, namespace, Node::Enum(symbols))
            }
            "fixed" => {
                let size =
                    object.get("size").and_then(Value::as_i64).and_then(|size| usize::try_from(size).ok());
                let Some(size) = size else { return broken("a fixed without a `size`") };
                let raw = raw(object, Some(size));
                self.declare(object, namespace, Node::Fixed(size, raw))
            }
            "array" => {
                let Some(items) = object.get("items") else { return broken("an array without `items`") };
                let items = self.schema(items, namespace)?;
                self.add(Some(Node::Array(items)))
            }
            "map" => {
                let Some(values) = object.get("values") else { return broken("a map without `values`") };
                let values = self.schema(values, namespace)?;
                self.add(Some(Node::Map(values)))
            }
            other => match primitive(other) {
                Some(node) => self.add(Some(logical(node, object))),
                None => self.named(other, namespace),
            },
        }
    }

    /// Enters a named type.
    fn declare(&mut self, object: &Object, namespace: &str, node: Node) -> Parsed<NodeId> {
        let id = self.add(Some(node))?;
        self.enter(object, namespace, id)?;
        Ok(id)
    }

    /// Enters the name of a type; answers the namespace of what is inside it.
    fn enter(&mut self, object: &Object, namespace: &str, id: NodeId) -> Parsed<String> {
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            return broken("a named type without a `name`");
        };
        let given = object.get("namespace").and_then(Value::as_str);
        let full = full_name(name, given.unwrap_or(namespace));
        if !full.split('.').all(is_name) {
            return broken(format!("`{}` is no name", shown(&full)));
        }
        if primitive(&full).is_some() || self.names.insert(full.clone(), id).is_some() {
            return broken(format!("the name `{}` is taken", shown(&full)));
        }
        Ok(full.rsplit_once('.').map_or_else(String::new, |(inside, _)| inside.to_owned()))
    }

    fn record(&mut self, object: &Object, namespace: &str) -> Parsed<NodeId> {
        let id = self.add(None)?;
        let inside = self.enter(object, namespace, id)?;
        let Some(fields) = object.get("fields").and_then(Value::as_array) else {
            return broken("a record without `fields`");
        };
        let (mut seen, mut read) = (BTreeSet::new(), Vec::with_capacity(fields.len()));
        for field in fields {
            let Some(name) = field.get("name").and_then(Value::as_str) else {
                return broken("a field without a `name`");
            };
            if !is_name(name) || !seen.insert(name) {
                return broken(format!("`{}` is no name of a field, or there twice", shown(name)));
            }
            let Some(schema) = field.get("type") else {
                return broken(format!("the field `{name}` has no `type`"));
            };
            let node = self.schema(schema, &inside)?;
            read.push(Field { name: name.into(), name_len: string_len(name) + 1, node });
        }
        self.nodes[id] = Some(Node::Record(read.into()));
        Ok(id)
    }
}

fn symbols(object: &Object) -> Parsed<Box<[Text]>> {
    let Some(symbols) = object.get("symbols").and_then(Value::as_array) else {
        return broken("an enum without `symbols`");
    };
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        match symbol.as_str() {
            Some(symbol) if is_name(symbol) && seen.insert(symbol) => read.push(symbol.into()),
            _ => return broken("a symbol of an enum is no name, or there twice"),
        }
    }
    Ok(read.into())
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int(Whole::Number),
        "long" => Node::Long(Whole::Number),
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes(Raw::Bytes),
        "string" => Node::String,
        _ => return None,
    })
}

/// The same type, as its logical type reads it.
fn logical(node: Node, object: &Object) -> Node {
    let logical = object.get("logicalType").and_then(Value::as_str).unwrap_or_default();
    match (node, logical) {
        (Node::Int(_), "date") => Node::Int(Whole::Date),
        (Node::Int(_), "time-millis") => Node::Int(Whole::TimeOfDay(Fraction::Millis)),
        (Node::Long(_), "time-micros") => Node::Long(Whole::TimeOfDay(Fraction::Micros)),
        (Node::Long(_), "timestamp-millis") => Node::Long(Whole::Moment(Fraction::Millis)),
        (Node::Long(_), "timestamp-micros") => Node::Long(Whole::Moment(Fraction::Micros)),
        (Node::Long(_), "timestamp-nanos") => Node::Long(Whole::Moment(Fraction::Nanos)),
        (Node::Long(_), "local-timestamp-millis") => Node::Long(Whole::Local(Fraction::Millis)),
        (Node::Long(_), "local-timestamp-micros") => Node::Long(Whole::Local(Fraction::Micros)),
        (Node::Long(_), "local-timestamp-nanos") => Node::Long(Whole::Local(Fraction::Nanos)),
        (Node::Bytes(_), _) => Node::Bytes(raw(object, None)),
        (node, _) => node,
    }
}

/// What bytes stand for; `size` is that of a fixed.
fn raw(object: &Object, size: Option<usize>) -> Raw {
    let whole =
        |name| object.get(name).and_then(Value::as_i64).and_then(|number| usize::try_from(number).ok());
    match (object.get("logicalType").and_then(Value::as_str), size) {
        (Some("decimal"), _) => {
            let (precision, scale) = (whole("precision"), whole("scale"));
            // One that is given and no whole number is as wrong as one that is too large.
            let scale = if object.contains_key("scale") { scale } else { Some(0) };
            match (precision, scale) {
                (Some(precision), Some(scale)) if precision > 0 && scale <= precision.min(SCALE_MAX) => {
                    Raw::Decimal(scale)
                }
                _ => Raw::Bytes,
            }
        }
        (Some("uuid"), Some(16)) => Raw::Uuid,
        (Some("duration"), Some(12)) => Raw::Duration,
        _ => Raw::Bytes,
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A name as an error shows it.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_default).collect()
}
