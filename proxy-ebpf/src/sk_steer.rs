//! Steering: which worker's listening socket gets a connection to an L7 address.

use crate::maps::{L7_SERVICES, STEER_COUNTERS, WORKER_LOADS, WORKERS};
use aya_ebpf::{
    bindings::{BPF_SK_LOOKUP_F_NO_REUSEPORT, bpf_sk_lookup},
    btf_maps::lpm_trie::Key,
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns},
    programs::SkLookupContext,
};
use core::arch::asm;
use proxy_common::{
    net::Protocol,
    steer::{self, L7Key, SteerOutcome, WorkerLoad, worker_state},
};

/// Address family of the kernel's UAPI.
const AF_INET: u32 = 2;

/// The workers' sockets share a port, so that a SYN cookie of one is good at all of them; the kernel must not
/// choose among them again.
const NO_REUSEPORT: u64 = BPF_SK_LOOKUP_F_NO_REUSEPORT as u64;

/// -ENOENT, which is aya's word for an empty slot of a socket map.
const NO_SOCKET: i32 = -2;

/// Gives the connection to the least loaded worker; what isn't for an L7 address is left alone. The kernel asks
/// about TCP packets to this host that belong to no connection, and about UDP datagrams to unconnected sockets.
///
/// Lookups: none for UDP; up to 3 in `l7_services`, and for an L7 address 2 a worker in `worker_loads` (an array,
/// so a few instructions each), one in `workers` and two to count.
#[inline(always)]
pub fn steer(ctx: &SkLookupContext) {
    // SAFETY: the program's own context; taking addresses reads nothing.
    if unsafe { read(&raw const (*ctx.lookup).protocol) } != Protocol::Tcp as u32 || !is_l7(ctx.lookup) {
        return;
    }
    let outcome = assign(ctx);
    if let Some(counter) = STEER_COUNTERS.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own counter, valid until the program returns.
        unsafe { *counter += 1 };
    }
}

/// Reads a word once, and as one word: two of the context joined to one access are refused by the verifier, and the
/// loads change while they are looked at.
///
/// # Safety
/// As for [`core::ptr::read_volatile`].
#[inline(always)]
unsafe fn read<T>(word: *const T) -> T {
    // SAFETY: the caller's promise.
    unsafe { word.read_volatile() }
}

/// A key of `l7_services` in words, which the compiler may write as such: aya's own type is packed.
#[repr(C)]
struct Sought {
    prefix_bits: u32,
    address: [u32; 4],
    port: [u8; 2],
    pad: [u8; 2],
}

const _: () = assert!(size_of::<Sought>() == size_of::<Key<L7Key>>());

impl Sought {
    #[inline(always)]
    fn is_there(&self) -> bool {
        // SAFETY: of the same size and order, and packed needs no alignment.
        L7_SERVICES
            .get(unsafe { &*(&raw const *self).cast::<Key<L7Key>>() })
            .is_some()
    }
}

/// Whether a listener has the connection's address and port. A wildcard yields to the address itself.
#[inline(always)]
fn is_l7(lookup: *const bpf_sk_lookup) -> bool {
    // All is read before the first branch, or the compiler would choose between addresses of fields and
    // read once, and the verifier refuses addresses into the context that aren't constant. The kernel
    // gives zeros for the family it isn't.
    // SAFETY: the program's own context.
    let (family, port, ipv4, ipv6) = unsafe {
        let words = (&raw const (*lookup).local_ip6).cast::<u32>();
        let ipv6 = [
            read(words),
            read(words.add(1)),
            read(words.add(2)),
            read(words.add(3)),
        ];
        let ipv4 = read(&raw const (*lookup).local_ip4);
        let port = read(&raw const (*lookup).local_port);
        (read(&raw const (*lookup).family), port, ipv4, ipv6)
    };
    let is_ipv4 = family == AF_INET;
    let mut sought = Sought {
        prefix_bits: steer::KEY_BITS,
        address: if is_ipv4 { ipv4_mapped(ipv4) } else { ipv6 },
        // The kernel gives the local port in host order.
        port: (port as u16).to_be_bytes(),
        pad: [0; 2],
    };
    if sought.is_there() {
        return true;
    }
    if is_ipv4 {
        sought.address = ipv4_mapped(0);
        if sought.is_there() {
            return true;
        }
    }
    sought.address = [0; 4];
    sought.is_there()
}

