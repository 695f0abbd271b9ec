//! The command: makes worlds, and is each of their servers.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use rcc_world::dns::Dns;
use rcc_world::model::{Keys, Model};
use rcc_world::routes::Site;
use rcc_world::runner::{self, Options};
use rcc_world::servers::{Manner, Shared, tcp};
use rcc_world::{hostservices, internet, map, witness};

/// A small internet in network namespaces, for rcc's tests.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Run a command in a new world; its exit code is given back
    Run(RunArgs),
    /// Serve the scripted model on a plain HTTP port, without a world
    Model(ModelArgs),
    /// Print the names and addresses of every world
    Map,
    /// Make the internet around this machine, which is a virtual one of the tests'
    #[command(hide = true)]
    Surround,
    #[command(hide = true)]
    Internet(ServerArgs),
    #[command(hide = true)]
    Hostservices(ServerArgs),
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line, by itself")]
struct RunArgs {
    /// Copy the world's logs there at the end
    #[arg(long, value_name = "DIR")]
    keep_log: Option<PathBuf>,
    /// Prepare this unprivileged user for rootless Podman; made, in the world only, if the machine has none of that name
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The new user's number
    #[arg(long, default_value_t = 4177)]
    uid: u32,
    /// The user's home [default: /home/NAME on tmpfs]
    #[arg(long, value_name = "DIR", requires = "user")]
    home: Option<PathBuf>,
    /// Run the command as that user
    #[arg(long, requires = "user")]
    as_user: bool,
    /// Keep this folder as it is, though the world replaces one above it
    #[arg(long, value_name = "DIR")]
    expose: Vec<PathBuf>,
    /// Give the world a /tmp of its own
    #[arg(long)]
    private_tmp: bool,
    /// Don't record packets
    #[arg(long)]
    no_wire: bool,
    /// Stay in the machine's own network, without an internet of the world's
    #[arg(long, conflicts_with = "keep_log")]
    machine_network: bool,
    /// Names that the world does not have are those of the machine's own network
    #[arg(long, conflicts_with = "machine_network")]
    outside: bool,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Args)]
struct ModelArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: SocketAddr,
    /// The script; it is read anew for each request
    #[arg(long, value_name = "FILE")]
    script: PathBuf,
    /// Where each exchange is logged
    #[arg(long, value_name = "FILE", default_value = "model.jsonl")]
    log: PathBuf,
    /// Answer 401 to whoever hasn't this API key or token
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Args)]
struct ServerArgs {
    #[arg(long)]
    description: PathBuf,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("rcc-world: {e:#}");
            ExitCode::from(runner::FAILED)
        }
    }
}

fn run(command: Sub) -> Result<ExitCode> {
    match command {
        Sub::Run(args) => {
            let options = Options {
                keep_log: args.keep_log,
                user: args.user,
                uid: args.uid,
                home: args.home,
                as_user: args.as_user,
                expose: args.expose,
                private_tmp: args.private_tmp,
                no_wire: args.no_wire,
                machine_network: args.machine_network,
                outside: args.outside,
                command: args.command,
            };
            return runner::run(&options).map(ExitCode::from);
        }
        Sub::Model(args) => {
            let keys = args.key.map(|k| Keys { api_key: k.clone(), oauth_token: k });
            let model = Model::new(&args.script, &args.log, keys)?;
            let site = Site::new(Some(model), Arc::new(Dns::default()), String::new(), Path::new("/nonexistent"))?;
            let shared = Arc::new(Shared { site, authority: None, named: |_| "model".into() });
            tcp(args.http, Manner::Sniff, &shared)?;
            internet::say(&format!("http://{}", args.http))?;
            internet::forever()
        }
        Sub::Map => {
            for entry in map::ZONE {
                println!("{:<36} {:>10} {:?}", entry.name, entry.ttl, entry.answer);
            }
        }
        Sub::Surround => runner::surround()?,
        Sub::Internet(args) => {
            witness::open(&args.description.with_file_name("witness.jsonl"))?;
            internet::run(&args.description)?;
        }
        Sub::Hostservices(args) => hostservices::run(&args.description)?,
    }
    Ok(ExitCode::SUCCESS)
}
