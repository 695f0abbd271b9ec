//! The person's terminal, put back as it was found whatever became of the program inside.

use nix::sys::termios::{FlushArg, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Ends whatever string the program was in the middle of, leaves the alternate screen, shows the cursor in its usual form,
/// ends mouse, focus, paste and key reports and the kitty keyboard protocol, resets colours, palette, links, character
/// sets, scroll region, wrapping, printing and keypad (xterm's "Control Sequences"). No sequence here makes a terminal
/// answer, and none moves the cursor of a terminal that was left as it should be.
const RESET: &[&str] = &[
    "\x18\x1b\\",
    "\x1b]8;;\x1b\\",
    "\x1b[?1047l",
    "\x1b[?25h",
    "\x1b[0 q",
    "\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l",
    "\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l",
    "\x1b[?2004l\x1b[?2026l",
    "\x1b[=0u\x1b[>4m",
    "\x1b[0m",
    "\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\",
    "\x0f\x1b(B\x1b)B",
    "\x1b[?7h\x1b[?1l\x1b>",
    "\x1b[4l\x1b[4i",
];

/// How long answers of the terminal to questions asked inside may still come in after the end.
const LATE: Duration = Duration::from_millis(30);

/// The terminal as it was before the session.
pub struct Terminal {
    /// None where standard input is no terminal: then there is nothing to put back but the screen.
    before: Option<Termios>,
}

/// Whether both sides are terminals, so that the agent gets one.
#[must_use]
pub fn present() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Terminal {
    /// Remembers how the terminal is. None where no stream of this process is one, so that nothing can write to it.
    #[must_use]
    pub fn remember() -> Option<Self> {
        let any = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
        any.then(|| Self { before: tcgetattr(io::stdin()).ok() })
    }
}

/// Writes to whichever stream is the terminal.
fn reset() {
    let sequences = RESET.concat();
    let _ = if io::stdout().is_terminal() {
        let mut out = io::stdout();
        out.write_all(sequences.as_bytes()).and_then(|()| out.flush())
    } else {
        io::stderr().write_all(sequences.as_bytes())
    };
}

/// The terminal while it is the person's again in the middle of a session. Dropping it gives it back to the agent.
pub struct Interlude {
    during: Termios,
}

impl Terminal {
    /// Puts the terminal as it was before the session, for a question or for the shell.
    pub fn interrupt(&self) -> nix::Result<Interlude> {
        let during = tcgetattr(io::stdin())?;
        reset();
        eprint!("\r\n");
        if let Some(before) = &self.before {
            tcsetattr(io::stdin(), SetArg::TCSAFLUSH, before)?;
        }
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
        if !io::stdout().is_terminal() && !io::stderr().is_terminal() {
            return;
        }
        reset();
        // What the terminal still answers would be typed at the shell's prompt.
        std::thread::sleep(LATE);
        let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, before);
        }
    }
}
