# All programs, built from source. On Linux static, since setup copies them out of the store: no loader, no path that a
# garbage collection could take away. On macOS nothing is static; there the nix-darwin module runs them from the store.
{
  lib,
  guest,
  gvproxy,
  rustPlatform,
  stdenv,
  version,
}:
let
  inherit (stdenv.hostPlatform) isLinux isDarwin;
  # The carrier of the agents' traffic is of the one version that was read for what a guest can ask of it.
  pinned = lib.fileContents ../rust/rcc-proto/gvproxy-version;
in
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
  ]
  ++ lib.optional isDarwin "--package=rcc-gvproxy";
  buildInputs = lib.optionals isLinux [ stdenv.cc.libc.static ];
  env = lib.optionalAttrs isLinux { RUSTFLAGS = "-C target-feature=+crt-static"; };
  # What the agents' machine runs, of Linux's package: a Linux builder makes it, or a substituter has it.
  postInstall =
    lib.optionalString isDarwin ''
      for program in rcc rcc-hook rcc-forward; do cp ${guest}/bin/$program $out/bin/$program.linux; done
    ''
    + lib.optionalString (isDarwin && gvproxy.version == pinned) ''
      cp ${gvproxy}/bin/gvproxy $out/bin/gvproxy.pinned
    '';
  # For the module: which carrier there is, and which there must be.
  passthru = lib.optionalAttrs isDarwin {
    inherit pinned;
    carrier = gvproxy.version;
  };
  # The tests start sessions, as root, in a world of their own: `cargo xtask test`.
  doCheck = false;
  meta = {
    description = "Runs AI coding agents so that they can change one project and reach the hosts a policy names";
    license = [
      lib.licenses.asl20
      lib.licenses.mit
    ];
    mainProgram = "rcc";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
