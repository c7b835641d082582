//! What a container runtime is told (the OCI runtime specification's config.json), as containerd and CRI-O write it for a pod on the host's
//! network.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// What is hidden and what can't be written in a container that isn't privileged: the defaults of Kubernetes (`procMount: Default`).
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A container of user 0 with a root file system that can't be written, no way to more privileges, and no network namespace of its own.
pub(super) fn config(
    arguments: &[String],
    root: &Path,
    capabilities: &[String],
    volumes: &[Value],
    seccomp: &Value,
) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    mounts.extend_from_slice(volumes);
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NO_COLOR=1"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": root, "readonly": true},
        "mounts": mounts,
        "linux": {"namespaces": namespaces, "maskedPaths": MASKED, "readonlyPaths": READ_ONLY, "seccomp": seccomp},
    })
}

/// The default profile of Podman and CRI-O (package golang-github-containers-common), which like that of containerd and Docker comes from Moby's.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// The runtime's default filter of system calls for a container with these capabilities.
pub(super) fn runtime_default(capabilities: &[String]) -> Result<Value> {
    let text = fs::read_to_string(PROFILE)
        .with_context(|| format!("{PROFILE} is missing: run `cargo xtask setup`"))?;
    let profile: Value = serde_json::from_str(&text)?;
    let names = |rule: &Value, when: &str, what: &str| -> Vec<String> {
        let names = rule[when][what].as_array().into_iter().flatten();
        names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    };
    let has = |name: &String| capabilities.contains(name);
    let applies = |rule: &&Value| {
        let (with, without) = (names(rule, "includes", "caps"), names(rule, "excludes", "caps"));
        // Names of Go, not of Rust: amd64 and arm64.
        let machine = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        let machines = names(rule, "includes", "arches");
        with.iter().all(has)
            && !without.iter().any(has)
            && (machines.is_empty() || machines.iter().any(|name| name == machine))
    };
    let rules = profile["syscalls"].as_array().context("syscalls")?;
    let mut kept: Vec<Value> = rules.iter().filter(applies).cloned().collect();
    for rule in &mut kept {
        if let Some(rule) = rule.as_object_mut() {
            rule.retain(|key, value| {
                ["names", "action", "args", "errnoRet"].contains(&key.as_str()) && !value.is_null()
            });
        }
    }
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "syscalls": kept,
    }))
}

/// A filter that lets through these system calls alone.
pub fn only(calls: &[String]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}],
    })
}
