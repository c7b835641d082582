//! A program on a terminal, by tmux: its screen, keys, and how it ended.

use super::{Finished, Host, Process, picture, until};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Counts the terminals of this process, to keep their names apart.
static TERMINALS: AtomicU32 = AtomicU32::new(0);

/// More than a screen or a start takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A terminal with one program. Dropped, both end.
pub struct Terminal {
    host: Host,
    socket: PathBuf,
    columns: u16,
    _server: Process,
}

impl Terminal {
    /// Of this size, with the program of a command line; no word of it needs quotes.
    pub fn start(host: &Host, columns: u16, lines: u16, line: &str) -> Result<Self> {
        let number = TERMINALS.fetch_add(1, Ordering::Relaxed);
        let socket = host.directory().join(format!("tmux-{number}"));
        let mut server = host.command("tmux")?;
        // In the foreground: it ends with us, and with it the program.
        server
            .arg("-S")
            .arg(&socket)
            .args(["-D", "-u", "-f", "/dev/null"]);
        server.env_remove("TMUX").env_remove("NO_COLOR");
        let terminal = Self {
            _server: host.spawn(&mut server)?,
            host: host.clone(),
            socket,
            columns,
        };
        until("tmux", LIMIT, || terminal.socket.exists().then_some(()))?;
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let options = ["set", "-g", "status", "off", ";"];
        // Behind the program its exit code, the mode that it left the terminal in, and something that stays.
        let id = terminal.socket.with_extension("pid");
        let line = format!(
            "sh -c 'echo $$ > {}; exec {line}'; echo \"exit code $?, $(stty -a | grep -o -- '-*icanon')\"; exec cat",
            id.display()
        );
        let session = ["new-session", "-d", "-x", &columns, "-y", &lines, &line];
        terminal.tmux(&[&options[..], &session].concat())?;
        Ok(terminal)
    }

    /// Its screen as text.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Its screen as SVG.
    pub fn picture(&self, title: &str) -> Result<String> {
        let screen = self.tmux(&["capture-pane", "-p", "-e", "-N"])?;
        Ok(picture::svg(&screen, self.columns.into(), title))
    }

    /// Keys by tmux's names for them: `q`, `Enter`, `Escape`.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat())?;
        Ok(())
    }

    /// Waits for a screen of which this is true.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let screen = until(what, LIMIT, || self.screen().ok().filter(|screen| is_so(screen)));
        screen.with_context(|| format!("the screen was\n{}", self.screen().unwrap_or_default()))
    }

    /// The program's process.
    pub fn id(&self) -> Result<u32> {
        let file = self.socket.with_extension("pid");
        Ok(fs::read_to_string(file)?.trim().parse()?)
    }

    /// Waits for the program's end and returns its exit code.
    ///
    /// # Errors
    /// It goes on, or hasn't given the terminal back as it was.
    pub fn end(&self) -> Result<u8> {
        let screen = self.wait_for("the program's end", |screen| screen.contains("exit code "))?;
        ensure!(
            self.ask("#{alternate_on}")? == "0",
            "the screen wasn't given back"
        );
        ensure!(self.ask("#{cursor_flag}")? == "1", "the cursor wasn't given back");
        let (_, said) = screen.split_once("exit code ").context("an exit code")?;
        let (code, mode) = said.split_once(", ").context("a mode")?;
        ensure!(mode.trim() == "icanon", "the terminal was left at {mode}");
        Ok(code.parse()?)
    }

    fn ask(&self, format: &str) -> Result<String> {
        Ok(self.tmux(&["display-message", "-p", format])?.trim().to_owned())
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut command: Command = self.host.command("tmux")?;
        command.arg("-S").arg(&self.socket).arg("-u").args(arguments);
        Finished::run(command.env_remove("TMUX").env_remove("NO_COLOR"), "")?.success()
    }
}
