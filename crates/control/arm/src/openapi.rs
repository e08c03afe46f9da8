//! The OpenAPI document of what is served.
//!
//! It is made from the routes themselves: [`Routes`](crate::routes::Routes) takes every handler together with an [`Op`], what the
//! document says of it. What a handler reads of a request the document has from the types of its arguments ([`Reads`]), the
//! bodies from the types of `types` ([`Schemas`]).

mod document;
mod extract;
mod operation;
mod parameter;
mod schemas;

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

pub(crate) use extract::Reads;
pub(crate) use operation::{Described, Header, Op};

use crate::backend::Backend;
use crate::routes::routes;

/// The OpenAPI 3.1 document of what a [`Front`](crate::Front) serves, whatever the backend is.
#[must_use]
pub fn openapi<B: Backend>() -> serde_json::Value {
    document::document(routes::<B>().described())
}

/// Answers with the document. It holds no secret, and is the same for everybody.
pub(crate) async fn show<B: Backend>() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| openapi::<B>().to_string().into());
    ([(CONTENT_TYPE, "application/json")], document.clone()).into_response()
}
