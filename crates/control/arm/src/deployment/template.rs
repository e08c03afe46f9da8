//! Templates: what a person wrote, checked and with the values of its expressions, as the resources that are to be made.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::expression::{ExpressionError, evaluate_text, evaluate_value};
use super::names::Names;
use super::parameter;
use super::scope::{Resources, Scope, Surroundings};
use crate::nesting;

/// A deployment as somebody asked for it.
pub(super) struct Asked {
    /// The template.
    pub(super) template: Map<String, Value>,
    /// The parameters: `{"name": {"value"}}`.
    pub(super) parameters: Map<String, Value>,
}

/// What a template comes to.
#[derive(Debug)]
pub(super) struct Evaluated {
    /// The parameters as they are shown.
    pub(super) shown: Map<String, Value>,
    /// The parameters' values.
    pub(super) parameters: Map<String, Value>,
    /// The variables' values.
    pub(super) variables: Map<String, Value>,
    /// The outputs, as they were written.
    pub(super) outputs: Map<String, Value>,
    /// The resources.
    pub(super) resources: Vec<Resource>,
}

/// A resource of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resource {
    /// What dependencies may call it, beside its type and name.
    pub(super) symbol: String,
    /// Its type.
    pub(super) kind: String,
    /// Its name: of a pool, its cluster's and its own.
    pub(super) name: String,
    /// The api-version of its body.
    pub(super) api_version: String,
    /// Its body.
    pub(super) body: Map<String, Value>,
    /// What it comes after: symbols, names or paths.
    pub(super) depends_on: Vec<String>,
}

/// Why a template can't be deployed: a sentence for a person, without its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct TemplateError(pub(super) String);

impl From<ExpressionError> for TemplateError {
    fn from(error: ExpressionError) -> Self {
        Self(error.to_string())
    }
}

fn wrong(reason: impl Into<String>) -> TemplateError {
    TemplateError(reason.into())
}

/// Parts of a template that there may be.
const PARTS: &[&str] = &[
    "$schema",
    "apiProfile",
    "contentVersion",
    "definitions",
    "functions",
    "languageVersion",
    "metadata",
    "outputs",
    "parameters",
    "resources",
    "variables",
];

/// Fields of a resource that say how it is deployed and are no part of its body.
const NOT_OF_BODY: &[&str] = &[
    "apiVersion",
    "comments",
    "condition",
    "dependsOn",
    "existing",
    "metadata",
    "name",
    "type",
];

/// Fields of a resource that can't be had here, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("copy", "write each of its items out"),
    ("scope", "deploy it to its own resource group"),
    (
        "resources",
        "write it beside the others, with its whole type and name",
    ),
];

/// Gives a template the values of its expressions.
///
/// # Errors
/// The first thing that can't be had here.
pub(super) fn evaluate(
    asked: &Asked,
    surroundings: &Surroundings,
) -> Result<Evaluated, TemplateError> {
    let template = &asked.template;
    if let Some(part) = template.keys().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(wrong(format!(
            "the part '{part}' of the template is not known"
        )));
    }
    let functions = template.get("functions").and_then(Value::as_array);
    if functions.is_some_and(|functions| !functions.is_empty()) {
        return Err(wrong(
            "functions of the template's own can't be had here: write out what they give",
        ));
    }
    let defined = part(template, "parameters")?;
    let given = parameter::read(&defined, &asked.parameters, surroundings)?;
    let variables = part(template, "variables")?;
    let scope = Scope::new(
        Names::new("parameter", None, given.values.clone()),
        Names::new("variable", Some(&variables), Map::new()),
        surroundings,
        Resources::None,
    );
    let variables = scope.variables.all(&scope)?;
    let mut resources = Vec::new();
    match template.get("resources") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for item in items {
                resources.extend(resource("", item, &scope)?);
            }
        }
        // By their symbols, as templates of language version 2.0 have them.
        Some(Value::Object(items)) => {
            for (symbol, item) in items {
                resources.extend(resource(symbol, item, &scope)?);
            }
        }
        Some(_) => return Err(wrong("the resources of the template are no array")),
    }
    let outputs = part(template, "outputs")?;
    Ok(Evaluated {
        shown: given.shown,
        parameters: given.values,
        variables,
        outputs,
        resources,
    })
}

