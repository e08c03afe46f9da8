//! Routes, each with what the OpenAPI document says of it: there is no other way to add one.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use crate::backend::{App, Backend};
use crate::openapi::{Described, Op, Reads};

/// Routes and what is said of them.
pub(crate) struct Routes<B> {
    router: Router<App<B>>,
    described: Vec<Described>,
}

impl<B: Backend> Routes<B> {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            described: Vec::new(),
        }
    }

    /// Adds a GET. It answers HEAD too.
    pub(crate) fn get<H, T>(self, path: &str, op: Op, handler: H) -> Self
    where
        H: Handler<T, App<B>>,
        T: Reads + 'static,
    {
        self.add(Method::GET, MethodFilter::GET, path, op, handler)
    }

    /// Adds a HEAD.
    pub(crate) fn head<H, T>(self, path: &str, op: Op, handler: H) -> Self
    where
        H: Handler<T, App<B>>,
        T: Reads + 'static,
    {
        self.add(Method::HEAD, MethodFilter::HEAD, path, op, handler)
    }

    /// Adds a PUT.
    pub(crate) fn put<H, T>(self, path: &str, op: Op, handler: H) -> Self
    where
        H: Handler<T, App<B>>,
        T: Reads + 'static,
    {
        self.add(Method::PUT, MethodFilter::PUT, path, op, handler)
    }

    /// Adds a PATCH.
    pub(crate) fn patch<H, T>(self, path: &str, op: Op, handler: H) -> Self
    where
        H: Handler<T, App<B>>,
        T: Reads + 'static,
    {
        self.add(Method::PATCH, MethodFilter::PATCH, path, op, handler)
    }

    /// Adds a POST.
    pub(crate) fn post<H, T>(self, path: &str, op: Op, handler: H) -> Self
    where
        H: Handler<T, App<B>>,
        T: Reads + 'static,
    {
        self.add(Method::POST, MethodFilter::POST, path, op, handler)
    }

    /// Adds a DELETE.
    pub(crate) fn delete<H, T>(self, path: &str, op: Op, handler: H) -> Self
    where
        H: Handler<T, App<B>>,
        T: Reads + 'static,
    {
        self.add(Method::DELETE, MethodFilter::DELETE, path, op, handler)
    }

    /// The path is as ARM spells it; its words are routed in lower case.
    fn add<H, T>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &str,
        op: Op,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App<B>>,
        T: Reads + 'static,
    {
        let mut reads = Vec::new();
        T::reads(&mut reads);
        self.described.push(Described::new(path, method, reads, op));
        self.router = self.router.route(&routed(path), on(filter, handler));
        self
    }

    /// Adds what others have.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.described.extend(others.described);
        self.router = self.router.merge(others.router);
        self
    }

    /// What is said of them.
    pub(crate) fn described(&self) -> &[Described] {
        &self.described
    }

    /// The routes themselves.
    pub(crate) fn into_router(self) -> Router<App<B>> {
        self.router
    }
}

/// A path whose words are in lower case; its parameters stay.
fn routed(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        if segment.starts_with('{') {
            segment.to_owned()
        } else {
            segment.to_ascii_lowercase()
        }
    });
    segments.collect::<Vec<_>>().join("/")
}
