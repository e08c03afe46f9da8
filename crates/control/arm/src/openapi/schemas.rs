//! The schemas of the bodies.

use std::collections::{BTreeMap, BTreeSet};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};

/// Where a document has its schemas.
const SCHEMAS: &str = "#/components/schemas/";

/// How a type says what its schema is.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// How `T` says what its schema is.
pub(super) fn schema_of<T: JsonSchema>() -> SchemaOf {
    |generator| generator.subschema_for::<T>()
}

/// The schemas of a document: of what is read, and of what is written. A type can be both, and less is demanded of what is
/// read.
pub(super) struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12()
                .with(|settings| settings.definitions_path = SCHEMAS.into())
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }

    /// The schema of something that is read.
    pub(super) fn read(&mut self, schema: SchemaOf) -> Value {
        marked(schema(&mut self.read).to_value())
    }

    /// The schema of something that is written.
    pub(super) fn written(&mut self, schema: SchemaOf) -> Value {
        schema(&mut self.written).to_value()
    }

    /// Puts the schemas that others refer to into `document`, under names that a person would give them.
    pub(super) fn finish(mut self, document: &mut Value) {
        let mut definitions: BTreeMap<String, Value> =
            self.written.take_definitions(true).into_iter().collect();
        let mut same = BTreeSet::new();
        for (name, schema) in self.read.take_definitions(true) {
            let is_leaf = !schema.to_string().contains(SCHEMAS);
            if is_leaf && definitions.get(&name) == Some(&schema) {
                same.insert(name.clone());
            }
            definitions.insert(format!("{name}{READ}"), marked(schema));
        }
        let names: BTreeMap<String, String> = {
            let is_another = |name: &str| definitions.contains_key(name) && !same.contains(name);
            let spoken = |name: &String| (name.clone(), spoken(name, &is_another));
            definitions.keys().map(spoken).collect()
        };
        let mut schemas: Map<String, Value> = definitions
            .into_iter()
            .map(|(name, schema)| (renamed(&names, &name), schema))
            .collect();
        for schema in schemas.values_mut() {
            each_reference(schema, &mut |name| renamed(&names, name));
        }
        each_reference(document, &mut |name| renamed(&names, name));
        document["components"]["schemas"] = Value::Object(schemas);
    }
}

/// What marks the name of a schema of what is read, until all come together.
const READ: &str = "-read";

fn marked(mut schema: Value) -> Value {
    each_reference(&mut schema, &mut |name| format!("{name}{READ}"));
    schema
}

fn renamed(names: &BTreeMap<String, String>, name: &str) -> String {
    names.get(name).map_or(name, String::as_str).to_owned()
}

/// `ResourceList_for_Resource_for_MachineProperties` is a `MachineList`. What is read needs a mark only where it is not the
/// same as what is written.
fn spoken(name: &str, is_another: &dyn Fn(&str) -> bool) -> String {
    if let Some(of) = name.strip_suffix(READ) {
        let input = if is_another(of) { "Input" } else { "" };
        return format!("{}{input}", spoken(of, is_another));
    }
    if let Some(of) = name.strip_prefix("ResourceList_for_") {
        return format!("{}List", spoken(of, is_another));
    }
    match name.strip_prefix("Resource_for_") {
        Some(of) => match of.strip_suffix("Properties") {
            Some(resource) => resource.to_owned(),
            None => format!("{of}Resource"),
        },
        None => name.to_owned(),
    }
}

/// Gives every schema that is referred to another name.
fn each_reference(value: &mut Value, rename: &mut dyn FnMut(&str) -> String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(target) if name == "$ref" => {
                        if let Some(schema) = target.strip_prefix(SCHEMAS) {
                            *target = format!("{SCHEMAS}{}", rename(schema));
                        }
                    }
                    value => each_reference(value, rename),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                each_reference(item, rename);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    #[rstest]
    #[case("ResourceList_for_Resource_for_MachineProperties", "MachineList")]
    #[case("Resource_for_Pod", "PodResource")]
    #[case("ResourceList_for_Resource_for_Pod", "PodResourceList")]
    #[case("RunPod-read", "RunPod")]
    #[case("Power-read", "PowerInput")]
    #[case("Power", "Power")]
    fn schemas_have_names_that_a_person_would_give_them(#[case] name: &str, #[case] spoken: &str) {
        assert_eq!(super::spoken(name, &|name| name == "Power"), spoken);
    }
}
