//! The TC programs: unresolved neighbours, and flows whose backend or client is this host.
pub fn hand_over(_ctx: &aya_ebpf::programs::TcContext) -> i32 {
    0
}
pub fn egress(_ctx: &aya_ebpf::programs::TcContext) -> Result<i32, proxy_common::verdict::DropReason> {
    Ok(0)
}
