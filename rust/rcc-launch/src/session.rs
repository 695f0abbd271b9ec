//! One session, from the gateway's word to the last file taken away.
//!
//! Invariant: the agent's first instruction runs only after the hook built the walls and the gateway took the sockets;
//! when gateway, watchdog or launcher is gone, the container is killed.

use crate::control::Control;
use crate::flake::{self, Toolchain};
use crate::folder::{self, Folder};
use crate::gateway::{Gateway, Word};
use crate::gitlinks::{Found, Ground, Links, Side};
use crate::grown::Grown;
use crate::home::{self, FirstFile};
use crate::leftovers::{self, Leftovers};
use crate::machine::Machine;
use crate::notice::{Notice, Pace};
use crate::project::{self, Project};
use crate::protect::{self, Identity, Prepared};
use crate::rootfs::{self, Entry, Root};
use crate::spec::{ContainerSpec, INSIDE, Inputs, Places, Request, container};
use crate::terminal::{self, Terminal};
use crate::worktree::Worktree;
use crate::{beneath, freeze, own, packet, podman, process, seccomp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen, socket, sockopt,
};
use rcc_policy::{Resolved, Unenforceable};
use rcc_proto::{
    Cover, Credential, FromHook, HookSpec, MountCheck, Open, Protected, Secret, Summary, ToHook, VERSION, WallLimits,
};
use rcc_report::{Code, EXIT_STOPPED, Problem, quoted};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

/// What a session is made from.
pub struct Launch<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The policy as it is for this session.
    pub policy: &'a Resolved,
    /// The project, opened.
    pub project: Project,
    /// Its repository, where it is a linked worktree and the person lets that come along; among the request's folders, too.
    pub worktree: Option<Worktree>,
    /// Folders that come along writable, opened, each with names that must not appear in it. They are among the
    /// request's, too.
    pub writable: Vec<(Project, Vec<PathBuf>)>,
    /// Paths below the project that are covered: the policy's, and those that the project asks for.
    pub protect: Vec<String>,
    /// The closure that is the root filesystem; else it is the host's.
    pub toolchain: Option<Toolchain>,
    /// What was asked for.
    pub request: Request,
    /// Endpoints granted by the person.
    pub grants: Vec<String>,
    /// Keys for the gateway.
    pub credentials: Vec<Credential>,
    /// In a virtual machine: what the host's gateway gave for this session, whose grants and keys it has already.
    pub ticket: Option<Secret>,
    /// What a new agent's home begins with.
    pub first_files: Vec<FirstFile>,
    /// The static program that is hook and init, as installed beside `rcc`.
    pub hook_program: PathBuf,
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// The agent's exit code, or rcc's when rcc ended it.
    pub code: u8,
    /// What the person should know.
    pub problems: Vec<Problem>,
    /// What the agent reached and was denied, if the gateway could tell in time.
    pub summary: Option<Summary>,
    /// Whether Podman ran to its end, and so removed the container.
    podman_ended_itself: bool,
}

/// How long Podman may take until the hook calls.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long the agent may take to end after SIGTERM.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How long Podman may take to end after conmon was killed.
const MONITOR_PATIENCE: Duration = Duration::from_secs(2);
/// The same where conmon may have been killed in its last moment.
const PERHAPS_PATIENCE: Duration = Duration::from_secs(20);
/// How long the agent may outlive the watchdog.
const UNWATCHED: Duration = Duration::from_millis(500);
/// How often absent protected names are looked for.
const WATCH_EVERY: Duration = Duration::from_millis(200);
/// A session's most of inotify's instances and watches, where the person has twice as many.
const INOTIFY: (u32, u32) = (64, 262_144);

/// The id that `rcc plan` shows, since no session exists.
pub const PLANNED_ID: &str = "0000000000000000";

/// The container that [`run`] would start, without starting or writing anything.
#[must_use]
pub fn plan(launch: &Launch<'_>, id: &str) -> ContainerSpec {
    let root = root(launch);
    specification(launch, &root, Places { folder: folder::sessions(launch.machine).join(id) }, id)
}

fn root(launch: &Launch<'_>) -> Root {
    match &launch.toolchain {
        Some(toolchain) => flake::compose(toolchain, &launch.machine.person),
        None => rootfs::compose(&rootfs::probe(), &launch.machine.person),
    }
}

fn specification(launch: &Launch<'_>, root: &Root, places: Places, id: &str) -> ContainerSpec {
    let person = &launch.machine.person;
    container(&Inputs {
        request: &launch.request,
        machine: launch.machine,
        limits: &launch.policy.limits,
        root,
        project: &launch.project.path,
        home: &home::folder_for(person, &launch.project.path),
        data: &home::data_folder(person),
        places,
        id,
    })
}

