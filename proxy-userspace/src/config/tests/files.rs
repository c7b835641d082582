//! Files that a config names: what is read, what is kept, what is said of them.

use super::*;
use crate::model::l7::{ListenerKind, ServerTls};
use rcgen::{CertificateParams, KeyPair};
use std::{process, time::SystemTime};

/// A directory of its own with a config in it, removed at the end.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("weir-config-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn load(&self, tls: &str) -> Result<Loaded, ConfigErrors> {
        let text = format!(
            "listeners: [{{ name: web, address: \"127.0.0.1:1\", tls: {{ {tls} }}, routes: [{{ cluster: web }}] }}]\n\
             clusters: [{{ name: web, endpoints: [\"127.0.0.1:2\"] }}]\n"
        );
        let file = self.0.join("weir.yaml");
        fs::write(&file, text).unwrap();
        load(&file)
    }

    fn error(&self, tls: &str) -> String {
        self.load(tls).unwrap_err().to_string()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const PAIR: &str = "certificates: [{ cert: web.pem, key: web.key }]";

/// Writes a certificate that ends after this many days from now.
fn write_pair(home: &Home, days: i64) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["web.example.com".to_owned()]).unwrap();
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let end = today.checked_add(jiff::Span::new().days(days)).unwrap();
    params.not_after = rcgen::date_time_ymd(end.year().into(), end.month() as u8, end.day() as u8);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(home.0.join("web.pem"), certificate.pem()).unwrap();
    fs::write(home.0.join("web.key"), key.serialize_pem()).unwrap();
}

#[test]
fn a_certificate_that_expires_soon_is_a_warning() {
    let home = Home::new("expiry");
    for (days, expected) in [
        (-1, Some("has expired on ")),
        (5, Some("expires on ")),
        (13, Some("expires on ")),
        (16, None),
        (400, None),
    ] {
        write_pair(&home, days);
        let warnings = home.load(PAIR).unwrap().warnings;
        match expected {
            None => assert_eq!(warnings, Vec::<String>::new()),
            Some(text) => assert!(
                warnings.len() == 1 && warnings[0].contains(text),
                "{days}: {warnings:?}"
            ),
        }
    }
}

#[test]
fn named_files_are_known_also_those_that_are_missing() {
    let home = Home::new("named");
    write_pair(&home, 100);
    let paths = |names: &[&str]| names.iter().map(|name| home.0.join(name)).collect::<Vec<_>>();
    let before = SystemTime::now();
    let loaded = home.load(PAIR).unwrap();
    assert_eq!(loaded.referenced_files, paths(&["web.key", "web.pem"]));
    assert!(loaded.read_since >= before && loaded.read_since <= SystemTime::now());
    fs::remove_file(home.0.join("web.key")).unwrap();
    let refused = home.load(PAIR).unwrap_err();
    assert_eq!(refused.referenced_files(), paths(&["web.key", "web.pem"]));
}

#[test]
fn what_is_no_file_or_too_large_is_not_read() {
    let home = Home::new("large");
    write_pair(&home, 100);
    let large = fs::File::create(home.0.join("web.pem")).unwrap();
    large.set_len((4 << 20) + 1).unwrap();
    let error = home.error(PAIR);
    assert!(error.contains("\"web.pem\" is larger than 4 MiB"), "{error}");
    let error = home.error("certificates: [{ cert: /dev/zero, key: . }]");
    assert!(error.contains("\"/dev/zero\" is not a regular file"), "{error}");
    assert!(error.contains("\".\" is not a regular file"), "{error}");
}

fn tls(loaded: &Loaded) -> &ServerTls {
    assert!(matches!(loaded.listeners[0].kind, ListenerKind::Http { .. }));
    loaded.listeners[0].tls.as_deref().unwrap()
}

#[test]
fn a_certificate_that_is_made_stays_through_reloads() {
    let home = Home::new("made");
    let (first, second) = (
        home.load("self_signed: true").unwrap(),
        home.load("self_signed: true").unwrap(),
    );
    assert_eq!(tls(&first).certificates, tls(&second).certificates);
    assert_eq!(first.warnings, Vec::<String>::new());
    let pem = &tls(&first).certificates[0].chain.bytes;
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let names: Vec<String> = names
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().any(|name| name.contains("localhost")), "{names:?}");
    assert!(certificate.validity().is_valid());
}

#[test]
fn a_hundred_thousand_prefixes_are_read_from_a_file_and_named_with_it() {
    let home = Home::new("prefixes");
    let list = home.0.join("denied.txt");
    let lines: String = (0..100_000u32)
        .map(|n| format!("10.{}.{}.{}/32\n", n >> 16, n >> 8 & 255, n & 255))
        .collect();
    fs::write(&list, &lines).unwrap();
    let text = "interfaces: [eth0]\n\
         listeners: [{ name: dns, address: \"192.0.2.53:53\", protocol: udp, \
           forward: { cluster: dns, deny: [192.0.2.1/32], deny_files: [denied.txt] } }]\n\
         clusters: [{ name: dns, endpoints: [\"198.51.100.1:53\"] }]\n";
    let file = home.0.join("weir.yaml");
    fs::write(&file, text).unwrap();
    let loaded = load(&file).unwrap();
    assert_eq!(loaded.services[0].guard.deny.len(), 100_001);
    assert_eq!(loaded.referenced_files, std::slice::from_ref(&list));
    // One wrong line of so many refuses all of them, by its number; a file of nothing else is not said line by line.
    fs::write(&list, format!("{lines}10.0.0.0/33\n")).unwrap();
    let error = load(&file).unwrap_err().to_string();
    assert!(
        error.contains("deny_files[0]: denied.txt:100001: \"10.0.0.0/33\" is not a prefix"),
        "{error}"
    );
    fs::write(&list, "no prefix\n".repeat(1_000)).unwrap();
    let error = load(&file).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 11, "{error}");
    assert!(error.contains("990 more lines are wrong"), "{error}");
}
