//! Happy eyeballs (RFC 8305): a name's address that takes long to connect to gets a rival of the other family.

use crate::l7::error::Fault;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tokio::time::timeout;

/// Until the other family is tried (RFC 8305, 8: recommended).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Whatever connects first. `rival` is asked when the first has taken its time, and gives whom it connects to, and the
/// connecting. A first that fails at once is not replaced: its request goes on to the next endpoint.
///
/// # Errors
/// The latest fault, when all failed.
pub async fn race<T, R, F>(
    first: impl Future<Output = Result<T, Fault>>,
    rival: impl FnOnce() -> Option<(R, F)>,
) -> Result<(T, Option<R>), Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut first = pin!(first);
    if let Ok(connected) = timeout(ATTEMPT_DELAY, first.as_mut()).await {
        return connected.map(|connected| (connected, None));
    }
    let Some((whom, second)) = rival() else {
        return first.await.map(|connected| (connected, None));
    };
    let mut second = pin!(second);
    let (mut first_failed, mut second_failed) = (false, false);
    let mut last = Fault::Connect;
    let (connected, is_rival) = poll_fn(|cx| {
        if !first_failed && let Poll::Ready(outcome) = first.as_mut().poll(cx) {
            match outcome {
                Ok(connected) => return Poll::Ready(Ok((connected, false))),
                Err(fault) => (first_failed, last) = (true, fault),
            }
        }
        if !second_failed && let Poll::Ready(outcome) = second.as_mut().poll(cx) {
            match outcome {
                Ok(connected) => return Poll::Ready(Ok((connected, true))),
                Err(fault) => (second_failed, last) = (true, fault),
            }
        }
        if first_failed && second_failed {
            return Poll::Ready(Err(last));
        }
        Poll::Pending
    })
    .await?;
    Ok((connected, is_rival.then_some(whom)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    type Connecting = std::pin::Pin<Box<dyn Future<Output = Result<&'static str, Fault>>>>;

    fn after(milliseconds: u64, outcome: Result<&'static str, Fault>) -> Connecting {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            outcome
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_connect_wins() {
        let rival = |connecting: Connecting| move || Some(("rival", connecting));
        let never = || -> Connecting { Box::pin(pending()) };
        // In time: the rival isn't even asked.
        let asked = race(after(249, Ok("first")), || -> Option<((), Connecting)> {
            panic!("asked")
        });
        assert_eq!(asked.await, Ok(("first", None)));
        let slow = race(after(900, Ok("first")), rival(after(100, Ok("second"))));
        assert_eq!(slow.await, Ok(("second", Some("rival"))));
        let both_slow = race(after(300, Ok("first")), rival(after(100, Ok("second"))));
        assert_eq!(both_slow.await, Ok(("first", None)));
        let failed_rival = race(after(900, Ok("first")), rival(after(1, Err(Fault::Connect))));
        assert_eq!(failed_rival.await, Ok(("first", None)));
        let failed_first = race(
            after(300, Err(Fault::ConnectTimeout)),
            rival(after(400, Ok("second"))),
        );
        assert_eq!(failed_first.await, Ok(("second", Some("rival"))));
        let all_failed = race(
            after(300, Err(Fault::ConnectTimeout)),
            rival(after(400, Err(Fault::Connect))),
        );
        assert_eq!(all_failed.await, Err(Fault::Connect));
        let at_once = race(ready(Err(Fault::Connect)), rival(never()));
        assert_eq!(at_once.await, Err(Fault::Connect));
    }
}