/// Runs a session to its end.
pub fn run(mut launch: Launch<'_>) -> Result<Outcome, Problem> {
    let began = SystemTime::now();
    let others = folder::others(launch.machine);
    for id in &others.dead {
        folder::sweep(launch.machine, id, &plan(&launch, id));
    }
    folder::apart(&launch.project.path, &launch.request.added, &others)?;
    let person = &launch.machine.person;
    let home_path = home::folder_for(person, &launch.project.path);
    let home = home::prepare(&home_path, &launch.first_files)?;
    let gateway = Gateway::open(Open {
        version: VERSION,
        project: launch.project.path.display().to_string(),
        agent: launch.request.agent.to_owned(),
        grants: launch.grants.clone(),
        credentials: std::mem::take(&mut launch.credentials),
        ticket: launch.ticket.take(),
    })?;
    let id = gateway.opened.session.clone();
    let folder = Folder::create(launch.machine, &id, &launch.project.path, &launch.request.added)?;
    if let Some(toolchain) = &launch.toolchain {
        toolchain.make_own_store()?;
    }
    let spec = specification(&launch, &root(&launch), folder.places.clone(), &id);
    let protection = write_folder(&launch, &folder, &spec)?;
    mount_points(&launch, &spec, &home, &home_path)?;
    podman::hold_namespaces(launch.machine, &spec);
    let Prepared { project: protection, common, links, grown } = protection;
    let covered = std::iter::once(&protection).chain(&common).flat_map(|p| p.covered.clone()).collect();
    let hook_spec = hook_spec(&launch, &spec, covered, gateway.opened.ranges.clone())?;
    let listener = listen_for_hook(&folder)?;
    let control = Control::listen(&folder, &launch.grants)?;
    let signals = Signals::block()?;
    let terminal = Terminal::remember();
    let mut live = Live::start(&launch, &spec, Ends { gateway, control, hook: listener, signals })?;
    let known = hook_spec.masked.iter().map(|socket| (socket.clone(), project::identity(socket))).collect();
    let mut seen: Vec<PathBuf> = seen_inside(&spec).cloned().collect();
    // A daemon's socket there keeps a session from starting, and is an intruder later.
    seen.extend(launch.writable.iter().map(|(folder, _)| folder.path.clone()));
    seen.extend(launch.worktree.iter().map(|worktree| worktree.common.path.clone()));
    let beside = launch.writable.iter().map(|(_, absent)| absent.clone()).collect();
    let sockets = Some(Sockets { seen, known });
    let common = common.map(|p| (p.absent, p.present)).unwrap_or_default();
    let mut watch = Watch {
        absent: protection.absent,
        present: protection.present,
        common,
        links,
        grown,
        links_pace: Pace::default(),
        beside,
        sockets,
    };
    let outcome = live.see_through(&launch, &hook_spec, &mut watch, terminal.as_ref().filter(|_| spec.terminal));
    let told = live.container_id.take().or_else(|| podman::container_id(&folder.places));
    let container_id = told.or_else(|| podman::recorded(&spec.storage, &spec.name));
    drop(live);
    drop(terminal);
    let outcome = outcome.map(|mut outcome| {
        for folder in std::iter::once(&launch.project).chain(launch.worktree.iter().map(|w| &w.common)) {
            let covered = |path: &Path| {
                let is = |p: &Protected| p.under == folder.path && p.path == path && matches!(p.cover, Cover::Copy(_));
                hook_spec.protected.iter().any(is)
            };
            outcome.problems.extend(left_behind(folder, &leftovers::find(folder, began, covered)));
        }
        outcome
    });
    // Podman that came to its own end has removed it, unless a signal to the whole job ended it as well.
    let record = |id: &String| spec.storage.join("vfs-containers").join(id).exists();
    let removed = matches!(&outcome, Ok(o) if o.podman_ended_itself) && !container_id.as_ref().is_some_and(record);
    match container_id {
        Some(id) if removed => podman::forget_exit(launch.machine, &id),
        None if removed => podman::forget_half_written(&spec.storage, &spec.storage_state),
        id => podman::remove(launch.machine, &spec, &spec.name, id.as_deref()),
    }
    drop(folder);
    outcome
}

/// Says which repositories the session left that would run something, in two lines at most.
fn left_behind(project: &Project, found: &Leftovers) -> Option<Problem> {
    let at = |path: &Path| project.path.join(path).display().to_string();
    let look = |path: &str| {
        let how = if Path::new(path).ends_with("hooks") { "ls -la" } else { "git config --list --file" };
        format!("look before git runs there: {how} {}", quoted(path))
    };
    let (subject, what, remedy) = match (found.configurations.split_first(), found.unfinished) {
        (Some((first, more)), _) => {
            let others = if more.is_empty() { String::new() } else { format!("; {} others like it", more.len()) };
            let kind = if first.ends_with("hooks") { "folder of hooks" } else { "configuration" };
            let what =
                format!("this repository's {kind} is new since the session began, and has git run something{others}");
            (at(first), what, look(&at(first)))
        }
        (None, true) => {
            let place = at(Path::new(""));
            let remedy = format!("find new ones: find {} -name config -cmin -60", quoted(&place));
            (place, "too many files to look everywhere for repositories that the session left".to_owned(), remedy)
        }
        (None, false) => return None,
    };
    Some(Problem::new(Code::SESSION_LEFTOVERS, subject, what, remedy))
}

fn io_problem(step: &str, error: &io::Error) -> Problem {
    Problem::new(Code::SESSION_PODMAN, step, error.to_string(), "start the session again")
}

