//! What ships for containers, Kubernetes and systemd under config/: taken by their own tools and schemas, and all of one mind.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use weir_tests::{
    l7::venv_program,
    lab::{Finished, Image, Lab, Manifest, shipped, tool, weir_binary},
};

/// Releases of Kubernetes whose schemas the manifests are held to: from the first with `appArmorProfile` to today's.
const RELEASES: [&str; 8] = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"];

/// A file of the repository.
fn text(name: &str) -> Result<String> {
    let path = shipped("..").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn manifests() -> Result<Vec<PathBuf>> {
    let kustomization: Value = serde_yaml_ng::from_str(&text("config/kubernetes/kustomization.yaml")?)?;
    let resources = kustomization["resources"].as_array().context("resources")?;
    let path = |name: &Value| Some(shipped("kubernetes").join(name.as_str()?));
    let paths: Vec<PathBuf> = resources.iter().filter_map(path).collect();
    // What is there is named, but for the list itself.
    assert_eq!(fs::read_dir(shipped("kubernetes"))?.count(), paths.len() + 1);
    Ok(paths)
}

/// Fails with what is wrong.
const VALIDATE: &str = "
import sys, yaml, kubernetes_validate
for path in sys.argv[2:]:
    for document in yaml.safe_load_all(open(path)):
        for release in sys.argv[1].split(','):
            kubernetes_validate.validate(document, release, strict=True)
";

fn validate(paths: &[PathBuf]) -> Result<Finished> {
    let mut command = Command::new(venv_program("python")?);
    command.args(["-c", VALIDATE, &RELEASES.join(",")]).args(paths);
    Finished::run(&mut command, "")
}

#[test]
fn the_manifests_are_what_kubernetes_takes() -> Result<()> {
    let lab = Lab::new()?;
    validate(&manifests()?)?.success()?;
    // The check finds mistakes.
    let mistaken = text("config/kubernetes/daemonset.yaml")?.replace("maxSurge:", "maxSurges:");
    let path = lab.directory().join("mistaken.yaml");
    fs::write(&path, mistaken)?;
    let refused = validate(&[path])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("maxSurges"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn what_the_manifests_say_fits_together() -> Result<()> {
    let lab = Lab::new()?;
    let config: Value = serde_yaml_ng::from_str(&text("config/kubernetes/configmap.yaml")?)?;
    let path = lab.directory().join("weir.yaml");
    fs::write(&path, config["data"]["weir.yaml"].as_str().context("weir.yaml")?)?;
    let check = Finished::run(Command::new(weir_binary()?).arg("check").arg(&path), "")?.success()?;
    ensure!(check.contains("ok"), "{check}");
    let manifest = Manifest::shipped()?;
    let grace = manifest.pod["terminationGracePeriodSeconds"].as_u64();
    // drain.notice and drain.timeout, unless set.
    ensure!(grace > Some(10 + 600), "{grace:?}");
    ensure!(
        manifest.container["ports"].is_null(),
        "a port would keep the surge pod away"
    );
    let mounts = manifest.container["volumeMounts"]
        .as_array()
        .context("volumeMounts")?;
    let volumes = manifest.pod["volumes"].as_array().context("volumes")?;
    let names =
        |all: &[Value]| -> BTreeSet<String> { all.iter().map(|one| one["name"].to_string()).collect() };
    assert_eq!(names(mounts), names(volumes));
    // Probes and hooks are verbs of this weir.
    for pointer in [
        "/startupProbe/exec/command",
        "/readinessProbe/exec/command",
        "/livenessProbe/exec/command",
        "/lifecycle/preStop/exec/command",
        "/args",
    ] {
        let words = manifest.words(pointer)?;
        let words = words.iter().filter(|word| *word != "weir");
        let mut command = Command::new(weir_binary()?);
        Finished::run(command.args(words).arg("--help"), "")?.success()?;
    }
    Ok(())
}

/// Words that begin with `CAP_`, without that.
fn capabilities(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words
        .filter_map(|word| word.strip_prefix("CAP_"))
        .map(str::to_owned)
        .collect()
}

/// The words of a line after what it begins with.
fn listed(text: &str, begin: &str) -> Result<BTreeSet<String>> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(begin));
    let line = line.with_context(|| format!("no line with {begin}"))?;
    let names = line.split(" (").next().unwrap_or(line).split_whitespace();
    Ok(names
        .map(|name| name.trim_start_matches("CAP_").to_owned())
        .collect())
}

#[test]
fn all_name_the_same_capabilities() -> Result<()> {
    let granted: BTreeSet<String> = Manifest::shipped()?
        .words("/securityContext/capabilities/add")?
        .into_iter()
        .collect();
    let daemonset = text("config/kubernetes/daemonset.yaml")?;
    assert_eq!(listed(&daemonset, "# capabilities: ")?, granted);
    assert_eq!(
        listed(&text("config/docker/Dockerfile")?, "#   capabilities: ")?,
        granted
    );
    let unit = text("config/systemd/weir.service")?;
    assert_eq!(listed(&unit, "CapabilityBoundingSet=")?, granted);
    let readme = text("README.md")?;
    let needs = readme
        .split("**Needs**")
        .nth(1)
        .context("what README says it needs")?;
    let needs = needs.split("\n\n").next().unwrap_or(needs);
    assert_eq!(capabilities(needs), granted);
    let guide = text("docs/deploy.md")?;
    let rows = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `CAP_")?.split('`').next());
    assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), granted);
    Ok(())
}

