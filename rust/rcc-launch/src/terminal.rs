//! The person's terminal, put back as it was found whatever became of the program inside.

use nix::sys::termios::{FlushArg, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Leaves the alternate screen, shows the cursor, ends mouse, focus and paste reports and the kitty keyboard protocol,
/// resets colours, character set and keypad (xterm's "Control Sequences"). No sequence here makes a terminal answer,
/// and none moves the cursor of a terminal that was left as it should be.
const RESET: &[u8] = b"\x1b[?1047l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[?2026l\x1b[<u\x1b[0m\x1b(B\x1b[?1l\x1b>";

/// How long answers of the terminal to questions asked inside may still come in after the end.
const LATE: Duration = Duration::from_millis(30);

/// The terminal as it was before the session.
pub struct Terminal {
    before: Termios,
}

/// Whether both sides are terminals, so that the agent gets one.
#[must_use]
pub fn present() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Terminal {
    /// Remembers how the terminal is.
    pub fn remember() -> nix::Result<Self> {
        Ok(Self { before: tcgetattr(io::stdin())? })
    }
}

/// The terminal while it is the person's again in the middle of a session. Dropping it gives it back to the agent.
pub struct Interlude {
    during: Termios,
}

impl Terminal {
    /// Puts the terminal as it was before the session, for a question or for the shell.
    pub fn interrupt(&self) -> nix::Result<Interlude> {
        let during = tcgetattr(io::stdin())?;
        let mut out = io::stdout();
        let _ = out.write_all(RESET).and_then(|()| out.write_all(b"\r\n")).and_then(|()| out.flush());
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before)?;
        Ok(Interlude { during })
    }
}

impl Interlude {
    /// Asks for a yes or no; anything but a clear yes is a no.
    #[must_use]
    pub fn confirms(&self, question: &str) -> bool {
        eprint!("rcc: {question} [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
    }
}

impl Drop for Interlude {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.during);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = out.write_all(RESET).and_then(|()| out.flush());
        // What the terminal still answers would be typed at the shell's prompt.
        std::thread::sleep(LATE);
        let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
    }
}
