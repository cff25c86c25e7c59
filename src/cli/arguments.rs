//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audit::LogMark;
use crate::config::Flags;
use crate::identity::admins::Role;

/// A flash-sale gateway: never oversold, nothing promised is lost, the last unit sells.
#[derive(Debug, Parser)]
#[command(name = "floodgate", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Arguments {
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  floodgate demo                             a whole sale on this machine, then its books
  floodgate serve --data-dir ./data          the gateway
  floodgate sale create sale.json            make a sale known
  floodgate sale open black-friday           start selling
  floodgate audit --data-dir ./data          prove the books; exit code 0 or 3";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway.
    #[command(after_help = "Examples:
  floodgate serve
  floodgate serve --listen 0.0.0.0:8080 --data-dir /var/lib/floodgate
  floodgate serve --auth insecure            for load tests, on loopback only")]
    Serve {
        /// Where the configuration comes from.
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Run a whole sale on this machine: a gateway, a burst of buyers, the audit.
    #[command(after_help = "Examples:
  floodgate demo
  floodgate demo --users 20000 --stock 500 --exit")]
    Demo(DemoArguments),
    /// Create, open, pause, resume, close, restock and look at sales.
    #[command(after_help = "Examples:
  floodgate sale create sale.json
  floodgate sale open black-friday
  floodgate sale restock black-friday sku-1 +50 --reason 'second delivery'
  floodgate sale restock black-friday sku-1 +50 --reason 'second delivery' --key KEY   # again")]
    Sale {
        /// Where the gateway is.
        #[command(flatten)]
        ops: OpsArguments,
        /// What to do.
        #[command(subcommand)]
        command: SaleCommand,
    },
    /// See and set what a running gateway does without.
    #[command(after_help = "Examples:
  floodgate switch list
  floodgate switch set reservations off --reason 'the prices are wrong'
Each gateway has switches of its own.")]
    Switch {
        /// Where the gateway is.
        #[command(flatten)]
        ops: OpsArguments,
        /// What to do.
        #[command(subcommand)]
        command: SwitchCommand,
    },
    /// Read ledger and books directly and prove that they keep every promise.
    #[command(after_help = "Examples:
  floodgate audit --data-dir /var/lib/floodgate
  floodgate audit --redis-url redis://10.0.0.5 --database-url postgres://floodgate@10.0.0.6/floodgate
  floodgate audit --sale black-friday --json

Works beside a running gateway and without one.
Exit codes: 0 everything holds, 3 a promise is broken, 4 there is nothing to audit.")]
    Audit {
        /// Where the data is.
        #[command(flatten)]
        config: ConfigArguments,
        /// This sale only.
        #[arg(long, value_name = "ID")]
        sale: Option<String>,
        /// A link of the audit log that was seen before, and must still be there. May be repeated.
        #[arg(long = "log-mark", value_name = "LANE:LINK:HASH", value_parser = log_mark,
              allow_hyphen_values = true)]
        log_marks: Vec<LogMark>,
    },
    /// See and settle what the writer could not put into the books.
    #[command(after_help = "Examples:
  floodgate deadletters list
  floodgate deadletters retry 0-1-4711    # once its cause is mended
  floodgate deadletters drop 0-1-4711     # goes into the audit log, whole")]
    Deadletters {
        /// Where the gateway is.
        #[command(flatten)]
        ops: OpsArguments,
        /// What to do.
        #[command(subcommand)]
        command: DeadLetterCommand,
    },
    /// Say what ledger and books disagree about, and mend it.
    #[command(after_help = "Examples:
  floodgate reconcile --data-dir /var/lib/floodgate
  floodgate reconcile --data-dir /var/lib/floodgate --repair

