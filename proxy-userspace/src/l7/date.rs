//! The Date of responses that have none (RFC 9110, 6.6.1): rendered once a second. It follows a clock that is set back, which hyper's
//! own doesn't until that time comes again.

use http::HeaderValue;
use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

/// A worker's.
#[derive(Default)]
pub struct Date(RefCell<Option<(u64, HeaderValue)>>);

impl Date {
    /// Now; none for a clock before 1970.
    pub fn now(&self) -> Option<HeaderValue> {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let mut known = self.0.borrow_mut();
        if let Some((of, value)) = &*known
            && *of == second
        {
            return Some(value.clone());
        }
        let value = rendered(second)?;
        *known = Some((second, value.clone()));
        Some(value)
    }
}

fn rendered(second: u64) -> Option<HeaderValue> {
    let time = jiff::Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_http_writes_it() {
        // RFC 9110, 5.6.7.
        assert_eq!(rendered(784_111_777).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        let date = Date::default();
        assert_eq!(date.now().unwrap().len(), 29);
    }
}
