//! Bytes, ends, failures and idleness.

use super::{
    super::{Copied, Ended, serve},
    site::{LONG, pair, proxy, run, tls_pair},
};
use socket2::SockRef;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    task::spawn_local,
};

/// Not a multiple of any buffer; each byte depends on its place.
const MUCH: usize = (5 << 20) + 4_321;

fn byte(place: usize) -> u8 {
    (place ^ (place >> 8) ^ (place >> 16)) as u8
}

/// Sends much and its end, in writes of changing size.
async fn send(stream: &mut (impl AsyncWrite + Unpin)) {
    let mut place = 0;
    let mut random = fastrand::Rng::with_seed(7);
    while place < MUCH {
        let size = if random.u8(..) < 200 {
            random.usize(1..400_000)
        } else {
            random.usize(1..50)
        };
        let end = MUCH.min(place + size);
        let block: Vec<u8> = (place..end).map(byte).collect();
        stream.write_all(&block).await.unwrap();
        place = end;
    }
    stream.shutdown().await.unwrap();
}

/// Reads until the end; it is what was sent.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; 100_000];
    let mut place = 0;
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        for (offset, found) in buffer[..count].iter().enumerate() {
            assert_eq!(*found, byte(place + offset), "at {}", place + offset);
        }
        place += count;
    }
    assert_eq!(place, MUCH);
}

/// Both ends send and receive at once.
async fn both_ways<A, B>(client: A, upstream: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let ((mut client_reads, mut client_writes), (mut upstream_reads, mut upstream_writes)) =
        (split(client), split(upstream));
    tokio::join!(
        send(&mut client_writes),
        send(&mut upstream_writes),
        receive(&mut upstream_reads),
        receive(&mut client_reads)
    );
}

const ALL: Copied = Copied {
    to_upstream: MUCH as u64,
    to_client: MUCH as u64,
    ended: Ended::Closed,
};

#[test]
fn much_both_ways_plain() {
    run(async {
        let ((client, inner), (outer, upstream)) = (pair().await, pair().await);
        let proxy = proxy(inner, outer);
        both_ways(client, upstream).await;
        assert_eq!(proxy.await.unwrap(), ALL);
    });
}

#[test]
fn much_both_ways_with_tls_on_one_side_and_on_both() {
    run(async {
        let ((client, inner), (outer, upstream)) = (tls_pair().await, pair().await);
        let first = proxy(inner, outer);
        both_ways(client, upstream).await;
        assert_eq!(first.await.unwrap(), ALL);

        let ((client, inner), (outer, upstream)) = (pair().await, tls_pair().await);
        let second = proxy(inner, outer);
        both_ways(client, upstream).await;
        assert_eq!(second.await.unwrap(), ALL);

        let ((client, inner), (outer, upstream)) = (tls_pair().await, tls_pair().await);
        let third = proxy(inner, outer);
        both_ways(client, upstream).await;
        assert_eq!(third.await.unwrap(), ALL);
    });
}

#[test]
fn a_slow_reader_slows_the_sender() {
    run(async {
        let ((mut client, inner), (outer, upstream)) = (pair().await, pair().await);
        let proxy = proxy(inner, outer);
        // Nobody reads: what the sockets and one pipe hold is all that is taken.
        let mut taken = 0;
        let block = vec![1; 1 << 20];
        loop {
            tokio::select! {
                count = client.write(&block) => taken += count.unwrap(),
                () = stalled() => break,
            }
        }
        assert!(taken < 64 << 20, "{taken}");
        drop((client, upstream));
        proxy.await.unwrap();
    });
}

/// The runtime has nothing else to do: each turn polls the sockets.
async fn stalled() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// Asks, ends, and gets an answer of the length of the question afterwards.
async fn asks_then_hears<A, B>(mut client: A, mut upstream: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    upstream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"question");
    // The other direction goes on.
    for _ in 0..3 {
        upstream.write_all(b"answer").await.unwrap();
        let mut heard = [0; 6];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"answer");
    }
    upstream.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[test]
fn half_closed_in_either_direction() {
    run(async {
        let talk = Copied {
            to_upstream: 8,
            to_client: 18,
            ended: Ended::Closed,
        };
        let back = Copied {
            to_upstream: 18,
            to_client: 8,
            ended: Ended::Closed,
        };
        let ((client, inner), (outer, upstream)) = (pair().await, pair().await);
        let first = proxy(inner, outer);
        asks_then_hears(client, upstream).await;
        assert_eq!(first.await.unwrap(), talk);

        let ((client, inner), (outer, upstream)) = (pair().await, pair().await);
        let second = proxy(inner, outer);
        asks_then_hears(upstream, client).await;
        assert_eq!(second.await.unwrap(), back);

        let ((client, inner), (outer, upstream)) = (tls_pair().await, tls_pair().await);
        let third = proxy(inner, outer);
        asks_then_hears(client, upstream).await;
        assert_eq!(third.await.unwrap(), talk);
    });
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_reset_is_passed_on() {
    run(async {
        for client_fails in [true, false] {
            let ((client, inner), (outer, upstream)) = (pair().await, pair().await);
            let proxy = proxy(inner, outer);
            let (fails, mut other) = if client_fails {
                (client, upstream)
            } else {
                (upstream, client)
            };
            reset(fails);
            let error = other.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            let ended = if client_fails {
                Ended::Client
            } else {
                Ended::Upstream
            };
            assert_eq!(proxy.await.unwrap().ended, ended);
        }
    });
}

#[test]
fn tls_that_is_cut_off_is_passed_on_as_a_reset() {
    run(async {
        let ((mut client, inner), (outer, mut upstream)) = (tls_pair().await, pair().await);
        let proxy = proxy(inner, outer);
        client.write_all(b"half of i").await.unwrap();
        let mut heard = [0; 9];
        upstream.read_exact(&mut heard).await.unwrap();
        // FIN without close_notify.
        client.get_mut().0.shutdown().await.unwrap();
        assert_eq!(
            upstream.read(&mut [0]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        assert_eq!(proxy.await.unwrap().ended, Ended::Client);
    });
}

#[test]
fn what_was_sent_before_a_close_arrives_though_the_way_back_is_broken() {
    run(async {
        let ((mut client, inner), (outer, mut upstream)) = (pair().await, pair().await);
        client.write_all(b"last words").await.unwrap();
        // The client's kernel answers the upstream's greeting with a reset.
        upstream.write_all(b"hello").await.unwrap();
        drop(client);
        let proxy = spawn_local(serve(inner, outer, LONG));
        let mut heard = [0; 10];
        upstream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"last words");
        drop(upstream);
        assert_eq!(proxy.await.unwrap().to_upstream, 10);
    });
}

#[test]
fn idle() {
    run(async {
        let ((_client, inner), (outer, _upstream)) = (pair().await, pair().await);
        let copied = serve(inner, outer, Duration::from_millis(1)).await;
        assert_eq!(copied.ended, Ended::Idle);
    });
}

#[test]
fn not_idle_while_one_direction_moves() {
    run(async {
        let ((mut client, inner), (outer, mut upstream)) = (pair().await, pair().await);
        // However late the runtime is, it sees the bytes before the timer.
        let idle = Duration::from_millis(50);
        let proxy = spawn_local(serve(inner, outer, idle));
        let start = tokio::time::Instant::now();
        while start.elapsed() < idle * 4 {
            upstream.write_all(b"tick").await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
        }
        drop((client, upstream));
        assert_eq!(proxy.await.unwrap().ended, Ended::Closed);
    });
}
