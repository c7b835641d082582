//! Taking over the maps of an older layout, while its programs forward and while links are pointed to the new ones.
//!
//! 1. New maps are made in `PIN/next` and filled from the old ones. Those of the same shape go on as they are, for both versions'
//!    programs: flows above all, so that no flow is known to one of them alone, whichever interface its packets come by.
//! 2. Links are pointed to the new programs, one by one.
//! 3. The new maps take the old ones' places, `layout` first ([`Pins::take_next`]).
//!
//! Before 3 nothing that the old programs read has changed: the older version can be started again, and a start of this one begins
//! anew, since nobody wrote to the maps in `next` but programs. After `layout` a start goes on with 3.
//!
//! A file here for each older layout has the shapes of its values. With a new one `OLDER` grows by a file, and the others
//! convert to the newest layout directly.

mod layout_1;

use super::{KernelError, Pins, maps, maps::Maps};
use proxy_common::values::Layout;

/// A layout that can be taken over from.
pub(super) struct Older {
    version: u32,
    /// Maps that have the same shape today.
    kept: &'static [&'static str],
    /// Fills new maps from the old ones.
    fill: fn(&Pins, &mut Maps) -> Result<(), KernelError>,
}

/// All of them, the oldest first.
const OLDER: &[Older] = &[layout_1::LAYOUT];

/// Finds out what is pinned, and clears up where a daemon died on its way. An older layout to be taken over, if that is what there is;
/// else there are maps to adopt, or none.
///
/// # Errors
/// The layout is none that can be taken over.
pub(super) fn begin(pins: &mut Pins) -> Result<Option<&'static Older>, KernelError> {
    let found = maps::read_layout(pins)?;
    if found == Layout::default() {
        // Nothing is attached to what a daemon left that died while it made the maps.
        maps::remove(pins);
        pins.discard_next()?;
        return Ok(None);
    }
    if found == maps::LAYOUT {
        pins.take_next()?;
        return Ok(None);
    }
    let is_older = |older: &&Older| (found.magic, found.version) == (maps::LAYOUT.magic, older.version);
    let Some(older) = OLDER.iter().find(is_older) else {
        let oldest = OLDER.first().map_or(maps::LAYOUT.version, |older| older.version);
        return Err(KernelError::missing(
            format!(
                "the maps pinned beside {} have layout {}, this weir takes over from {oldest} to {}",
                pins.left("layout").display(),
                found.version,
                maps::LAYOUT.version
            ),
            "run `weir unload` (which ends the flows) and start again, or run the weir that made them",
        ));
    };
    tracing::info!(
        "taking over maps of layout {}; this weir has {}",
        older.version,
        maps::LAYOUT.version
    );
    pins.begin_next(older.kept)?;
    Ok(Some(older))
}

impl Older {
    /// Has `load` make the new maps, fill them and point the links; then puts them in the old ones' places.
    ///
    /// # Errors
    /// Those of `load`: the old maps are as they were then.
    pub(super) fn take_over<T>(
        &self,
        pins: &mut Pins,
        load: impl FnOnce(&Pins) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        match load(pins) {
            Ok(loaded) => {
                pins.take_next()?;
                Ok(loaded)
            }
            Err(error) => {
                // What can't be removed the next start removes.
                let _ = pins.discard_next();
                Err(KernelError::missing(
                    format!("taking over maps of layout {}: {error}", self.version),
                    "forwarding goes on, and the weir that made them can still be started",
                ))
            }
        }
    }

    /// Fills the new maps from the old ones.
    pub(super) fn convert(&self, pins: &Pins, maps: &mut Maps) -> Result<(), KernelError> {
        (self.fill)(pins, maps)
    }
}
