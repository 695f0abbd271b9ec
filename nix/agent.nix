# Any program as an isolated one: a package whose program is started by `rcc run`, in the project that one stands in.
{ lib, policy }:
{
  pkgs,
  package,
  # The program's name in the package.
  program ? package.meta.mainProgram or (lib.getName package),
  # What it is called outside.
  name ? program,
  # Arguments that it always gets.
  arguments ? [ ],
  # Packages that it finds on its PATH.
  toolchain ? [ ],
  # What it asks for: `allow` and `protect`, as a project's rcc.toml does. It grants nothing.
  request ? { },
  rcc ? pkgs.rcc,
}:
let
  root = pkgs.callPackage ./tools.nix {
    name = "rcc-agent-${name}-root";
    packages = [ package ] ++ toolchain;
    request = policy.request {
      inherit pkgs rcc;
      settings = request;
    };
  };
in
pkgs.writeShellScriptBin name ''
  exec ${rcc}/bin/rcc run --package=${root} -- ${
    lib.escapeShellArgs ([ "${package}/bin/${program}" ] ++ arguments)
  } "$@"
''
