//! What ships for Prometheus and Grafana under config/: names that exist, rules that Prometheus takes, and a scrape by it.

use super::{
    metrics::config,
    support::{Daemon, Home, SOON, backend, free_port, text},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use weir::admin::metrics::catalogue;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(shipped(name)).unwrap()
}

/// Every word that begins as a metric's name does.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("weir_"))
        .collect()
}

/// Expressions of panels; variables have values.
fn dashboard_expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("grafana/weir.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| {
            (target["expr"].as_str().unwrap())
                .replace("$__rate_interval", "1m")
                .replace("$job", "weir")
                .replace("$instance", ".*")
                .replace("$cluster", ".*")
        })
        .collect()
}

#[test]
fn every_name_in_the_dashboard_and_the_rules_exists() {
    let exist: BTreeSet<String> = catalogue::all().flat_map(catalogue::sample_names).collect();
    for name in ["grafana/weir.json", "prometheus/alerts.yaml"] {
        let text = read(name);
        let names = names(&text);
        assert!(names.len() > 10, "{name}: {names:?}");
        let unknown: Vec<_> = names.iter().filter(|each| !exist.contains(**each)).collect();
        assert!(unknown.is_empty(), "{name} names {unknown:?}");
    }
    let expressions = dashboard_expressions();
    assert!(expressions.len() > 30);
    let left: Vec<_> = expressions.iter().filter(|it| it.contains('$')).collect();
    assert!(left.is_empty(), "variables without values here: {left:?}");
}

#[test]
fn promtool_takes_the_rules_and_the_scrape_config() {
    for (what, file) in [
        ("rules", "prometheus/alerts.yaml"),
        ("config", "prometheus/prometheus.yaml"),
    ] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(["check", what]).arg(shipped(file)).output();
        let output = output.expect("promtool is installed");
        assert!(
            output.status.success(),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

/// Debian's Prometheus with the config that ships; killed at the end.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(home: &Home, target: u16) -> Self {
        let port = free_port();
        let config = read("prometheus/prometheus.yaml")
            .replace("127.0.0.1:9100", &format!("127.0.0.1:{target}"))
            .replace("_interval: 15s", "_interval: 1s")
            .replace("scrape_timeout: 10s", "scrape_timeout: 1s");
        let file = home.path().join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        fs::write(home.path().join("alerts.yaml"), read("prometheus/alerts.yaml")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            home.path().join("data").display()
        ));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg("--enable-feature=exemplar-storage");
        command.arg("--log.level=warn").stdin(Stdio::null());
        let child = command.spawn().expect("prometheus is installed");
        Self { child, port }
    }

    /// None while it doesn't answer.
    fn ask(&self, path: &str, query: Option<&str>) -> Option<Value> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "10", "--get"]);
        command.arg(format!("http://127.0.0.1:{}/api/v1/{path}", self.port));
        if let Some(query) = query {
            command.args(["--data-urlencode", &format!("query={query}")]);
        }
        let output = command.output().expect("curl is installed");
        serde_json::from_slice(&output.stdout).ok()
    }

    fn wait<T>(&self, what: &str, ask: impl Fn() -> Option<T>) -> T {
        // It starts slowly where a machine is busy.
        let begin = Instant::now();
        loop {
            if let Some(found) = ask() {
                return found;
            }
            let targets = || self.ask("targets", None);
            assert!(begin.elapsed() < 6 * SOON, "never: {what}; {:?}", targets());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        self.child.wait().unwrap();
    }
}

#[test]
fn prometheus_scrapes_it_and_evaluates_rules_and_panels() {
    let home = Home::new("");
    let metrics = free_port();
    home.write(&config(&home, free_port(), backend().1, metrics));
    let _daemon = Daemon::start(&home);
    let prometheus = Prometheus::start(&home, metrics);
    let value = |answer: &Value| Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned());
    let up = prometheus.wait("scraped", || {
        let answer = prometheus.ask("query", Some("up{job=\"weir\"} == 1"))?;
        value(&answer)
    });
    assert_eq!(up, "1");
    // A page that it can't parse would not be up; what is in it is what was sent.
    let query = "weir_endpoint_weight{cluster=\"dns\",endpoint=\"198.51.100.2:53\"}";
    let weight = prometheus.ask("query", Some(query)).unwrap();
    assert_eq!(value(&weight).as_deref(), Some("3"), "{weight}");

    // Every rule was evaluated, and none failed.
    prometheus.wait("rules evaluated", || {
        let answer = prometheus.ask("rules", None)?;
        let groups = answer["data"]["groups"].as_array()?;
        let rules: Vec<&Value> = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .collect();
        let failed: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err").collect();
        assert!(failed.is_empty(), "{failed:?}");
        (rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok")).then_some(())
    });
    for expression in dashboard_expressions() {
        let answer = prometheus.ask("query", Some(&expression)).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
}

#[test]
fn prometheus_keeps_the_traces_of_slow_and_fast_requests() {
    let home = Home::new("");
    let (port, metrics) = (free_port(), free_port());
    // Nobody takes the spans: exemplars don't need that.
    let collector = free_port();
    home.write(&format!(
        "{}tracing: {{ sampling: 0, otlp: {{ endpoint: \"http://127.0.0.1:{collector}\" }} }}\n",
        config(&home, port, backend().1, metrics)
    ));
    let _daemon = Daemon::start(&home);
    let prometheus = Prometheus::start(&home, metrics);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let begin = unix_seconds();
    let exemplar = prometheus.wait("an exemplar", || {
        // Prometheus takes no exemplar of before it knew the series.
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "10", "--header"]);
        curl.arg(format!("traceparent: 00-{trace}-b7ad6b7169203331-01"));
        let output = curl.arg(format!("http://127.0.0.1:{port}/direct")).output();
        assert!(output.expect("curl is installed").status.success());
        let query = "weir_route_request_duration_seconds_bucket&start=START&end=END"
            .replace("START", &begin.to_string())
            .replace("END", &(unix_seconds() + 60).to_string());
        let answer = prometheus.ask(&format!("query_exemplars?query={query}"), None)?;
        let series = answer["data"].as_array()?.first()?;
        assert_eq!(series["seriesLabels"]["route"], "routes[1]", "{answer}");
        Some(series["exemplars"][0].clone())
    });
    assert_eq!(exemplar["labels"]["trace_id"], trace, "{exemplar}");
    let took: f64 = exemplar["value"].as_str().unwrap().parse().unwrap();
    assert!(took > 0.0 && took < 10.0, "{exemplar}");
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}