/// Fills the session's folder: the skeleton, the configurations, the program, the copies.
fn write_folder(launch: &Launch<'_>, folder: &Folder, spec: &ContainerSpec) -> Result<Prepared, Problem> {
    let places = &folder.places;
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |e: io::Error| home::disk_problem(&path, &e)
    };
    skeleton(&places.root(), &spec.skeleton).map_err(disk(&places.root()))?;
    fs::create_dir(places.hooks()).map_err(disk(&places.hooks()))?;
    for path in [&spec.storage, &spec.storage_state] {
        fs::create_dir_all(path).map_err(disk(path))?;
    }
    let program = fs::read(&launch.hook_program).map_err(|e| {
        let what = format!("rcc's own helper can't be read: {e}");
        Problem::new(
            Code::SESSION_HOOK,
            launch.hook_program.display().to_string(),
            what,
            "install rcc again; both programs belong side by side",
        )
    })?;
    beneath::write_new(&places.hook_program(), &program, 0o755).map_err(disk(&places.hook_program()))?;
    let hook = serde_json::json!({
        "version": "1.0.0",
        "hook": { "path": places.hook_program(), "args": ["rcc-hook", "hook", places.socket()] },
        "when": { "always": true },
        "stages": ["createRuntime"],
    });
    folder.write(&places.hooks().join("rcc.json"), hook.to_string().as_bytes())?;
    let profile = seccomp::profile(std::env::consts::ARCH).ok_or_else(|| {
        Problem::new(
            Code::SYSTEM_UNSUPPORTED,
            std::env::consts::ARCH,
            "rcc has no list of system calls for this architecture",
            "use x86_64 or aarch64",
        )
    })?;
    folder.write(&places.seccomp(), profile.to_string().as_bytes())?;
    folder.write(&places.empty_file(), b"")?;
    folder.write(&places.containers_conf(), podman::CONTAINERS_CONF.as_bytes())?;
    folder.write(&places.storage_conf(), podman::STORAGE_CONF.as_bytes())?;
    if !spec.store.is_empty() {
        folder.write(&places.store(), spec.store.join("\n").as_bytes())?;
    }
    let brought = places.brought();
    fs::create_dir(&brought).map_err(disk(&brought))?;
    for copy in &launch.request.brought {
        own::write(&copy.tree, &brought.join(copy.name)).map_err(disk(&brought.join(copy.name)))?;
    }
    protect::prepare(&launch.project, launch.worktree.as_ref(), &launch.protect, &places.copies())
}

fn skeleton(root: &Path, entries: &[Entry]) -> io::Result<()> {
    fs::create_dir(root)?;
    let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    for entry in entries {
        let (Entry::Folder { path } | Entry::Link { path, .. } | Entry::File { path, .. } | Entry::Copy { path }) =
            entry;
        if let Some(parent) = at(path).parent() {
            fs::create_dir_all(parent)?;
        }
        match entry {
            Entry::Folder { path } => fs::create_dir_all(at(path))?,
            Entry::Link { path, to } => std::os::unix::fs::symlink(to, at(path))?,
            Entry::File { path, text } => beneath::write_new(&at(path), text.as_bytes(), 0o644)?,
            Entry::Copy { path } => fs::copy(path, at(path)).map(drop)?,
        }
    }
    Ok(())
}

/// Mount points in the session's own part of the root, and in the agent's home for what lies below it.
fn mount_points(launch: &Launch<'_>, spec: &ContainerSpec, home: &OwnedFd, home_path: &Path) -> Result<(), Problem> {
    let inside_home = &launch.machine.person.home;
    for mount in &spec.mounts {
        let is_folder = fs::metadata(&mount.source).is_ok_and(|m| m.is_dir());
        if let Ok(relative) = mount.target.strip_prefix(inside_home)
            && !relative.as_os_str().is_empty()
        {
            home::mount_point(home, relative, is_folder).map_err(|e| match e.raw_os_error() {
                Some(libc::ELOOP | libc::ENOTDIR) => Problem::new(
                    Code::SESSION_MOUNTS,
                    home_path.join(relative).display().to_string(),
                    "the agent's home has a link or a file where a folder is to be mounted",
                    format!("move it away: mv {} /tmp/", quoted(home_path.join(relative).display())),
                ),
                _ => home::disk_problem(home_path, &e),
            })?;
        } else if mount.target.starts_with(INSIDE) {
            let at = spec.places.root().join(mount.target.strip_prefix("/").unwrap_or(&mount.target));
            let made = if is_folder { fs::create_dir_all(&at) } else { empty_file(&at) };
            made.map_err(|e| home::disk_problem(&at, &e))?;
        }
    }
    Ok(())
}

fn empty_file(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    beneath::write_new(path, b"", 0o644)
}

/// What each mount's source is now, by device and inode; the project's is what was opened at the beginning.
fn hook_spec(
    launch: &Launch<'_>,
    spec: &ContainerSpec,
    protected: Vec<Protected>,
    ranges: Vec<String>,
) -> Result<HookSpec, Problem> {
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        let (device, inode) = if mount.source == launch.project.path {
            (launch.project.device, launch.project.inode)
        } else if let Some(added) = launch.request.added.iter().find(|a| a.path == mount.source) {
            (added.device, added.inode)
        } else {
            let about = fs::metadata(&mount.source).map_err(|e| {
                Problem::new(
                    Code::SESSION_MOUNTS,
                    mount.source.display().to_string(),
                    e.to_string(),
                    "start the session again",
                )
            })?;
            (about.dev(), about.ino())
        };
        mounts.push(MountCheck { target: mount.target.clone(), device, inode, writable: mount.writable });
    }
    Ok(HookSpec {
        mounts,
        submounts: submounts(spec),
        store: (!spec.store.is_empty()).then(|| spec.places.store()),
        masked: sockets(spec),
        empty_file: spec.places.empty_file(),
        protected,
        ranges,
        inotify_instances: inotify("max_user_instances", INOTIFY.0),
        inotify_watches: inotify("max_user_watches", INOTIFY.1),
    })
}

/// A session's share of a limit that counts against the person as well: half at most, so that neither rcc's own watching nor
/// the person's programs are left without.
fn inotify(limit: &str, most: u32) -> u32 {
    let text = fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(limit)).ok();
    text.and_then(|t| t.trim().parse::<u32>().ok()).map_or(most, |all| most.min(all / 2))
}

/// File systems that the host has mounted below the read-only parts of its root; they come along.
fn submounts(spec: &ContainerSpec) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let all = crate::mountinfo::parse(&text).unwrap_or_default();
    let below = |point: &Path| {
        spec.mounts
            .iter()
            .any(|m| !m.writable && m.source == m.target && point != m.source && point.starts_with(&m.source))
    };
    all.into_iter().map(|m| m.point).filter(|point| below(point)).collect()
}

