# All programs, built from source. Static, since setup copies them out of the store: no loader, no path that a garbage
# collection could take away.
{
  lib,
  rustPlatform,
  stdenv,
  version,
}:
rustPlatform.buildRustPackage {
  pname = "rcc";
  inherit version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--bins"
    "--package=rcc"
    "--package=rcc-launch"
    "--package=rcc-gateway"
    "--package=rcc-firewall"
    "--package=rcc-setup"
  ];
  buildInputs = [ stdenv.cc.libc.static ];
  env.RUSTFLAGS = "-C target-feature=+crt-static";
  # The tests start sessions, as root, in a world of their own: `cargo xtask test`.
  doCheck = false;
  meta = {
    description = "Runs AI coding agents so that they can change one project and reach the hosts a policy names";
    license = [
      lib.licenses.asl20
      lib.licenses.mit
    ];
    mainProgram = "rcc";
    platforms = lib.platforms.linux;
  };
}
