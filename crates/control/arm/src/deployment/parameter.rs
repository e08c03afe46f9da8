//! The parameters of a template: what they are to be, and what was given for them.

use serde_json::{Map, Value, json};

use super::names::Names;
use super::scope::{Resources, Scope, Surroundings};
use super::template::TemplateError;

/// Parameters with their values.
pub(super) struct Given {
    /// The values.
    pub(super) values: Map<String, Value>,
    /// As they are shown: `{"name": {"type", "value"}}`. The value of a secure one is left out.
    pub(super) shown: Map<String, Value>,
}

/// The types that there are, as ARM shows them.
const TYPES: &[&str] = &[
    "String",
    "SecureString",
    "Int",
    "Bool",
    "Object",
    "SecureObject",
    "Array",
];

/// A type as ARM shows it.
pub(super) fn shown_type(kind: &str) -> &'static str {
    let found = TYPES.iter().find(|it| it.eq_ignore_ascii_case(kind));
    found.copied().unwrap_or("String")
}

/// Whether values of this type are shown to nobody.
pub(super) fn is_secure(kind: &str) -> bool {
    kind.starts_with("Secure")
}

/// Gives each parameter its value: what was given, or its default.
///
/// # Errors
/// If one has none, or one that it can't have, or one is given that the template does not know.
pub(super) fn read(
    defined: &Map<String, Value>,
    given: &Map<String, Value>,
    surroundings: &Surroundings,
) -> Result<Given, TemplateError> {
    let is_defined = |name: &&String| defined.keys().any(|it| it.eq_ignore_ascii_case(name));
    if let Some(name) = given.keys().find(|name| !is_defined(name)) {
        let there_are: Vec<&str> = defined.keys().map(String::as_str).collect();
        return Err(TemplateError(format!(
            "the template has no parameter '{name}'; it has '{}'",
            there_are.join("', '")
        )));
    }
    let mut values = Map::new();
    let mut defaults = Map::new();
    for (name, definition) in defined {
        let wrong = |reason: &str| TemplateError(format!("the parameter '{name}': {reason}"));
        let given = given.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        if let Some((_, given)) = given {
            if given.get("reference").is_some() {
                return Err(wrong(
                    "values from a key vault can't be had here: give the value",
                ));
            }
            let value = given.get("value").cloned();
            let value = value.ok_or_else(|| wrong("it is given without a value"))?;
            values.insert(name.clone(), value);
        } else if let Some(default) = definition.get("defaultValue") {
            defaults.insert(name.clone(), default.clone());
        } else if is_nullable(definition) {
            values.insert(name.clone(), Value::Null);
        } else {
            return Err(wrong("it has no default, and no value is given for it"));
        }
    }
    // Defaults may be made of other parameters.
    let scope = Scope::new(
        Names::new("parameter", Some(&defaults), values),
        Names::new("variable", None, Map::new()),
        surroundings,
        Resources::None,
    );
    let values = scope.parameters.all(&scope)?;
    let mut shown = Map::new();
    for (name, definition) in defined {
        let wrong = |reason: String| TemplateError(format!("the parameter '{name}': {reason}"));
        let kind = definition.get("type").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| {
            wrong("it has no type; types of the template's own can't be had here".to_owned())
        })?;
        if !TYPES.iter().any(|it| it.eq_ignore_ascii_case(kind)) {
            return Err(wrong(format!("its type '{kind}' is none")));
        }
        let kind = shown_type(kind);
        let value = values.get(name).unwrap_or(&Value::Null);
        if !(value.is_null() && is_nullable(definition)) {
            check(kind, definition, value).map_err(wrong)?;
        }
        let of = if is_secure(kind) {
            json!({ "type": kind })
        } else {
            json!({ "type": kind, "value": value })
        };
        shown.insert(name.clone(), of);
    }
    Ok(Given { values, shown })
}

fn is_nullable(definition: &Value) -> bool {
    definition.get("nullable").and_then(Value::as_bool) == Some(true)
}

fn check(kind: &str, definition: &Value, value: &Value) -> Result<(), String> {
    let fits = match kind {
        "String" | "SecureString" => value.is_string(),
        "Int" => value.is_i64(),
        "Bool" => value.is_boolean(),
        "Array" => value.is_array(),
        _ => value.is_object(),
    };
    // Of secure ones nothing is told.
    let told = if is_secure(kind) {
        "its value".to_owned()
    } else {
        value.to_string()
    };
    if !fits {
        return Err(format!("{told} is not of its type {kind}"));
    }
    if let Some(allowed) = definition.get("allowedValues").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        return Err(format!("{told} is none of {}", allowed.join(", ")));
    }
    let bound = |field: &str| definition.get(field).and_then(Value::as_i64);
    let outside = |is: i64, least: &str, most: &str| {
        bound(least).is_some_and(|least| is < least) || bound(most).is_some_and(|most| is > most)
    };
    let length = match value {
        Value::String(text) => Some(text.encode_utf16().count()),
        Value::Array(items) => Some(items.len()),
        _ => None,
    };
    let length = length.and_then(|length| i64::try_from(length).ok());
    if length.is_some_and(|length| outside(length, "minLength", "maxLength")) {
        return Err(format!("{told} is shorter or longer than it may be"));
    }
    if value
        .as_i64()
        .is_some_and(|value| outside(value, "minValue", "maxValue"))
    {
        return Err(format!("{told} is less or more than it may be"));
    }
    Ok(())
}
