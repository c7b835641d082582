//! Containers as a node makes them of the image and of config/kubernetes/daemonset.yaml: by an OCI runtime, with a root file system, mounts
//! and a pid namespace of their own, on the network of a host.

use super::{Finished, Host, Process, oci, tool, until};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// A file under config/.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

/// What the image holds, in a folder.
pub struct Image {
    root: PathBuf,
    /// What `stage.sh` printed: sizes and names.
    pub listing: String,
}

impl Image {
    /// Stages a binary, as `cargo xtask image` does.
    pub fn stage(folder: &Path, binary: &Path) -> Result<Self> {
        let mut command = std::process::Command::new("sh");
        command.arg(shipped("docker/stage.sh")).arg(binary).arg(folder);
        Ok(Self {
            root: folder.into(),
            listing: Finished::run(&mut command, "")?.success()?,
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// config/kubernetes/daemonset.yaml, and what it says of its one container.
pub struct Manifest {
    /// The pod.
    pub pod: Value,
    /// The container.
    pub container: Value,
}

impl Manifest {
    /// As it ships.
    pub fn shipped() -> Result<Self> {
        let text = fs::read_to_string(shipped("kubernetes/daemonset.yaml"))?;
        let manifest: Value = serde_yaml_ng::from_str(&text)?;
        let pod = manifest["spec"]["template"]["spec"].clone();
        let container = pod["containers"][0].clone();
        Ok(Self { pod, container })
    }

    /// Words at a place of the container, such as `/readinessProbe/exec/command`.
    pub fn words(&self, pointer: &str) -> Result<Vec<String>> {
        let words = self.container.pointer(pointer).and_then(Value::as_array);
        let words = words.with_context(|| format!("no {pointer} in the manifest"))?;
        let word = |word: &Value| word.as_str().map(str::to_owned).context("not a word");
        words.iter().map(word).collect()
    }

    /// The capabilities that are left, as the kernel's headers name them.
    pub fn capabilities(&self) -> Result<Vec<String>> {
        let added = self.words("/securityContext/capabilities/add")?;
        Ok(added.iter().map(|name| format!("CAP_{name}")).collect())
    }
}

/// A machine of the cluster: where kubelet keeps what the manifest's volumes name.
pub struct Node {
    /// Its network.
    pub host: Host,
    /// What its pods are made of.
    pub manifest: Manifest,
    folder: PathBuf,
    pods: AtomicU32,
    configs: AtomicU32,
}

impl Node {
    /// A machine without pods.
    pub fn new(host: &Host) -> Result<Self> {
        for name in ["crun", "nsenter", "unshare"] {
            tool(name)?;
        }
        let folder = host.directory().join(format!("node-{}", host.name()));
        for name in ["run", "state", "config"] {
            fs::create_dir_all(folder.join(name))?;
        }
        Ok(Self {
            host: host.clone(),
            manifest: Manifest::shipped()?,
            folder,
            pods: AtomicU32::new(0),
            configs: AtomicU32::new(0),
        })
    }

    /// The machine's /run/weir.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The machine's /var/lib/weir.
    pub fn state_folder(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Brings files of the ConfigMap to the machine as kubelet does: they are links through `..data`, which is swapped.
    pub fn bring(&self, files: &[(&str, &str)]) -> Result<()> {
        let folder = self.folder.join("config");
        let number = self.configs.fetch_add(1, Ordering::Relaxed);
        let (name, link) = (format!("..{number}"), folder.join("..data_tmp"));
        fs::create_dir(folder.join(&name))?;
        for (file, text) in files {
            fs::write(folder.join(&name).join(file), text)?;
            if !folder.join(file).is_symlink() {
                symlink(Path::new("..data").join(file), folder.join(file))?;
            }
        }
        symlink(&name, &link)?;
        fs::rename(&link, folder.join("..data"))?;
        if let Some(last) = number.checked_sub(1) {
            fs::remove_dir_all(folder.join(format!("..{last}")))?;
        }
        Ok(())
    }

    /// Starts the manifest's container from an image.
    pub fn start(&self, image: &Image) -> Result<Container> {
        self.start_with(image, oci::runtime_default(&self.manifest.capabilities()?)?)
    }

    /// The same with another filter of system calls.
    pub fn start_with(&self, image: &Image, seccomp: Value) -> Result<Container> {
        let name = format!("pod-{}", self.pods.fetch_add(1, Ordering::Relaxed));
        let bundle = self.folder.join(&name);
        fs::create_dir(&bundle)?;
        let config = self.bundle(image, seccomp)?;
        fs::write(bundle.join("config.json"), config.to_string())?;
        Container::start(&self.host, &name, &bundle, &self.folder.join("crun"))
    }

    fn bundle(&self, image: &Image, seccomp: Value) -> Result<Value> {
        let mut arguments = vec!["/usr/bin/weir".to_owned()];
        arguments.extend(self.manifest.words("/args")?);
        let security = &self.manifest.container["securityContext"];
        ensure!(security["readOnlyRootFilesystem"] == true && security["allowPrivilegeEscalation"] == false);
        ensure!(self.manifest.pod["hostNetwork"] == true);
        Ok(oci::config(
            &arguments,
            image.root(),
            &self.manifest.capabilities()?,
            &self.mounts()?,
            &seccomp,
        ))
    }

    /// The manifest's volumes at its mount paths.
    fn mounts(&self) -> Result<Vec<Value>> {
        let volumes = self.manifest.pod["volumes"].as_array().context("volumes")?;
        let mounts = self.manifest.container["volumeMounts"].as_array();
        let mount = |mount: &Value| -> Result<Value> {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let volume = volume.with_context(|| format!("no volume for {mount}"))?;
            let source = match volume["hostPath"]["path"].as_str() {
                Some("/run/weir") => self.run_folder(),
                Some("/var/lib/weir") => self.state_folder(),
                Some(path) => PathBuf::from(path),
                None => self.folder.join("config"),
            };
            let access = if mount["readOnly"] == true { "ro" } else { "rw" };
            let propagation = match mount["mountPropagation"].as_str() {
                Some("HostToContainer") => "rslave",
                _ => "rprivate",
            };
            Ok(json!({
                "destination": mount["mountPath"], "type": "bind", "source": source,
                "options": ["rbind", propagation, access],
            }))
        };
        mounts.context("volumeMounts")?.iter().map(mount).collect()
    }
}

/// Of the runtime, in namespaces that end with the test: it finds its containers by their pids there. With the cgroups of version 2 beside those
/// of version 1 it wants to manage both, which a test shall not.
const RUNTIME: &str = "umount -l /sys/fs/cgroup/unified 2>/dev/null || :
exec crun --root \"$0\" --cgroup-manager=disabled run --bundle \"$1\" \"$2\"";

/// The runtime takes this long to make a container, on a busy machine.
const START: Duration = Duration::from_secs(120);

/// A container that was started. Killed when dropped.
pub struct Container {
    name: String,
    host: Host,
    bundle: PathBuf,
    runtime: PathBuf,
    process: Process,
    /// The runtime, as this machine counts.
    pid: String,
}

impl Container {
    fn start(host: &Host, name: &str, bundle: &Path, runtime: &Path) -> Result<Self> {
        let mut command = host.command("unshare")?;
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-ec", RUNTIME])
            .args([runtime, bundle])
            .arg(name);
        let mut process = Process::start(&mut command, &bundle.join("log"))?;
        let id = process.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let pid = until("the container's runtime", START, || {
            let children = fs::read_to_string(&children).unwrap_or_default();
            let child = children.split_whitespace().next().map(str::to_owned);
            child.or_else(|| process.ended().map(|_| String::new()))
        })?;
        Ok(Self {
            name: name.into(),
            host: host.clone(),
            bundle: bundle.into(),
            runtime: runtime.into(),
            process,
            pid,
        })
    }

    /// Runs a program in the container as its probes and hooks are run: with its mounts, its pids and its capabilities. One that has ended runs
    /// nothing.
    pub fn exec(&self, words: &[String]) -> Result<Finished> {
        let mut command = self.enter()?;
        command.arg("exec").arg(&self.name).args(words);
        Finished::run(&mut command, "")
    }

    /// Starts a program in the container, as [`Self::exec`] does, and goes on.
    pub fn exec_beside(&self, words: &[String]) -> Result<Process> {
        let mut command = self.enter()?;
        command.arg("exec").arg(&self.name).args(words);
        Process::start(&mut command, &self.bundle.join("beside"))
    }

    /// Sends a signal to the container's first process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut command = self.enter()?;
        let number = signal.as_raw().to_string();
        Finished::run(command.arg("kill").arg(&self.name).arg(number), "")?.success()?;
        Ok(())
    }

    fn enter(&self) -> Result<std::process::Command> {
        let mut command = self.host.command("nsenter")?;
        command
            .args(["--target", &self.pid, "--mount", "--pid", "crun", "--root"])
            .arg(&self.runtime);
        Ok(command)
    }

    /// The container's first process, as this machine counts: the runtime's only child.
    pub fn first_process(&self) -> Result<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = fs::read_to_string(&children).with_context(|| children)?;
        let first = children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok());
        first.context("the container has no process")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has ended: the message holds what it printed.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Ends all its processes at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
