//! `GET /metrics`: what it counts, and that it is what the catalogue says.

use super::support::{Daemon, Home, SOON, backend, free_port, text};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use weir::admin::metrics::catalogue::{self, Kind, Metric};

/// Samples by name and labels, as they are written.
pub type Samples = BTreeMap<String, f64>;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// An HTTP listener with a named route to a backend, one without a name, and one to a cluster where nobody listens.
pub fn config(home: &Home, port: u16, backend: SocketAddr, metrics: u16) -> String {
    format!(
        "admin: {{ socket: {} }}\n\
         metrics: {{ address: \"127.0.0.1:{metrics}\" }}\n\
         workers: 2\n\
         listeners:\n\
         \x20 - name: web\n\
         \x20   address: 127.0.0.1:{port}\n\
         \x20   routes:\n\
         \x20     - {{ name: down, match: {{ path: /down }}, cluster: down }}\n\
         \x20     - {{ match: {{ path: /direct }}, respond: {{ status: 403 }} }}\n\
         \x20     - {{ name: api, match: {{ path_prefix: /api }}, cluster: api }}\n\
         \x20 - {{ name: dns, address: \"192.0.2.53:53\", protocol: udp, forward: {{ cluster: dns }} }}\n\
         clusters:\n\
         \x20 - {{ name: api, endpoints: [\"{backend}\"] }}\n\
         \x20 - {{ name: down, endpoints: [\"127.0.0.1:1\"] }}\n\
         \x20 - {{ name: dns, endpoints: [\"198.51.100.1:53\", {{ address: \"198.51.100.2:53\", weight: 3, drain: true }}] }}\n",
        home.socket().display()
    )
}

fn curl(arguments: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10"]);
    command.args(["--write-out", "\n%{http_code} %{content_type}"]);
    let output = command.args(arguments).output().expect("curl is installed");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let all = text(&output.stdout);
    let (body, said) = all.rsplit_once('\n').unwrap();
    (body.to_owned(), said.to_owned())
}

/// By the UNIX socket.
fn scrape(home: &Home, accept: &str) -> (String, String) {
    let socket = home.socket();
    let accept = format!("accept: {accept}");
    curl(&[
        "--unix-socket",
        socket.to_str().unwrap(),
        "--header",
        &accept,
        "http://weir/metrics",
    ])
}

