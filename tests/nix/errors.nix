# Configurations that must not be accepted: `value.NAME` fails, and says `says.NAME`. `meaningless` evaluates, and its build
# fails.
{ flake }:
let
  root = /. + flake;
  pkgs = import ./nixpkgs {
    system = builtins.currentSystem;
    overlays = [ (import (root + "/nix/overlay.nix") { nix2container = { }; }) ];
  };
  inherit (pkgs) lib;
  self = {
    packages.${pkgs.stdenv.hostPlatform.system}.rcc = pkgs.rcc;
    lib = import (root + "/nix/lib.nix") { inherit lib; };
    nixosModules.default = import (root + "/modules/nixos.nix") { inherit self; };
    darwinModules.default = import (root + "/modules/darwin.nix") { inherit self; };
    homeManagerModules.default = import (root + "/modules/home.nix") { inherit self; };
  };
  evaluate = import ./modules/evaluate.nix { inherit lib pkgs self; };
  of =
    policy:
    (evaluate.nixos {
      services.rcc = {
        enable = true;
        inherit policy;
      };
    }).config.services.rcc.policy;
  agent =
    tidy:
    (evaluate.nixos {
      services.rcc = {
        enable = true;
        agents = { inherit tidy; };
      };
    }).config.services.rcc.agents;
  ofMac =
    more:
    (evaluate.darwin {
      services.rcc = {
        enable = true;
      }
      // more;
    }).config.services.rcc;
  failed = evaluated: if evaluated.failed == [ ] then true else throw (lib.head evaluated.failed);
  leak =
    file:
    evaluate.nixos {
      services.rcc = {
        enable = true;
        policy.credentials.anthropic.key_file = file;
      };
    };
  cases = {
    unknownKey = {
      says = "The option `services.rcc.policy.alow' does not exist";
      value = of { alow = [ ]; };
    };
    unknownLimit = {
      says = "The option `services.rcc.policy.limits.memroy' does not exist";
      value = of { limits.memroy = "8GiB"; };
    };
    unknownCredential = {
      says = "The option `services.rcc.policy.credentials.antropic' does not exist";
      value = of { credentials.antropic = { }; };
    };
    unknownSetting = {
      says = "The option `services.rcc.polcy' does not exist";
      value = (evaluate.nixos { services.rcc.polcy = { }; }).config.services.rcc;
    };
    textForList = {
      says = "A definition for option `services.rcc.policy.allow' is not of type `list of string'";
      value = of { allow = "github.com:443"; };
    };
    numberInList = {
      says = "A definition for option `services.rcc.policy.deny.\"[definition 1-entry 1]\"' is not of type `string'";
      value = of { deny = [ 25 ]; };
    };
    textForNumber = {
      says = "A definition for option `services.rcc.policy.limits.pids' is not of type";
      value = of { limits.pids = "many"; };
    };
    otherWord = {
      says = "A definition for option `services.rcc.policy.limits.unenforceable' is not of type";
      value = of { limits.unenforceable = "ignore"; };
    };
    relativePath = {
      says = "A definition for option `services.rcc.policy.ca_bundle' is not of type";
      value = of { ca_bundle = "corp.pem"; };
    };
    otherResolvers = {
      says = "A definition for option `services.rcc.policy.resolvers' is not of type";
      value = of { resolvers = "dns.example"; };
    };
    proxyWithoutUrl = {
      says = "The option `services.rcc.policy.upstream_proxy.url' was accessed but has no value defined";
      value = of { upstream_proxy.via = "10.0.0.0/24"; };
    };
    agentWithoutProject = {
      says = "The option `services.rcc.agents.tidy.project' was accessed but has no value defined";
      value = agent {
        user = "alice";
        prompt = "tidy";
        calendar = "daily";
      };
    };
    emptyPrompt = {
      says = "A definition for option `services.rcc.agents.tidy.prompt' is not of type `non-empty string'";
      value = agent {
        user = "alice";
        project = "/home/alice/app";
        prompt = "";
        calendar = "daily";
      };
    };
    keyInTheStore = {
      says = "services.rcc.policy.credentials.anthropic.key_file would lie in the Nix store";
      value = failed (leak ./policy.toml);
    };
    keyOfTheStore = {
      says = "services.rcc.policy.credentials.anthropic.key_file would lie in the Nix store";
      value = failed (leak "${./policy.toml}");
    };
    macUnknownKey = {
      says = "The option `services.rcc.policy.alow' does not exist";
      value = (ofMac { policy.alow = [ ]; }).policy;
    };
    macTextForList = {
      says = "A definition for option `services.rcc.policy.users' is not of type `list of string'";
      value = (ofMac { policy.users = "alice"; }).policy.users;
    };
    # systemd's timers run those, which a Mac does not have.
    macAgents = {
      says = "The option `services.rcc.agents' does not exist";
      value = (ofMac { agents = { }; }).policy;
    };
    macKeyInTheStore = {
      says = "services.rcc.policy.credentials.anthropic.key_file would lie in the Nix store";
      value = failed (
        evaluate.darwin {
          services.rcc = {
            enable = true;
            policy.credentials.anthropic.key_file = ./policy.toml;
          };
        }
      );
    };
    macOtherCarrier = {
      says = "services.rcc.package has gvproxy 0.9.0, and only 0.8.9 was read";
      value = failed (
        evaluate.darwin {
          services.rcc = {
            enable = true;
            package = pkgs.rcc // {
              carrier = "0.9.0";
              pinned = "0.8.9";
            };
          };
        }
      );
    };
    macOthersUser = {
      says = "The option `users.users._rcc.uid' has conflicting definition values";
      value =
        (evaluate.darwin {
          services.rcc.enable = true;
          users.users._rcc.uid = 501;
        }).config.users.users._rcc.uid;
    };
    policyAtHome = {
      says = "programs.rcc.policy: the policy is root's";
      value = failed (
        evaluate.home {
          programs.rcc = {
            enable = true;
            policy.users = [ "me" ];
          };
        }
      );
    };
  };
in
{
  says = lib.mapAttrs (_: case: case.says) cases;
  value = lib.mapAttrs (_: case: case.value) cases;
  meaningless = self.lib.policy.file {
    inherit pkgs;
    settings.allow = [ "github.com" ];
  };
}
