//! What the document says of a method of a path.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::extract::Read;
use super::schemas::{SchemaOf, schema_of};

/// What the document says of a method of a path, beyond what the handler's arguments say.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) body: Option<SchemaOf>,
    pub(super) answers: BTreeMap<u16, Answer>,
    pub(super) failures: BTreeSet<u16>,
    pub(super) has_top: bool,
    pub(super) is_open: bool,
}

/// An answer that is no error.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) content: Content,
    pub(super) headers: Vec<Header>,
}

/// What an answer's body is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Nothing,
    Json(SchemaOf),
    /// An object that is described elsewhere: this document.
    Object,
    Text,
}

/// A header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// The version of the resource.
    ETag,
    /// Where to ask how the operation stands.
    AzureAsyncOperation,
    /// Where the result of the operation will be.
    Location,
    /// When to ask.
    RetryAfter,
    /// The request's own id.
    RequestId,
    /// What joins the requests of one piece of work.
    CorrelationId,
}

impl Header {
    pub(super) const ALL: [Self; 6] = [
        Self::ETag,
        Self::AzureAsyncOperation,
        Self::Location,
        Self::RetryAfter,
        Self::RequestId,
        Self::CorrelationId,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ETag => "ETag",
            Self::AzureAsyncOperation => "Azure-AsyncOperation",
            Self::Location => "Location",
            Self::RetryAfter => "Retry-After",
            Self::RequestId => "x-ms-request-id",
            Self::CorrelationId => "x-ms-correlation-request-id",
        }
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Self::ETag => "The version of the resource.",
            Self::AzureAsyncOperation => {
                "Where to ask how the long-running operation stands that the request began or found."
            }
            Self::Location => "Where the result of the long-running operation will be.",
            Self::RetryAfter => "Seconds until it makes sense to ask.",
            Self::RequestId => "The id of the request. The audit log has it.",
            Self::CorrelationId => {
                "The id that the client sent under this name, or else that of the request."
            }
        }
    }

    pub(super) fn schema(self) -> Value {
        match self {
            Self::ETag => json!({ "type": "string" }),
            Self::AzureAsyncOperation | Self::Location => {
                json!({ "type": "string", "format": "uri" })
            }
            Self::RetryAfter => json!({ "type": "integer", "minimum": 0 }),
            Self::RequestId | Self::CorrelationId => json!({ "type": "string", "format": "uuid" }),
        }
    }
}

/// A method of a path, as it was registered.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    /// The path with its parameters, and its words as ARM spells them.
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) reads: Vec<Read>,
    pub(super) op: Op,
}

impl Described {
    pub(crate) fn new(path: &str, method: Method, reads: Vec<Read>, op: Op) -> Self {
        let path = path.to_owned();
        Self {
            path,
            method,
            reads,
            op,
        }
    }

    /// The statuses of errors that can come: those of every resource, and those of what the handler reads and does.
    pub(super) fn failures(&self) -> BTreeSet<u16> {
        let mut failures = self.op.failures.clone();
        if self.op.is_open {
            return failures;
        }
        // The last one is for a store, or an issuer of tokens, that can't be reached.
        failures.extend([400, 401, 403, 429, 500, 503]);
        for read in &self.reads {
            match read {
                Read::Path => failures.extend([404]),
                Read::Conditions => failures.extend([412]),
                Read::Body => failures.extend([408, 413]),
                _ => {}
            }
        }
        if ![Method::GET, Method::HEAD].contains(&self.method) {
            failures.extend([409]);
        }
        failures
    }
}

impl Op {
    /// An operation of this id, in ARM's form, and a sentence about it.
    pub(crate) fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            body: None,
            answers: BTreeMap::new(),
            failures: BTreeSet::new(),
            has_top: false,
            is_open: false,
        }
    }

    /// The request's body is a `T`.
    pub(crate) fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(schema_of::<T>());
        self
    }

    /// An answer of this status has a `T`.
    pub(crate) fn answers<T: JsonSchema>(self, status: StatusCode) -> Self {
        self.answer(status, Content::Json(schema_of::<T>()))
    }

    /// An answer of this status has no body.
    pub(crate) fn ends(self, status: StatusCode) -> Self {
        self.answer(status, Content::Nothing)
    }

    /// The answer is a text.
    pub(crate) fn answers_text(self) -> Self {
        self.answer(StatusCode::OK, Content::Text)
    }

    /// The answer is some object.
    pub(crate) fn answers_object(self) -> Self {
        self.answer(StatusCode::OK, Content::Object)
    }

    fn answer(mut self, status: StatusCode, content: Content) -> Self {
        let headers = Vec::new();
        self.answers
            .insert(status.as_u16(), Answer { content, headers });
        self
    }

    /// The answers so far can have these headers.
    pub(crate) fn with(mut self, headers: &[Header]) -> Self {
        for answer in self.answers.values_mut() {
            answer.headers.extend_from_slice(headers);
        }
        self
    }

    /// It can fail with this status too.
    pub(crate) fn fails(mut self, status: StatusCode) -> Self {
        self.failures.insert(status.as_u16());
        self
    }

    /// The list knows `$top`.
    pub(crate) fn has_top(mut self) -> Self {
        self.has_top = true;
        self
    }

    /// Anybody may ask.
    pub(crate) fn for_everybody(mut self) -> Self {
        self.is_open = true;
        self
    }
}
