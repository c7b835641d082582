//! Routes compiled for lookup, the plain linear matcher they are held against, and why a route won.

mod compile;
mod conditions;
pub mod explain;
mod host;
mod index;
pub mod linear;
pub mod rewrite;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use host::{HostMistake, canonical_host, host_of, port_of};
pub use rewrite::pick_cluster;

use crate::model::l7::Route;
use http::{HeaderMap, Method};
use index::Index;
use std::sync::Arc;

/// What routes look at of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// As [`canonical_host`] gives it: lower case, without port and trailing dot. Empty where the request names none,
    /// which no route with hosts takes.
    pub host: &'a str,
    /// As [`canonical`](crate::l7::path::canonical) gives it: without query.
    pub path: &'a str,
    /// Behind the first `?`, as it came.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// A listener's routes, compiled. Immutable, and shared by all workers.
///
/// [`find`](Self::find) gives what [`linear::find`] gives: the first route in order that matches. What it costs
/// depends on the request's host and path and on how many routes have conditions on the same host and path besides,
/// not on the number of routes.
#[derive(Debug)]
pub struct Router {
    routes: Arc<[Route]>,
    /// None for more than its numbers of 32 bits can tell apart (4 GiB of hosts and paths): linear then.
    index: Option<Index>,
}

impl Router {
    /// Compiles the routes, in the order in which they are to be tried.
    pub fn compile(routes: Arc<[Route]>) -> Self {
        let index = compile::compile(&routes);
        Self { routes, index }
    }

    /// The first route that matches, and its place in the order. Allocates nothing, except to decode a
    /// percent-encoded query parameter that a route compares.
    pub fn find(&self, facts: &Facts<'_>) -> Option<(usize, &Route)> {
        let at = match &self.index {
            Some(index) => index.find(&self.routes, facts),
            None => linear::find(&self.routes, facts),
        }?;
        self.routes.get(at).map(|route| (at, route))
    }

    /// The routes, in order.
    pub fn routes(&self) -> &Arc<[Route]> {
        &self.routes
    }

    /// Bytes the compiled form takes besides the routes.
    pub fn memory_bytes(&self) -> usize {
        self.index.as_ref().map_or(0, Index::memory_bytes)
    }
}
