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
  path = lib.makeBinPath ([ package ] ++ toolchain);
  closure = pkgs.closureInfo { rootPaths = [ package ] ++ toolchain; };
  asks = policy.request {
    inherit pkgs rcc;
    settings = request;
  };
in
pkgs.runCommand "rcc-agent-${name}"
  {
    inherit asks;
    passAsFile = [ "wrapper" ];
    meta.mainProgram = name;
    wrapper = ''
      #!${pkgs.runtimeShell}
      exec ${rcc}/bin/rcc run @folders@ -- /usr/bin/env ${lib.escapeShellArg "PATH=${path}:/usr/local/bin:/usr/bin:/bin"} ${
        lib.escapeShellArgs ([ "${package}/bin/${program}" ] ++ arguments)
      } "$@"
    '';
  }
  ''
    mkdir -p $out/bin $out/share/rcc
    folders=$(sed 's/^/--ro /' ${closure}/store-paths | tr '\n' ' ')
    wrapper=$(cat "$wrapperPath")
    echo "''${wrapper//@folders@/$folders}" > $out/bin/${name}
    chmod +x $out/bin/${name}
    cp $asks $out/share/rcc/rcc.toml
  ''
