//! Flag, environment, file and default, laid over each other into [`Settings`].

use std::collections::BTreeMap;
use std::path::Path;

use super::{Fault, Flag, FlagKind, Settings, flags, split_list};

/// What a process is given by its surroundings: its environment and the files that it names. A test brings its own.
pub trait Surroundings {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// The content of a file.
    ///
    /// # Errors
    /// What the system said.
    fn file(&self, path: &Path) -> std::io::Result<String>;
}

/// The process' own surroundings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// The environment variable of a flag: `web.listen-address` is `SKEP_WEB_LISTEN_ADDRESS`.
#[must_use]
pub fn variable_of(flag: &str) -> String {
    let mut name = String::from("SKEP_");
    name.extend(flag.chars().map(|character| if matches!(character, '.' | '-') { '_' } else { character.to_ascii_uppercase() }));
    name
}

/// The variables that begin as skep's do and are none of them: slips of the pen, which would otherwise go unseen.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut known: Vec<String> = flags::all().map(|flag| variable_of(flag.name)).collect();
    known.push("SKEP_ROUTES".to_owned());
    names
        .filter(|name| {
            name.starts_with("SKEP_") && !known.iter().any(|known| name.strip_suffix("_FILE").unwrap_or(name) == known || name == known)
        })
        .collect()
}

/// Lays the given values over the environment, the file and the defaults.
///
/// # Errors
/// A [`Fault`] for the first value that cannot be taken, with its source.
pub fn merge(given: &[(String, Vec<String>)], surroundings: &dyn Surroundings) -> Result<Settings, Fault> {
    let given: BTreeMap<&str, &Vec<String>> = given.iter().map(|(name, values)| (&**name, values)).collect();
    let path = given.get("config").and_then(|values| values.last()).cloned().or_else(|| surroundings.variable("SKEP_CONFIG"));
    let mut file = match path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => read_file(path, surroundings)?,
        None => BTreeMap::new(),
    };
    let mut settings = Settings::default();
    for flag in flags::all() {
        let from_file = take(&mut file, &flag);
        let values = if let Some(values) = given.get(flag.name) {
            (*values).clone()
        } else if let Some(text) = from_environment(&flag, surroundings)? {
            text
        } else if let Some(values) = from_file {
            values
        } else if let Some(default) = flag.default {
            vec![default.to_owned()]
        } else {
            continue;
        };
        if flag.kind == FlagKind::Switch && !matches!(values.last().map(String::as_str), Some("true" | "false")) {
            return Err(Fault(format!("{}: '{}' is neither true nor false", flag.name, values.join(","))));
        }
        settings.set(flag.name, values);
    }
    if let Some(unknown) = file.keys().next() {
        return Err(Fault(format!(
            "{}: the key \"{unknown}\" is not a setting of skep; keys are quoted and named as the flags that skep --help lists",
            path.unwrap_or_default()
        )));
    }
    well_known(&mut settings, &given, surroundings);
    Ok(settings)
}

/// Variables that others set: the stack's, Docker's and logspout's. skep's own come first.
fn well_known(settings: &mut Settings, given: &BTreeMap<&str, &Vec<String>>, surroundings: &dyn Surroundings) {
    for (name, variable) in [("node-name", "NODE_NAME"), ("node-id", "NODE_ID"), ("docker.host", "DOCKER_HOST"), ("route", "ROUTE_URIS")] {
        if settings.many(name).is_empty()
            && !given.contains_key(name)
            && let Some(value) = surroundings.variable(variable).filter(|value| !value.is_empty())
        {
            let values = if name == "route" { split_list(&value).into_iter().map(str::to_owned).collect() } else { vec![value] };
            settings.set(name, values);
        }
    }
}