/// Host daemons' sockets in what is mounted read-only; those below the project keep a session from starting.
fn sockets(spec: &ContainerSpec) -> Vec<PathBuf> {
    let all = project::listening();
    all.into_iter().filter(|socket| seen_inside(spec).any(|place| socket.starts_with(place))).collect()
}

/// What of the host is mounted read-only at its own place.
fn seen_inside(spec: &ContainerSpec) -> impl Iterator<Item = &PathBuf> {
    spec.mounts.iter().filter(|m| !m.writable && m.source == m.target).map(|m| &m.source)
}

fn listen_for_hook(folder: &Folder) -> Result<OwnedFd, Problem> {
    let path = folder.places.socket();
    let failed = |e: nix::Error| io_problem(&path.display().to_string(), &e.into());
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).map_err(failed)?).map_err(failed)?;
    listen(&listener, Backlog::new(1).map_err(failed)?).map_err(failed)?;
    Ok(listener)
}

/// Signals that the launcher takes as events instead of being ended by them.
struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    fn block() -> Result<Self, Problem> {
        let failed = |e: nix::Error| io_problem("signals", &e.into());
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        let before = set.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).map_err(failed)?;
        // Podman, in the same job, reads the terminal in the background as well; this process stops in `give_way` instead,
        // and where it has to end there it can.
        SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]).thread_block().map_err(failed)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        Ok(Self { fd, before })
    }

    /// Whether one has come that was not taken yet.
    fn waiting(&self) -> bool {
        matches!(poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
    }
}

/// What a session hears.
struct Ends {
    gateway: Gateway,
    control: Control,
    hook: OwnedFd,
    signals: Signals,
}

/// A session under way. Dropping it kills the container.
struct Live {
    podman: Child,
    podman_fd: OwnedFd,
    gateway: Gateway,
    control: Control,
    signals: Signals,
    hook: Hook,
    container: Option<OwnedFd>,
    /// The number of the container's first process; `container` is the same one.
    init: Option<i32>,
    /// The runtime's name for the container.
    container_id: Option<String>,
    /// conmon, which Podman leaves with the container; without it Podman would wait for ever.
    monitor: Monitor,
    /// Set once the hook was told to let the agent start.
    running: bool,
    /// When agent and Podman must have ended by, after SIGTERM.
    deadline: Option<Instant>,
    /// When the agent must have ended by, after the watchdog. Podman may take as long as whoever reads its output.
    unwatched_until: Option<Instant>,
    problems: Vec<Problem>,
    stopped: bool,
}