/// The words of an IPv4 address in network order.
#[inline(always)]
fn ipv4_mapped(address: u32) -> [u32; 4] {
    [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), address]
}

/// Chooses, assigns, and says how it went.
#[inline(always)]
fn assign(ctx: &SkLookupContext) -> SteerOutcome {
    let Some((outcome, worker)) = choose() else {
        return SteerOutcome::NoWorker;
    };
    match WORKERS.redirect_sk_lookup(ctx, worker, NO_REUSEPORT) {
        Ok(()) => {
            note_choice(worker);
            return outcome;
        }
        Err(NO_SOCKET) => {}
        Err(_) => return SteerOutcome::Refused,
    }
    // Its socket is closed: any other is better than none. After the daemon was killed there is none.
    for worker in 0..steer::WORKERS as u32 {
        if line(worker).is_none() {
            break;
        }
        if WORKERS.redirect_sk_lookup(ctx, worker, NO_REUSEPORT).is_ok() {
            note_choice(worker);
            return outcome;
        }
    }
    SteerOutcome::NoWorker
}

#[inline(always)]
fn note_choice(worker: u32) {
    let Some(line) = WORKER_LOADS.get_ptr_mut(worker) else {
        return;
    };
    // CPUs choose at the same time. The target has the instruction, but core doesn't offer it there.
    // SAFETY: inside the map's value, valid until the program returns, and aligned.
    unsafe {
        asm!(
            "lock *(u64 *)({chosen} + 0) += {one}",
            chosen = in(reg) &raw mut (*line).chosen,
            one = in(reg) 1u64,
            options(nostack),
        );
    }
}

/// A worker's line and its state, if there are workers of this number or beyond.
#[inline(always)]
fn line(worker: u32) -> Option<(*const WorkerLoad, u32)> {
    let line = WORKER_LOADS.get_ptr(worker)?;
    // SAFETY: inside the map's value.
    let state = unsafe { read(&raw const (*line).state) };
    (state != worker_state::NONE).then_some((line, state))
}

/// What a choice goes by; all is 0 for a worker without a socket, but for `absent`.
///
/// Conditions are words of 0 or 1, calculated and not branched on: the verifier doesn't know them then, and what it
/// doesn't know it needn't tell apart. With branches it follows every combination of all workers' conditions.
struct Seen {
    absent: u64,
    stalled: u64,
    /// Connections that are open or on their way.
    load: u64,
    busy_permille: u64,
}

#[inline(always)]
fn look(line: *const WorkerLoad, state: u32, now: u64) -> Seen {
    let registered = (state & worker_state::REGISTERED) as u64;
    // SAFETY: inside the map's value. Workers write while this reads: whole words, each right by itself.
    unsafe {
        let coming = read(&raw const (*line).chosen).wrapping_sub(read(&raw const (*line).settled));
        // Below zero if the beat was written meanwhile, which isn't stalled either.
        let silence = now.wrapping_sub(read(&raw const (*line).beat));
        Seen {
            absent: 1 - registered,
            stalled: registered * is_less(steer::STALL_NS, silence),
            load: coming.wrapping_add(read(&raw const (*line).connections) as u64),
            busy_permille: registered * read(&raw const (*line).busy_permille) as u64,
        }
    }
}

/// 1 if `a < b`, for words whose difference fits into 63 bits.
#[inline(always)]
fn is_less(a: u64, b: u64) -> u64 {
    a.wrapping_sub(b) >> 63
}

