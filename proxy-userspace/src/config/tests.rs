//! Any text at all: no panic, and whatever is accepted is a sound model.

mod again;
mod files;
mod l7;

use super::*;
use proxy_common::limits as common;
use std::{collections::HashSet, env, fs, time::Duration};

/// Loads a text as if it stood in a file.
fn load_text(text: &str, schema: &serde_json::Value) -> Result<Loaded, ConfigErrors> {
    let reading = read_text(text, schema, None);
    reading.outcome.map(|(loaded, _)| loaded)
}

fn read_text(text: &str, schema: &serde_json::Value, known: Option<&Known>) -> Reading {
    let mut report = Report::default();
    let file = report.add_file(PathBuf::from("fuzz.yaml"));
    let texts = vec![(file, Some(text.to_owned()))];
    read_texts(texts, report, schema, known, SystemTime::UNIX_EPOCH)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The examples, and every broken config that is text.
fn corpus() -> Vec<String> {
    let directories = [
        repository().join("config"),
        repository().join("tests/data/configs"),
    ];
    let entries = directories
        .iter()
        .flat_map(|directory| fs::read_dir(directory).unwrap());
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

/// xorshift64*: the same texts in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const TOKENS: &[&str] = &[
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\n\t",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "#",
    " #",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    ">\n",
    "---\n",
    "...\n",
    "? ",
    "%",
    "@",
    "`",
    "\\",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "é",
    "𝄞",
    "\r\n",
    "-1",
    "0",
    "99999999999999999999",
    "1e9",
    ".inf",
    "~",
    "null",
    "true",
    "off",
    "weight: ",
    "routes: ",
    "*.example.com",
    "/api/",
    "%REQ(a)%",
    "$1",
    "endpoints:",
    "192.0.2.1:53",
    "[2001:db8::1]:53",
    "2s",
    "<<: ",
];

fn mutated(random: &mut Random, corpus: &[String]) -> String {
    let text = random.pick(corpus).clone();
    changed(random, &text, corpus)
}

/// The text with a few changes of any kind.
fn changed(random: &mut Random, text: &str, corpus: &[String]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(12)).min(text.len());
        match random.below(7) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, random.pick(TOKENS).chars())),
            2 => drop(text.splice(at..end, random.pick(TOKENS).chars())),
            3 => text.truncate(at),
            4 => {
                let copied = text[at..end].to_vec();
                let to = random.below(text.len() + 1);
                drop(text.splice(to..to, copied));
            }
            5 => {
                let other: Vec<char> = random.pick(corpus).chars().collect();
                let from = random.below(other.len() + 1);
                text.truncate(at);
                text.extend(&other[from..]);
            }
            _ => text.extend((0..random.below(8)).map(|_| char::from(random.next() as u8))),
        }
    }
    text.into_iter().collect()
}

fn assert_sound(loaded: &Loaded) {
    let mut names: HashSet<&str> = HashSet::new();
    let mut addresses = HashSet::new();
    for service in &loaded.services {
        assert!(names.insert(&*service.name) && addresses.insert((service.address, service.protocol)));
        assert!(prime::is_prime(service.table_size) && service.table_size <= common::MAGLEV_SIZE_MAX);
        let cluster = &loaded.clusters[&service.cluster];
        assert!(cluster.dns.is_empty());
        for endpoint in &cluster.endpoints {
            assert_eq!(endpoint.address.0.is_ipv4(), service.address.0.is_ipv4());
        }
        assert!(service.idle_timeouts.udp >= Duration::from_secs(1));
    }
    for cluster in loaded.clusters.values() {
        let addresses: HashSet<_> = cluster
            .endpoints
            .iter()
            .map(|endpoint| endpoint.address)
            .collect();
        assert!(!addresses.is_empty() || !cluster.dns.is_empty());
        assert_eq!(addresses.len(), cluster.endpoints.len());
        if let Some(check) = &cluster.health_check {
            assert!(check.timeout <= check.interval && check.rise > 0 && check.fall > 0);
        }
    }
    l7::assert_sound(loaded, &mut names);
    assert!(loaded.services.len() <= loaded.settings.max_services as usize);
    assert!(loaded.settings.nat.ports.0 >= 1 && loaded.settings.nat.ports.0 <= loaded.settings.nat.ports.1);
}

