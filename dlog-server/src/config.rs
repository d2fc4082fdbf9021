//! What a node is told at start: flags, environment and file become one [`NodeConfig`], checked once and never read again.
//!
//! Precedence: flag, then environment (`DLOG_…`), then the file's key (the flag's name with `_` for `-`), then the default.
//! An unknown key in the file and a nonsense value anywhere are refused with the name and what is allowed.

use crate::cli::units;
use anyhow::{Context, bail, ensure};
use dlog_core::limits;
use dlog_storage::StallBounds;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `dlog serve`: flags and their environment variables.
#[derive(clap::Args, Debug, Default, Clone)]
pub struct ServeArgs {
    /// This node's name, unique in the cluster
    #[arg(long, env = "DLOG_NAME")]
    pub name: Option<String>,
    /// Where this node keeps its data; made if it is missing
    #[arg(long, env = "DLOG_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients connect (gRPC) [default: 127.0.0.1:7411]
    #[arg(long, env = "DLOG_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// The address that clients are told [default: the listen address]
    #[arg(long, env = "DLOG_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where other nodes connect (gRPC) [default: 127.0.0.1:7412]
    #[arg(long, env = "DLOG_PEER_LISTEN", value_name = "HOST:PORT")]
    pub peer_listen: Option<String>,
    /// The address that other nodes are told [default: the peer listen address]
    #[arg(long, env = "DLOG_PEER_ADVERTISE", value_name = "HOST:PORT")]
    pub peer_advertise: Option<String>,
    /// Where HTTP answers /livez, /readyz and /metrics [default: 127.0.0.1:7413]
    #[arg(long, env = "DLOG_OPS_LISTEN", value_name = "HOST:PORT")]
    pub ops_listen: Option<String>,
    /// Form a new cluster of these nodes: name=HOST:PEERPORT,… (the same list on each)
    #[arg(long, env = "DLOG_INITIAL_CLUSTER", value_name = "LIST")]
    pub initial_cluster: Option<String>,
    /// The rack this node stands in: replicas are spread over racks
    #[arg(long, env = "DLOG_RACK", value_name = "NAME")]
    pub rack: Option<String>,
    /// A name for the cluster, shown by `cluster status`
    #[arg(long, env = "DLOG_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Shards of a new data directory [default: one for every four cores, at least one]
    #[arg(long, env = "DLOG_SHARDS", value_name = "N", value_parser = parse_shards)]
    pub shards: Option<u16>,
    /// A TOML file with these settings
    #[arg(long, env = "DLOG_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen beyond loopback although TLS and authentication are off
    #[arg(long, env = "DLOG_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub insecure: Option<bool>,
    /// A cluster of one beyond loopback takes writes only with this
    #[arg(long, env = "DLOG_SINGLE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub single: Option<bool>,
    /// Bytes that stay free on the disk: below, no records are taken [default: a twentieth of the disk, 64MiB to 1GiB]
    #[arg(long, env = "DLOG_DISK_RESERVE", value_name = "SIZE")]
    pub disk_reserve: Option<String>,
    /// A write that the disk doesn't answer for so long: leadership is handed over [default: 10s]
    #[arg(long, env = "DLOG_DISK_STUCK_AFTER", value_name = "DURATION")]
    pub disk_stuck_after: Option<String>,
    /// And for so long: the process ends, with 1 [default: 60s]
    #[arg(long, env = "DLOG_DISK_EXIT_AFTER", value_name = "DURATION")]
    pub disk_exit_after: Option<String>,
}

/// The file's keys: the flags' names with `_`.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    name: Option<String>,
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    advertise: Option<String>,
    peer_listen: Option<String>,
    peer_advertise: Option<String>,
    ops_listen: Option<String>,
    initial_cluster: Option<String>,
    rack: Option<String>,
    cluster_name: Option<String>,
    shards: Option<u16>,
    insecure: Option<bool>,
    single: Option<bool>,
    disk_reserve: Option<String>,
    disk_stuck_after: Option<String>,
    disk_exit_after: Option<String>,
}