impl Drop for Live {
    fn drop(&mut self) {
        // The hook may wait for a word on this connection, and Podman for the hook.
        self.hook = Hook::Gone;
        self.kill();
        let podman = i32::try_from(self.podman.id()).unwrap_or(-1);
        let mut ended = [PollFd::new(self.podman_fd.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(END_PATIENCE).unwrap_or(PollTimeout::ZERO);
        if !matches!(poll(&mut ended, patience), Ok(1..)) {
            freeze::signal(podman, libc::SIGKILL);
        }
        let _ = self.podman.wait();
    }
}

impl Live {
    fn start(launch: &Launch<'_>, spec: &ContainerSpec, ends: Ends) -> Result<Self, Problem> {
        let mut command = podman::run(spec, launch.machine);
        let mask = ends.signals.before;
        // SAFETY: sigprocmask is async-signal-safe, and nothing else is done between fork and exec.
        unsafe { command.pre_exec(move || mask.thread_set_mask().map_err(Into::into)) };
        let podman = command.spawn().map_err(|e| io_problem(&launch.machine.podman.display().to_string(), &e))?;
        let podman_fd =
            process::pidfd(i32::try_from(podman.id()).unwrap_or(-1)).map_err(|e| io_problem("podman", &e))?;
        Ok(Self {
            podman,
            podman_fd,
            gateway: ends.gateway,
            control: ends.control,
            signals: ends.signals,
            hook: Hook::Awaited(ends.hook),
            container: None,
            init: None,
            container_id: None,
            monitor: Monitor::Unknown,
            running: false,
            deadline: None,
            unwatched_until: None,
            problems: Vec::new(),
            stopped: false,
        })
    }

    /// Waits for the session's end, whatever ends it.
    fn see_through(
        &mut self,
        launch: &Launch<'_>,
        hook_spec: &HookSpec,
        watch: &mut Watch,
        terminal: Option<&Terminal>,
    ) -> Result<Outcome, Problem> {
        let started = Instant::now();
        let mut notice = Notice::new(&launch.project, watch.links.folders(Side::Project), &watch.absent);
        if let Some(worktree) = &launch.worktree {
            notice.watch(&worktree.common, watch.links.folders(Side::Common), &watch.common.0);
        }
        if let Some(grown) = &watch.grown {
            notice.watch(repository(launch), std::iter::empty(), &grown.places());
        }
        loop {
            match self.wait(&notice)? {
                Event::PodmanEnded => break,
                Event::HookCalls => self.accept_hook()?,
                Event::HookSpeaks => self.hear_hook(launch, hook_spec)?,
                Event::GatewaySpeaks => match self.gateway.hear() {
                    Word::Grants(answer) => self.control.answered(answer),
                    // The person must know at once; a program that draws on the terminal draws over it in time.
                    Word::Held(problem) => eprint!("\r\nrcc: connections are held: {problem}\r\n"),
                    Word::Released => eprint!("\r\nrcc: connections go on: the host firewall is in force again\r\n"),
                    Word::Farewell(problem) => self.stop(problem),
                    Word::Begun => {}
                },
                Event::PersonSpeaks => self.control.hear(&self.gateway),
                Event::Signal => self.pass_signal(),
                Event::MonitorEnded => self.monitor_ended(launch),
                Event::Changed => notice.hear(),
                Event::Tick => {}
            }
            if self.running && matches!(self.hook, Hook::Gone) {
                notice.rest();
            }
            self.control.tick();
            if !self.running && started.elapsed() > START_PATIENCE {
                return Err(Problem::new(
                    Code::SESSION_PODMAN,
                    "podman",
                    "the container did not start within a minute",
                    "try: podman unshare true",
                ));
            }
            if self.deadline.into_iter().chain(self.unwatched_until).any(|at| Instant::now() > at) {
                self.kill();
            }
            if self.running && !self.stopped && notice.is_due() {
                if let Some((intruder, problem)) =
                    notice.look(|| watch.intruder(launch)).or_else(|| watch.linked(launch))
                {
                    match terminal {
                        Some(terminal) if self.person_accepts(terminal, &problem) => watch.accept(&intruder, launch),
                        _ => self.stop(problem),
                    }
                } else if let Some(terminal) = terminal.filter(|_| self.deadline.is_none()) {
                    self.give_way(terminal);
                }
            }
            if self.deadline.is_some() {
                self.end_in_background();
            }
        }
        let status = self.podman.wait().map_err(|e| io_problem("podman", &e))?;
        let summary = if self.running { self.gateway.summary() } else { None };
        self.kill();
        if !self.running {
            return Err(self.problems.pop().unwrap_or_else(|| not_started(status)));
        }
        // What appeared in the last moment is found as well.
        if !self.stopped
            && let Some((_, problem)) = watch.intruder(launch).or_else(|| watch.look_at_links(launch))
        {
            self.problems.push(problem);
        }
        // The agent can bring about a stop, so what else it did is said all the same.
        let said: Vec<String> = self.problems.iter().map(|problem| problem.subject.clone()).collect();
        let more = watch.grown(launch, true).map(|(_, problem)| problem).into_iter().chain(watch.linked_out(launch));
        self.problems.extend(more.filter(|problem| !said.contains(&problem.subject)));
        let code = if self.stopped { EXIT_STOPPED } else { exit_code(status) };
        // The first of its processes says so when the second, which does the work, was killed.
        let killed = 128 + libc::SIGKILL;
        let podman_ended_itself = status.code().is_some_and(|code| code != killed) && !self.stopped;
        Ok(Outcome { code, problems: std::mem::take(&mut self.problems), summary, podman_ended_itself })
    }

    fn wait(&self, notice: &Notice) -> Result<Event, Problem> {
        let mut sources = vec![(self.podman_fd.as_fd(), Event::PodmanEnded), (self.signals.fd.as_fd(), Event::Signal)];
        match &self.hook {
            Hook::Awaited(listener) => sources.push((listener.as_fd(), Event::HookCalls)),
            Hook::Connected(connection) => sources.push((connection.as_fd(), Event::HookSpeaks)),
            Hook::Gone => {}
        }
        if let Monitor::Known(monitor) = &self.monitor {
            sources.push((monitor.as_fd(), Event::MonitorEnded));
        }
        // After its farewell the gateway's connection stays readable; it has been heard.
        if !self.stopped {
            sources.push((self.gateway.as_fd(), Event::GatewaySpeaks));
        }
        if let Some(source) = self.control.source().filter(|_| self.running && !self.stopped) {
            sources.push((source, Event::PersonSpeaks));
        }
        if let Some(source) = notice.source().filter(|_| self.running && !self.stopped) {
            sources.push((source, Event::Changed));
        }
        let mut fds: Vec<PollFd> = sources.iter().map(|(fd, _)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        // Rounded up, so that it is time when the call returns.
        let watching = self.running && !self.stopped;
        let left = if watching { notice.left() } else { WATCH_EVERY };
        let timeout = left.max(Duration::from_millis(1)) + Duration::from_micros(999);
        match poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(io_problem("poll", &e.into())),
        }
        let ready = fds.iter().position(|fd| fd.revents().is_some_and(|r| !r.is_empty()));
        Ok(ready.map_or(Event::Tick, |i| sources[i].1))
    }

    fn accept_hook(&mut self) -> Result<(), Problem> {
        let failed = |e: nix::Error| io_problem("hook", &e.into());
        let Hook::Awaited(listener) = &self.hook else { return Ok(()) };
        let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).map_err(failed)?;
        // SAFETY: accept4 just returned this descriptor and nothing else owns it.
        let connection = unsafe { OwnedFd::from_raw_fd(raw) };
        let peer = getsockopt(&connection, sockopt::PeerCredentials).map_err(failed)?;
        if peer.uid() == nix::unistd::getuid().as_raw() {
            self.hook = Hook::Connected(connection);
        }
        Ok(())
    }

    fn hear_hook(&mut self, launch: &Launch<'_>, spec: &HookSpec) -> Result<(), Problem> {
        let Hook::Connected(connection) = &self.hook else { return Ok(()) };
        match packet::receive::<FromHook>(connection) {
            Ok(Some((FromHook::Hello { pid, id }, _))) => {
                self.init = Some(pid);
                self.container_id = Some(id);
                self.monitor = monitor(pid);
                self.container = Some(process::pidfd(pid).map_err(|e| io_problem("the container's process", &e))?);
                packet::send(connection, &ToHook::Spec(spec.clone()), &[]).map_err(|e| io_problem("hook", &e))
            }
            Ok(Some((FromHook::Sockets { limits }, sockets))) => {
                let unenforced = unenforceable(launch, &limits);
                if launch.policy.limits.unenforceable == Unenforceable::Refuse
                    && let Some(problem) = unenforced.first()
                {
                    return Err(problem.clone());
                }
                for problem in unenforced {
                    // Podman has the terminal in raw mode by now.
                    eprint!("{}", format!("rcc: warning: {problem}\n").replace('\n', "\r\n"));
                }
                self.gateway.listen(&sockets)?;
                drop(sockets);
                packet::send(connection, &ToHook::Go, &[]).map_err(|e| io_problem("hook", &e))?;
                self.running = true;
                Ok(())
            }
            Ok(Some((FromHook::Failed { problem }, _))) => Err(problem),
            // The watchdog holds this connection for the session's length; the container may have ended just now.
            Ok(None) | Err(_) => {
                self.hook = Hook::Gone;
                if self.running {
                    self.unwatched_until = Some(Instant::now() + UNWATCHED);
                }
                Ok(())
            }
        }
    }

    fn pass_signal(&mut self) {
        while let Ok(Some(info)) = self.signals.fd.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(libc::SIGTERM);
            // From the terminal, Podman in the same process group got it too and passes it on.
            let from_terminal = info.ssi_code == libc::SI_KERNEL && signal != libc::SIGHUP;
            if from_terminal {
                continue;
            }
            match &self.container {
                Some(container) if self.running => process::signal(container, signal),
                _ => self.kill(),
            }
            if signal != libc::SIGINT && signal != libc::SIGQUIT {
                self.deadline.get_or_insert(Instant::now() + END_PATIENCE);
            }
        }
    }

