//! The tokens of an expression. Strings with interpolation become a flat run `StringOpen`, `Text`,
//! `HoleOpen`, tokens, `HoleClose`, …, `StringClose`, so that nothing here recurses.

use super::ParseError;
use crate::domain::text::Text;

/// One token and the number of its first character.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexeme {
    pub(super) at: usize,
    pub(super) token: Token,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `.` alone.
    Dot,
    /// `.name`.
    Field(Text),
    /// A number in JSON's grammar, digits as written.
    Number(Text),
    /// A keyword or the name of a function.
    Word(Text),
    /// `$name`, without the `$`.
    Variable(Text),
    StringOpen,
    Text(Text),
    HoleOpen,
    HoleClose,
    StringClose,
    /// Operators and brackets, supported or not.
    Sign(&'static str),
    End,
}

/// All signs of jq, the longer ones first; the parser names the unsupported ones.
const SIGNS: [&str; 35] = [
    "?//=", "?//", "//=", "..", "//", "==", "!=", "<=", ">=", "|=", "+=", "-=", "*=", "/=", "%=", "(", ")",
    "[", "]", "{", "}", "|", ",", ":", ";", "=", "<", ">", "+", "-", "*", "/", "%", "?", "@",
];

struct Lexer<'a> {
    text: &'a str,
    /// Byte and character number of the next character.
    byte: usize,
    at: usize,
    lexemes: Vec<Lexeme>,
    /// Open brackets inside each open interpolation.
    holes: Vec<usize>,
}

/// Splits `text`; the last lexeme is `End`.
pub(super) fn lex(text: &str) -> Result<Vec<Lexeme>, ParseError> {
    let mut lexer = Lexer { text, byte: 0, at: 0, lexemes: Vec::new(), holes: Vec::new() };
    while lexer.next()? {}
    Ok(lexer.lexemes)
}

fn starts_name(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_'
}

