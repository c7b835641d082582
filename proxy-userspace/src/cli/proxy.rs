//! `weir proxy`: a listener and a cluster from one line, without a file.

use super::{print, run};
use anyhow::Context;
use std::{
    env,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{self, Path, PathBuf},
    process,
};

/// Arguments of `weir proxy`.
#[derive(clap::Args)]
#[command(after_help = "\
The config that says the same is printed first: a start for one of your own. Stop with Ctrl-C.

  weir proxy --from 127.0.0.1:8080 --to 127.0.0.1:3000
  weir proxy --from 127.0.0.1:8443 --self-signed --to 127.0.0.1:3000,127.0.0.1:3001 --policy least_request
  weir proxy --from 127.0.0.1:5432 --tcp --to db.internal:5432")]
pub(super) struct ProxyArgs {
    /// Where clients connect: IP:PORT, for IPv6 [IP]:PORT, or a range of ports.
    #[arg(long, value_name = "ADDR")]
    from: String,
    /// Where it goes: IP:PORT or NAME:PORT; several with commas between.
    #[arg(long, value_name = "ADDR", required = true, value_delimiter = ',')]
    to: Vec<String>,
    /// Speak TLS to clients with a certificate that is made now and that no client trusts.
    #[arg(long, conflicts_with_all = ["cert", "key"])]
    self_signed: bool,
    /// Speak TLS to clients with this certificate (PEM), and behind it those it was issued by.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// What is spoken to the endpoints. Default: auto, which is HTTP/1.1 without TLS.
    #[arg(long, value_name = "PROTOCOL", value_parser = ["auto", "http1", "h2"], conflicts_with = "tcp")]
    protocol: Option<String>,
    /// How an endpoint is chosen. Default: round_robin.
    #[arg(long, value_parser = ["round_robin", "least_request", "random", "ring_hash", "maglev", "peak_ewma"])]
    policy: Option<String>,
    /// Pass byte streams on instead of HTTP requests.
    #[arg(long)]
    tcp: bool,
    /// Worker threads. Default: one a core.
    #[arg(long, value_name = "N")]
    workers: Option<u16>,
    /// What to log: error, warn, info, debug, trace, or a filter such as weir::health=debug.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// Runs until a signal stops it.
///
/// # Errors
/// Whatever keeps it from starting, with the remedy.
pub(super) fn run(args: &ProxyArgs) -> anyhow::Result<()> {
    let home = Home::new()?;
    let config = home.0.join("weir.yaml");
    let text = yaml(args, &home.0.join("admin.sock"))?;
    fs::write(&config, &text).with_context(|| format!("writing {}", config.display()))?;
    print(text.as_bytes())?;
    run::run(&run::RunArgs {
        config,
        no_kernel: true,
        workers: args.workers,
        log: args.log.clone(),
        ..run::RunArgs::default()
    })
}

/// A private directory for the config and the admin socket; removed at the end. With a socket of its own any number of
/// these run beside each other and beside a daemon.
struct Home(PathBuf);

impl Home {
    fn new() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("weir-proxy-{}", process::id()));
        // One that is there already is not ours: whoever made it could read and change what is in it.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| {
            format!(
                "making {}; set TMPDIR to a directory you may write to",
                path.display()
            )
        })?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _left_for_the_next_boot = fs::remove_dir_all(&self.0);
    }
}

