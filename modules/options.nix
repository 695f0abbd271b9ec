# The options of all three modules. `policy` has the keys of /etc/rcc/policy.toml by their own names, with docs/policy.md
# as their manual. A key that is not set is not written, so its default is the policy's own. Types are all that is judged
# here: what an endpoint means, `rcc policy check` says when the file is built.
{ lib }:
let
  inherit (lib) literalExpression mkOption types;
  list =
    description: example:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      inherit description example;
    };
  maybe =
    type: description: example:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description example;
    };
  size = types.either types.str types.int;
  # Root's file that stays outside of the store, which everybody can read.
  secret = maybe types.path;
  secretsOf =
    cfg:
    lib.optional (cfg.policy.credentials.anthropic != null) {
      name = "policy.credentials.anthropic.key_file";
      file = cfg.policy.credentials.anthropic.key_file;
    }
    ++ lib.optional (lib.isAttrs cfg.policy.upstream_proxy) {
      name = "policy.upstream_proxy.credentials_file";
      file = cfg.policy.upstream_proxy.credentials_file;
    }
    ++ lib.mapAttrsToList (name: agent: {
      name = "agents.${name}.key_file";
      file = agent.key_file;
    }) (cfg.agents or { });
in
{
  # What the modules that write a policy assert, and of what they warn.
  secretsStayOutside =
    cfg:
    map (secret: {
      assertion =
        secret.file == null || lib.isString secret.file && !lib.hasPrefix builtins.storeDir secret.file;
      message = "services.rcc.${secret.name} would lie in the Nix store, which everybody can read: name a file outside of it by a string, such as \"/run/keys/anthropic\".";
    }) (secretsOf cfg);
  someoneMay =
    cfg:
    lib.optional (cfg.policy.users == [ ])
      "services.rcc.policy.users names nobody, so nobody can open a session: services.rcc.policy.users = [ \"alice\" ];";

  enable = lib.mkEnableOption "rcc, which isolates AI coding agents";

  package =
    default:
    mkOption {
      type = types.package;
      inherit default;
      defaultText = literalExpression "rcc.packages.\${system}.rcc";
      description = "The package of rcc's programs.";
    };

  policy = {
    users = list "Who may open sessions: users, ids, and groups as `@name`. Never root." [
      "alice"
      "@devs"
    ];
    allow = list "What every session reaches: endpoints and sets." [
      "@claude"
      "@github"
      "docs.example.org:443"
    ];
    deny = list "What no session reaches; it wins over everything else." [ "gist.github.com" ];
    private = list "What is allowed at addresses that are not public." [
      "git.corp.example:443 via 10.20.0.0/16"
    ];
    may_allow =
      maybe (types.listOf types.str) "What a person may grant a project; an empty list is nothing."
        [ "*:443" ];
    resolvers = maybe (types.either (types.enum [ "system" ]) (
      types.listOf types.str
    )) "Whom the gateway asks for names." [ "tls://9.9.9.9#dns.quad9.net" ];
    ca_bundle =
      maybe types.path "More CA certificates for the gateway's own TLS."
        "/etc/ssl/certs/corp.pem";
    fake_ip = maybe (types.either types.str (
      types.listOf types.str
    )) "Made-up addresses of a VPN that count as public." "198.18.0.0/15";
    upstream_proxy = maybe (types.either types.str (
      types.submodule {
        options = {
          url = mkOption {
            type = types.str;
            description = "Its address.";
            example = "http://proxy.corp.example:3128";
          };
          via = maybe types.str "The range that its addresses lie in, if they are not public." "10.0.0.0/24";
          credentials_file = secret "A file with `user:password`." "/etc/rcc/proxy";
        };
      }
    )) "The one way out, if there is one." "http://proxy.corp.example:3128";
    credentials = {
      anthropic =
        maybe
          (types.submodule {
            options = {
              upstream =
                maybe types.str "Where the gateway sends what comes for the model."
                  "api.anthropic.com:443";
              key_file = secret "A key for sessions that bring none; root's, readable by group rcc." "/run/keys/anthropic";
            };
          })
          "The model's endpoint; `{ }` for Anthropic's own. Without it `rcc claude` has none to talk to."
          { };
    };
    limits = {
      memory = maybe types.str "Memory and swap together." "8GiB";
      cpus = maybe (types.either types.str types.number) "Processor time." 2;
      pids = maybe types.int "Processes and threads." 4096;
      core = maybe size "The longest core dump, in bytes." 1;
      sessions = maybe types.int "Sessions of one user at once." 32;
      connections = maybe types.int "Connections of a session at once." 1024;
      names = maybe types.int "Names that a session may look up." 4096;
      unenforceable = maybe (types.enum [
        "warn"
        "refuse"
      ]) "What to do where the kernel can't keep a limit." "refuse";
    };
    protect.read_only =
      maybe (types.listOf types.str) "What of a project the agent can't write, instead of the default."
        [ ".envrc" ];
  };

  agents = mkOption {
    default = { };
    description = "Agents that run by themselves, each in a project, at its times.";
    example = literalExpression ''
      { tidy = { user = "alice"; project = "/home/alice/app"; prompt = "Fix what the linter says."; calendar = "daily"; }; }
    '';
    type = types.attrsOf (
      types.submodule {
        options = {
          user = mkOption {
            type = types.str;
            description = "Whose session it is; the policy's `users` must name them.";
            example = "alice";
          };
          project = mkOption {
            type = types.path;
            description = "The project's folder.";
            example = "/home/alice/app";
          };
          prompt = mkOption {
            type = types.nonEmptyStr;
            description = "What Claude Code is told.";
            example = "Fix what the linter says.";
          };
          calendar = mkOption {
            type = types.nonEmptyStr;
            description = "When, as systemd.time(7) has it.";
            example = "Mon..Fri 06:00";
          };
          key_file = secret "A file with the key, readable by that user alone; else what `rcc login` has." "/home/alice/.key";
        };
      }
    );
  };
}