/// `WEIR_FUZZ_CONFIGS=1000000` asks for more of them.
#[test]
fn no_text_is_too_strange() {
    let count = env::var("WEIR_FUZZ_CONFIGS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(3_000);
    let (schema, corpus) = (schema(), corpus());
    let mut random = Random(0x5745_4952);
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..count {
        let text = mutated(&mut random, &corpus);
        let lines = text.split('\n').count();
        match load_text(&text, &schema) {
            Ok(loaded) => {
                accepted += 1;
                assert_sound(&loaded);
            }
            Err(errors) => {
                rejected += 1;
                for error in errors.iter() {
                    let line = error.line.unwrap() as usize;
                    assert!((1..=lines).contains(&line), "{error}: {lines} lines in {text:?}");
                    assert!(!error.to_string().contains(char::is_control), "{error:?}");
                    assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{error:?}");
                }
                assert!(errors.iter().next().is_some());
            }
        }
    }
    assert!(
        accepted > 0 && rejected > 0,
        "{accepted} accepted, {rejected} rejected"
    );
}

/// Every default of the schema, typed out, means the same as leaving the key out.
#[test]
fn defaults_of_the_schema_are_those_of_the_model() {
    let schema = schema();
    let default = |definition: &str, key: &str| {
        let value = &schema["$defs"][definition]["properties"][key]["default"];
        assert!(!value.is_null(), "{definition}.{key} has no default");
        value.to_string()
    };
    let group = |definition: &str, keys: &[&str]| {
        let typed: Vec<String> = keys
            .iter()
            .map(|key| format!("{key}: {}", default(definition, key)))
            .collect();
        typed.join(", ")
    };
    let listener = |protocol: &str, forward: &str| {
        format!(
            "interfaces: [{{ name: eth0{} }}]\n\
             listeners: [{{ name: a, address: \"192.0.2.1:1\"{protocol}, forward: {{ cluster: a{forward} }} }}]\n\
             clusters: [{{ name: a, endpoints: [{{ address: \"192.0.2.2:1\"{} }}], health_check: {{ tcp: {{}}{} }} }}]\n",
            if forward.is_empty() {
                String::new()
            } else {
                format!(", {}", group("InterfaceSettings", &["xdp"]))
            },
            if forward.is_empty() {
                String::new()
            } else {
                format!(", {}", group("EndpointSettings", &["weight", "drain"]))
            },
            if forward.is_empty() {
                String::new()
            } else {
                format!(
                    ", {}",
                    group("HealthCheck", &["interval", "timeout", "rise", "fall"])
                )
            },
        )
    };
    let timeouts = group("IdleTimeouts", &["tcp", "tcp_opening", "tcp_closing", "udp"]);
    let forward = format!(
        ", {}, idle_timeouts: {{ {timeouts} }}",
        group("Forward", &["mode", "table_size", "hash"])
    );
    let typed_out = format!(
        "{}kernel: {{ {} }}\nnat: {{ {} }}\npin_workers: {}\n",
        listener(&format!(", {}", group("Listener", &["protocol"])), &forward),
        group(
            "Kernel",
            &["pin_path", "max_services", "max_backends", "max_flows"]
        ),
        group("Nat", &["ports"]),
        schema["properties"]["pin_workers"]["default"],
    );
    let left_out = load_text(&listener("", ""), &schema).unwrap();
    let typed_out = load_text(&typed_out, &schema).unwrap_or_else(|errors| panic!("{errors}\n{typed_out}"));
    assert_eq!(left_out.services, typed_out.services);
    assert_eq!(left_out.clusters, typed_out.clusters);
    assert_eq!(left_out.settings, typed_out.settings);
}

/// Remedies and editors show descriptions and examples, so every key has both.
#[test]
fn every_key_is_described_with_an_example() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, definition) in definitions
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .chain([("Config", &schema)])
    {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{key}");
            assert!(property["examples"][0] != serde_json::Value::Null, "{name}.{key}");
        }
    }
}
