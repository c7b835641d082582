//! Makes a failing pair small: what can go while it still fails, goes.

use super::Request;
use weir::model::l7::{Route, RouteMatch};

/// The pair, without all that it fails without.
pub fn shrink(
    mut routes: Vec<Route>,
    mut request: Request,
    fails: impl Fn(&[Route], &Request) -> bool,
) -> (Vec<Route>, Request) {
    loop {
        let before = size(&routes, &request);
        drop_routes(&mut routes, &request, &fails);
        drop_conditions(&mut routes, &request, &fails);
        drop_facts(&routes, &mut request, &fails);
        if size(&routes, &request) == before {
            return (routes, request);
        }
    }
}

/// Falls with everything that goes.
fn size(routes: &[Route], request: &Request) -> usize {
    let of = |matches: &RouteMatch| {
        let lists = matches.hosts.len() + matches.methods.len() + matches.headers.len() + matches.query.len();
        1 + lists + usize::from(matches.path.is_some()) + usize::from(matches.grpc.is_some())
    };
    let facts = request.headers.len() + request.query.as_ref().map_or(0, |query| 1 + query.len());
    routes.iter().map(|route| of(&route.matches)).sum::<usize>() + facts + request.path.len()
}

/// Halves first, single ones at last.
fn drop_routes(routes: &mut Vec<Route>, request: &Request, fails: &impl Fn(&[Route], &Request) -> bool) {
    let mut step = routes.len();
    while step > 0 {
        let mut at = 0;
        while at < routes.len() {
            let mut fewer = routes.clone();
            fewer.drain(at..(at + step).min(routes.len()));
            if fails(&fewer, request) {
                *routes = fewer;
            } else {
                at += step;
            }
        }
        step /= 2;
    }
}

fn drop_conditions(routes: &mut [Route], request: &Request, fails: &impl Fn(&[Route], &Request) -> bool) {
    let changes: [fn(&mut RouteMatch); 10] = [
        |matches| matches.hosts.clear(),
        |matches| drop(matches.hosts.pop()),
        |matches| matches.path = None,
        |matches| matches.methods.clear(),
        |matches| matches.headers.clear(),
        |matches| drop(matches.headers.pop()),
        |matches| matches.query.clear(),
        |matches| drop(matches.query.pop()),
        |matches| matches.grpc = None,
        |matches| {
            if let Some(grpc) = &mut matches.grpc {
                grpc.method = None;
            }
        },
    ];
    for at in 0..routes.len() {
        for change in changes {
            let before = routes[at].matches.clone();
            change(&mut routes[at].matches);
            if !fails(routes, request) {
                routes[at].matches = before;
            }
        }
    }
}

fn drop_facts(routes: &[Route], request: &mut Request, fails: &impl Fn(&[Route], &Request) -> bool) {
    let mut fewer = vec![request.clone(); 3];
    fewer[0].query = None;
    fewer[1].headers.clear();
    fewer[2].path = "/".to_owned();
    if let Some((query, _)) = request.query.as_ref().and_then(|query| query.rsplit_once('&')) {
        fewer.push(request.clone());
        fewer[3].query = Some(query.to_owned());
    }
    for name in request.headers.keys() {
        let mut one = request.clone();
        one.headers.remove(name);
        fewer.push(one);
    }
    if let Some(simple) = fewer
        .into_iter()
        .find(|simple| size(routes, simple) < size(routes, request) && fails(routes, simple))
    {
        *request = simple;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::random::Random,
        routes::{request, routes},
    };
    use weir::model::l7::PathMatch;

    /// As if a matcher failed on any expression that stands behind a route with a header condition.
    #[test]
    fn what_does_not_matter_goes() {
        let fails = |routes: &[Route], request: &Request| {
            let with_header = routes.iter().position(|route| !route.matches.headers.is_empty());
            let is_regex = |route: &Route| matches!(route.matches.path, Some(PathMatch::Regex(_)));
            with_header.is_some_and(|at| routes[at..].iter().skip(1).any(is_regex))
                && !request.headers.is_empty()
        };
        let mut random = Random::new(1);
        let (table, asked) = loop {
            let table = routes(&mut random);
            let asked = request(&mut random, &table);
            if table.len() > 30 && asked.headers.keys_len() > 1 && fails(&table, &asked) {
                break (table, asked);
            }
        };
        let (table, asked) = shrink(table, asked, fails);
        assert_eq!(table.len(), 2);
        assert_eq!(table[0].matches.headers.len(), 1);
        assert_eq!(
            size(&table, &asked),
            6,
            "{}",
            super::super::show::pair(&table, &asked)
        );
    }
}
