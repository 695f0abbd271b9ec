//! The person's terminal, put back as it was found whatever became of the program inside.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, read, tcgetpgrp};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

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

/// What every terminal answers ("I am well", ECMA-48's device status report), and in its turn: after whatever was asked
/// before it. Any other parser of escape sequences passes over it.
const QUESTION: &[u8] = b"\x1b[5n";
const ANSWER: &[u8] = b"\x1b[0n";

/// How long the terminal may take to answer. One that does not answer costs this much at the end.
const LATE: Duration = Duration::from_millis(500);

/// How long answers are awaited in any case: the program may have asked the same question.
const AT_LEAST: Duration = Duration::from_millis(30);

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
    ///
    /// Until this is dropped nothing that is typed is shown, unless the agent shows it: Podman ends a little before this
    /// process, leaves the terminal as it found it, and the terminal's last answers would be seen.
    #[must_use]
    pub fn remember() -> Option<Self> {
        let any = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
        // With one side alone the program has no terminal to change; the other end of a pipe may have it.
        let before = tcgetattr(io::stdin()).ok().filter(|_| present());
        if let Some(before) = before.as_ref().filter(|_| in_foreground()) {
            let mut silent = before.clone();
            silent.local_flags.remove(LocalFlags::ECHO);
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &silent);
        }
        any.then_some(Self { before })
    }
}

fn reset() {
    say(RESET.concat().as_bytes());
}

/// Writes to whichever stream is the terminal.
fn say(bytes: &[u8]) {
    let _ = if io::stdout().is_terminal() {
        let mut out = io::stdout();
        out.write_all(bytes).and_then(|()| out.flush())
    } else {
        io::stderr().write_all(bytes)
    };
}

/// Takes in what the terminal still answers to questions asked inside, which would be typed at the shell's prompt.
fn swallow_answers(before: &Termios) -> nix::Result<()> {
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
    say(QUESTION);
    let began = Instant::now();
    let mut heard = Vec::new();
    let mut answered = false;
    loop {
        let until = if answered { AT_LEAST } else { LATE };
        let left = until.saturating_sub(began.elapsed());
        let stdin = io::stdin();
        let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if left.is_zero() || poll(&mut ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))? == 0 {
            return tcflush(io::stdin(), FlushArg::TCIFLUSH);
        }
        let mut some = [0; 256];
        let count = read(&stdin, &mut some)?;
        heard.extend_from_slice(&some[..count]);
        answered |= heard.windows(ANSWER.len()).any(|w| w == ANSWER);
        heard.drain(..heard.len().saturating_sub(ANSWER.len()));
        if count == 0 {
            return Ok(());
        }
    }
}

/// Whether this job may touch the terminal: its shell has put it into the foreground, or there is no job control.
#[must_use]
pub fn in_foreground() -> bool {
    match tcgetpgrp(io::stdin()) {
        Ok(group) => group == getpgrp(),
        // Some other kind of input, or a terminal that is not the controlling one, which keeps no jobs. Any other error
        // is that of a terminal that was hung up.
        Err(e) => e == Errno::ENOTTY,
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
        if in_foreground() {
            reset();
            eprint!("\r\n");
            if let Some(before) = &self.before {
                tcsetattr(io::stdin(), SetArg::TCSAFLUSH, before)?;
            }
        }
        Ok(Interlude { during })
    }
}

impl Interlude {
    /// Asks for a yes or no; anything but a clear yes is a no.
    #[must_use]
    pub fn confirms(&self, question: &str) -> bool {
        confirms(question)
    }
}

/// Asks for a yes or no where the terminal is the person's; anything but a clear yes is a no.
#[must_use]
pub fn confirms(question: &str) -> bool {
    eprint!("rcc: {question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

impl Drop for Interlude {
    fn drop(&mut self) {
        if in_foreground() {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.during);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A job in the background was stopped, and so has given the terminal back already; it is the shell's now.
        if !in_foreground() || (!io::stdout().is_terminal() && !io::stderr().is_terminal()) {
            return;
        }
        reset();
        if let Some(before) = &self.before {
            let _ = swallow_answers(before);
            let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, before);
        }
    }
}

/// What is typed or pasted until Enter, without being shown. `None` if the person gave up: by Ctrl-C, Ctrl-D or Ctrl-Z,
/// or because something ends this process. The terminal is put back in any case but `kill -9`.
pub fn hidden_line(prompt: &str, longest: u64) -> io::Result<Option<Zeroizing<String>>> {
    let hidden = Hidden::begin()?;
    eprint!("{prompt}");
    let room = usize::try_from(longest).unwrap_or(usize::MAX);
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    let stdin = io::stdin();
    loop {
        let ready = match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::from(SIGNALS_LOOK)) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        if hidden.is_told_to_end()? {
            return Ok(None);
        }
        if ready == 0 {
            continue;
        }
        let mut some = Zeroizing::new([0; 256]);
        let count = read(&stdin, some.as_mut_slice())?;
        for byte in &some[..count] {
            match byte {
                b'\n' | b'\r' => return text(&line).map(Some),
                0x08 | 0x7f => drop(line.pop()),
                // Ctrl-U.
                0x15 => line.clear(),
                0x03 | 0x04 | 0x1a => return Ok(None),
                _ if line.len() < room => line.push(*byte),
                _ => return Err(io::Error::from(io::ErrorKind::FileTooLarge)),
            }
        }
        if count == 0 {
            return Ok(None);
        }
    }
}

fn text(line: &[u8]) -> io::Result<Zeroizing<String>> {
    let text = std::str::from_utf8(line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// How often it is looked for a signal while a line is typed.
const SIGNALS_LOOK: u8 = 100;

/// The terminal while it shows nothing of what is typed, and hands it over at once, so that no line waits in the kernel.
struct Hidden {
    before: Termios,
    mask: SigSet,
    /// Those that would end or stop this process, and wait.
    ends: SigSet,
}

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let ends =
            SigSet::from_iter([Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP]);
        let mask = ends.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON);
        let this = Self { before, mask, ends };
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(this)
    }

    /// Whether a signal waits. Ctrl-Z is taken for giving up; any other acts when the terminal has been put back.
    fn is_told_to_end(&self) -> io::Result<bool> {
        let mut pending = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the kernel fills in the set, which then is one.
        let pending = unsafe {
            if libc::sigpending(pending.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            SigSet::from_sigset_t_unchecked(pending.assume_init())
        };
        if pending.contains(Signal::SIGTSTP) {
            let mut stop = SigSet::empty();
            stop.add(Signal::SIGTSTP);
            stop.wait()?;
        }
        Ok(self.ends.iter().any(|end| pending.contains(end)))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // What was pasted beyond the line would be typed at the shell's prompt: it is thrown away.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
        eprintln!();
        // A signal that came meanwhile acts now.
        let _ = self.mask.thread_set_mask();
    }
}
