//! What an event or an entry of the list changes of what is known of a container, and whether inspect has to be asked.
//!
//! Names, images, labels, states, health, exit codes and the times of a start and an end come from the list and the events; inspect is asked for what it alone
//! knows (restart count, process, limits, networks, ...), and its word stands over the others'.

use super::answers::ListedContainer;
use super::container::{Container, Labelling};
use super::events::ContainerEvent;
use super::inspected::Inspected;
use super::time;

/// What is known of a container from now on.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// What was known.
    Nothing,
    /// This.
    To(Box<Container>),
    /// It is no more.
    Gone,
}

/// When inspect is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Not at all: the event told everything.
    Never,
    /// When the burst that the event came in is over.
    Soon,
    /// Before long: something else follows that asks, as `start` follows `create`.
    Later,
}

/// What follows from an event.
pub(super) fn after(known: Option<&Container>, event: &ContainerEvent, labelling: &Labelling) -> (Change, Ask) {
    let (action, detail) = event.words();
    // Actions that were not asked for, as a proxy that drops the filter lets through, tell nothing: `exec_start: ...`, `attach`, `top`.
    let ask = match action {
        "destroy" => return (Change::Gone, Ask::Never),
        "create" | "connect" | "disconnect" => Ask::Later,
        "start" | "die" | "update" => Ask::Soon,
        "pause" | "unpause" | "rename" => Ask::Never,
        "health_status" if matches!(detail, "starting" | "healthy" | "unhealthy") => Ask::Never,
        "health_status" => Ask::Soon,
        // The kill itself is counted elsewhere; whether the run ended by it is told at its end.
        _ => return (Change::Nothing, Ask::Never),
    };
    if event.is_of_network() {
        // Of a container that nobody knows its own events tell.
        return (Change::Nothing, if known.is_some() { ask } else { Ask::Never });
    }
    let Some(mut container) = known.cloned().or_else(|| of_event(event, labelling)) else { return (Change::Nothing, Ask::Soon) };
    match action {
        "start" => {
            "running".clone_into(&mut container.state);
            container.started = Some(time::seconds(event.time_nano));
            container.pid = None;
            container.start_failed = false;
            // The engine forgets it with a start.
            container.oom_killed = container.oom_killed.map(|_| false);
            if let Some(health) = &mut container.health {
                "starting".clone_into(health);
            }
        }
        "die" => {
            "exited".clone_into(&mut container.state);
            container.finished = Some(time::seconds(event.time_nano));
            container.exit_code = event.exit_code();
            container.pid = None;
        }
        "pause" => "paused".clone_into(&mut container.state),
        "unpause" => "running".clone_into(&mut container.state),
        "health_status" if ask == Ask::Never => container.health = Some(detail.to_owned()),
        "rename" => {
            if let Some(name) = event.name() {
                labelling.rename(&mut container, name);
            }
        }
        _ => {}
    }
    let change = if known == Some(&container) { Change::Nothing } else { Change::To(Box::new(container)) };
    // An event alone does not know everything of a container that is new.
    (change, if known.is_none() && ask == Ask::Never { Ask::Soon } else { ask })
}

/// The container that an event names; `None` when it names none.
fn of_event(event: &ContainerEvent, labelling: &Labelling) -> Option<Container> {
    let told = Inspected {
        id: event.id.clone(),
        name: event.name()?.to_owned(),
        image: event.attributes.get("image").cloned().unwrap_or_default(),
        labels: event.labels(),
        state: "created".to_owned(),
        created: (event.action == "create").then_some(event.time_nano),
        ..Inspected::default()
    };
    labelling.identity(told)
}

/// The container as the list tells it, with what inspect told before; `None` when its id is none.
pub(super) fn listed(known: Option<&Container>, entry: ListedContainer, labelling: &Labelling) -> Option<Container> {
    let Some(known) = known else { return labelling.identity(Inspected::from(entry)) };
    let mut container = known.clone();
    if let Some(name) = entry.name().filter(|name| *name != known.name) {
        labelling.rename(&mut container, name);
    }
    if tells_health(&entry) {
        container.health = entry.health().map(str::to_owned);
    }
    container.state = entry.state;
    container.start_failed &= container.state == "created";
    if !container.is_running() {
        container.pid = None;
    }
    Some(container)
}

