//! The link of `sk_steer` to a network namespace.

use crate::kernel::{
    KernelError, Pins,
    links::{Link, Target},
    object,
};
use aya::{
    Ebpf,
    programs::{Program, SkLookup, links::FdLink},
};
use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::PathBuf,
};

/// The network namespace of the calling thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Attaches the program to the thread's network namespace, or points the pinned link to it, which lets no connection
/// slip through. Returns the link's pin.
pub(in crate::kernel) fn attach(object: &mut Ebpf, pins: &Pins) -> Result<PathBuf, KernelError> {
    let path = pins.link("netns", object::SK_STEER);
    let refused = |error: &dyn std::error::Error| {
        KernelError::missing(
            format!("attaching {} to the network namespace: {error}", object::SK_STEER),
            "use a kernel with sk_lookup (5.9 or later)",
        )
    };
    let program = program(object)?;
    if let Ok(link) = Link::open(&path) {
        let program = program.fd().map_err(|error| refused(&error))?;
        match this_namespace() {
            Ok(here) if link.target == here && link.point_to(program.as_fd()).is_ok() => return Ok(path),
            // Another namespace's, or one's that is gone.
            _ => drop(fs::remove_file(&path)),
        }
    }
    let namespace = File::open(NAMESPACE).map_err(|error| refused(&error))?;
    let id = program.attach(namespace).map_err(|error| refused(&error))?;
    let link = program.take_link(id).map_err(|error| refused(&error))?;
    let pinned = FdLink::from(link).pin(&path);
    pinned.map_err(|error| refused(&error))?;
    Ok(path)
}

fn this_namespace() -> io::Result<Target> {
    Ok(Target::Namespace(fs::metadata(NAMESPACE)?.ino()))
}

fn program(object: &mut Ebpf) -> Result<&mut SkLookup, KernelError> {
    match object.program_mut(object::SK_STEER) {
        Some(Program::SkLookup(program)) => Ok(program),
        _ => Err(object::not_in_object(object::SK_STEER)),
    }
}