fn goes_on_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.byte..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, letter: char) {
        self.byte += letter.len_utf8();
        self.at += 1;
    }

    /// Skips as long as `wanted` and returns what was skipped.
    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.byte;
        while let Some(letter) = self.peek().filter(|letter| wanted(*letter)) {
            self.skip(letter);
        }
        &self.text[start..self.byte]
    }

    fn push(&mut self, at: usize, token: Token) {
        self.lexemes.push(Lexeme { at, token });
    }

    /// Reads one token; false at the end.
    fn next(&mut self) -> Result<bool, ParseError> {
        self.skip_while(char::is_whitespace);
        let at = self.at;
        let Some(letter) = self.peek() else {
            if !self.holes.is_empty() {
                return Err(ParseError::new(
                    at,
                    "the text ends inside `\\( )`",
                    "close it with `)` and a quote",
                ));
            }
            self.push(at, Token::End);
            return Ok(false);
        };
        let second = self.rest()[letter.len_utf8()..].chars().next();
        match (letter, second) {
            ('"', _) => {
                self.skip(letter);
                self.push(at, Token::StringOpen);
                self.string(at)?;
            }
            ('.', Some(second)) if starts_name(second) => {
                self.skip(letter);
                let name = self.skip_while(goes_on_name);
                self.push(at, Token::Field(name.into()));
            }
            ('.', Some('.')) => self.sign(at)?,
            ('.', second) if second.is_none_or(|second| !second.is_ascii_digit()) => {
                self.skip(letter);
                self.push(at, Token::Dot);
            }
            ('$', Some(second)) if starts_name(second) => {
                self.skip(letter);
                let name = self.skip_while(goes_on_name);
                self.push(at, Token::Variable(name.into()));
            }
            (letter, _) if letter.is_ascii_digit() || letter == '.' => self.number(at)?,
            (letter, _) if starts_name(letter) => {
                let word = self.skip_while(goes_on_name);
                self.push(at, Token::Word(word.into()));
            }
            _ => self.sign(at)?,
        }
        Ok(true)
    }

    fn sign(&mut self, at: usize) -> Result<(), ParseError> {
        let rest = self.rest();
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        let Some(sign) = sign.copied() else {
            let letter = self.peek().unwrap_or(' ');
            let hint = "a member name with other letters than a-z, 0-9 and `_` is written `.\"name\"`";
            return Err(ParseError::new(at, format!("`{letter}` is not part of an expression"), hint));
        };
        self.byte += sign.len();
        self.at += sign.len();
        match (sign, self.holes.last_mut()) {
            ("(", Some(brackets)) => *brackets += 1,
            (")", Some(0)) => {
                self.holes.pop();
                self.push(at, Token::HoleClose);
                return self.string(at);
            }
            (")", Some(brackets)) => *brackets -= 1,
            _ => {}
        }
        self.push(at, Token::Sign(sign));
        Ok(())
    }

    fn number(&mut self, at: usize) -> Result<(), ParseError> {
        let mut json = String::new();
        let whole = self.skip_while(|letter| letter.is_ascii_digit()).trim_start_matches('0');
        json.push_str(if whole.is_empty() { "0" } else { whole });
        if self.peek() == Some('.') {
            self.skip('.');
            let fraction = self.skip_while(|letter| letter.is_ascii_digit());
            if !fraction.is_empty() {
                json.push('.');
                json.push_str(fraction);
            }
        }
        if let Some(letter @ ('e' | 'E')) = self.peek() {
            self.skip(letter);
            json.push(letter);
            if let Some(sign @ ('+' | '-')) = self.peek() {
                self.skip(sign);
                json.push(sign);
            }
            let exponent = self.skip_while(|letter| letter.is_ascii_digit());
            if exponent.is_empty() {
                return Err(ParseError::new(
                    at,
                    "a number without its exponent",
                    "write `1e3` or leave out the `e`",
                ));
            }
            json.push_str(exponent);
        }
        self.push(at, Token::Number(json.into()));
        Ok(())
    }

    /// Reads the text of a string up to its end or the next `\(`. `open` is where the string started.
    fn string(&mut self, open: usize) -> Result<(), ParseError> {
        let mut text = String::new();
        let start = self.at;
        loop {
            let at = self.at;
            let Some(letter) = self.peek() else {
                return Err(ParseError::new(open, "a text without its closing quote", "close it with `\"`"));
            };
            self.skip(letter);
            match letter {
                '"' => {
                    self.push_text(start, text);
                    self.push(at, Token::StringClose);
                    return Ok(());
                }
                '\\' if self.peek() == Some('(') => {
                    self.skip('(');
                    self.push_text(start, text);
                    self.push(at, Token::HoleOpen);
                    self.holes.push(0);
                    return Ok(());
                }
                '\\' => text.push(self.escape(at)?),
                letter => text.push(letter),
            }
        }
    }

    fn push_text(&mut self, at: usize, text: String) {
        if !text.is_empty() {
            self.push(at, Token::Text(text.into()));
        }
    }

    /// JSON's escapes (RFC 8259 section 7), after the backslash.
    fn escape(&mut self, at: usize) -> Result<char, ParseError> {
        let unknown = || ParseError::new(at, "not an escape of JSON", "escape a backslash as `\\\\`");
        let letter = self.peek().ok_or_else(unknown)?;
        self.skip(letter);
        Ok(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let lone = || {
                    ParseError::new(at, "half of a surrogate pair", "write both halves, or the letter itself")
                };
                let first = self.hex(at)?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).ok_or_else(lone);
                }
                if !self.rest().starts_with("\\u") {
                    return Err(lone());
                }
                self.byte += 2;
                self.at += 2;
                let second = self.hex(at)?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(lone());
                }
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                char::from_u32(code).ok_or_else(lone)?
            }
            _ => return Err(unknown()),
        })
    }

    fn hex(&mut self, at: usize) -> Result<u32, ParseError> {
        let digits =
            self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code =
            code.ok_or_else(|| ParseError::new(at, "`\\u` without four hex digits", "write `\\u00e9`"))?;
        self.byte += 4;
        self.at += 4;
        Ok(code)
    }
}