/// The least loaded of the workers that are alive and not far busier than the mean; of equal ones any.
#[inline(always)]
fn choose() -> Option<(SteerOutcome, u32)> {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let survey = steer_survey(now);
    let choice = steer_choice(now, survey & BOUND_MASK);
    let outcome = if survey & ANY_ALIVE == 0 {
        if survey & ANY_STALLED == 0 {
            return None;
        }
        SteerOutcome::AllStalled
    } else if survey & ANY_STALLED != 0 {
        SteerOutcome::PassedOverStalled
    } else if choice & PASSED_OVER_BUSY != 0 {
        SteerOutcome::PassedOverBusy
    } else {
        SteerOutcome::LeastLoaded
    };
    Some((outcome, choice as u32 & WORKER_MASK))
}

/// The bits of a survey that hold the utilisation above which a worker is passed over.
const BOUND_MASK: u64 = (1 << 32) - 1;
/// The bit of a survey that says that some worker is alive.
const ANY_ALIVE: u64 = 1 << 32;
/// The bit of a survey that says that some worker is stalled.
const ANY_STALLED: u64 = 1 << 33;

/// A first look at all workers.
///
/// A global function, as the next: the verifier looks at it once and by itself. Two loops after each other in one
/// function it would follow in every combination of the rounds they may take.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn steer_survey(now: u64) -> u64 {
    let (mut alive, mut stalled, mut busy_sum) = (0, 0, 0);
    for worker in 0..steer::WORKERS as u32 {
        let Some((line, state)) = line(worker) else {
            break;
        };
        let seen = look(line, state, now);
        let is_alive = 1 - seen.absent - seen.stalled;
        alive += is_alive;
        stalled += seen.stalled;
        busy_sum += is_alive * seen.busy_permille;
    }
    let mean = busy_sum / alive.max(1);
    let bound = (mean + steer::BUSY_MARGIN_PERMILLE).max(steer::BUSY_PERMILLE);
    let any_alive = if alive > 0 { ANY_ALIVE } else { 0 };
    let any_stalled = if stalled > 0 { ANY_STALLED } else { 0 };
    bound & BOUND_MASK | any_alive | any_stalled
}

/// The bits of a choice that hold the worker's number.
const WORKER_MASK: u32 = steer::WORKERS as u32 - 1;
/// The bit of a choice that says that some worker was too busy.
const PASSED_OVER_BUSY: u64 = 1 << 6;
/// The bits of a load that a score has room for.
const LOAD_MASK: u64 = (1 << 39) - 1;

const _: () = assert!(steer::WORKERS == 1 << 6, "six bits of a score name the worker");

/// A word of which every bit depends on all of `word`'s: MurmurHash3's finaliser, by which one random number gives each
/// worker its own.
#[inline(always)]
fn mixed(word: u32) -> u32 {
    let word = (word ^ word >> 16).wrapping_mul(0x85eb_ca6b);
    let word = (word ^ word >> 13).wrapping_mul(0xc2b2_ae35);
    word ^ word >> 16
}

/// Chooses among the workers: each gets a score, and the least wins. From the highest bit down it says: absent,
/// stalled, busier than `bound`, load, chance, number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn steer_choice(now: u64, bound: u64) -> u64 {
    // SAFETY: a helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let (mut best, mut passed_over_busy) = (u64::MAX, 0);
    for worker in 0..steer::WORKERS as u32 {
        let Some((line, state)) = line(worker) else {
            break;
        };
        let seen = look(line, state, now);
        let too_busy = is_less(bound, seen.busy_permille);
        passed_over_busy |= too_busy;
        let chance = mixed(random ^ (worker + 1).wrapping_mul(0x9e37_79b9)) >> 16;
        let flags = (seen.absent << 63) | (seen.stalled << 62) | (too_busy << 61);
        let rank = ((seen.load & LOAD_MASK) << 22) | ((chance as u64) << 6) | worker as u64;
        best = best.min(flags | rank);
    }
    (best & WORKER_MASK as u64) | (passed_over_busy * PASSED_OVER_BUSY)
}