/// The highest exposure that `systemd-analyze security` may find, in tenths of its scale from 0 to 10. What remains is the network, and
/// what BPF takes.
const EXPOSURE: &str = "32";

fn analyze(folder: &Path, arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(tool("systemd-analyze")?);
    Finished::run(
        command.args(arguments).arg("weir.service").current_dir(folder),
        "",
    )
}

#[test]
fn systemd_takes_the_unit_and_finds_it_confined() -> Result<()> {
    let lab = Lab::new()?;
    let folder = lab.directory();
    let binary = weir_binary()?.display().to_string();
    let unit = text("config/systemd/weir.service")?.replace("/usr/local/bin/weir", &binary);
    ensure!(unit.contains(&format!("ExecStart={binary} run /etc/weir/weir.yaml")));
    fs::write(folder.join("weir.service"), &unit)?;
    let verify = |folder: &Path| analyze(folder, &["verify", "--man=no", "--recursive-errors=no"]);
    let verified = verify(folder)?;
    // Keys that it doesn't know are warnings.
    ensure!(
        verified.status.success() && verified.stderr.is_empty(),
        "{verified:?}"
    );
    let offline = [
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold",
        EXPOSURE,
    ];
    analyze(folder, &offline)?.success()?;
    let loose = unit.replace("ProtectSystem=strict", "ProtectSystems=strict");
    fs::write(folder.join("weir.service"), loose)?;
    let warned = verify(folder)?;
    ensure!(warned.stderr.contains("ProtectSystems"), "{warned:?}");
    Ok(())
}

#[test]
fn buildah_builds_the_image_from_the_staging_folder() -> Result<()> {
    let lab = Lab::new()?;
    let image = Image::stage(&lab.directory().join("rootfs"), &weir_binary()?)?;
    for line in ["usr/bin/weir", "etc/ssl/certs/ca-certificates.crt", "bytes in "] {
        ensure!(image.listing.contains(line), "no {line} in\n{}", image.listing);
    }
    let storage = |name: &str| lab.directory().join(name);
    let buildah = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(tool("buildah")?);
        command
            .arg("--root")
            .arg(storage("storage"))
            .arg("--runroot")
            .arg(storage("storage-run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments);
        Finished::run(&mut command, "")?.success()
    };
    let dockerfile = shipped("docker/Dockerfile").display().to_string();
    let root = image.root().display().to_string();
    buildah(&[
        "build",
        "--isolation",
        "chroot",
        "-f",
        &dockerfile,
        "-t",
        "weir",
        &root,
    ])?;
    let shown: Value = serde_json::from_str(&buildah(&["inspect", "--type", "image", "weir"])?)?;
    let config = &shown["OCIv1"]["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/weir"]));
    // By hand it starts as Kubernetes starts it.
    assert_eq!(
        config["Cmd"],
        serde_json::json!(Manifest::shipped()?.words("/args")?)
    );
    assert_eq!(
        shown["OCIv1"]["rootfs"]["diff_ids"].as_array().map(Vec::len),
        Some(1)
    );
    Ok(())
}
