# services.rcc: what `rcc setup` does elsewhere, from the system's configuration. The units are the ones that setup
# installs, written by the same program.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.rcc;
  options = import ./options.nix { inherit lib; };
  inherit (pkgs.stdenv.hostPlatform) system;
  # A word of a command line, as systemd.service(5) reads it.
  word = text: builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON text);
  # What is started by itself, by the target that wants it. The build compares it with what setup enables.
  wanted = {
    multi-user = [ "rcc-firewall.service" ];
    paths = [ "rcc-firewall.path" ];
    timers = [ "rcc-firewall.timer" ];
    sockets = [
      "rcc-gateway.socket"
      "rcc-status.socket"
    ];
  };
  units =
    pkgs.runCommand "rcc-units"
      {
        nativeBuildInputs = [ cfg.package ];
        wanted = lib.concatLists (lib.attrValues wanted);
      }
      ''
        folder=$out/lib/systemd/system
        mkdir -p $folder
        rcc-setup units --programs ${cfg.package}/bin --into $folder
        mv $folder/ENABLED enabled
        diff <(sort enabled) <(printf '%s\n' $wanted | sort)
      '';
in
{
  options.services.rcc = {
    inherit (options) enable policy agents;
    package = options.package self.packages.${system}.rcc;
  };

  config = lib.mkIf cfg.enable {
    assertions = options.secretsStayOutside cfg;
    warnings = options.someoneMay cfg;

    # A plain file of root's: a link into the store would not tell the path unit of a change.
    environment.etc."rcc/policy.toml" = {
      source = self.lib.policy.file {
        inherit pkgs;
        rcc = cfg.package;
        settings = cfg.policy;
      };
      mode = "0644";
    };
    users.users = lib.mkMerge [
      {
        rcc = {
          isSystemUser = true;
          group = "rcc";
          description = "rcc's gateway";
        };
      }
      # Their own systemd runs without them.
      (lib.mapAttrs' (_: agent: lib.nameValuePair agent.user { linger = true; }) cfg.agents)
    ];
    users.groups.rcc = { };
    systemd.tmpfiles.rules = [ "d /var/log/rcc 0750 rcc rcc -" ];

    systemd.packages = [ units ];
    systemd.targets = lib.mapAttrs (_: wants: { inherit wants; }) wanted;
    # A changed gateway takes over when its last session has ended, as after `rcc setup`.
    systemd.services.rcc-gateway.reloadIfChanged = true;

    # rcc runs nft, npm and Podman from the system's profile and the wrappers, never from a PATH.
    environment.systemPackages = [
      cfg.package
      pkgs.nftables
      pkgs.nodejs
    ];
    virtualisation.podman.enable = true;

    # In the person's own systemd: rootless Podman needs their runtime folder and their cgroups.
    systemd.user.services = lib.mapAttrs' (
      name: agent:
      lib.nameValuePair "rcc-agent-${name}" {
        description = "rcc agent ${name}";
        unitConfig.ConditionUser = agent.user;
        serviceConfig = {
          Type = "oneshot";
          WorkingDirectory = toString agent.project;
          ExecStart = lib.concatMapStringsSep " " word (
            [
              "${cfg.package}/bin/rcc"
              "claude"
            ]
            ++ lib.optional (agent.key_file != null) "--key-file=${agent.key_file}"
            ++ [
              "-p"
              agent.prompt
            ]
          );
        };
      }
    ) cfg.agents;
    systemd.user.timers = lib.mapAttrs' (
      name: agent:
      lib.nameValuePair "rcc-agent-${name}" {
        wantedBy = [ "timers.target" ];
        unitConfig.ConditionUser = agent.user;
        timerConfig = {
          OnCalendar = agent.calendar;
          Persistent = true;
        };
      }
    ) cfg.agents;
  };
}
