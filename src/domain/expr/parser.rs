//! Tokens to a tree, with jq's precedences, loosest first: `|` (right), `//` (right), `or`, `and`,
//! comparisons (one only), `+ -`, `* / %`, unary `-`, then paths. Everything else of jq is refused by name.

use super::lexer::{Lexeme, Token, lex};
use super::{Ast, Comparison, Expr, Field, NESTING_MAX, Operator, ParseError, Step, TOKENS_MAX};
use crate::domain::number::Number;
use crate::domain::value::{Object, Value};

const SUPPORTED: &str = "supported are paths, literals, `+ - * / // %`, comparisons, `and or not`, \
                         `if then elif else end`, text interpolation, `|`, `length` and `has`";
const REFUSED_SIGNS: [(&str, &str); 18] = [
    (",", "several results (`,`)"),
    ("..", "recursive descent (`..`)"),
    ("?", "`?`"),
    ("?//", "destructuring alternatives (`?//`)"),
    ("?//=", "`?//=`"),
    ("//=", "assignment (`//=`)"),
    ("|=", "assignment (`|=`)"),
    ("+=", "assignment (`+=`)"),
    ("-=", "assignment (`-=`)"),
    ("*=", "assignment (`*=`)"),
    ("/=", "assignment (`/=`)"),
    ("%=", "assignment (`%=`)"),
    ("=", "assignment (`=`)"),
    (":", "slicing (`:`)"),
    (";", "`;`"),
    ("@", "formats (`@`)"),
    ("{", "building objects"),
    ("[", "building arrays"),
];

type Parsed<T = Ast> = Result<T, ParseError>;

struct Parser {
    lexemes: Vec<Lexeme>,
    next: usize,
    nesting: usize,
    reads_state: bool,
}

pub(super) fn parse(text: &str) -> Parsed<Expr> {
    let lexemes = lex(text)?;
    if lexemes.len() > TOKENS_MAX {
        let at = lexemes[TOKENS_MAX].at;
        return Err(ParseError::new(
            at,
            format!("an expression of more than {TOKENS_MAX} tokens"),
            "split it",
        ));
    }
    let mut parser = Parser { lexemes, next: 0, nesting: 0, reads_state: false };
    let root = parser.pipe()?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected("an operator or the end"));
    }
    Ok(Expr { root, reads_state: parser.reads_state })
}

impl Parser {
    /// The last lexeme is `End` and is never passed.
    fn peek(&self) -> &Token {
        &self.lexemes[self.next].token
    }

