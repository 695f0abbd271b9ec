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
  rcc policy check --project ${agent}/share/rcc/rcc.toml
  grep -q 'git.example.org:443' ${agent}/share/rcc/rcc.toml
  for path in ${pkgs.git} ${pkgs.python3}; do grep -q -- "--ro $path " ${agent}/bin/git; done
  grep -q -- "--no pager" ${agent}/bin/git
  bash -n ${agent}/bin/git
  touch $out
''
