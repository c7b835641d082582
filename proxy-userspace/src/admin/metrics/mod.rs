//! `GET /metrics`: Prometheus text or OpenMetrics, whichever the scraper asks for.

pub mod catalogue;
mod document;
mod format;
mod page;
mod serve;

pub use document::document;
pub use format::Format;
pub use page::{Family, Labels, Page};
pub use serve::{MetricsError, MetricsSocket};

use super::answer::{Answer, outcome};
use crate::control::Handle;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, VARY},
};

/// The page, in what these headers accept.
pub(super) async fn answer(headers: &HeaderMap, control: &Handle) -> Answer {
    let accept = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    let page = match control.metrics(format).await {
        Ok(page) => page,
        Err(refusal) => return outcome(Err::<(), _>(refusal)),
    };
    let mut answer = Response::new(Full::from(page));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    answer
}
