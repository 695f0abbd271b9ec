# The gateway alone, for a container beside an agent's.
{
  runCommand,
  rcc,
  version,
}:
runCommand "rcc-gateway-${version}" { meta.mainProgram = "rcc-gateway"; } ''
  mkdir -p $out/bin
  cp ${rcc}/bin/rcc-gateway $out/bin/
''