fn part(template: &Map<String, Value>, name: &str) -> Result<Map<String, Value>, TemplateError> {
    match template.get(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(part)) => Ok(part.clone()),
        Some(_) => Err(wrong(format!("'{name}' of the template is no object"))),
    }
}

/// A resource; `None` for one that is there already, or whose condition is not met.
fn resource(
    symbol: &str,
    item: &Value,
    scope: &Scope<'_>,
) -> Result<Option<Resource>, TemplateError> {
    let item = item
        .as_object()
        .ok_or_else(|| wrong("a resource of the template is no object"))?;
    if item.get("existing").and_then(Value::as_bool) == Some(true) {
        return Ok(None);
    }
    let text = |field: &str| -> Result<String, TemplateError> {
        let value = item.get(field).and_then(Value::as_str).ok_or_else(|| {
            wrong(format!(
                "a resource of the template has no text as its '{field}'"
            ))
        })?;
        match evaluate_text(value, scope)? {
            Value::String(text) => Ok(text),
            other => Err(wrong(format!(
                "the '{field}' of a resource is {other}, and has to be text"
            ))),
        }
    };
    let (kind, name) = (text("type")?, text("name")?);
    let named = |reason: String| wrong(format!("the resource '{name}' of type '{kind}': {reason}"));
    for (field, instead) in REFUSED {
        if item.get(*field).is_some_and(|value| !value.is_null()) {
            return Err(named(format!("'{field}' can't be had here: {instead}")));
        }
    }
    let value = |value: &Value| evaluate_value(value, scope).map_err(|it| named(it.to_string()));
    match item.get("condition").map(value).transpose()? {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Ok(None),
        Some(other) => {
            return Err(named(format!(
                "its condition is {other}, and has to be true or false"
            )));
        }
    }
    let depends_on = match item.get("dependsOn").map(value).transpose()? {
        None | Some(Value::Null) => Vec::new(),
        Some(dependencies) => serde_json::from_value(dependencies)
            .map_err(|_| named("its dependsOn is no array of texts".to_owned()))?,
    };
    let mut body = Map::new();
    for (field, of) in item {
        if !NOT_OF_BODY.contains(&field.as_str()) {
            body.insert(field.clone(), value(of)?);
        }
    }
    if nesting::is_object_too_deep(&body) {
        return Err(named(nesting::told("it")));
    }
    Ok(Some(Resource {
        symbol: symbol.to_owned(),
        api_version: text("apiVersion")?,
        kind,
        name,
        body,
        depends_on,
    }))
}

/// The outputs as they are shown; `None` while the resources that they refer to are not there.
///
/// # Errors
/// If one can't be evaluated.
pub(super) fn outputs(
    outputs: &Map<String, Value>,
    scope: &Scope<'_>,
) -> Result<Option<Map<String, Value>>, TemplateError> {
    let mut shown = Map::new();
    let mut later = BTreeSet::new();
    for (name, output) in outputs {
        let value = output.get("value").unwrap_or(&Value::Null);
        let kind = output
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("string");
        match evaluate_value(value, scope) {
            Ok(value) if nesting::is_too_deep(&value) => {
                return Err(wrong(nesting::told(&format!("the output '{name}'"))));
            }
            Ok(value) => {
                let kind = parameter::shown_type(kind);
                let of = if parameter::is_secure(kind) {
                    json!({ "type": kind })
                } else {
                    json!({ "type": kind, "value": value })
                };
                shown.insert(name.clone(), of);
            }
            Err(ExpressionError::Later) => {
                later.insert(name);
            }
            Err(error) => return Err(wrong(format!("the output '{name}': {error}"))),
        }
    }
    Ok(later.is_empty().then_some(shown))
}
