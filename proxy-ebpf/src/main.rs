#![no_std]
#![no_main]
//! Weir kernel programs.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
