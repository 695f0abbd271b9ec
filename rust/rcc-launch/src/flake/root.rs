//! The root that a session has of an approved toolchain, and how its program comes to have the devShell's variables.

use super::found::loader_name;
use super::{Approved, Toolchain};
use crate::machine::Person;
use crate::rootfs::{Entry, FOLDERS, Root, identity};
use crate::spec::{HOST_STORE, INSIDE, Request};
use std::path::{Path, PathBuf};

/// Data of the host's that programs of any origin read: what a terminal can do, time zones, languages.
const DATA: &[&str] = &["/usr/share/terminfo", "/lib/terminfo", "/usr/share/zoneinfo", "/usr/lib/locale"];
/// Small files of the host's.
const FILES: &[&str] = &["/etc/services", "/etc/protocols"];
/// The machine's certificates, by distribution family: those that the person trusts, a company's among them.
const CERTIFICATES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// Where programs look for them.
const BUNDLES: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt"];
/// nixpkgs' C library looks for time zones there.
const ZONES: &str = "/etc/zoneinfo";

/// Reads the devShell's script and becomes the program. What the script prints is talk; of PATH, rcc's own part stays first.
/// nixpkgs' builds have a file of certificates that does not exist, and a devShell is made by one.
const BECOME: &str = "\
. /run/rcc/environment >&2
PATH=\"$HOME/.local/bin:/run/rcc/bin:$PATH\"
SHELL=/bin/bash
[ -e \"${SSL_CERT_FILE-}\" ] || SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
[ -e \"${NIX_SSL_CERT_FILE-}\" ] || NIX_SSL_CERT_FILE=$SSL_CERT_FILE
export PATH SHELL SSL_CERT_FILE NIX_SSL_CERT_FILE
exec \"$@\"
";
/// Before that, where the session has a store of its own: Nix is told of what is in it, once, and never collects it.
const SEED: &str = "\
if [ ! -e /nix/var/nix/rcc-seeded ]; then
    { \"${RCC_NIX%/*}/nix-store\" --load-db </run/rcc/registration && mkdir -p /nix/var/nix/gcroots &&
        ln -sfn \"$RCC_NIX_ROOT\" /nix/var/nix/gcroots/rcc && : >/nix/var/nix/rcc-seeded; } >&2
fi
unset RCC_NIX RCC_NIX_ROOT
";
/// Nix inside: the container is the sandbox, and nothing of the host's is asked.
const NIX_CONFIG: &str = "\
extra-experimental-features = nix-command flakes
sandbox = false
filter-syscalls = false
build-users-group =
";

fn bundle() -> Option<&'static str> {
    CERTIFICATES.iter().copied().find(|file| Path::new(file).is_file())
}

/// The root: the closure, links into it, and none of the host's programs.
#[must_use]
pub fn compose(toolchain: &Toolchain, person: &Person) -> Root {
    let mut root = Root { store: toolchain.store().to_vec(), own: toolchain.own_store(), ..Root::default() };
    let found = toolchain.found();
    root.skeleton.extend(FOLDERS.iter().map(|p| Entry::Folder { path: p.into() }));
    for folder in [super::store::STORE, "/nix/var", HOST_STORE] {
        root.skeleton.push(Entry::Folder { path: folder.into() });
    }
    for data in DATA.iter().map(Path::new).filter(|data| data.is_dir()) {
        root.skeleton.push(Entry::Folder { path: data.into() });
        root.read_only.push(data.into());
    }
    let mut link = |path: PathBuf, to: &Path| root.skeleton.push(Entry::Link { path, to: to.into() });
    link("/bin/sh".into(), &found.bash);
    link("/bin/bash".into(), &found.bash);
    if let Some(env) = &found.env {
        link("/usr/bin/env".into(), env);
    }
    if let Some(loader) = found.nix_ld.as_ref().or(found.loader.as_ref()) {
        let folder = if cfg!(target_arch = "x86_64") { "/lib64" } else { "/lib" };
        link(Path::new(folder).join(loader_name()), loader);
    }
    link(ZONES.into(), Path::new("/usr/share/zoneinfo"));
    if let Some(bundle) = bundle() {
        for place in BUNDLES.iter().filter(|place| **place != bundle) {
            link((*place).into(), Path::new(bundle));
        }
    }
    for file in FILES.iter().copied().chain(["/etc/localtime"]).chain(bundle()).filter(|f| Path::new(f).is_file()) {
        root.skeleton.push(Entry::Copy { path: file.into() });
    }
    identity(&mut root, person);
    root
}

fn set_all(request: &mut Request, variables: [(&str, String); 2]) {
    request.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
}

/// Takes out of the request what points into the host's programs, and has it find the toolchain's. With a devShell its
/// program begins by way of the devShell's script.
pub fn into_request(toolchain: &Toolchain, request: &mut Request) {
    let found = toolchain.found();
    request.environment.retain(|_, value| !value.starts_with("/usr/") && !value.starts_with("/opt/"));
    let mut set = |name: &str, value: String| {
        request.environment.entry(name.to_owned()).or_insert(value);
    };
    if bundle().is_some() {
        for name in ["SSL_CERT_FILE", "NIX_SSL_CERT_FILE"] {
            set(name, BUNDLES[0].to_owned());
        }
    }
    if Path::new("/usr/lib/locale/locale-archive").is_file() {
        set("LOCALE_ARCHIVE", "/usr/lib/locale/locale-archive".to_owned());
    }
    if let (Some(_), Some(loader)) = (&found.nix_ld, &found.loader) {
        set("NIX_LD", loader.display().to_string());
        let folders: Vec<String> = found.libraries.iter().map(|f| f.display().to_string()).collect();
        set("NIX_LD_LIBRARY_PATH", folders.join(":"));
    }
    match toolchain {
        Toolchain::Approved(approved) => by_script(approved, request),
        // The chosen toolchains of the home folder are there already, and come first.
        Toolchain::Package(package) => {
            request.path.extend_from_slice(&package.found.path);
            // Nix's collector looks at the environment of what runs; the package names its whole closure.
            request.environment.insert("RCC_PACKAGE".to_owned(), package.folder.display().to_string());
        }
    }
}

fn by_script(approved: &Approved, request: &mut Request) {
    request.read_only.push((approved.environment(), Path::new(INSIDE).join("environment")));
    let program = std::mem::take(&mut request.command);
    let mut script = BECOME.to_owned();
    if let Some(nix) = &approved.found.nix {
        let (first, rest) = BECOME.split_once('\n').unwrap_or((BECOME, ""));
        script = format!("{first}\n{SEED}{rest}");
        set_all(
            request,
            [("RCC_NIX", nix.display().to_string()), ("RCC_NIX_ROOT", approved.built.display().to_string())],
        );
        set_all(request, [("NIX_CONFIG", NIX_CONFIG.to_owned()), ("NIX_REMOTE", "local".to_owned())]);
        request.read_only.push((approved.registration(), Path::new(INSIDE).join("registration")));
    }
    let call = ["/bin/bash", "-c", &script, "rcc"].into_iter().map(Into::into);
    request.command = call.chain(program).collect();
}