/// A flag's values from its variable, or from the file that `<variable>_FILE` names (a Swarm secret). A stack file cannot leave a variable out, only empty, so an
/// empty one says nothing; but for the host label, which an empty value switches off.
fn from_environment(flag: &Flag, surroundings: &dyn Surroundings) -> Result<Option<Vec<String>>, Fault> {
    let mut names = vec![variable_of(flag.name)];
    if flag.name == "route" {
        names.push("SKEP_ROUTES".to_owned());
    }
    for name in names {
        let value = surroundings.variable(&name).filter(|value| !value.is_empty() || flag.name == "host-label");
        let from_file = format!("{name}_FILE");
        let path = surroundings.variable(&from_file).filter(|path| !path.is_empty());
        let value = match (value, path) {
            (Some(_), Some(_)) => return Err(Fault(format!("{name} and {from_file} are both set: one of them would do"))),
            (Some(value), None) => value,
            (None, Some(path)) => {
                let text = surroundings.file(Path::new(&path)).map_err(|error| Fault(format!("{from_file}: {path}: {error}")))?;
                text.trim_end_matches(['\n', '\r']).to_owned()
            }
            (None, None) => continue,
        };
        let parts = |text: &str| text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
        return Ok(Some(match flag.kind {
            FlagKind::Many(_) if flag.name == "route" => value.lines().flat_map(split_list).map(str::to_owned).collect(),
            FlagKind::Many(_) => parts(&value),
            FlagKind::Switch | FlagKind::One(_) => vec![value],
        }));
    }
    Ok(None)
}

fn take(file: &mut BTreeMap<String, Vec<String>>, flag: &Flag) -> Option<Vec<String>> {
    let mut found = file.remove(flag.name);
    for alias in flag.aliases {
        found = found.or(file.remove(*alias));
    }
    found
}

fn read_file(path: &str, surroundings: &dyn Surroundings) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let text = surroundings.file(Path::new(path)).map_err(|error| Fault(format!("{path}: {error}; --config names a TOML file")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text.get(..span.start).map_or(0, |before| before.matches('\n').count() + 1));
        Fault(format!("{path}: line {line}: {}", error.message().lines().next().unwrap_or("this is not TOML")))
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if key == "route"
            && let toml::Value::Array(items) = &value
        {
            values.insert(key, items.iter().map(|item| route_of(path, item)).collect::<Result<_, _>>()?);
            continue;
        }
        let scalars = match value {
            toml::Value::Array(items) => items.iter().map(|item| scalar(path, &key, item)).collect::<Result<_, _>>()?,
            toml::Value::Table(_) => {
                return Err(Fault(format!(
                    "{path}: the key {key} is a table; a name with dots stands in quotes, as in \"collector.cpu\" = true"
                )));
            }
            other => vec![scalar(path, &key, &other)?],
        };
        values.insert(key, scalars);
    }
    Ok(values)
}

fn scalar(path: &str, key: &str, value: &toml::Value) -> Result<String, Fault> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        other => Err(Fault(format!("{path}: \"{key}\" is a {}, where a string, a number or true or false would do", other.type_str()))),
    }
}

