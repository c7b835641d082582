//! What running connections and new ones notice of an upgrade, from an older layout of the pinned maps and from process to process:
//! nothing.

mod old_plane;
mod processes;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData};
use old_plane::{OldPlane, OldService};
use proxy_common::{
    keys::ServiceKey,
    limits,
    values::{BackendValue, Layout, ServiceValue},
};
use serde_json::Value;
use std::{fs, path::PathBuf, time::Duration};
use weir_tests::lab::{Family, Running, Traffic, failures, shares};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A site whose kernel plane is that of layout 1, without a daemon, and its traffic.
fn old_site() -> Result<(Running, OldPlane, Traffic)> {
    let running = Running::prepare(|config| config)?;
    let plane = OldPlane::start(&running)?;
    let traffic = Traffic::start(&running).context("through the programs of layout 1")?;
    Ok((running, plane, traffic))
}

/// The maps are of today's layout and no others are left; services and backends are where they were.
fn expect_taken_over(running: &Running) -> Result<()> {
    let open = |name| MapData::from_pin(running.daemon.pin(name));
    let layout: Array<MapData, Layout> = Map::Array(open("layout")?).try_into()?;
    assert_eq!(layout.get(&0, 0)?.version, limits::LAYOUT_VERSION);
    let next = running.daemon.pin("next");
    ensure!(!next.exists(), "{} is still there", next.display());
    let services: HashMap<MapData, ServiceKey, ServiceValue> = Map::HashMap(open("services")?).try_into()?;
    let backends: Array<MapData, BackendValue> = Map::Array(open("backends")?).try_into()?;
    for old in old_plane::services() {
        assert_eq!(services.get(&old.key(), 0)?.index, old.index, "{old:?}");
        for (n, index) in old.backends.into_iter().enumerate() {
            let backend = backends.get(&index, 0)?;
            let family = if old.listener.is_ipv4() {
                Family::V4
            } else {
                Family::V6
            };
            assert_eq!(
                (backend.incarnation, backend.service, backend.address),
                (
                    OldService::incarnation(index),
                    old.index,
                    family.backend(n).into()
                ),
            );
        }
    }
    let used = backends
        .iter()
        .filter(|value| value.as_ref().is_ok_and(|value| value.incarnation != 0));
    assert_eq!(used.count(), 4 * 3);
    Ok(())
}

/// Which program each link runs, by the link's pin.
fn programs(running: &Running) -> Result<Vec<(PathBuf, Value)>> {
    let links = running.ids("link", &running.daemon.pin("links"))?;
    let program = |(path, _): (PathBuf, Value)| -> Result<(PathBuf, Value)> {
        let shown = running.bpftool(&format!("link show pinned {}", path.display()))?;
        Ok((path, shown["prog_id"].clone()))
    };
    links.into_iter().map(program).collect()
}

fn dropped(running: &Running) -> Result<u64> {
    let status = running.daemon.status()?;
    let drops = status["kernel"]["drops"].as_array().context("drops")?;
    Ok(drops.iter().filter_map(|drop| drop["packets"].as_u64()).sum())
}

fn forwarded(running: &Running) -> Result<u64> {
    let status = running.daemon.status()?;
    let services = status["services"].as_array().context("services")?;
    let packets = services
        .iter()
        .filter_map(|one| one["counters"]["packets"].as_u64());
    Ok(packets.sum())
}

#[test]
fn an_upgrade_from_layout_1_goes_unnoticed() -> Result<()> {
    let (mut running, plane, traffic) = old_site()?;
    let links = running.ids("link", &running.daemon.pin("links"))?;
    let (before, maps) = (
        programs(&running)?,
        running.ids("map", running.daemon.pin_path())?,
    );
    let (packets, drops) = plane.counts()?;
    ensure!(packets > 1_000 && drops == 0, "{packets} packets, {drops} drops");
    running.daemon.start_again()?;
    traffic.wait().context("after the upgrade")?;
    expect_taken_over(&running)?;
    assert_eq!(running.ids("link", &running.daemon.pin("links"))?, links);
    let after = programs(&running)?;
    ensure!(
        before.iter().zip(&after).all(|(old, new)| old.1 != new.1),
        "{before:?} became {after:?}"
    );
    // The flows' very map goes on; the services' is another.
    let id = |ids: &[(PathBuf, Value)], name: &str| {
        let found = ids.iter().find(|(path, _)| path.ends_with(name));
        found.map(|(_, id)| id.clone())
    };
    let now = running.ids("map", running.daemon.pin_path())?;
    assert_eq!(id(&maps, "flows"), id(&now, "flows"));
    assert_ne!(id(&maps, "services"), id(&now, "services"));
    assert_eq!(dropped(&running)?, 0);
    ensure!(forwarded(&running)? > packets, "counted from zero again");
    // The new daemon rules, and the next one adopts what it left.
    running.daemon.drain("tcp4", Running::backend(0))?;
    assert_eq!(shares(&running.ask(200)).get("backend-1"), None);
    running.daemon.kill();
    running.daemon.start_again()?;
    assert_eq!(running.ids("map", running.daemon.pin_path())?, now);
    traffic.wait().context("after another start")?;
    traffic.expect_unnoticed()
}

