//! The least that a tunnelling balancer can do: each lookup once, the outer header, two counters, and no other check than the
//! verifier asks for. What Weir's program adds to it is the price of its features.

use crate::frame::{read, write};
use aya_ebpf::{
    bindings::{
        BPF_F_INNER_MAP, BPF_F_MMAPABLE,
        xdp_action::{XDP_ABORTED, XDP_TX},
    },
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray},
    helpers::generated::bpf_xdp_adjust_head,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use core::mem::transmute;
use proxy_common::{
    checksum,
    counters::Counters,
    hash,
    keys::ServiceKey,
    limits,
    values::{BackendValue, ServiceValue, SlotValue},
};

// The balancer's own maps: the bench hands these names their pins.
#[btf_map(name = "services")]
static SERVICES: HashMap<ServiceKey, ServiceValue, { limits::SERVICES as usize }> = HashMap::new();
type Table =
    Array<SlotValue, { limits::MAGLEV_SIZE as usize }, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>;
#[btf_map(name = "slots")]
static SLOTS: ArrayOfMaps<Table, { limits::SERVICES as usize }> = ArrayOfMaps::new();
#[btf_map(name = "backends")]
static BACKENDS: Array<BackendValue, { limits::BACKENDS as usize }> = Array::new();
#[btf_map(name = "service_counters")]
static SERVICE_COUNTERS: PerCpuArray<Counters, { limits::SERVICES as usize }> = PerCpuArray::new();
#[btf_map(name = "backend_counters")]
static BACKEND_COUNTERS: PerCpuArray<Counters, { limits::BACKENDS as usize }> = PerCpuArray::new();

/// IPv4 in IPv4 alone.
#[xdp(frags)]
pub fn bench_bare_ipip(context: XdpContext) -> u32 {
    forward(&context).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn forward(context: &XdpContext) -> Option<u32> {
    let data = context.data();
    if data + 54 > context.data_end() {
        return None;
    }
    if read::<u16>(data, 12) != 0x0800_u16.to_be() || read::<u8>(data, 14) != 0x45 {
        return None;
    }
    let (source, destination) = (read::<u32>(data, 26), read::<u32>(data, 30));
    let (source_port, destination_port) = (read::<u16>(data, 34), read::<u16>(data, 36));
    let protocol = u32::from(read::<u8>(data, 23));
    let length = u16::from_be(read::<u16>(data, 16));
    let port = u32::from(u16::from_be(destination_port));
    let words = [0, 0, 0xffff_0000, destination, port | protocol << 16];
    // SAFETY: 20 bytes: the address, the port in host order, the protocol, a zero.
    let key = unsafe { transmute::<[u32; 5], ServiceKey>(words) };
    // SAFETY: nobody writes it in a bench.
    let service = unsafe { SERVICES.get(key) }?;
    let ports = u32::from(u16::from_be(source_port)) | port << 16;
    let hash = hash::flow_hash_ipv4(source, destination, ports, protocol);
    let slot = SLOTS.get_value(service.index, &hash::slot(hash, service.table_size))?;
    let backend = BACKENDS.get(slot.backend)?;
    count(SERVICE_COUNTERS.get_ptr_mut(service.index), length);
    count(BACKEND_COUNTERS.get_ptr_mut(slot.backend), length);
    // SAFETY: a helper on the program's own context; packet pointers are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_head(context.ctx, -20) } != 0 {
        return None;
    }
    let data = context.data();
    if data + 34 > context.data_end() {
        return None;
    }
    // SAFETY: 16 bytes, aligned to 4 by the type.
    let outer = |address: &proxy_common::net::Address| unsafe { *(&raw const *address).cast::<u32>().add(3) };
    let first = 0x45 | u32::from((length + 20).to_be()) << 16;
    let (from, to) = (
        outer(&backend.source) ^ (hash as u32 & 0xffff) << 16,
        outer(&backend.address),
    );
    let sum = u64::from(first) + 0x40 + 0x440 + u64::from(from) + u64::from(to);
    write(data, 0, 0x0200_u32);
    write(data, 4, 0x0002_0100_u32);
    write(data, 8, 0x0200_0000_u32);
    write(data, 12, 0x0800_u16.to_be());
    write(data, 14, first);
    write(data, 18, 0x40_u32);
    write(data, 22, 0x440_u16);
    write(data, 24, !checksum::fold(sum));
    write(data, 26, from);
    write(data, 30, to);
    Some(XDP_TX)
}

#[inline(always)]
fn count(counters: Option<*mut Counters>, length: u16) {
    if let Some(counters) = counters {
        // SAFETY: this CPU's own element.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += u64::from(length);
        }
    }
}
