//! The functions of the template language that templates of clusters and pools need. Others are refused by name.

use serde_json::{Map, Value};

use super::expression::{Expression, ExpressionError, evaluate, refused};
use super::scope::{Resources, Scope, Surroundings};

/// The functions that there are, for a person.
const KNOWN: &str = "and, bool, coalesce, concat, createArray, createObject, deployment, empty, equals, false, format, if, int, not, null, or, parameters, reference (in outputs), resourceGroup, resourceId, string, subscription, toLower, toUpper, true, union, variables";

/// Calls a function.
///
/// # Errors
/// If there is no such function here, or it has no value for these arguments.
pub(super) fn call(
    name: &str,
    arguments: &[Expression],
    scope: &Scope<'_>,
) -> Result<Value, ExpressionError> {
    let lower = name.to_ascii_lowercase();
    if lower == "if" {
        // Only what is chosen is evaluated.
        let [condition, then, otherwise] = arguments else {
            return Err(wrong_arguments(name));
        };
        return match evaluate(condition, scope)? {
            Value::Bool(true) => evaluate(then, scope),
            Value::Bool(false) => evaluate(otherwise, scope),
            other => Err(refused(format!("{other} is neither true nor false"))),
        };
    }
    let arguments = arguments
        .iter()
        .map(|argument| evaluate(argument, scope))
        .collect::<Result<Vec<_>, _>>()?;
    let value = match (lower.as_str(), arguments.as_slice()) {
        ("parameters", [Value::String(of)]) => scope.parameters.get(of, scope)?,
        ("variables", [Value::String(of)]) => scope.variables.get(of, scope)?,
        ("resourcegroup", []) => scope.surroundings.group_object.clone(),
        ("subscription", []) => scope.surroundings.subscription_object.clone(),
        ("deployment", []) => scope.surroundings.deployment_object.clone(),
        ("resourceid", arguments) => resource_id(arguments, scope.surroundings)?,
        ("reference", [Value::String(id), rest @ ..]) => reference(id, rest, scope)?,
        ("format", [Value::String(pattern), values @ ..]) => format(pattern, values)?.into(),
        ("concat", arguments) => concat(arguments)?,
        ("union", arguments) => union(arguments)?,
        ("tolower", [Value::String(text)]) => text.to_lowercase().into(),
        ("toupper", [Value::String(text)]) => text.to_uppercase().into(),
        ("string", [value]) => text_of(value).into(),
        ("int", [value]) => int(value)?,
        ("bool", [value]) => bool_of(value)?,
        ("true", []) => true.into(),
        ("false", []) => false.into(),
        ("null", []) => Value::Null,
        ("equals", [a, b]) => equals(a, b).into(),
        ("not", [Value::Bool(value)]) => (!value).into(),
        ("and", values) => all_bools(name, values)?.iter().all(|it| *it).into(),
        ("or", values) => all_bools(name, values)?.iter().any(|it| *it).into(),
        ("empty", [value]) => is_empty(value).into(),
        ("coalesce", values) => values
            .iter()
            .find(|value| !value.is_null())
            .cloned()
            .unwrap_or_default(),
        ("createarray", values) => values.to_vec().into(),
        ("createobject", values) => create_object(name, values)?,
        _ => return Err(unknown(name)),
    };
    scope.spend(value)
}

fn unknown(name: &str) -> ExpressionError {
    let known = KNOWN.split(", ").any(|known| {
        let known = known.split(' ').next().unwrap_or_default();
        known.eq_ignore_ascii_case(name)
    });
    if known {
        return wrong_arguments(name);
    }
    refused(format!(
        "the function '{name}' can't be had here. There are {KNOWN}. Put its value into a parameter instead"
    ))
}

fn wrong_arguments(name: &str) -> ExpressionError {
    refused(format!(
        "the function '{name}' does not take these arguments"
    ))
}

/// `resourceId([subscription], [group], type, name...)`.
fn resource_id(arguments: &[Value], surroundings: &Surroundings) -> Result<Value, ExpressionError> {
    let texts: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
    let place = texts.iter().position(|text| text.contains('/'));
    let (Some(place), true) = (place, texts.len() == arguments.len()) else {
        return Err(wrong_arguments("resourceId"));
    };
    let (before, rest) = texts.split_at(place);
    let (subscription, group) = match before {
        [] => (
            surroundings.subscription.as_str(),
            surroundings.group.as_str(),
        ),
        [group] => (surroundings.subscription.as_str(), *group),
        [subscription, group] => (*subscription, *group),
        _ => return Err(wrong_arguments("resourceId")),
    };
    let Some((kind, names)) = rest.split_first() else {
        return Err(wrong_arguments("resourceId"));
    };
    let mut words = kind.split('/');
    let namespace = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    if words.len() != names.len() {
        return Err(refused(format!(
            "the type '{kind}' has {} names, and {} are given",
            words.len(),
            names.len()
        )));
    }
    let mut id =
        format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/{namespace}");
    for (word, name) in words.iter().zip(names) {
        id.push('/');
        id.push_str(word);
        id.push('/');
        id.push_str(name);
    }
    Ok(id.into())
}

