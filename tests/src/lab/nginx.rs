//! nginx on a host: answers `/` with the host's name, and serves the files put into its folder.

use super::{Host, Process, until};
use anyhow::{Context, Result};
use std::{
    fmt::Write,
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Counts the servers of this process, to keep their folders apart.
static SERVERS: AtomicU32 = AtomicU32::new(0);

/// A running nginx: one process, killed when dropped.
pub struct Nginx {
    process: Process,
    folder: PathBuf,
}

impl Nginx {
    /// Starts nginx and waits until it accepts connections on every address.
    pub fn start(host: &Host, addresses: &[SocketAddr]) -> Result<Self> {
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let folder = host.directory().join(format!("{}-nginx-{number}", host.name()));
        fs::create_dir_all(folder.join("files"))?;
        fs::write(folder.join("nginx.conf"), config(host.name(), addresses))?;
        let mut command = host.command("nginx")?;
        command
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(&folder);
        let mut process = host.spawn(&mut command)?;
        for address in addresses {
            until(&format!("nginx on {address}"), Duration::from_secs(60), || {
                let connected = host.run(|| TcpStream::connect(address).is_ok());
                (connected || process.ended().is_some()).then_some(())
            })?;
        }
        process.check()?;
        Ok(Self { process, folder })
    }

    /// Makes `/files/NAME` give these bytes.
    pub fn serve(&self, name: &str, content: &[u8]) -> Result<()> {
        fs::write(self.folder.join("files").join(name), content).context("write a file for nginx")
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// One process without a master: it dies with the test, and needs no pid file.
fn config(name: &str, addresses: &[SocketAddr]) -> String {
    let mut listen = String::new();
    for address in addresses {
        // Writing to a String can't fail.
        let _ = writeln!(listen, "    listen {address};");
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path tmp;\n"))
        .concat();
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
{temporary}  access_log off;
  default_type text/plain;
  keepalive_requests 1000000;
  keepalive_timeout 1h;
  server {{
{listen}    location = / {{ return 200 \"{name}\\n\"; }}
    location /files/ {{ root .; }}
  }}
}}
"
    )
}