    /// Stops everything inside and asks the person. What does not stand still is not asked about.
    fn person_accepts(&self, terminal: &Terminal, problem: &Problem) -> bool {
        let Some(init) = self.init else { return false };
        let stopped = freeze::stop(init) && self.stop_podman();
        let accepted = stopped
            && terminal.interrupt().is_ok_and(|interlude| {
                eprintln!("rcc: the agent was stopped: {problem}");
                interlude.confirms("let it go on?")
            });
        if accepted {
            freeze::resume(init);
        }
        self.podman(libc::SIGCONT);
        // The screen is the agent's to draw again.
        self.podman(libc::SIGWINCH);
        accepted
    }

    /// Signals Podman, which reads the terminal in a process of its own below the one that was started.
    fn podman(&self, signal: i32) {
        if let Some(pid) = self.podman_pid() {
            freeze::signal(pid, signal);
        }
    }

    /// Stops Podman, so that the person's keys are not read by it. Whether it stands still, or has ended.
    fn stop_podman(&self) -> bool {
        self.podman_pid().is_none_or(freeze::stop)
    }

    /// Podman's number, unless it has ended.
    fn podman_pid(&self) -> Option<i32> {
        let mut ended = [PollFd::new(self.podman_fd.as_fd(), PollFlags::POLLIN)];
        let has_ended = matches!(poll(&mut ended, PollTimeout::ZERO), Ok(1..));
        i32::try_from(self.podman.id()).ok().filter(|_| !has_ended)
    }

    /// When the agent has stopped itself, as programs do at Ctrl-Z, the person's shell gets the terminal, and `fg` goes on.
    /// The same when Podman was stopped because it read the terminal in the background.
    fn give_way(&self, terminal: &Terminal) {
        let podman_stopped = || self.podman_pid().is_some_and(freeze::is_stopped);
        let wanted = |init: &i32| freeze::agent_stopped(*init) || (!terminal::in_foreground() && podman_stopped());
        let Some(init) = self.init.filter(wanted) else { return };
        // Nothing inside may go on while this process does not watch. What can't be stopped keeps the terminal.
        if !freeze::stop(init) || !self.stop_podman() {
            self.podman(libc::SIGCONT);
            return freeze::resume(init);
        }
        if let Ok(interlude) = terminal.interrupt() {
            self.stop_job();
            drop(interlude);
        }
        self.podman(libc::SIGCONT);
        freeze::resume(init);
        self.podman(libc::SIGWINCH);
    }

    /// Stops this job until its shell gives it the terminal again, or something asks it to end.
    fn stop_job(&self) {
        loop {
            // The call returns when the job is continued.
            // SAFETY: kill with numbers; 0 is the own process group.
            unsafe { libc::kill(0, libc::SIGTSTP) };
            if terminal::in_foreground() || self.signals.waiting() {
                return;
            }
            // In the background (`bg`) it has no terminal, and stops again. Where no shell could continue it the kernel
            // does not stop it; then this waits.
            std::thread::sleep(WATCH_EVERY);
        }
    }

    /// A session that has to end in the background: Podman stopped there, and would not see the container's end.
    fn end_in_background(&self) {
        if self.container_ended() && self.podman_pid().is_some_and(freeze::is_stopped) {
            self.podman(libc::SIGKILL);
        }
    }