/// A node's settings, complete and checked.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Unique in the cluster.
    pub name: String,
    /// The root of all files of this node.
    pub data_dir: PathBuf,
    /// Clients' listener.
    pub listen: SocketAddr,
    /// What clients are told.
    pub advertise: String,
    /// Peers' listener.
    pub peer_listen: SocketAddr,
    /// What peers are told.
    pub peer_advertise: String,
    /// HTTP for operators; `None` in tests that don't want one.
    pub ops_listen: Option<SocketAddr>,
    /// Name to peer address; empty: a cluster of one.
    pub initial_cluster: BTreeMap<String, String>,
    /// May be empty.
    pub rack: String,
    /// May be empty.
    pub cluster_name: String,
    /// Only for a new data directory.
    pub shards: u16,
    /// Topics come into being on first use (`dlog dev` alone).
    pub auto_create_topics: bool,
    /// Listening beyond loopback was asked for.
    pub insecure: bool,
    /// A cluster of one takes writes beyond loopback.
    pub single: bool,
    /// Bytes that stay free on the disk; `None`: a part of it.
    pub disk_reserve: Option<u64>,
    /// How long the disk may take for one operation.
    pub disk_stall: StallBounds,
}

/// Bounds of `--shards`: more than this many journals on one disk only compete for its syncs.
pub const SHARDS_MAX: u16 = 64;
/// How long the disk may take where nobody says otherwise: longer than a cloud's disk pauses for, shorter than people wait.
pub const DISK_STALL: StallBounds =
    StallBounds { stuck_after: Duration::from_secs(10), hopeless_after: Duration::from_secs(60) };
/// The shortest of these bounds: some ticks of the thread that looks.
const DISK_STALL_MIN: Duration = Duration::from_millis(500);
/// Names go into file names, metrics and command lines.
pub const NAME_BYTES_MAX: usize = 64;

impl ServeArgs {
    /// Merges flags and environment with the file, fills in defaults and checks.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn into_config(self) -> anyhow::Result<NodeConfig> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => FileSettings::default(),
        };
        let name =
            self.name.or(file.name).context("--name is missing: each node of a cluster has a name of its own")?;
        let data_dir =
            self.data_dir.or(file.data_dir).context("--data-dir is missing: where shall this node keep its data?")?;
        let listen = address("--listen", self.listen.or(file.listen).as_deref().unwrap_or("127.0.0.1:7411"))?;
        let peer_listen =
            address("--peer-listen", self.peer_listen.or(file.peer_listen).as_deref().unwrap_or("127.0.0.1:7412"))?;
        let ops_listen =
            address("--ops-listen", self.ops_listen.or(file.ops_listen).as_deref().unwrap_or("127.0.0.1:7413"))?;
        let advertise = advertised("--advertise", self.advertise.or(file.advertise), listen)?;
        let peer_advertise = advertised("--peer-advertise", self.peer_advertise.or(file.peer_advertise), peer_listen)?;
        let initial_cluster = match self.initial_cluster.or(file.initial_cluster) {
            Some(list) => parse_initial_cluster(&list)?,
            None => BTreeMap::new(),
        };
        let config = NodeConfig {
            name,
            data_dir,
            listen,
            advertise,
            peer_listen,
            peer_advertise,
            ops_listen: Some(ops_listen),
            initial_cluster,
            rack: self.rack.or(file.rack).unwrap_or_default(),
            cluster_name: self.cluster_name.or(file.cluster_name).unwrap_or_default(),
            shards: self.shards.or(file.shards).unwrap_or_else(default_shards),
            auto_create_topics: false,
            insecure: self.insecure.or(file.insecure).unwrap_or(false),
            single: self.single.or(file.single).unwrap_or(false),
            disk_reserve: parsed("--disk-reserve", self.disk_reserve.or(file.disk_reserve), units::size)?,
            disk_stall: StallBounds {
                stuck_after: parsed(
                    "--disk-stuck-after",
                    self.disk_stuck_after.or(file.disk_stuck_after),
                    units::duration,
                )?
                .unwrap_or(DISK_STALL.stuck_after),
                hopeless_after: parsed(
                    "--disk-exit-after",
                    self.disk_exit_after.or(file.disk_exit_after),
                    units::duration,
                )?
                .unwrap_or(DISK_STALL.hopeless_after),
            },
        };
        config.validate()?;
        Ok(config)
    }
}

