//! The body of a deployment. Azure's command line splices the template's file into it as it is: with its comments, its
//! trailing commas, and under a name without quotes.

use axum::extract::{FromRequest, Request};
use jsonc_parser::ParseOptions;
use jsonc_parser::errors::ParseErrorKind;
use serde_json::Value;

use super::template::Asked;
use crate::body::{Body, bytes, too_deep, wrong_type};
use crate::error::ArmError;

/// The body of a deployment.
pub(crate) struct DeploymentBody(pub(super) Asked);

impl<S: Send + Sync> FromRequest<S> for DeploymentBody {
    type Rejection = ArmError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ArmError> {
        let bytes = bytes(request, state).await?;
        read(parse(&bytes)?).map(Self)
    }
}

/// JSON, and what templates' files have beside it.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: true,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

fn parse(bytes: &[u8]) -> Result<Body, ArmError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ArmError::invalid_content(&error.to_string()))?;
    let parsed = jsonc_parser::parse_to_serde_value(text, &OPTIONS);
    let parsed: Value = parsed.map_err(|error| match error.kind() {
        ParseErrorKind::NestingDepthExceeded => too_deep(),
        _ => ArmError::invalid_content(&error.to_string()),
    })?;
    match parsed {
        Value::Object(object) => Body::not_too_deep(object),
        _ => Err(ArmError::invalid_content("it is no object")),
    }
}

fn read(mut body: Body) -> Result<Asked, ArmError> {
    let mut properties = Body(body.object("properties")?);
    let mode = properties.text("mode")?.unwrap_or_default();
    if !mode.eq_ignore_ascii_case("Incremental") {
        return Err(ArmError::invalid_deployment(&format!(
            "The deployment mode '{mode}' can't be had here. Use 'Incremental', and delete what is not wanted any more."
        )));
    }
    for (field, instead) in [
        ("templateLink", "Put the template itself into the request."),
        (
            "parametersLink",
            "Put the parameters themselves into the request.",
        ),
        (
            "onErrorDeployment",
            "Deploy the template again that did well.",
        ),
    ] {
        if properties.take(field).is_some() {
            return Err(ArmError::invalid_deployment(&format!(
                "'{field}' of a deployment can't be had here. {instead}"
            )));
        }
    }
    let template = match properties.take("template") {
        Some(Value::Object(template)) => template,
        Some(other) => return Err(wrong_type("properties.template", &other, "object")),
        None => {
            return Err(ArmError::invalid_deployment(
                "The deployment has no template: 'properties.template' is missing.",
            ));
        }
    };
    let mut parameters = properties.object("parameters")?;
    if parameters.contains_key("$schema") {
        // A whole file of parameters has them within.
        parameters = Body(parameters).object("parameters")?;
    }
    if let Some((name, given)) = parameters.iter().find(|(_, given)| !given.is_object()) {
        return Err(wrong_type(&format!("parameters.{name}"), given, "object"));
    }
    Ok(Asked {
        template,
        parameters,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::nesting::DEEPEST;

    #[test]
    fn a_template_is_read_as_azures_command_line_splices_it_in() {
        let body = r#"{"properties": {"parameters": {"name": {"value": "x"}}, "mode": "Incremental", template:{
            // the pool
            "resources": [ /* none */ ],
        }
        }}"#;
        let asked = read(parse(body.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            asked.template,
            Map::from_iter([("resources".to_owned(), Value::Array(vec![]))])
        );
        assert_eq!(asked.parameters["name"]["value"], "x");
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place() {
        for (body, told) in [
            ("", "no object"),
            ("{\"properties\": {\"mode\": ", "line 1 column"),
            ("{\"properties\": {\"mode\": 'x'}}", "line 1 column"),
            ("[]", "no object"),
        ] {
            let error = parse(body.as_bytes()).map(drop).unwrap_err();
            assert!(error.message().contains(told), "{body}: {error}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_told_the_limit_however_deep_it_is() {
        let body = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            parse(format!("{{\"a\": {open}{close}}}").as_bytes()).map(drop)
        };
        assert!(body(DEEPEST - 1).is_ok());
        for levels in [DEEPEST, 130, 500, 600, 100_000] {
            let error = body(levels).unwrap_err();
            assert!(error.message().contains("deeper than 64"), "{error}");
        }
        let unclosed = parse("[".repeat(100_000).as_bytes()).map(drop);
        assert!(unclosed.unwrap_err().message().contains("deeper than 64"));
    }
}
