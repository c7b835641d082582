//! What is known of a request when it is over: for the access log.

use super::{
    body::{Finished, RequestBody, ResponseBody},
    connection::Connection,
    error::Fault,
    listener::{Cluster, Serving},
};
use crate::model::{BackendAddr, l7::Route};
use http::{Request, Response};
use std::rc::Rc;

/// A request's record; nothing is kept where nobody asks for it.
pub struct Record(Option<Box<Facts>>);

struct Facts {
    fault: Option<Fault>,
}

impl Record {
    /// A request was read.
    pub fn begin(
        _connection: &Rc<Connection>,
        serving: &Rc<Serving>,
        _request: &Request<RequestBody>,
    ) -> Self {
        Self(serving.log.as_ref().map(|_| Box::new(Facts { fault: None })))
    }

    /// A route took it.
    pub fn route(&mut self, _route: &Route) {}

    /// It goes to this endpoint.
    pub fn endpoint(&mut self, _cluster: &Rc<Cluster>, _address: BackendAddr) {}

    /// It failed.
    pub fn fault(&mut self, fault: Fault) {
        if let Some(facts) = &mut self.0 {
            facts.fault = Some(fault);
        }
    }

    /// Its response is on its way.
    pub fn answered(self, response: &mut Response<ResponseBody>) {
        if let Some(facts) = self.0 {
            response.body_mut().tell(facts);
        }
    }
}

impl Finished for Facts {
    fn finished(&mut self, _bytes: u64, _complete: bool, _trailers: Option<&http::HeaderMap>) {}
}
