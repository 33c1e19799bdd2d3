//! Expressions of reducers, evaluated by jaq. Where API.md section 3 differs from jq (null and poison in
//! arithmetic, decimals, errors on the left of `//`) the expression is rewritten to call natives that say so.
//! Only the forms that ledger specs need are known; any other is refused loudly.

use super::json::{self, Decimal};
use super::unsupported;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::load::{Arena, File, Loader, lex::StrPart, parse};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::ops::{Cmp, Math};
use jaq_core::path::{Opt, Part};
use jaq_core::{Compiler, Ctx, Cv, Error, Filter, ValR, ValT, ValXs, Vars, data::JustLut};
use jaq_json::Val;
use serde_json::Value;

type D = JustLut<Val>;

/// A compiled expression.
pub(crate) struct Expr {
    filter: Filter<D>,
    uses_state: bool,
}

/// What an expression may look at.
pub(crate) struct Scope {
    data: Val,
    event: Val,
    /// The state before the event.
    state: Val,
}

impl Scope {
    /// `state` is converted only if the reducer looks at it.
    pub(crate) fn new(data: &Value, event: &Value, state: Option<&Value>) -> Self {
        Self { data: to_val(data), event: to_val(event), state: state.map_or(Val::Null, to_val) }
    }
}

impl Expr {
    pub(crate) fn compile(source: &str) -> Self {
        let term = parse(source, |p| p.term())
            .unwrap_or_else(|| unsupported(&format!("the expression `{source}`: jaq cannot parse it")));
        let code = render(&term);
        let arena = Arena::default();
        let loader = Loader::new(std::iter::empty());
        let modules = loader.load(&arena, File { code: code.as_str(), path: () });
        let filter = modules.ok().and_then(|modules| {
            Compiler::default()
                .with_funs(natives())
                .with_global_vars(["$event", "$state"])
                .compile(modules)
                .ok()
        });
        let filter = filter.unwrap_or_else(|| unsupported(&format!("the expression `{source}` as `{code}`")));
        Self { filter, uses_state: code.contains("$state") }
    }

    pub(crate) fn uses_state(&self) -> bool {
        self.uses_state
    }

    /// The value, or nothing where it is poison.
    pub(crate) fn value(&self, scope: &Scope) -> Option<Value> {
        let vars = Vars::new([scope.event.clone(), scope.state.clone()]);
        let ctx = Ctx::<D>::new(&self.filter.lut, vars);
        let mut values = self.filter.id.run((ctx, scope.data.clone())).map(jaq_core::unwrap_valr);
        let value = values.next().unwrap_or_else(|| unsupported("an expression without a value")).ok()?;
        assert!(values.next().is_none(), "an expression of a ledger spec has one value");
        Some(from_val(&value))
    }
}

fn to_val(value: &Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(yes) => Val::Bool(*yes),
        Value::Number(n) if n.as_str() == "-0" => Val::Num(jaq_json::Num::Dec("-0".to_owned().into())),
        Value::Number(n) => Val::from_num(n.as_str()).expect("a number of any text is a value"),
        Value::String(text) => Val::from(text.clone()),
        Value::Array(items) => items.iter().map(to_val).collect(),
        Value::Object(members) => {
            Val::obj(members.iter().map(|(name, member)| (Val::from(name.clone()), to_val(member))).collect())
        }
    }
}

fn from_val(value: &Val) -> Value {
    match value {
        Val::Null => Value::Null,
        Val::Bool(yes) => Value::Bool(*yes),
        Val::Num(jaq_json::Num::Float(_)) => unsupported("a number that went through binary floating point"),
        Val::Num(n) => json::number(n.to_string()),
        Val::TStr(bytes) | Val::BStr(bytes) => {
            Value::String(String::from_utf8(bytes.to_vec()).expect("JSON text is UTF-8"))
        }
        Val::Arr(items) => Value::Array(items.iter().map(from_val).collect()),
        Val::Obj(members) => Value::Object(
            members
                .iter()
                .map(|(n, m)| (from_val(n).as_str().unwrap_or_default().to_owned(), from_val(m)))
                .collect(),
        ),
    }
}