fn samples(page: &str) -> Samples {
    let lines = page
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Waits until these samples have these values: a worker counts a response after its client has it.
fn samples_when(home: &Home, wanted: &Samples) -> Samples {
    let begin = Instant::now();
    loop {
        let samples = samples(&scrape(home, "*/*").0);
        let wrong = wanted
            .iter()
            .find(|(name, value)| samples.get(*name) != Some(*value));
        let Some((name, value)) = wrong else {
            return samples;
        };
        let got = samples.get(name);
        assert!(begin.elapsed() < SOON, "{name} is {got:?}, not {value}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A sample's name, and its labels' names.
fn parts(sample: &str) -> (&str, Vec<&str>) {
    let Some((name, labels)) = sample.split_once('{') else {
        return (sample, Vec::new());
    };
    let pairs = labels.trim_end_matches('}').split("\",");
    let names = pairs.filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    (name, names)
}

fn assert_is_of_the_catalogue(sample: &str) {
    let (name, labels) = parts(sample);
    let is_it = |metric: &&Metric| catalogue::sample_names(metric).iter().any(|each| each == name);
    let metric = catalogue::all()
        .find(is_it)
        .unwrap_or_else(|| panic!("{name} is not in the catalogue"));
    let mut wanted = metric.labels.to_vec();
    if metric.kind == Kind::Histogram && name.ends_with("_bucket") {
        wanted.push("le");
    }
    assert_eq!(labels, wanted, "{sample}");
}

/// Answers requests with this body, one a connection, for ever.
fn answer(listener: TcpListener, body: &'static str) {
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let (mut request, mut buffer) = (String::new(), [0; 4_096]);
            // A close with bytes unread would be a reset, which overtakes the answer.
            while !is_whole(&request) {
                match stream.read(&mut buffer) {
                    Ok(length @ 1..) => request.push_str(&String::from_utf8_lossy(&buffer[..length])),
                    _ => break,
                }
            }
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _hung_up = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// What the requests below and the config above lead to.
const COUNTED: &str = r#"
weir_route_requests_total{listener="web",route="api"} 3
weir_route_responses_total{listener="web",route="api",code="2xx"} 3
weir_route_request_duration_seconds_count{listener="web",route="api"} 3
weir_route_request_duration_seconds_bucket{listener="web",route="api",le="+Inf"} 3
weir_route_received_bytes_total{listener="web",route="api"} 12
weir_route_sent_bytes_total{listener="web",route="api"} 15
weir_route_responses_total{listener="web",route="down",code="5xx"} 1
weir_route_responses_total{listener="web",route="routes[1]",code="4xx"} 1
weir_route_responses_total{listener="web",route="_none",code="4xx"} 1
weir_cluster_requests_total{cluster="api"} 3
weir_cluster_request_failures_total{cluster="api"} 0
weir_cluster_requests_total{cluster="down"} 1
weir_cluster_connect_failures_total{cluster="down"} 1
weir_cluster_request_failures_total{cluster="down"} 1
weir_endpoint_requests_total{cluster="api",endpoint="ENDPOINT"} 3
weir_endpoint_responses_total{cluster="api",endpoint="ENDPOINT",code="2xx"} 3
weir_endpoint_sent_bytes_total{cluster="api",endpoint="ENDPOINT"} 15
weir_endpoint_connections_opened_total{cluster="api",endpoint="ENDPOINT"} 3
weir_endpoint_requests_active{cluster="api",endpoint="ENDPOINT"} 0
weir_listener_connections_accepted_total{listener="web"} 6
weir_listener_connections{listener="web"} 0
weir_kernel_plane_up 0
weir_endpoint_weight{cluster="dns",endpoint="198.51.100.2:53"} 3
weir_endpoint_effective_weight{cluster="dns",endpoint="198.51.100.2:53"} 0
weir_endpoint_draining{cluster="dns",endpoint="198.51.100.2:53"} 1
weir_endpoint_share_ratio{cluster="dns",endpoint="198.51.100.1:53"} 1
"#;

#[test]
fn requests_are_counted_by_route_cluster_and_endpoint_across_reloads() {
    let (listener, address) = backend();
    answer(listener, "hello");
    let home = Home::new("");
    let (port, metrics) = (free_port(), free_port());
    let text = config(&home, port, address, metrics);
    home.write(&text);
    let daemon = Daemon::start(&home);
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    for _ in 0..3 {
        assert_eq!(curl(&["--data", "four", &url("/api")]).0, "hello");
    }
    for (path, code) in [("/down", "503"), ("/direct", "403"), ("/none", "404")] {
        assert!(curl(&[&url(path)]).1.starts_with(code), "{path}");
    }
    let counted = samples(&COUNTED.replace("ENDPOINT", &address.to_string()));
    let samples = samples_when(&home, &counted);
    samples
        .keys()
        .for_each(|sample| assert_is_of_the_catalogue(sample));

    // Another route in front, another endpoint: what keeps its name keeps its counts.
    let text = text.replace(
        "    routes:\n",
        "    routes:\n      - { name: new, match: { path: /new }, cluster: api }\n",
    );
    home.write(&text.replace(
        &format!("[\"{address}\"]"),
        &format!("[\"{address}\", \"127.0.0.1:2\"]"),
    ));
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(code, 200, "{answer}");
    let mut kept = counted;
    kept.retain(|name, _| !name.contains("routes[1]"));
    kept.insert("weir_generation{plane=\"l7\"}".into(), 2.0);
    kept.insert(
        "weir_route_requests_total{listener=\"web\",route=\"new\"}".into(),
        0.0,
    );
    samples_when(&home, &kept);
}

#[test]
fn both_formats_by_both_ways() {
    let home = Home::new("");
    let (port, metrics) = (free_port(), free_port());
    home.write(&config(&home, port, backend().1, metrics));
    let _daemon = Daemon::start(&home);
    let (page, said) = scrape(&home, "*/*");
    assert_eq!(said, "200 text/plain; version=0.0.4; charset=utf-8");
    assert!(page.contains("# TYPE weir_worker_requests_total counter\n"));
    // promtool reads this format alone; it complains of names and helps too.
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool is installed");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let complaints = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");

    let over_tcp = |path: &str, accept: &str| {
        let url = format!("http://127.0.0.1:{metrics}{path}");
        curl(&["--header", &format!("accept: {accept}"), &url])
    };
    let (open, said) = over_tcp("/metrics", OPEN_METRICS);
    assert_eq!(said, format!("200 {OPEN_METRICS}; charset=utf-8"));
    assert!(open.contains("# TYPE weir_worker_requests counter\n"));
    assert!(open.contains("# UNIT weir_worker_sent_bytes bytes\n"));
    assert!(open.ends_with("# EOF\n"));
    assert_eq!(scrape(&home, OPEN_METRICS).1, said);
    assert!(
        samples(&open).keys().eq(samples(&page).keys()),
        "the same series in both"
    );
    for path in ["/status", "/", "/reload"] {
        assert!(over_tcp(path, "*/*").1.starts_with("404 "), "{path} over TCP");
    }
}

#[test]
fn an_address_in_use_is_said_at_start() {
    let (_taken, address) = backend();
    let home = Home::new("");
    home.write(&config(&home, free_port(), address, address.port()));
    let output = super::support::weir(&["run", "--no-kernel"])
        .arg(home.config())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(
        error.contains(&format!("metrics.address: {address}: ")),
        "{error}"
    );
}

#[test]
fn routes_beyond_the_bound_are_counted_together() {
    let home = Home::new("");
    let port = free_port();
    let mut config = format!(
        "admin: {{ socket: {} }}\nlisteners:\n  - name: web\n    address: 127.0.0.1:{port}\n    routes:\n",
        home.socket().display()
    );
    for route in 0..1_005 {
        writeln!(
            config,
            "      - {{ name: r{route}, match: {{ path: /{route} }}, respond: {{ status: 200 }} }}"
        )
        .unwrap();
    }
    home.write(&config);
    let _daemon = Daemon::start(&home);
    for route in [999, 1_000, 1_004] {
        curl(&[&format!("http://127.0.0.1:{port}/{route}")]);
    }
    let counted = "weir_route_requests_total{listener=\"web\",route=\"r999\"} 1\n\
                   weir_route_requests_total{listener=\"web\",route=\"_other\"} 2";
    let samples = samples_when(&home, &samples(counted));
    let routes = samples
        .keys()
        .filter(|name| name.starts_with("weir_route_requests_total"));
    // With _other and _none.
    assert_eq!(routes.count(), 1_002);
}

/// Prints how long it takes; asserts no time, which is the machine's.
#[test]
fn a_page_of_ten_thousand_endpoints() {
    let home = Home::new("");
    let mut config = format!(
        "admin: {{ socket: {} }}\nlisteners:\n  - {{ name: web, address: \"127.0.0.1:{}\", routes: [{{ cluster: web }}] }}\n\
         clusters:\n  - name: web\n    endpoints:\n",
        home.socket().display(),
        free_port()
    );
    for number in 0..10_000 {
        writeln!(config, "      - 198.18.{}.{}:80", number / 250, number % 250).unwrap();
    }
    home.write(&config);
    let _daemon = Daemon::start(&home);
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let begin = Instant::now();
        let (page, _) = scrape(&home, OPEN_METRICS);
        best = best.min(begin.elapsed());
        let weights = page
            .lines()
            .filter(|line| line.starts_with("weir_endpoint_weight{"));
        assert_eq!(weights.count(), 10_000);
    }
    println!("10,000 endpoints, scraped by curl: {best:?} at best");
}
