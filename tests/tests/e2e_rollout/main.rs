//! The container and the DaemonSet under config/ at work: the image's files, no more capabilities than the manifest adds, and rolling updates
//! that neither plane's traffic notices.

mod clients;
mod container;
mod kubelet;
mod rollout;

use anyhow::{Context, Result};
use kubelet::Kubelet;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use weir_tests::lab::{Admin, DaemonConfig, Family, Image, Node, Running, weir_binary};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Where the L7 listener is: on no interface, and at a port that takes CAP_NET_BIND_SERVICE to listen on oneself.
fn web() -> SocketAddr {
    SocketAddr::new(Family::V4.vip(2), 80)
}

/// A node in the lab's topology, whose pods serve L4 in both families and L7.
struct Site {
    kubelet: Kubelet,
    running: Running,
    image: Image,
}

impl Site {
    /// Nothing runs yet. `--linger` is cut short, since nothing here waits for a controller that is far away.
    fn new(linger: &str) -> Result<Self> {
        let running = Running::prepare(|config| config)?;
        let mut node = Node::new(&running.topology.balancer)?;
        let words = node.manifest.container["args"].as_array_mut();
        let last = words.and_then(|words| words.last_mut()).context("arguments")?;
        assert_eq!(*last, json!("1m"), "--linger's time");
        *last = json!(linger);
        let image = Image::stage(&running.topology.lab.directory().join("image"), &weir_binary()?)?;
        Ok(Self {
            kubelet: Kubelet { node },
            running,
            image,
        })
    }

    /// Brings a config with these routes and clusters beside the services in the kernel.
    fn configure(&self, routes: &Value, clusters: &[Value]) -> Result<DaemonConfig> {
        let mut config = self.running.config.clone();
        config.value["workers"] = json!(2);
        config.value["drain"] = json!({"notice": "1s"});
        // How fast programs are loaded is the machine's affair.
        config.value["upgrade"] = json!({"ready_timeout": "5m"});
        config.value["metrics"] = json!({"address": "127.0.0.1:9100"});
        for (list, more) in [
            (
                "listeners",
                &[json!({
                    "name": "web",
                    "address": web(),
                    "routes": routes,
                    "access_log": {"path": "/var/lib/weir/access.log", "text": "%REQ(:PATH)% %RESPONSE_CODE%"},
                })][..],
            ),
            ("clusters", clusters),
        ] {
            let list = config.value[list].as_array_mut().context("a list")?;
            list.extend_from_slice(more);
        }
        self.bring(&config)?;
        Ok(config)
    }

    fn bring(&self, config: &DaemonConfig) -> Result<()> {
        self.kubelet.node.bring(&[("weir.yaml", &self.text(config))])
    }

    /// The text of weir.yaml, with the lab's pins and the manifest's admin socket.
    fn text(&self, config: &DaemonConfig) -> String {
        let socket = Path::new("/run/weir/admin.sock");
        self.running.daemon.text_for(config, socket)
    }

    /// The admin API of whichever pod is the daemon, from the machine.
    fn admin(&self) -> Admin {
        Admin::new(&self.kubelet.node.run_folder().join("admin.sock"))
    }

    fn dropped(&self) -> Result<u64> {
        let status = self.admin().status()?;
        let drops = status["kernel"]["drops"].as_array().context("drops")?;
        Ok(drops.iter().filter_map(|drop| drop["packets"].as_u64()).sum())
    }

    fn access_log(&self) -> Result<String> {
        Ok(fs::read_to_string(
            self.kubelet.node.state_folder().join("access.log"),
        )?)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.running.topology.lab.directory().join(name)
    }
}