impl NodeConfig {
    /// Refuses what can't work, by name.
    ///
    /// # Errors
    /// The setting, its value and the allowed range.
    pub fn validate(&self) -> anyhow::Result<()> {
        check_name("--name", &self.name)?;
        for (flag, value) in [("--rack", &self.rack), ("--cluster-name", &self.cluster_name)] {
            if !value.is_empty() {
                check_name(flag, value)?;
            }
        }
        ensure!(
            (1..=SHARDS_MAX).contains(&self.shards),
            "--shards is {}; it must lie between 1 and {SHARDS_MAX}",
            self.shards
        );
        let StallBounds { stuck_after, hopeless_after } = self.disk_stall;
        ensure!(
            stuck_after >= DISK_STALL_MIN && stuck_after <= hopeless_after,
            "--disk-stuck-after is {stuck_after:?} and --disk-exit-after {hopeless_after:?}; \
             the first must be at least {DISK_STALL_MIN:?}, and at most the second"
        );
        let listeners = [Some(self.listen), Some(self.peer_listen), self.ops_listen];
        for (i, a) in listeners.iter().flatten().enumerate() {
            for b in listeners.iter().flatten().skip(i + 1) {
                ensure!(a != b || a.port() == 0, "two listeners share the address {a}: give each its own port");
            }
        }
        if !self.insecure
            && let Some(open) = listeners.iter().flatten().find(|a| !a.ip().is_loopback())
        {
            bail!(
                "{open} can be reached from other machines, but TLS and authentication are not built yet: \
                 listen on 127.0.0.1, or say --insecure if the network itself is trusted"
            );
        }
        if !self.initial_cluster.is_empty() {
            ensure!(
                self.initial_cluster.contains_key(&self.name),
                "--initial-cluster doesn't list this node ({}): the list names every first node, this one included",
                self.name
            );
            ensure!(
                self.initial_cluster.len() <= limits::INITIAL_CLUSTER_NODES_MAX,
                "--initial-cluster lists {} nodes; at most {} can form a cluster at once",
                self.initial_cluster.len(),
                limits::INITIAL_CLUSTER_NODES_MAX
            );
        }
        Ok(())
    }

    /// Whether this node alone is the cluster it would form.
    pub fn forms_cluster_of_one(&self) -> bool {
        self.initial_cluster.len() <= 1
    }

    /// Whether any client listener can be reached from another machine.
    pub fn beyond_loopback(&self) -> bool {
        !self.listen.ip().is_loopback()
    }
}

/// A number of shards, or what is allowed.
fn parse_shards(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=SHARDS_MAX).contains(number));
    number.ok_or_else(|| format!("it must be a number from 1 to {SHARDS_MAX}"))
}

/// A value with a unit, or what is allowed.
fn parsed<T>(flag: &str, text: Option<String>, parse: fn(&str) -> Result<T, String>) -> anyhow::Result<Option<T>> {
    let value = text.map(|text| parse(&text).map_err(|allowed| anyhow::anyhow!("{flag}: {allowed}")));
    value.transpose()
}

fn default_shards() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    u16::try_from(cores / 4).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX)
}

fn read_file(path: &Path) -> anyhow::Result<FileSettings> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("can't read the config file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("the config file {} is wrong", path.display()))
}

fn check_name(flag: &str, name: &str) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(good),
        "{flag} is {name:?}; allowed are 1 to {NAME_BYTES_MAX} of the characters A-Z a-z 0-9 . _ -"
    );
    Ok(())
}

fn address(flag: &str, text: &str) -> anyhow::Result<SocketAddr> {
    let mut found = text
        .to_socket_addrs()
        .with_context(|| format!("{flag} is {text:?}; it must be HOST:PORT with a host of this machine"))?;
    found.next().with_context(|| format!("{flag} is {text:?}; that host has no address"))
}

fn advertised(flag: &str, given: Option<String>, listen: SocketAddr) -> anyhow::Result<String> {
    match given {
        Some(text) => {
            check_host_port(flag, &text)?;
            Ok(text)
        }
        None if is_wildcard(listen.ip()) => {
            bail!("listening on {listen} needs {flag} HOST:PORT: others can't connect to a wildcard address")
        }
        None => Ok(listen.to_string()),
    }
}

fn is_wildcard(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

/// Checks the form of an address that may name a host which doesn't resolve yet.
fn check_host_port(flag: &str, text: &str) -> anyhow::Result<()> {
    let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port)?.parse::<u16>().ok());
    ensure!(port.is_some_and(|p| p > 0), "{flag} is {text:?}; it must be HOST:PORT with a port from 1 to 65535");
    Ok(())
}

