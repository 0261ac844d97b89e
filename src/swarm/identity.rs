//! Who a container is in the Swarm, and which container this process runs in.

use crate::host::Mount;
use crate::host::parse::lines;
use crate::logs::ContainerId;

/// A task, as the labels tell that Swarm puts on each of its containers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskIdentity {
    /// The service's id.
    pub service_id: String,
    /// The service's name, `<stack>_<name>` for one of a stack.
    pub service_name: String,
    /// The task's id.
    pub task_id: String,
    /// `<service>.<slot>.<task id>` of a replicated service, `<service>.<node id>.<task id>` of a global one.
    pub task_name: String,
    /// The slot; none for a task of a global service.
    pub slot: Option<u64>,
    /// The node that the task was given to.
    pub node_id: String,
    /// The stack, for a service that `docker stack deploy` made.
    pub stack: Option<String>,
}

impl TaskIdentity {
    /// The task of a container whose labels `label` gives by their names; `None` when it is not one of Swarm's (a service's and a task's id are what makes it one).
    #[must_use]
    pub fn from_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let told = |name: &str| label(name).filter(|value| !value.is_empty());
        let text = |name: &str| told(name).unwrap_or_default().to_owned();
        let service_id = told("com.docker.swarm.service.id")?.to_owned();
        let task_id = told("com.docker.swarm.task.id")?.to_owned();
        let service_name = text("com.docker.swarm.service.name");
        let task_name = text("com.docker.swarm.task.name");
        let node_id = text("com.docker.swarm.node.id");
        let slot = slot(&task_name, &service_name, &task_id, &node_id);
        let stack = told("com.docker.stack.namespace").map(str::to_owned);
        Some(Self { service_id, service_name, task_id, task_name, slot, node_id, stack })
    }
}

/// The middle of a task's name, when it is a slot and no node id. A service's name may have dots; the task's id has none.
fn slot(task_name: &str, service_name: &str, task_id: &str, node_id: &str) -> Option<u64> {
    let head = task_name.strip_suffix(task_id)?.strip_suffix('.')?;
    let middle =
        head.strip_prefix(service_name).and_then(|rest| rest.strip_prefix('.')).or_else(|| head.rsplit_once('.').map(|(_, last)| last))?;
    if middle == node_id || !middle.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    middle.parse().ok()
}

/// The container that this process runs in; `None` outside of one.
///
/// The engine mounts `<root>/containers/<id>/{hostname,hosts,resolv.conf}` over the container's own files, and `mountinfo` tells from where. The cgroup's
/// path is the second witness: with a cgroup namespace of its own (the default of cgroup v2) it says nothing.
#[must_use]
pub fn own_container_id() -> Option<ContainerId> {
    let read = |path: &str| std::fs::read(path).unwrap_or_default();
    container_id_of(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// The container's id in `mountinfo` or, failing that, in `cgroup`, both as in `/proc/self`.
#[must_use]
pub fn container_id_of(mountinfo: &[u8], cgroup: &[u8]) -> Option<ContainerId> {
    const OVER: [&[u8]; 3] = [b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf"];
    let mounted = lines(mountinfo).find_map(|line| {
        let Mount { root, point, .. } = Mount::of(line)?;
        // A mount of the host's whole containers directory, as a log reader has, must not be taken for one's own.
        if !OVER.contains(&&*point) {
            return None;
        }
        let start = memchr::memmem::rfind(&root, b"/containers/")? + b"/containers/".len();
        id_at(root.get(start..)?)
    });
    mounted.or_else(|| {
        lines(cgroup).find_map(|line| {
            let last = line.rsplit(|byte| *byte == b'/').next()?;
            let name = last.strip_suffix(b".scope").unwrap_or(last);
            id_at(name.get(name.len().checked_sub(64)?..)?)
        })
    })
}

fn id_at(bytes: &[u8]) -> Option<ContainerId> {
    ContainerId::new(std::str::from_utf8(bytes.get(..64)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(labels: &[(&str, &str)]) -> Option<TaskIdentity> {
        TaskIdentity::from_labels(|name| labels.iter().find(|(known, _)| name == format!("com.docker.{known}")).map(|(_, value)| *value))
    }

    #[test]
    fn a_replicated_task_has_a_slot() {
        let task = task(&[
            ("swarm.node.id", "8v8urkz5sybzoju9bjsb6lhmc"),
            ("swarm.service.id", "qkj9vjg1ycietptlhbuypl9et"),
            ("swarm.service.name", "shop_web"),
            ("swarm.task", ""),
            ("swarm.task.id", "u9yw0qxw2sfbb7n3p3kyiewwg"),
            ("swarm.task.name", "shop_web.12.u9yw0qxw2sfbb7n3p3kyiewwg"),
            ("stack.namespace", "shop"),
        ])
        .unwrap();
        assert_eq!((task.slot, task.stack.as_deref(), &*task.service_name), (Some(12), Some("shop"), "shop_web"));
    }

    #[test]
    fn a_global_task_has_none() {
        // A node's id may consist of digits only.
        for node in ["8v8urkz5sybzoju9bjsb6lhmc", "1234567890123456789"] {
            let task = task(&[
                ("swarm.node.id", node),
                ("swarm.service.id", "s"),
                ("swarm.service.name", "agent"),
                ("swarm.task.id", "t"),
                ("swarm.task.name", &format!("agent.{node}.t")),
            ])
            .unwrap();
            assert_eq!(task.slot, None);
            assert_eq!(task.stack, None);
        }
    }

    #[test]
    fn a_plain_container_is_no_task() {
        assert_eq!(task(&[("compose.service", "web"), ("stack.namespace", "x")]), None);
    }

    const ID: &str = "af54c56dddc8233c3e934af66d4721b322093c200b113ab0d227229d1819142b";

    #[test]
    fn one_s_own_id_stands_in_the_mounts() {
        let own = format!("736 731 254:0 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n");
        let other = own.replace("af54", "0000").replace(" /etc/hostname ", " /host/etc/hostname ");
        assert_eq!(container_id_of(format!("{other}{own}").as_bytes(), b"").unwrap().as_str(), ID);
        assert_eq!(container_id_of(other.as_bytes(), b"0::/\n"), None);
    }

    #[test]
    fn or_in_the_cgroup() {
        for path in [format!("12:pids:/docker/{ID}\n"), format!("0::/system.slice/docker-{ID}.scope\n")] {
            assert_eq!(container_id_of(b"", path.as_bytes()).unwrap().as_str(), ID);
        }
        assert_eq!(container_id_of(b"", b"0::/user.slice\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_fault(mountinfo: Vec<u8>, cgroup: Vec<u8>, names in proptest::collection::vec(".*", 4)) {
            proptest::prop_assert!(container_id_of(&mountinfo, &cgroup).is_none_or(|id| id.as_str().len() == 64));
            slot(&names[0], &names[1], &names[2], &names[3]);
        }

        #[test]
        fn every_task_name_of_swarm_s_own_making_gives_its_slot(service in "[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?", number: u64, task in "[0-9a-z]{25}") {
            proptest::prop_assert_eq!(slot(&format!("{service}.{number}.{task}"), &service, &task, "node"), Some(number));
        }
    }
}
