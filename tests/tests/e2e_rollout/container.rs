//! The container's shape: what is in it, what it may do, and that both planes are served from it, under the filters of Kubernetes and of the
//! systemd unit.

use super::{Site, web};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{fs, process::Command};
use weir_tests::lab::{Container, Finished, Traffic, failures, only, shipped, tool};

/// Numbers of linux/capability.h.
const CAPABILITIES: [(&str, u32); 4] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// A field of /proc/PID/status.
fn field(status: &str, name: &str) -> Result<String> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name}"))?.trim().to_owned())
}

/// What the kernel says of the container's first process.
fn expect_shape(site: &Site, pod: &Container) -> Result<()> {
    let pid = pod.first_process()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let wanted: Vec<String> = site.kubelet.node.manifest.capabilities()?;
    let bits = CAPABILITIES
        .iter()
        .filter(|(name, _)| wanted.iter().any(|one| one == name));
    let mask: u64 = bits.map(|(_, bit)| 1 << bit).sum();
    ensure!(mask.count_ones() as usize == wanted.len(), "{wanted:?}");
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(field(&status, set)?, format!("{mask:016x}"), "{set}");
    }
    assert_eq!(field(&status, "CapAmb")?, format!("{:016x}", 0));
    assert_eq!(field(&status, "NoNewPrivs")?, "1");
    // A filter of system calls is on.
    assert_eq!(field(&status, "Seccomp")?, "2");
    // In its own pid namespace it is the first.
    ensure!(field(&status, "NSpid")?.ends_with("\t1"), "{status}");
    let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    let own = site
        .running
        .topology
        .balancer
        .run(|| namespace("thread-self", "net"))?;
    assert_eq!(namespace(&pid.to_string(), "net")?, own);
    for kind in ["mnt", "pid", "ipc", "uts"] {
        assert_ne!(
            namespace(&pid.to_string(), kind)?,
            namespace("self", kind)?,
            "{kind}"
        );
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let options = |at: &str| -> Result<&str> {
        // Of several at the same place the last one is seen.
        let mut lines = mounts.lines().filter(|line| line.split(' ').nth(4) == Some(at));
        let options = lines.next_back().and_then(|line| line.split(' ').nth(5));
        options.with_context(|| format!("nothing is mounted at {at}"))
    };
    for (at, access) in [
        ("/", "ro"),
        ("/sys", "ro"),
        ("/proc/sys", "ro"),
        ("/etc/weir", "ro"),
        ("/sys/fs/bpf", "rw"),
        ("/run/weir", "rw"),
        ("/var/lib/weir", "rw"),
    ] {
        let options = options(at)?;
        ensure!(options.split(',').any(|one| one == access), "{at} is {options}");
    }
    Ok(())
}

/// Both planes serve, changes by the API take effect, and durable ones reach the disk.
fn expect_service(site: &Site, pod: &Container) -> Result<()> {
    let traffic = Traffic::start(&site.running)?;
    let client = &site.running.topology.client;
    let answer = client.execute(&format!("curl --silent --fail http://{}/", web()))?;
    assert_eq!(answer, "ok");
    traffic.expect_unnoticed()?;
    let weir = |line: &str| -> Result<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        pod.exec(&words)?.success()
    };
    ensure!(
        weir("weir status")?.starts_with("healthy: "),
        "{}",
        weir("weir status")?
    );
    let endpoint = weir_tests::lab::Running::backend(0);
    weir(&format!("weir endpoint set tcp4 {endpoint} --weight 3 --durable"))?;
    let kept = fs::read_to_string(site.kubelet.node.state_folder().join("overrides.json"))?;
    ensure!(kept.contains(&endpoint.to_string()), "{kept}");
    weir(&format!("weir endpoint set tcp4 {endpoint} --weight 1 --durable"))?;
    weir("weir check /etc/weir/weir.yaml")?;
    Ok(())
}

fn respond(site: &Site) -> Result<()> {
    let routes = json!([{"respond": {"status": 200, "body": "ok"}}]);
    site.configure(&routes, &[]).map(drop)
}

#[test]
fn the_container_serves_with_no_more_than_the_manifest_grants() -> Result<()> {
    let site = Site::new("0s")?;
    respond(&site)?;
    let pod = site.kubelet.start(&site.image)?;
    expect_shape(&site, &pod)?;
    expect_service(&site, &pod)?;
    // What can't be done from it: programs other than weir, files elsewhere, the kernel's settings.
    let refused = pod.exec(&["sh".to_owned(), "-c".to_owned(), "true".to_owned()])?;
    ensure!(!refused.status.success(), "there is a shell");
    site.kubelet.delete(pod)?;
    // The next one finds what is pinned, which takes CAP_SYS_ADMIN.
    let next = site.kubelet.start(&site.image)?;
    expect_service(&site, &next)?;
    site.kubelet.delete(next)?;
    Ok(())
}

/// What the unit's `SystemCallFilter=` lets through.
fn unit_calls() -> Result<Vec<String>> {
    let unit = fs::read_to_string(shipped("systemd/weir.service"))?;
    let filters = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let mut calls: Vec<String> = Vec::new();
    for filter in filters {
        let (removes, words) = match filter.strip_prefix('~') {
            Some(words) => (true, words),
            None => (false, filter),
        };
        for word in words.split(' ') {
            let expanded = expand(word)?;
            if removes {
                calls.retain(|call| !expanded.contains(call));
            } else {
                calls.extend(expanded);
            }
        }
    }
    Ok(calls)
}

/// A system call, or those of a set, and of the sets in it.
fn expand(word: &str) -> Result<Vec<String>> {
    if !word.starts_with('@') {
        return Ok(vec![word.to_owned()]);
    }
    let mut command = Command::new(tool("systemd-analyze")?);
    let listed = Finished::run(command.args(["syscall-filter", word]), "")?.success()?;
    let mut calls = Vec::new();
    for line in listed.lines().skip(1).map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            calls.extend(expand(line)?);
        }
    }
    Ok(calls)
}

#[test]
fn the_systemd_units_filter_of_system_calls_lets_weir_work() -> Result<()> {
    let site = Site::new("0s")?;
    respond(&site)?;
    let calls = unit_calls()?;
    ensure!(
        calls.len() > 200 && !calls.iter().any(|call| call == "mount"),
        "{calls:?}"
    );
    let start = || site.kubelet.node.start_with(&site.image, only(&calls));
    let mut pod = start()?;
    site.kubelet.wait_ready(&mut pod)?;
    expect_service(&site, &pod)?;
    let mut next = start()?;
    site.kubelet.wait_ready(&mut next)?;
    site.kubelet.delete(pod)?;
    expect_service(&site, &next)?;
    ensure!(failures(&site.running.ask(20)).is_empty());
    site.kubelet.delete(next)?;
    Ok(())
}