    fn container_ended(&self) -> bool {
        let ended = |container: &OwnedFd| {
            matches!(poll(&mut [PollFd::new(container.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
        };
        self.container.as_ref().is_some_and(ended)
    }

    /// conmon ends after the container, and has written down how that ended; Podman then has all it waits for, and still
    /// passes on what the agent printed. When conmon was killed Podman would wait for ever.
    fn monitor_ended(&mut self, launch: &Launch<'_>) {
        self.monitor = Monitor::Gone;
        let exits = podman::exits(launch.machine);
        if !self.container_ended() {
            self.kill();
            self.deadline.get_or_insert(Instant::now() + MONITOR_PATIENCE);
        } else if !self.container_id.as_ref().is_some_and(|id| exits.join(id).exists()) {
            self.deadline.get_or_insert(Instant::now() + PERHAPS_PATIENCE);
        }
    }

    /// Ends the session for a reason of rcc's own.
    fn stop(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.stopped = true;
        self.deadline.get_or_insert(Instant::now() + END_PATIENCE);
        self.kill();
    }

    /// Kills the container, and Podman if there is no container yet.
    fn kill(&mut self) {
        match &self.container {
            Some(container) => process::kill(container),
            None => process::kill(&self.podman_fd),
        }
        // Podman itself may hang on whoever reads its output.
        if self.deadline.is_some_and(|at| Instant::now() > at) {
            self.podman(libc::SIGKILL);
        }
    }
}

/// The hook's side of the session's socket. It calls once; its watchdog holds the connection to the end.
enum Hook {
    Awaited(OwnedFd),
    Connected(OwnedFd),
    Gone,
}

/// Finds conmon: while the hook runs, the runtime stands between it and the container's first process.
fn monitor(init: i32) -> Monitor {
    let named = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "conmon");
    let mut above = std::iter::successors(Some(init), |pid| freeze::parent(*pid).filter(|parent| *parent > 1));
    above.find(named).and_then(|pid| process::pidfd(pid).ok()).map_or(Monitor::Unknown, Monitor::Known)
}

/// What is known of conmon.
enum Monitor {
    Unknown,
    Known(OwnedFd),
    Gone,
}

#[derive(Clone, Copy)]
enum Event {
    MonitorEnded,
    PodmanEnded,
    HookCalls,
    HookSpeaks,
    GatewaySpeaks,
    PersonSpeaks,
    Signal,
    Changed,
    Tick,
}

/// What must not appear in the project unseen.
struct Watch {
    absent: Vec<PathBuf>,
    present: Vec<(PathBuf, Identity)>,
    /// The same two in a worktree's repository.
    common: (Vec<PathBuf>, Vec<(PathBuf, Identity)>),
    /// The same as `absent` for each folder that comes along writable.
    beside: Vec<Vec<PathBuf>>,
    /// Repositories that git goes into.
    links: Links,
    /// What may come up in the repository.
    grown: Option<Grown>,
    /// When these are looked at again.
    links_pace: Pace,
    /// Until the person has seen one.
    sockets: Option<Sockets>,
}

/// Host daemons' sockets that the agent could reach.
struct Sockets {
    /// What of the host is seen inside, besides the project.
    seen: Vec<PathBuf>,
    /// Those that listened there at the start, and are masked. When a daemon begins anew, it removes the old socket, and
    /// the kernel the mask with it.
    known: Vec<(PathBuf, Option<Identity>)>,
}

impl Sockets {
    fn intruder(&self, project: &Path) -> Option<PathBuf> {
        // What has no file any more can't be reached.
        let masked = |socket: &PathBuf| {
            let identity = project::identity(socket);
            identity.is_none() || self.known.contains(&(socket.clone(), identity))
        };
        let seen = |socket: &PathBuf| self.seen.iter().any(|place| socket.starts_with(place)) && !masked(socket);
        project::listening().into_iter().find(|socket| socket.starts_with(project) || seen(socket))
    }
}

/// What did appear.
enum Intruder {
    /// At this place outside.
    Name(PathBuf),
    Socket,
    /// A repository that git goes into, or an index.
    Link(PathBuf),
    /// What came up in the repository.
    Grown(PathBuf),
}

impl Watch {
    fn intruder(&mut self, launch: &Launch<'_>) -> Option<(Intruder, Problem)> {
        let project = &launch.project;
        let beside = launch.writable.iter().zip(&self.beside).map(|((folder, _), absent)| (folder, absent));
        let common = launch.worktree.as_ref().map(|worktree| &worktree.common);
        let mut watched =
            std::iter::once((project, &self.absent)).chain(beside).chain(common.map(|c| (c, &self.common.0)));
        let appeared = watched.find_map(|(folder, absent)| Some((folder, protect::appeared(folder, absent)?)));
        if let Some((folder, path)) = appeared {
            let place = folder.path.join(path);
            let remedy = format!(
                "look at it before anything else in that folder: ls -la {}\nif you want it, keep it: the next session starts with it, read-only",
                quoted(place.display())
            );
            let what = "it was not there when the session began, and programs outside act on it";
            let problem = Problem::new(Code::SESSION_PROTECTED, place.display().to_string(), what, remedy);
            return Some((Intruder::Name(place), problem));
        }
        let replaced = std::iter::once((project, &self.present)).chain(common.map(|c| (c, &self.common.1)));
        let mut replaced = replaced.filter_map(|(f, present)| Some(f.path.join(protect::replaced(f, present)?)));
        if let Some(place) = replaced.next() {
            let problem = Problem::new(
                Code::SESSION_PROTECTED,
                place.display().to_string(),
                "a program outside replaced it during the session (git does, when it changes its configuration), and so took its cover away: the agent can write it now",
                "end the session, look at the file, and start again; change such files between sessions",
            );
            return Some((Intruder::Name(place), problem));
        }
        if let Some(found) = self.grown(launch, false) {
            return Some(found);
        }
        let socket = self.sockets.as_ref()?.intruder(&project.path)?;
        let problem = Problem::new(
            Code::PROJECT_SOCKET,
            socket.display().to_string(),
            "a program outside began to listen on a Unix socket that the agent can reach; it would take the agent for you",
            "have it listen elsewhere, and start the session again",
        );
        Some((Intruder::Socket, problem))
    }

    /// What has come up in the repository.
    fn grown(&mut self, launch: &Launch<'_>, end: bool) -> Option<(Intruder, Problem)> {
        let folder = repository(launch);
        let found = self.grown.as_mut()?.look(folder, &launch.project.path, end)?;
        let place = folder.path.join(&found.path).display().to_string();
        let problem = Problem::new(Code::SESSION_PROTECTED, place, found.what, found.remedy);
        Some((Intruder::Grown(found.path), problem))
    }

    /// Links in git's folders, through which git outside would write.
    fn linked_out(&self, launch: &Launch<'_>) -> Vec<Problem> {
        let of = |folder: &'_ Project, git: &Path| {
            let what = protect::links_in_git(folder, git)?;
            let place = folder.path.join(git).display().to_string();
            let remedy = format!("remove it before you use git there: find {} -type l", quoted(&place));
            Some(Problem::new(Code::SESSION_PROTECTED, place, what, remedy))
        };
        let own = if launch.worktree.is_some() { Path::new(".") } else { Path::new(".git") };
        let embedded = self.links.embedded().filter_map(|git| of(&launch.project, git));
        of(repository(launch), own).into_iter().chain(embedded).collect()
    }

    /// What git's indexes name by now. An index can be so large that reading it takes long, so this has a rest of its own,
    /// and the rest of what is watched does not wait for it.
    fn linked(&mut self, launch: &Launch<'_>) -> Option<(Intruder, Problem)> {
        let mut pace = std::mem::take(&mut self.links_pace);
        let found = pace.look(|| self.look_at_links(launch));
        self.links_pace = pace;
        found
    }

    fn look_at_links(&mut self, launch: &Launch<'_>) -> Option<(Intruder, Problem)> {
        let project = &launch.project;
        match self.links.look(Ground { project, worktree: launch.worktree.as_ref() }) {
            Found::Names(names) => self.absent.extend(names),
            Found::Repository(path) => {
                let place = project.path.join(&path);
                let problem = Problem::new(
                    Code::SESSION_PROTECTED,
                    place.display().to_string(),
                    "git's index names this repository as a submodule since the session began, so `git status` outside goes into it and acts on its configuration",
                    format!(
                        "look at its configuration before you use git there: cat {}\nor take it out of the index: git -C {} -c core.fsmonitor= update-index --force-remove {}",
                        quoted(place.join("config").display()),
                        quoted(project.path.display()),
                        quoted(path.parent().unwrap_or(&path).display())
                    ),
                );
                return Some((Intruder::Link(path), problem));
            }
            Found::Index { index, tree, what } => {
                let place = index.display().to_string();
                let (old, bad) = (quoted(&place), quoted(format_args!("{place}.bad")));
                let tree = quoted(tree.display());
                // What is made anew comes from a commit, which can be the agent's as well.
                let remedy = format!(
                    "look which submodules the commit names, and move their folders away: git -C {tree} -c core.fsmonitor= ls-tree -r HEAD | grep ^160000\nthen make it anew: mv {old} {bad} && git -C {tree} -c core.fsmonitor= reset"
                );
                return Some((Intruder::Link(index), Problem::new(Code::SESSION_PROTECTED, place, what, remedy)));
            }
        }
        None
    }

    /// The person has seen it.
    fn accept(&mut self, intruder: &Intruder, launch: &Launch<'_>) {
        match intruder {
            Intruder::Name(place) => {
                let project = &launch.project.path;
                self.absent.retain(|absent| project.join(absent) != *place);
                self.present.retain(|(present, _)| project.join(present) != *place);
                if let Some(worktree) = &launch.worktree {
                    self.common.0.retain(|absent| worktree.common.path.join(absent) != *place);
                    self.common.1.retain(|(present, _)| worktree.common.path.join(present) != *place);
                }
                for ((folder, _), absent) in launch.writable.iter().zip(&mut self.beside) {
                    absent.retain(|absent| folder.path.join(absent) != *place);
                }
            }
            Intruder::Link(path) => self.links.accept(path),
            Intruder::Grown(path) => self.grown.iter_mut().for_each(|grown| grown.accept(path)),
            Intruder::Socket => self.sockets = None,
        }
    }
}

/// The folder that the repository lies in.
fn repository<'a>(launch: &'a Launch<'_>) -> &'a Project {
    launch.worktree.as_ref().map_or(&launch.project, |worktree| &worktree.common)
}

/// The limits that the policy asks for and the kernel does not keep.
fn unenforceable(launch: &Launch<'_>, found: &WallLimits) -> Vec<Problem> {
    let wanted = crate::spec::ContainerLimits::of(&launch.policy.limits, launch.machine);
    let kept = |found: Option<u64>, wanted: u64| found.is_some_and(|f| f <= wanted);
    let mut missing = Vec::new();
    if !kept(found.memory, wanted.memory) {
        missing.push("memory");
    }
    // Processes are also limited by RLIMIT_NPROC in the container's own user namespace, which needs no controller.
    if wanted.cpu.is_some_and(|cpu| !kept(found.cpu, cpu)) {
        missing.push("cpus");
    }
    if missing.is_empty() {
        return Vec::new();
    }
    let accept = "accept it: unenforceable = \"warn\" under [limits] in /etc/rcc/policy.toml";
    let remedy = if Path::new("/run/systemd/system").exists() {
        format!("{}\nor {accept}", rcc_preflight::checks::DELEGATE)
    } else {
        format!("systemd would delegate one; without it, {accept}")
    };
    vec![Problem::new(
        Code::LIMIT_UNENFORCEABLE,
        missing.join(", "),
        "the kernel does not keep this limit: no cgroup controller is delegated to this user",
        remedy,
    )]
}

fn not_started(status: ExitStatus) -> Problem {
    let what = format!("podman ended with {status} before the container started; its message stands above");
    Problem::new(Code::SESSION_PODMAN, "podman", what, "`rcc plan` shows the exact call")
}

fn exit_code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map_or(255, |s| 128 + s);
    u8::try_from(status.code().unwrap_or_else(signal) & 0xff).unwrap_or(255)
}

/// The program in the project's own words, for messages.
#[must_use]
pub fn shown(command: &[OsString]) -> String {
    command.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