/// The config that says the same.
fn yaml(args: &ProxyArgs, socket: &Path) -> anyhow::Result<String> {
    let mut text =
        String::from("# The same from a file: weir run FILE --no-kernel\nlisteners:\n  - name: proxy\n");
    text += &format!("    address: {}\n", quoted(&args.from));
    if args.self_signed {
        text += "    tls: { self_signed: true }\n";
    }
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        text += &format!(
            "    tls: {{ certificates: [{{ cert: {}, key: {} }}] }}\n",
            absolute(cert)?,
            absolute(key)?
        );
    }
    text += if args.tcp {
        "    tcp: { cluster: endpoints }\n"
    } else {
        "    routes: [{ cluster: endpoints }]\n"
    };
    text += "clusters:\n  - name: endpoints\n";
    if let Some(policy) = &args.policy {
        text += &format!("    policy: {policy}\n");
        if matches!(policy.as_str(), "ring_hash" | "maglev") {
            text += "    hash: [source]\n";
        }
    }
    if let Some(protocol) = &args.protocol {
        text += &format!("    protocol: {protocol}\n");
    }
    let endpoints: Vec<String> = args.to.iter().map(|address| quoted(address.trim())).collect();
    text += &format!("    endpoints: [{}]\n", endpoints.join(", "));
    text += "# This one's own: weir status --socket PATH\n";
    text += &format!("admin: {{ socket: {} }}\n", quoted(&socket.display().to_string()));
    Ok(text)
}

/// The config stands elsewhere than where the command was typed.
fn absolute(file: &Path) -> anyhow::Result<String> {
    let absolute = path::absolute(file).with_context(|| format!("looking for {}", file.display()))?;
    Ok(quoted(&absolute.display().to_string()))
}

/// As YAML text, in quotes where it needs them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if starts_well && text.chars().all(plain) && !text.ends_with(':') {
        text.to_owned()
    } else {
        // A JSON string is a YAML one.
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: ProxyArgs,
    }

    /// The config of a command line, as it is loaded.
    fn loaded(arguments: &[&str]) -> (String, config::Loaded) {
        let args = CommandLine::try_parse_from([&["proxy"], arguments].concat())
            .unwrap()
            .args;
        let directory =
            env::temp_dir().join(format!("weir-proxy-test-{}-{}", process::id(), arguments.len()));
        fs::create_dir(&directory).unwrap();
        let text = yaml(&args, &directory.join("admin.sock")).unwrap();
        let file = directory.join("weir.yaml");
        fs::write(&file, &text).unwrap();
        let loaded = config::load(&file);
        fs::remove_dir_all(directory).unwrap();
        (
            text.clone(),
            loaded.unwrap_or_else(|errors| panic!("{errors}\n{text}")),
        )
    }

    #[test]
    fn every_command_line_is_a_config_without_warnings() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/certificates");
        let (cert, key) = (root.join("web.pem"), root.join("web.key"));
        let pair = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        for more in [
            &[][..],
            &["--self-signed"],
            &["--self-signed", "--protocol", "h2"],
            &["--tcp", "--policy", "random", "--workers", "2"],
            &[
                "--policy",
                "maglev",
                "--protocol",
                "http1",
                "--log",
                "debug",
                "--self-signed",
            ],
            &pair,
        ] {
            let arguments = [
                &["--from", "[::1]:8080", "--to", "127.0.0.1:3000,db.internal:1"],
                more,
            ]
            .concat();
            let (text, loaded) = loaded(&arguments);
            assert_eq!(loaded.warnings, Vec::<String>::new(), "{text}");
            assert_eq!((loaded.listeners.len(), loaded.clusters.len()), (1, 1));
            assert_eq!(
                loaded.listeners[0].tls.is_some(),
                more.contains(&"--self-signed") || more == pair
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for arguments in [
            &["--from", "127.0.0.1:1"][..],
            &["--to", "127.0.0.1:1"],
            &["--from", "127.0.0.1:1", "--to", "127.0.0.1:2", "--cert", "a"],
            &[
                "--from",
                "127.0.0.1:1",
                "--to",
                "127.0.0.1:2",
                "--self-signed",
                "--cert",
                "a",
                "--key",
                "b",
            ],
            &[
                "--from",
                "127.0.0.1:1",
                "--to",
                "127.0.0.1:2",
                "--tcp",
                "--protocol",
                "h2",
            ],
        ] {
            assert!(CommandLine::try_parse_from([&["proxy"], arguments].concat()).is_err());
        }
    }
}
