//! Which route takes a request, what it does with it, and why the routes before it did not match.

mod reason;
#[cfg(test)]
mod tests;

use super::{
    Facts, Router,
    linear::{self, Mismatch},
    rewrite::{Target, location, rewrite_path},
};
use crate::model::l7::{Action, HttpSettings, Listener, PathOptions, Route};
use serde::Serialize;

pub use reason::conditions;

/// Most of the routes before the winner that are told about.
const TOLD: usize = 20;

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    /// The listener's name.
    pub listener: String,
    /// Its number of routes.
    pub routes: usize,
    /// The route that takes the request.
    pub route: Option<Winner>,
    /// Routes before it (all, if none matches) that do not match: those that come nearest to it, in order.
    pub passed: Vec<Passed>,
    /// How many more there are.
    pub passed_besides: usize,
}

/// The route that takes the request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Winner {
    /// Which of the listener's routes.
    #[serde(flatten)]
    pub route: RouteName,
    /// Its conditions, one a line.
    pub conditions: Vec<String>,
    /// What it does.
    pub action: Outcome,
}

/// A route that does not match.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Passed {
    /// Which of the listener's routes.
    #[serde(flatten)]
    pub route: RouteName,
    /// `method GET is not POST`.
    pub reason: String,
}

/// Which route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RouteName {
    /// Counted from 1.
    pub number: usize,
    /// If it has one.
    pub name: Option<String>,
    /// `file:line`.
    pub place: String,
}

/// What is done with the request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Forwarded.
    Forward {
        /// Clusters with their weights.
        clusters: Vec<(String, u32)>,
        /// The host that the upstream sees.
        host: String,
        /// The path that the upstream sees.
        path: String,
    },
    /// Redirected.
    Redirect {
        /// The status code.
        status: u16,
        /// The response's `Location`.
        location: String,
    },
    /// Answered by Weir.
    Respond {
        /// The status code.
        status: u16,
        /// Bytes of the body.
        body_bytes: usize,
    },
    /// Refused, since the route's rewrite makes of the path what a path may not be.
    Refuse {
        /// The status code.
        status: u16,
        /// Why.
        reason: String,
    },
}

/// Asks the compiled routes, as a worker does, and then every route before the answer.
///
/// `port` is what the request's authority names.
pub fn explain(
    listener: &Listener,
    settings: &HttpSettings,
    router: &Router,
    facts: &Facts<'_>,
    port: Option<u16>,
) -> Explanation {
    let found = router.find(facts);
    let before = found.map_or(router.routes().len(), |(at, _)| at);
    let target = Target {
        scheme: if listener.tls.is_some() { "https" } else { "http" },
        host: facts.host,
        port,
        path: facts.path,
        query: facts.query,
    };
    let passed = passed(&router.routes()[..before], facts);
    Explanation {
        listener: listener.name.to_string(),
        routes: router.routes().len(),
        route: found.map(|(at, route)| Winner {
            route: name(at, route),
            conditions: reason::conditions(&route.matches),
            action: outcome(route, &target, &settings.path),
        }),
        passed_besides: before - passed.len(),
        passed,
    }
}

fn name(at: usize, route: &Route) -> RouteName {
    RouteName {
        number: at + 1,
        name: route.name.as_deref().map(str::to_owned),
        place: route.place.to_string(),
    }
}

fn outcome(route: &Route, target: &Target<'_>, options: &PathOptions) -> Outcome {
    let matched = route.matches.path.as_ref();
    let made = match &route.action {
        Action::Respond(respond) => Ok(Outcome::Respond {
            status: respond.status.as_u16(),
            body_bytes: respond.body.len(),
        }),
        Action::Redirect(redirect) => {
            location(redirect, matched, target, options).map(|location| Outcome::Redirect {
                status: redirect.status.as_u16(),
                location,
            })
        }
        Action::Forward(clusters) => {
            let path = match &route.rewrite.path {
                Some(rewrite) => rewrite_path(rewrite, matched, target.path, options),
                None => Ok(target.path.into()),
            };
            path.map(|path| Outcome::Forward {
                clusters: clusters
                    .iter()
                    .map(|cluster| (cluster.cluster.to_string(), cluster.weight))
                    .collect(),
                host: route.rewrite.host.as_deref().unwrap_or(target.host).to_owned(),
                path: path.into_owned(),
            })
        }
    };
    made.unwrap_or_else(|mistake| Outcome::Refuse {
        status: 400,
        reason: mistake.to_string(),
    })
}

/// Routes that fail late are nearer than routes that fail at the host; among those, the later in order.
fn passed(routes: &[Route], facts: &Facts<'_>) -> Vec<Passed> {
    let mut nearest: Vec<(u8, usize, Mismatch<'_>)> = routes
        .iter()
        .enumerate()
        .filter_map(|(at, route)| {
            let mismatch = linear::mismatch(route, facts)?;
            Some((distance(&mismatch), at, mismatch))
        })
        .collect();
    nearest.sort_by_key(|(distance, at, _)| (*distance, usize::MAX - at));
    nearest.truncate(TOLD);
    nearest.sort_by_key(|(_, at, _)| *at);
    nearest
        .iter()
        .map(|(_, at, mismatch)| Passed {
            route: name(*at, &routes[*at]),
            reason: reason::mismatch(mismatch, facts),
        })
        .collect()
}

const fn distance(mismatch: &Mismatch<'_>) -> u8 {
    match mismatch {
        Mismatch::Host(_) => 2,
        Mismatch::Path(_) => 1,
        _ => 0,
    }
}
