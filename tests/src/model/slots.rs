//! What becomes of a slot's state with a change (ARCHITECTURE.md, "Just enough flow tracking").

use proxy_common::values::{SlotValue, slot_state};

/// What a slot is after a change that gives it to `wanted`. `lives`: whether a backend is neither dead nor gone.
pub fn slot_after(before: SlotValue, wanted: u32, lives: impl Fn(u32) -> bool) -> SlotValue {
    let moves = wanted != before.backend && lives(before.backend);
    let state = match before.previous {
        slot_state::PLAIN if moves => before.backend,
        slot_state::PLAIN => slot_state::PLAIN,
        slot_state::TRACKED if moves => before.backend,
        slot_state::TRACKED => slot_state::TRACKED,
        first if lives(first) => first,
        _ if moves => before.backend,
        _ => slot_state::TRACKED,
    };
    SlotValue {
        backend: wanted,
        previous: state,
    }
}
