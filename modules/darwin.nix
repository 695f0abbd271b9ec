# services.rcc on macOS: what `rcc setup` does elsewhere, from nix-darwin's configuration. The daemons' files are the ones that
# setup installs, written by the same program.
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
  # A release's package brings its own.
  carrier = cfg.package.carrier or "";
  pinned = cfg.package.pinned or "";
  # Both are written by name here, since they must be known at evaluation. The build compares them with what setup has.
  labels = [
    "dev.rcc.firewall"
    "dev.rcc.gateway"
    "dev.rcc.status"
  ];
  groups = {
    _rcc = {
      gid = 391;
      description = "rcc gateway";
    };
    # Of the process that carries the agents' traffic, by which pf knows it. It has no members.
    _rccnet = {
      gid = 392;
      description = "rcc network";
    };
  };
  user = {
    uid = 391;
    inherit (groups._rcc) gid description;
    isHidden = true;
    home = "/var/empty";
    shell = "/usr/bin/false";
  };
  accounts = lib.concatMapStrings (line: line + "\n") (
    lib.mapAttrsToList (name: g: "group ${name} ${toString g.gid} ${g.description}") groups
    ++ [ "user _rcc ${toString user.uid} ${toString user.gid} ${user.description}" ]
  );
  daemons =
    pkgs.runCommand "rcc-daemons"
      {
        nativeBuildInputs = [ cfg.package ];
        inherit labels accounts;
      }
      ''
        mkdir $out
        rcc-setup units --macos --programs ${cfg.package}/bin --into $out
        mv $out/ENABLED $out/ACCOUNTS .
        diff ENABLED <(printf '%s\n' $labels)
        diff ACCOUNTS <(printf '%s' "$accounts")
      '';
in
{
  options.services.rcc = {
    inherit (options) enable policy;
    package = options.package self.packages.${pkgs.stdenv.hostPlatform.system}.rcc;
  };

  config = lib.mkIf cfg.enable {
    assertions = options.secretsStayOutside cfg ++ [
      {
        assertion = carrier == pinned;
        message = "services.rcc.package has gvproxy ${carrier}, and only ${pinned} was read for what a guest can ask of it: nixpkgs.overlays = [ (_: prev: { gvproxy = … }) ]; with that version.";
      }
    ];
    warnings = [
      "services.rcc: nothing of rcc has run on a Mac yet (docs/macos.md): count on nothing before `rcc check` says ready."
    ]
    ++ options.someoneMay cfg;

    environment.etc."rcc/policy.toml".source = self.lib.policy.file {
      inherit pkgs;
      rcc = cfg.package;
      settings = cfg.policy;
    };
    environment.launchDaemons = lib.genAttrs (map (label: "${label}.plist") labels) (file: {
      source = "${daemons}/${file}";
    });

    users = {
      knownUsers = [ "_rcc" ];
      knownGroups = lib.attrNames groups;
      users._rcc = user;
      inherit groups;
    };

    # The carrier wants its group's bit, which no store keeps, and `rcc` looks for it where setup places it: so that does all
    # of them, and people have `rcc` in /usr/local/bin. It comes last: the daemons are loaded by then, so the firewall is in
    # force before anything can leave by it.
    system.activationScripts.postActivation.text = "${cfg.package}/bin/rcc-setup place\n";
  };
}
