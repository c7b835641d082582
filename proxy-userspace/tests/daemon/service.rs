//! What a service manager is told: by a socket as systemd gives it.

use super::{
    WEB,
    support::{Daemon, Home, SOON, weir_on},
};
use std::os::unix::net::UnixDatagram;

/// Reads until a message holds this line.
fn wait_for(manager: &UnixDatagram, line: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = manager
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("no {line}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|one| one == line) {
            return message;
        }
    }
}

#[test]
fn the_service_manager_knows_what_the_daemon_does() {
    let home = Home::new(WEB);
    let path = home.config().with_file_name("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let daemon = Daemon::start_with(&home, &environment);
    let ready = wait_for(&manager, "READY=1");
    assert!(ready.contains(&format!("MAINPID={}\n", daemon.pid())), "{ready}");
    assert!(ready.contains("STATUS=1 service"), "{ready}");
    wait_for(&manager, "WATCHDOG=1");
    daemon.signal("HUP");
    let reloading = wait_for(&manager, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    wait_for(&manager, "READY=1");
    let upgraded = weir_on(&home.socket(), &["upgrade"]);
    let said = String::from_utf8(upgraded.stdout).unwrap();
    let heir = said
        .rsplit_once("process ")
        .map(|(_, pid)| pid.trim())
        .expect("a process");
    let ready = wait_for(&manager, "READY=1");
    assert!(ready.contains(&format!("MAINPID={heir}\n")), "{ready}");
    wait_for(&manager, "WATCHDOG=1");
    assert_eq!(daemon.end(), Some(0));
    let status = std::process::Command::new("kill").arg(heir).status().unwrap();
    assert!(status.success());
    wait_for(&manager, "STOPPING=1");
    // Its files go with it, as the end of the daemon that this test started would have taken them.
    let gone = std::time::Instant::now() + SOON;
    while home.socket().exists() {
        assert!(std::time::Instant::now() < gone, "the daemon goes on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