/// Parses `n1=HOST:PORT,n2=…`.
///
/// # Errors
/// The part that is wrong: no `=`, a bad name, a bad address, or a name or address given twice.
pub fn parse_initial_cluster(list: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut nodes = BTreeMap::new();
    for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let Some((name, address)) = part.split_once('=') else {
            bail!("--initial-cluster has {part:?}; each part must be NAME=HOST:PEERPORT");
        };
        check_name("a name in --initial-cluster", name)?;
        check_host_port("an address in --initial-cluster", address)?;
        ensure!(!nodes.values().any(|a| a == address), "--initial-cluster gives the address {address} to two nodes");
        ensure!(
            nodes.insert(name.to_string(), address.to_string()).is_none(),
            "--initial-cluster names {name} twice: two nodes can't share a name"
        );
    }
    ensure!(!nodes.is_empty(), "--initial-cluster is empty; it must be NAME=HOST:PEERPORT,…");
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ServeArgs {
        ServeArgs { name: Some("n1".into()), data_dir: Some("d".into()), shards: Some(1), ..ServeArgs::default() }
    }

    #[test]
    fn defaults_are_loopback() {
        let config = args().into_config().expect("valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:7411");
        assert_eq!(config.advertise, "127.0.0.1:7411");
        assert_eq!(config.peer_advertise, "127.0.0.1:7412");
        assert!(config.forms_cluster_of_one());
    }

    #[test]
    fn beyond_loopback_needs_insecure() {
        let open = || ServeArgs { listen: Some("0.0.0.0:7411".into()), advertise: Some("db1:7411".into()), ..args() };
        let error = open().into_config().expect_err("refused").to_string();
        assert!(error.contains("--insecure"), "{error}");
        assert!(ServeArgs { insecure: Some(true), ..open() }.into_config().is_ok());
    }

    #[test]
    fn a_wildcard_needs_an_advertised_address() {
        let wild = ServeArgs { listen: Some("0.0.0.0:7411".into()), insecure: Some(true), ..args() };
        assert!(wild.into_config().expect_err("refused").to_string().contains("--advertise"));
    }

    #[test]
    fn the_list_names_each_node_once() {
        assert_eq!(parse_initial_cluster("a=h:1,b=h:2").expect("valid").len(), 2);
        for (list, says) in [
            ("a=h:1,a=h:2", "twice"),
            ("a=h:1,b=h:1", "two nodes"),
            ("a", "NAME=HOST"),
            ("a=h", "HOST:PORT"),
            ("", "empty"),
        ] {
            let error = parse_initial_cluster(list).expect_err(list).to_string();
            assert!(error.contains(says), "{list}: {error}");
        }
        let other = ServeArgs { initial_cluster: Some("x=h:1".into()), ..args() };
        assert!(other.into_config().expect_err("refused").to_string().contains("doesn't list this node"));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (bad, flag) in [
            (ServeArgs { name: Some("a b".into()), ..args() }, "--name"),
            (ServeArgs { shards: Some(0), ..args() }, "--shards"),
            (ServeArgs { listen: Some("nonsense".into()), ..args() }, "--listen"),
            (ServeArgs { peer_listen: Some("127.0.0.1:7411".into()), ..args() }, "two listeners"),
            (ServeArgs { rack: Some("r/1".into()), ..args() }, "--rack"),
            (ServeArgs { disk_reserve: Some("much".into()), ..args() }, "--disk-reserve"),
            (ServeArgs { disk_stuck_after: Some("1ms".into()), ..args() }, "--disk-stuck-after"),
            (ServeArgs { disk_exit_after: Some("5s".into()), ..args() }, "--disk-exit-after"),
        ] {
            let error = format!("{:#}", bad.into_config().expect_err(flag));
            assert!(error.contains(flag), "{error}");
        }
    }

    #[test]
    fn every_flag_has_its_variable_and_its_key() {
        use clap::Args as _;
        let command = ServeArgs::augment_args(clap::Command::new("serve"));
        for argument in command.get_arguments() {
            let flag = argument.get_long().expect("every setting has a long flag");
            let key = flag.replace('-', "_");
            let variable = argument.get_env().expect("every flag has a variable").to_string_lossy().into_owned();
            assert_eq!(variable, format!("DLOG_{}", key.to_uppercase()));
            assert!(
                !variable.starts_with("DLOG_PORT") && !variable.starts_with("DLOG_SERVICE"),
                "those are Kubernetes'"
            );
            if flag == "config" {
                continue; // names the file
            }
            // Whatever its type, the key itself is known.
            let known = ["\"a\"", "1", "true"]
                .iter()
                .any(|value| toml::from_str::<FileSettings>(&format!("{key} = {value}")).is_ok());
            assert!(known, "the file has no key {key}");
        }
    }

    #[test]
    fn an_unknown_key_in_the_file_is_refused() {
        let error = toml::from_str::<FileSettings>("name = \"n1\"\nnonsense = 1\n").expect_err("refused").to_string();
        assert!(error.contains("nonsense"), "{error}");
    }
}
