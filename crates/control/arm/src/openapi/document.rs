//! The document as a whole.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::extract::Read;
use super::operation::{Answer, Content, Described, Header};
use super::parameter;
use super::schemas::{Schemas, schema_of};
use crate::api_version::Provider;
use crate::error::WrittenError;

const DESCRIPTION: &str = "Node pools of multi-instance GPUs, as Azure Resource Manager has them. The words of paths and the names of fields \
compare without case; names of resources keep the case that they were made with. On the Unix socket of `migpool up` there is no \
authentication: who may open the socket may do everything.";

/// The document of these operations.
pub(super) fn document(operations: &[Described]) -> Value {
    let mut writer = Writer::default();
    for operation in operations {
        writer.add(operation);
    }
    writer.finish()
}

struct Writer {
    schemas: Schemas,
    paths: Map<String, Value>,
    parameters: Map<String, Value>,
    failures: BTreeSet<u16>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            schemas: Schemas::new(),
            paths: Map::new(),
            parameters: Map::new(),
            failures: BTreeSet::new(),
        }
    }
}

impl Writer {
    fn add(&mut self, described: &Described) {
        let failures = described.failures();
        let op = &described.op;
        let mut parameters = Vec::new();
        let mut takes_body = false;
        for read in &described.reads {
            match read {
                // They stand at the path.
                Read::Path => {}
                Read::Body => takes_body = true,
                read => parameters.extend(self.parameters(read, &described.path)),
            }
        }
        if op.has_top {
            let count = json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
            parameters.push(parameter::in_query(
                "$top",
                "How many resources a page may have.",
                &count,
            ));
        }
        let mut responses = Map::new();
        for (status, answer) in &op.answers {
            responses.insert(status.to_string(), self.answer(*status, answer));
        }
        for status in &failures {
            let name = reason(*status).replace(' ', "");
            responses
                .entry(status.to_string())
                .or_insert_with(|| json!({ "$ref": format!("#/components/responses/{name}") }));
        }
        self.failures.extend(failures);

        let mut operation = json!({
            "operationId": op.id,
            "tags": [op.id.split('_').next()],
            "summary": op.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if takes_body {
            let schema = match op.body {
                Some(schema) => self.schemas.read(schema),
                None => json!({ "type": "object" }),
            };
            operation["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": schema } },
            });
        }
        if op.is_open {
            operation["security"] = json!([]);
        }
        let names = names(&described.path);
        let names: Vec<Value> = names.map(|name| self.name(name)).collect();
        let item = self.paths.entry(&described.path).or_insert_with(|| {
            if names.is_empty() {
                json!({})
            } else {
                json!({ "parameters": names })
            }
        });
        item[described.method.as_str().to_ascii_lowercase()] = operation;
    }

    /// A parameter of the path, which is described once for all.
    fn name(&mut self, name: &str) -> Value {
        if !self.parameters.contains_key(name) {
            let described = parameter::in_path(name, &mut self.schemas);
            self.parameters.insert(name.to_owned(), described);
        }
        refer_to(name)
    }

    fn parameters(&mut self, read: &Read, path: &str) -> Vec<Value> {
        let mut keep = |name: &str, parameter: Value| {
            self.parameters.insert(name.to_owned(), parameter);
            refer_to(name)
        };
        let text = json!({ "type": "string" });
        match read {
            Read::Path | Read::Body => Vec::new(),
            Read::ApiVersion => {
                let provider = Provider::of(&path.to_ascii_lowercase());
                let name = parameter::api_version_name(provider);
                vec![keep(&name, parameter::api_version(provider))]
            }
            Read::Conditions => [
                (
                    "If-Match",
                    "Only if the resource has this ETag; `*` is any.",
                ),
                (
                    "If-None-Match",
                    "Only if the resource does not have this ETag; with `*`, if it is not there.",
                ),
            ]
            .map(|(name, description)| keep(name, parameter::condition(name, description)))
            .into(),
            Read::Page => {
                let description = "What the link to the next page of the list has.";
                let parameter = parameter::in_query("$skiptoken", description, &text);
                vec![keep("skiptoken", parameter)]
            }
            Read::Filter => {
                let description = "Comparisons of fields for equality, joined by `and`: `tagName eq 'team' and tagValue eq 'vision'`.";
                let parameter = parameter::in_query("$filter", description, &text);
                vec![keep("filter", parameter)]
            }
            Read::Query(schema) => {
                let mut generator = schemars::SchemaGenerator::default();
                parameter::fields_in_query(&schema(&mut generator).to_value())
            }
        }
    }

    fn answer(&mut self, status: u16, answer: &Answer) -> Value {
        let mut headers = Map::new();
        for header in [
            &[Header::RequestId, Header::CorrelationId],
            &*answer.headers,
        ]
        .concat()
        {
            let reference = format!("#/components/headers/{}", header.name());
            headers.insert(header.name().to_owned(), json!({ "$ref": reference }));
        }
        let mut response = json!({ "description": reason(status), "headers": headers });
        let (media_type, schema) = match answer.content {
            Content::Nothing => return response,
            Content::Json(schema) => ("application/json", self.schemas.written(schema)),
            Content::Object => ("application/json", json!({ "type": "object" })),
            Content::Text => ("text/plain", json!({ "type": "string" })),
        };
        response["content"] = json!({ media_type: { "schema": schema } });
        response
    }

    fn finish(mut self) -> Value {
        let error = self.schemas.written(schema_of::<WrittenError>());
        let ids: Map<String, Value> = [Header::RequestId, Header::CorrelationId]
            .map(|header| {
                let reference = format!("#/components/headers/{}", header.name());
                (header.name().to_owned(), json!({ "$ref": reference }))
            })
            .into_iter()
            .collect();
        let failures: Map<String, Value> = self
            .failures
            .iter()
            .map(|status| {
                let response = json!({
                    "description": reason(*status),
                    "headers": ids,
                    "content": { "application/json": { "schema": error } },
                });
                (reason(*status).replace(' ', ""), response)
            })
            .collect();
        let headers: Map<String, Value> = Header::ALL
            .map(|header| {
                let described = json!({
                    "description": header.description(),
                    "schema": header.schema(),
                });
                (header.name().to_owned(), described)
            })
            .into_iter()
            .collect();
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "migpool",
                "version": env!("CARGO_PKG_VERSION"),
                "description": DESCRIPTION,
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/", "description": "Where this document comes from." }],
            "security": [{ "bearer": [] }],
            "paths": self.paths,
            "components": {
                "parameters": self.parameters,
                "headers": headers,
                "responses": failures,
                "securitySchemes": {
                    "bearer": {
                        "type": "http",
                        "scheme": "bearer",
                        "bearerFormat": "JWT",
                        "description": "The token of a managed identity, of a service principal, or of the issuer that is trusted besides.",
                    },
                },
            },
        });
        self.schemas.finish(&mut document);
        document
    }
}

fn refer_to(parameter: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{parameter}") })
}

/// The names in a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn reason(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Answer")
}
