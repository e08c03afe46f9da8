//! The `CustomResourceDefinition`s as they are installed, and their reference for people, both from the types.

use std::fmt::Write;

use gpu_node::GpuNode;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::node_pool::NodePool;
use crate::record_object;

/// What the generated files begin with.
const HEADER: &str =
    "# Generated from the types: cargo run --package migpool-kubernetes --example generate\n";

/// The `CustomResourceDefinition`s, each with the name of its file.
///
/// # Errors
/// When one can't be written as YAML.
pub fn custom_resource_definitions() -> Result<Vec<(&'static str, String)>, serde_saphyr::ser::Error>
{
    let all = definitions()?;
    all.into_iter()
        .map(|(file, mut crd)| {
            for version in &mut crd.spec.versions {
                if let Some(schema) = &mut version.schema
                    && let Some(schema) = &mut schema.open_api_v3_schema
                {
                    without_foreign_formats(schema);
                    if file == "gpunodes.yaml" {
                        with_empty_spec(schema);
                    }
                }
            }
            (file, crd)
        })
        .map(|(file, crd)| Ok((file, format!("{HEADER}{}", serde_saphyr::to_string(&crd)?))))
        .collect()
}

fn definitions() -> Result<Vec<(&'static str, CustomResourceDefinition)>, serde_saphyr::ser::Error>
{
    let mut all = vec![
        ("gpunodes.yaml", GpuNode::crd()),
        ("nodepools.yaml", NodePool::crd()),
    ];
    for (file, kind) in [
        ("resourcegroups.yaml", record_object::GROUPS),
        ("managedclusters.yaml", record_object::CLUSTERS),
        ("operations.yaml", record_object::OPERATIONS),
        ("armdeployments.yaml", record_object::DEPLOYMENTS),
    ] {
        let crd = record_object::definition(kind);
        all.push((file, crd.map_err(|error| error.to_string())?));
    }
    Ok(all)
}

/// A node that nothing is wanted of has an empty spec: a server-side apply of nothing would take it away.
fn with_empty_spec(schema: &mut JSONSchemaProps) {
    let spec = schema
        .properties
        .as_mut()
        .and_then(|all| all.get_mut("spec"));
    if let Some(spec) = spec {
        spec.default = Some(JSON(serde_json::json!({})));
    }
}

/// Takes the formats away that are Rust's and not `OpenAPI`'s: the API server warns of each.
fn without_foreign_formats(schema: &mut JSONSchemaProps) {
    schema.format = schema.format.take().filter(|it| !it.starts_with("uint"));
    for field in schema
        .properties
        .iter_mut()
        .flat_map(|all| all.values_mut())
    {
        without_foreign_formats(field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        without_foreign_formats(item);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(more)) = &mut schema.additional_properties {
        without_foreign_formats(more);
    }
}

/// The reference of both custom resources, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Reference: NodePool and GpuNode\n\n\
         Generated from the types (`cargo run --package migpool-kubernetes --example generate`). [node-pools.md](node-pools.md)\n\
         says how they are used. A person writes the spec of a NodePool; everything else is written by migpool.\n",
    );
    for crd in [NodePool::crd(), GpuNode::crd()] {
        describe(&crd, &mut text);
    }
    text
}

fn describe(crd: &CustomResourceDefinition, text: &mut String) {
    let names = &crd.spec.names;
    for version in &crd.spec.versions {
        let _ = write!(
            text,
            "\n## {} (`{}/{}`)\n",
            names.kind, crd.spec.group, version.name
        );
        let schema = version.schema.as_ref();
        let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_ref()) else {
            continue;
        };
        for part in ["spec", "status"] {
            let Some(schema) = schema.properties.as_ref().and_then(|all| all.get(part)) else {
                continue;
            };
            let _ = write!(text, "\n### {}.{part}\n\n", names.kind);
            let _ = writeln!(
                text,
                "| Field | Type | Default | Meaning |\n|---|---|---|---|"
            );
            rows("", schema, text);
            let rules = schema.x_kubernetes_validations.iter().flatten();
            let rules: Vec<_> = rules.filter_map(|rule| rule.message.as_ref()).collect();
            if !rules.is_empty() {
                let _ = writeln!(text, "\nRefused at admission:\n");
                for rule in rules {
                    let _ = writeln!(text, "- {rule}");
                }
            }
        }
    }
}

/// A row for each field, nested ones with the path that leads to them.
fn rows(path: &str, schema: &JSONSchemaProps, text: &mut String) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}{name}");
        let cell = |value: String| value.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(
            text,
            "| `{path}` | {} | {} | {} |",
            cell(kind(field)),
            cell(
                field
                    .default
                    .as_ref()
                    .map_or_else(String::new, |value| format!("`{}`", value.0))
            ),
            cell(field.description.clone().unwrap_or_default()),
        );
        rows(&format!("{path}."), field, text);
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &field.items {
            rows(&format!("{path}[]."), item, text);
        }
    }
}

fn kind(field: &JSONSchemaProps) -> String {
    if let Some(values) = &field.enum_ {
        let values = values.iter().filter(|value| !value.0.is_null());
        return values
            .map(|value| format!("`{}`", value.0))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if field.x_kubernetes_int_or_string == Some(true) {
        return "number or text".to_owned();
    }
    let kind = field.type_.clone().unwrap_or_default();
    match (field.minimum, field.maximum) {
        (Some(least), Some(most)) => format!("{kind}, {least} to {most}"),
        (Some(least), None) if least != 0.0 => format!("{kind}, at least {least}"),
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn is_current(file: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../..")
            .join(file);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "{file} is not current: cargo run --package migpool-kubernetes --example generate"
        );
    }

    #[test]
    fn the_charts_custom_resource_definitions_are_those_of_the_types() {
        for (file, text) in custom_resource_definitions().unwrap() {
            is_current(&format!("charts/migpool/crds-files/{file}"), &text);
        }
    }

    #[test]
    fn the_reference_is_that_of_the_types() {
        is_current("docs/node-pools-reference.md", &reference());
    }
}
