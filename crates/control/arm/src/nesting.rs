//! How deep JSON may be nested.

use serde_json::{Map, Value};

/// How many levels of objects and arrays may be within one another, in a body and in what a template comes to.
///
/// What is kept wraps them into a few levels more, and answers and lists into some more again. Whoever reads these takes only
/// so many: `serde_json` 127. What could be written and not be read again could never be changed or deleted. No resource has
/// more than a dozen.
pub(crate) const DEEPEST: usize = 64;

/// Whether a value has more levels than there may be.
pub(crate) fn is_too_deep(value: &Value) -> bool {
    is_deeper(value, DEEPEST)
}

/// The same of an object.
pub(crate) fn is_object_too_deep(object: &Map<String, Value>) -> bool {
    object.values().any(|value| is_deeper(value, DEEPEST - 1))
}

/// It looks no deeper than `levels`, however deep the value is.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let left = levels.checked_sub(1);
    let is_within = |value: &Value| left.is_some_and(|left| is_deeper(value, left));
    match value {
        Value::Array(items) => left.is_none() || items.iter().any(is_within),
        Value::Object(members) => left.is_none() || members.values().any(is_within),
        _ => false,
    }
}

/// What a person is told of something that is nested too deep.
pub(crate) fn told(what: &str) -> String {
    format!("{what} is nested deeper than {DEEPEST} levels of objects and arrays; make it flatter")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |value, level| {
            if level % 2 == 0 {
                Value::Array(vec![Value::from(1), value])
            } else {
                Value::Object(Map::from_iter([("a".to_owned(), value)]))
            }
        })
    }

    #[test]
    fn levels_are_counted_through_objects_and_arrays() {
        assert!(!is_too_deep(&nested(0)));
        assert!(!is_too_deep(&nested(DEEPEST)));
        assert!(is_too_deep(&nested(DEEPEST + 1)));
        let object = |levels| Map::from_iter([("a".to_owned(), nested(levels))]);
        assert!(!is_object_too_deep(&object(DEEPEST - 1)));
        assert!(is_object_too_deep(&object(DEEPEST)));
    }
}
