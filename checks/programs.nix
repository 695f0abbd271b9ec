# The programs run, and are static: rcc-setup refuses others.
{ pkgs, ... }:
pkgs.runCommand "rcc-programs" { nativeBuildInputs = [ pkgs.rcc ]; } ''
  for program in rcc rcc-hook rcc-gateway rcc-firewall rcc-setup; do
    test -x ${pkgs.rcc}/bin/$program
    ! grep -q ld-linux ${pkgs.rcc}/bin/$program
  done
  rcc --version > $out
''
