//! Bodies on their way through: pulled by whoever writes them, so that a slow reader slows its sender.

mod request;
mod response;

pub use request::{RequestBody, Upload};
pub use response::{Finished, ResponseBody};

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::Frame;
use std::task::{Context, Poll, ready};

/// Data, then trailers, of an HTTP/2 stream. What is taken is open to the sender again at once: whoever polls has room.
fn poll_stream(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    match ready!(stream.poll_data(cx)) {
        Some(Ok(data)) => {
            let released = stream.flow_control().release_capacity(data.len());
            Poll::Ready(Some(released.map(|()| Frame::data(data))))
        }
        Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => Poll::Ready(None),
        Some(Err(error)) => Poll::Ready(Some(Err(error))),
        None => match ready!(stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        },
    }
}
