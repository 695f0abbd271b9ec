# A root for agents, as `rcc --package` reads it: usual tools, and with them what a program needs and asks for. `bin` is
# their PATH; programs that Nix did not build find a loader and libraries.
{
  lib,
  stdenv,
  runCommand,
  buildEnv,
  closureInfo,
  bashInteractive,
  coreutils,
  gnugrep,
  gnused,
  gawk,
  diffutils,
  gnupatch,
  findutils,
  gnutar,
  gzip,
  xz,
  less,
  which,
  procps,
  git,
  openssh,
  curl,
  ripgrep,
  jq,
  cacert,
  nix-ld,
  zlib,
  openssl,
  name ? "rcc-tools",
  # Packages that come first.
  packages ? [ ],
  # A checked rcc.toml.
  request ? null,
}:
let
  tools = buildEnv {
    name = "${name}-env";
    paths = packages ++ [
      bashInteractive
      coreutils
      gnugrep
      gnused
      gawk
      diffutils
      gnupatch
      findutils
      gnutar
      gzip
      xz
      less
      which
      procps
      git
      openssh
      curl
      ripgrep
      jq
      cacert
    ];
    pathsToLink = [
      "/bin"
      "/etc/ssl"
      "/share/terminfo"
    ];
    ignoreCollisions = true;
  };
  closure = closureInfo {
    rootPaths = [
      tools
      nix-ld
      stdenv.cc.cc.lib
      zlib
      openssl
    ];
  };
in
runCommand name { passthru = { inherit tools; }; } ''
  mkdir -p $out/share/rcc
  ln -s ${tools}/bin $out/bin
  cp ${closure}/store-paths $out/share/rcc/closure
  ${lib.optionalString (request != null) "cp ${request} $out/share/rcc/rcc.toml"}
''
