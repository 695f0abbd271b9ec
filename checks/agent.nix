# lib.mkAgent: a package with a program, which gets its closure and asks for what it was given to ask.
{ pkgs, self, ... }:
let
  agent = self.lib.mkAgent {
    inherit pkgs;
    package = pkgs.git;
    toolchain = [ pkgs.python3 ];
    arguments = [ "--no pager" ];
    request.allow = [ "git.example.org:443" ];
  };
in
assert agent.meta.mainProgram == "git";
pkgs.runCommand "rcc-agent-check" { nativeBuildInputs = [ pkgs.rcc ]; } ''
  root=$(grep -o -- '--package=[^ ]*' ${agent}/bin/git | cut -d= -f2)
  rcc policy check --project $root/share/rcc/rcc.toml
  grep -q 'git.example.org:443' $root/share/rcc/rcc.toml
  for path in ${pkgs.git} ${pkgs.python3} $(dirname $(readlink $root/bin)); do grep -qx $path $root/share/rcc/closure; done
  for program in bash git python3 rg; do test -L $root/bin/$program; done
  ! test -e ${pkgs.rccPackages.tools}/share/rcc/rcc.toml
  grep -q -- "--no pager" ${agent}/bin/git
  bash -n ${agent}/bin/git
  touch $out
''