    fn at(&self) -> usize {
        self.lexemes[self.next].at
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if **found == *word)
    }

    fn eat_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.next += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    fn expect_sign(&mut self, sign: &'static str) -> Parsed<()> {
        if self.eat_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn expect_word(&mut self, word: &'static str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    /// What stands here is not `wanted`; if it is something of jq that we lack, say so.
    fn unexpected(&self, wanted: &str) -> ParseError {
        let refused =
            |what: String| ParseError::new(self.at(), format!("{what} is not supported"), SUPPORTED);
        let found = match self.peek() {
            Token::Sign(sign) => {
                if let Some((_, what)) = REFUSED_SIGNS.iter().find(|(refused, _)| refused == sign) {
                    return refused((*what).to_owned());
                }
                format!("`{sign}`")
            }
            Token::Word(word) => match &**word {
                "and" | "or" | "then" | "elif" | "else" | "end" => format!("`{word}`"),
                "as" | "def" | "reduce" | "foreach" | "try" | "catch" | "label" | "import" | "include" => {
                    return refused(format!("`{word}`"));
                }
                _ => format!("`{word}`"),
            },
            Token::End => "the end".to_owned(),
            Token::Number(_) => "a number".to_owned(),
            Token::Variable(name) => format!("`${name}`"),
            Token::Field(name) => format!("`.{name}`"),
            Token::Dot => "`.`".to_owned(),
            Token::HoleClose => "`)`".to_owned(),
            Token::StringOpen | Token::StringClose | Token::Text(_) | Token::HoleOpen => "a text".to_owned(),
        };
        ParseError::new(self.at(), format!("{found} where {wanted} should be"), SUPPORTED)
    }

    fn nested(&mut self, parse: fn(&mut Self) -> Parsed) -> Parsed {
        if self.nesting == NESTING_MAX {
            let message = format!("nested deeper than {NESTING_MAX} levels");
            return Err(ParseError::new(self.at(), message, "split the expression"));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    /// `a | b | c`: right-associative, which means the same, so the loop builds it to the left.
    fn pipe(&mut self) -> Parsed {
        let mut left = self.alternative()?;
        while self.eat_sign("|") {
            left = Ast::Pipe(Box::new(left), Box::new(self.alternative()?));
        }
        Ok(left)
    }

    /// `a // b // c` is `a // (b // c)`, which is the first that is neither null nor false: grouping does not
    /// matter.
    fn alternative(&mut self) -> Parsed {
        let mut left = self.or()?;
        while self.eat_sign("//") {
            left = Ast::Alternative(Box::new(left), Box::new(self.or()?));
        }
        Ok(left)
    }

    fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        while self.eat_word("or") {
            left = Ast::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.comparison()?;
        while self.eat_word("and") {
            left = Ast::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Parsed {
        let left = self.sum()?;
        let Some(comparison) = self.comparison_sign() else { return Ok(left) };
        self.next += 1;
        let right = self.sum()?;
        if self.comparison_sign().is_some() {
            return Err(ParseError::new(
                self.at(),
                "a second comparison in a row",
                "join comparisons with `and`",
            ));
        }
        Ok(Ast::Compare(comparison, Box::new(left), Box::new(right)))
    }

    fn comparison_sign(&self) -> Option<Comparison> {
        let Token::Sign(sign) = self.peek() else { return None };
        Some(match *sign {
            "==" => Comparison::Equal,
            "!=" => Comparison::Unequal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        })
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let operator = match self.peek() {
                Token::Sign("+") => Operator::Add,
                Token::Sign("-") => Operator::Subtract,
                _ => return Ok(left),
            };
            self.next += 1;
            left = Ast::Arithmetic(operator, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.negation()?;
        loop {
            let operator = match self.peek() {
                Token::Sign("*") => Operator::Multiply,
                Token::Sign("/") => Operator::Divide,
                Token::Sign("%") => Operator::Remainder,
                _ => return Ok(left),
            };
            self.next += 1;
            left = Ast::Arithmetic(operator, Box::new(left), Box::new(self.negation()?));
        }
    }

    fn negation(&mut self) -> Parsed {
        let literal = matches!(self.lexemes.get(self.next + 1), Some(Lexeme { token: Token::Number(_), .. }));
        if !self.eat_sign("-") {
            return self.path();
        }
        let operand = self.nested(Self::negation)?;
        if let (true, Ast::Constant(Value::Number(number))) = (literal, &operand) {
            let mut text = b"-".to_vec();
            number.write_to(&mut text);
            let text = String::from_utf8_lossy(&text);
            return Ok(Ast::Constant(Value::Number(
                Number::parse(&text).expect("a number after a minus is one"),
            )));
        }
        Ok(Ast::Negate(Box::new(operand)))
    }

    /// A term and the steps that follow it.
    fn path(&mut self) -> Parsed {
        let (base, mut steps) = self.term()?;
        loop {
            match self.peek() {
                Token::Field(_) => {
                    if let Token::Field(name) = self.take() {
                        steps.push(Step::Name(name));
                    }
                }
                Token::Dot => {
                    self.next += 1;
                    match self.peek() {
                        Token::StringOpen => steps.push(self.quoted_step()?),
                        Token::Sign("[") => steps.push(self.bracket_step()?),
                        _ => return Err(self.unexpected("a member name")),
                    }
                }
                Token::Sign("[") => steps.push(self.bracket_step()?),
                _ => break,
            }
        }
        self.with_steps(base, steps)
    }

    fn with_steps(&mut self, base: Ast, mut steps: Vec<Step>) -> Parsed {
        if base == Ast::Event
            && let Some(Step::Name(name)) = steps.first()
        {
            let Some(field) = Field::named(name) else {
                let at = self.lexemes[self.next.saturating_sub(1)].at;
                let hint = "it has `type`, `id`, `version`, `time`, `key` and `headers`";
                return Err(ParseError::new(at, format!("`$event` has no `{name}`"), hint));
            };
            steps.remove(0);
            let base = Ast::EventField(field);
            return Ok(if steps.is_empty() { base } else { Ast::Path(Box::new(base), steps) });
        }
        Ok(if steps.is_empty() { base } else { Ast::Path(Box::new(base), steps) })
    }

    /// `."name"`.
    fn quoted_step(&mut self) -> Parsed<Step> {
        self.next += 1;
        Ok(step_of(self.nested(Self::string)?))
    }

    /// `[expression]`.
    fn bracket_step(&mut self) -> Parsed<Step> {
        self.next += 1;
        if self.is_sign("]") {
            return Err(ParseError::new(self.at(), "iteration (`[]`) is not supported", SUPPORTED));
        }
        let inner = self.nested(Self::pipe)?;
        self.expect_sign("]")?;
        Ok(step_of(inner))
    }

    /// What a path can start with, and the first step if it is one.
    fn term(&mut self) -> Parsed<(Ast, Vec<Step>)> {
        let at = self.at();
        let base = match self.peek().clone() {
            Token::Dot => {
                self.next += 1;
                let steps =
                    if *self.peek() == Token::StringOpen { vec![self.quoted_step()?] } else { Vec::new() };
                return Ok((Ast::Input, steps));
            }
            Token::Field(name) => {
                self.next += 1;
                return Ok((Ast::Input, vec![Step::Name(name)]));
            }
            Token::Number(text) => {
                self.next += 1;
                let number = Number::parse(&text);
                let number =
                    number.map_err(|_| ParseError::new(at, "not a number", "write it as in JSON"))?;
                Ast::Constant(Value::Number(number))
            }
            Token::StringOpen => {
                self.next += 1;
                self.nested(Self::string)?
            }
            Token::Variable(name) => {
                self.next += 1;
                self.variable(&name, at)?
            }
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.nested(Self::pipe)?;
                self.expect_sign(")")?;
                inner
            }
            Token::Sign(open @ ("[" | "{")) => {
                self.next += 1;
                let (close, empty) = match open {
                    "[" => ("]", Value::Array(Vec::new())),
                    _ => ("}", Value::Object(Object::new())),
                };
                if !self.eat_sign(close) {
                    self.next -= 1;
                    return Err(self.unexpected("a value"));
                }
                Ast::Constant(empty)
            }
            Token::Word(word) => self.word(&word)?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok((base, Vec::new()))
    }

    fn variable(&mut self, name: &str, at: usize) -> Parsed {
        match name {
            "event" => Ok(Ast::Event),
            "state" => {
                self.reads_state = true;
                Ok(Ast::State)
            }
            _ => {
                let hint = "there are `.` (the event's data), `$event` and `$state`";
                Err(ParseError::new(at, format!("`${name}` is not known"), hint))
            }
        }
    }

    fn word(&mut self, word: &str) -> Parsed {
        let constant = match word {
            "null" => Some(Value::Null),
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        };
        if let Some(value) = constant {
            self.next += 1;
            return Ok(Ast::Constant(value));
        }
        match word {
            "if" => self.nested(Self::conditional),
            "length" | "not" => {
                self.next += 1;
                Ok(if word == "not" { Ast::Not } else { Ast::Length })
            }
            "has" => {
                self.next += 1;
                self.expect_sign("(")?;
                let key = self.nested(Self::pipe)?;
                self.expect_sign(")")?;
                Ok(Ast::Has(Box::new(key)))
            }
            "and" | "or" | "then" | "elif" | "else" | "end" => Err(self.unexpected("a value")),
            _ => {
                let before = self.next.checked_sub(2).map(|at| &self.lexemes[at..self.next]);
                let hint = match before {
                    Some(
                        [Lexeme { token: Token::Field(name), .. }, Lexeme { token: Token::Sign("-"), .. }],
                    ) => {
                        format!("if the member is called `{name}-{word}`, write `.\"{name}-{word}\"`")
                    }
                    _ => SUPPORTED.to_owned(),
                };
                Err(ParseError::new(self.at(), format!("`{word}` is not supported"), hint))
            }
        }
    }

    fn conditional(&mut self) -> Parsed {
        let mut branches = Vec::new();
        // The parser stands on `if` or `elif`.
        loop {
            self.next += 1;
            let condition = self.pipe()?;
            self.expect_word("then")?;
            branches.push((condition, self.pipe()?));
            if !self.is_word("elif") {
                break;
            }
        }
        if self.is_word("end") {
            return Err(ParseError::new(
                self.at(),
                "an `if` without `else`",
                "write `else null` or `else .x`",
            ));
        }
        self.expect_word("else")?;
        let otherwise = self.pipe()?;
        self.expect_word("end")?;
        Ok(Ast::If(branches, Box::new(otherwise)))
    }

    /// The rest of a text after its opening quote.
    fn string(&mut self) -> Parsed {
        let mut parts = Vec::new();
        loop {
            match self.take() {
                Token::Text(text) => parts.push(Ast::Constant(Value::String(text))),
                Token::HoleOpen => {
                    parts.push(self.nested(Self::pipe)?);
                    if *self.peek() != Token::HoleClose {
                        return Err(self.unexpected("`)`"));
                    }
                    self.next += 1;
                }
                Token::StringClose => break,
                _ => return Err(self.unexpected("the end of a text")),
            }
        }
        Ok(match parts.as_slice() {
            [] => Ast::Constant(Value::String("".into())),
            [Ast::Constant(text @ Value::String(_))] => Ast::Constant(text.clone()),
            _ => Ast::Concat(parts),
        })
    }
}

/// Constant steps are resolved once.
fn step_of(inner: Ast) -> Step {
    match inner {
        Ast::Constant(Value::String(name)) => Step::Name(name),
        Ast::Constant(Value::Number(number)) => match number.as_i64() {
            Some(index) => Step::Index(index),
            None => Step::Computed(Ast::Constant(Value::Number(number))),
        },
        inner => Step::Computed(inner),
    }
}
