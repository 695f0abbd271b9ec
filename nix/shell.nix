# For working on rcc itself; `cargo xtask test` says what else the machine needs.
{
  lib,
  stdenv,
  mkShell,
  cargo,
  rustc,
  clippy,
  rustfmt,
  rust-analyzer,
  git,
  nodejs,
  nftables,
  podman,
  deadnix,
  nixfmt,
}:
mkShell {
  packages = [
    cargo
    rustc
    clippy
    rustfmt
    rust-analyzer
    git
    nodejs
    deadnix
    nixfmt
  ]
  ++ lib.optionals stdenv.hostPlatform.isLinux [
    nftables
    podman
  ];
}
