//! Events of the kernel programs, read from the pinned maps: no daemon is needed for that.

use super::{
    KernelError, Pins,
    maps::{self, open},
    names::Names,
};
use aya::maps::{Array, MapData, MapInfo, PerCpuArray, RingBuf};
use proxy_common::{
    events::{Event, wanted},
    limits,
    values::Settings,
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    num::NonZeroU32,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    ptr,
    time::Duration,
};

/// The programs tell of events while this lives; there is one at a time. Its file descriptor is readable when there is
/// an event. Dropped, it has the programs stop; of one that was killed the next one clears up, or the next daemon.
pub struct EventReader {
    ring: RingBuf<MapData>,
    settings: Array<MapData, Settings>,
    losses: PerCpuArray<MapData, u64>,
    names: Names,
    /// The bits in [`Settings::flags`].
    flags: u64,
    /// CLOCK_MONOTONIC at the start: what is older was made for somebody else.
    start: u64,
    losses_before: u64,
    /// Of `settings`, to know these maps again.
    map_id: u32,
    /// Holds the lock on the ring.
    pins: Pins,
}

const EVENT_BITS: u64 = wanted::EVENTS | (u32::MAX as u64) << wanted::RATE_SHIFT;

impl EventReader {
    /// Opens what is pinned under the path and asks the programs for one event in `sample`.
    ///
    /// # Errors
    /// Nothing is pinned there, no permission, or somebody reads these events already.
    pub fn open(pin_path: &Path, sample: NonZeroU32) -> Result<Self, KernelError> {
        let pins = Pins::of_reader(pin_path)?;
        check_layout(&pins)?;
        let mut reader = Self {
            ring: open!(&pins, "events", RingBuf),
            settings: open!(&pins, "settings", Array),
            losses: open!(&pins, "event_losses", PerCpuArray),
            names: Names::open(&pins)?,
            flags: wanted::EVENTS | u64::from(sample.get()) << wanted::RATE_SHIFT,
            start: clock(ClockId::Monotonic).as_nanos() as u64,
            losses_before: 0,
            map_id: map_id(&pins)?,
            pins,
        };
        reader.losses_before = reader.losses()?;
        reader.write_flags(reader.flags)?;
        Ok(reader)
    }

    /// The next event, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let record = self.ring.next()?;
            if record.len() < size_of::<Event>() {
                continue;
            }
            // SAFETY: as many bytes as an event has, of integers and byte arrays alone: every bit pattern is valid.
            let event: Event = unsafe { ptr::read_unaligned(record.as_ptr().cast()) };
            if event.time >= self.start {
                return Some(event);
            }
        }
    }

    /// Events since the start that found the ring full.
    ///
    /// # Errors
    /// The kernel refused a read.
    pub fn lost(&self) -> Result<u64, KernelError> {
        Ok(self.losses()?.saturating_sub(self.losses_before))
    }

    /// To be called now and then: a daemon that starts clears what was asked for, and services come and go.
    ///
    /// # Errors
    /// The maps are gone from their place, or the kernel refused an operation.
    pub fn renew(&mut self) -> Result<(), KernelError> {
        if !map_id(&self.pins).is_ok_and(|id| id == self.map_id) {
            return Err(KernelError::missing(
                "weir was unloaded: nothing comes from these programs any more",
                "start `weir monitor` again once it is loaded",
            ));
        }
        let settings = self.settings.get(&0, 0).map_err(refused)?;
        if settings.flags & EVENT_BITS != self.flags {
            self.write_flags(self.flags)?;
        }
        self.names.renew()
    }

    /// What indices in events stand for.
    pub fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    fn losses(&self) -> Result<u64, KernelError> {
        let values = self.losses.get(&0, 0).map_err(refused)?;
        Ok(values.iter().copied().fold(0, u64::wrapping_add))
    }

    fn write_flags(&mut self, flags: u64) -> Result<(), KernelError> {
        let _lock = self.pins.lock_settings()?;
        let mut settings = self.settings.get(&0, 0).map_err(refused)?;
        settings.flags = settings.flags & !EVENT_BITS | flags;
        self.settings.set(0, settings, 0).map_err(refused)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        // Best effort: what is left is cleared by the next one.
        let _ = self.write_flags(0);
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// What to add to an event's time to make it a time since 1970.
pub fn clock_offset() -> Duration {
    clock(ClockId::Realtime).saturating_sub(clock(ClockId::Monotonic))
}

fn clock(id: ClockId) -> Duration {
    let now = clock_gettime(id);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn refused(error: aya::maps::MapError) -> KernelError {
    KernelError::refused("reading or writing the pinned maps", error)
}

/// The kernel's number for the map that is pinned as `settings` now.
fn map_id(pins: &Pins) -> Result<u32, KernelError> {
    let path = pins.map("settings");
    MapInfo::from_pin(&path)
        .map(|info| info.id())
        .map_err(|error| KernelError::refused(format!("opening {}", path.display()), error))
}

/// Unlike the daemon this changes nothing, whatever it finds.
fn check_layout(pins: &Pins) -> Result<(), KernelError> {
    if pins.has_next() {
        return Err(KernelError::missing(
            "a weir is taking over the pinned maps of an older one, or died of it",
            "try again once `weir run CONFIG` is up",
        ));
    }
    let (found, known) = (maps::read_layout(pins)?.version, limits::LAYOUT_VERSION);
    if found == known {
        return Ok(());
    }
    Err(KernelError::missing(
        format!("the pinned maps have layout {found}, this weir knows {known}"),
        "use the weir that made them",
    ))
}
