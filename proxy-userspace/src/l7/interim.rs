//! Interim responses (100, 103) from an endpoint to the client, past codecs that have no road for them.

use super::fields::Fields;
use bytes::BytesMut;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response, StatusCode};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Interim responses that an HTTP/1.1 endpoint's codec reports. Its callback must be `Send`; all runs on one thread, so
/// the lock is never contended, and is not even looked at while nothing came.
#[derive(Default, Clone)]
pub struct Interim(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    any: AtomicBool,
    responses: Mutex<Vec<(StatusCode, HeaderMap)>>,
}

impl Interim {
    /// Hears the interim responses to this request.
    pub fn listen<B>(&self, request: &mut Request<B>) {
        let waiting = Arc::clone(&self.0);
        hyper::ext::on_informational(request, move |response| {
            let head = (response.status(), response.headers().clone());
            waiting
                .responses
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(head);
            waiting.any.store(true, Ordering::Relaxed);
        });
    }

    /// Sends what came on to the client.
    pub fn pass_to(&self, sink: &InterimSink) {
        if !self.0.any.load(Ordering::Relaxed) {
            return;
        }
        self.0.any.store(false, Ordering::Relaxed);
        let responses = std::mem::take(&mut *self.0.responses.lock().unwrap_or_else(PoisonError::into_inner));
        for (status, headers) in responses {
            let mut response = Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            sink.send(response);
        }
    }
}

/// Where a client's interim responses go.
pub enum InterimSink {
    /// Nowhere: the client speaks HTTP/1.0.
    None,
    /// As text between hyper's writes.
    H1(Rc<RefCell<BytesMut>>),
    /// As HEADERS before the response's.
    H2(Rc<RefCell<SendResponse<bytes::Bytes>>>),
}

impl InterimSink {
    /// Sends one. 100 is left out: the codecs answer Expect themselves as soon as the body is wanted.
    pub fn send(&self, mut response: Response<()>) {
        let status = response.status();
        if status == StatusCode::CONTINUE || status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let fields = Fields::of(response.headers());
        super::headers::remove_hop_by_hop(response.headers_mut(), fields);
        match self {
            Self::None => {}
            Self::H1(buffer) => {
                let mut buffer = buffer.borrow_mut();
                buffer.extend_from_slice(b"HTTP/1.1 ");
                buffer.extend_from_slice(status.as_str().as_bytes());
                buffer.extend_from_slice(b" ");
                buffer.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
                buffer.extend_from_slice(b"\r\n");
                for (name, value) in response.headers() {
                    buffer.extend_from_slice(name.as_str().as_bytes());
                    buffer.extend_from_slice(b": ");
                    buffer.extend_from_slice(value.as_bytes());
                    buffer.extend_from_slice(b"\r\n");
                }
                buffer.extend_from_slice(b"\r\n");
            }
            Self::H2(respond) => {
                // A client that is gone is noticed elsewhere.
                let _gone = respond.borrow_mut().send_informational(response);
            }
        }
    }
}
