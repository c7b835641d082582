//! Cookies: what was signed is found again, anything else is as if it weren't there.

use super::*;
use crate::model::l7::{PemBytes, Secret, Sticky};

fn settings(secret: Option<&str>) -> Sticky {
    let secret = secret.map(|bytes| {
        Secret(PemBytes {
            path: None,
            bytes: bytes.as_bytes().into(),
        })
    });
    Sticky {
        cookie: "weir".into(),
        max_age: Some(Duration::from_secs(3_600)),
        path: "/app".into(),
        secret,
    }
}

fn sticky_cluster(secret: Option<&str>) -> Cluster {
    let mut cluster = cluster(Policy::Random, &[1; 4]);
    cluster.l7.sticky = Some(Arc::new(settings(secret)));
    cluster
}

fn sent(cookie: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("cookie", format!("a=b; {cookie}; c=d").parse().unwrap());
    headers
}

/// The name and value that a client would send back.
fn returned(balancer: &Balancer<usize>, index: usize) -> String {
    let cookie = balancer.set_cookie(&balancer.endpoints()[index]).unwrap();
    let text = cookie.to_str().unwrap();
    assert!(text.ends_with("; Path=/app; Max-Age=3600; HttpOnly"), "{text}");
    text.split_once(';').unwrap().0.to_owned()
}

#[test]
fn a_client_comes_back_to_its_endpoint() {
    for secret in [None, Some("secret")] {
        let cluster = sticky_cluster(secret);
        let [one, other] = [1, 2].map(|salt| balancer(&cluster, ALONE, salt));
        for index in 0..4 {
            let cookie = returned(&one, index);
            assert!(!cookie.contains("10.0"), "no address in clear");
            let found = other.sticky(&sent(&cookie)).unwrap();
            assert_eq!(found.pool, index, "in another worker");
            let headers = sent(&format!("weir=garbage; {cookie}"));
            assert_eq!(one.sticky(&headers).unwrap().pool, index, "behind one of others");
        }
    }
}

#[test]
fn draining_keeps_its_clients_and_unhealthy_does_not() {
    let mut it = sticky_cluster(Some("secret"));
    let mut balancer = balancer(&it, ALONE, 1);
    let cookies: Vec<_> = (0..4).map(|index| sent(&returned(&balancer, index))).collect();
    it.endpoints[0].drain = true;
    it.endpoints[1].health = Health::Unhealthy;
    it.endpoints.remove(2);
    balancer.update(&it, index_of);
    let found: Vec<_> = cookies
        .iter()
        .map(|cookie| balancer.sticky(cookie).map(|it| it.pool))
        .collect();
    assert_eq!(found, [Some(0), None, None, Some(3)]);
}

#[test]
fn another_secret_or_a_changed_byte_is_no_cookie() {
    let balancer = balancer(&sticky_cluster(Some("secret")), ALONE, 1);
    let cookie = returned(&balancer, 0);
    for at in "weir=".len()..cookie.len() {
        for other in ["A", "z", "_", ";", "=", " ", "ÿ"] {
            let mut changed = cookie.clone();
            changed.replace_range(at..=at, other);
            if changed != cookie {
                assert!(balancer.sticky(&sent(&changed)).is_none(), "{changed}");
            }
        }
    }
    let others = super::balancer(&sticky_cluster(Some("other")), ALONE, 1);
    assert!(others.sticky(&sent(&cookie)).is_none());
    assert_ne!(returned(&others, 0), cookie);
}

#[test]
fn garbage_is_no_cookie() {
    let balancer = balancer(&sticky_cluster(None), ALONE, 1);
    let mut random = Rng::with_seed(1);
    let bytes = |random: &mut Rng| {
        let length = random.usize(..64);
        (0..length).map(|_| random.u8(0x80..)).collect::<Vec<u8>>()
    };
    for round in 0..10_000 {
        let value = match round % 2 {
            0 => bytes(&mut random),
            _ => (0..32).map(|_| random.alphanumeric() as u8).collect(),
        };
        let mut headers = HeaderMap::new();
        let value = [b"weir=", &value[..]].concat();
        headers.append("cookie", HeaderValue::from_bytes(&value).unwrap());
        assert!(balancer.sticky(&headers).is_none(), "{value:?}");
    }
    for text in ["weir", "weir=", "=", ";;;", "weir==", "Weir=x"] {
        assert!(balancer.sticky(&sent(text)).is_none(), "{text}");
    }
}

#[test]
fn a_new_setting_makes_new_cookies() {
    let mut it = sticky_cluster(Some("secret"));
    let mut balancer = balancer(&it, ALONE, 1);
    let before = returned(&balancer, 0);
    it.l7.sticky = Some(Arc::new(settings(Some("new"))));
    balancer.update(&it, index_of);
    assert_ne!(returned(&balancer, 0), before);
    it.l7.sticky = None;
    balancer.update(&it, index_of);
    assert!(balancer.set_cookie(&balancer.endpoints()[0]).is_none());
    assert!(balancer.sticky(&sent(&before)).is_none());
}

/// RFC 4231 gives vectors of HMAC-SHA256 itself; this one holds our layout across versions and nodes.
#[test]
fn the_layout_does_not_change() {
    let signer = super::super::sticky::Signer::new(&settings(Some("secret"))).unwrap();
    let balancer = balancer(&sticky_cluster(Some("secret")), ALONE, 1);
    let cookie = returned(&balancer, 0);
    assert_eq!(signer.read(&sent(&cookie)), Some(signer.hash(address(0))));
    assert_eq!(cookie, "weir=2kEbXphWSxPif4JNzcRKO4eeFZNXzJug");
}
