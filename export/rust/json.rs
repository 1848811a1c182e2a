//! JSON in and out, enough for a manifest; with crates, `serde_json` takes this file's place.

use std::iter::Peekable;
use std::str::Chars;

pub enum Json {
    Null,
    Bool,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Option<Json> {
        let mut rest = text.chars().peekable();
        let value = value(&mut rest)?;
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

    /// The text of a member; empty where that is null.
    pub fn text(&self, key: &str) -> Result<&str, String> {
        match self.get(key)? {
            Json::Text(value) => Ok(value),
            Json::Null => Ok(""),
            _ => Err(format!("manifest.json: {} must be a string", key)),
        }
    }

    pub fn list(&self, key: &str) -> Result<&[Json], String> {
        match self.get(key)? {
            Json::List(values) => Ok(values),
            _ => Err(format!("manifest.json: {} must be a list", key)),
        }
    }
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

fn value(rest: &mut Peekable<Chars>) -> Option<Json> {
    blank(rest);
    match *rest.peek()? {
        '{' => members(rest, '}', |rest| {
            blank(rest);
            let name = text(rest)?;
            blank(rest);
            rest.next_if_eq(&':')?;
            Some((name, value(rest)?))
        })
        .map(Json::Object),
        '[' => members(rest, ']', value).map(Json::List),
        '"' => text(rest).map(Json::Text),
        _ => {
            let mut word = String::new();
            while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c)) {
                word.push(c);
            }
            match word.as_str() {
                "null" => Some(Json::Null),
                "true" | "false" => Some(Json::Bool),
                _ => word.parse().ok().filter(|x: &f64| x.is_finite()).map(Json::Number),
            }
        }
    }
}

/// What stands between brackets, separated by commas.
fn members<T>(rest: &mut Peekable<Chars>, end: char, item: fn(&mut Peekable<Chars>) -> Option<T>) -> Option<Vec<T>> {
    let mut found = Vec::new();
    rest.next();
    blank(rest);
    if rest.next_if_eq(&end).is_some() {
        return Some(found);
    }
    loop {
        found.push(item(rest)?);
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