/// Pins a map of a shape that no layout has.
fn pin_foreign_map(running: &Running, name: &str) -> Result<()> {
    let path = running.daemon.pin(name);
    let line = format!(
        "bpftool map create {} type array key 4 value 52 entries 1000 name foreign",
        path.display()
    );
    running.daemon.host().execute(&line).map(drop)
}

/// What a start that must fail says.
fn refusal(running: &mut Running) -> Result<String> {
    match running.daemon.start_again() {
        Ok(()) => anyhow::bail!("it started"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[test]
fn a_take_over_that_was_cut_short_is_picked_up() -> Result<()> {
    let (mut running, plane, traffic) = old_site()?;
    let next = running.daemon.pin("next");
    // As if killed while it filled the new maps.
    fs::create_dir(&next)?;
    pin_foreign_map(&running, "next/services")?;
    pin_foreign_map(&running, "next/layout")?;
    let old = plane.held()?;
    running.daemon.start_again()?;
    traffic.wait().context("after the first")?;
    expect_taken_over(&running)?;
    // As if killed while it put the new maps into the old ones' places: not all are there yet.
    let maps = running.ids("map", running.daemon.pin_path())?;
    running.daemon.kill();
    fs::create_dir(&next)?;
    for (name, map) in old {
        if ["services", "slots", "backends", "drop_counters"].contains(&name) {
            fs::rename(running.daemon.pin(name), next.join(name))?;
            map.pin(running.daemon.pin(name))?;
        }
    }
    fs::rename(running.daemon.pin("tracked_flows"), next.join("tracked_flows"))?;
    traffic.wait().context("without a daemon")?;
    let pins = running.daemon.pin_path().to_string_lossy().into_owned();
    let monitor = running.daemon.weir(&["monitor", "--pin-path", &pins])?;
    ensure!(
        !monitor.status.success() && monitor.stderr.contains("taking over the pinned maps"),
        "{monitor:?}"
    );
    running.daemon.start_again()?;
    traffic.wait().context("after the second")?;
    expect_taken_over(&running)?;
    assert_eq!(running.ids("map", running.daemon.pin_path())?, maps);
    traffic.expect_unnoticed()
}

#[test]
fn a_take_over_that_fails_leaves_forwarding_as_it_was() -> Result<()> {
    let (mut running, _plane, traffic) = old_site()?;
    let before = programs(&running)?;
    let expect_no_next = |running: &Running| -> Result<()> {
        let next = running.daemon.pin("next");
        ensure!(!next.exists(), "{} is still there", next.display());
        Ok(())
    };
    let (backends, aside) = (
        running.daemon.pin("backends"),
        running.daemon.pin("programs/aside"),
    );
    fs::rename(&backends, &aside)?;
    pin_foreign_map(&running, "backends")?;
    let said = refusal(&mut running)?;
    for words in ["taking over maps of layout 1", "backends", "forwarding goes on"] {
        ensure!(said.contains(words), "no {words} in {said}");
    }
    assert_eq!(programs(&running)?, before);
    expect_no_next(&running)?;
    traffic.wait().context("after the first failure")?;
    fs::rename(&aside, &backends)?;
    // And then it works.
    running.daemon.start_again()?;
    traffic.wait().context("after the upgrade")?;
    expect_taken_over(&running)?;
    traffic.expect_unnoticed()
}

#[test]
fn a_newer_layout_is_refused_and_unload_removes_whatever_is_there() -> Result<()> {
    let (mut running, plane, traffic) = old_site()?;
    let before = programs(&running)?;
    let newer = limits::LAYOUT_VERSION + 1;
    plane.set_layout(newer)?;
    let said = refusal(&mut running)?;
    ensure!(
        said.contains(&format!("have layout {newer}")) && said.contains("weir unload"),
        "{said}"
    );
    assert_eq!(programs(&running)?, before);
    traffic.wait()?;
    traffic.expect_unnoticed()?;
    plane.set_layout(1)?;
    fs::create_dir(running.daemon.pin("next"))?;
    pin_foreign_map(&running, "next/backends")?;
    let printed = running.daemon.unload()?;
    ensure!(
        printed.contains("links/front-xdp_balancer") && printed.contains("next/backends"),
        "{printed}"
    );
    ensure!(!running.daemon.pin_path().exists(), "pins are left");
    running.daemon.start_again()?;
    assert_eq!(failures(&running.ask(10)).len(), 0);
    Ok(())
}
