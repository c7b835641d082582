//! `weir proxy`: one line is enough.

use super::support::{backend, free_port, weir};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

/// Answers every request with this text, for ever.
fn answer(listener: TcpListener, text: &'static str) {
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    break;
                }
                request.push(byte[0]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            let _hung_up = stream.write_all(format!("{head}{text}").as_bytes());
        }
    });
}

/// Ended however the test ends.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// What was printed is a config.
fn assert_is_config(pid: &str, config: &str) {
    let own = std::env::temp_dir().join(format!("weir-proxy-printed-{pid}.yaml"));
    fs::write(&own, config).unwrap();
    let check = weir(&["check"]).arg(&own).output().unwrap();
    fs::remove_file(own).unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
}

#[test]
fn it_prints_its_config_serves_and_leaves_nothing() {
    let (listener, address) = backend();
    answer(listener, "from the backend");
    let port = free_port();
    let mut command = weir(&["proxy", "--self-signed", "--workers", "1", "--from"]);
    command.arg(format!("127.0.0.1:{port}")).args([
        "--to",
        &address.to_string(),
        "--policy",
        "least_request",
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut proxy = Proxy(command.spawn().unwrap());
    let mut lines = BufReader::new(proxy.0.stderr.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains("ready: ") {
        said = lines.next().expect("it ended before it was ready").unwrap();
        eprintln!("{said}");
    }
    thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));

    let url = format!("https://127.0.0.1:{port}/");
    let curl = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "10", &url])
        .output()
        .expect("curl is installed");
    assert_eq!(
        String::from_utf8_lossy(&curl.stdout),
        "from the backend",
        "{}",
        String::from_utf8_lossy(&curl.stderr)
    );

    let pid = proxy.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(proxy.0.wait().unwrap().code(), Some(0));
    let mut config = String::new();
    proxy
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut config)
        .unwrap();
    for part in [
        format!("address: 127.0.0.1:{port}\n"),
        "tls: { self_signed: true }\n".to_owned(),
        "policy: least_request\n".to_owned(),
        format!("endpoints: [{address}]\n"),
    ] {
        assert!(config.contains(&part), "{part} is not in {config}");
    }
    let socket = config.split("socket: ").nth(1).unwrap().trim_end_matches(" }\n");
    let home = Path::new(socket).parent().unwrap();
    assert!(!home.exists(), "{} is left", home.display());
    assert_is_config(&pid, &config);
}

#[test]
fn a_wrong_address_is_said_by_its_line_in_the_config() {
    let output = weir(&[
        "proxy",
        "--from",
        "localhost:80",
        "--to",
        "http://127.0.0.1:3000/",
    ])
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("weir.yaml:4: listeners[0].address: \"localhost:80\" is a name"),
        "{error}"
    );
    assert!(error.contains("write 127.0.0.1:3000"), "{error}");
}
