# macOS: a sentence and rcc's exit code for "nothing was started", rather than a program that seems to protect.
{ writeShellScriptBin, version }:
writeShellScriptBin "rcc" ''
  echo "rcc: ${version} does not run on macOS yet, so nothing was started: use a Linux machine, or a virtual one" >&2
  exit 125
''
