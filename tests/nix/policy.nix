# A policy with every key, as the modules take it; policy.toml has the same by hand.
{
  users = [
    "alice"
    "@devs"
  ];
  allow = [
    "@claude"
    "@github"
    "docs.example.org:80,443"
    "192.0.3.0/24:443"
  ];
  deny = [
    "gist.github.com"
    "*:25"
  ];
  private = [
    "git.corp.example:22,443 via 10.20.0.0/16"
    "10.30.1.5:8443"
  ];
  may_allow = [ "*:443" ];
  resolvers = [
    "9.9.9.9"
    "tls://149.112.112.112#dns.quad9.net"
  ];
  ca_bundle = "/etc/ssl/certs/corp.pem";
  fake_ip = "198.18.0.0/15";
  upstream_proxy = {
    url = "https://proxy.corp.example:3128";
    via = "10.0.0.0/24";
    credentials_file = "/etc/rcc/proxy";
  };
  credentials.anthropic = {
    upstream = "llm.corp.example:443 via 10.20.0.0/16";
    key_file = "/etc/rcc/key";
  };
  limits = {
    memory = "8GiB";
    cpus = 1.5;
    pids = 2048;
    core = 1;
    sessions = 8;
    connections = 512;
    names = 1000;
    unenforceable = "warn";
  };
  protect.read_only = [
    ".envrc"
    "a \"quoted\" \\ name"
  ];
}
