//! A request document read strictly, wherever the provider's own words for a mistake do not
//! matter until the end: unknown fields, wrong types and values out of range are [`Mistake`]s.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// What is wrong with a request, and where.
#[derive(Debug, PartialEq)]
pub(super) struct Mistake {
    /// The path of the field, as in `messages.0.role`; empty for the whole body.
    pub(super) path: String,
    pub(super) kind: MistakeKind,
}

/// The kinds of mistakes that each provider has words for.
#[derive(Debug, PartialEq)]
pub(super) enum MistakeKind {
    NotJson,
    Unknown,
    Missing,
    /// Of another type than this.
    Type(&'static str),
    /// A value that is not allowed, in a sentence.
    Value(String),
}

impl Mistake {
    pub(super) fn value(path: &str, sentence: impl Into<String>) -> Self {
        Self { path: path.to_owned(), kind: MistakeKind::Value(sentence.into()) }
    }

    fn wrong_type(path: String, wanted: &'static str) -> Self {
        Self { path, kind: MistakeKind::Type(wanted) }
    }
}

/// Reads a body, which must be a JSON object.
pub(super) fn document(body: &[u8]) -> Result<Value, Mistake> {
    let not_json = || Mistake { path: String::new(), kind: MistakeKind::NotJson };
    let value: Value = serde_json::from_slice(body).map_err(|_| not_json())?;
    if value.is_object() { Ok(value) } else { Err(not_json()) }
}

/// An object of a request, with where it stands.
#[derive(Debug)]
pub(super) struct Object<'a> {
    fields: &'a Map<String, Value>,
    path: String,
}

impl<'a> Object<'a> {
    /// The object at `path`, which may have the `known` fields and no others.
    pub(super) fn read(value: &'a Value, path: &str, known: &[&str]) -> Result<Self, Mistake> {
        let fields = value.as_object().ok_or_else(|| Mistake::wrong_type(path.to_owned(), "an object"))?;
        let object = Self { fields, path: path.to_owned() };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Mistake { path: object.at(name), kind: MistakeKind::Unknown }),
            None => Ok(object),
        }
    }

    /// The path of one of its fields.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name)
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a Value, Mistake> {
        let missing = || Mistake { path: self.at(name), kind: MistakeKind::Missing };
        self.get(name).ok_or_else(missing)
    }

    /// A field that is an object itself.
    pub(super) fn object(&self, name: &str, known: &[&str]) -> Result<Option<Object<'a>>, Mistake> {
        self.get(name).map(|value| Object::read(value, &self.at(name), known)).transpose()
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, Mistake> {
        let wrong = || Mistake::wrong_type(self.at(name), "a string");
        self.get(name).map(|value| value.as_str().ok_or_else(wrong)).transpose()
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, Mistake> {
        let wrong = || Mistake::wrong_type(self.at(name), "a string");
        self.required(name)?.as_str().ok_or_else(wrong)
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Mistake> {
        let wrong = || Mistake::wrong_type(self.at(name), "a boolean");
        self.get(name).map_or(Ok(false), |value| value.as_bool().ok_or_else(wrong))
    }

    /// A whole number within `range`.
    pub(super) fn whole(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Mistake> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().ok_or_else(|| Mistake::wrong_type(self.at(name), "an integer"))?;
        if range.contains(&number) {
            return Ok(Some(number));
        }
        Err(Mistake::value(&self.at(name), format!("must be from {} to {}", range.start(), range.end())))
    }

    /// Checks a number, if it is there.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<(), Mistake> {
        let Some(value) = self.get(name) else { return Ok(()) };
        let number = value.as_f64().ok_or_else(|| Mistake::wrong_type(self.at(name), "a number"))?;
        if range.contains(&number) {
            return Ok(());
        }
        Err(Mistake::value(&self.at(name), format!("must be from {} to {}", range.start(), range.end())))
    }

    /// The items of a list; none when it is absent.
    pub(super) fn list(&self, name: &str) -> Result<&'a [Value], Mistake> {
        let wrong = || Mistake::wrong_type(self.at(name), "a list");
        self.get(name).map_or(Ok(&[]), |value| value.as_array().map(Vec::as_slice).ok_or_else(wrong))
    }

    /// A list of at most `most` texts.
    pub(super) fn texts(&self, name: &str, most: usize) -> Result<Vec<&'a str>, Mistake> {
        let list = self.list(name)?;
        if list.len() > most {
            return Err(Mistake::value(&self.at(name), format!("must have at most {most} items")));
        }
        let wrong = || Mistake::wrong_type(self.at(name), "a list of strings");
        list.iter().map(|value| value.as_str().ok_or_else(wrong)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mistakes_have_the_path_of_what_is_wrong() {
        let value = json!({"a": {"b": 1, "c": "x", "d": ["y", 2]}});
        let object = Object::read(&value, "", &["a"]).unwrap();
        let inner = object.object("a", &["b", "c", "d"]).unwrap().unwrap();
        assert_eq!(inner.whole("b", 1..=3).unwrap(), Some(1));
        assert_eq!(inner.text("b").unwrap_err(), Mistake::wrong_type("a.b".to_owned(), "a string"));
        assert_eq!(inner.whole("b", 2..=3).unwrap_err().path, "a.b");
        assert_eq!(inner.texts("d", 3).unwrap_err().path, "a.d");
        assert_eq!(inner.required("e").unwrap_err().kind, MistakeKind::Missing);
        let unknown = object.object("a", &["b", "c"]).unwrap_err();
        assert_eq!((unknown.path.as_str(), unknown.kind), ("a.d", MistakeKind::Unknown));
        assert_eq!(document(b"[]").unwrap_err().kind, MistakeKind::NotJson);
    }
}