/// The jq text of a term in which every operator with rules of its own is a call of a native.
fn render(term: &Term<&str>) -> String {
    match term {
        Term::Id => ".".to_owned(),
        Term::Num(text) => (*text).to_owned(),
        Term::Str(None, parts) => json::text(&Value::String(literal(parts))),
        Term::Var(name @ ("$event" | "$state")) => (*name).to_owned(),
        Term::Call(name @ ("true" | "false" | "null"), args) if args.is_empty() => format!("snap_{name}"),
        Term::Neg(inner) => format!("snap_minus(0; {})", render(inner)),
        Term::Path(head, path) => path.0.iter().fold(render(head), |code, (part, opt)| match (part, opt) {
            (Part::Index(Term::Str(None, parts)), Opt::Essential) => {
                let name = literal(parts);
                let known = matches!(name.as_str(), "type" | "id" | "version");
                if code == "$event" && !known {
                    unsupported(&format!("`$event.{name}`"));
                }
                format!("{code}[{}]", json::text(&Value::String(name)))
            }
            _ => unsupported("paths of anything but names in an expression"),
        }),
        Term::IfThenElse(branches, Some(other)) => {
            let other = render(other);
            branches.iter().rev().fold(other, |other, (condition, then)| {
                format!("(if {} then {} else {other} end)", render(condition), render(then))
            })
        }
        Term::BinOp(l, op, r) => {
            let (l, r) = (render(l), render(r));
            match op {
                BinaryOp::Alt => format!("({l} as $left | if $left then $left else {r} end)"),
                BinaryOp::And => format!("({l} and {r})"),
                BinaryOp::Or => format!("({l} or {r})"),
                BinaryOp::Math(Math::Add) => format!("snap_plus({l}; {r})"),
                BinaryOp::Math(Math::Sub) => format!("snap_minus({l}; {r})"),
                BinaryOp::Math(Math::Mul) => format!("snap_times({l}; {r})"),
                BinaryOp::Cmp(Cmp::Lt) => format!("(snap_compare({l}; {r}) < 0)"),
                BinaryOp::Cmp(Cmp::Le) => format!("(snap_compare({l}; {r}) <= 0)"),
                BinaryOp::Cmp(Cmp::Gt) => format!("(snap_compare({l}; {r}) > 0)"),
                BinaryOp::Cmp(Cmp::Ge) => format!("(snap_compare({l}; {r}) >= 0)"),
                BinaryOp::Cmp(Cmp::Eq) => format!("(snap_compare({l}; {r}) == 0)"),
                BinaryOp::Cmp(Cmp::Ne) => format!("(snap_compare({l}; {r}) != 0)"),
                _ => unsupported("this operator in an expression"),
            }
        }
        _ => unsupported(&format!("this form of expression: {term:?}")),
    }
}

fn literal(parts: &[StrPart<&str, Term<&str>>]) -> String {
    let part = |part: &StrPart<&str, Term<&str>>| match part {
        StrPart::Str(text) => (*text).to_owned(),
        StrPart::Char(c) => c.to_string(),
        StrPart::Term(_) => unsupported("string interpolation in an expression"),
    };
    parts.iter().map(part).collect()
}

fn natives() -> impl Iterator<Item = Fun<D>> {
    [
        run(("snap_plus", v(2), |cv| binary(cv, plus))),
        run(("snap_minus", v(2), |cv| binary(cv, |l, r| exact(l, r, |l, r| l.plus(r, -1))))),
        run(("snap_times", v(2), |cv| binary(cv, |l, r| exact(l, r, Decimal::times)))),
        run(("snap_compare", v(2), |cv| binary(cv, compare))),
        run(("snap_true", v(0), |_| bome(Ok(Val::Bool(true))))),
        run(("snap_false", v(0), |_| bome(Ok(Val::Bool(false))))),
        run(("snap_null", v(0), |_| bome(Ok(Val::Null)))),
    ]
    .into_iter()
}

fn binary<'a>(mut cv: Cv<'a, D>, f: fn(&Val, &Val) -> ValR<Val>) -> ValXs<'a, Val> {
    let (r, l) = (cv.0.pop_var(), cv.0.pop_var());
    bome(f(&l, &r))
}

fn decimal(value: &Val) -> Option<Decimal> {
    if let Val::Num(n) = value { Decimal::parse(&n.to_string()) } else { None }
}

fn exact(l: &Val, r: &Val, f: fn(Decimal, Decimal) -> Option<Decimal>) -> ValR<Val> {
    let result = decimal(l).zip(decimal(r)).and_then(|(l, r)| f(l, r));
    result.map_or_else(|| Err(Error::new(Val::from("poison".to_owned()))), |d| Val::from_num(&d.text()))
}

/// Null is the identity, strings join, numbers add; anything else is poison.
fn plus(l: &Val, r: &Val) -> ValR<Val> {
    match (l, r) {
        (Val::Null, other) | (other, Val::Null) => Ok(other.clone()),
        (Val::TStr(l), Val::TStr(r)) => Ok(Val::utf8_str([&l[..], &r[..]].concat())),
        _ => exact(l, r, |l, r| l.plus(r, 1)),
    }
}

/// Numbers by exact value; jq's order of types otherwise.
fn compare(l: &Val, r: &Val) -> ValR<Val> {
    let order = match (decimal(l), decimal(r)) {
        (Some(l), Some(r)) => l.compare(r),
        _ if matches!((l, r), (Val::Arr(_) | Val::Obj(_), Val::Arr(_) | Val::Obj(_))) => {
            unsupported("comparison of arrays and objects in an expression")
        }
        _ => l.cmp(r),
    };
    Ok(Val::from(order as isize))
}
