//! Compares what the model says with what the program did.

use super::{
    maps::Maps,
    program::{self, Ran},
};
use crate::model::{Decision, Model, Outcome, generate::Input};
use anyhow::{Result, ensure};
use proxy_common::{
    affinity::Affinity,
    decap::DecapOutcome,
    fragments::{FragmentKey, FragmentValue},
    guard::SourceKey,
    keys::FlowKey,
    limits,
    net::Address,
    values::{FlowValue, Handover, TrackedFlow},
};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// Compares a frame's outcome with what the program did.
///
/// # Errors
/// What differs.
pub fn compare(expected: &Outcome, ran: &Ran<'_>, metadata: usize) -> Result<()> {
    let action = match expected.decision {
        Decision::Pass | Decision::HandOver(..) => program::PASS,
        Decision::Transmit => program::TX,
        Decision::Redirect(_) => program::REDIRECT,
        Decision::Drop(_) => program::DROP,
    };
    ensure!(ran.action == action, "the action differs");
    match expected.decision {
        Decision::Drop(_) => return Ok(()),
        Decision::HandOver(ifindex, neighbour) => {
            let note = handover(ifindex, neighbour);
            ensure!(
                ran.metadata.len() == metadata + note.len() && ran.metadata.starts_with(&note),
                "the metadata should start with {note:02x?}"
            );
        }
        _ => ensure!(ran.metadata.len() == metadata, "unexpected metadata"),
    }
    ensure!(ran.frame == expected.frame, "the frame differs");
    Ok(())
}

/// What stands in front of a frame that is handed over.
fn handover(ifindex: u32, neighbour: Option<IpAddr>) -> [u8; size_of::<Handover>()] {
    let mut bytes = [0; size_of::<Handover>()];
    bytes[..4].copy_from_slice(&limits::LAYOUT_MAGIC.to_ne_bytes());
    bytes[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    if let Some(neighbour) = neighbour {
        bytes[8..].copy_from_slice(&Address::from(neighbour).bytes);
    }
    bytes
}

/// Compares two views of an entry, but for the time of its last packet.
///
/// # Errors
/// What differs.
pub fn compare_entry(key: &FlowKey, ours: Option<&FlowValue>, theirs: Option<&FlowValue>) -> Result<()> {
    let timeless = |value: &FlowValue| FlowValue {
        last_seen: 0,
        ..*value
    };
    let (ours, theirs) = (ours.map(timeless), theirs.map(timeless));
    ensure!(
        ours == theirs,
        "the entry of {key:?} differs\nmodel:   {ours:?}\nprogram: {theirs:?}"
    );
    Ok(())
}

/// The same of `tracked_flows`.
///
/// # Errors
/// What differs.
pub fn compare_tracked(
    key: &FlowKey,
    ours: Option<&TrackedFlow>,
    theirs: Option<&TrackedFlow>,
) -> Result<()> {
    let timeless = |value: &TrackedFlow| TrackedFlow {
        last_seen: 0,
        ..*value
    };
    let (ours, theirs) = (ours.map(timeless), theirs.map(timeless));
    ensure!(
        ours == theirs,
        "the tracked {key:?} differs\nmodel:   {ours:?}\nprogram: {theirs:?}"
    );
    Ok(())
}

/// Compares all of `tracked_flows`, but for the times of last packets.
///
/// # Errors
/// The first difference.
pub fn compare_tracked_flows(
    ours: &HashMap<FlowKey, TrackedFlow>,
    theirs: &HashMap<FlowKey, TrackedFlow>,
) -> Result<()> {
    let keys: HashSet<&FlowKey> = theirs.keys().chain(ours.keys()).collect();
    for key in keys {
        compare_tracked(key, ours.get(key), theirs.get(key))?;
    }
    Ok(())
}

/// Compares all of `fragments`; the program ran a moment after the model.
///
/// # Errors
/// The first difference.
pub fn compare_fragments(
    ours: &HashMap<FragmentKey, FragmentValue>,
    theirs: &HashMap<FragmentKey, FragmentValue>,
) -> Result<()> {
    const MOMENT: u64 = 10_000_000_000;
    let keys: HashSet<&FragmentKey> = theirs.keys().chain(ours.keys()).collect();
    for key in keys {
        let (ours, theirs) = (ours.get(key), theirs.get(key));
        let are_same = ours.zip(theirs).is_some_and(|(ours, theirs)| {
            let stamp = ours.stamp;
            (stamp..stamp + MOMENT).contains(&theirs.stamp)
                && *theirs
                    == FragmentValue {
                        stamp: theirs.stamp,
                        ..*ours
                    }
        });
        ensure!(
            are_same,
            "the datagram {key:?} differs\nmodel:   {ours:?}\nprogram: {theirs:?}"
        );
    }
    Ok(())
}

/// Compares all of `affinities`, but for their times.
///
/// # Errors
/// The first difference.
pub fn compare_affinities(model: &Model, theirs: &HashMap<SourceKey, Affinity>) -> Result<()> {
    let key = |(service, network): &(u32, IpAddr)| SourceKey {
        service: *service,
        network: Address::from(*network).words(),
    };
    let named = |entry: &Affinity| (entry.backend, entry.incarnation);
    let ours: HashMap<SourceKey, _> = (model.affinities.iter())
        .map(|(source, entry)| (key(source), named(entry)))
        .collect();
    let theirs: HashMap<SourceKey, _> = theirs
        .iter()
        .map(|(source, entry)| (*source, named(entry)))
        .collect();
    for source in ours.keys().chain(theirs.keys()) {
        let (ours, theirs) = (ours.get(source), theirs.get(source));
        ensure!(
            ours == theirs,
            "the affinity of {source:?} differs\nmodel:   {ours:?}\nprogram: {theirs:?}"
        );
    }
    Ok(())
}

/// Compares the counts of what tunnels brought.
///
/// # Errors
/// The first difference.
pub fn compare_outcomes(ours: &HashMap<DecapOutcome, u64>, maps: &Maps) -> Result<()> {
    for outcome in DecapOutcome::ALL {
        let ours = ours.get(outcome).copied().unwrap_or(0);
        let theirs = maps.decapsulated(*outcome)?;
        let label = outcome.label();
        ensure!(ours == theirs, "decap_counters[{label}] is {theirs}, not {ours}");
    }
    Ok(())
}

/// Everything needed to look into a difference.
pub fn report(input: &Input, expected: &Outcome, ran: &Ran<'_>, difference: &str) -> String {
    let actions = ["aborted", "drop", "pass", "transmit", "redirect"];
    let action = actions.get(ran.action as usize).unwrap_or(&"?");
    format!(
        "{difference}\narriving at interface {}, {} bytes ({} linear), room for metadata: {}\nin      {}\n\
         model   {:?}\n        {}\nprogram {action}, metadata {}\n        {}",
        input.ifindex,
        input.frame.len(),
        input.linear,
        input.room,
        hex(&input.frame),
        expected.decision,
        hex(&expected.frame),
        hex(ran.metadata),
        hex(ran.frame)
    )
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
