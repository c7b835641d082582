//! The BPF object inside this binary, and how it is loaded.

use super::{KernelError, Pins, maps, pins};
use crate::model::{DaemonSettings, Role};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{Program, SchedClassifier, Xdp},
};

/// The kernel programs; empty if the binary was built without them.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir.o"));

/// Names of the programs, as `bpftool prog` shows them.
pub(super) const XDP_BALANCER: &str = "xdp_balancer";
pub(super) const XDP_GENERIC: &str = "xdp_generic";
pub(super) const XDP_DECAP: &str = "xdp_decap";
pub(super) const XDP_DECAP_GENERIC: &str = "xdp_decap_generic";
pub(super) const TC_INGRESS: &str = "tc_ingress";
pub(super) const TC_EGRESS: &str = "tc_egress";
pub(super) const TC_SEGMENTS: &str = "tc_segments";
pub(super) const SK_STEER: &str = "sk_steer";

/// Loads the object: its maps are the pinned ones where there are any, and are pinned where not. The map `layout` is the last:
/// with its value the others are whole.
/// Programs pass the verifier here and are pinned, but not attached; [`XDP_GENERIC`] only when
/// an interface needs it.
pub(super) fn load(pins: &Pins, settings: &DaemonSettings) -> Result<Ebpf, KernelError> {
    if OBJECT.is_empty() {
        return Err(KernelError::missing(
            "this weir was built without its kernel programs",
            "build it with `cargo xtask build`, or use --no-kernel",
        ));
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(KernelError::missing(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux)",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, or --no-kernel",
        ));
    }
    let is_new = !pins.map(pins::LAYOUT).exists();
    maps::remove_outgrown(pins, settings)?;
    let mut loader = EbpfLoader::new();
    let paths: Vec<_> = maps::NAMES.iter().map(|name| (*name, pins.map(name))).collect();
    for (name, path) in &paths {
        loader.map_pin_path(name, path.as_path());
    }
    for (name, entries) in maps::sizes_to_load(pins, settings)? {
        loader.map_max_entries(name, entries);
    }
    let mut object = loader
        .load(OBJECT)
        .map_err(|error| KernelError::refused("loading the kernel programs", error))?;
    if is_new {
        maps::write_layout(pins)?;
    }
    let needed: &[&str] = match settings.role {
        Role::Balancer => &[XDP_BALANCER, TC_INGRESS, TC_EGRESS, SK_STEER],
        Role::Backend => &[XDP_DECAP, SK_STEER],
    };
    let segments = settings.decap_segment.is_some().then_some(&TC_SEGMENTS);
    for name in needed.iter().chain(segments) {
        verify(&mut object, pins, name)?;
    }
    Ok(object)
}

/// Passes a program to the verifier and pins it, if that isn't done yet.
pub(super) fn verify(object: &mut Ebpf, pins: &Pins, name: &str) -> Result<(), KernelError> {
    let program = object.program_mut(name).ok_or_else(|| not_in_object(name))?;
    if program.fd().is_ok() {
        return Ok(());
    }
    let loaded = match program {
        Program::Xdp(xdp) => xdp.load(),
        Program::SchedClassifier(classifier) => classifier.load(),
        Program::SkLookup(lookup) => lookup.load(),
        _ => return Err(not_in_object(name)),
    };
    loaded.map_err(|error| KernelError::refused(format!("the verifier on program {name}"), error))?;
    let path = pins.program(name);
    // The pin of the daemon before us: our links don't go through it.
    let _ = std::fs::remove_file(&path);
    program
        .pin(&path)
        .map_err(|error| KernelError::refused(format!("pinning {}", path.display()), error))
}

/// The XDP program of a loaded object.
pub(super) fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, KernelError> {
    object
        .program_mut(name)
        .and_then(|program| <&mut Xdp>::try_from(program).ok())
        .ok_or_else(|| not_in_object(name))
}

/// A TC program of a loaded object.
pub(super) fn classifier<'a>(
    object: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, KernelError> {
    object
        .program_mut(name)
        .and_then(|program| <&mut SchedClassifier>::try_from(program).ok())
        .ok_or_else(|| not_in_object(name))
}

/// There is no such program: the object is another version's.
pub(super) fn not_in_object(name: &str) -> KernelError {
    KernelError::missing(
        format!("program {name} is not in this weir's object"),
        "build it anew with `cargo xtask build`",
    )
}