Works beside a running gateway and without one. What is mended follows from the
ledger's own events; where those are in doubt, nothing is.
Exit codes: 0 they agree (now), 3 they do not, 4 there is nothing to look at.")]
    Reconcile {
        /// Where the data is.
        #[command(flatten)]
        config: ConfigArguments,
        /// This sale only.
        #[arg(long, value_name = "ID")]
        sale: Option<String>,
        /// Write what can be written safely, try dead letters again, and say what was done.
        #[arg(long)]
        repair: bool,
    },
    /// Make admin tokens.
    #[command(after_help = "Examples:
  floodgate token create --name ann --role operate
  floodgate token create --name grafana --role read | { read token; cat >> admin-tokens; echo $token; }

The first line is the token, which is kept nowhere; the second is for the file of `admin_tokens_file`.")]
    Token {
        /// What to do.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Check the surroundings: descriptors, backlog, disk, clock, secrets, Redis, PostgreSQL.
    #[command(after_help = "Examples:
  floodgate doctor --config /etc/floodgate.toml
  REDIS_URL=redis://10.0.0.5 DATABASE_URL=postgres://floodgate@10.0.0.6/floodgate floodgate doctor

Changes nothing. Exit codes: 0 fit for a sale, warnings aside; 1 something is failing.")]
    Doctor {
        /// What the surroundings are checked for.
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Check or print the configuration.
    #[command(after_help = "Examples:
  floodgate config check --config /etc/floodgate.toml
  floodgate config print --show-origin")]
    Config {
        /// What to do.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Ask a running gateway whether it lives; for containers.
    #[command(after_help = "Examples:
  floodgate healthcheck
  floodgate healthcheck --ops-url http://127.0.0.1:9090

Exit codes: 0 it lives, 1 it answers something else, 4 nobody answers.")]
    Healthcheck {
        /// Where the gateway is.
        #[command(flatten)]
        ops: OpsArguments,
    },
    /// Print completions for a shell.
    #[command(after_help = "Examples:
  floodgate completions bash > ~/.local/share/bash-completion/completions/floodgate
  floodgate completions zsh > \"${fpath[1]}/_floodgate\"")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where the configuration comes from. A flag counts before the environment, that before the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArguments {
    /// A TOML file [env: FLOODGATE_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where buyers connect [env: FLOODGATE_LISTEN] [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where operators connect [env: FLOODGATE_OPS_LISTEN] [default: 127.0.0.1:9090].
    #[arg(long, value_name = "ADDRESS")]
    pub ops_listen: Option<String>,
    /// Where ledger and books are [env: FLOODGATE_DATA_DIR] [default: ./floodgate-data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// A Redis ledger: redis://HOST:PORT, rediss://…, unix:///PATH, a comma list of redis:// (cluster), or
    /// redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY [env: REDIS_URL].
    #[arg(long, value_name = "URL")]
    pub redis_url: Option<String>,
    /// Another store: postgres://USER@HOST:PORT/DATABASE or sqlite:PATH [env: DATABASE_URL].
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// How buyers are told apart: header, jwt or insecure [env: FLOODGATE_AUTH] [default: header].
    #[arg(long, value_name = "MODE")]
    pub auth: Option<String>,
    /// Take `--auth insecure` on an address that others can reach.
    #[arg(long)]
    pub i_know_this_is_insecure: bool,
    /// Any key of the configuration, such as `ledger.lanes=2`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

fn log_mark(text: &str) -> Result<LogMark, String> {
    LogMark::parse(text).ok_or_else(|| "must be LANE:LINK:HASH".to_owned())
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

impl ConfigArguments {
    /// The flags as the configuration takes them.
    pub fn flags(&self) -> Flags {
        let named = [
            ("listen", &self.listen),
            ("ops_listen", &self.ops_listen),
            ("data_dir", &self.data_dir),
            ("redis_url", &self.redis_url),
            ("database_url", &self.database_url),
            ("auth", &self.auth),
        ];
        let named =
            named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        let insecure = self
            .i_know_this_is_insecure
            .then(|| ("i_know_this_is_insecure".to_owned(), "true".to_owned()));
        Flags {
            file: self.config.clone(),
            values: self.set.iter().cloned().chain(named).chain(insecure).collect(),
        }
    }
}

/// Where a running gateway's ops API is, and who may use it. What no flag says is the configuration's.
#[derive(Args, Clone, Debug)]
pub struct OpsArguments {
    /// The ops API [env: FLOODGATE_OPS_URL] [default: where `ops_listen` is].
    #[arg(long, global = true, value_name = "URL")]
    pub ops_url: Option<String>,
    /// The admin token; else that of the data dir [env: FLOODGATE_ADMIN_TOKEN].
    #[arg(long, global = true, value_name = "TOKEN")]
    pub admin_token: Option<String>,
    /// Where `admin.token` is, if no token is given [env: FLOODGATE_DATA_DIR]
    /// [default: ./floodgate-data].
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The gateway's TOML file, for what is not given [env: FLOODGATE_CONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What can be done to sales.
#[derive(Debug, Subcommand)]
pub enum SaleCommand {
    /// Make a sale known.
    Create {
        /// A JSON file, or - for standard input.
        file: PathBuf,
    },
    /// All sales.
    List,
    /// One sale with its counters.
    Show {
        /// The sale.
        id: String,
    },
    /// Start selling now.
    Open {
        /// The sale.
        id: String,
    },
    /// Stop for now.
    Pause {
        /// The sale.
        id: String,
    },
    /// Go on after a pause.
    Resume {
        /// The sale.
        id: String,
    },
    /// Stop for good.
    Close {
        /// The sale.
        id: String,
    },
    /// Move the orders of a closed sale out of the writer's way. They are shown as before.
    Archive {
        /// The sale.
        id: String,
    },
    /// Add units to an item, or take some out.
    Restock {
        /// The sale.
        id: String,
        /// The item.
        item: String,
        /// Units, such as 50 or -20.
        #[arg(allow_hyphen_values = true)]
        delta: i64,
        /// For the audit log.
        #[arg(long)]
        reason: String,
        /// Makes this change once, however often it is asked for: give it again where the outcome is unknown
        /// [default: a new one].
        #[arg(long)]
        key: Option<String>,
    },
}

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// All of them, oldest first.
    List,
    /// One of them, whole.
    Show {
        /// LANE-EPOCH-SEQ, as `list` shows it.
        id: String,
    },
    /// Put it into the books after all.
    Retry {
        /// LANE-EPOCH-SEQ, as `list` shows it.
        id: String,
    },
    /// Give it up.
    Drop {
        /// LANE-EPOCH-SEQ, as `list` shows it.
        id: String,
    },
}

/// What can be done with admin tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token, and its line for the file.
    Create {
        /// Whose it is: what the audit log will say.
        #[arg(long)]
        name: String,
        /// What it is for.
        #[arg(long)]
        role: Role,
    },
}

/// What can be done with switches.
#[derive(Debug, Subcommand)]
pub enum SwitchCommand {
    /// All of them, and who put them as they are.
    List,
    /// Put one.
    Set {
        /// `reservations`, `carts_read_only`, `reads_from_cache` or `read_only`.
        name: String,
        /// How.
        #[arg(value_enum)]
        to: OnOff,
        /// Why; for the log.
        #[arg(long)]
        reason: String,
    },
}

/// How a switch is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// On.
    On,
    /// Off.
    Off,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with it; exit code 64 if anything is.
    Check {
        /// Where it comes from.
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Print it, secrets masked.
    Print {
        /// Where it comes from.
        #[command(flatten)]
        config: ConfigArguments,
        /// Say where each value was set.
        #[arg(long)]
        show_origin: bool,
    },
}

/// A demonstration.
#[derive(Args, Debug)]
pub struct DemoArguments {
    /// How many buyers come.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub users: u64,
    /// How many units there are.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub stock: u64,
    /// End after the report, with the audit's exit code, rather than stay up.
    #[arg(long)]
    pub exit: bool,
    /// Where buyers connect; a free port, if that one is taken.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where operators connect; a free port, if that one is taken.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub ops_listen: SocketAddr,
    /// Keep the data here instead of in a folder that is thrown away.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What the crowd does follows from this number.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
