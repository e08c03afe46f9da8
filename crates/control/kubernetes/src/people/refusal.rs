//! What an API server says when it refuses something, without what it says around it.

use kube::core::Status;
use serde_json::Value;

/// What comes before a webhook's own words.
const OF_A_WEBHOOK: &str = "denied the request: ";

/// What is said of rules when the schema has refused already.
const NOT_CHECKED: &str = "some validation rules were not checked";

/// The sentence of whoever refused: a rule of the schema, a webhook, or the server itself.
pub(super) fn sentence(status: &Status) -> String {
    if let Some((_, said)) = status.message.split_once(OF_A_WEBHOOK) {
        return said.to_owned();
    }
    let mut sentences: Vec<String> = Vec::new();
    for cause in status.details.iter().flat_map(|details| &details.causes) {
        let said = match cause.message.strip_prefix("Invalid value: ") {
            Some(rest) => without_value(rest).to_owned(),
            None if cause.field.is_empty() => cause.message.clone(),
            None => format!("{}: {}", cause.field, cause.message),
        };
        if !said.contains(NOT_CHECKED) && !sentences.contains(&said) {
            sentences.push(said);
        }
    }
    match (sentences.is_empty(), status.message.as_str()) {
        (false, _) => sentences.join(" "),
        (true, "") => format!("the API server answered {} without saying why", status.code),
        (true, said) => said.to_owned(),
    }
}

/// Leaves out the value that was wrong: `"object": Give either ..`.
fn without_value(text: &str) -> &str {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let is_value = matches!(values.next(), Some(Ok(_)));
    text.get(values.byte_offset()..)
        .and_then(|rest| rest.strip_prefix(": "))
        .filter(|_| is_value)
        .unwrap_or(text)
}
