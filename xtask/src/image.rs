//! `cargo xtask image`: the file system of the container image, what is in it, and the image itself.

use crate::{build, setup, shell};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf};

/// What the image is made of, and where.
#[derive(clap::Args)]
pub struct ImageArgs {
    /// Take this binary. Default: target/release/weir, which is built first.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Folder for the file system (`rootfs`) and the image (`weir.oci.tar`). Default: target/image.
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Stages, lists, builds.
///
/// # Errors
/// When the binary can't be built, or buildah can't run here: the staging folder is there then, for any other builder.
pub fn run(arguments: &ImageArgs) -> Result<()> {
    setup::run(setup::Show::News)?;
    let binary = match &arguments.binary {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => {
            build::run(&build::BuildArgs::default())?;
            shell::weir("release")
        }
    };
    let output = arguments.output.clone();
    let output = output.unwrap_or_else(|| shell::target().join("image"));
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let output = output.canonicalize()?;
    let (root, archive) = (output.join("rootfs"), output.join("weir.oci.tar"));
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    }
    let storage = ["storage", "storage-run"].map(|name| output.join(name));
    let docker = shell::root().join("config/docker");
    shell::run(shell::command("sh", &[docker.join("stage.sh")]).args([&binary, &root]))?;
    let dockerfile = docker.join("Dockerfile");
    let buildah = |arguments: &[&str]| {
        let mut command = shell::command("buildah", &["--storage-driver", "vfs", "--root"]);
        command
            .arg(&storage[0])
            .arg("--runroot")
            .arg(&storage[1])
            .args(arguments);
        command
    };
    let built = shell::run(
        buildah(&[
            "build",
            "--isolation",
            "chroot",
            "--timestamp",
            "0",
            "--quiet",
            "--tag",
            "weir",
        ])
        .arg("--file")
        .arg(&dockerfile)
        .arg(&root),
    );
    built.with_context(|| {
        format!(
            "the image was not built; any other builder can: docker build -f {} -t weir {}",
            dockerfile.display(),
            root.display()
        )
    })?;
    if archive.exists() {
        fs::remove_file(&archive)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let target = format!("oci-archive:{}:weir:{version}", archive.display());
    shell::run(&mut buildah(&["push", "--quiet", "weir", &target]))?;
    // The archive has it all; a second build would lay another image beside it.
    for folder in &storage {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    println!(
        "{:>11}  {} (compressed), for `podman load`, `skopeo copy`, `ctr images import`",
        fs::metadata(&archive)?.len(),
        archive.display()
    );
    Ok(())
}
