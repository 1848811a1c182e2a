//! JSON in and out, enough for a manifest; with crates, `serde_json` takes this file's place.

use std::iter::Peekable;
use std::str::Chars;

pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

const MOST_DEPTH: usize = 100; // objects and lists inside each other

impl Json {
    /// Parse one document: no key twice in an object, every number finite, at most `MOST_DEPTH` deep.
    pub fn parse(text: &str) -> Option<Json> {
        let mut rest = text.chars().peekable();
        let value = value(&mut rest, MOST_DEPTH)?;
        blank(&mut rest);
        if rest.next().is_none() { Some(value) } else { None }
    }

    pub fn get(&self, key: &str) -> Result<&Json, String> {
        match self {
            Json::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
        .ok_or(format!("manifest.json: {} is missing", key))
    }

    pub fn number(&self, key: &str) -> Result<f64, String> {
        match self.get(key)? {
            Json::Number(value) => Ok(*value),
            _ => Err(format!("manifest.json: {} must be a number", key)),
        }
    }

    /// A whole number of a range.
    pub fn integer(&self, key: &str, least: usize, most: usize) -> Result<usize, String> {
        let value = self.number(key)?;
        if value >= least as f64 && value <= most as f64 && value == value.floor() {
            return Ok(value as usize);
        }
        Err(format!("manifest.json: {} must be an integer from {} to {}; got {:e}", key, least, most, value))
    }

    pub fn text(&self, key: &str) -> Result<&str, String> {
        match self.get(key)? {
            Json::Text(value) => Ok(value),
            _ => Err(format!("manifest.json: {} must be a string", key)),
        }
    }

    pub fn flag(&self, key: &str) -> Result<bool, String> {
        match self.get(key)? {
            Json::Bool(value) => Ok(*value),
            _ => Err(format!("manifest.json: {} must be true or false", key)),
        }
    }

    /// Whether a member is this text; one that is null or of another type is not.
    pub fn is(&self, key: &str, wanted: &str) -> Result<bool, String> {
        Ok(matches!(self.get(key)?, Json::Text(value) if value == wanted))
    }

    pub fn list(&self, key: &str) -> Result<&[Json], String> {
        match self.get(key)? {
            Json::List(values) => Ok(values),
            _ => Err(format!("manifest.json: {} must be a list", key)),
        }
    }
}

/// Text from outside as a message may repeat it: at most 80 characters, in quotation marks.
pub fn shown(text: &str) -> String {
    let cut: String = text.chars().take(77).collect();
    if text.chars().count() > 80 { format!("'{}...'", cut) } else { format!("'{}'", text) }
}

/// A text as JSON writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out + "\""
}

fn blank(rest: &mut Peekable<Chars>) {
    while rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
}

fn value(rest: &mut Peekable<Chars>, depth: usize) -> Option<Json> {
    blank(rest);
    match *rest.peek()? {
        '{' => members(rest, '}', depth, |rest, depth| {
            blank(rest);
            let name = text(rest)?;
            blank(rest);
            rest.next_if_eq(&':')?;
            Some((name, value(rest, depth)?))
        })
        .filter(|members| {
            let mut names: Vec<&String> = members.iter().map(|(name, _)| name).collect();
            names.sort();
            names.windows(2).all(|pair| pair[0] != pair[1])
        })
        .map(Json::Object),
        '[' => members(rest, ']', depth, value).map(Json::List),
        '"' => text(rest).map(Json::Text),
        _ => {
            let mut word = String::new();
            while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c)) {
                word.push(c);
            }
            match word.as_str() {
                "null" => Some(Json::Null),
                "true" | "false" => Some(Json::Bool(word == "true")),
                word if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                    word.parse().ok().filter(|x: &f64| x.is_finite()).map(Json::Number)
                }
                _ => None,
            }
        }
    }
}

/// What stands between brackets, separated by commas; `depth` more may be opened.
fn members<T>(
    rest: &mut Peekable<Chars>,
    end: char,
    depth: usize,
    item: fn(&mut Peekable<Chars>, usize) -> Option<T>,
) -> Option<Vec<T>> {
    let inner = depth.checked_sub(1)?;
    let mut found = Vec::new();
    rest.next();
    blank(rest);
    if rest.next_if_eq(&end).is_some() {
        return Some(found);
    }
    loop {
        found.push(item(rest, inner)?);
        blank(rest);
        match rest.next()? {
            ',' => continue,
            c if c == end => return Some(found),
            _ => return None,
        }
    }
}

fn text(rest: &mut Peekable<Chars>) -> Option<String> {
    let mut out = String::new();
    rest.next_if_eq(&'"')?;
    loop {
        match rest.next()? {
            '"' => return Some(out),
            '\\' => out.push(match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => escaped(rest)?,
                c => c,
            }),
            c if c < ' ' => return None,
            c => out.push(c),
        }
    }
}

/// The character of `\uXXXX`, or of two of them that are a surrogate pair.
fn escaped(rest: &mut Peekable<Chars>) -> Option<char> {
    fn unit(rest: &mut Peekable<Chars>) -> Option<u32> {
        u32::from_str_radix(&rest.take(4).collect::<String>(), 16).ok()
    }
    let high = unit(rest)?;
    if !(0xD800..0xDC00).contains(&high) {
        return char::from_u32(high);
    }
    rest.next_if_eq(&'\\')?;
    rest.next_if_eq(&'u')?;
    char::from_u32(0x10000 + ((high - 0xD800) << 10) + unit(rest)?.checked_sub(0xDC00)?)
}
