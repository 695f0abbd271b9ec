//! Which distribution it is, and the exact command there that brings a program.

use crate::facts::System;

/// Distributions that install alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu and what is made of them: apt.
    Debian,
    /// Fedora, RHEL and what is made of them: dnf.
    Fedora,
    /// Arch: pacman.
    Arch,
    /// openSUSE, SLES: zypper.
    Suse,
    /// Alpine: apk.
    Alpine,
    /// NixOS: an option.
    NixOs,
    /// macOS: brew.
    MacOs,
    /// None of these.
    Other,
}

impl Family {
    /// By `ID` and `ID_LIKE` of os-release(5).
    #[must_use]
    pub fn of(system: &System) -> Self {
        if system.os == "macos" {
            return Self::MacOs;
        }
        let names = std::iter::once(&system.id).chain(&system.like);
        let family = |name: &String| match name.as_str() {
            "debian" | "ubuntu" => Some(Self::Debian),
            "fedora" | "rhel" | "centos" => Some(Self::Fedora),
            "arch" => Some(Self::Arch),
            "suse" | "opensuse" | "sles" => Some(Self::Suse),
            name if name.starts_with("opensuse-") => Some(Self::Suse),
            "alpine" => Some(Self::Alpine),
            "nixos" => Some(Self::NixOs),
            _ => None,
        };
        names.into_iter().find_map(family).unwrap_or(Self::Other)
    }

    /// The package that has a program.
    fn package(self, program: &str) -> &str {
        match (self, program) {
            (Self::Debian, "newuidmap" | "newgidmap") => "uidmap",
            (Self::Fedora, "newuidmap" | "newgidmap") => "shadow-utils",
            (Self::Alpine, "newuidmap" | "newgidmap") => "shadow-subids",
            (_, "newuidmap" | "newgidmap") => "shadow",
            (_, "nft") => "nftables",
            (_, other) => other,
        }
    }

    /// The command that brings a program anew, whose file others may have replaced.
    #[must_use]
    pub fn reinstall(self, program: &str) -> String {
        let package = self.package(program);
        match self {
            Self::Debian => format!("sudo apt install --reinstall {package}"),
            Self::Fedora => format!("sudo dnf reinstall {package}"),
            Self::Arch => format!("sudo pacman -S {package}"),
            Self::Suse => format!("sudo zypper install --force {package}"),
            Self::Alpine => format!("sudo apk fix --reinstall {package}"),
            Self::NixOs => "sudo nix-store --verify --check-contents --repair".into(),
            Self::MacOs => format!("brew reinstall {package}"),
            Self::Other => format!("reinstall {package} with your distribution's package tool"),
        }
    }

    /// The command that installs a program's package.
    #[must_use]
    pub fn install(self, program: &str) -> String {
        let package = self.package(program);
        match self {
            Self::Debian => format!("sudo apt install {package}"),
            Self::Fedora => format!("sudo dnf install {package}"),
            Self::Arch => format!("sudo pacman -S --needed {package}"),
            Self::Suse => format!("sudo zypper install {package}"),
            Self::Alpine => format!("sudo apk add {package}"),
            Self::NixOs if program == "nft" => {
                "in configuration.nix: networking.nftables.enable = true; then: sudo nixos-rebuild switch".into()
            }
            Self::NixOs if matches!(program, "crun" | "conmon") => format!(
                "in configuration.nix: virtualisation.podman.enable = true; environment.systemPackages = [ pkgs.{program} ]; then: sudo nixos-rebuild switch"
            ),
            // The option brings the wrappers of newuidmap and newgidmap too.
            Self::NixOs => {
                "in configuration.nix: virtualisation.podman.enable = true; then: sudo nixos-rebuild switch".into()
            }
            Self::MacOs => format!("brew install {package}"),
            Self::Other => format!("install {package} with your distribution's package tool"),
        }
    }

    /// The command that brings the distribution's newest kernel, and starts it.
    #[must_use]
    pub fn kernel(self) -> &'static str {
        match self {
            Self::Debian => "sudo apt update && sudo apt full-upgrade && sudo reboot",
            Self::Fedora => "sudo dnf upgrade kernel && sudo reboot",
            Self::Arch => "sudo pacman -Syu linux && sudo reboot",
            Self::Suse => "sudo zypper install kernel-default && sudo reboot",
            Self::Alpine => "sudo apk add --upgrade linux-lts && sudo reboot",
            Self::NixOs => "sudo nixos-rebuild boot --upgrade && sudo reboot",
            Self::MacOs => "podman machine stop && podman machine rm && podman machine init --now",
            Self::Other => "install your distribution's newest kernel, and start the machine again",
        }
    }

    /// The command that brings the newest version the distribution has.
    #[must_use]
    pub fn upgrade(self, program: &str) -> String {
        match self {
            Self::Debian => format!("sudo apt update && sudo apt install {program}"),
            Self::Fedora => format!("sudo dnf upgrade {program}"),
            Self::Arch => "sudo pacman -Syu".into(),
            Self::Suse => format!("sudo zypper update {program}"),
            Self::Alpine => format!("sudo apk upgrade {program}"),
            Self::NixOs => "sudo nixos-rebuild switch --upgrade".into(),
            Self::MacOs => format!("brew upgrade {program}"),
            Self::Other => format!("upgrade {program} with your distribution's package tool"),
        }
    }
}
