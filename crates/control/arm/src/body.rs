//! Request bodies.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value};

use crate::error::ArmError;
use crate::nesting;

/// A request's body: a JSON object.
pub(crate) struct Body(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ArmError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ArmError> {
        let bytes = bytes(request, state).await?;
        let object = serde_json::from_slice(&bytes).map_err(|error| {
            // It says line and column.
            let error = error.to_string();
            if error.starts_with(PARSERS_LIMIT) {
                too_deep()
            } else {
                ArmError::invalid_content(&error)
            }
        })?;
        Self::not_too_deep(object)
    }
}

/// How `serde_json` begins what it says of a body that is too deep for it, and so for us.
const PARSERS_LIMIT: &str = "recursion limit exceeded";

/// The refusal of a body that is nested too deep.
pub(crate) fn too_deep() -> ArmError {
    ArmError::invalid_content(&nesting::told("it"))
}

/// The bytes of a request's body.
pub(crate) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ArmError> {
    let read = Bytes::from_request(request, state).await;
    read.map_err(|rejection| {
        let reason = rejection.body_text();
        match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => ArmError::content_too_large(&reason),
            _ => ArmError::invalid_content(&reason),
        }
    })
}

impl Body {
    /// A body that is nested no deeper than one may be.
    ///
    /// # Errors
    /// If it is.
    pub(crate) fn not_too_deep(object: Map<String, Value>) -> Result<Self, ArmError> {
        if nesting::is_object_too_deep(&object) {
            return Err(too_deep());
        }
        Ok(Self(object))
    }

    /// Takes a field that is text; one that is missing, null or empty is not there.
    pub(crate) fn text(&mut self, field: &str) -> Result<Option<String>, ArmError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong_type(field, &other, "string")),
        }
    }

    /// Takes a field that is an object.
    pub(crate) fn object(&mut self, field: &str) -> Result<Map<String, Value>, ArmError> {
        match self.take(field) {
            None => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object),
            Some(other) => Err(wrong_type(field, &other, "object")),
        }
    }

    /// Takes a field that maps text to text.
    pub(crate) fn texts(
        &mut self,
        field: &str,
    ) -> Result<std::collections::BTreeMap<String, String>, ArmError> {
        let object = self.object(field)?;
        texts(field, object)
    }

    /// Takes a field, however its name is cased.
    pub(crate) fn take(&mut self, field: &str) -> Option<Value> {
        let name = self
            .0
            .keys()
            .find(|name| name.eq_ignore_ascii_case(field))?
            .clone();
        self.0.remove(&name).filter(|value| !value.is_null())
    }
}

/// An object whose values are all text.
pub(crate) fn texts(
    field: &str,
    object: Map<String, Value>,
) -> Result<std::collections::BTreeMap<String, String>, ArmError> {
    object
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            other => Err(wrong_type(&format!("{field}.{key}"), &other, "string")),
        })
        .collect()
}

/// A value that is not of its field's type.
pub(crate) fn wrong_type(field: &str, value: &Value, wanted: &str) -> ArmError {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    ArmError::unmarshal(&format!(
        "cannot unmarshal {is} into field {field} of type {wanted}"
    ))
}
