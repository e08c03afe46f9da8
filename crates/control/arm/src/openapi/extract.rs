//! What a handler reads of a request, told by the types of its arguments.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use schemars::JsonSchema;

use super::schemas::{SchemaOf, schema_of};
use crate::api_version::ApiVersion;
use crate::backend::App;
use crate::body::Body;
use crate::deployment::DeploymentBody;
use crate::filter::Filter;
use crate::long_running::Origin;
use crate::paging::Paging;
use crate::path::{At, Query};
use crate::view::View;

/// Something that is read of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    /// `api-version`.
    ApiVersion,
    /// The names in the path.
    Path,
    /// `If-Match` and `If-None-Match`.
    Conditions,
    /// `$skiptoken`.
    Page,
    /// `$filter`.
    Filter,
    /// The fields of this type, each a parameter of the query.
    Query(SchemaOf),
    /// The body.
    Body,
}

/// An argument of a handler, or all of them.
pub(crate) trait Reads {
    /// Adds what it reads.
    fn reads(_: &mut Vec<Read>) {}
}

impl<B> Reads for State<App<B>> {}
impl Reads for Origin {}
impl Reads for Uri {}
impl Reads for View {}

impl Reads for ApiVersion {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::ApiVersion);
    }
}

impl<K> Reads for At<K> {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::Path);
    }
}

/// Of headers only the conditions are read.
impl Reads for HeaderMap {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::Conditions);
    }
}

impl Reads for Paging {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::Page);
    }
}

impl Reads for Filter {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::Filter);
    }
}

impl<T: JsonSchema> Reads for Query<T> {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::Query(schema_of::<T>()));
    }
}

impl Reads for Body {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::Body);
    }
}

impl Reads for DeploymentBody {
    fn reads(read: &mut Vec<Read>) {
        read.push(Read::Body);
    }
}

/// Implements it for the arguments of a handler: axum's type for them has its own mark in front.
macro_rules! arguments {
    ($($argument:ident),*) => {
        impl<M, $($argument: Reads),*> Reads for (M, $($argument,)*) {
            fn reads(read: &mut Vec<Read>) {
                $($argument::reads(read);)*
                let _ = read;
            }
        }
    };
}

arguments!();
arguments!(A);
arguments!(A, B);
arguments!(A, B, C);
arguments!(A, B, C, D);
arguments!(A, B, C, D, E);
arguments!(A, B, C, D, E, F);
arguments!(A, B, C, D, E, F, G);
