//! What containers leave behind, with a real engine and jobs that say themselves what they used: `DOCKER_HOST=unix:///... cargo test --test containers -- --ignored`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use skep::containers::ledger::{Endings, Ledger};
use skep::containers::{ContainersCollector, ContainersOptions};
use skep::docker::{InventoryTask, Labelling};
use skep::host::{Reader, Root};
use skep::telemetry::{Metrics, Parts};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::recording::{scrape, value};

const IMAGE: &str = "bb:1";
/// How many jobs run at once.
const AT_ONCE: usize = 4;
/// Counts for a while, says what its cgroup has used (v1, v2), and ends.
const JOB: &str = "i=0; while [ $i -lt $1 ]; do i=$((i+1)); done
if [ -r /sys/fs/cgroup/cpuacct/cpuacct.usage ]; then read n </sys/fs/cgroup/cpuacct/cpuacct.usage; echo $n
else while read k v; do [ $k != usage_usec ] || echo ${v}000; done </sys/fs/cgroup/cpu.stat; fi
exit $2";

struct Agent {
    collector: ContainersCollector,
    reader: Reader,
    metrics: Metrics,
    endings: Endings,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    async fn start(state: &Path) -> Self {
        let (parts, metrics, shutdown) = (Parts::default(), Metrics::new().unwrap(), CancellationToken::new());
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let ledger = Ledger::open(state, &boot, parts.part("ledger"), metrics.clone());
        let host = std::env::var("DOCKER_HOST").unwrap();
        let (task, mut inventory) = InventoryTask::new(host, Labelling::default(), &parts, metrics.clone());
        let task = tokio::spawn(task.with_witness(Arc::new(ledger.clone())).run(shutdown.clone()));
        let root = Arc::new(Root::find(None, None, None, None));
        let endings = Endings::start(root.clone(), inventory.clone(), ledger.clone(), parts.part("endings")).unwrap();
        inventory.wait_for(|inventory| inventory.synced_at.is_some()).await.unwrap();
        let collector = ContainersCollector::new(inventory, ContainersOptions::default()).with_ledger(ledger);
        Self { collector, reader: Reader::new(root), metrics, endings, shutdown, task }
    }

    /// What is told of exits in these classes, of kills, and of CPU seconds, of containers of the image.
    fn told(&mut self) -> Told {
        let text = scrape(&mut self.collector, &mut self.reader).0;
        let of = |family, label: &str| value(&text, family, &[&format!("image=\"{IMAGE}\""), label]).unwrap_or(0.0);
        let classes = ["success", "error", "not_started", "signal", "oom_killed", "unknown"];
        let series = text.lines().filter(|line| line.starts_with("container_exits_total{") && line.contains("name=\"skep-job-"));
        Told {
            exits: classes.map(|class| of("container_exited_total", &format!("code_class=\"{class}\""))),
            kills: of("container_exited_oom_kills_total", ""),
            cpu: of("container_exited_cpu_seconds_total", ""),
            series: series.count(),
        }
    }

    /// How many cgroups were removed before their last numbers were read: a machine with too much to do.
    fn missed(&self) -> f64 {
        self.lost("no_last_reading")
    }

    fn lost(&self, reason: &str) -> f64 {
        let mut text = Vec::new();
        self.metrics.encode(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        value(&text, "skep_ledger_losses_total", &[&format!("reason=\"{reason}\"")]).unwrap()
    }

    /// Waits until so many exits more are told than `before`.
    async fn has_told(&mut self, before: &Told, exits: f64) -> Told {
        for _ in 0..600 {
            let told = self.told();
            if told.exits.iter().sum::<f64>() >= before.exits.iter().sum::<f64>() + exits {
                return told;
            }
            // Nothing can be awaited: the engine tells its events when it likes.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.told()
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.endings.stop();
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Told {
    exits: [f64; 6],
    kills: f64,
    cpu: f64,
    series: usize,
}

/// Runs jobs and gives the seconds of CPU time that they say they used, all together.
async fn jobs(numbers: std::ops::Range<usize>, options: &'static [&'static str], command: impl Fn(usize) -> Vec<String>) -> f64 {
    let mut used = 0.0;
    let numbers: Vec<usize> = numbers.collect();
    for some in numbers.chunks(AT_ONCE) {
        let running: Vec<_> = some
            .iter()
            .map(|number| {
                let (name, command) = (format!("skep-job-{number}"), command(*number));
                tokio::task::spawn_blocking(move || {
                    let mut docker = Command::new("docker");
                    docker.args(["run", "--rm", "--network", "none", "--name", &name]).args(options).arg(IMAGE).args(command);
                    docker.output().unwrap()
                })
            })
            .collect();
        for job in running {
            let output = job.await.unwrap();
            used += String::from_utf8(output.stdout).unwrap().trim().parse().unwrap_or(0.0) / 1e9;
        }
    }
    used
}

#[tokio::test]
#[ignore = "needs an engine at DOCKER_HOST with the image bb:1, its command line and its cgroup tree"]
async fn jobs_leave_their_exits_kills_and_cpu_time() {
    let state = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(state.path()).await;
    let before = agent.told();
    const CODES: [(&str, usize); 4] = [("0", 0), ("3", 1), ("127", 2), ("143", 3)];
    let burn = |number: usize| {
        let count = 10_000 + 5_000 * (number % 10);
        ["sh", "-c", JOB, "sh", &count.to_string(), CODES[number % 4].0].map(str::to_owned).to_vec()
    };
    let used = jobs(0..80, &[], burn).await;
    let told = agent.has_told(&before, 80.0).await;
    for (code, class) in CODES {
        assert_eq!(told.exits[class] - before.exits[class], 20.0, "{code}");
    }
    assert_eq!(told.series, 80);
    let counted = told.cpu - before.cpu;
    let missed = agent.missed();
    println!("80 jobs say that they used {used:.3} s, and {counted:.3} s are counted; {missed} were missed");
    // What a job says is less than it used: it has yet to end. Of one whose last numbers were missed all may be missing.
    let most_of_one = used / 80.0 * 2.0;
    assert!(used > 0.0 && counted > used * 0.98 - missed * most_of_one && counted < used * 1.10, "{used} {counted} {missed}");

    let kill = |_| ["sh", "-c", "exec tail /dev/zero"].map(str::to_owned).to_vec();
    jobs(100..120, &["--memory", "8m", "--memory-swap", "8m"], kill).await;
    let after = agent.has_told(&told, 20.0).await;
    assert_eq!((after.exits[4] - told.exits[4], after.kills - told.kills), (20.0, 20.0));

    // What the engine cannot start, and removes at once.
    jobs(300..304, &[], |_| vec!["nosuch".to_owned()]).await;
    let (killed, after) = (after.clone(), agent.has_told(&after, 4.0).await);
    assert_eq!((after.exits[2] - killed.exits[2], after.series - killed.series, agent.lost("no_end")), (4.0, 4, 0.0));

    // While no agent runs; the next one counts them, and nothing twice.
    agent.stop().await;
    jobs(200..210, &[], burn).await;
    let mut agent = Agent::start(state.path()).await;
    let last = agent.has_told(&after, 10.0).await;
    assert_eq!(last.exits.iter().sum::<f64>(), after.exits.iter().sum::<f64>() + 10.0);
    assert_eq!((last.kills, last.series), (after.kills, 114));
    agent.stop().await;
}
