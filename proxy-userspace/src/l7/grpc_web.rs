//! gRPC-Web (PROTOCOL-WEB.md of grpc/grpc) to gRPC: trailers become the body's last message, base64 is taken off and put on.

use super::{
    body::{RequestBody, ResponseBody},
    error::Fault,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use hyper::body::{Body, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Flag byte of the message that holds the trailers.
const TRAILERS: u8 = 0x80;

/// Takes a gRPC-Web content-type for gRPC's. Whether it was the text form; none if it is no gRPC-Web.
pub fn take_request(headers: &mut HeaderMap) -> Option<bool> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let rest = value.strip_prefix("application/grpc-web")?;
    let (is_text, rest) = match rest.strip_prefix("-text") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if !matches!(rest.as_bytes().first(), None | Some(b'+' | b';')) {
        return None;
    }
    let grpc = HeaderValue::try_from(format!("application/grpc{rest}")).ok()?;
    headers.insert(header::CONTENT_TYPE, grpc);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.remove(header::CONTENT_LENGTH);
    Some(is_text)
}

/// Gives the response gRPC-Web's content-type.
pub fn mark_response(headers: &mut HeaderMap, is_text: bool) {
    let kind = if is_text {
        "application/grpc-web-text+proto"
    } else {
        "application/grpc-web+proto"
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.remove(header::CONTENT_LENGTH);
}

/// A request's body without base64.
pub struct Decoder {
    body: RequestBody,
    is_text: bool,
    /// Fewer than four characters.
    rest: BytesMut,
}

impl Decoder {
    /// Wraps a body.
    pub fn new(body: RequestBody, is_text: bool) -> Self {
        Self {
            body,
            is_text,
            rest: BytesMut::new(),
        }
    }

    fn decode(&mut self, data: &[u8]) -> Result<Bytes, Fault> {
        self.rest.extend_from_slice(data);
        let whole = self.rest.len() / 4 * 4;
        let text = self.rest.split_to(whole);
        let mut decoded = Vec::with_capacity(whole / 4 * 3);
        // Each message may be padded by itself, so padding may come in the middle.
        for quantum in text.chunks(4) {
            let bytes = STANDARD.decode(quantum);
            decoded.extend_from_slice(&bytes.map_err(|_| Fault::BadRequest("the body is not base64"))?);
        }
        Ok(decoded.into())
    }

    /// The next part; trailers and the end as they are.
    pub fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        match frame.into_data() {
            Ok(data) if self.is_text => Poll::Ready(Some(self.decode(&data).map(Frame::data))),
            Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Err(frame) => Poll::Ready(Some(Ok(frame))),
        }
    }
}

/// A response's body with its trailers as the last message.
pub struct Encoder {
    body: ResponseBody,
    is_text: bool,
    ended: bool,
}

impl Encoder {
    /// Wraps a body.
    pub fn new(body: ResponseBody, is_text: bool) -> Self {
        Self {
            body,
            is_text,
            ended: false,
        }
    }

    /// The trailers of a response without a body are in its head already.
    fn encode(&self, data: Bytes) -> Bytes {
        if self.is_text {
            STANDARD.encode(&data).into()
        } else {
            data
        }
    }

    /// The next part.
    pub fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
            Some(Err(fault)) => Poll::Ready(Some(Err(fault))),
            Some(Ok(frame)) => {
                let data = match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => {
                        self.ended = true;
                        trailers_message(&frame.into_trailers().unwrap_or_default())
                    }
                };
                Poll::Ready(Some(Ok(Frame::data(self.encode(data)))))
            }
        }
    }
}

fn trailers_message(trailers: &HeaderMap) -> Bytes {
    let mut text = Vec::new();
    for (name, value) in trailers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let mut message = BytesMut::with_capacity(5 + text.len());
    message.put_u8(TRAILERS);
    message.put_u32(text.len() as u32);
    message.extend_from_slice(&text);
    message.freeze()
}