/// `[[route]]` with `uri = "..."` and its options as further keys; or a plain string.
fn route_of(path: &str, item: &toml::Value) -> Result<String, Fault> {
    let toml::Value::Table(table) = item else { return scalar(path, "route", item) };
    let Some(toml::Value::String(uri)) = table.get("uri") else {
        return Err(Fault(format!(
            "{path}: a [[route]] has no uri; it takes uri = \"elasticsearch://host:9200\" and options as further keys"
        )));
    };
    let mut text = uri.clone();
    for (key, value) in table.iter().filter(|(key, _)| *key != "uri") {
        text.push(if text.contains('?') { '&' } else { '?' });
        text.push_str(key);
        text.push('=');
        for byte in scalar(path, key, value)?.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
                text.push(byte.into());
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, cli};

    #[derive(Default)]
    struct Given {
        variables: BTreeMap<&'static str, &'static str>,
        files: BTreeMap<&'static str, &'static str>,
    }

    impl Surroundings for Given {
        fn variable(&self, name: &str) -> Option<String> {
            self.variables.get(name).map(|value| (*value).to_owned())
        }

        fn file(&self, path: &Path) -> std::io::Result<String> {
            let found = self.files.get(path.to_str().unwrap());
            found.map(|text| (*text).to_owned()).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
        }
    }

    fn settings(arguments: &[&str], given: &Given) -> Result<Settings, Fault> {
        let line = cli::parse(arguments.iter().map(Into::into)).map_err(|usage| Fault(usage.0))?;
        merge(&line.values, given)
    }

    fn refused(arguments: &[&str], given: &Given) -> String {
        settings(arguments, given).and_then(|settings| Config::of(settings).map(|_| ())).unwrap_err().0
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let mut given = Given::default();
        assert_eq!(settings(&[], &given).unwrap().one("log.level"), Some("info"));
        given.files.insert("/f", "\"log.level\" = \"warn\"\n");
        given.variables.insert("SKEP_CONFIG", "/f");
        assert_eq!(settings(&[], &given).unwrap().one("log.level"), Some("warn"));
        given.variables.insert("SKEP_LOG_LEVEL", "error");
        assert_eq!(settings(&[], &given).unwrap().one("log.level"), Some("error"));
        assert_eq!(settings(&["--log.level=debug"], &given).unwrap().one("log.level"), Some("debug"));
        assert_eq!(settings(&["run", "--log.level", "debug"], &given).unwrap().one("log.level"), Some("debug"));
    }

    #[test]
    fn switches_go_on_and_off() {
        let mut given = Given::default();
        assert!(settings(&[], &given).unwrap().is_on("logs.inotify"));
        assert!(!settings(&["--no-logs.inotify"], &given).unwrap().is_on("logs.inotify"));
        let both: Vec<std::ffi::OsString> = vec!["--no-logs.inotify".into(), "--logs.inotify".into()];
        let why = cli::parse(both).unwrap_err();
        assert_eq!(why.0, "--logs.inotify and --no-logs.inotify contradict each other: give one of them");
        given.variables.insert("SKEP_LOGS_INOTIFY", "false");
        assert!(!settings(&[], &given).unwrap().is_on("logs.inotify"));
        given.variables.insert("SKEP_LOGS_INOTIFY", "");
        assert!(settings(&[], &given).unwrap().is_on("logs.inotify"), "an empty variable of a stack file says nothing");
        given.variables.insert("SKEP_LOGS_INOTIFY", "perhaps");
        assert_eq!(refused(&[], &given), "logs.inotify: 'perhaps' is neither true nor false");
    }

    #[test]
    fn secrets_come_from_files() {
        let mut given = Given::default();
        given.files.insert("/run/secrets/routes", "elasticsearch://u:p@a,b\nstdout:\n");
        given.variables.insert("SKEP_ROUTES", "");
        given.variables.insert("SKEP_ROUTES_FILE", "/run/secrets/routes");
        given.variables.insert("SKEP_NODE_NAME_FILE", "/nothing");
        assert!(refused(&[], &given).starts_with("SKEP_NODE_NAME_FILE: /nothing: "));
        given.files.insert("/nothing", "n1\n");
        let found = settings(&[], &given).unwrap();
        assert_eq!(found.many("route"), ["elasticsearch://u:p@a,b", "stdout:"]);
        assert_eq!(found.one("node-name"), Some("n1"));
        given.variables.insert("SKEP_ROUTES", "stdout:");
        assert!(refused(&[], &given).contains("are both set"));
    }

    #[test]
    fn an_empty_variable_says_nothing() {
        let mut given = Given::default();
        given.files.insert("/f", "[[route]]\nuri = \"stdout:\"\n");
        for name in ["SKEP_ROUTES", "SKEP_DOCKER_HOST", "SKEP_WEB_LISTEN_ADDRESS", "SKEP_HOST_LABEL"] {
            given.variables.insert(name, "");
        }
        given.variables.insert("DOCKER_HOST", "tcp://e:2375");
        let config = Config::of(settings(&["--config=/f"], &given).unwrap()).unwrap();
        assert_eq!((config.logs.routes.len(), &*config.docker.host, &*config.web.listen[0]), (1, "tcp://e:2375", "[::]:7537"));
        assert_eq!(config.host_label, None, "but the label's is its off switch");
    }

    #[test]
    fn slips_of_the_pen_are_found() {
        let names = [
            "SKEP_ROUTES",
            "SKEP_ROUTES_FILE",
            "SKEP_ROUTE",
            "SKEP_LOG_LEVLE",
            "SKEP_WEB_LISTEN_ADDRESS",
            "PATH",
            "SKEP_COLLECTOR_TEXTFILE_DIRECTORY",
        ];
        assert_eq!(unknown_variables(names.into_iter().map(str::to_owned)), ["SKEP_LOG_LEVLE"]);
    }

    #[test]
    fn node_exporters_flags_start_skep() {
        let given = Given::default();
        let settings =
            settings(&["--no-collector.wifi", "--collector.systemd", "--collector.textfile.directory=/x", "--path.rootfs=/host"], &given);
        Config::of(settings.unwrap()).unwrap();
        assert!(refused(&["--web.listen-address=vsock://:9100"], &given).contains("virtual machine"));
        assert!(refused(&["--docker.host=ssh://x"], &given).contains("unix://"));
        assert!(refused(&["--web.listen-address", "--log.level=info"], &given).contains("stands without its value"));
    }

    #[test]
    fn routes_come_from_everywhere() {
        let mut given = Given::default();
        assert_eq!(settings(&["stdout:", "--route", "file:///a"], &given).unwrap().many("route"), ["file:///a", "stdout:"]);
        given.variables.insert("ROUTE_URIS", "stdout:");
        assert_eq!(settings(&[], &given).unwrap().many("route"), ["stdout:"]);
        given.variables.insert("SKEP_ROUTES", "elasticsearch://a:1,b:2?name=x,stdout:");
        assert_eq!(settings(&[], &given).unwrap().many("route"), ["elasticsearch://a:1,b:2?name=x", "stdout:"]);
        given.files.insert("/f", "[[route]]\nuri = \"file:///a\"\nname = \"n & m\"\n[[route]]\nuri = \"stdout:\"\n");
        let from_file = settings(&["--config=/f"], &Given { files: given.files, ..Given::default() }).unwrap();
        assert_eq!(from_file.many("route"), ["file:///a?name=n%20%26%20m", "stdout:"]);
    }

    #[test]
    fn what_others_set_is_understood() {
        let given = Given {
            variables: BTreeMap::from([("NODE_NAME", "n1"), ("NODE_ID", "id1"), ("DOCKER_HOST", "tcp://e:2375")]),
            ..Given::default()
        };
        let config = Config::of(settings(&["--node-name=mine"], &given).unwrap()).unwrap();
        assert_eq!(
            (config.node_name.as_deref(), config.node_id.as_deref(), &*config.docker.host),
            (Some("mine"), Some("id1"), "tcp://e:2375")
        );
    }

    #[test]
    fn what_is_refused_is_said_in_a_sentence() {
        let file = |text: &'static str| Given { files: BTreeMap::from([("/f", text)]), ..Given::default() };
        let none = Given::default();
        assert_eq!(
            refused(&["--config=/f"], &file("\"log.levle\" = \"warn\"")),
            "/f: the key \"log.levle\" is not a setting of skep; keys are quoted and named as the flags that skep --help lists"
        );
        assert!(refused(&["--config=/f"], &file("log.level = \"warn\"")).contains("a name with dots stands in quotes"));
        assert!(refused(&["--config=/f"], &file("a =")).starts_with("/f: line 1: "));
        assert!(refused(&["--config=/f"], &file("\n\na =")).starts_with("/f: line 3: "));
        assert!(refused(&["--host-label=part"], &none).contains("have already"));
        assert!(refused(&["--host-label=__name__"], &none).contains("have already"));
        assert!(refused(&["--web.telemetry-path=metrics"], &none).contains("'metrics' is not a path"));
        assert!(refused(&["--web.telemetry-path=/readyz/"], &none).contains("how the agent is"));
        assert!(refused(&["--config=/f"], &file("[[route]]\nname = \"x\"")).contains("has no uri"));
        assert!(refused(&["--config=/g"], &none).starts_with("/g: "));
        assert!(refused(&["--host-label=a-b"], &none).contains("is not a label name"));
        assert!(refused(&["--web.listen-address=::1:7537"], &none).contains("is not an address"));
        assert!(refused(&["--containers.label=("], &none).contains("is not a regular expression"));
        assert_eq!(
            refused(&["--containers.enable=tcp,perf"], &none),
            "containers.enable: 'perf' is not a group of metrics: tcp, udp, advtcp, process, hugetlb, numa, sched, cpuset, cpu_topology are"
        );
        assert!(refused(&["--logs.max-record-bytes=1"], &none).contains("16KiB to 16MiB"));
        assert!(refused(&["stdout:", "stdout:"], &none).contains("two routes are called 'stdout'"));
        assert!(refused(&["--nothing"], &none).contains("'--nothing' is not a flag of skep"));
    }

    /// Command lines of node_exporter's documentation, of its packages' and of books' stack files: each starts skep.
    #[test]
    fn node_exporter_s_command_lines_are_understood() {
        let given = Given::default();
        for line in [
            &["--path.rootfs=/host"][..],
            &["--path.procfs=/host/proc", "--path.rootfs=/rootfs", "--path.sysfs=/host/sys"],
            &["--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|var/lib/docker/.+|var/lib/kubelet/.+)($|/)"],
            &[
                "--collector.filesystem.ignored-mount-points",
                "^/(sys|proc|dev|host|etc)($$|/)",
                "--collector.filesystem.ignored-fs-types=^(sys|proc|auto)fs$",
            ],
            &["--collector.disable-defaults", "--collector.cpu", "--collector.meminfo", "--no-collector.wifi"],
            &[
                "--no-collector.wifi",
                "--no-collector.hwmon",
                "--collector.netclass.ignored-devices=^(veth.*)$",
                "--collector.netdev.device-exclude=^(veth.*)$",
            ],
            &["--collector.textfile.directory=/etc/node-exporter/", "--collector.textfile.directory", "/var/lib/node_exporter/*/text"],
            &[
                "--collector.systemd",
                "--collector.systemd.unit-whitelist=(docker|ssh)\\.service",
                "--collector.processes",
                "--collector.tcpstat",
            ],
            &["--collector.systemd.unit-include=.+", "--collector.systemd.enable-restarts-metrics", "--collector.systemd.private"],
            &["--collector.perf", "--collector.perf.cpus=2-6", "--collector.perf.tracepoint=sched:sched_process_exec"],
            &[
                "--collector.sysctl",
                "--collector.sysctl.include=net.ipv4.tcp_rmem:min,default,max",
                "--collector.sysctl.include-info=kernel.seccomp.actions_avail",
            ],
            &["--collector.sysctl.include=vm.user_reserve_kbytes"],
            &["--collector.ntp", "--collector.ntp.server=time.example.org", "--collector.supervisord", "--collector.runit"],
            &[
                "--collector.diskstats.ignored-devices=^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
                "--collector.ethtool.device-include=eth.*",
            ],
            &["--web.listen-address=:9100", "--web.listen-address=127.0.0.1:9101", "--web.telemetry-path=/metrics", "--web.max-requests=0"],
            &["--web.disable-exporter-metrics", "--log.level=debug", "--log.format=json", "--runtime.gomaxprocs=1"],
            &[
                "-collector.procfs",
                "/host/proc",
                "-collector.sysfs",
                "/host/sys",
                "-collectors.enabled=conntrack,diskstats,entropy,filefd,filesystem,loadavg,mdadm,meminfo,netdev,netstat,stat,textfile,time,vmstat,ipvs",
            ],
            &[
                "-collector.filesystem.ignored-mount-points",
                "^/(sys|proc|dev|host|etc)($|/)",
                "-collector.textfile.directory=/etc/node-exporter",
            ],
        ] {
            let settings = settings(line, &given).unwrap();
            crate::collect::build(&settings).unwrap_or_else(|why| panic!("{line:?}: {why:?}"));
            Config::of(settings).unwrap_or_else(|why| panic!("{line:?}: {why}"));
        }
        let old = settings(&["-collectors.enabled=conntrack,ipvs", "-collector.procfs=/host/proc"], &given).unwrap();
        let names: Vec<&str> = crate::collect::build(&old).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["conntrack", "ipvs"]);
        assert_eq!(Config::of(old).unwrap().root.proc, Path::new("/host/proc"));
    }
}