/// A resource of the template: its properties, or with `'full'` all of it.
fn reference(id: &str, rest: &[Value], scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    let full = match rest {
        [] | [Value::String(_)] => false,
        [Value::String(_), Value::String(full)] if full.eq_ignore_ascii_case("full") => true,
        _ => return Err(wrong_arguments("reference")),
    };
    let not_here = || {
        refused(format!(
            "'{id}' is no resource of the template; only those can be referred to"
        ))
    };
    match scope.resources {
        Resources::None => Err(refused(
            "resources can be referred to in outputs alone: what they are is known once they are there",
        )),
        Resources::Later(ids) if ids.iter().any(|it| it.eq_ignore_ascii_case(id)) => {
            Err(ExpressionError::Later)
        }
        Resources::Later(_) => Err(not_here()),
        Resources::There(bodies) => {
            let found = bodies.iter().find(|(it, _)| it.eq_ignore_ascii_case(id));
            let (_, body) = found.ok_or_else(not_here)?;
            Ok(if full {
                body.clone()
            } else {
                body.get("properties").cloned().unwrap_or_default()
            })
        }
    }
}

/// `format('{0}/{1}', ...)`: places in braces; a brace itself is written twice.
fn format(pattern: &str, values: &[Value]) -> Result<String, ExpressionError> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else {
            let place = from.strip_prefix('{').and_then(|it| it.split_once('}'));
            let (place, after) =
                place.ok_or_else(|| refused("a brace of the format has no counterpart"))?;
            let value = place.parse::<usize>().ok().and_then(|it| values.get(it));
            let value = value
                .ok_or_else(|| refused(format!("the format has no value for '{{{place}}}'")))?;
            text.push_str(&text_of(value));
            rest = after;
        }
    }
    text.push_str(rest);
    Ok(text)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // As .NET writes them, and so Azure.
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Of texts, or of arrays.
fn concat(values: &[Value]) -> Result<Value, ExpressionError> {
    if values.iter().any(Value::is_array) {
        let mut all = Vec::new();
        for value in values {
            match value {
                Value::Array(items) => all.extend(items.iter().cloned()),
                _ => return Err(refused("concat takes arrays or texts, and not both")),
            }
        }
        return Ok(all.into());
    }
    if values.iter().any(Value::is_object) {
        return Err(wrong_arguments("concat"));
    }
    Ok(values.iter().map(text_of).collect::<String>().into())
}

/// Of objects, the later one's members first; or of arrays, each item once.
fn union(values: &[Value]) -> Result<Value, ExpressionError> {
    let mut objects = Map::new();
    let mut items: Vec<Value> = Vec::new();
    for value in values {
        match value {
            Value::Object(members) if items.is_empty() => {
                objects.extend(members.iter().map(|(name, it)| (name.clone(), it.clone())));
            }
            Value::Array(more) if objects.is_empty() => {
                for item in more {
                    if !items.contains(item) {
                        items.push(item.clone());
                    }
                }
            }
            _ => return Err(refused("union takes objects or arrays, and not both")),
        }
    }
    Ok(if values.iter().any(Value::is_array) {
        items.into()
    } else {
        objects.into()
    })
}

fn int(value: &Value) -> Result<Value, ExpressionError> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .map(Value::from)
        .ok_or_else(|| refused(format!("{value} is no whole number")))
}

fn bool_of(value: &Value) -> Result<Value, ExpressionError> {
    match value {
        Value::Bool(value) => Ok((*value).into()),
        Value::Number(number) if number.as_i64() == Some(1) => Ok(true.into()),
        Value::Number(number) if number.as_i64() == Some(0) => Ok(false.into()),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true.into()),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false.into()),
        other => Err(refused(format!("{other} is neither true nor false"))),
    }
}

/// Texts compare with case.
fn equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn all_bools(name: &str, values: &[Value]) -> Result<Vec<bool>, ExpressionError> {
    let bools: Option<Vec<bool>> = values.iter().map(Value::as_bool).collect();
    bools
        .filter(|bools| bools.len() > 1)
        .ok_or_else(|| wrong_arguments(name))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn create_object(name: &str, values: &[Value]) -> Result<Value, ExpressionError> {
    let mut object = Map::new();
    for pair in values.chunks(2) {
        match pair {
            [Value::String(key), value] => {
                object.insert(key.clone(), value.clone());
            }
            _ => return Err(wrong_arguments(name)),
        }
    }
    Ok(object.into())
}