/// What inspect told, with what only its predecessor knows.
pub(super) fn inspected(known: Option<&Container>, told: Inspected, labelling: &Labelling) -> Option<Container> {
    let mut container = labelling.container(told)?;
    if container.is_running() && container.finished.is_some() {
        // The end that the code is of. The event's time and the engine's own differ by what it takes to tell.
        container.exit_code = known.and_then(|known| known.exit_code);
    }
    Some(container)
}

/// Whether the list says another thing than is known. A restart between two looks does not show here; the events tell it.
pub(super) fn differs(known: &Container, entry: &ListedContainer) -> bool {
    known.state != entry.state
        || entry.name().is_some_and(|name| name != known.name)
        || (tells_health(entry) && known.health.as_deref() != entry.health())
}

/// Of a container that does not run, or is paused, the list of an engine before API 1.52 says nothing of its health.
fn tells_health(entry: &ListedContainer) -> bool {
    entry.state == "running" || entry.health().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: &str, status: &str) -> ListedContainer {
        ListedContainer {
            id: "a".repeat(64),
            names: vec!["/other/alias".to_owned(), "/web".to_owned()],
            image: "bb:1".to_owned(),
            state: state.to_owned(),
            status: status.to_owned(),
            ..ListedContainer::default()
        }
    }

    fn told(state: &str) -> Inspected {
        let times = (Some(1_000_000_000), Some(3_000_000_000), Some(2_000_000_000));
        let (created, started, finished) = times;
        let pid = (state == "running").then_some(7);
        Inspected {
            pid,
            created,
            started,
            finished,
            exit_code: Some(0),
            restart_count: 2,
            state: state.to_owned(),
            ..Inspected::from(entry(state, ""))
        }
    }

    fn event(action: &str, attributes: &[(&str, &str)]) -> ContainerEvent {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ContainerEvent { id: "a".repeat(64), action: action.to_owned(), time_nano: 5_000_000_000, attributes }
    }

    fn changed(known: Option<&Container>, event: &ContainerEvent) -> (Container, Ask) {
        match after(known, event, &Labelling::default()) {
            (Change::To(container), ask) => (*container, ask),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_alone_tell_a_container_s_life() {
        let identity = [("name", "web"), ("image", "bb:1"), ("com.docker.swarm.task.id", "t"), ("com.docker.swarm.service.id", "s")];
        let (created, ask) = changed(None, &event("create", &identity));
        assert_eq!((&*created.name, &*created.image, &*created.state, created.created, ask), ("web", "bb:1", "created", 5.0, Ask::Later));
        assert!(created.series.as_str().contains("container_label_com_docker_swarm_task_id=\"t\"") && created.task().is_some());
        let (running, ask) = changed(Some(&created), &event("start", &identity));
        assert_eq!((running.is_running(), running.started, running.pid, ask), (true, Some(5.0), None, Ask::Soon));
        let (paused, ask) = changed(Some(&running), &event("pause", &identity));
        assert_eq!((&*paused.state, ask), ("paused", Ask::Never));
        let (renamed, ask) = changed(Some(&paused), &event("rename", &[("name", "new"), ("oldName", "/web")]));
        assert_eq!((&*renamed.name, renamed.labels.len(), ask), ("new", 2, Ask::Never));
        assert!(renamed.series.as_str().contains("name=\"new\""));
        let (ended, ask) = changed(Some(&renamed), &event("die", &[("name", "new"), ("exitCode", "137")]));
        assert_eq!((&*ended.state, ended.exit_code, ended.finished, ask), ("exited", Some(137), Some(5.0), Ask::Soon));
        assert_eq!(after(Some(&ended), &event("destroy", &[]), &Labelling::default()), (Change::Gone, Ask::Never));
    }

    #[test]
    fn health_comes_with_its_event() {
        let known = Labelling::default().container(told("running")).unwrap();
        let (container, ask) = changed(Some(&known), &event("health_status: unhealthy", &[]));
        assert_eq!((container.health.as_deref(), container.pid, ask), (Some("unhealthy"), Some(7), Ask::Never));
        // The same once more changes nothing; a word that nobody knows is asked for.
        assert_eq!(after(Some(&container), &event("health_status: unhealthy", &[]), &Labelling::default()), (Change::Nothing, Ask::Never));
        assert_eq!(after(Some(&container), &event("health_status: confused", &[]), &Labelling::default()), (Change::Nothing, Ask::Soon));
        assert_eq!(changed(Some(&container), &event("start", &[])).0.health.as_deref(), Some("starting"));
    }

    #[test]
    fn what_tells_nothing_is_not_asked_for() {
        let known = Labelling::default().container(told("running")).unwrap();
        for action in ["exec_create: /bin/sh -c true", "exec_start: x", "exec_die", "top", "attach", "oom", "kill", "resize"] {
            assert_eq!(after(Some(&known), &event(action, &[]), &Labelling::default()), (Change::Nothing, Ask::Never), "{action}");
        }
        assert_eq!(after(Some(&known), &event("update", &[]), &Labelling::default()), (Change::Nothing, Ask::Soon));
        assert_eq!(after(Some(&known), &event("connect", &[("name", "net")]), &Labelling::default()), (Change::Nothing, Ask::Later));
        assert_eq!(after(None, &event("connect", &[("name", "net")]), &Labelling::default()), (Change::Nothing, Ask::Never));
        // Without a name there is no identity: inspect has to tell it.
        assert_eq!(after(None, &event("start", &[]), &Labelling::default()), (Change::Nothing, Ask::Soon));
        assert_eq!(changed(None, &event("pause", &[("name", "web")])).1, Ask::Soon);
    }

    #[test]
    fn the_list_leaves_what_inspect_told() {
        let known = Labelling::default().container(told("running")).unwrap();
        let mut renamed = entry("exited", "Exited (0) 8 seconds ago");
        renamed.names = vec!["/new".to_owned()];
        // An image whose tag is another's by now is listed by its digest.
        renamed.image = "sha256:4aeb".to_owned();
        assert!(differs(&known, &renamed));
        let container = listed(Some(&known), renamed, &Labelling::default()).unwrap();
        assert_eq!((&*container.name, &*container.image, container.restart_count, container.pid), ("new", "bb:1", 2, None));
        assert!(container.inspected);
    }

    #[test]
    fn health_is_compared_where_the_list_tells_it() {
        let mut told = told("exited");
        told.health = Some("unhealthy".to_owned());
        let known = Labelling::default().container(told).unwrap();
        assert!(!differs(&known, &entry("exited", "Exited (0) 8 seconds ago")));
        let running = Container { state: "running".to_owned(), ..known };
        assert!(differs(&running, &entry("running", "Up 3 minutes (healthy)")));
        assert!(!differs(&running, &entry("running", "Up 3 minutes (unhealthy)")));
        assert!(!differs(&Container { state: "paused".to_owned(), ..running }, &entry("paused", "Up 3 minutes (Paused)")));
    }

    /// While it runs again the engine says 0 of the run that ended with 137.
    #[test]
    fn the_last_exit_code_outlives_a_restart() {
        let labelling = Labelling::default();
        let first = labelling.container(told("running")).unwrap();
        assert_eq!(first.exit_code, None, "nobody knows any more");
        let (ended, _) = changed(Some(&first), &event("die", &[("exitCode", "137")]));
        assert_eq!(inspected(Some(&ended), told("running"), &labelling).unwrap().exit_code, Some(137));
        assert_eq!(inspected(Some(&ended), told("exited"), &labelling).unwrap().exit_code, Some(0));
    }
}
