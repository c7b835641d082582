//! How many flows a CPU stores a second: a guard against floods that would fill the tables, and cost more than packets of known flows.

use crate::{flow, guard, maps::FLOW_BUDGET};

/// Takes a token for a flow that isn't stored yet. False if there is none left. One lookup.
#[inline(never)]
pub fn take() -> bool {
    let Some(budget) = FLOW_BUDGET.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: this CPU's own; a program isn't preempted by itself on a CPU.
    let budget = unsafe { &mut *budget };
    if budget.rate == 0 {
        return true;
    }
    let rate = budget.rate;
    guard::refill(&mut budget.tokens, &mut budget.at, flow::now(), rate, rate);
    if budget.tokens == 0 {
        return false;
    }
    budget.tokens -= 1;
    true
}
