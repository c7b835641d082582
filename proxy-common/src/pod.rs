//! Promises to aya that the shared structs are plain bytes without padding.

use crate::{
    affinity::{Affinity, ServiceOptions},
    counters::Counters,
    decap::DecapValue,
    fragments::{FragmentKey, FragmentValue},
    guard::{RuleKey, RuleValue, ServiceLimits, SourceKey, SourceRate},
    keys::*,
    net::Address,
    quic::{ServerKey, ServerValue},
    ranges::{RangeKey, RangeValue},
    steer::{L7Key, L7Service, WorkerLoad},
    values::*,
};

macro_rules! pod {
    ($($name:ty),*) => {
        $(
            // SAFETY: repr(C), integers and byte arrays alone, every bit pattern valid; sizes
            // are asserted beside the definitions, so no padding is hidden.
            unsafe impl aya::Pod for $name {}
        )*
    };
}

pod!(
    Address,
    ServiceKey,
    FlowKey,
    ServiceValue,
    VipValue,
    SlotValue,
    BackendValue,
    FlowValue,
    TrackedFlow,
    FragmentKey,
    FragmentValue,
    NextHop,
    IcmpBudget,
    FlowBudget,
    Settings,
    Layout,
    Counters,
    DecapValue,
    RuleKey,
    RuleValue,
    ServiceLimits,
    SourceKey,
    SourceRate,
    ServerKey,
    ServerValue,
    RangeKey,
    RangeValue,
    ServiceOptions,
    Affinity,
    L7Key,
    L7Service,
    WorkerLoad
);
